//! The response to a GET or HEAD for a file: status, fields and the parts of the file.
//!
//! | condition | status | body |
//! |---|---|---|
//! | a precondition fails | 412 | a line |
//! | the client has it already | 304 | none |
//! | the ranges lie behind its end | 416 | a line |
//! | ranges | 206 | the part, or several in `multipart/byteranges` |
//! | otherwise | 200 | the file |
//!
//! With a file that the application names, the same holds for a 200 to GET and HEAD, and the application's fields take
//! precedence. With any other status or method, the body is the whole file.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use super::content_type::content_type;
use super::facts::{Facts, Tag};
use super::open_files::KeptFile;
use super::request::{Method, Request};
use super::root::OpenFile;
use super::shared_file::SharedFile;
use super::small_files::SmallFile;
use super::{FileAnswer, FileBody, FileContent, FileParts, FileProblem};
use crate::http::multipart::content_range;
use crate::http::precondition::parse_date;
use crate::http::{
    ByteRange, ContentCoding, EntityTag, HttpDate, Multipart, Piece, Precondition, RangeUse,
    ResponseHead, Selection, Status, Validators,
};

/// Where the bytes of a file are.
pub(super) enum Source<'a> {
    /// In a file.
    Open(Rc<SharedFile>),
    /// In a file that is kept open, with the head of a response with all of it.
    Kept(&'a KeptFile),
    /// In memory, with the head of a response with all of them.
    Read(&'a SmallFile),
}

/// Builds responses, and keeps the memory of the last one.
#[derive(Default)]
pub(super) struct Responder {
    head: ResponseHead,
    text: Vec<u8>,
}

/// The fields of a response with (a part of) a file.
struct Fields<'a> {
    size: u64,
    content_type: &'a [u8],
    coding: Option<ContentCoding>,
    etag: &'a [u8],
    modified: Option<u64>,
    varies: bool,
    /// The application's head, if it named the file.
    named_by: Option<&'a ResponseHead>,
}

/// How much of a file a response has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    Part,
}

