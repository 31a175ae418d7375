//! Many connections share one set of counters. Whatever happens to them, and in whatever order, the counts add up
//! whenever no connection is in the middle of a step.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x00\xa5",
];

/// What the application does with a request.
#[derive(Clone, Debug)]
enum Answer {
    /// One item, whose length is known.
    Whole(usize),
    /// Items one by one, and then an end or a failure.
    Items { promised: Option<&'static str>, lengths: Vec<usize>, end: End },
    /// `write()` of this many bytes, then an end or a failure.
    Written { bytes: usize, end: End },
    /// A file of this length, of which only a part exists.
    File { length: u64, existing: u64 },
    /// It raises.
    Raises,
    /// It is not called, because the request has waited for too long.
    IsNotCalled,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Tidy,
    Fails,
    /// It notices that the client is gone.
    ClientGone,
}

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Event {
    /// This many bytes of its requests arrive.
    Bytes(usize),
    /// The peer shuts down its sending direction.
    Eof,
    ReadError,
    /// The socket takes this many more bytes.
    Room(usize),
    /// From now on every write fails.
    WriteErrors,
    /// The peer is known to have left when the application is about to be called.
    HangsUp,
    /// The disk is full from now on.
    DiskIsFull,
    Expires(Timer),
    GivenUp,
}

/// One connection and its peer, without a socket.
struct Peer {
    conn: Connection<Vec<u8>>,
    /// What the peer will still send.
    unsent: Vec<u8>,
    pending: Vec<u8>,
    answers: Vec<Answer>,
    items: Vec<usize>,
    end: End,
    file_left: u64,
    room: usize,
    writes_fail: bool,
    hung_up: bool,
    disk_is_full: bool,
}

/// Everything that the connections share.
struct Shared {
    settings: Settings,
    date: HttpDate,
    entry: &'static WorkerEntry,
    persistence: Persistence,
}

impl Shared {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.limits.requests_per_connection = 4;
        let date = HttpDate::at(SystemTime::UNIX_EPOCH);
        let persistence = Persistence::KeepAlive;
        Self { settings, date, entry: WorkerEntry::detached(), persistence }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            settings: &self.settings,
            date: &self.date,
            counters: &self.entry.counters,
            persistence: self.persistence,
            request_id: None,
        }
    }
}

impl Peer {
    fn open(unsent: Vec<u8>, answers: Vec<Answer>, room: usize, shared: &Shared) -> Self {
        let address = SocketName::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let (peer, local) = (address.clone(), address);
        // Not the state machine but the acceptor counts it.
        shared.entry.counters.inc(Counter::ConnAcceptSuccess);
        Self {
            conn: Connection::new(ConnInfo::new(peer, local, Instant::now())),
            unsent,
            pending: Vec::new(),
            answers,
            items: Vec::new(),
            end: End::Tidy,
            file_left: 0,
            room,
            writes_fail: false,
            hung_up: false,
            disk_is_full: false,
        }
    }

    fn handle(&mut self, event: &Event, shared: &Shared) {
        match event {
            Event::Bytes(count) if self.reads() => {
                let count = (*count).min(self.unsent.len());
                self.pending.extend(self.unsent.drain(..count));
                if count > 0 {
                    self.conn.received();
                }
            }
            Event::Eof if self.reads() => self.conn.ended(&shared.entry.counters),
            Event::ReadError if self.reads() => self.conn.failed(&shared.entry.counters),
            Event::Bytes(_) | Event::Eof | Event::ReadError => {}
            Event::Room(count) => self.room += count,
            Event::WriteErrors => self.writes_fail = true,
            Event::HangsUp => self.hung_up = true,
            Event::DiskIsFull => self.disk_is_full = true,
            Event::Expires(timer) => self.conn.expire(*timer, &self.pending, &shared.rules()),
            Event::GivenUp => self.conn.give_up(&shared.entry.counters),
        }
        self.turn(shared);
    }

    /// Whether the shell reads in this state. It never does while a response waits for room.
    fn reads(&self) -> bool {
        match self.conn.state {
            State::Idle | State::Head(_) | State::Body(_) | State::Lingering(_) => {
                self.conn.write_buffer.is_empty()
            }
            State::Ready(_) | State::Replying(_) | State::Closed(_) => false,
        }
    }

