//! The configuration of TLS, loaded from files.
#![expect(clippy::wildcard_enum_match_arm, reason = "the errors of rustls are non-exhaustive")]

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, RootCertStore, ServerConfig};

use super::certificates::{Certificates, Pair};
use super::error::TlsError;
use super::files::{self, Contents};
use super::peer::Certificate;
use super::tickets::Tickets;
use super::{Loaded, LoadedCertificate};
use crate::settings::{CertificatePair, ClientCertificates, TlsFiles};

/// The only protocol that is offered by ALPN (RFC 7301).
const HTTP11: &[u8] = b"http/1.1";

/// A configuration of TLS with its private keys. A clone shares them.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    server: Arc<ServerConfig>,
    tickets: Arc<Tickets>,
}

impl TlsConfig {
    /// The configuration for a process that is about to be forked.
    pub fn for_child(&self) -> Self {
        self.tickets.step();
        self.clone()
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

/// Reads certificates and keys, and checks that they belong together.
pub fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut pairs = Vec::new();
    let mut certificates = Vec::new();
    for pair in &files.pairs {
        let (loaded, certificate) = load_pair(pair, &provider)?;
        pairs.push(loaded);
        certificates.push(certificate);
    }
    let refused = |error: Error| TlsError::Refused(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(refused)?;
    let builder = match client_verifier(files, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let tickets = Tickets::new().ok_or(TlsError::Refused("no random bytes".to_owned()))?;
    let tickets = Arc::new(tickets);
    let mut server = builder.with_cert_resolver(Arc::new(Certificates(pairs)));
    server.alpn_protocols = vec![HTTP11.to_vec()];
    server.ticketer = Arc::clone(&tickets) as _;
    // A cache would be of one worker only; tickets do without.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Loaded { config: TlsConfig { server: Arc::new(server), tickets }, certificates })
}

fn load_pair(
    files: &CertificatePair,
    provider: &CryptoProvider,
) -> Result<(Pair, LoadedCertificate), TlsError> {
    let (option, file) = ("--certfile", &files.certificate);
    let chain = certificates(option, file, &read(option, file)?.bytes)?;
    let names = chain.first().and_then(|first| Certificate::parse(first));
    let contents = read("--keyfile", &files.key)?;
    let key = private_key(&files.key, &contents.bytes)?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { certificate: file.clone(), key: files.key.clone() }
        }
        Error::InvalidCertificate(error) => {
            TlsError::Certificate { file: file.clone(), reason: format!("{error:?}") }
        }
        _other => TlsError::UnsupportedKey { file: files.key.clone() },
    })?;
    let dns_names = names.as_ref().map(Certificate::dns_names).unwrap_or_default();
    let certificate = LoadedCertificate {
        certificate: file.clone(),
        names: dns_names.clone(),
        expires: names.map(|names| names.expires()),
        exposed_key: contents.exposed.map(|mode| (files.key.clone(), mode)),
    };
    Ok((Pair { key: Arc::new(key), names: dns_names }, certificate))
}

/// Returns the verifier of client certificates; `None` if none is asked for.
fn client_verifier(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (Some(file), true) =
        (&files.ca_certs, files.client_certificates != ClientCertificates::None)
    else {
        return Ok(None);
    };
    let authority = |reason: String| TlsError::Authority { file: file.clone(), reason };
    let option = "--ca-certs";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(option, file, &read(option, file)?.bytes)? {
        roots.add(certificate).map_err(|error| authority(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match files.client_certificates {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::None | ClientCertificates::Required => builder,
    };
    builder.build().map(Some).map_err(|error| authority(error.to_string()))
}

fn read(option: &'static str, file: &Path) -> Result<Contents, TlsError> {
    let unreadable = |error| TlsError::Unreadable { option, file: file.to_owned(), error };
    files::read(file).map_err(unreadable)
}

fn certificates(
    option: &'static str,
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| damaged(option, file, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { option, file: file.to_owned() });
    }
    Ok(chain)
}

/// Returns the first private key of a file, which may also contain certificates.
fn private_key(file: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = file.to_owned();
    let contains = |text: &[u8]| memchr::memmem::find(pem, text).is_some();
    if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::EncryptedKey { file });
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { file },
        error => damaged("--keyfile", &file, &error),
    })
}

/// Says what is wrong without a byte of the file: the parser's own text may show a line of it.
fn damaged(option: &'static str, file: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM block has no end",
        pem::Error::IllegalSectionStart { .. } => "a PEM block has a malformed first line",
        pem::Error::Base64Decode(_) => "a PEM block is not valid Base64",
        _other => "it is not valid PEM",
    };
    TlsError::Pem { option, file: file.to_owned(), reason: reason.to_owned() }
}
