//! Reads the corpus of `tests/wire`: raw bytes of connections, each with the expected outcome.
//!
//! `valid/NAME.http` and `invalid/NAME.http` hold the bytes that a client sends on one connection before it
//! half-closes. In `forwarded/NAME.http`, this client is a proxy that the worker trusts, as it trusts 10.0.0.0/8.
//! In `proxy/NAME.http`, it is a proxy that speaks the PROXY protocol; then only 10.0.0.0/8 is trusted.
//! `NAME.expect` beside it describes the outcome, with one statement on each line:
//!
//! ```text
//! # the reason, with the section of the standard
//! request METHOD TARGET HTTP/1.1     the next request that reaches the application
//! authority TEXT                     Head::authority; without this line, there is none
//! path TEXT                          Head::path; without this line, it is not compared
//! query TEXT                         Head::query; without this line, it is not compared
//! fields N                           number of fields; without this line, it is not compared
//! field NAME: VALUE                  a field; listed fields are in this order, with others between
//! dropped N                          number of fields dropped because of `_`; without this line, 0
//! expects-continue                   an HTTP/1.1 request has `Expect: 100-continue`
//! stated TEXT                        what trusted proxies state, as `support::stated` writes it
//! body TEXT                          the whole decoded body; without this line, it is empty
//! body-hash LENGTH FNV               the same for a long body: its bytes, and their 64-bit FNV-1a
//! then keep-alive | close            ends the request: what happens to the connection
//! rest N                             ends a valid file: number of bytes left unread after the last request
//! refused STATUS                     ends an invalid file: the status that rejects the next request
//! incomplete head | body             ends an invalid file: where its bytes end; nothing is executed
//! closed                             ends an invalid file: the connection is closed without a response
//! ```
//!
//! TEXT, METHOD, TARGET, NAME and VALUE are printable ASCII, with `\r`, `\n`, `\t`, `\\` and `\xHH` for other
//! bytes. A request of version 1.2 is listed as `HTTP/1.1`, because it is handled as one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arctos_worker::settings::{Forwarding, ProxyProtocol, ProxyVersion, Settings};

/// One connection: its bytes and the expected outcome.
#[derive(Debug)]
pub(crate) struct Case {
    /// Directory and file name without extension, as in `invalid/chunk-size-lf`.
    pub(crate) name: String,
    /// Who sends the bytes.
    pub(crate) peer: Peer,
    /// The bytes that the client sends before it half-closes.
    pub(crate) bytes: Vec<u8>,
    /// The requests that reach the application.
    pub(crate) requests: Vec<ExpectedRequest>,
    /// What happens after the last of them.
    pub(crate) end: End,
}

/// Who sends the bytes of a file, in the eyes of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A client that is not trusted.
    Client,
    /// A proxy whose forwarded headers are believed.
    Proxy,
    /// A proxy whose connections begin with a PROXY header.
    Balancer,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Proxy, Self::Balancer];

    /// The settings of a worker to which peers from 127.0.0.1 are this.
    pub(crate) fn settings(self) -> Settings {
        let proxies: &[&str] = match self {
            Self::Client => &[],
            Self::Proxy => &["127.0.0.0/8", "10.0.0.0/8"],
            Self::Balancer => &["10.0.0.0/8"],
        };
        let proxy_protocol = match self {
            Self::Client | Self::Proxy => ProxyProtocol::default(),
            Self::Balancer => ProxyProtocol {
                version: ProxyVersion::Auto,
                senders: ["127.0.0.1".parse().expect("an address")].into_iter().collect(),
            },
        };
        let proxies = proxies.iter().map(|peer| peer.parse().expect("a network")).collect();
        let forwarding = Forwarding { proxies, ..Forwarding::default() };
        Settings { forwarding, proxy_protocol, ..Settings::default() }
    }
}

/// A request that reaches the application.
#[derive(Debug, Default)]
pub(crate) struct ExpectedRequest {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub(crate) version: String,
    pub(crate) authority: Option<Vec<u8>>,
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) query: Option<Vec<u8>>,
    pub(crate) field_count: Option<usize>,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) dropped_count: u32,
    pub(crate) expects_continue: bool,
    pub(crate) stated: String,
    pub(crate) body: Body,
    pub(crate) keeps_alive: bool,
}

/// The length of a body and a hash of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) length: usize,
    pub(crate) fnv: u64,
}

/// What happens after the last request that reaches the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The bytes end between two requests, or the connection is closed there with this many bytes unread.
    Rest(usize),
    /// A request is rejected with this status.
    Refused(u16),
    /// The connection is closed without a response.
    Closed,
    /// The client closes before its request is complete.
    Incomplete(Place),
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Head,
    Body,
}

