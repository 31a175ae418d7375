use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker_init::{Owner, WorkerExit};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::Side;
use arctos_worker::worker_init::Listener;

use super::message::{MAX_DESCRIPTORS, SpawnRequest};
use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

/// A zygote whose messages the test writes; its process sleeps.
struct Fixture {
    zygote: Zygote,
    its: Option<OwnedFd>,
    process: Child,
    start: Instant,
}

impl Fixture {
    fn booting() -> Self {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let (socket, its) = socket_pair().unwrap();
        let start = Instant::now();
        let zygote = Zygote {
            pid: Pid(process.id().cast_signed()),
            generation: Generation(1),
            preexisting: PreexistingProcesses::default(),
            socket,
            timeout: TIMEOUT,
            state: State::Booting { deadline: start + TIMEOUT, is_late: false },
            queue: VecDeque::new(),
            last_number: 0,
        };
        Self { zygote, its: Some(its), process, start }
    }

    fn ready() -> Self {
        let mut fixture = Self::booting();
        let message = ZygoteMessage::Ready { threads: Vec::new(), sockets: Vec::new() };
        let events = ZygoteEvent::Ready { threads: Vec::new(), sockets: Vec::new() };
        assert_eq!(fixture.receives(message), [events]);
        fixture
    }

    fn t(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn sends(&self, message: ZygoteMessage) {
        let socket = self.its.as_ref().unwrap().as_raw_fd();
        send(socket, &message.encode(), MsgFlags::empty()).unwrap();
    }

    /// Returns the events that the supervisor derives from a message.
    fn receives(&mut self, message: ZygoteMessage) -> Vec<ZygoteEvent> {
        self.sends(message);
        self.zygote.receive(&our_child, self.start)
    }

    fn order(&mut self, slot: u16) -> Vec<ZygoteEvent> {
        self.zygote.spawn(order(slot), self.start)
    }

    /// Returns the request that the zygote received, if there is one.
    fn request(&self) -> Option<SpawnRequest> {
        let mut packet = [0; 1024];
        let socket = self.its.as_ref().unwrap().as_raw_fd();
        match recv(socket, &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => SpawnRequest::decode(&packet[..length]),
            Err(_) => None,
        }
    }

    /// Ends the zygote's side of the socket. Closing it would not suffice: a child that another test is about to execute may
    /// hold it, too.
    fn hang_up(&mut self) {
        let its = self.its.take().unwrap();
        shutdown(its.as_raw_fd(), Shutdown::Both).unwrap();
    }

    fn is_killed(&mut self) -> bool {
        let _ = self.its.take();
        self.process.wait().unwrap().code().is_none()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.process.kill(); // The process may already be dead.
        let _ = self.process.wait();
    }
}

/// Classifies every process as a child of the supervisor.
fn our_child(_: Pid) -> Parentage {
    Parentage::OurChild
}

fn order(slot: u16) -> SpawnOrder {
    let end = || OwnedFd::from(UnixStream::pair().unwrap().0);
    let name = SocketName::Unix("/run/x".to_owned());
    SpawnOrder {
        slot: SlotId(slot),
        side: Side::A,
        control_fd: end(),
        doorbell: end(),
        listeners: vec![Listener { socket: end(), name, owner: Owner::Supervisor }],
        access_log: None,
        group: None,
    }
}

fn started(slot: u16, pid: i32) -> ZygoteEvent {
    ZygoteEvent::Started { slot: SlotId(slot), side: Side::A, pid: Pid(pid) }
}

fn not_started(slot: u16, cause: SpawnFailure) -> ZygoteEvent {
    ZygoteEvent::SpawnFailed { slot: SlotId(slot), side: Side::A, cause }
}

#[test]
fn orders_wait_for_a_ready_zygote_and_for_the_previous_order() {
    let mut fixture = Fixture::booting();
    assert_eq!(fixture.order(0), []);
    assert_eq!(fixture.order(1), []);
    assert_eq!(fixture.request(), None);
    let (threads, sockets) = (vec!["t".to_owned()], Vec::new());
    let events = fixture
        .receives(ZygoteMessage::Ready { threads: threads.clone(), sockets: sockets.clone() });
    assert_eq!(events, [ZygoteEvent::Ready { threads, sockets }]);
    let first = fixture.request().unwrap();
    assert_eq!((first.slot, fixture.request()), (SlotId(0), None));
    let events = fixture.receives(ZygoteMessage::Started { number: first.number, pid: Pid(7) });
    assert_eq!(events, [started(0, 7)]);
    let second = fixture.request().unwrap();
    assert_eq!(second.slot, SlotId(1));
    let error = Errno::EAGAIN;
    let events = fixture.receives(ZygoteMessage::NotStarted { number: second.number, error });
    assert_eq!(events, [not_started(1, SpawnFailure::Fork(error))]);
    assert_eq!(fixture.zygote.next_deadline(), None);
}

#[test]
fn a_second_answer_to_an_order_is_ignored() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    fixture.order(0);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid: Pid(7) });
    let events = fixture.receives(ZygoteMessage::NotStarted { number, error: Errno::ECANCELED });
    assert_eq!(events, [started(0, 7)]);
    let number = fixture.request().unwrap().number;
    assert_eq!(fixture.receives(ZygoteMessage::Started { number, pid: Pid(8) }), [started(0, 8)]);
}

