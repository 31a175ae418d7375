//! Strings that are created once: the keys of the environ, and the table from field names to keys. This module knows no
//! request and no value.
//!
//! The table finds a name by its length and its first and last eight bytes, without regard to case. The usual names then
//! need neither a hash by Python nor an upper-case copy. (Byte by byte, this took a fifth of a browser's request: 255
//! instructions per name; now it takes 64.)

use pyo3::prelude::*;
use pyo3::types::PyString;

/// Declares [`Keys`], with one interned str for each key.
macro_rules! keys {
    ($($field:ident = $text:literal;)*) => {
        /// The keys of the environ that are not header fields, interned.
        pub(super) struct Keys {
            $(#[doc = $text] pub(super) $field: Py<PyString>,)*
        }

        impl Keys {
            /// Creates the strings.
            pub(super) fn new(py: Python<'_>) -> Self {
                Self { $($field: PyString::intern(py, $text).unbind(),)* }
            }
        }
    };
}

keys! {
    request_method = "REQUEST_METHOD";
    script_name = "SCRIPT_NAME";
    path_info = "PATH_INFO";
    query_string = "QUERY_STRING";
    request_uri = "REQUEST_URI";
    raw_uri = "RAW_URI";
    remote_addr = "REMOTE_ADDR";
    remote_port = "REMOTE_PORT";
    server_name = "SERVER_NAME";
    server_port = "SERVER_PORT";
    server_protocol = "SERVER_PROTOCOL";
    server_software = "SERVER_SOFTWARE";
    wsgi_version = "wsgi.version";
    wsgi_url_scheme = "wsgi.url_scheme";
    https = "HTTPS";
    wsgi_input = "wsgi.input";
    wsgi_errors = "wsgi.errors";
    wsgi_multithread = "wsgi.multithread";
    wsgi_multiprocess = "wsgi.multiprocess";
    wsgi_run_once = "wsgi.run_once";
    wsgi_input_terminated = "wsgi.input_terminated";
    wsgi_file_wrapper = "wsgi.file_wrapper";
    content_length = "CONTENT_LENGTH";
    http_host = "HTTP_HOST";
    worker = "arctos.worker";
    request_id = "arctos.request_id";
    queue_time_ms = "arctos.queue_time_ms";
    timeout = "arctos.timeout";
    peer_addr = "arctos.peer_addr";
    peer_port = "arctos.peer_port";
}

/// How a known field enters the environ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Its value goes under its key. Repeated fields are joined with a comma (RFC 9110 §5.3), even those that are
    /// not lists.
    Plain,
    /// Like [`Treatment::Plain`], but the value is not cached, because it is a secret or differs each time.
    Uncached,
    /// Repeated fields are joined with `; ` (RFC 9113 §8.2.3).
    Cookie,
    /// The field is Host, which an absolute-form target replaces (RFC 9112 §3.2.2).
    Host,
    /// The field is X-Request-Id.
    RequestId,
    /// The field is traceparent.
    TraceParent,
    /// The field is dropped. `Proxy` would become HTTP_PROXY, which HTTP client libraries use as their configuration
    /// (CVE-2016-1000110, "httpoxy"). Transfer-Encoding no longer applies, because the application gets the decoded
    /// body.
    Dropped,
}

use Treatment::{Cookie, Dropped, Host, Plain, RequestId, TraceParent, Uncached};

