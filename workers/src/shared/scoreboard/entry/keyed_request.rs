//! The running request of an entry, with the key of its method and path.
//!
//! The line of an entry holds the start of a long path only, so for such a request the worker stores the key beside the
//! line. A key that was made of the start would be that of other requests, too.

use std::sync::atomic::Ordering;

use super::WorkerEntry;
use crate::shared::request_key::{RequestKey, RequestKeys};
use crate::shared::scoreboard::request_line::RequestLineCell;

/// A request, identified by its method and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The key of the method and the whole path.
    pub key: RequestKey,
    /// The method.
    pub method: Vec<u8>,
    /// The path, percent-encoded as it was sent.
    pub path: Vec<u8>,
    /// Whether the end of the path may be missing.
    pub is_cut: bool,
}

impl WorkerEntry {
    /// Method, space and path that are as long as this, or longer, count as cut.
    pub const LINE_BYTES: usize = RequestLineCell::BYTES;

    /// Stores the key of a request whose line will be cut, before it starts. Called by the worker.
    pub fn identify_long_request(&self, key: RequestKey) {
        self.state.long_request.store(key.word(), Ordering::Relaxed);
    }

    /// The running or last request, with the key of its method and path; `None` if it changes too fast to be read, or
    /// if its line was cut and it has no key.
    pub fn keyed_request(&self, keys: &RequestKeys) -> Option<KeyedRequest> {
        let mut line = self.request_line.read_bytes()?;
        let is_cut = line.len() == Self::LINE_BYTES;
        let long = self.state.long_request.load(Ordering::Relaxed);
        let space = line.iter().position(|&byte| byte == b' ')?;
        let key = match is_cut {
            true => RequestKey::from_word(long)?,
            false => keys.of(&line[..space], &line[space + 1..]),
        };
        let path = line.split_off(space + 1);
        line.truncate(space);
        Some(KeyedRequest { key, method: line, path, is_cut })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shared::identity::Generation;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_request_has_a_key_whatever_its_length() {
        let (entry, keys) = (WorkerEntry::detached(), RequestKeys::new());
        assert_eq!(entry.keyed_request(&keys), None);
        entry.begin_request(ms(10), b"GET", b"/%61/\xff");
        let keyed = entry.keyed_request(&keys).unwrap();
        assert_eq!((keyed.key, keyed.is_cut), (keys.of(b"GET", b"/a/\xff"), false));
        assert_eq!((keyed.method, keyed.path), (b"GET".to_vec(), b"/%61/\xff".to_vec()));
        let longest = WorkerEntry::LINE_BYTES - 1 - b"GET ".len();
        entry.begin_request(ms(10), b"GET", "/".repeat(longest).as_bytes());
        assert!(!entry.keyed_request(&keys).unwrap().is_cut);
        for bytes in [longest + 1, 5000] {
            let path = "/".repeat(bytes);
            entry.begin_request(ms(10), b"GET", path.as_bytes());
            assert_eq!(entry.keyed_request(&keys), None, "the worker made no key");
            entry.identify_long_request(keys.of(b"GET", path.as_bytes()));
            let keyed = entry.keyed_request(&keys).unwrap();
            assert_eq!((keyed.key, keyed.is_cut), (keys.of(b"GET", path.as_bytes()), true));
            assert_eq!(keyed.path.len(), longest + 1);
            entry.assign(Generation(1));
        }
    }
}
