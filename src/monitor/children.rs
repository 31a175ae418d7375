//! A worker process from the supervisor's side: the messages that it sends, and the commands that it receives.
//!
//! This file owns the supervisor's ends of the control socket, the doorbell and the stack pipe, and the bytes that
//! arrived. The state machine decides what a message means.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use arctos_worker::process::{passed_connection, signals};
use arctos_worker::shared::fd::{self, Message};
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Command, Counter, WorkerEntry};
use arctos_worker::worker_init::{
    CONTROL_ACCESS_LOG, CONTROL_BOOT_FAILED, CONTROL_CONNECTION, CONTROL_READY, CONTROL_STACKS,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd;

use crate::supervisor::duplicate::{Checked, Duplicate};
use crate::supervisor::health::{Hang, Pulse};
use crate::supervisor::interruption::Interruption;
use crate::supervisor::log_event::RunningRequest;
use crate::supervisor::quarantine::Incident;
use crate::supervisor::recycling::{MemoryWatch, RecycleLimits, WorkerLimits};
use crate::supervisor::stack_dump::StackDump;
use crate::system::caught_signals;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// Maximum length of a report. The rest is not read, so that a worker that never stops writing cannot keep the
/// supervisor busy.
const REPORT_BYTES: usize = 64 * 1024;
/// How many messages of a ready worker are read at once. It sends one when it is asked.
const CONTROL_MESSAGES: usize = 16;

/// The first message of a worker on its control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The worker can serve.
    Ready,
    /// The worker cannot boot.
    Failing,
}

/// What a worker has reported about its boot.
#[derive(Debug)]
struct BootMessages {
    progress: BootProgress,
    report: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BootProgress {
    /// Nothing has arrived yet.
    Silent,
    /// The worker cannot boot, and its report is arriving.
    Failing,
    /// Nothing more of the boot arrives, or is read.
    Complete,
}

/// The supervisor's ends of the descriptors that it shares with a worker.
pub struct ControlSocket {
    stream: UnixStream,
    doorbell: EventFd,
    entry: &'static WorkerEntry,
    /// The number of requests that earlier workers with this entry received.
    given_before: u64,
    /// The pipe that the worker dumps its stacks into; `None` after end of file, which poll(2) would report forever.
    stacks: Option<OwnedFd>,
    /// Whether the worker has closed its end, which poll(2) would report forever as well.
    has_ended: bool,
}

impl ControlSocket {
    /// Opens the descriptors for a worker that will have this entry, and returns the worker's ends of its control
    /// socket and its doorbell. The worker's end of the stack pipe is already queued in the control socket
    /// ([`CONTROL_STACKS`]).
    ///
    /// The stacks go through a pipe, because `faulthandler` writes a few bytes at a time: a pipe holds 64 KB of
    /// them, a socket only a few hundred pieces. The pipe is non-blocking, because a signal handler writes to it.
    pub fn open(entry: &'static WorkerEntry) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (stream, worker_control_fd) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        worker_control_fd.set_nonblocking(true)?;
        let doorbell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let worker_doorbell = doorbell.as_fd().try_clone_to_owned()?;
        let given_before = given(entry);
        let (stacks, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        fd::send_descriptor(stream.as_fd(), CONTROL_STACKS, writer.as_fd())?;
        let stacks = Some(stacks);
        let socket = Self { stream, doorbell, entry, given_before, stacks, has_ended: false };
        Ok((socket, worker_control_fd.into(), worker_doorbell))
    }

    /// The descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.stream);
        own.add(&self.doorbell);
        own.extend(&self.stacks);
    }
}

/// One worker process, until it is reaped.
pub struct Child {
    /// The process of the worker.
    pub pid: Pid,
    /// The slot of the worker.
    pub slot: SlotId,
    /// The entry of the worker on the scoreboard.
    pub entry: &'static WorkerEntry,
    /// When the process was forked.
    pub since: Instant,
    /// The progress of the worker's loop.
    pub pulse: Pulse,
    /// The place where the worker was hanging at the last check.
    pub hang: Option<Hang>,
    /// The request that exceeded its time limit.
    pub late: LateRequest,
    /// When the worker is recycled.
    pub recycling: Recycling,
    /// The worker's stacks, as far as they have arrived.
    pub stacks: StackDump,
    /// The connection of its running request.
    duplicate: Duplicate<OwnedFd>,
    socket: ControlSocket,
    boot: BootMessages,
}

/// The request of a worker that exceeded its time limit, and what is done about it.
#[derive(Default)]
pub struct LateRequest {
    /// Whether it was interrupted, and whether it reacted.
    pub interruption: Interruption,
    /// The request at the moment at which it was interrupted.
    pub request: Option<RunningRequest>,
    /// The same request, for the quarantine.
    pub incident: Option<Incident>,
}

/// When a worker is recycled.
#[derive(Default)]
pub struct Recycling {
    /// The limits of the generation.
    pub limits: RecycleLimits,
    /// The limits of this worker, once it is ready.
    pub own: Option<WorkerLimits>,
    /// The samples of this worker's memory.
    pub memory: MemoryWatch,
    /// Whether it was logged that the worker has reached a limit.
    pub is_logged: bool,
}

impl Child {
    /// Returns the record of a process that was just forked.
    pub fn new(pid: Pid, slot: SlotId, socket: ControlSocket, since: Instant) -> Self {
        Self {
            pid,
            slot,
            entry: socket.entry,
            since,
            pulse: Pulse::default(),
            hang: None,
            late: LateRequest::default(),
            recycling: Recycling::default(),
            stacks: StackDump::default(),
            duplicate: Duplicate::default(),
            socket,
            boot: BootMessages { progress: BootProgress::Silent, report: Vec::new() },
        }
    }

