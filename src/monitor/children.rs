//! The processes that are workers: how the supervisor hears them and speaks to them.
//!
//! Owns the supervisor's ends of life sockets and doorbells, and the bytes that came in. Decides
//! nothing: what a word means is the machine's business.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use arctos_worker::shared::fd;
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Command, Counter, WorkerEntry};
use arctos_worker::worker_init::{
    CONTROL_ACCESS_LOG, CONTROL_BOOT_FAILED, CONTROL_READY, CONTROL_STACKS,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd;

use crate::supervisor::health::{Pulse, WorkerLimits};
use crate::supervisor::stack_dump::StackDump;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The longest report that is kept; the rest is not read, so that nobody who writes without end is listened to
/// without end.
const REPORT_BYTES: usize = 64 * 1024;

/// What a worker says on its life socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It can serve.
    Ready,
    /// It cannot boot.
    Failing,
}

/// How far a worker's story has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet.
    Nothing,
    /// That it cannot boot; the text is coming.
    Failure,
    /// All that it will ever say.
    All,
}

/// The supervisor's ends of a worker's lines, before there is a process.
pub struct ControlSocket {
    life: UnixStream,
    doorbell: EventFd,
    entry: &'static WorkerEntry,
    /// Requests that those before it in its entry were given.
    given_before: u64,
    /// What the worker's stacks come out of; `None` after its end, which poll(2) would report for ever.
    stacks: Option<OwnedFd>,
}

impl ControlSocket {
    /// Makes them for a worker that will have this entry; the worker's ends of two are returned beside: life,
    /// doorbell. Its end of the third, a pipe for its stacks, waits for it in its life socket ([`CONTROL_STACKS`]).
    ///
    /// A pipe, because `faulthandler` writes a few bytes at a time: a pipe holds 64 KB of them, a socket a few
    /// hundred pieces. Non-blocking, because it writes in a signal handler.
    pub fn open(entry: &'static WorkerEntry) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (life, of_worker) = UnixStream::pair()?;
        life.set_nonblocking(true)?;
        of_worker.set_nonblocking(true)?;
        let doorbell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let of_worker_too = doorbell.as_fd().try_clone_to_owned()?;
        let given_before = given(entry);
        let (stacks, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        fd::send_descriptor(life.as_fd(), CONTROL_STACKS, writer.as_fd())?;
        let lines = Self { life, doorbell, entry, given_before, stacks: Some(stacks) };
        Ok((lines, of_worker.into(), of_worker_too))
    }

    /// The descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.life);
        own.add(&self.doorbell);
        own.extend(&self.stacks);
    }
}

/// One worker process, until it is reaped.
pub struct Child {
    /// Its process.
    pub pid: Pid,
    /// Its place.
    pub slot: SlotId,
    /// Its part of the scoreboard.
    pub entry: &'static WorkerEntry,
    /// When it was forked.
    pub since: Instant,
    /// What was seen of its loop.
    pub pulse: Pulse,
    /// What wears it out; none before it is ready.
    pub lease: Option<WorkerLimits>,
    /// Whether the log has been told that it is worn out.
    pub is_worn: bool,
    /// Its stacks, while they come in.
    pub stacks: StackDump,
    lines: ControlSocket,
    told: Told,
    report: Vec<u8>,
}

impl Child {
    /// A process that was just forked.
    pub fn new(pid: Pid, slot: SlotId, lines: ControlSocket, since: Instant) -> Self {
        Self {
            pid,
            slot,
            entry: lines.entry,
            since,
            pulse: Pulse::default(),
            lease: None,
            is_worn: false,
            stacks: StackDump::default(),
            lines,
            told: Told::Nothing,
            report: Vec::new(),
        }
    }

