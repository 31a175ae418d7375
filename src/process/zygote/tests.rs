use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker_init::{Owner, WorkerExit};
use nix::sys::socket::{MsgFlags, recv, send};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A zygote whose words are the test's; its process sleeps.
struct Play {
    zygote: Zygote,
    its: Option<OwnedFd>,
    process: Child,
    start: Instant,
}

impl Play {
    fn booting() -> Self {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let (line, its) = pair().unwrap();
        let start = Instant::now();
        let zygote = Zygote {
            pid: Pid(process.id().cast_signed()),
            generation: Generation(1),
            elders: Elders::default(),
            line,
            patience: PATIENCE,
            state: State::Booting { deadline: start + PATIENCE, is_late: false },
            queue: VecDeque::new(),
            last_number: 0,
        };
        Self { zygote, its: Some(its), process, start }
    }

    fn ready() -> Self {
        let mut play = Self::booting();
        let words = Word::Ready { threads: Vec::new(), sockets: Vec::new() };
        let news = News::Ready { threads: Vec::new(), sockets: Vec::new() };
        assert_eq!(play.hears(words), [news]);
        play
    }

    fn t(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn says(&self, word: Word) {
        let line = self.its.as_ref().unwrap().as_raw_fd();
        send(line, &word.encode(), MsgFlags::empty()).unwrap();
    }

    /// What the supervisor makes of a word.
    fn hears(&mut self, word: Word) -> Vec<News> {
        self.says(word);
        self.zygote.listen(&believe, self.start)
    }

    fn order(&mut self, slot: u16) -> Vec<News> {
        self.zygote.spawn(order(slot), self.start)
    }

    /// The order that it was told, if it was told one.
    fn told(&self) -> Option<Brief> {
        let mut packet = [0; 1024];
        let line = self.its.as_ref().unwrap().as_raw_fd();
        match recv(line, &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Brief::decode(&packet[..length]),
            Err(_) => None,
        }
    }

    fn is_killed(&mut self) -> bool {
        let _ = self.its.take();
        self.process.wait().unwrap().code().is_none()
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have been killed.
        let _ = self.process.wait();
    }
}

/// Every process is the supervisor's child.
fn believe(_: Pid) -> Admission {
    Admission::Child
}

fn order(slot: u16) -> Order {
    let end = || OwnedFd::from(UnixStream::pair().unwrap().0);
    let name = SocketName::Unix("/run/x".to_owned());
    Order {
        slot: SlotId(slot),
        side: Side::A,
        life: end(),
        doorbell: end(),
        listeners: vec![Listener { socket: end(), name, owner: Owner::Supervisor }],
        access_log: None,
    }
}

fn started(slot: u16, pid: i32) -> News {
    News::Started { slot: SlotId(slot), side: Side::A, pid: Pid(pid) }
}

fn not_started(slot: u16, cause: SpawnCause) -> News {
    News::SpawnFailed { slot: SlotId(slot), side: Side::A, cause }
}

#[test]
fn orders_wait_until_it_is_ready_and_then_for_one_another() {
    let mut play = Play::booting();
    assert_eq!(play.order(0), []);
    assert_eq!(play.order(1), []);
    assert_eq!(play.told(), None);
    let (threads, sockets) = (vec!["t".to_owned()], Vec::new());
    let news = play.hears(Word::Ready { threads: threads.clone(), sockets: sockets.clone() });
    assert_eq!(news, [News::Ready { threads, sockets }]);
    let first = play.told().unwrap();
    assert_eq!((first.slot, play.told()), (SlotId(0), None));
    let news = play.hears(Word::Started { number: first.number, pid: Pid(7) });
    assert_eq!(news, [started(0, 7)]);
    let second = play.told().unwrap();
    assert_eq!(second.slot, SlotId(1));
    let error = Errno::EAGAIN;
    let news = play.hears(Word::NotStarted { number: second.number, error });
    assert_eq!(news, [not_started(1, SpawnCause::Fork(error))]);
    assert_eq!(play.zygote.next_deadline(), None);
}

#[test]
fn a_second_answer_to_an_order_is_no_news() {
    let mut play = Play::ready();
    play.order(0);
    play.order(0);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid: Pid(7) });
    let news = play.hears(Word::NotStarted { number, error: Errno::ECANCELED });
    assert_eq!(news, [started(0, 7)]);
    let number = play.told().unwrap().number;
    assert_eq!(play.hears(Word::Started { number, pid: Pid(8) }), [started(0, 8)]);
}

