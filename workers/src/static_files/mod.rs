//! Files that a worker sends itself: those below the directories of `--static`, and those that the application names
//! in `X-Sendfile` or `X-Accel-Redirect` (`--sendfile-root`).
//!
//! This decides which file answers a request, and with which head: status, validators, ranges, content coding. It
//! knows no connection. The event loop sends what it decided ([`crate::event_loop::drive`]).
//!
//! | step | in |
//! |---|---|
//! | path of the request to the relative name of a file | `request_path` |
//! | name to an open file that lies below the directory | `root` |
//! | compressed file beside it, if the client accepts one | `representation` |
//! | preconditions and ranges to a head and the parts of the file | `response` |
//! | a small file that was read a moment ago to the same file | `small_files` |
//! | a larger one that was opened a moment ago to the same file | `open_files`, `shared_file` |
//! | a head of the application to the relative name of a file | `named_file` |
//!
//! **Who owns the directories.** Each worker opens them when it starts, as the user that it runs as, and keeps them to
//! its end. A path that becomes another directory, as in a deploy that replaces a symbolic link, is therefore followed
//! by the next generation of workers: a reload switches code and files together.

mod content_type;
mod facts;
mod named_file;
mod open_files;
mod representation;
mod request;
mod request_path;
mod response;
mod root;
mod shared_file;
mod small_files;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use crate::http::{AcceptedCodings, ByteRange, Head, Multipart, ResponseHead, Status};
use crate::settings::{FileSettings, Settings};

use named_file::{named_file, named_path};
use open_files::{KeptFile, OpenFiles};
use representation::Representation;
use request::Request;
use request_path::{DecodedPath, below};
use response::{Responder, Source};
use root::{OpenFile, Root};
use small_files::{SMALL_BYTES, SmallFile, SmallFiles};

pub use root::OpenError;
pub use shared_file::SharedFile;

/// A directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{option}: cannot open the directory {}: {}", .path.display(), .error)]
pub struct NoDirectory {
    option: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// The files that a worker sends.
pub struct StaticFiles {
    /// The longest prefix first.
    mounts: Vec<Mount>,
    sendfile_root: Option<Root>,
    /// SCRIPT_NAME: a proxy may leave it in front of the path, or not.
    root_path: Vec<u8>,
    small: SmallFiles,
    larger: OpenFiles,
    responder: Responder,
}

struct Mount {
    prefix: Vec<u8>,
    root: Root,
}

/// The time of a request.
#[derive(Clone, Copy)]
pub struct Now {
    /// In seconds since 1970.
    pub wall: u64,
    /// The same moment, which never goes back.
    pub instant: Instant,
}

/// An answer without the application, or in place of its body.
pub struct FileAnswer<'a> {
    /// Status and fields, with Content-Length where there is a body.
    pub head: &'a ResponseHead,
    /// The body.
    pub content: FileContent<'a>,
    /// The file that could not be opened for a reason that an operator has to see.
    pub problem: Option<FileProblem>,
}

/// The body of an answer.
pub enum FileContent<'a> {
    /// There is none (HEAD, 304).
    Nothing,
    /// These bytes: a small file, a part of it, or a line that says what went wrong.
    Bytes(&'a [u8]),
    /// A file or parts of it.
    File(FileBody),
}

/// A file or parts of it.
pub struct FileBody {
    /// The open file.
    pub file: Rc<SharedFile>,
    /// What of it is sent.
    pub parts: FileParts,
}

/// What of a file is sent.
pub enum FileParts {
    /// One part, or everything.
    One(ByteRange),
    /// Several parts, and texts between them.
    Several(Box<Multipart>),
}

/// A file that could not be opened.
#[derive(Debug)]
pub struct FileProblem {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub error: OpenError,
}

impl StaticFiles {
    /// Opens all directories; `None` if there are none.
    pub fn open(settings: &Settings) -> Result<Option<Self>, NoDirectory> {
        let FileSettings { mounts, sendfile_root } = &settings.files;
        if mounts.is_empty() && sendfile_root.is_none() {
            return Ok(None);
        }
        let open = |option, path: &PathBuf| {
            Root::open(path).map_err(|error| NoDirectory { option, path: path.clone(), error })
        };
        let mut opened = Vec::new();
        for mount in mounts {
            let root = open("--static", &mount.dir)?;
            opened.push(Mount { prefix: mount.prefix.clone().into_bytes(), root });
        }
        let sendfile_root = sendfile_root.as_ref().map(|path| open("--sendfile-root", path));
        opened.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
        Ok(Some(Self {
            mounts: opened,
            sendfile_root: sendfile_root.transpose()?,
            root_path: settings.root_path.clone().into_bytes(),
            small: SmallFiles::default(),
            larger: OpenFiles::default(),
            responder: Responder::default(),
        }))
    }

