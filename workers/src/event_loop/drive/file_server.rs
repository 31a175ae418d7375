//! Begins the responses of `--static`, which the application has no part in.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::application::AppBody;
use crate::connection::Rules;
use crate::event_loop::client::{Client, Record};
use crate::event_loop::clock::Clock;
use crate::event_loop::file_transfer::FileTransfer;
use crate::http::precondition::seconds;
use crate::http::{ByteRange, Head};
use crate::shared::fd::file::{Cached, read_cached};
use crate::shared::log::throttle::Throttle;
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::Counter;
use crate::static_files::{FileAnswer, FileBody, FileContent, FileParts, FileProblem, StaticFiles};

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

    /// Begins the response to a request for a static file, and says whether it was one.
    pub(super) fn answer<B: AppBody>(
        &mut self,
        client: &mut Client<B>,
        (head_bytes, head): (&[u8], &Head),
        clock: &Clock,
        log: &Log,
        rules: &Rules<'_>,
    ) -> bool {
        let Some(answer) = self.files.answer(head, head_bytes, seconds(clock.wall())) else {
            return false;
        };
        let record = || Record::of(head_bytes, head, clock.now());
        let FileAnswer { head, content, problem } = answer;
        if let Some(problem) = problem
            && let Some(suppressed) = self.problems.pass(clock.now())
        {
            log_problem(log, &problem, suppressed);
        }
        let conn = client.conn_mut();
        conn.begin_reply(head, None, rules);
        if head.status().0 >= 500 {
            rules.counters.inc(Counter::ReqErrorInternal);
        }
        match content {
            FileContent::Nothing => conn.end_items(),
            FileContent::Text(text) => {
                conn.push_bytes(text);
                conn.end_items();
            }
            FileContent::File(body) => begin_file(client, body, record, &mut self.scratch),
        }
        true
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

/// Queues a file behind the head of its response: a short one that is cached as bytes, any other for sendfile(2).
fn begin_file<B: AppBody>(
    client: &mut Client<B>,
    body: FileBody,
    record: impl FnOnce() -> Record,
    scratch: &mut [u8],
) {
    let FileBody { fd, parts } = body;
    match parts {
        FileParts::One(ByteRange { offset, length }) => {
            let room = usize::try_from(length).ok().and_then(|length| scratch.get_mut(..length));
            if let Some(room) = room
                && read_cached(fd.as_fd(), room, offset) == Cached::Bytes(room.len())
            {
                let conn = client.conn_mut();
                conn.push_bytes(room);
                conn.end_items();
                return;
            }
            client.send_file(FileTransfer::new(fd, None), None, record);
            client.conn_mut().push_file(offset, length);
        }
        FileParts::Several(further) => {
            client.send_file(FileTransfer::new(fd, Some(further)), None, record);
        }
    }
}