/// Known field names, in lower case. There are at most 128, because their indexes are bits of a mask.
const KNOWN: &[(&str, Treatment)] = &[
    ("accept", Plain),
    ("accept-charset", Plain),
    ("accept-encoding", Plain),
    ("accept-language", Plain),
    ("access-control-request-headers", Plain),
    ("access-control-request-method", Plain),
    ("authorization", Uncached),
    ("baggage", Uncached),
    ("cache-control", Plain),
    ("cdn-loop", Plain),
    ("cf-connecting-ip", Plain),
    ("cf-ipcountry", Plain),
    ("cf-ray", Uncached),
    ("cf-visitor", Plain),
    ("connection", Plain),
    ("content-encoding", Plain),
    ("content-length", Plain),
    ("content-type", Plain),
    ("cookie", Cookie),
    ("date", Uncached),
    ("dnt", Plain),
    ("expect", Plain),
    ("forwarded", Plain),
    ("from", Plain),
    ("host", Host),
    ("if-match", Plain),
    ("if-modified-since", Plain),
    ("if-none-match", Plain),
    ("if-range", Plain),
    ("if-unmodified-since", Plain),
    ("keep-alive", Plain),
    ("max-forwards", Plain),
    ("origin", Plain),
    ("pragma", Plain),
    ("priority", Plain),
    ("proxy", Dropped),
    ("proxy-authorization", Uncached),
    ("proxy-connection", Plain),
    ("range", Plain),
    ("referer", Plain),
    ("save-data", Plain),
    ("sec-ch-ua", Plain),
    ("sec-ch-ua-mobile", Plain),
    ("sec-ch-ua-platform", Plain),
    ("sec-fetch-dest", Plain),
    ("sec-fetch-mode", Plain),
    ("sec-fetch-site", Plain),
    ("sec-fetch-user", Plain),
    ("sec-gpc", Plain),
    ("te", Plain),
    ("traceparent", TraceParent),
    ("tracestate", Uncached),
    ("transfer-encoding", Dropped),
    ("upgrade", Plain),
    ("upgrade-insecure-requests", Plain),
    ("user-agent", Plain),
    ("via", Plain),
    ("x-amzn-trace-id", Uncached),
    ("x-api-key", Uncached),
    ("x-client-ip", Plain),
    ("x-cloud-trace-context", Uncached),
    ("x-correlation-id", Uncached),
    ("x-csrf-token", Uncached),
    ("x-csrftoken", Uncached),
    ("x-forwarded-for", Plain),
    ("x-forwarded-host", Plain),
    ("x-forwarded-port", Plain),
    ("x-forwarded-prefix", Plain),
    ("x-forwarded-proto", Plain),
    ("x-forwarded-server", Plain),
    ("x-http-method-override", Plain),
    ("x-real-ip", Plain),
    ("x-request-id", RequestId),
    ("x-requested-with", Plain),
    ("x-scheme", Plain),
];

const _: () = assert!(KNOWN.len() <= 128);

/// The number of slots of the table: a power of two, at least four times the number of names.
const SLOT_COUNT: usize = 512;
const _: () = assert!(KNOWN.len() * 4 <= SLOT_COUNT);

/// One known field name.
pub(super) struct KnownField {
    name: &'static [u8],
    ends: Ends,
    /// The key in the environ.
    pub(super) key: Py<PyString>,
    /// How the field enters the environ.
    pub(super) treatment: Treatment,
    /// The last value, cached so that the same bytes need no new str.
    pub(super) last: Option<Py<PyString>>,
}

/// The table of known field names.
pub(super) struct KnownFields {
    fields: Vec<KnownField>,
    /// An index into `fields` plus one; 0 is a free slot. Collisions use the next slot.
    slots: Box<[u8; SLOT_COUNT]>,
}

impl KnownFields {
    /// Creates the table.
    pub(super) fn new(py: Python<'_>) -> Self {
        let mut slots = Box::new([0_u8; SLOT_COUNT]);
        let mut fields = Vec::with_capacity(KNOWN.len());
        for (index, &(name, treatment)) in KNOWN.iter().enumerate() {
            let name = name.as_bytes();
            let ends = Ends::of(name);
            let mut slot = ends.first_slot();
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOT_COUNT;
            }
            slots[slot] = u8::try_from(index + 1).expect("KNOWN has at most 128 names");
            let key = PyString::intern(py, &key_text(name)).unbind();
            fields.push(KnownField { name, ends, key, treatment, last: None });
        }
        Self { fields, slots }
    }

    /// Finds the index of a field name (a token, RFC 9110 §5.1), without regard to case.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        let ends = Ends::of(name);
        let mut slot = ends.first_slot();
        loop {
            let index = usize::from(self.slots[slot]).checked_sub(1)?;
            let known = &self.fields[index];
            if known.ends == ends && is_same_middle(known.name, name) {
                return Some(index);
            }
            slot = (slot + 1) % SLOT_COUNT;
        }
    }

    /// Returns the field with this index.
    pub(super) fn get_mut(&mut self, index: usize) -> &mut KnownField {
        &mut self.fields[index]
    }
}

