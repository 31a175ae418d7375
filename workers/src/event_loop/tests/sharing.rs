//! A worker that shares its kept connections. The test is the supervisor and the other worker of the group.

use std::cell::RefCell;
use std::os::fd::AsRawFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};

use super::*;
use crate::connection::ConnInfo;
use crate::connection::facts::{self, Reading};
use crate::event_loop::claimed_place::ClaimedPlace;
use crate::shared::connection_table::message::{self, Kind, MESSAGE_BYTES};
use crate::shared::connection_table::{ConnectionTable, Life, Member, PlaceKey};
use crate::shared::fd::{Datagram, datagram_pair, receive_datagram, send_datagram};
use crate::worker_init::GroupMembership;

const ME: u8 = 0;
const OTHER: u8 = 2;
const PLACES: u32 = 16;

/// The rest of the group.
struct Others {
    table: ConnectionTable,
    mailbox: OwnedFd,
    around: Surroundings,
    /// Their descriptors of what the test has shared.
    held: RefCell<Vec<UnixStream>>,
}

impl Others {
    fn of<A: Application>(app: &mut A) -> (EventLoop<'_, A>, Self) {
        Self::among(app, KeepaliveMode::Shared, &[ME, OTHER])
    }

    fn among<'app, A: Application>(
        app: &'app mut A,
        mode: KeepaliveMode,
        members: &[u8],
    ) -> (EventLoop<'app, A>, Self) {
        let table = ConnectionTable::create(PLACES).unwrap();
        for number in members {
            table.add_slot(*number);
            table.set_serving(*number, true);
        }
        let (mailbox, worker_mailbox) = datagram_pair().unwrap();
        let (event_loop, around) = Surroundings::with(app, |init| {
            init.settings.keepalive_mode = mode;
            let mailbox = worker_mailbox;
            init.group = Some(GroupMembership { table, index: 0, number: ME, mailbox });
        });
        (event_loop, Self { table, mailbox, around, held: RefCell::default() })
    }

    /// Has the worker hold an idle connection. The client is at the other end of a Unix socket, which delivers at once.
    fn share(&self) -> (PlaceKey, UnixStream) {
        let (client, socket) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let key = self.table.allocate(member(OTHER), 0).unwrap();
        let record = self.table.record(key.index).unwrap();
        let unix = || SocketName::Unix(String::new());
        let clock = clock::Clock::start();
        let reading = Reading { instant: clock.now(), monotonic: clock.monotonic() };
        let mut bytes = [0; 64];
        let info = ConnInfo::new(unix(), unix(), clock.now());
        let len = facts::encode(&info, reading, &mut bytes).unwrap();
        record.set_facts(&bytes[..len]).unwrap();
        record.set_used_at(clock.monotonic());
        let install = message::encode(Kind::Install, &[key]);
        send_datagram(self.mailbox.as_fd(), &install, &[socket.as_raw_fd()]).unwrap();
        record.place.release(key.generation);
        self.held.borrow_mut().push(socket);
        (key, client)
    }

    fn look(&self, keys: &[PlaceKey]) {
        send_datagram(self.mailbox.as_fd(), &message::encode(Kind::Look, keys), &[]).unwrap();
    }

    fn claim(&self, key: PlaceKey) -> ClaimedPlace {
        let record = self.table.record(key.index).unwrap();
        record.place.claim(key.generation, member(OTHER)).unwrap();
        ClaimedPlace { key, record, member: member(OTHER) }
    }

    fn life(&self, key: PlaceKey) -> Life {
        let (generation, life) = self.table.record(key.index).unwrap().place.read();
        assert_eq!(generation, key.generation);
        life
    }

    /// What the worker has sent to the supervisor.
    fn sent(&self) -> Vec<(Kind, Vec<PlaceKey>, Vec<OwnedFd>)> {
        std::iter::from_fn(|| {
            let (mut bytes, mut sockets) = ([0; MESSAGE_BYTES], Vec::new());
            let mailbox = self.mailbox.as_fd();
            let Datagram::Received(len) = receive_datagram(mailbox, &mut bytes, &mut sockets)
            else {
                return None;
            };
            let (kind, keys) = message::decode(&bytes[..len]).unwrap();
            Some((kind, keys.collect(), sockets))
        })
        .collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        self.sent().into_iter().map(|(kind, ..)| kind).collect()
    }
}

