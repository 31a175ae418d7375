//! The server's certificates, and which one a client gets (SNI).

use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// One pair of `--certfile` and `--keyfile`.
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names of the certificate.
    pub(super) names: Vec<String>,
}

/// All pairs, in the order of the options.
pub(super) struct Certificates(pub(super) Vec<Pair>);

/// Without the keys.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|pair| &pair.names)).finish()
    }
}

/// How well a certificate fits the name that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It has exactly this name.
    Exact,
    /// It has a wildcard for this name.
    Wildcard,
    /// It does not have this name.
    None,
}

impl Pair {
    fn fit(&self, name: &str) -> Fit {
        if self.names.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Fit::Exact;
        }
        // A wildcard stands for one whole label (RFC 9525 §6.3).
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let is_parent = |own: &String| {
            own.strip_prefix("*.").zip(parent).is_some_and(|(own, it)| own.eq_ignore_ascii_case(it))
        };
        if self.names.iter().any(is_parent) { Fit::Wildcard } else { Fit::None }
    }
}

impl Certificates {
    /// The pairs among which a client that asks for this name chooses by its signature algorithms: those with the name,
    /// else those with a wildcard for it, else all. Of several, the first one is preferred.
    fn candidates(&self, name: Option<&str>) -> impl Iterator<Item = &Pair> {
        let fits = |fit| self.0.iter().any(|pair| name.is_some_and(|name| pair.fit(name) == fit));
        let best = [Fit::Exact, Fit::Wildcard].into_iter().find(|fit| fits(*fit));
        self.0.iter().filter(move |pair| match (best, name) {
            (Some(best), Some(name)) => pair.fit(name) == best,
            (None, _) | (_, None) => true,
        })
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let candidates = || self.candidates(hello.server_name());
        let pair = candidates()
            .find(|pair| pair.key.key.choose_scheme(schemes).is_some())
            // It cannot be used, and rustls says why.
            .or_else(|| candidates().next())?;
        Some(Arc::clone(&pair.key))
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    fn certificates(of: &[&[&str]]) -> Certificates {
        let random = ring::rand::SystemRandom::new();
        let key = ring::signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.as_ref().to_vec()));
        let key = any_supported_type(&key).unwrap();
        let certificate = vec![CertificateDer::from(Vec::new())];
        let key = Arc::new(CertifiedKey::new(certificate, key));
        let pair = |names: &&[&str]| Pair {
            key: Arc::clone(&key),
            names: names.iter().map(ToString::to_string).collect(),
        };
        Certificates(of.iter().map(pair).collect())
    }

    #[test]
    fn a_client_gets_the_certificate_of_the_name_it_asks_for_else_the_first() {
        let all = certificates(&[&["a.test"], &["*.b.test", "b.test"], &["x.b.test"], &["A.test"]]);
        let chosen = |name| -> Vec<&str> {
            all.candidates(name).map(|pair| pair.names[0].as_str()).collect()
        };
        assert_eq!(chosen(Some("a.TEST")), ["a.test", "A.test"], "both, for two kinds of key");
        assert_eq!(chosen(Some("b.test")), ["*.b.test"]);
        assert_eq!(chosen(Some("y.b.test")), ["*.b.test"]);
        assert_eq!(chosen(Some("x.b.test")), ["x.b.test"], "the exact name is preferred");
        assert_eq!(chosen(Some("z.y.b.test")).len(), 4, "a wildcard is one label");
        assert_eq!(chosen(Some("other.test"))[0], "a.test");
        assert_eq!(chosen(None)[0], "a.test");
    }

    #[test]
    fn what_is_printed_of_a_certificate_is_its_names() {
        assert_eq!(format!("{:?}", certificates(&[&["a.test"]])), r#"[["a.test"]]"#);
    }
}