#[test]
fn when_its_socket_ends_all_orders_have_failed_and_it_is_killed() {
    let mut play = Play::ready();
    play.order(0);
    play.order(1);
    play.its = None;
    let news = play.zygote.listen(&believe, play.start);
    assert_eq!(news, [not_started(0, SpawnCause::Gone), not_started(1, SpawnCause::Gone)]);
    assert!(play.zygote.awaited().is_none() && !play.zygote.takes_orders());
    assert_eq!(play.order(2), [not_started(2, SpawnCause::Gone)]);
    assert!(play.is_killed());
    let status = ExitStatus::Signal(9);
    let news = play.zygote.exited(status, &believe, play.start);
    assert_eq!(news, [News::Ended { status, ending: ZygoteEnding::Died }]);
}

#[test]
fn what_it_said_before_it_was_reaped_is_heard_also_when_its_socket_is_still_open() {
    let mut play = Play::ready();
    play.order(0);
    play.order(1);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid: Pid(7) });
    let status = ExitStatus::Code(0);
    let news = play.zygote.exited(status, &believe, play.start);
    let ended = News::Ended { status, ending: ZygoteEnding::Died };
    assert_eq!(news, [started(0, 7), not_started(1, SpawnCause::Gone), ended]);
}

#[test]
fn an_application_that_cannot_be_loaded_fails_all_orders_with_its_report() {
    let mut play = Play::booting();
    play.order(0);
    let (exit, report) = (WorkerExit::NotImportable, "Traceback".to_owned());
    let news = play.hears(Word::Failed { exit, report: report.clone() });
    let cause = SpawnCause::NotLoaded(exit);
    assert_eq!(news, [News::Failed { exit, report }, not_started(0, cause)]);
    let status = ExitStatus::Code(4);
    let news = play.zygote.exited(status, &believe, play.start);
    assert_eq!(news, [News::Ended { status, ending: ZygoteEnding::Told }]);
}

#[test]
fn an_import_without_end_is_killed_at_the_deadline() {
    let mut play = Play::booting();
    play.order(0);
    assert_eq!(play.zygote.next_deadline(), Some(play.t(60)));
    assert_eq!(play.zygote.judge(play.t(59)), []);
    let late = News::NotReady { limit: Duration::from_secs(60) };
    assert_eq!(play.zygote.judge(play.t(60)), [late]);
    assert_eq!(play.zygote.judge(play.t(60)), []);
    let news = play.zygote.judge(play.t(61));
    let killed = News::Killed { reason: Delay::Revision };
    assert_eq!(news, [killed, not_started(0, SpawnCause::Late)]);
    assert_eq!(play.zygote.judge(play.t(62)), []);
    assert!(play.is_killed());
}

#[test]
fn an_order_without_an_answer_is_the_end_of_it() {
    let mut play = Play::ready();
    assert_eq!(play.zygote.judge(play.t(1000)), []);
    play.order(0);
    play.order(1);
    let news = play.zygote.judge(play.t(60));
    let killed = News::Killed { reason: Delay::Fork };
    let late = SpawnCause::Late;
    assert_eq!(news, [killed, not_started(0, late), not_started(1, late)]);
    assert!(play.is_killed());
}

#[test]
fn one_that_is_told_to_leave_answers_what_it_knows_of_and_no_more() {
    let mut play = Play::ready();
    play.order(0);
    play.order(1);
    let number = play.told().unwrap().number;
    assert_eq!(play.zygote.end(PATIENCE, play.start), [not_started(1, SpawnCause::Withdrawn)]);
    assert_eq!(play.order(2), [not_started(2, SpawnCause::Withdrawn)]);
    assert_eq!(recv(play.its.as_ref().unwrap().as_raw_fd(), &mut [0], MsgFlags::empty()), Ok(0));
    assert_eq!(play.hears(Word::Started { number, pid: Pid(7) }), [started(0, 7)]);
    assert_eq!(play.told(), None);
    let killed = News::Killed { reason: Delay::Leave };
    assert_eq!(play.zygote.judge(play.t(60)), [killed]);
    assert!(play.is_killed());
}

#[test]
fn one_that_is_told_to_leave_while_it_boots_is_killed() {
    let mut play = Play::booting();
    play.order(0);
    assert_eq!(play.zygote.end(PATIENCE, play.start), [not_started(0, SpawnCause::Withdrawn)]);
    assert!(play.is_killed());
    let status = ExitStatus::Signal(9);
    let news = play.zygote.exited(status, &believe, play.start);
    assert_eq!(news, [News::Ended { status, ending: ZygoteEnding::Asked }]);
}

#[test]
fn more_descriptors_than_a_packet_can_have_fail_that_order_alone() {
    let mut play = Play::ready();
    let mut large = order(0);
    while large.listeners.len() < MOST_DESCRIPTORS {
        large.listeners.extend(order(0).listeners);
    }
    let failed = not_started(0, SpawnCause::Untold(Errno::EMSGSIZE));
    assert_eq!(play.zygote.spawn(large, play.start), [failed]);
    assert_eq!(play.order(1), []);
    assert_eq!(play.told().unwrap().slot, SlotId(1));
}

