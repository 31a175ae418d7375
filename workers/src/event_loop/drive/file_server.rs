//! Begins the responses that are files: those of `--static`, which the application has no part in, and those that the
//! application names.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::kept;
use crate::application::{AppBody, Content, Reply};
use crate::connection::Rules;
use crate::event_loop::client::Client;
use crate::event_loop::clock::Clock;
use crate::event_loop::file_transfer::FileTransfer;
use crate::event_loop::record::Record;
use crate::http::{ByteRange, Head};
use crate::shared::fd::file::{Cached, read_cached};
use crate::shared::log::throttle::Throttle;
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::Counter;
use crate::static_files::{
    FileAnswer, FileBody, FileContent, FileParts, FileProblem, Now, StaticFiles,
};

/// A part of a file up to this length is copied into the write buffer, behind the head: one read and one send take
/// less time than sendfile(2), and the client gets one segment.
const COPIED_BYTES: usize = 16 * 1024;
/// Unreadable files that one worker logs in each interval: any client can cause as many as it likes.
const PROBLEMS_LOGGED: u32 = 10;
const PROBLEMS_INTERVAL: Duration = Duration::from_secs(60);

/// The files of a worker, and what sending them takes.
pub struct FileServer {
    files: StaticFiles,
    /// Where short files are read.
    scratch: Box<[u8]>,
    /// Limits how many unreadable files are logged.
    problems: Throttle,
}

impl FileServer {
    /// Serves these files.
    pub fn new(files: StaticFiles) -> Self {
        Self {
            files,
            scratch: vec![0; COPIED_BYTES].into_boxed_slice(),
            problems: Throttle::new(PROBLEMS_LOGGED, PROBLEMS_INTERVAL),
        }
    }

    /// Frees memory that is not needed any more.
    pub(in crate::event_loop) fn forget_old(&mut self, now: Instant) {
        self.files.forget_old(now);
    }

    /// Opens nothing below a directory whose descriptor the application has closed. Returns whether there is a new one.
    pub(in crate::event_loop) fn give_up_lost_directories(&mut self) -> bool {
        self.files.give_up_lost_directories()
    }

    /// Begins the response to a request for a static file, and says whether it was one.
    pub(super) fn answer<B: AppBody>(
        &mut self,
        client: &mut Client<B>,
        request: (&[u8], &Head),
        clock: &Clock,
        log: &Log,
        rules: &Rules<'_>,
    ) -> bool {
        let (head_bytes, head) = request;
        match self.files.answer(head, head_bytes, now(clock)) {
            Some(answer) => {
                let mut sender =
                    Sender { scratch: &mut self.scratch, problems: &mut self.problems };
                sender.send(client, answer, None, request, (clock, log, rules));
                true
            }
            None => false,
        }
    }

    /// Begins the response with the file that the application has named in place of its own body, or returns the
    /// reply.
    pub(super) fn replace<'r, B: AppBody>(
        &mut self,
        client: &mut Client<B>,
        reply: Reply<'r, B>,
        request: (&[u8], &Head),
        clock: &Clock,
        log: &Log,
        rules: &Rules<'_>,
    ) -> Option<Reply<'r, B>> {
        let (head_bytes, head) = request;
        let Some(answer) = self.files.replace(head, head_bytes, reply.head, now(clock)) else {
            return Some(reply);
        };
        let owner = match reply.content {
            Content::Empty | Content::Whole(_) => None,
            Content::Stream(stream) => Some(stream.rest),
            Content::File(span) => Some(span.owner),
        };
        let mut sender = Sender { scratch: &mut self.scratch, problems: &mut self.problems };
        sender.send(client, answer, owner, request, (clock, log, rules));
        None
    }
}

fn now(clock: &Clock) -> Now {
    Now { wall: clock.second(), instant: clock.now() }
}

/// What sending an answer takes, beside the answer.
struct Sender<'s> {
    scratch: &'s mut [u8],
    problems: &'s mut Throttle,
}

impl Sender<'_> {
    /// Begins a response. `owner` is the application's side, which is closed at its end.
    fn send<B: AppBody>(
        &mut self,
        client: &mut Client<B>,
        answer: FileAnswer<'_>,
        owner: Option<B>,
        (head_bytes, request): (&[u8], &Head),
        (clock, log, rules): (&Clock, &Log, &Rules<'_>),
    ) {
        let record = || Record::of(head_bytes, request);
        let FileAnswer { head, content, problem } = answer;
        if let Some(problem) = &problem
            && let Some(suppressed) = self.problems.pass(clock.now())
        {
            log_problem(log, problem, suppressed);
        }
        kept::response(client, head, rules.settings);
        client.conn_mut().begin_reply(head, None, rules);
        // A 5xx without a problem is the application's own, with a file as its page.
        if problem.is_some() && head.status().0 >= 500 {
            rules.counters.inc(Counter::ReqErrorInternal);
        }
        let bytes = match content {
            FileContent::Nothing => &[],
            FileContent::Bytes(bytes) => bytes,
            FileContent::File(body) => match begin_file(body, self.scratch) {
                Begun::Copied(bytes) => bytes,
                Begun::Transfer(transfer, range) => {
                    client.send_file(transfer, owner, record);
                    if let Some(ByteRange { offset, length }) = range {
                        client.conn_mut().push_file(offset, length);
                    }
                    return;
                }
            },
        };
        if let Some(owner) = owner {
            client.stream(owner, record);
        }
        let conn = client.conn_mut();
        conn.push_bytes(bytes);
        conn.end_items();
    }
}

fn log_problem(log: &Log, problem: &FileProblem, suppressed: u64) {
    let path = problem.path.display();
    let mut pairs =
        vec![("path", Value::Display(&path)), ("error", Value::Display(&problem.error))];
    if suppressed > 0 {
        pairs.push(("not_logged", Value::Number(i64::try_from(suppressed).unwrap_or(i64::MAX))));
    }
    log.line(Level::Warning, "file.open_failed", &pairs);
}

/// How a file is sent.
enum Begun<'s> {
    /// These are its bytes.
    Copied(&'s [u8]),
    /// By sendfile(2): this part of it, or several.
    Transfer(FileTransfer, Option<ByteRange>),
}

/// Reads a short file that is cached. Any other goes out by sendfile(2).
fn begin_file(body: FileBody, scratch: &mut [u8]) -> Begun<'_> {
    let FileBody { file, parts } = body;
    match parts {
        FileParts::One(range) => {
            let length = usize::try_from(range.length).unwrap_or(usize::MAX);
            if let Some(room) = scratch.get_mut(..length)
                && read_cached(file.as_fd(), room, range.offset) == Cached::Bytes(length)
            {
                return Begun::Copied(room);
            }
            Begun::Transfer(FileTransfer::new(file, None), Some(range))
        }
        FileParts::Several(further) => {
            Begun::Transfer(FileTransfer::new(file, Some(further)), None)
        }
    }
}
