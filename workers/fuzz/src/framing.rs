//! Which header lines decide where a body ends and what becomes of the connection.

use arctos_worker::http::{Framing, Head, HeadError, Version};
use arctos_worker::settings::{HeaderMap, Limits};

use super::head::trim;

/// Appends the bytes, as header lines, to the start of a request of each version, and compares the framing with
/// what the lines say.
pub fn framing(bytes: &[u8]) {
    for line in ["POST / HTTP/1.1\r\nHost: a\r\n", "POST / HTTP/1.0\r\n"] {
        let bytes = [line.as_bytes(), bytes, b"\r\n\r\n"].concat();
        match Head::of(&bytes, &Limits::DEFAULT, HeaderMap::Drop) {
            Ok(Some(head)) => check(&bytes, &head),
            // The lines have an offense of their own, or an empty line.
            Ok(None) => panic!("two empty lines end a head"),
            Err(error) => check_refusal(&bytes, error),
        }
    }
}

/// Compares what an accepted head says about its message with its fields, which are read in the simplest way.
pub(crate) fn check(bytes: &[u8], head: &Head) {
    let values = |name: &str| -> Vec<&[u8]> {
        let named = head
            .fields
            .iter()
            .filter(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
        named.map(|field| field.value.of(bytes)).collect()
    };
    let framing = match (&values("Transfer-Encoding")[..], &values("Content-Length")[..]) {
        ([], []) => Framing::None,
        ([], [length]) => match number(length).expect("a length consists of digits") {
            0 => Framing::None,
            length => Framing::Length(length),
        },
        ([coding], []) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"), "{}", coding.escape_ascii());
            assert_eq!(head.version, Version::Http11, "HTTP/1.0 has no transfer codings");
            Framing::Chunked
        }
        (codings, lengths) => panic!("{codings:?} and {lengths:?} are ambiguous"),
    };
    assert_eq!(head.framing, framing);

    let options = listed(&values("Connection"));
    let has = |option: &str| options.iter().any(|known| known == option.as_bytes());
    let persists = !has("close") && (has("keep-alive") || head.version == Version::Http11);
    assert_eq!(head.keeps_alive, persists, "{options:?}");

    let expectations = listed(&values("Expect"));
    if head.version == Version::Http11 {
        assert_eq!(head.expects_continue, !expectations.is_empty());
        assert!(expectations.iter().all(|known| known == b"100-continue"));
    } else {
        assert!(!head.expects_continue);
    }

    assert!(values("Host").len() <= 1);
    assert!(head.version == Version::Http10 || values("Host").len() == 1);
    for once in ["Authorization", "Content-Type", "Content-Range", "Origin", "Proxy-Authorization"]
    {
        assert!(values(once).len() <= 1, "{once}");
    }
}

/// Checks that a refusal because of the framing names something that the lines have.
fn check_refusal(bytes: &[u8], error: HeadError) {
    let text = bytes.to_ascii_lowercase();
    let has = |name: &str| text.windows(name.len()).any(|window| window == name.as_bytes());
    match error {
        HeadError::BadContentLength => assert!(has("content-length:")),
        HeadError::BadTransferEncoding | HeadError::UnknownTransferCoding => {
            assert!(has("transfer-encoding:"));
        }
        HeadError::TransferEncodingIn10 => assert!(has("transfer-encoding:") && has("http/1.0")),
        HeadError::TwoFramings => assert!(has("transfer-encoding:") && has("content-length:")),
        HeadError::UnknownExpectation => assert!(has("expect:")),
        HeadError::BareLf
        | HeadError::BareCr
        | HeadError::Control
        | HeadError::EmptyLines
        | HeadError::BadMethod
        | HeadError::MethodTooLong
        | HeadError::Connect
        | HeadError::BadTarget
        | HeadError::BadAuthority
        | HeadError::UserInfo
        | HeadError::NoVersion
        | HeadError::BadVersion
        | HeadError::UnsupportedVersion
        | HeadError::RequestLineTooLong => panic!("the request line is valid, not: {error}"),
        HeadError::Field(_)
        | HeadError::Underscore
        | HeadError::Repeated
        | HeadError::NoHost
        | HeadError::BadHost => {}
        HeadError::Forwarded(_) => panic!("nobody is trusted, so nothing is believed: {error}"),
    }
}

/// The elements of a list field, in lower case, without empty ones.
fn listed(values: &[&[u8]]) -> Vec<Vec<u8>> {
    let elements = values.iter().flat_map(|value| value.split(|&byte| byte == b','));
    elements.map(|text| trim(text).to_ascii_lowercase()).filter(|text| !text.is_empty()).collect()
}

fn number(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