fn member(number: u8) -> Member {
    Member::worker(number).unwrap()
}

/// Turns until this is so.
fn turn_until<A: Application>(event_loop: &mut EventLoop<'_, A>, is_so: impl Fn() -> bool) {
    while !is_so() {
        assert!(!event_loop.turn().unwrap());
    }
}

fn answer(client: &mut impl Read) -> String {
    let mut bytes = [0; 4096];
    let count = client.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

/// Whether something has arrived for the client, which may be the end of the connection.
fn has_answer(client: &UnixStream) -> bool {
    let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

#[test]
fn a_connection_is_shared_after_its_first_response() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let mut client = others.around.request("/");
    turn_until(&mut event_loop, || others.table.len() == 1);
    let [(Kind::Offer, keys, sockets)] = &others.sent()[..] else { panic!("not offered") };
    assert_eq!((keys.len(), sockets.len()), (1, 1));
    assert_eq!(others.life(keys[0]), Life::Idle);
    assert!(event_loop.clients.table.is_empty());
    assert_eq!(others.around.entry.open_connections(), 0);
    client.write_all(&request("/")).unwrap();
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 2);
    assert_eq!(others.life(keys[0]), Life::Idle);
    assert!(others.sent().is_empty(), "its descriptor is sent once");
}

#[test]
fn a_connection_stays_with_its_worker_if_it_cannot_be_offered() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    shutdown(others.mailbox.as_raw_fd(), Shutdown::Read).unwrap();
    let mut client = others.around.request("/");
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 1);
    assert!(others.table.is_empty(), "its place is free again");
    assert_eq!(event_loop.clients.table.len(), 1);
    client.write_all(&request("/")).unwrap();
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 2);
}

#[test]
fn the_event_of_a_claimed_connection_is_left_to_its_holder() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let (key, mut client) = others.share();
    assert!(!event_loop.turn().unwrap());
    let place = others.claim(key);
    client.write_all(&request("/")).unwrap();
    assert!(!event_loop.turn().unwrap());
    assert_eq!(others.life(key), Life::Claimed(member(OTHER)));
    place.record.place.release(key.generation);
    others.look(&[key]);
    turn_until(&mut event_loop, || has_answer(&client));
    assert!(answer(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(others.life(key), Life::Idle);
}

#[test]
fn an_event_that_another_worker_has_served_leaves_the_connection_idle() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let (key, client) = others.share();
    others.look(&[key]);
    for _ in 0..3 {
        assert!(!event_loop.turn().unwrap());
    }
    assert_eq!(others.life(key), Life::Idle);
    assert!(!has_answer(&client));
    assert_eq!(others.around.entry.open_connections(), 0);
}