impl Responder {
    /// An answer with a status and its line. `problem` is passed on.
    pub(super) fn refuse(
        &mut self,
        status: Status,
        problem: Option<FileProblem>,
    ) -> FileAnswer<'_> {
        self.text.clear();
        let reason = status.reason();
        // Writing to a Vec cannot fail.
        let _ = writeln!(self.text, "{} {reason}", status.0);
        start(&mut self.head, format!("{} {reason}", status.0).as_bytes());
        add(&mut self.head, "Content-Type", b"text/plain");
        add_length(&mut self.head, self.text.len() as u64);
        if status == Status(405) {
            add(&mut self.head, "Allow", b"GET, HEAD");
        }
        FileAnswer { head: &self.head, content: FileContent::Bytes(&self.text), problem }
    }

    /// The head of a 200 with all of a file.
    pub(super) fn whole_head(&mut self, facts: &Facts) -> ResponseHead {
        self.start_whole(&Fields::of(facts));
        self.head.clone()
    }

    /// Answers a request for a file.
    pub(super) fn respond<'a>(
        &'a mut self,
        request: &Request<'_>,
        method: Method,
        source: Source<'a>,
        facts: &Facts,
    ) -> FileAnswer<'a> {
        self.conditionally(request, method, source, &Fields::of(facts))
    }

    /// Answers a request with an open file that the application has named.
    pub(super) fn respond_named(
        &mut self,
        request: &Request<'_>,
        name: &str,
        file: OpenFile,
        named_by: &ResponseHead,
    ) -> FileAnswer<'_> {
        let tag = Tag::of(file.status, None);
        let guessed = content_type(name);
        let modified = match named_by.find("last-modified") {
            Some(date) => parse_date(date),
            None => Some(file.status.modified.min(request.now)),
        };
        let fields = Fields {
            size: file.status.size,
            content_type: named_by.find("content-type").unwrap_or(guessed.as_bytes()),
            coding: None,
            etag: named_by.find("etag").unwrap_or(tag.as_bytes()),
            modified,
            varies: false,
            named_by: Some(named_by),
        };
        let source = Source::Open(SharedFile::new(file.fd));
        match request.method() {
            Some(method) if named_by.status() == Status(200) => {
                self.conditionally(request, method, source, &fields)
            }
            method => self.whole(method.unwrap_or(Method::Get), source, &fields),
        }
    }

    /// Evaluates preconditions and ranges.
    fn conditionally<'a>(
        &'a mut self,
        request: &Request<'_>,
        method: Method,
        source: Source<'a>,
        fields: &Fields<'_>,
    ) -> FileAnswer<'a> {
        let validators = Validators { etag: EntityTag::of(fields.etag), modified: fields.modified };
        let outcome = Precondition::of(request.head, request.head_bytes, validators, request.now);
        let range = match outcome {
            Precondition::Failed => return self.refuse(Status(412), None),
            Precondition::NotModified => {
                start(&mut self.head, b"304 Not Modified");
                fields.add_unmodified(&mut self.head);
                return self.finish(FileContent::Nothing);
            }
            Precondition::Met { range } => range,
        };
        let selection = match range {
            RangeUse::Honored if fields.has_ranges() => request.selection(method, fields.size),
            RangeUse::Honored | RangeUse::Ignored => Selection::Whole,
        };
        match selection {
            Selection::Whole => self.whole(method, source, fields),
            Selection::Unsatisfiable => {
                let size = format!("bytes */{}", fields.size);
                self.refuse(Status(416), None);
                add(&mut self.head, "Content-Range", size.as_bytes());
                self.finish(FileContent::Bytes(&self.text))
            }
            Selection::Parts(parts) => {
                start(&mut self.head, b"206 Partial Content");
                match parts[..] {
                    [range] => self.part(source, range, fields),
                    [..] => self.several(source, parts, fields),
                }
            }
        }
    }

    /// The whole file.
    fn whole<'a>(
        &'a mut self,
        method: Method,
        source: Source<'a>,
        fields: &Fields<'_>,
    ) -> FileAnswer<'a> {
        let head = match &source {
            Source::Read(file) => &file.head,
            Source::Kept(kept) => &kept.head,
            Source::Open(_) => {
                self.start_whole(fields);
                &self.head
            }
        };
        let content = match method {
            Method::Get if fields.size > 0 => {
                of_source(source, ByteRange { offset: 0, length: fields.size })
            }
            Method::Get | Method::Head => FileContent::Nothing,
        };
        FileAnswer { head, content, problem: None }
    }

    /// The head of a response with the whole file.
    fn start_whole(&mut self, fields: &Fields<'_>) {
        start(&mut self.head, fields.named_by.map_or(b"200 OK", ResponseHead::status_line));
        add(&mut self.head, "Content-Type", fields.content_type);
        add_length(&mut self.head, fields.size);
        fields.add(&mut self.head, Extent::Whole);
    }

    /// A part of the file. The head is started with its status.
    fn part<'a>(
        &'a mut self,
        source: Source<'a>,
        range: ByteRange,
        fields: &Fields<'_>,
    ) -> FileAnswer<'a> {
        add(&mut self.head, "Content-Type", fields.content_type);
        let content_range = content_range(range, fields.size);
        add(&mut self.head, "Content-Range", content_range.as_bytes());
        add_length(&mut self.head, range.length);
        fields.add(&mut self.head, Extent::Part);
        self.finish(of_source(source, range))
    }

    /// Several parts of the file. The head is started with its status.
    fn several<'a>(
        &'a mut self,
        source: Source<'a>,
        parts: Vec<ByteRange>,
        fields: &Fields<'_>,
    ) -> FileAnswer<'a> {
        let mut multipart = Multipart::new(parts, boundary(), fields.content_type, fields.size);
        add(&mut self.head, "Content-Type", multipart.content_type().as_bytes());
        add_length(&mut self.head, multipart.length());
        fields.add(&mut self.head, Extent::Part);
        let several = |file, multipart| {
            FileContent::File(FileBody { file, parts: FileParts::Several(Box::new(multipart)) })
        };
        match source {
            Source::Open(file) => self.finish(several(file, multipart)),
            Source::Kept(kept) => self.finish(several(Rc::clone(&kept.file), multipart)),
            Source::Read(file) => {
                self.text.clear();
                while let Some(piece) = multipart.next_piece() {
                    match piece {
                        Piece::Part { text, range } => {
                            self.text.extend_from_slice(&text);
                            self.text.extend_from_slice(within(&file.bytes, range));
                        }
                        Piece::Closing(text) => self.text.extend_from_slice(&text),
                    }
                }
                self.finish(FileContent::Bytes(&self.text))
            }
        }
    }

    fn finish<'a>(&'a self, content: FileContent<'a>) -> FileAnswer<'a> {
        FileAnswer { head: &self.head, content, problem: None }
    }
}