    /// The descriptors that other children close.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.lines.list_descriptors(own);
    }

    /// The life socket, as long as something may come from it. After that it stays open, because its
    /// end tells the worker that the supervisor is gone; but it is not looked at.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match self.told {
            Told::Nothing | Told::Failure => Some(self.lines.life.as_fd()),
            Told::All => None,
        }
    }

    /// Reads what has come; the first word when it is among it.
    pub fn listen(&mut self) -> Option<Word> {
        let mut news = None;
        let mut bytes = [0; 4096];
        while self.told != Told::All {
            let count = match (&self.lines.life).read(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ECONNRESET: it died with something of ours unread. Its status tells the rest.
                Err(_) => 0,
            };
            match (self.told, &bytes[..count]) {
                (_, []) => self.told = Told::All,
                (Told::Nothing, [CONTROL_READY, ..]) => {
                    self.told = Told::All;
                    news = Some(Word::Ready);
                }
                (Told::Nothing, [CONTROL_BOOT_FAILED, text @ ..]) => {
                    self.told = Told::Failure;
                    self.report.extend_from_slice(text);
                    news = Some(Word::Failing);
                }
                // Not our protocol: it never becomes ready, and the boot timeout ends it.
                (Told::Nothing, [_, ..]) => self.told = Told::All,
                (Told::Failure | Told::All, text) => {
                    let room = REPORT_BYTES.saturating_sub(self.report.len());
                    self.report.extend_from_slice(&text[..text.len().min(room)]);
                    if self.report.len() == REPORT_BYTES {
                        self.told = Told::All;
                    }
                }
            }
        }
        news
    }

    /// Whether it was given a request: then it has served, however short its life was. One that it died in
    /// counts, because the next worker may get another one.
    pub fn had_request(&self) -> bool {
        let is_in_one = self.entry.request_start().is_some();
        is_in_one || given(self.entry) != self.lines.given_before
    }

    /// What it said about its failure to boot.
    pub fn report(&self) -> Option<String> {
        match self.report.as_slice() {
            [] => None,
            text => Some(String::from_utf8_lossy(text).into_owned()),
        }
    }

    /// Changes the command word and rings.
    pub fn command(&self, command: Command) -> Result<(), Errno> {
        self.entry.set_command(command);
        match self.lines.doorbell.write(1) {
            Ok(_) => Ok(()),
            // The counter is full: it has rung often enough.
            Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// SIGUSR2: the worker writes down what its threads are doing, and goes on.
    pub fn dump_stack(&self) -> Result<(), Errno> {
        kill(unistd::Pid::from_raw(self.pid.0), Signal::SIGUSR2)
    }

    /// What its stacks come out of, as long as something may come and is read.
    pub fn awaited_stacks(&self) -> Option<BorrowedFd<'_>> {
        self.lines.stacks.as_ref().filter(|_| self.stacks.has_room()).map(AsFd::as_fd)
    }

    /// Reads what has come of its stacks. A whole dump that is not logged yet is not read beyond.
    pub fn read_stacks(&mut self, now: Instant) {
        let mut bytes = [0; 4096];
        while self.stacks.has_room()
            && let Some(pipe) = &self.lines.stacks
        {
            match unistd::read(pipe, &mut bytes) {
                Ok(0) => self.lines.stacks = None,
                Ok(count) => self.stacks.add(&bytes[..count], now),
                Err(Errno::EINTR) => {}
                Err(_) => return, // EAGAIN: no more for now.
            }
        }
    }

    /// Gives it the access log that was opened anew; it writes to that one as soon as it hears of it. A
    /// worker that still boots hears of it later.
    ///
    /// Errors: EPIPE: it has ended; EAGAIN: it has not heard of very many before.
    pub fn give_access_log(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        fd::send_descriptor(self.lines.life.as_fd(), CONTROL_ACCESS_LOG, file)
    }

    /// SIGKILL to the worker and the processes that it started. The pid is ours until it is reaped,
    /// so it cannot have become somebody else's.
    pub fn kill(&self) -> Result<(), Errno> {
        let pid = unistd::Pid::from_raw(self.pid.0);
        match killpg(pid, Signal::SIGKILL) {
            // Its group does not exist yet.
            Err(Errno::ESRCH) => kill(pid, Signal::SIGKILL),
            outcome => outcome,
        }
    }
}

