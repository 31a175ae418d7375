//! An application whose response depends on nothing but the request.
//!
//! The first byte after the slash of the path chooses what it does:
//!
//! | path | response |
//! |---|---|
//! | `/i` | items of unknown length: chunked, or until the connection closes |
//! | `/l` | more than its Content-Length |
//! | `/s` | less than its Content-Length |
//! | `/b` | fails after its first item |
//! | `/r` | fails before its head |
//! | `/f` | a file |
//! | `/p` | parts of a file between items |
//! | `/t` | a file that is shorter than it was |
//! | `/w` | `write()`, then items |
//! | `/e` | an empty body |
//! | `/c` | `Connection: close` |
//! | `/n`, `/m` | 204, 304 |
//! | `/o` | 205, and items that must not be sent |
//! | other | the body of the request |

use std::fmt;
use std::ops::Range;

use arctos_worker::connection::{Connection, Rules};
use arctos_worker::http::{Forwarded, ResponseHead};

/// Bytes that a failed assertion prints as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0.escape_ascii())
    }
}

impl<T: AsRef<[u8]>> From<T> for Text {
    fn from(bytes: T) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

/// A complete request, as the application gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Text,
    pub(crate) target: Text,
    pub(crate) path: Text,
    pub(crate) query: Text,
    pub(crate) authority: Option<Text>,
    pub(crate) is_http_11: bool,
    pub(crate) fields: Vec<(Text, Text)>,
    pub(crate) dropped_count: u32,
    pub(crate) keeps_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) body: Text,
    /// What the proxies say.
    pub(crate) forwarded: Option<Forwarded>,
    /// The number of bytes of the connection up to the end of this request.
    pub(crate) end: usize,
}

/// What the application does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    Items,
    TooLong,
    TooShort,
    Breaks,
    Raises,
    File,
    Parts,
    ShortFile,
    Writes,
    Empty,
    Closes,
    NoContent,
    ResetsContent,
    NotModified,
    Echoes,
}

impl Behavior {
    pub(crate) fn of(request: &Request) -> Self {
        match request.path.0.get(1) {
            Some(b'i') => Self::Items,
            Some(b'l') => Self::TooLong,
            Some(b's') => Self::TooShort,
            Some(b'b') => Self::Breaks,
            Some(b'r') => Self::Raises,
            Some(b'f') => Self::File,
            Some(b'p') => Self::Parts,
            Some(b't') => Self::ShortFile,
            Some(b'w') => Self::Writes,
            Some(b'e') => Self::Empty,
            Some(b'c') => Self::Closes,
            Some(b'n') => Self::NoContent,
            Some(b'm') => Self::NotModified,
            Some(b'o') => Self::ResetsContent,
            Some(_) | None => Self::Echoes,
        }
    }

    pub(crate) fn status(self) -> u16 {
        match self {
            Self::NoContent => 204,
            Self::ResetsContent => 205,
            Self::NotModified => 304,
            Self::Raises => 500,
            Self::Items
            | Self::TooLong
            | Self::TooShort
            | Self::Breaks
            | Self::File
            | Self::Parts
            | Self::ShortFile
            | Self::Writes
            | Self::Empty
            | Self::Closes
            | Self::Echoes => 200,
        }
    }

    /// Whether the response ends before it is complete, if it has a body.
    pub(crate) fn is_cut_off(self) -> bool {
        matches!(self, Self::TooShort | Self::Breaks | Self::ShortFile)
    }

    /// The whole body that the client gets, if the response has one; `None` if the server writes it.
    pub(crate) fn body(self, request: &Request) -> Option<Vec<u8>> {
        match self {
            Self::Items => Some(ITEMS.concat()),
            Self::TooLong => Some(b"longer"[..PROMISED].to_vec()),
            Self::File => Some(FILE.to_vec()),
            Self::Parts => Some([ITEMS[0], &FILE[4..9], ITEMS[3], &FILE[..4]].concat()),
            Self::Writes => Some([&b"written"[..], ITEMS[0]].concat()),
            Self::Empty | Self::NoContent | Self::ResetsContent | Self::NotModified => {
                Some(Vec::new())
            }
            Self::Closes | Self::Echoes => Some(request.body.0.clone()),
            Self::Raises | Self::TooShort | Self::Breaks | Self::ShortFile => None,
        }
    }
}