#[test]
fn what_is_shown_of_a_request_tells_what_may_be_done_if_the_worker_dies() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let (key, mut client) = others.share();
    assert!(!event_loop.turn().unwrap());
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert!(!event_loop.turn().unwrap());
    assert_eq!(others.life(key), Life::Reading(member(ME)));
    assert_eq!(others.around.entry.open_connections(), 1);
    client.write_all(b"Host: test\r\n\r\n").unwrap();
    assert!(!event_loop.turn().unwrap());
    assert_eq!(others.life(key), Life::Idle);
    assert!(answer(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
}

/// Answers every request. In each call, the hot client sends its next request.
struct Hot {
    reply: App,
    client: UnixStream,
    calls: Vec<String>,
}

impl Application for Hot {
    type Body = NoItems;

    fn call(
        &mut self,
        request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, NoItems>, AppError> {
        let path = request.head.path.of(request.head_bytes);
        self.calls.push(String::from_utf8_lossy(path).into_owned());
        if path == b"/hot" {
            self.client.write_all(&super::request("/hot")).unwrap();
        }
        self.reply.call(request, outlet)
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

#[test]
fn a_client_that_always_has_a_request_does_not_keep_others_waiting() {
    let (placeholder, _) = UnixStream::pair().unwrap();
    let mut app = Hot { reply: app(2), client: placeholder, calls: Vec::new() };
    let (mut event_loop, others) = Others::of(&mut app);
    let ((quiet, mut quiet_client), (hot, mut hot_client)) = (others.share(), others.share());
    for _ in 0..2 {
        assert!(!event_loop.turn().unwrap());
    }
    event_loop.app.client = hot_client.try_clone().unwrap();
    let places = [others.claim(quiet), others.claim(hot)];
    quiet_client.write_all(&request("/quiet")).unwrap();
    hot_client.write_all(&request("/hot")).unwrap();
    assert!(!event_loop.turn().unwrap(), "both events are gone");
    places.iter().for_each(|place| place.record.place.release(place.key.generation));
    others.look(&[quiet, hot]);
    for _ in 0..2 {
        assert!(!event_loop.turn().unwrap());
    }
    assert!(event_loop.app.calls.contains(&"/quiet".to_owned()), "{:?}", event_loop.app.calls);
}

#[test]
fn a_client_that_left_while_its_request_waited_is_abandoned() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let (key, mut client) = others.share();
    assert!(!event_loop.turn().unwrap());
    client.write_all(&request("/")).unwrap();
    drop(client);
    assert!(!event_loop.turn().unwrap());
    assert_eq!(others.around.entry.counters.get(Counter::RespDone), 0);
    assert_eq!(event_loop.context.requests.begun, 0, "the application was not called");
    let place = &others.table.record(key.index).unwrap().place;
    assert_eq!(place.read(), (key.generation + 1, Life::Free));
}

#[test]
fn a_worker_that_exits_leaves_the_group_and_begins_no_request() {
    let mut app = app(TOO_MUCH);
    let (mut event_loop, others) = Others::of(&mut app);
    let _slow = others.around.request("/");
    assert!(!event_loop.turn().unwrap());
    let (key, mut client) = others.share();
    assert!(!event_loop.turn().unwrap());
    client.write_all(&request("/")).unwrap();
    others.around.command(Command::Quick);
    for _ in 0..2 {
        assert!(!event_loop.turn().unwrap(), "a reply is on its way");
    }
    assert_eq!(others.life(key), Life::Idle);
    assert!(!has_answer(&client));
    assert!(others.kinds().contains(&Kind::Leave));
}

#[test]
fn a_worker_that_drains_gives_its_idle_connections_to_the_others() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let (key, client) = others.share();
    assert!(!event_loop.turn().unwrap());
    let _silent = TcpStream::connect(others.around.address).unwrap();
    turn_until(&mut event_loop, || {
        others.around.entry.counters.get(Counter::ConnAcceptSuccess) == 1
    });
    assert!(others.kinds().is_empty(), "it is not shared yet");
    others.around.command(Command::Drain);
    event_loop.turn().unwrap();
    assert_eq!(others.kinds(), [Kind::Offer, Kind::Leave]);
    assert_eq!((others.life(key), others.table.len()), (Life::Idle, 2));
    assert!(!has_answer(&client), "its connection is still open");
    assert!(event_loop.clients.table.is_empty());
}

/// Has a worker answer requests that it has begun to read when it drains: one of a shared connection and one of its own.
fn answers_of_a_drain(members: &[u8]) -> ([String; 2], Vec<Kind>, u32) {
    let mut app = app(2);
    let (mut event_loop, others) = Others::among(&mut app, KeepaliveMode::Shared, members);
    let (key, mut shared) = others.share();
    let mut own = TcpStream::connect(others.around.address).unwrap();
    own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    shared.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    own.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::BytesIn) == 32);
    assert_eq!(others.life(key), Life::Reading(member(ME)));
    others.around.command(Command::Drain);
    assert!(!event_loop.turn().unwrap());
    shared.write_all(b"Host: test\r\n\r\n").unwrap();
    own.write_all(b"Host: test\r\n\r\n").unwrap();
    while !event_loop.turn().unwrap() {}
    let answers = [answer(&mut shared), answer(&mut own)];
    (answers, others.kinds(), others.table.len())
}

#[test]
fn a_worker_that_drains_leaves_connections_to_the_others_after_their_replies() {
    let (answers, kinds, shared_count) = answers_of_a_drain(&[ME, OTHER]);
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("close"), "{answer}");
    }
    assert_eq!((kinds, shared_count), (vec![Kind::Leave, Kind::Offer], 2));
}

