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
use std::time::{Duration, UNIX_EPOCH};

use super::content_type::content_type;
use super::representation::Representation;
use super::request::{Method, Request};
use super::root::OpenFile;
use super::{FileAnswer, FileBody, FileContent, FileParts, FileProblem, StaticFiles};
use crate::http::multipart::content_range;
use crate::http::precondition::parse_date;
use crate::http::{
    ByteRange, ContentCoding, EntityTag, HttpDate, Multipart, Precondition, RangeUse, ResponseHead,
    Selection, Status, Validators,
};
use crate::shared::fd::file::FileStatus;

/// The fields of a response with (a part of) a file.
struct Fields<'a> {
    content_type: &'a [u8],
    coding: Option<ContentCoding>,
    etag: Option<&'a [u8]>,
    modified: Option<u64>,
    varies: bool,
    /// The application's head, if it named the file.
    named_by: Option<&'a ResponseHead>,
}

impl StaticFiles {
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
        FileAnswer { head: &self.head, content: FileContent::Text(&self.text), problem }
    }

    /// Answers a request for an open file.
    pub(super) fn respond(
        &mut self,
        request: &Request<'_>,
        method: Method,
        representation: Representation,
    ) -> FileAnswer<'_> {
        let Representation { file, content_type, coding, varies } = representation;
        let mut tag = [0; TAG_BYTES];
        let fields = Fields {
            content_type: content_type.as_bytes(),
            coding,
            etag: Some(entity_tag(&mut tag, &file, coding)),
            modified: Some(file.status.modified.min(request.now)),
            varies,
            named_by: None,
        };
        self.conditionally(request, method, file, &fields)
    }

    /// Answers a request with an open file that the application has named.
    pub(super) fn respond_named(
        &mut self,
        request: &Request<'_>,
        name: &str,
        file: OpenFile,
        named_by: &ResponseHead,
    ) -> FileAnswer<'_> {
        let mut tag = [0; TAG_BYTES];
        let guessed = content_type(name);
        let modified = match named_by.find("last-modified") {
            Some(date) => parse_date(date),
            None => Some(file.status.modified.min(request.now)),
        };
        let etag = named_by.find("etag").unwrap_or_else(|| entity_tag(&mut tag, &file, None));
        let fields = Fields {
            content_type: named_by.find("content-type").unwrap_or(guessed.as_bytes()),
            coding: None,
            etag: Some(etag),
            modified,
            varies: false,
            named_by: Some(named_by),
        };
        match request.method() {
            Some(method) if named_by.status() == Status(200) => {
                self.conditionally(request, method, file, &fields)
            }
            method => {
                start(&mut self.head, named_by.status_line());
                self.whole(method.unwrap_or(Method::Get), file, &fields)
            }
        }
    }

    /// Evaluates preconditions and ranges.
    fn conditionally(
        &mut self,
        request: &Request<'_>,
        method: Method,
        file: OpenFile,
        fields: &Fields<'_>,
    ) -> FileAnswer<'_> {
        let validators =
            Validators { etag: fields.etag.and_then(EntityTag::of), modified: fields.modified };
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
            RangeUse::Honored if fields.has_ranges() => request.selection(method, file.status.size),
            RangeUse::Honored | RangeUse::Ignored => Selection::Whole,
        };
        match selection {
            Selection::Whole => {
                start(&mut self.head, fields.named_by.map_or(b"200 OK", ResponseHead::status_line));
                self.whole(method, file, fields)
            }
            Selection::Unsatisfiable => {
                let size = format!("bytes */{}", file.status.size);
                self.refuse(Status(416), None);
                add(&mut self.head, "Content-Range", size.as_bytes());
                FileAnswer {
                    head: &self.head,
                    content: FileContent::Text(&self.text),
                    problem: None,
                }
            }
            Selection::Parts(parts) => {
                start(&mut self.head, b"206 Partial Content");
                self.partial(file, parts, fields)
            }
        }
    }

    /// The whole file. The head is started with its status.
    fn whole(&mut self, method: Method, file: OpenFile, fields: &Fields<'_>) -> FileAnswer<'_> {
        add(&mut self.head, "Content-Type", fields.content_type);
        add_length(&mut self.head, file.status.size);
        fields.add(&mut self.head);
        match method {
            Method::Get if file.status.size > 0 => {
                let range = ByteRange { offset: 0, length: file.status.size };
                self.finish(FileContent::File(FileBody {
                    fd: file.fd,
                    parts: FileParts::One(range),
                }))
            }
            Method::Get | Method::Head => self.finish(FileContent::Nothing),
        }
    }

    fn partial(
        &mut self,
        file: OpenFile,
        parts: Vec<ByteRange>,
        fields: &Fields<'_>,
    ) -> FileAnswer<'_> {
        let parts = match parts[..] {
            [range] => {
                add(&mut self.head, "Content-Type", fields.content_type);
                let content_range = content_range(range, file.status.size);
                add(&mut self.head, "Content-Range", content_range.as_bytes());
                add_length(&mut self.head, range.length);
                FileParts::One(range)
            }
            [..] => {
                let multipart =
                    Multipart::new(parts, boundary(), fields.content_type, file.status.size);
                add(&mut self.head, "Content-Type", multipart.content_type().as_bytes());
                add_length(&mut self.head, multipart.length());
                FileParts::Several(Box::new(multipart))
            }
        };
        fields.add(&mut self.head);
        self.finish(FileContent::File(FileBody { fd: file.fd, parts }))
    }

    fn finish<'a>(&'a self, content: FileContent<'a>) -> FileAnswer<'a> {
        FileAnswer { head: &self.head, content, problem: None }
    }
}

impl Fields<'_> {
    /// Adds what every response with bytes of the file has, beside type and length.
    fn add(&self, head: &mut ResponseHead) {
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
            head.add_from(named_by, |name| !is_replaced(name));
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
        if let Some(etag) = self.etag
            && !self.is_named("etag")
        {
            add(head, "ETag", etag);
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

/// The maximum length of an entity tag: two hexadecimal numbers, the name of a coding, and what stands around them.
const TAG_BYTES: usize = 64;

/// Writes a strong entity tag: it differs whenever time, size or coding do.
fn entity_tag<'a>(
    room: &'a mut [u8; TAG_BYTES],
    file: &OpenFile,
    coding: Option<ContentCoding>,
) -> &'a [u8] {
    let mut rest = &mut room[..];
    let (dash, coding) = coding.map_or(("", ""), |coding| ("-", coding.name()));
    let FileStatus { size, modified, modified_ns } = file.status;
    write!(rest, "\"{modified:x}.{modified_ns:x}-{size:x}{dash}{coding}\"")
        .expect("three numbers of at most 16 digits and a name of 4 letters fit");
    let left = rest.len();
    &room[..TAG_BYTES - left]
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