/// One of them is larger than what the connection copies, and one is empty.
pub(crate) const ITEMS: [&[u8]; 4] = [b"first", &[b'x'; 9000], b"", b"last"];
/// The content of the file.
pub(crate) const FILE: &[u8] = b"the content of a file";
/// How much of the file exists when it is shorter than it was.
pub(crate) const SHORT_FILE_BYTES: u64 = 5;
/// The Content-Length of a response that is longer or shorter.
const PROMISED: usize = 4;

/// What the application gives next.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Bytes(&'static [u8]),
    /// This part of the file.
    Part(Range<usize>),
    Failure,
}

/// Begins the response to a request. Returns the items that are still to come, the last one first.
pub(crate) fn answer(
    request: &Request,
    conn: &mut Connection<Vec<u8>>,
    rules: &Rules<'_>,
) -> Vec<Item> {
    let behavior = Behavior::of(request);
    let mut head = ResponseHead::default();
    let line: &[u8] = match behavior.status() {
        204 => b"204 No Content",
        205 => b"205 Reset Content",
        304 => b"304 Not Modified",
        _ => b"200 OK",
    };
    head.start(line).expect("a status");
    head.add(b"X-Of", &request.target.0).expect("a target is a value");
    let mut items = Vec::new();
    match behavior {
        Behavior::Raises => conn.fail(rules),
        Behavior::Items => {
            conn.begin_reply(&head, None, rules);
            items = ITEMS.map(Item::Bytes).to_vec();
        }
        Behavior::Breaks => {
            conn.begin_reply(&head, None, rules);
            items = vec![Item::Bytes(ITEMS[0]), Item::Failure];
        }
        Behavior::TooLong | Behavior::TooShort => {
            let length = PROMISED.to_string();
            head.add(b"Content-Length", length.as_bytes()).expect("a number");
            conn.begin_reply(&head, None, rules);
            let is_long = behavior == Behavior::TooLong;
            items = vec![Item::Bytes(if is_long { b"longer" } else { b"ab" })];
        }
        Behavior::File | Behavior::ShortFile => {
            conn.begin_reply(&head, Some(FILE.len() as u64), rules);
            conn.push_file(0, FILE.len() as u64);
        }
        Behavior::Parts => {
            let length = behavior.body(request).map(|body| body.len() as u64);
            conn.begin_reply(&head, length, rules);
            let text = [ITEMS[0], ITEMS[3]].map(Item::Bytes);
            let parts = [4..9, 0..4].map(Item::Part);
            items = text.into_iter().zip(parts).flat_map(|(text, part)| [text, part]).collect();
        }
        Behavior::Writes => {
            conn.begin_reply(&head, None, rules);
            conn.push_bytes(b"written");
            items = vec![Item::Bytes(ITEMS[0])];
        }
        Behavior::Empty => {
            conn.begin_reply(&head, Some(0), rules);
            conn.end_items();
        }
        Behavior::NoContent | Behavior::ResetsContent | Behavior::NotModified => {
            conn.begin_reply(&head, None, rules);
            items = vec![Item::Bytes(b"discarded")];
        }
        Behavior::Closes | Behavior::Echoes => {
            if behavior == Behavior::Closes {
                head.add(b"Connection", b"close").expect("an application may close");
            }
            conn.begin_reply(&head, Some(request.body.0.len() as u64), rules);
            conn.push_item(request.body.0.clone());
            conn.end_items();
        }
    }
    items.reverse();
    items
}