#[test]
fn the_end_of_its_socket_fails_all_orders_and_kills_the_zygote() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    fixture.order(1);
    fixture.hang_up();
    let events = fixture.zygote.receive(&our_child, fixture.start);
    assert_eq!(events, [not_started(0, SpawnFailure::Gone), not_started(1, SpawnFailure::Gone)]);
    assert!(fixture.zygote.poll_fd().is_none() && !fixture.zygote.accepts_orders());
    assert_eq!(fixture.order(2), [not_started(2, SpawnFailure::Gone)]);
    assert!(fixture.is_killed());
    let status = ExitStatus::Signal(9);
    let events = fixture.zygote.exited(status, &our_child, fixture.start);
    assert_eq!(events, [ZygoteEvent::Ended { status, ending: ZygoteEnding::Died }]);
}

#[test]
fn messages_sent_before_the_exit_are_read_even_if_the_socket_is_open() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    fixture.order(1);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid: Pid(7) });
    let status = ExitStatus::Code(0);
    let events = fixture.zygote.exited(status, &our_child, fixture.start);
    let ended = ZygoteEvent::Ended { status, ending: ZygoteEnding::Died };
    assert_eq!(events, [started(0, 7), not_started(1, SpawnFailure::Gone), ended]);
}

#[test]
fn an_application_that_cannot_be_loaded_fails_all_orders() {
    let mut fixture = Fixture::booting();
    fixture.order(0);
    let (exit, report) = (WorkerExit::NotImportable, "Traceback".to_owned());
    let events = fixture.receives(ZygoteMessage::Failed { exit, report: report.clone() });
    let cause = SpawnFailure::NotLoaded(exit);
    assert_eq!(events, [ZygoteEvent::Failed { exit, report }, not_started(0, cause)]);
    let status = ExitStatus::Code(4);
    let events = fixture.zygote.exited(status, &our_child, fixture.start);
    assert_eq!(events, [ZygoteEvent::Ended { status, ending: ZygoteEnding::Explained }]);
}

#[test]
fn a_hanging_import_is_killed_after_the_deadline() {
    let mut fixture = Fixture::booting();
    fixture.order(0);
    assert_eq!(fixture.zygote.next_deadline(), Some(fixture.t(60)));
    assert_eq!(fixture.zygote.check_deadlines(fixture.t(59)), []);
    let not_ready = ZygoteEvent::NotReady { limit: Duration::from_secs(60) };
    assert_eq!(fixture.zygote.check_deadlines(fixture.t(60)), [not_ready]);
    assert_eq!(fixture.zygote.check_deadlines(fixture.t(60)), []);
    let events = fixture.zygote.check_deadlines(fixture.t(61));
    let killed = ZygoteEvent::Killed { reason: ZygoteDelay::Boot };
    assert_eq!(events, [killed, not_started(0, SpawnFailure::TimedOut)]);
    assert_eq!(fixture.zygote.check_deadlines(fixture.t(62)), []);
    assert!(fixture.is_killed());
}