    /// Takes steps until it has to wait, as `drive` does.
    fn turn(&mut self, shared: &Shared) {
        let rules = shared.rules();
        let counters = rules.counters;
        let mut head = Head::new();
        for _ in 0..10_000 {
            let mut input = Cursor::new(&self.pending);
            let step = self.conn.step(&mut input, &mut head, &rules);
            let taken = input.taken();
            let mut is_waiting = false;
            match step {
                Step::Read | Step::Close(_) => is_waiting = true,
                Step::Store(_) => {
                    if self.disk_is_full {
                        self.conn.refuse(RefusalReason::DiskFull, &rules);
                    }
                }
                Step::Call { .. } | Step::CallGathered => {
                    if matches!(step, Step::CallGathered) {
                        assert!(self.conn.take_gathered().is_some());
                    }
                    if self.hung_up {
                        self.conn.failed(counters);
                    } else {
                        self.answer(&rules);
                    }
                }
                Step::Refused(_) => {}
                Step::Pull => self.pull(&rules),
                Step::Write { parts, .. } => {
                    let count = parts.concat().len().min(self.room);
                    if self.writes_fail {
                        self.conn.failed(counters);
                    } else if count == 0 {
                        is_waiting = true;
                    } else {
                        self.room -= count;
                        self.conn.wrote(count, counters);
                    }
                }
                Step::SendFile { length, .. } => {
                    let count = length.min(self.room as u64);
                    if self.writes_fail {
                        self.conn.failed(counters);
                    } else if self.file_left == 0 {
                        self.conn.fail(&rules); // The file was truncated.
                    } else if count == 0 {
                        is_waiting = true;
                    } else {
                        let count = count.min(self.file_left);
                        self.room -= count as usize;
                        self.file_left -= count;
                        self.conn.wrote_file(count, counters);
                    }
                }
                Step::Finish => self.conn.finish(counters),
                Step::ShutWrite => self.conn.write_shut(),
            }
            self.pending.drain(..taken);
            if is_waiting {
                return;
            }
        }
        panic!("the state machine never waits");
    }

    fn pull(&mut self, rules: &Rules<'_>) {
        match (self.items.pop(), self.end) {
            (Some(length), _) => match self.conn.push_item(vec![b'i'; length]) {
                ItemFate::Queued => {}
                ItemFate::Overlong | ItemFate::Unwanted => self.conn.end_items(),
            },
            (None, End::Tidy) => self.conn.end_items(),
            (None, End::Fails) => self.conn.fail(rules),
            (None, End::ClientGone) => self.conn.failed(rules.counters),
        }
    }

    fn answer(&mut self, rules: &Rules<'_>) {
        let mut head = ResponseHead::default();
        head.start(b"200 OK").unwrap();
        match self.answers.pop().unwrap_or(Answer::Whole(5)) {
            Answer::Whole(length) => {
                self.conn.begin_reply(&head, Some(length as u64), rules);
                self.conn.push_item(vec![b'w'; length]);
                self.conn.end_items();
            }
            Answer::Items { promised, lengths, end } => {
                if let Some(promised) = promised {
                    head.add(b"Content-Length", promised.as_bytes()).unwrap();
                }
                self.conn.begin_reply(&head, None, rules);
                (self.items, self.end) = (lengths, end);
            }
            Answer::Written { bytes, end } => {
                self.conn.begin_reply(&head, None, rules);
                self.conn.push_bytes(&vec![b'b'; bytes]);
                if self.writes_fail {
                    self.conn.failed(rules.counters);
                }
                (self.items, self.end) = (Vec::new(), end);
                match end {
                    End::Tidy => {}
                    End::Fails => self.conn.fail(rules),
                    End::ClientGone => self.conn.failed(rules.counters),
                }
            }
            Answer::File { length, existing } => {
                self.conn.begin_reply(&head, Some(length), rules);
                self.file_left = existing;
                self.conn.push_file(0, length);
            }
            Answer::Raises => self.conn.fail(rules),
            Answer::IsNotCalled => {
                let (reason, request) = (RefusalReason::QueuedTooLong, PartialHead::default());
                self.conn.refuse_complete(Refused { reason, request, request_id: None }, rules);
            }
        }
    }

    /// Whether the end of the connection was not counted yet. Lingering was counted when it began.
    fn is_open(&self) -> bool {
        !matches!(self.conn.state, State::Lingering(_) | State::Closed(_))
    }
}