/// A part of a file, as the content of a response.
fn of_source(source: Source<'_>, range: ByteRange) -> FileContent<'_> {
    let one = |file| FileContent::File(FileBody { file, parts: FileParts::One(range) });
    match source {
        Source::Read(file) => FileContent::Bytes(within(&file.bytes, range)),
        Source::Kept(kept) => one(Rc::clone(&kept.file)),
        Source::Open(file) => one(file),
    }
}

/// A part of bytes. Ranges come from [`Selection`], which has the same size.
fn within(bytes: &[u8], range: ByteRange) -> &[u8] {
    let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[position(range.offset)..position(range.offset.saturating_add(range.length))]
}

impl<'a> Fields<'a> {
    fn of(facts: &'a Facts) -> Self {
        Self {
            size: facts.size,
            content_type: facts.content_type.as_bytes(),
            coding: facts.coding,
            etag: facts.etag.as_bytes(),
            modified: Some(facts.modified),
            varies: facts.varies,
            named_by: None,
        }
    }
}

impl Fields<'_> {
    /// Adds what every response with bytes of the file has, beside type and length.
    fn add(&self, head: &mut ResponseHead, extent: Extent) {
        if let Some(coding) = self.coding {
            add(head, "Content-Encoding", coding.name().as_bytes());
        }
        if let Some(modified) = self.modified
            && !self.is_named("last-modified")
        {
            let date = HttpDate::at(UNIX_EPOCH + Duration::from_secs(modified));
            add(head, "Last-Modified", date.as_bytes());
        }
        if !self.is_named("accept-ranges") {
            add(head, "Accept-Ranges", b"bytes");
        }
        self.add_validator(head);
        if let Some(named_by) = self.named_by {
            let is_left_out = |name: &[u8]| match extent {
                Extent::Whole => is_replaced(name),
                // The server has its own, which several parts have in their bodies (RFC 9110 §14.4).
                Extent::Part => is_replaced(name) || name.eq_ignore_ascii_case(b"content-range"),
            };
            head.add_from(named_by, |name| !is_left_out(name));
        }
    }

    /// Adds what a 304 has (RFC 9110 §15.4.5): nothing that describes the content only.
    fn add_unmodified(&self, head: &mut ResponseHead) {
        self.add_validator(head);
        if let Some(named_by) = self.named_by {
            head.add_from(named_by, |name| !is_replaced(name) && !is_of_content(name));
        }
    }

    fn add_validator(&self, head: &mut ResponseHead) {
        if !self.is_named("etag") {
            add(head, "ETag", self.etag);
        }
        if self.varies {
            add(head, "Vary", b"Accept-Encoding");
        }
    }

    /// Whether the application sends a field of this name.
    fn is_named(&self, name: &str) -> bool {
        self.named_by.is_some_and(|head| head.find(name).is_some())
    }

    /// Whether parts of the file are sent: the application may refuse them.
    fn has_ranges(&self) -> bool {
        let field = self.named_by.and_then(|head| head.find("accept-ranges"));
        field.is_none_or(|value| !value.eq_ignore_ascii_case(b"none"))
    }
}

/// Whether a field that the application has set is left out, because the server sends its own in its place.
fn is_replaced(name: &[u8]) -> bool {
    const REPLACED: [&[u8]; 4] =
        [b"x-sendfile", b"x-accel-redirect", b"content-length", b"content-type"];
    REPLACED.iter().any(|replaced| name.eq_ignore_ascii_case(replaced))
}

/// Whether a field describes content that a 304 does not have.
fn is_of_content(name: &[u8]) -> bool {
    const OF_CONTENT: [&[u8]; 5] = [
        b"accept-ranges",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"last-modified",
    ];
    OF_CONTENT.iter().any(|of_content| name.eq_ignore_ascii_case(of_content))
}

/// A boundary that nobody can know before, so that no file contains it.
fn boundary() -> String {
    // Each has keys of its own, which come from getrandom(2).
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

fn start(head: &mut ResponseHead, status: &[u8]) {
    head.start(status).expect("the status is well-formed");
}

fn add(head: &mut ResponseHead, name: &str, value: &[u8]) {
    head.add(name.as_bytes(), value).expect("the field is well-formed, and comes once");
}

fn add_length(head: &mut ResponseHead, length: u64) {
    add(head, "Content-Length", itoa::Buffer::new().format(length).as_bytes());
}