#[test]
fn a_zygote_that_does_not_answer_an_order_is_killed() {
    let mut fixture = Fixture::ready();
    assert_eq!(fixture.zygote.check_deadlines(fixture.t(1000)), []);
    fixture.order(0);
    fixture.order(1);
    let events = fixture.zygote.check_deadlines(fixture.t(60));
    let killed = ZygoteEvent::Killed { reason: ZygoteDelay::Fork };
    let late = SpawnFailure::TimedOut;
    assert_eq!(events, [killed, not_started(0, late), not_started(1, late)]);
    assert!(fixture.is_killed());
}

#[test]
fn a_zygote_that_shuts_down_answers_only_the_order_that_it_has() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    fixture.order(1);
    let number = fixture.request().unwrap().number;
    assert_eq!(
        fixture.zygote.shut_down(TIMEOUT, fixture.start),
        [not_started(1, SpawnFailure::Withdrawn)]
    );
    assert_eq!(fixture.order(2), [not_started(2, SpawnFailure::Withdrawn)]);
    assert_eq!(recv(fixture.its.as_ref().unwrap().as_raw_fd(), &mut [0], MsgFlags::empty()), Ok(0));
    assert_eq!(fixture.receives(ZygoteMessage::Started { number, pid: Pid(7) }), [started(0, 7)]);
    assert_eq!(fixture.request(), None);
    let killed = ZygoteEvent::Killed { reason: ZygoteDelay::Exit };
    assert_eq!(fixture.zygote.check_deadlines(fixture.t(60)), [killed]);
    assert!(fixture.is_killed());
}

#[test]
fn a_zygote_that_is_shut_down_while_it_boots_is_killed() {
    let mut fixture = Fixture::booting();
    fixture.order(0);
    assert_eq!(
        fixture.zygote.shut_down(TIMEOUT, fixture.start),
        [not_started(0, SpawnFailure::Withdrawn)]
    );
    assert!(fixture.is_killed());
    let status = ExitStatus::Signal(9);
    let events = fixture.zygote.exited(status, &our_child, fixture.start);
    assert_eq!(events, [ZygoteEvent::Ended { status, ending: ZygoteEnding::Requested }]);
}

#[test]
fn an_order_with_too_many_descriptors_fails_alone() {
    let mut fixture = Fixture::ready();
    let mut large = order(0);
    while large.listeners.len() < MAX_DESCRIPTORS {
        large.listeners.extend(order(0).listeners);
    }
    let failed = not_started(0, SpawnFailure::NotSent(Errno::EMSGSIZE));
    assert_eq!(fixture.zygote.spawn(large, fixture.start), [failed]);
    assert_eq!(fixture.order(1), []);
    assert_eq!(fixture.request().unwrap().slot, SlotId(1));
}

/// The zygote was killed for this violation, and its pending order failed.
fn is_distrusted(fixture: &mut Fixture, events: &[ZygoteEvent], violation: ProtocolViolation) {
    let failed = not_started(0, SpawnFailure::Distrusted);
    assert_eq!(events, [ZygoteEvent::Distrusted { violation }, failed]);
    assert!(fixture.zygote.poll_fd().is_none() && !fixture.zygote.accepts_orders());
    assert!(fixture.is_killed());
    let status = ExitStatus::Signal(9);
    let events = fixture.zygote.exited(status, &our_child, fixture.start);
    assert_eq!(events, [ZygoteEvent::Ended { status, ending: ZygoteEnding::Explained }]);
}

#[test]
fn a_zygote_that_sends_a_malformed_message_is_killed() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    send(fixture.its.as_ref().unwrap().as_raw_fd(), b"?", MsgFlags::empty()).unwrap();
    let events = fixture.zygote.receive(&our_child, fixture.start);
    is_distrusted(&mut fixture, &events, ProtocolViolation::Malformed);
}

