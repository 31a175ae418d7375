//! What is sent of a file: itself, or a compressed file beside it that the client accepts.

use std::os::fd::AsFd;

use super::content_type::{content_type, is_compressible};
use super::facts::Facts;
use super::root::{OpenError, OpenFile, Root};
use super::small_files::SMALL_BYTES;
use crate::http::AcceptedCodings;
use crate::shared::fd::file::{Cached, read_cached};

/// An open file, and what is known of it.
pub(super) struct Representation {
    pub(super) file: OpenFile,
    pub(super) facts: Facts,
}

impl Representation {
    /// Opens the representation that a client prefers. Only names of a compressible type are looked up with the ending
    /// of a coding; they vary, whether there is such a file or not. `now` is the time in seconds since 1970.
    pub(super) fn open(
        root: &Root,
        name: &str,
        codings: AcceptedCodings,
        now: u64,
    ) -> Result<Self, OpenError> {
        let content_type = content_type(name);
        let varies = is_compressible(&content_type);
        let mut coded = None;
        if varies {
            coded = codings.iter().find_map(|coding| {
                let file = root.open_file(&format!("{name}{}", coding.suffix())).ok()?;
                Some((file, Some(coding)))
            });
        }
        let (file, coding) = match coded {
            Some(found) => found,
            None => (root.open_file(name)?, None),
        };
        let facts = Facts::of(file.status, content_type, coding, varies, now);
        Ok(Self { file, facts })
    }

    /// All of it, if it is small and in the page cache.
    pub(super) fn read_small(&self) -> Option<Box<[u8]>> {
        let length = usize::try_from(self.facts.size).ok().filter(|&it| it <= SMALL_BYTES)?;
        let mut bytes = vec![0; length].into_boxed_slice();
        let is_read = length == 0
            || read_cached(self.file.fd.as_fd(), &mut bytes, 0) == Cached::Bytes(length);
        is_read.then_some(bytes)
    }
}