impl Body {
    /// Measures and hashes a body.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len(), fnv: fnv1a(bytes) }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::of(b"")
    }
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Reads the whole corpus in the order of its names. Panics on a file without its counterpart and on a file
/// that does not follow the format.
pub(crate) fn load() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
    let mut cases = Vec::new();
    for kind in ["valid", "invalid", "forwarded", "proxy"] {
        for stem in stems(&directory.join(kind)) {
            let path = directory.join(kind).join(&stem);
            let bytes = read(&path.with_extension("http"));
            let text = String::from_utf8(read(&path.with_extension("expect"))).expect("UTF-8");
            let name = format!("{kind}/{stem}");
            let (requests, end) = parse(&text, &name);
            let is_valid = matches!(end, End::Rest(_));
            let is_misplaced = kind == if is_valid { "invalid" } else { "valid" };
            assert!(!is_misplaced, "{name}: the file is in the wrong directory");
            let peer = match kind {
                "forwarded" => Peer::Proxy,
                "proxy" => Peer::Balancer,
                _ => Peer::Client,
            };
            cases.push(Case { name, peer, bytes, requests, end });
        }
    }
    cases
}

/// Lists the names in a directory without their extensions, and checks that each has both of its files.
fn stems(directory: &Path) -> BTreeSet<String> {
    let paths: BTreeSet<PathBuf> = fs::read_dir(directory)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    for path in &paths {
        let partner = match path.extension().and_then(|extension| extension.to_str()) {
            Some("http") => "expect",
            Some("expect") => "http",
            other => panic!("{}: {other:?} is not an extension of the corpus", path.display()),
        };
        assert!(
            paths.contains(&path.with_extension(partner)),
            "{} has no counterpart",
            path.display()
        );
    }
    paths
        .iter()
        .map(|path| path.file_stem().and_then(|stem| stem.to_str()).expect("ASCII").to_owned())
        .collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(text: &str, name: &str) -> (Vec<ExpectedRequest>, End) {
    let mut requests = Vec::new();
    let mut open: Option<ExpectedRequest> = None;
    let mut end = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(end.is_none(), "{name}: `{line}` follows the end");
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, &mut open) {
            ("request", None) => open = Some(request_line(rest, name)),
            ("then", Some(request)) => {
                request.keeps_alive = match rest {
                    "keep-alive" => true,
                    "close" => false,
                    _ => panic!("{name}: then {rest}?"),
                };
                requests.extend(open.take());
            }
            ("authority", Some(request)) => request.authority = Some(unescape(rest, name)),
            ("path", Some(request)) => request.path = Some(unescape(rest, name)),
            ("query", Some(request)) => request.query = Some(unescape(rest, name)),
            ("fields", Some(request)) => request.field_count = Some(number(rest, name)),
            ("dropped", Some(request)) => request.dropped_count = number(rest, name),
            ("expects-continue", Some(request)) => request.expects_continue = true,
            ("stated", Some(request)) => request.stated = rest.to_owned(),
            ("body", Some(request)) => request.body = Body::of(&unescape(rest, name)),
            ("body-hash", Some(request)) => {
                let (length, fnv) = rest.split_once(' ').expect("length and hash");
                let fnv = u64::from_str_radix(fnv, 16).expect("a hash");
                request.body = Body { length: number(length, name), fnv };
            }
            ("field", Some(request)) => {
                let (field, value) = rest.split_once(':').expect("a colon");
                let value = unescape(value.strip_prefix(' ').unwrap_or(value), name);
                request.fields.push((unescape(field, name), value));
            }
            ("rest", None) => end = Some(End::Rest(number(rest, name))),
            ("refused", None) => end = Some(End::Refused(number(rest, name))),
            ("closed", None) => end = Some(End::Closed),
            ("incomplete", None) => {
                end = Some(End::Incomplete(match rest {
                    "head" => Place::Head,
                    "body" => Place::Body,
                    _ => panic!("{name}: incomplete {rest}?"),
                }));
            }
            _ => panic!("{name}: `{line}` has no meaning here"),
        }
    }
    (requests, end.unwrap_or_else(|| panic!("{name}: no end")))
}

fn request_line(text: &str, name: &str) -> ExpectedRequest {
    let [method, target, version] = text.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{name}: request {text}?");
    };
    ExpectedRequest {
        method: unescape(method, name),
        target: unescape(target, name),
        version: version.to_owned(),
        ..ExpectedRequest::default()
    }
}

fn number<N: std::str::FromStr>(text: &str, name: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("{name}: {text} is not a number"))
}

fn unescape(text: &str, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let mut chars = after.chars();
        match chars.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
            }
            other => panic!("{name}: \\{other:?} is not an escape sequence"),
        }
        rest = chars.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
