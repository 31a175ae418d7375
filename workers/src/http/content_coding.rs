//! Which content coding a client accepts and prefers (RFC 9110 §12.5.3).

use crate::http::byte_class;
use crate::http::head::Head;

/// A content coding of files that were compressed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstandard,
    /// RFC 1952.
    Gzip,
}

impl ContentCoding {
    /// All codings; of those that a client likes equally, the first one is chosen.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstandard, Self::Gzip];

    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstandard => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The ending of the name of a file with this coding, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstandard => ".zst",
            Self::Gzip => ".gz",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        // `x-gzip` is the same as `gzip` (§8.4.1.3).
        match name.eq_ignore_ascii_case(b"x-gzip") {
            true => Some(Self::Gzip),
            false => {
                Self::ALL.into_iter().find(|it| name.eq_ignore_ascii_case(it.name().as_bytes()))
            }
        }
    }
}

/// The codings that a client prefers to the file itself, the best one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptedCodings([Option<ContentCoding>; 3]);

impl AcceptedCodings {
    /// Reads all fields `Accept-Encoding`. Without one, the client gets the file itself: many simple clients send
    /// none and decode nothing.
    pub fn of(head: &Head, bytes: &[u8]) -> Self {
        let mut weights = Weights::default();
        for value in head.find_all(bytes, "accept-encoding") {
            value.split(|&byte| byte == b',').for_each(|element| weights.note(element));
        }
        weights.accepted()
    }

    /// The codings, the best one first.
    pub fn iter(self) -> impl Iterator<Item = ContentCoding> {
        self.0.into_iter().flatten()
    }
}

/// The weights that a client gives, in thousandths; `None` where it gives none.
#[derive(Default)]
struct Weights {
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    /// Takes note of `coding [ OWS ";" OWS "q=" qvalue ]`. A malformed element means nothing.
    fn note(&mut self, element: &[u8]) {
        let mut parts = element.splitn(2, |&byte| byte == b';').map(byte_class::trim);
        let Some(name) = parts.next() else { return };
        let Some(weight) = parts.next().map_or(Some(1000), weight) else { return };
        if name == b"*" {
            self.any = Some(weight);
        } else if name.eq_ignore_ascii_case(b"identity") {
            self.identity = Some(weight);
        } else if let Some(coding) = ContentCoding::of(name) {
            self.codings[coding as usize] = Some(weight);
        }
    }

    fn accepted(&self) -> AcceptedCodings {
        let weight =
            |coding: ContentCoding| self.codings[coding as usize].or(self.any).unwrap_or(0);
        let identity = self.identity.unwrap_or(0);
        let mut accepted = ContentCoding::ALL
            .map(|coding| Some(coding).filter(|&it| weight(it) > 0 && weight(it) >= identity));
        // The sort is stable: codings of the same weight stay in their order.
        accepted.sort_by_key(|coding| std::cmp::Reverse(coding.map_or(0, weight)));
        AcceptedCodings(accepted)
    }
}

/// Reads `q=0.5` in thousandths: at most three digits follow the dot.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else { return None };
    let (whole, fraction) = match value {
        [whole] | [whole, b'.'] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] => (whole, fraction),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain([b'0'; 3].iter()).take(3);
    let thousandths = digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    match (whole, thousandths) {
        (b'0', _) => Some(thousandths),
        (b'1', 0) => Some(1000),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Vec<&'static str> {
        let mut weights = Weights::default();
        value.as_bytes().split(|&byte| byte == b',').for_each(|element| weights.note(element));
        weights.accepted().iter().map(ContentCoding::name).collect()
    }

    #[test]
    fn browsers_get_brotli_first() {
        assert_eq!(accepted("gzip, deflate, br, zstd"), ["br", "zstd", "gzip"]);
        assert_eq!(accepted("gzip, deflate"), ["gzip"]);
    }

    #[test]
    fn a_weight_orders_the_codings_and_0_excludes_one() {
        assert_eq!(accepted("br;q=0.5, gzip"), ["gzip", "br"]);
        assert_eq!(accepted("br;q=0, gzip ; q=1.0, ZSTD;Q=0.999"), ["gzip", "zstd"]);
        assert_eq!(accepted("*;q=0.1, gzip"), ["gzip", "br", "zstd"]);
        assert_eq!(accepted("*, br;q=0"), ["zstd", "gzip"]);
        assert_eq!(accepted("x-gzip"), ["gzip"]);
    }

    #[test]
    fn a_client_that_prefers_the_file_itself_gets_it() {
        assert!(accepted("identity, gzip;q=0.5").is_empty());
        assert!(accepted("").is_empty());
        assert!(accepted("deflate").is_empty());
        assert_eq!(accepted("identity;q=0.5, gzip;q=0.5"), ["gzip"]);
        assert_eq!(accepted("identity;q=0, gzip"), ["gzip"]);
    }

    #[test]
    fn a_malformed_weight_means_nothing() {
        for value in [
            "gzip;q=2",
            "gzip;q=",
            "gzip;q=1.001",
            "gzip;q=0.1234",
            "gzip;q=a",
            "gzip;x=1",
            "gzip;",
        ] {
            assert!(accepted(value).is_empty(), "{value}");
        }
    }
}