    /// Answers a request for a path below a mount; `None` for any other, which is the application's.
    pub fn answer(
        &mut self,
        head: &Head,
        head_bytes: &[u8],
        Now { wall, instant }: Now,
    ) -> Option<FileAnswer<'_>> {
        let path = DecodedPath::of(head.path.of(head_bytes));
        let whole = path.bytes();
        let local = below(whole, &self.root_path).unwrap_or(whole);
        let (mount, rest) =
            self.mounts.iter().find_map(|mount| Some((mount, below(local, &mount.prefix)?)))?;
        let request = Request { head, head_bytes, now: wall };
        let responder = &mut self.responder;
        let Some(method) = request.method() else {
            return Some(responder.refuse(Status(405), None));
        };
        // Before the lookup: a path that names no file may look like one that does once it is decoded.
        let Some(name) = path.file_name(rest) else {
            return Some(responder.refuse(Status(404), None));
        };
        let codings = AcceptedCodings::of(head, head_bytes);
        self.small.forget_old(instant);
        self.larger.forget_old(instant);
        if let Some(place) = self.small.find(local, codings) {
            let file = self.small.at(place);
            return Some(responder.respond(&request, method, Source::Read(file), &file.facts));
        }
        if let Some(index) = self.larger.find(local, codings) {
            let kept = self.larger.at(index);
            return Some(responder.respond(&request, method, Source::Kept(kept), &kept.facts));
        }
        let found = match Representation::open(&mount.root, name, codings, wall) {
            Ok(found) => found,
            Err(error) => {
                let (status, is_logged) = outcome(error);
                let path = mount.root.path.join(name);
                let problem = is_logged.then_some(FileProblem { path, error });
                return Some(responder.refuse(status, problem));
            }
        };
        let bytes = found.read_small();
        let Representation { file: OpenFile { fd, status }, facts } = found;
        if let Some(bytes) = bytes {
            let head = responder.whole_head(&facts);
            let small = SmallFile { facts, head, bytes };
            let place = self.small.add(local, codings, small, instant);
            let file = self.small.at(place);
            return Some(responder.respond(&request, method, Source::Read(file), &file.facts));
        }
        let file = SharedFile::new(fd);
        if facts.size <= SMALL_BYTES as u64 {
            // It is kept in memory once it is in the page cache.
            return Some(responder.respond(&request, method, Source::Open(file), &facts));
        }
        let head = responder.whole_head(&facts);
        let kept = KeptFile { facts, head, file, status };
        let index = self.larger.add(local, codings, kept, instant);
        let kept = self.larger.at(index);
        Some(responder.respond(&request, method, Source::Kept(kept), &kept.facts))
    }

    /// Frees the memory of small files and closes the larger ones whose time is over.
    pub fn forget_old(&mut self, now: Instant) {
        self.small.forget_old(now);
        self.larger.forget_old(now);
    }

    /// Opens nothing any more below a directory whose descriptor stands for something else now. Returns whether there is
    /// a new one.
    pub fn give_up_lost_directories(&mut self) -> bool {
        let mounts = self.mounts.iter_mut().map(|mount| &mut mount.root);
        let lost = mounts.chain(self.sendfile_root.as_mut()).filter_map(Root::give_up_if_lost);
        lost.count() > 0
    }

    /// Answers a request with the file that a head of the application names; `None` if it names none, or if there is
    /// no `--sendfile-root`.
    pub fn replace(
        &mut self,
        head: &Head,
        head_bytes: &[u8],
        named_by: &ResponseHead,
        Now { wall, instant: _ }: Now,
    ) -> Option<FileAnswer<'_>> {
        let root = self.sendfile_root.as_ref().filter(|_| named_by.names_file())?;
        let opened = match named_file(&root.path, named_by) {
            Ok(name) => root.open_file(&name).map(|file| (name, file)),
            Err(error) => Err(error),
        };
        match opened {
            Ok((name, file)) => {
                let request = Request { head, head_bytes, now: wall };
                Some(self.responder.respond_named(&request, &name, file, named_by))
            }
            Err(error) => {
                let (status, _) = outcome(error);
                // The application has named the file: if it must not be sent, the application is wrong.
                let status = if error.is_missing() { status } else { Status(500) };
                let path = named_path(named_by);
                Some(self.responder.refuse(status, Some(FileProblem { path, error })))
            }
        }
    }
}

/// The status that an unreadable file gets in place of its content, and whether an operator has to know. Whatever
/// only depends on the path says nothing about what exists: it is 404.
fn outcome(error: OpenError) -> (Status, bool) {
    match error {
        OpenError::Missing | OpenError::NotRegular => (Status(404), false),
        OpenError::Outside | OpenError::Denied | OpenError::Name => (Status(404), true),
        OpenError::Failed(_) => (Status(500), true),
    }
}

#[cfg(test)]
mod tests;