#[test]
fn a_worker_that_drains_while_no_other_serves_closes_connections_after_their_replies() {
    let (answers, kinds, shared_count) = answers_of_a_drain(&[ME]);
    for answer in answers {
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    assert_eq!((kinds, shared_count), (vec![Kind::Leave], 0));
}

#[test]
fn a_worker_that_drains_waits_for_room_to_share_its_connections() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let _clients: Vec<_> =
        (0..3).map(|_| TcpStream::connect(others.around.address).unwrap()).collect();
    turn_until(&mut event_loop, || {
        others.around.entry.counters.get(Counter::ConnAcceptSuccess) == 3
    });
    let mailbox = event_loop.clients.sharing.as_ref().unwrap().mailbox().unwrap();
    while send_datagram(mailbox, b"?", &[]).is_ok() {}
    others.around.command(Command::Drain);
    event_loop.turn().unwrap();
    assert_eq!(event_loop.clients.table.len(), 3);
    let full = others.mailbox.as_fd();
    while matches!(receive_datagram(full, &mut [0], &mut Vec::new()), Datagram::Received(_)) {}
    while !event_loop.turn().unwrap() {}
    assert_eq!(others.table.len(), 3, "all are shared before it exits");
    let sent = others.sent();
    let counts = sent.iter().map(|(kind, keys, sockets)| (*kind, keys.len(), sockets.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [(Kind::Leave, 0, 0), (Kind::Offer, 3, 3)]);
}

#[test]
fn a_single_worker_shares_nothing_until_it_leaves() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::among(&mut app, KeepaliveMode::Shared, &[ME]);
    let _client = others.around.request("/");
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 1);
    assert_eq!((event_loop.clients.table.len(), others.table.len()), (1, 0));
    others.around.command(Command::Drain);
    while !event_loop.turn().unwrap() {}
    assert_eq!((others.kinds(), others.table.len()), (vec![Kind::Offer, Kind::Leave], 1));
}

#[test]
fn a_fast_application_gets_its_connections_back_evenly() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::among(&mut app, KeepaliveMode::Auto, &[ME, OTHER]);
    let mut clients: Vec<_> = (0..4).map(|_| others.share()).collect();
    let counters = &others.around.entry.counters;
    for (number, (_, client)) in (1..).zip(&mut clients) {
        client.write_all(&request("/")).unwrap();
        turn_until(&mut event_loop, || counters.get(Counter::RespDone) == number);
    }
    // The other worker has none. With one of its own, this one is one above the mean.
    let lives = clients.iter().map(|(key, _)| others.table.record(key.index).unwrap().place.read());
    let shared = lives.filter(|(_, life)| *life == Life::Idle).count();
    assert_eq!((event_loop.clients.table.len(), shared), (2, 2));
}

#[test]
fn a_connection_does_not_become_younger_when_it_is_passed_on() {
    const IDLE: Duration = Duration::from_secs(60);
    let mut app = app(2);
    let (mut event_loop, others) = Others::among(&mut app, KeepaliveMode::Auto, &[ME, OTHER]);
    let _client = others.around.request("/");
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 1);
    event_loop.context.clock.pass(IDLE);
    others.around.command(Command::Drain);
    while !event_loop.turn().unwrap() {}
    let used_at = others.table.record(0).unwrap().used_at();
    let idle = event_loop.context.clock.monotonic() - used_at;
    assert!(idle >= IDLE, "{idle:?}");
}

#[test]
fn a_look_at_a_connection_is_no_use_of_it() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let (key, mut client) = others.share();
    let used_at = || others.table.record(key.index).unwrap().used_at();
    let shared_at = used_at();
    others.look(&[key]);
    event_loop.turn().unwrap();
    assert_eq!(used_at(), shared_at);
    client.write_all(&request("/")).unwrap();
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 1);
    assert!(used_at() > shared_at);
}

#[test]
fn idle_connections_of_others_count_against_the_limit() {
    let mut app = app(2);
    let (mut event_loop, others) = Others::of(&mut app);
    let clients: Vec<_> = (0..2).map(|_| others.share()).collect();
    for _ in &clients {
        event_loop.turn().unwrap(); // installs one
    }
    event_loop.clients.limit = clients.len();
    let _client = others.around.request("/");
    let counters = &others.around.entry.counters;
    turn_until(&mut event_loop, || counters.get(Counter::RespDone) == 1);
    assert_eq!(others.table.len(), 2, "the third one is not shared");
}
