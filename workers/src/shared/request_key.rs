//! A key for all requests with the same method and path, which fits into one word of shared memory.
//!
//! | part | compared |
//! |---|---|
//! | method | byte by byte, so `get` is not `GET` |
//! | path | as the application sees it (PATH_INFO): percent-decoded, below `--root-path`, byte by byte |
//! | query, Host, prefix that a proxy states | not at all |
//!
//! The key is a hash (SipHash) under a secret of the server, so no client can make two requests with the same key.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::shared::path_info::{below_root, percent_decoded};

/// The key of all requests with the same method and path. It is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(u64);

impl RequestKey {
    /// The key in a word of shared memory; `None` for 0, which is no key.
    pub fn from_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    /// The word to store.
    pub fn word(self) -> u64 {
        self.0
    }
}

/// Makes keys. Processes that were forked from the one that made this make the same keys.
#[derive(Clone)]
pub struct RequestKeys {
    secret: RandomState,
    /// SCRIPT_NAME (`--root-path`).
    root_path: Box<[u8]>,
}

impl RequestKeys {
    /// Makes keys under a new secret.
    pub fn new() -> Self {
        Self { secret: RandomState::new(), root_path: Box::default() }
    }

    /// Makes keys under the same secret, for an application at this path.
    pub fn at(&self, root_path: &str) -> Self {
        Self { secret: self.secret.clone(), root_path: root_path.as_bytes().into() }
    }

    /// Returns the key of a request. The path is percent-encoded, as it was sent.
    pub fn of(&self, method: &[u8], path: &[u8]) -> RequestKey {
        let decoded = percent_decoded(path);
        let mut hasher = self.secret.build_hasher();
        hasher.write(method);
        // No method contains a space, so the parts cannot be confused.
        hasher.write(b" ");
        hasher.write(below_root(&decoded, &self.root_path));
        RequestKey(hasher.finish().max(1))
    }
}

impl Default for RequestKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RequestKeys {
    /// The secret is not shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RequestKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_same_key_if_the_application_sees_the_same_method_and_path() {
        let keys = RequestKeys::new();
        let key = keys.of(b"GET", b"/a/b");
        assert_eq!(keys.of(b"GET", b"/%61/b"), key);
        assert_eq!(keys.of(b"GET", b"/a%2fb"), key);
        assert_eq!(keys.clone().of(b"GET", b"/a/b"), key, "as in a process that was forked");
        for (method, path) in [("POST", "/a/b"), ("get", "/a/b"), ("GET", "/A/b"), ("GET", "/a/b/")]
        {
            assert_ne!(keys.of(method.as_bytes(), path.as_bytes()), key, "{method} {path}");
        }
        assert_ne!(RequestKeys::new().of(b"GET", b"/a/b"), key, "each server has its own secret");
    }

    #[test]
    fn a_root_path_is_not_compared() {
        let keys = RequestKeys::new();
        let below = keys.at("/shop");
        assert_eq!(below.of(b"GET", b"/shop/a"), keys.of(b"GET", b"/a"));
        assert_eq!(below.of(b"GET", b"/a"), keys.of(b"GET", b"/a"), "a proxy may strip it");
        assert_ne!(below.of(b"GET", b"/shops/a"), keys.of(b"GET", b"/a"));
    }

    #[test]
    fn zero_is_no_key() {
        assert_eq!(RequestKey::from_word(0), None);
        let key = RequestKeys::new().of(b"GET", b"/");
        assert_eq!(RequestKey::from_word(key.word()), Some(key));
    }
}