fn given(entry: &WorkerEntry) -> u64 {
    entry.counters.get(Counter::ReqSuccessRead)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arctos_worker::shared::fd::Message;
    use arctos_worker::worker_init;

    use super::*;

    fn member() -> (Child, UnixStream) {
        let (lines, life, _doorbell) = ControlSocket::open(WorkerEntry::detached()).unwrap();
        let member = Child::new(Pid(1), SlotId(0), lines, Instant::now());
        assert!(worker_init::receive_stacks_pipe(life.as_fd()).is_some());
        (member, UnixStream::from(life))
    }

    #[test]
    fn a_worker_that_says_it_is_ready_is_heard_once_and_then_left_alone() {
        let (mut member, mut worker) = member();
        assert_eq!(member.listen(), None);
        worker.write_all(b"R").unwrap();
        assert_eq!(member.listen(), Some(Word::Ready));
        assert!(member.awaited().is_none());
        worker.write_all(b"R").unwrap();
        assert_eq!(member.listen(), None);
    }

    #[test]
    fn a_report_is_put_together_from_its_pieces() {
        let (mut member, mut worker) = member();
        worker.write_all(b"FTrace").unwrap();
        assert_eq!(member.listen(), Some(Word::Failing));
        worker.write_all(b"back").unwrap();
        drop(worker);
        assert_eq!(member.listen(), None);
        assert_eq!(member.report().as_deref(), Some("Traceback"));
        assert!(member.awaited().is_none());
    }

    #[test]
    fn a_report_without_end_is_cut() {
        let (mut member, mut worker) = member();
        worker.write_all(b"F").unwrap();
        for _ in 0..20 {
            worker.write_all(&[b'x'; 5000]).unwrap();
            member.listen();
        }
        assert_eq!(member.report().map(|report| report.len()), Some(REPORT_BYTES));
    }

    #[test]
    fn a_worker_that_writes_without_end_is_not_listened_to_without_end() {
        let (mut member, mut worker) = member();
        worker.set_nonblocking(true).unwrap();
        worker.write_all(b"F").unwrap();
        while worker.write(&[b'x'; 5000]).is_ok() {}
        assert_eq!(member.listen(), Some(Word::Failing));
        assert!(member.awaited().is_none());
        assert!(fd::has_unread(member.lines.life.as_fd()));
        assert_eq!(member.report().map(|report| report.len()), Some(REPORT_BYTES));
    }

    #[test]
    fn a_worker_that_closes_its_life_without_a_word_is_not_polled_for_ever() {
        let (mut member, worker) = member();
        drop(worker);
        assert_eq!(member.listen(), None);
        assert!(member.awaited().is_none());
        assert_eq!(member.report(), None);
    }

    #[test]
    fn an_access_log_reaches_the_worker_each_time_it_is_opened_anew() {
        let (member, worker) = member();
        let opened: Vec<_> = (0..2).map(|_| io::pipe().unwrap()).collect();
        for (_, writer) in &opened {
            member.give_access_log(writer.as_fd()).unwrap();
        }
        for (mut reader, writer) in opened {
            drop(writer);
            let heard = fd::receive_message(worker.as_fd());
            let Message::Said { word: CONTROL_ACCESS_LOG, descriptor: Some(descriptor) } = heard
            else {
                panic!("{heard:?}");
            };
            std::fs::File::from(descriptor).write_all(b"a line").unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "a line");
        }
        assert!(matches!(fd::receive_message(worker.as_fd()), Message::Nothing));
        drop(member);
        assert!(matches!(fd::receive_message(worker.as_fd()), Message::Ended));
    }

    #[test]
    fn what_a_worker_writes_of_its_stacks_is_read_without_waiting() {
        let (lines, life, _doorbell) = ControlSocket::open(WorkerEntry::detached()).unwrap();
        let now = Instant::now();
        let mut member = Child::new(Pid(1), SlotId(0), lines, now);
        let pipe = worker_init::receive_stacks_pipe(life.as_fd()).unwrap();
        member.read_stacks(now);
        assert_eq!(member.stacks.take(), None);
        let mut worker = std::fs::File::from(pipe);
        worker.write_all(b"Thread 0x1:\n").unwrap();
        member.read_stacks(now);
        assert_eq!(member.stacks.take().as_deref(), Some("Thread 0x1:"));
        // A full pipe does not hold the signal handler up.
        let full = std::iter::repeat_with(|| worker.write(b"x")).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(worker);
        while member.awaited_stacks().is_some() {
            member.read_stacks(now);
            member.stacks.take();
        }
    }

    #[test]
    fn a_worker_that_has_ended_takes_no_access_log() {
        let (member, worker) = member();
        drop(worker);
        let (_reader, writer) = io::pipe().unwrap();
        assert_eq!(member.give_access_log(writer.as_fd()), Err(Errno::EPIPE));
    }

    #[test]
    fn what_a_worker_said_is_heard_although_it_never_read_its_access_log() {
        let (mut member, mut worker) = member();
        let (_reader, writer) = io::pipe().unwrap();
        member.give_access_log(writer.as_fd()).unwrap();
        worker.write_all(b"FTraceback").unwrap();
        drop(worker);
        assert_eq!(member.listen(), Some(Word::Failing));
        assert_eq!(member.report().as_deref(), Some("Traceback"));
        assert!(member.awaited().is_none());
    }

    #[test]
    fn what_others_were_given_in_its_block_is_not_its_own() {
        let entry = WorkerEntry::detached();
        entry.counters.inc(Counter::ReqSuccessRead);
        let (lines, _life, _doorbell) = ControlSocket::open(entry).unwrap();
        let member = Child::new(Pid(1), SlotId(0), lines, Instant::now());
        assert!(!member.had_request());
        entry.counters.inc(Counter::ReqSuccessRead);
        assert!(member.had_request());
        let (lines, _life, _doorbell) = ControlSocket::open(entry).unwrap();
        let member = Child::new(Pid(1), SlotId(0), lines, Instant::now());
        assert!(!member.had_request());
        entry.begin_request(std::time::Duration::from_secs(1), b"GET", b"/crash");
        assert!(member.had_request(), "it may have died in its first one");
    }

    #[test]
    fn a_command_is_stored_before_the_bell_rings() {
        let (lines, _life, doorbell) = ControlSocket::open(WorkerEntry::detached()).unwrap();
        let member = Child::new(Pid(1), SlotId(0), lines, Instant::now());
        member.command(Command::Drain).unwrap();
        assert_eq!(member.entry.command(), Command::Drain);
        let mut bytes = [0; 8];
        assert_eq!(nix::unistd::read(&doorbell, &mut bytes), Ok(8));
    }
}
