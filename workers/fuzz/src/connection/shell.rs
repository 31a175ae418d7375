//! Carries out the steps of a connection as the event loop does, without a socket, and keeps what happened.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use arctos_worker::connection::{
    CloseManner, ConnInfo, Connection, Cursor, ItemFate, Refused, Rules, Step,
};
use arctos_worker::http::response::CONTINUE;
use arctos_worker::http::{Forwarded, Head, HttpDate, Persistence, Version};
use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::{Counter, WorkerEntry};
use arctos_worker::shared::socket_name::SocketName;

use super::super::pieces::pieces;
use super::application::{self, Behavior, FILE, Item, Request, SHORT_FILE_BYTES, Text};

/// What happened on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The requests that reached the application.
    pub(crate) requests: Vec<Request>,
    /// The request that did not.
    pub(crate) refused: Option<Refused>,
    /// What was sent, without `100 Continue`.
    pub(crate) sent: Text,
    pub(crate) manner: CloseManner,
    /// What was counted, without the counts that say how many reads and writes there were.
    pub(crate) counts: Vec<(&'static str, u64)>,
}

pub(crate) struct Shell<'a> {
    conn: Connection<Vec<u8>>,
    rules: Rules<'a>,
    pending: Vec<u8>,
    /// The number of bytes that the connection used.
    used: usize,
    spool: Vec<u8>,
    items: Vec<Item>,
    /// The number of bytes of `100 Continue` that were sent.
    continued: usize,
    outcome: Outcome,
}

/// What the shell does next.
enum Turn {
    Goes,
    Reads,
    Ends(CloseManner),
}

impl<'a> Shell<'a> {
    /// Sends the pieces one after the other, each when the connection waits for it, and then shuts down. `room`
    /// returns how many bytes of a write the socket takes.
    pub(crate) fn run(
        bytes: &[u8],
        ends: &[usize],
        room: &mut dyn FnMut(usize) -> usize,
        settings: &Settings,
    ) -> Outcome {
        thread_local! {
            static ENTRY: &'static WorkerEntry = WorkerEntry::detached();
        }
        let counters = &ENTRY.with(|entry| *entry).counters;
        let before = Counter::ALL.map(|counter| counters.get(counter));
        counters.inc(Counter::ConnAcceptSuccess);
        let date = HttpDate::at(SystemTime::UNIX_EPOCH);
        let persistence = Persistence::KeepAlive;
        let rules = Rules { settings, date: &date, counters, persistence, request_id: None };
        let mut shell = Shell::new(rules);
        let mut head = Head::new();
        let mut pieces = pieces(bytes, ends);
        // Each byte takes a few steps at most, and each response of a few items, too.
        for _ in 0..1000 + 100 * bytes.len() {
            match shell.turn(&mut head, room) {
                Turn::Goes => {}
                Turn::Reads => match pieces.next() {
                    Some(piece) => shell.receive(piece),
                    None => shell.conn.ended(counters),
                },
                Turn::Ends(manner) => {
                    let counts = Counter::ALL.iter().zip(before);
                    let counts = counts.filter(|(counter, _)| !depends_on_reads(**counter));
                    let counts = counts.map(|(counter, before)| {
                        (counter.statsd_name(), counters.get(*counter) - before)
                    });
                    return Outcome { manner, counts: counts.collect(), ..shell.outcome };
                }
            }
        }
        panic!("the connection neither waits nor ends");
    }

    fn new(rules: Rules<'a>) -> Self {
        let address = SocketName::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let (peer, local) = (address.clone(), address);
        Self {
            conn: Connection::new(ConnInfo::new(peer, local, Instant::now())),
            rules,
            pending: Vec::new(),
            used: 0,
            spool: Vec::new(),
            items: Vec::new(),
            continued: 0,
            outcome: Outcome {
                requests: Vec::new(),
                refused: None,
                sent: Text::default(),
                manner: CloseManner::Graceful,
                counts: Vec::new(),
            },
        }
    }

    fn receive(&mut self, piece: &[u8]) {
        if !piece.is_empty() {
            self.pending.extend_from_slice(piece);
            self.conn.received();
        }
    }

