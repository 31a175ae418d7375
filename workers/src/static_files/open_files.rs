//! The descriptors of the larger files that were sent within the last second: a file that many clients request is looked
//! up and opened once a second, not once per request.
//!
//! | event | descriptor |
//! |---|---|
//! | a larger file has been opened | is kept, by the path of the request and, if that matters, the accepted codings |
//! | a request for it; fstat(2) says that it is as it was | is used |
//! | a request for it; it was changed, replaced, deleted or got other permissions | is closed |
//! | [`LIFETIME`] after it was opened | is closed |
//! | the next one would exceed [`KEPT_FILES`] | the oldest one is closed |
//! | the application has closed it | is given up |
//!
//! So a change of the file shows at once, and any other change of its path (a directory, a symbolic link, a compressed
//! file beside it) after [`LIFETIME`]: the path is looked up as if it were new. A response that is on its way keeps the
//! descriptor open until its end.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use super::facts::Facts;
use super::shared_file::SharedFile;
use super::small_files::LIFETIME;
use crate::http::{AcceptedCodings, ResponseHead};
use crate::shared::fd::file::{FileStatus, regular_status};

/// How many descriptors are kept at most: half of those that the smallest worker has besides its connections.
const KEPT_FILES: usize = 16;

/// An open file, and the response to a GET for all of it.
pub(super) struct KeptFile {
    pub(super) facts: Facts,
    pub(super) head: ResponseHead,
    pub(super) file: Rc<SharedFile>,
    /// What fstat(2) said when it was opened.
    pub(super) status: FileStatus,
}

impl KeptFile {
    fn is_unchanged(&self) -> bool {
        regular_status(self.file.as_fd()) == Ok(Some(self.status))
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        self.file.give_up_if_lost(self.status.id);
    }
}

/// The open files, the oldest first.
#[derive(Default)]
pub(super) struct OpenFiles {
    entries: VecDeque<Entry>,
}

struct Entry {
    path: Box<[u8]>,
    /// For which clients it was chosen; `None` for all.
    codings: Option<AcceptedCodings>,
    since: Instant,
    kept: KeptFile,
}

/// Where a file is, until anything else is done with [`OpenFiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(usize);

impl OpenFiles {
    /// Closes the files whose time is over.
    #[inline]
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_old = |entry: &Entry| now.saturating_duration_since(entry.since) >= LIFETIME;
        while self.entries.front().is_some_and(is_old) {
            self.entries.pop_front();
        }
    }

    /// The file that a client with these codings gets for a path, unless it has changed since it was opened.
    pub(super) fn find(&mut self, path: &[u8], codings: AcceptedCodings) -> Option<Index> {
        let is_wanted = |entry: &Entry| {
            *entry.path == *path && entry.codings.is_none_or(|chosen_for| chosen_for == codings)
        };
        let index = self.entries.iter().position(is_wanted)?;
        if self.entries[index].kept.is_unchanged() {
            return Some(Index(index));
        }
        self.entries.remove(index);
        None
    }

    /// Keeps a file that was opened at `now`.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        codings: AcceptedCodings,
        kept: KeptFile,
        now: Instant,
    ) -> Index {
        if self.entries.len() == KEPT_FILES {
            self.entries.pop_front();
        }
        let codings = kept.facts.varies.then_some(codings);
        self.entries.push_back(Entry { path: path.into(), codings, since: now, kept });
        Index(self.entries.len() - 1)
    }

    /// How many files are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The file at an index.
    pub(super) fn at(&self, Index(index): Index) -> &KeptFile {
        &self.entries[index].kept
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Head;
    use crate::settings::{HeaderMap, Limits};

    fn kept(file: &tempfile::NamedTempFile, varies: bool) -> KeptFile {
        let file = SharedFile::new(file.reopen().unwrap().into());
        let status = regular_status(file.as_fd()).unwrap().unwrap();
        let facts = Facts::of(status, "text/css".into(), None, varies, 0);
        KeptFile { facts, head: ResponseHead::default(), file, status }
    }

    #[test]
    fn a_file_is_kept_for_a_second() {
        let (mut files, none, start) =
            (OpenFiles::default(), AcceptedCodings::default(), Instant::now());
        let file = tempfile::NamedTempFile::new().unwrap();
        let first = files.add(b"/a", none, kept(&file, false), start);
        let second = files.add(b"/b", none, kept(&file, false), start + LIFETIME / 2);
        files.forget_old(start + LIFETIME - Duration::from_nanos(1));
        assert_eq!((files.find(b"/a", none), files.find(b"/b", none)), (Some(first), Some(second)));
        files.forget_old(start + LIFETIME);
        assert_eq!((files.find(b"/a", none), files.find(b"/b", none)), (None, Some(first)));
        files.forget_old(start + LIFETIME + LIFETIME / 2);
        assert_eq!(files.find(b"/b", none), None);
    }

    #[test]
    fn the_descriptors_are_bounded_whatever_clients_request() {
        let (mut files, none, now) =
            (OpenFiles::default(), AcceptedCodings::default(), Instant::now());
        let file = tempfile::NamedTempFile::new().unwrap();
        let used = Rc::clone(&kept(&file, false).file);
        for number in 0..100 {
            let path = format!("/{number}");
            let index = files.add(path.as_bytes(), none, kept(&file, false), now);
            assert_eq!(files.find(path.as_bytes(), none), Some(index));
            assert!(files.entries.len() <= KEPT_FILES);
        }
        assert_eq!(files.find(b"/50", none), None);
        assert!(regular_status(used.as_fd()).is_ok(), "a response still has its file");
    }

    #[test]
    fn clients_share_what_does_not_vary() {
        let (mut files, now) = (OpenFiles::default(), Instant::now());
        let plain = AcceptedCodings::default();
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
        let head = Head::of(text, &Limits::DEFAULT, HeaderMap::Drop).unwrap().unwrap();
        let gzip = AcceptedCodings::of(&head, text);
        let file = tempfile::NamedTempFile::new().unwrap();
        let image = files.add(b"/a.png", plain, kept(&file, false), now);
        let style = files.add(b"/a.css", plain, kept(&file, true), now);
        assert_eq!(
            (files.find(b"/a.png", gzip), files.find(b"/a.png", plain)),
            (Some(image), Some(image))
        );
        assert_eq!(
            (files.find(b"/a.css", gzip), files.find(b"/a.css", plain)),
            (None, Some(style))
        );
    }
}