/// Sets bit 5 of each byte. In a token, this turns upper case into lower case and turns no other byte into one that
/// [`KNOWN`] has: only control characters would become a digit or `-`, and tokens have none.
const LOWER_CASE: u64 = 0x2020_2020_2020_2020;

/// The length and the first and last eight bytes of a name, which is the whole name up to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    len: usize,
    first: u64,
    last: u64,
}

impl Ends {
    fn of(name: &[u8]) -> Self {
        let len = name.len();
        let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            (None, _) | (_, None) => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(first), Some(last)) => {
                    (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
                }
                (None, _) | (_, None) => {
                    (name.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0)
                }
            },
        };
        Self { len, first: first | LOWER_CASE, last: last | LOWER_CASE }
    }

    /// Returns the slot where the search starts. Multiplication by odd constants spreads the bits to the top.
    fn first_slot(self) -> usize {
        let mixed = self.first.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.last.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
            ^ (self.len as u64).wrapping_mul(0x1656_67b1_9e37_79f9);
        (mixed >> (u64::BITS - SLOT_COUNT.trailing_zeros())) as usize
    }
}

/// Whether two names of the same length are equal between their ends.
fn is_same_middle(known: &[u8], name: &[u8]) -> bool {
    if name.len() <= 16 {
        return true;
    }
    // The rest after the last whole word belongs to the ends, which have been compared.
    known[8..].chunks_exact(8).zip(name[8..].chunks_exact(8)).all(|(known, name)| {
        let word =
            |bytes: &[u8]| bytes.first_chunk().map(|chunk| u64::from_le_bytes(*chunk) | LOWER_CASE);
        word(known) == word(name)
    })
}

/// Returns the key of a field name: `HTTP_` and the name in upper case with `_` for `-`. Content-Type and
/// Content-Length have no `HTTP_` (RFC 3875 §4.1.18).
pub(super) fn key_text(name: &[u8]) -> String {
    let upper = name.iter().map(|&byte| match byte {
        b'-' => '_',
        other => char::from(other.to_ascii_uppercase()),
    });
    if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"content-length") {
        return upper.collect();
    }
    "HTTP_".chars().chain(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        Python::initialize();
        Python::attach(|py| {
            let table = KnownFields::new(py);
            for (index, (name, _)) in KNOWN.iter().enumerate() {
                assert_eq!(table.find(name.as_bytes()), Some(index), "{name}");
                assert_eq!(table.find(name.to_uppercase().as_bytes()), Some(index), "{name}");
            }
        });
    }

    #[test]
    fn an_unknown_name_is_not_found() {
        Python::initialize();
        Python::attach(|py| {
            let table = KnownFields::new(py);
            for name in ["", "x", "hos", "hosts", "x-forwarded-fox", "accept^encoding"] {
                assert_eq!(table.find(name.as_bytes()), None, "{name}");
            }
        });
    }

    #[test]
    fn a_name_with_one_different_byte_anywhere_is_not_found() {
        Python::initialize();
        Python::attach(|py| {
            let table = KnownFields::new(py);
            for (name, _) in KNOWN {
                for at in 0..name.len() {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = b'*';
                    assert_eq!(table.find(&other), None, "{name} at {at}");
                }
            }
        });
    }

    #[test]
    fn a_chain_of_collisions_is_short() {
        let mut slots = [0; SLOT_COUNT];
        for (name, _) in KNOWN {
            slots[Ends::of(name.as_bytes()).first_slot()] += 1;
        }
        assert!(slots.iter().max() <= Some(&3));
    }

    #[test]
    fn content_type_and_content_length_have_no_http_prefix() {
        assert_eq!(key_text(b"Content-Type"), "CONTENT_TYPE");
        assert_eq!(key_text(b"CONTENT-length"), "CONTENT_LENGTH");
        assert_eq!(key_text(b"X-Content-Length"), "HTTP_X_CONTENT_LENGTH");
    }
}