/// It has lied, and that is the end of it; the order that was under way has failed.
fn is_distrusted(play: &mut Play, news: &[News], lie: Lie) {
    let failed = not_started(0, SpawnCause::Distrusted);
    assert_eq!(news, [News::Distrusted { lie }, failed]);
    assert!(play.zygote.awaited().is_none() && !play.zygote.takes_orders());
    assert!(play.is_killed());
    let status = ExitStatus::Signal(9);
    let news = play.zygote.exited(status, &believe, play.start);
    assert_eq!(news, [News::Ended { status, ending: ZygoteEnding::Told }]);
}

#[test]
fn nonsense_is_the_end_of_it() {
    let mut play = Play::ready();
    play.order(0);
    send(play.its.as_ref().unwrap().as_raw_fd(), b"?", MsgFlags::empty()).unwrap();
    let news = play.zygote.listen(&believe, play.start);
    is_distrusted(&mut play, &news, Lie::Nonsense);
}

#[test]
fn a_process_that_has_another_place_is_no_worker() {
    let mut play = Play::ready();
    play.order(0);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid: Pid(7) });
    let news = play.zygote.listen(&|_| Admission::Stranger, play.start);
    is_distrusted(&mut play, &news, Lie::Stranger { pid: Pid(7) });
}

#[test]
fn a_child_that_was_there_before_the_zygote_is_no_worker() {
    let mut play = Play::ready();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = Pid(child.id().cast_signed()); // `believe` takes it for a worker.
    play.zygote.elders = Elders::of_caller();
    play.order(0);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid });
    let news = play.zygote.listen(&believe, play.start);
    is_distrusted(&mut play, &news, Lie::Stranger { pid });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_that_never_becomes_the_supervisors_child_is_no_worker() {
    let mut play = Play::ready();
    play.order(0);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid: Pid(7) });
    let not_yet = |_| Admission::NotYet;
    for ms in [0, 2, 4, 4998] {
        let now = play.start + Duration::from_millis(ms);
        assert_eq!(play.zygote.listen(&not_yet, now), []);
        assert_eq!(play.zygote.judge(now), []);
        assert_eq!(play.zygote.next_deadline(), Some(now + LOOK), "it is looked for");
    }
    let news = play.zygote.judge(play.t(5));
    is_distrusted(&mut play, &news, Lie::Stranger { pid: Pid(7) });
}

#[test]
fn a_process_that_becomes_the_supervisors_child_a_moment_later_is_the_worker() {
    let mut play = Play::ready();
    play.order(0);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid: Pid(7) });
    assert_eq!(play.zygote.listen(&|_| Admission::NotYet, play.start), []);
    assert_eq!(play.zygote.listen(&believe, play.start), [started(0, 7)]);
    assert_eq!(play.zygote.next_deadline(), None);
}

#[test]
fn a_worker_that_was_told_of_before_the_fork_is_said_to_have_failed_is_there() {
    let mut play = Play::ready();
    play.order(0);
    let number = play.told().unwrap().number;
    play.says(Word::Started { number, pid: Pid(7) });
    assert_eq!(play.zygote.listen(&|_| Admission::NotYet, play.start), []);
    let news = play.hears(Word::NotStarted { number, error: Errno::ECANCELED });
    assert_eq!(news, [started(0, 7)]);
}

#[test]
fn an_answer_to_an_order_that_it_was_not_given_is_a_lie() {
    let mut play = Play::ready();
    play.order(0);
    let number = play.told().unwrap().number + 1;
    let news = play.hears(Word::Started { number, pid: Pid(7) });
    is_distrusted(&mut play, &news, Lie::Unordered);
    let mut play = Play::booting();
    play.order(0);
    let news = play.hears(Word::Started { number: 0, pid: Pid(7) });
    is_distrusted(&mut play, &news, Lie::Unordered);
}

#[test]
fn a_zygote_that_cannot_be_told_an_order_any_more_is_killed() {
    let mut play = Play::ready();
    play.its = None; // The application has closed it, and the process lives.
    let failed = News::SpawnFailed { slot: SlotId(0), side: Side::A, cause: SpawnCause::Gone };
    assert_eq!(play.order(0), [failed]);
    assert!(play.is_killed());
}

#[test]
fn a_second_ready_and_a_failure_after_it_are_lies() {
    let (threads, sockets) = (Vec::new(), Vec::new());
    let (exit, report) = (WorkerExit::NotBooted, String::new());
    for word in [Word::Ready { threads, sockets }, Word::Failed { exit, report }] {
        let mut play = Play::ready();
        play.order(0);
        let news = play.hears(word);
        is_distrusted(&mut play, &news, Lie::Belated);
    }
}
