//! What is known of a representation, whatever the request for it.

use std::borrow::Cow;
use std::io::Write;

use crate::http::ContentCoding;
use crate::shared::fd::file::FileStatus;

/// What is known of a representation.
pub(super) struct Facts {
    /// In bytes.
    pub(super) size: u64,
    /// When it was last changed, in seconds since 1970, but not in the future.
    pub(super) modified: u64,
    pub(super) etag: Tag,
    pub(super) content_type: Cow<'static, str>,
    pub(super) coding: Option<ContentCoding>,
    /// Whether another request for the same path could get another representation.
    pub(super) varies: bool,
}

impl Facts {
    /// The facts of a file. `now` is the time in seconds since 1970.
    pub(super) fn of(
        status: FileStatus,
        content_type: Cow<'static, str>,
        coding: Option<ContentCoding>,
        varies: bool,
        now: u64,
    ) -> Self {
        Self {
            size: status.size,
            modified: status.modified.min(now),
            etag: Tag::of(status, coding),
            content_type,
            coding,
            varies,
        }
    }
}

/// The maximum length of an entity tag: three hexadecimal numbers, the name of a coding, and what stands around them.
const TAG_BYTES: usize = 64;

/// A strong entity tag: it differs whenever time, size or coding do.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    room: [u8; TAG_BYTES],
    length: usize,
}

impl Tag {
    /// The tag of a file with a coding.
    pub(super) fn of(status: FileStatus, coding: Option<ContentCoding>) -> Self {
        let mut room = [0; TAG_BYTES];
        let mut rest = &mut room[..];
        let (dash, coding) = coding.map_or(("", ""), |coding| ("-", coding.name()));
        let FileStatus { size, modified, modified_ns, .. } = status;
        write!(rest, "\"{modified:x}.{modified_ns:x}-{size:x}{dash}{coding}\"")
            .expect("three numbers of at most 16 digits and a name of 4 letters fit");
        let length = TAG_BYTES - rest.len();
        Self { room, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }
}