/// The invariants of the 15 counters.
fn assert_sums(shared: &Shared, peers: &[Peer]) {
    use Counter as C;
    let counters = &shared.entry.counters;
    let sum = |of: &[C]| of.iter().map(|&counter| counters.get(counter)).sum::<u64>();
    let count = |is_so: fn(&Peer) -> bool| peers.iter().filter(|peer| is_so(peer)).count() as u64;
    let open = count(Peer::is_open);
    let in_progress = count(|peer| peer.conn.is_replying());
    let closed = sum(&[C::RespConnClose, C::RespAborted, C::ReqAborted]);
    assert_eq!(sum(&[C::ConnAcceptSuccess]), closed + open, "AS = SC + SX + RX + open");
    assert_eq!(counters.unclosed(), open, "conn.open");
    let done = sum(&[C::ReqDone]);
    assert_eq!(sum(&[C::ReqSuccessRead, C::ReqErrorParse]), done, "RR + EP = RD");
    let lost = sum(&[C::ReqErrorClientDisconnected, C::ReqErrorRead]);
    assert_eq!(lost, sum(&[C::ReqAborted]), "CD + ER = RX");
    let sent = sum(&[C::RespDone]);
    assert_eq!(sent, sum(&[C::RespDoneKeepalive, C::RespConnClose]), "SD = SK + SC");
    assert_eq!(done, sent + sum(&[C::RespAborted]) + in_progress, "RD = SD + SX + in progress");
    assert!(sum(&[C::ReqErrorInternal]) <= sum(&[C::ReqSuccessRead]), "EI <= RR");
    assert!(sum(&[C::ReqAbandoned, C::ConnCloseIdle]) <= sum(&[C::ReqAborted]), "both are in RX");
}

fn any_end() -> impl Strategy<Value = End> {
    select(vec![End::Tidy, End::Tidy, End::Fails, End::ClientGone])
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let promised = select(vec![None, Some("0"), Some("3"), Some("40")]);
    prop_oneof![
        (0..40_usize).prop_map(Answer::Whole),
        (promised, vec(1..20_usize, 0..4), any_end())
            .prop_map(|(promised, lengths, end)| Answer::Items { promised, lengths, end }),
        (0..40_usize, any_end()).prop_map(|(bytes, end)| Answer::Written { bytes, end }),
        (0..40_u64, 0..60_u64).prop_map(|(length, existing)| Answer::File { length, existing }),
        Just(Answer::Raises),
        Just(Answer::IsNotCalled),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (1..80_usize).prop_map(Event::Bytes),
        6 => (1..400_usize).prop_map(Event::Room),
        1 => Just(Event::Eof),
        1 => Just(Event::ReadError),
        1 => Just(Event::WriteErrors),
        1 => Just(Event::HangsUp),
        1 => Just(Event::DiskIsFull),
        2 => select(Timer::ALL.to_vec()).prop_map(Event::Expires),
        1 => Just(Event::GivenUp),
    ]
}

/// The requests of one connection, their answers, and the room in its socket at first.
fn any_exchange() -> impl Strategy<Value = (Vec<u8>, Vec<Answer>, usize)> {
    let requests = vec(select(REQUESTS), 1..6).prop_map(|requests| requests.concat());
    let room = select(vec![0, 10, 300, 1_000_000]);
    (requests, vec(any_answer(), 0..6), room)
}

proptest! {
    #[test]
    fn the_counts_of_many_connections_add_up_whatever_happens(
        exchanges in vec(any_exchange(), 1..10),
        events in vec((any::<proptest::sample::Index>(), any_event()), 0..150),
        drains_after in 0..300_usize,
    ) {
        let mut shared = Shared::new();
        let mut peers = Vec::new();
        for (requests, answers, room) in exchanges {
            peers.push(Peer::open(requests, answers, room, &shared));
            assert_sums(&shared, &peers);
        }
        let mut before = Counter::ALL.map(|counter| shared.entry.counters.get(counter));
        for (at, (which, event)) in events.iter().enumerate() {
            if at == drains_after {
                shared.persistence = Persistence::Close;
            }
            which.get_mut(&mut peers).handle(event, &shared);
            assert_sums(&shared, &peers);
            let now = Counter::ALL.map(|counter| shared.entry.counters.get(counter));
            prop_assert!(before.iter().zip(&now).all(|(before, now)| before <= now));
            before = now;
        }
        for index in 0..peers.len() {
            peers[index].handle(&Event::GivenUp, &shared);
            prop_assert!(matches!(peers[index].conn.state, State::Closed(_)));
            assert_sums(&shared, &peers);
        }
        prop_assert_eq!(shared.entry.counters.unclosed(), 0);
    }
}