    /// The descriptors that other children close.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.socket.list_descriptors(own);
        own.extend(self.duplicate.held());
    }

    /// The control socket, as long as messages may arrive on it. After that it isn't polled, but it stays open, because
    /// the worker takes its end as the end of the supervisor.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match self.boot.progress {
            BootProgress::Silent | BootProgress::Failing => Some(self.socket.stream.as_fd()),
            BootProgress::Complete => {
                let is_awaited = self.duplicate.is_awaited() && !self.socket.has_ended;
                is_awaited.then(|| self.socket.stream.as_fd())
            }
        }
    }

    /// Receives the connection of the running request, if it has arrived.
    pub fn receive_connection(&mut self) {
        for _ in 0..CONTROL_MESSAGES {
            if self.boot.progress != BootProgress::Complete || self.socket.has_ended {
                return;
            }
            match fd::receive_message(self.socket.stream.as_fd()) {
                Message::Received { word: CONTROL_CONNECTION, descriptor: Some(connection) } => {
                    self.duplicate.arrive(connection);
                }
                Message::Received { .. } => {} // This is not our protocol, or there is no descriptor left.
                Message::Nothing => return,
                Message::Ended => self.socket.has_ended = true,
            }
        }
    }

    /// Asks the worker for the connection of its running request if it takes long, and closes the duplicate once the
    /// request has ended. `monotonic` is the time of this check, at which the request was late or not.
    ///
    /// Errors: the worker could not be asked.
    pub fn check_connection(&mut self, monotonic: Duration, is_late: bool) -> Result<(), Errno> {
        if self.duplicate.is_awaited() {
            self.receive_connection();
        }
        match self.duplicate.check(self.entry, monotonic, is_late) {
            Checked::Unchanged => Ok(()),
            Checked::Released => {
                self.receive_connection();
                Ok(())
            }
            Checked::Ask(call) => {
                self.entry.ask_for_connection(call);
                let is_caught = caught_signals::catches(self.pid, signals::connection_signal());
                // The application may have reset all handlers: then the signal would kill the worker.
                let asked = if is_caught { passed_connection::ask(self.pid.0) } else { Ok(()) };
                asked.inspect_err(|_| self.duplicate.not_asked())
            }
        }
    }

    /// Takes the connection whose client is to be answered, once the worker has ended.
    pub fn take_unanswered(&mut self) -> Option<OwnedFd> {
        if self.duplicate.is_awaited() {
            self.receive_connection();
        }
        std::mem::take(&mut self.duplicate).take_unanswered(self.entry)
    }

    /// Reads what has arrived. Returns the worker's first message once, when it arrives.
    pub fn listen(&mut self) -> Option<Word> {
        let mut message = None;
        let mut bytes = [0; 4096];
        while self.boot.progress != BootProgress::Complete {
            let count = match (&self.socket.stream).read(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // ECONNRESET: the worker died before it read everything. Its exit status says the rest.
                Err(_) => 0,
            };
            match (self.boot.progress, &bytes[..count]) {
                (_, []) => self.boot.progress = BootProgress::Complete,
                (BootProgress::Silent, [CONTROL_READY, ..]) => {
                    self.boot.progress = BootProgress::Complete;
                    message = Some(Word::Ready);
                }
                (BootProgress::Silent, [CONTROL_BOOT_FAILED, text @ ..]) => {
                    self.boot.progress = BootProgress::Failing;
                    self.boot.report.extend_from_slice(text);
                    message = Some(Word::Failing);
                }
                // This is not our protocol: the worker never becomes ready, and the boot timeout ends it.
                (BootProgress::Silent, [_, ..]) => self.boot.progress = BootProgress::Complete,
                (BootProgress::Failing | BootProgress::Complete, text) => {
                    let room = REPORT_BYTES.saturating_sub(self.boot.report.len());
                    self.boot.report.extend_from_slice(&text[..text.len().min(room)]);
                    if self.boot.report.len() == REPORT_BYTES {
                        self.boot.progress = BootProgress::Complete;
                    }
                }
            }
        }
        message
    }

    /// Whether the worker received a request: then it has served, however briefly it lived. A request in which it
    /// died counts, because the next worker may get a different one.
    pub fn had_request(&self) -> bool {
        let is_in_one = self.entry.request_start().is_some();
        is_in_one || given(self.entry) != self.socket.given_before
    }

    /// The worker's report on why it cannot boot.
    pub fn report(&self) -> Option<String> {
        match self.boot.report.as_slice() {
            [] => None,
            text => Some(String::from_utf8_lossy(text).into_owned()),
        }
    }

    /// Writes the command into the worker's entry and rings its doorbell.
    pub fn command(&self, command: Command) -> Result<(), Errno> {
        self.entry.set_command(command);
        match self.socket.doorbell.write(1) {
            Ok(_) => Ok(()),
            // The counter is full, so the worker has already been woken.
            Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends SIGUSR2, on which the worker dumps the stacks of its threads and goes on.
    pub fn dump_stack(&self) -> Result<(), Errno> {
        kill(unistd::Pid::from_raw(self.pid.0), Signal::SIGUSR2)
    }

    /// Makes the worker raise an exception in the call that started at this moment, if that still runs.
    pub fn interrupt(&self, call: Duration) -> Result<(), Errno> {
        self.entry.interrupt_call(call);
        signals::interrupt(self.pid.0)
    }

    /// Repeats the signal for the call that was interrupted. If another call has begun, it does nothing there.
    pub fn interrupt_again(&self) -> Result<(), Errno> {
        signals::interrupt(self.pid.0)
    }

    /// The stack pipe, as long as it may have something to read.
    pub fn awaited_stacks(&self) -> Option<BorrowedFd<'_>> {
        self.socket.stacks.as_ref().filter(|_| self.stacks.has_room()).map(AsFd::as_fd)
    }

    /// Reads what has arrived of the stacks. Nothing is read beyond a complete dump that is not logged yet.
    pub fn read_stacks(&mut self, now: Instant) {
        let mut bytes = [0; 4096];
        while self.stacks.has_room()
            && let Some(pipe) = &self.socket.stacks
        {
            match unistd::read(pipe, &mut bytes) {
                Ok(0) => self.socket.stacks = None,
                Ok(count) => self.stacks.add(&bytes[..count], now),
                Err(Errno::EINTR) => {}
                Err(_) => return, // EAGAIN: nothing more has arrived.
            }
        }
    }

    /// Sends the worker the access log that was reopened. The worker writes to it as soon as it has read this message;
    /// a worker that is still booting reads the message later.
    ///
    /// Errors: EPIPE if the worker has ended; EAGAIN if too many earlier messages are unread.
    pub fn give_access_log(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        fd::send_descriptor(self.socket.stream.as_fd(), CONTROL_ACCESS_LOG, file)
    }

    /// Sends SIGKILL to the worker and the processes that it started. The pid stays reserved until the worker is
    /// reaped, so no other process can have it.
    pub fn kill(&self) -> Result<(), Errno> {
        let pid = unistd::Pid::from_raw(self.pid.0);
        match killpg(pid, Signal::SIGKILL) {
            // The worker's process group does not exist yet.
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
    use crate::supervisor::duplicate::AFTER;

    fn child() -> (Child, UnixStream) {
        let (socket, control_fd, _doorbell) = ControlSocket::open(WorkerEntry::detached()).unwrap();
        let child = Child::new(Pid(1), SlotId(0), socket, Instant::now());
        assert!(worker_init::receive_stacks_pipe(control_fd.as_fd()).is_some());
        (child, UnixStream::from(control_fd))
    }

    #[test]
    fn the_control_socket_is_not_polled_once_the_worker_is_ready() {
        let (mut child, mut worker) = child();
        assert_eq!(child.listen(), None);
        worker.write_all(b"R").unwrap();
        assert_eq!(child.listen(), Some(Word::Ready));
        assert!(child.awaited().is_none());
        worker.write_all(b"R").unwrap();
        assert_eq!(child.listen(), None);
    }

    #[test]
    fn a_report_is_assembled_from_several_reads() {
        let (mut child, mut worker) = child();
        worker.write_all(b"FTrace").unwrap();
        assert_eq!(child.listen(), Some(Word::Failing));
        worker.write_all(b"back").unwrap();
        drop(worker);
        assert_eq!(child.listen(), None);
        assert_eq!(child.report().as_deref(), Some("Traceback"));
        assert!(child.awaited().is_none());
    }

    #[test]
    fn an_endless_report_is_truncated() {
        let (mut child, mut worker) = child();
        worker.write_all(b"F").unwrap();
        for _ in 0..20 {
            worker.write_all(&[b'x'; 5000]).unwrap();
            child.listen();
        }
        assert_eq!(child.report().map(|report| report.len()), Some(REPORT_BYTES));
    }

    #[test]
    fn a_worker_that_never_stops_writing_does_not_block_the_supervisor() {
        let (mut child, mut worker) = child();
        worker.set_nonblocking(true).unwrap();
        worker.write_all(b"F").unwrap();
        while worker.write(&[b'x'; 5000]).is_ok() {}
        assert_eq!(child.listen(), Some(Word::Failing));
        assert!(child.awaited().is_none());
        assert!(fd::has_unread(child.socket.stream.as_fd()));
        assert_eq!(child.report().map(|report| report.len()), Some(REPORT_BYTES));
    }

    #[test]
    fn a_closed_control_socket_is_not_polled_forever() {
        let (mut child, worker) = child();
        drop(worker);
        assert_eq!(child.listen(), None);
        assert!(child.awaited().is_none());
        assert_eq!(child.report(), None);
    }

    #[test]
    fn an_access_log_reaches_the_worker_each_time_it_is_reopened() {
        let (child, worker) = child();
        let opened: Vec<_> = (0..2).map(|_| io::pipe().unwrap()).collect();
        for (_, writer) in &opened {
            child.give_access_log(writer.as_fd()).unwrap();
        }
        for (mut reader, writer) in opened {
            drop(writer);
            let received = fd::receive_message(worker.as_fd());
            let Message::Received { word: CONTROL_ACCESS_LOG, descriptor: Some(descriptor) } =
                received
            else {
                panic!("{received:?}");
            };
            std::fs::File::from(descriptor).write_all(b"a line").unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "a line");
        }
        assert!(matches!(fd::receive_message(worker.as_fd()), Message::Nothing));
        drop(child);
        assert!(matches!(fd::receive_message(worker.as_fd()), Message::Ended));
    }

    /// A worker that has run a request for a second, was asked for its connection, and has sent it.
    fn child_with_connection() -> (Child, UnixStream, UnixStream) {
        let (mut child, mut worker) = child();
        worker.write_all(b"R").unwrap();
        child.listen();
        let (connection, client) = UnixStream::pair().unwrap();
        child.entry.begin_request(Duration::ZERO, b"GET", b"/");
        child.entry.show_connection(Some(7));
        assert_eq!(child.duplicate.check(child.entry, AFTER, false), Checked::Ask(Duration::ZERO));
        fd::send_descriptor(worker.as_fd(), CONTROL_CONNECTION, connection.as_fd()).unwrap();
        (child, worker, client)
    }

    fn is_closed(mut client: UnixStream) -> bool {
        client.set_nonblocking(true).unwrap();
        client.read(&mut [0]).is_ok()
    }

    #[test]
    fn the_connection_of_a_long_request_is_held_until_it_ends() {
        let (mut child, _worker, client) = child_with_connection();
        assert!(child.awaited().is_some());
        child.receive_connection();
        assert!(child.awaited().is_none());
        assert!(!is_closed(client.try_clone().unwrap()));
        child.entry.end_call(AFTER);
        child.check_connection(AFTER, false).unwrap();
        assert!(is_closed(client));
    }

    #[test]
    fn a_connection_that_comes_with_the_end_of_its_request_is_closed() {
        let (mut child, _worker, client) = child_with_connection();
        child.entry.end_call(AFTER);
        child.check_connection(AFTER, false).unwrap();
        assert!(is_closed(client));
    }

    #[test]
    fn the_connection_of_a_dead_worker_is_found_even_if_it_was_not_received_yet() {
        let (mut child, worker, client) = child_with_connection();
        drop(worker);
        assert!(child.take_unanswered().is_some());
        assert!(is_closed(client));
    }

    #[test]
    fn a_control_socket_that_the_application_has_closed_is_not_polled() {
        let (mut child, worker, _client) = child_with_connection();
        drop(worker);
        child.receive_connection();
        child.duplicate = Duplicate::default();
        child.duplicate.check(child.entry, AFTER, false);
        assert!(child.duplicate.is_awaited() && child.awaited().is_none());
    }

    #[test]
    fn the_stacks_of_a_worker_are_read_without_blocking() {
        let (socket, control_fd, _doorbell) = ControlSocket::open(WorkerEntry::detached()).unwrap();
        let now = Instant::now();
        let mut child = Child::new(Pid(1), SlotId(0), socket, now);
        let pipe = worker_init::receive_stacks_pipe(control_fd.as_fd()).unwrap();
        child.read_stacks(now);
        assert_eq!(child.stacks.take(), None);
        let mut worker = std::fs::File::from(pipe);
        worker.write_all(b"Thread 0x1:\n").unwrap();
        child.read_stacks(now);
        assert_eq!(child.stacks.take().as_deref(), Some("Thread 0x1:"));
        // A full pipe does not block the signal handler.
        let full = std::iter::repeat_with(|| worker.write(b"x")).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(worker);
        while child.awaited_stacks().is_some() {
            child.read_stacks(now);
            child.stacks.take();
        }
    }

    #[test]
    fn sending_the_access_log_to_a_worker_that_has_ended_fails() {
        let (child, worker) = child();
        drop(worker);
        let (_reader, writer) = io::pipe().unwrap();
        assert_eq!(child.give_access_log(writer.as_fd()), Err(Errno::EPIPE));
    }

    #[test]
    fn a_report_arrives_even_if_the_access_log_was_never_read() {
        let (mut child, mut worker) = child();
        let (_reader, writer) = io::pipe().unwrap();
        child.give_access_log(writer.as_fd()).unwrap();
        worker.write_all(b"FTraceback").unwrap();
        drop(worker);
        assert_eq!(child.listen(), Some(Word::Failing));
        assert_eq!(child.report().as_deref(), Some("Traceback"));
        assert!(child.awaited().is_none());
    }

    #[test]
    fn requests_of_earlier_workers_with_the_same_entry_do_not_count() {
        let entry = WorkerEntry::detached();
        entry.counters.inc(Counter::ReqSuccessRead);
        let (socket, _life, _doorbell) = ControlSocket::open(entry).unwrap();
        let child = Child::new(Pid(1), SlotId(0), socket, Instant::now());
        assert!(!child.had_request());
        entry.counters.inc(Counter::ReqSuccessRead);
        assert!(child.had_request());
        let (socket, _life, _doorbell) = ControlSocket::open(entry).unwrap();
        let child = Child::new(Pid(1), SlotId(0), socket, Instant::now());
        assert!(!child.had_request());
        entry.begin_request(std::time::Duration::from_secs(1), b"GET", b"/crash");
        assert!(child.had_request(), "the worker may have died in its first request");
    }

    #[test]
    fn a_command_is_stored_before_the_doorbell_rings() {
        let (socket, _life, doorbell) = ControlSocket::open(WorkerEntry::detached()).unwrap();
        let child = Child::new(Pid(1), SlotId(0), socket, Instant::now());
        child.command(Command::Drain).unwrap();
        assert_eq!(child.entry.command(), Command::Drain);
        let mut bytes = [0; 8];
        assert_eq!(nix::unistd::read(&doorbell, &mut bytes), Ok(8));
    }
}