    /// Carries out one step.
    fn turn(&mut self, head: &mut Head, room: &mut dyn FnMut(usize) -> usize) -> Turn {
        let counters = self.rules.counters;
        let pending = std::mem::take(&mut self.pending);
        let mut input = Cursor::new(&pending);
        let awaits_request = self.conn.awaits_request();
        let step = self.conn.step(&mut input, head, &self.rules);
        let taken = input.taken();
        self.used += taken;
        let mut turn = Turn::Goes;
        match step {
            Step::Read => turn = Turn::Reads,
            Step::Store(bytes) => {
                assert!(!bytes.is_empty());
                self.spool.extend_from_slice(bytes);
            }
            Step::Call { head_bytes, body } => {
                assert!(self.spool.is_empty());
                let request = self.request(head, head_bytes, body.to_vec());
                self.call(request);
            }
            Step::CallGathered => {
                let gathered = self.conn.take_gathered().expect("a request was gathered");
                let body = std::mem::take(&mut self.spool);
                let request = self.request(&gathered.head, &gathered.head_bytes, body);
                self.call(request);
            }
            Step::Refused(refused) => {
                assert!(self.outcome.refused.replace(*refused).is_none(), "refused twice");
                self.spool.clear();
            }
            Step::Pull => self.pull(),
            Step::Write { parts, .. } => {
                let bytes = parts.concat();
                assert!(!bytes.is_empty(), "nothing to write");
                let count = room(bytes.len());
                // Before a request is complete, the only thing to send is `100 Continue`.
                if awaits_request && self.conn.awaits_request() {
                    assert!(CONTINUE[self.continued..].starts_with(&bytes[..count]));
                    self.continued = (self.continued + count) % CONTINUE.len();
                } else {
                    self.outcome.sent.0.extend_from_slice(&bytes[..count]);
                }
                self.conn.wrote(count, counters);
            }
            Step::SendFile { offset, length } => self.send_file(offset, length, room),
            Step::Finish => self.conn.finish(counters),
            Step::ShutWrite => self.conn.write_shut(),
            Step::Close(manner) => turn = Turn::Ends(manner),
        }
        self.pending = pending;
        self.pending.drain(..taken);
        turn
    }

    fn pull(&mut self) {
        let fate = match self.items.pop() {
            Some(Item::Bytes(bytes)) => self.conn.push_item(bytes.to_vec()),
            Some(Item::Part(range)) => {
                self.conn.push_file_part(range.start as u64, range.len() as u64)
            }
            Some(Item::Failure) => return self.conn.fail(&self.rules),
            None => return self.conn.end_items(),
        };
        match fate {
            ItemFate::Queued => {}
            ItemFate::Overlong | ItemFate::Unwanted => self.conn.end_items(),
        }
    }

    fn send_file(&mut self, offset: u64, length: u64, room: &mut dyn FnMut(usize) -> usize) {
        let request = self.outcome.requests.last().expect("a file belongs to a request");
        let is_short = Behavior::of(request) == Behavior::ShortFile;
        let file_bytes = if is_short { SHORT_FILE_BYTES } else { FILE.len() as u64 };
        assert!(offset + length <= FILE.len() as u64 && length > 0);
        let count = room(length as usize).min(file_bytes.saturating_sub(offset) as usize);
        if count == 0 {
            self.conn.fail(&self.rules);
            return;
        }
        let offset = offset as usize;
        self.outcome.sent.0.extend_from_slice(&FILE[offset..offset + count]);
        self.conn.wrote_file(count as u64, self.rules.counters);
    }

    fn call(&mut self, request: Request) {
        self.items = application::answer(&request, &mut self.conn, &self.rules);
        self.outcome.requests.push(request);
    }

    fn request(&self, head: &Head, bytes: &[u8], body: Vec<u8>) -> Request {
        let fields = head.fields.iter();
        let fields =
            fields.map(|field| (field.name.of(bytes).into(), field.value.of(bytes).into()));
        Request {
            method: head.method.of(bytes).into(),
            target: head.target.of(bytes).into(),
            path: head.path.of(bytes).into(),
            query: head.query.of(bytes).into(),
            authority: head.authority.map(|authority| authority.of(bytes).into()),
            is_http_11: head.version == Version::Http11,
            fields: fields.collect(),
            dropped_count: head.dropped_count,
            keeps_alive: head.keeps_alive,
            expects_continue: head.expects_continue,
            body: body.into(),
            forwarded: self.conn.forwarded().map(|stated| Forwarded::clone(stated)),
            end: self.used,
        }
    }
}

/// Whether a counter counts reads, writes or `100 Continue`, which cuts decide.
fn depends_on_reads(counter: Counter) -> bool {
    [Counter::ReqActive, Counter::RespActive, Counter::RespStatus1xx].contains(&counter)
}
