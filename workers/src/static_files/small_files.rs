//! The small files that were sent within the last second: a file that many clients request is opened and read once a
//! second, not once per request.
//!
//! | event | memory |
//! |---|---|
//! | a small file has been read | holds it, by the path of the request and, if that matters, the accepted codings |
//! | [`LIFETIME`] after the first of them | is freed |
//! | the next file would exceed [`ROOM_BYTES`] | is freed before |
//!
//! Nothing is validated: a forgotten file is looked up, opened and read as if it were new, so that each rule about
//! paths, links and permissions is checked again. Pure: the caller reads files and the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::facts::Facts;
use crate::http::{AcceptedCodings, ResponseHead};

/// The maximum length of a small file.
pub(super) const SMALL_BYTES: usize = 16 * 1024;
/// How long a file is kept at most: for this long, a change of it, or of its path, may go unnoticed.
pub(super) const LIFETIME: Duration = Duration::from_secs(1);
/// How much memory all files of a worker take at most.
const ROOM_BYTES: usize = 1 << 20;
/// What a file takes beside its content and its head: its entry in the tables, and what the allocator adds.
const ENTRY_BYTES: usize = 512;

/// A small file, and the response to a GET for all of it.
pub(super) struct SmallFile {
    pub(super) facts: Facts,
    pub(super) head: ResponseHead,
    pub(super) bytes: Box<[u8]>,
}

/// The small files that were sent within the last second.
#[derive(Default)]
pub(super) struct SmallFiles {
    files: Vec<SmallFile>,
    by_path: HashMap<Box<[u8]>, Vec<Variant>>,
    used_bytes: usize,
    /// When the first of them was read; `None` if there is none.
    since: Option<Instant>,
}

/// A representation of what is at a path.
struct Variant {
    /// For which clients it was chosen; `None` for all.
    codings: Option<AcceptedCodings>,
    place: Place,
}

/// Where a file is, until the next [`SmallFiles::forget_old`] or [`SmallFiles::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

impl SmallFiles {
    /// Frees the memory if its time is over.
    #[inline]
    pub(super) fn forget_old(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) >= LIFETIME) {
            *self = Self::default();
        }
    }

    /// The file that a client with these codings gets for a path.
    pub(super) fn find(&self, path: &[u8], codings: AcceptedCodings) -> Option<Place> {
        let variants = self.by_path.get(path)?;
        let found = variants.iter().find(|variant| variant.codings.is_none_or(|it| it == codings));
        found.map(|variant| variant.place)
    }

    /// Keeps a file that was read at `now`.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        codings: AcceptedCodings,
        file: SmallFile,
        now: Instant,
    ) -> Place {
        let bytes = ENTRY_BYTES + path.len() + file.head.encoded_bytes() + file.bytes.len();
        if self.used_bytes + bytes > ROOM_BYTES {
            *self = Self::default();
        }
        self.since.get_or_insert(now);
        self.used_bytes += bytes;
        let place = Place(self.files.len());
        let codings = file.facts.varies.then_some(codings);
        self.files.push(file);
        self.by_path.entry(path.into()).or_default().push(Variant { codings, place });
        place
    }

    /// The file at a place.
    pub(super) fn at(&self, Place(index): Place) -> &SmallFile {
        &self.files[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadScan};
    use crate::settings::{HeaderMap, Limits};
    use crate::shared::fd::file::FileStatus;

    fn codings(value: &str) -> AcceptedCodings {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {value}\r\n\r\n");
        let mut head = Head::new();
        let (scan, limits) = (&mut HeadScan::default(), &Limits::DEFAULT);
        head.parse(text.as_bytes(), scan, limits, HeaderMap::Drop).unwrap();
        AcceptedCodings::of(&head, text.as_bytes())
    }

    fn file(length: usize, varies: bool) -> SmallFile {
        let status = FileStatus { size: length as u64, ..FileStatus::default() };
        SmallFile {
            facts: Facts::of(status, "text/css".into(), None, varies, 0),
            head: ResponseHead::default(),
            bytes: vec![b'x'; length].into(),
        }
    }

    #[test]
    fn a_file_is_found_by_its_path_until_its_time_is_over() {
        let (mut files, none, start) = (SmallFiles::default(), codings(""), Instant::now());
        assert_eq!(files.find(b"/a", none), None);
        files.add(b"/a", none, file(3, false), start);
        let late = files.add(b"/b", none, file(5, false), start + LIFETIME / 2);
        files.forget_old(start + LIFETIME - Duration::from_nanos(1));
        assert_eq!(files.find(b"/b", none), Some(late));
        assert_eq!(files.at(late).bytes.len(), 5);
        assert_eq!(files.find(b"/a/", none), None);
        files.forget_old(start + LIFETIME);
        assert_eq!((files.find(b"/a", none), files.find(b"/b", none)), (None, None));
        assert_eq!(files.used_bytes, 0);
        files.add(b"/a", none, file(3, false), start + LIFETIME);
        files.forget_old(start + LIFETIME + LIFETIME / 2);
        assert!(files.find(b"/a", none).is_some(), "a new second begins with the first file");
    }

    #[test]
    fn clients_share_what_does_not_vary() {
        let (mut files, now) = (SmallFiles::default(), Instant::now());
        let (plain, gzip) = (codings(""), codings("gzip"));
        files.add(b"/a.png", plain, file(1, false), now);
        let of_plain = files.add(b"/a.css", plain, file(2, true), now);
        assert_eq!(files.find(b"/a.png", gzip), Some(Place(0)));
        assert_eq!(files.find(b"/a.css", gzip), None);
        let of_gzip = files.add(b"/a.css", gzip, file(3, true), now);
        assert_eq!(files.find(b"/a.css", gzip), Some(of_gzip));
        assert_eq!(files.find(b"/a.css", plain), Some(of_plain));
    }

    #[test]
    fn the_memory_is_bounded_whatever_clients_request() {
        let (mut files, none, now) = (SmallFiles::default(), codings(""), Instant::now());
        for length in [0, 100, SMALL_BYTES] {
            for number in 0..5000 {
                let path = format!("/{length}/{number}");
                let place = files.add(path.as_bytes(), none, file(length, false), now);
                assert_eq!(files.find(path.as_bytes(), none), Some(place));
                assert!(files.used_bytes <= ROOM_BYTES && files.files.len() <= 2048);
            }
        }
    }
}