#[test]
fn another_child_of_the_supervisor_is_not_accepted_as_a_worker() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid: Pid(7) });
    let events = fixture.zygote.receive(&|_| Parentage::Foreign, fixture.start);
    is_distrusted(&mut fixture, &events, ProtocolViolation::ForeignProcess { pid: Pid(7) });
}

#[test]
fn a_child_older_than_the_zygote_is_not_accepted_as_a_worker() {
    let mut fixture = Fixture::ready();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = Pid(child.id().cast_signed()); // `our_child` alone would accept it.
    fixture.zygote.preexisting = PreexistingProcesses::record();
    fixture.order(0);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid });
    let events = fixture.zygote.receive(&our_child, fixture.start);
    is_distrusted(&mut fixture, &events, ProtocolViolation::ForeignProcess { pid });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_that_never_becomes_our_child_is_not_accepted() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid: Pid(7) });
    let not_yet = |_| Parentage::NotYetOurs;
    for ms in [0, 2, 4, 4998] {
        let now = fixture.start + Duration::from_millis(ms);
        assert_eq!(fixture.zygote.receive(&not_yet, now), []);
        assert_eq!(fixture.zygote.check_deadlines(now), []);
        assert_eq!(
            fixture.zygote.next_deadline(),
            Some(now + ADOPTION_CHECK),
            "the parent is checked again"
        );
    }
    let events = fixture.zygote.check_deadlines(fixture.t(5));
    is_distrusted(&mut fixture, &events, ProtocolViolation::ForeignProcess { pid: Pid(7) });
}

#[test]
fn a_process_that_becomes_our_child_a_moment_later_is_accepted() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid: Pid(7) });
    assert_eq!(fixture.zygote.receive(&|_| Parentage::NotYetOurs, fixture.start), []);
    assert_eq!(fixture.zygote.receive(&our_child, fixture.start), [started(0, 7)]);
    assert_eq!(fixture.zygote.next_deadline(), None);
}

#[test]
fn a_reported_worker_exists_even_if_its_fork_is_reported_failed() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    let number = fixture.request().unwrap().number;
    fixture.sends(ZygoteMessage::Started { number, pid: Pid(7) });
    assert_eq!(fixture.zygote.receive(&|_| Parentage::NotYetOurs, fixture.start), []);
    let events = fixture.receives(ZygoteMessage::NotStarted { number, error: Errno::ECANCELED });
    assert_eq!(events, [started(0, 7)]);
}

#[test]
fn an_answer_to_an_unknown_order_is_a_violation() {
    let mut fixture = Fixture::ready();
    fixture.order(0);
    let number = fixture.request().unwrap().number + 1;
    let events = fixture.receives(ZygoteMessage::Started { number, pid: Pid(7) });
    is_distrusted(&mut fixture, &events, ProtocolViolation::UnknownOrder);
    let mut fixture = Fixture::booting();
    fixture.order(0);
    let events = fixture.receives(ZygoteMessage::Started { number: 0, pid: Pid(7) });
    is_distrusted(&mut fixture, &events, ProtocolViolation::UnknownOrder);
}

#[test]
fn a_zygote_that_closed_its_socket_is_killed() {
    let mut fixture = Fixture::ready();
    fixture.hang_up(); // The application has closed the socket, and the process lives on.
    let failed =
        ZygoteEvent::SpawnFailed { slot: SlotId(0), side: Side::A, cause: SpawnFailure::Gone };
    assert_eq!(fixture.order(0), [failed]);
    assert!(fixture.is_killed());
}

#[test]
fn a_second_boot_result_is_a_violation() {
    let (threads, sockets) = (Vec::new(), Vec::new());
    let (exit, report) = (WorkerExit::NotBooted, String::new());
    for message in
        [ZygoteMessage::Ready { threads, sockets }, ZygoteMessage::Failed { exit, report }]
    {
        let mut fixture = Fixture::ready();
        fixture.order(0);
        let events = fixture.receives(message);
        is_distrusted(&mut fixture, &events, ProtocolViolation::RepeatedBootResult);
    }
}
