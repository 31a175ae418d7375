//! A zygote: a process that has loaded the application and forks workers on request, so that they share its
//! memory (`--preload`). Each generation has a zygote of its own, because each generation loads the code again.
//!
//! This file is the supervisor's side. It holds the state of the process, the orders that wait for it and the
//! order that it has. Nothing here blocks. The zygote's own code is in `process`, the messages between the two in
//! `message`, the events for the supervisor in `event`.
//!
//! | state | event | next |
//! |---|---|---|
//! | Booting | the zygote reports that it is ready | Ready |
//! | Booting | the zygote reports that it cannot load the application | Gone |
//! | Booting | the boot timeout expires: the zygote is asked for its stack | Booting, for [`STACK_DUMP_TIME`] |
//! | Booting | that time expires, too; or [`Zygote::shut_down`] | Gone, killed |
//! | Ready | an order is not answered within the boot timeout | Gone, killed |
//! | Ready | [`Zygote::shut_down`]: the socket is shut for writing | Ending |
//! | Ending | the zygote does not exit in time | Gone, killed |
//! | Booting, Ready, Ending | the zygote's socket ends, or the zygote is reaped | Gone |
//!
//! Each order is answered exactly once, by [`ZygoteEvent::Started`] or [`ZygoteEvent::SpawnFailed`], whatever
//! happens to the zygote. Orders wait here until the zygote is ready and has answered the previous order. So
//! no socket buffer can be full, and the descriptors of at most one order are in flight.
//!
//! A worker is an orphan from its start, and thereby a child of the supervisor ([`adopt_orphans`]). Its pid can be
//! read from the zygote's socket before the worker can be reaped, but possibly only after the worker has
//! reported that it is ready. Code that reaps an unknown pid therefore polls the zygotes first.
//!
//! A zygote has fewer rights than the supervisor, and it runs the application's code, which can write to its
//! socket. A pid that it reports is therefore accepted only once the kernel confirms that the process is a child
//! of the supervisor ([`Parentage`]) and did not exist before the zygote, as the children of a program
//! that called `serve()` did. The confirmation may take a moment, because the intermediate process has to exit
//! first. A zygote that breaks the protocol is killed, and the next worker starts a new zygote.

mod event;
mod message;
mod order;
mod preexisting;
mod process;
mod state;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::Generation;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, shutdown, socketpair,
};
use nix::unistd;
use thiserror::Error;

use crate::process::fork::child_setup::ChildSetup;
use crate::process::fork::spawn::{ForkError, spawn_zygote};
use crate::process::fork::wait::await_exit;
use crate::process::launch::Launch;
use crate::supervisor::STACK_DUMP_TIME;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;
pub use event::{ProtocolViolation, SpawnFailure, ZygoteDelay, ZygoteEnding, ZygoteEvent};
use message::{MESSAGE_BYTES, ZygoteMessage};
pub use order::SpawnOrder;
use order::{PendingOrder, ReportedPid};
use preexisting::PreexistingProcesses;
pub use process::ZygoteInit;
use state::State;

/// Time limit for a worker to become the supervisor's child after its pid was reported. Only the exit of the
/// intermediate process has to happen in this time.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which its parent is checked in this time.
const ADOPTION_CHECK: Duration = Duration::from_millis(2);
/// Maximum number of messages that are read in one call, so that a zygote that never stops writing blocks nothing else.
const MESSAGES_PER_CALL: usize = 64;

/// Makes orphans below this process its children, among them the workers of zygotes. Call this once, before the first
/// zygote is started. The setting survives execve(2).
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// The reason why a zygote was not started.
#[derive(Debug, Error)]
pub enum ZygoteStartError {
    /// The socket to the zygote cannot be created.
    #[error("cannot create its socket: {0}")]
    Socket(Errno),
    /// The zygote was not forked.
    #[error(transparent)]
    Fork(#[from] ForkError),
}

/// What the kernel and the supervisor's bookkeeping say about a pid that a zygote reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parentage {
    /// The process is a child of the supervisor with no other known role.
    OurChild,
    /// The process is not a child of the supervisor, but may still become one.
    NotYetOurs,
    /// The process is something else.
    Foreign,
}

/// The supervisor's side of a zygote.
pub struct Zygote {
    pid: Pid,
    generation: Generation,
    /// Processes that cannot be its workers.
    preexisting: PreexistingProcesses,
    /// The supervisor's end of the zygote's socket, which is non-blocking.
    socket: OwnedFd,
    /// Time limit for each step of the zygote.
    timeout: Duration,
    state: State,
    /// Orders that were not sent yet.
    queue: VecDeque<SpawnOrder>,
    /// The number of the order that was sent last.
    last_number: u32,
}

/// The outcome of one read from the zygote's socket.
enum Received {
    /// A packet, decoded; `None` if it does not decode.
    Message(Option<ZygoteMessage>),
    Nothing,
    End,
}

impl Zygote {
    /// Forks the zygote, which loads the application at once. `timeout` limits that and each later step.
    ///
    /// Errors: [`ZygoteStartError`]. In this case there is no process.
    pub fn start(
        launch: &dyn Launch,
        init: &ZygoteInit<'_>,
        setup: &ChildSetup<'_>,
        timeout: Duration,
        now: Instant,
    ) -> Result<Self, ZygoteStartError> {
        let (socket, its) = socket_pair().map_err(ZygoteStartError::Socket)?;
        let ours = [socket.as_fd()];
        let run = |prepared| process::run(launch, its, init, prepared);
        let preexisting = PreexistingProcesses::record();
        let pid = spawn_zygote(launch, setup, init.log, &ours, run)?;
        Ok(Self {
            pid,
            preexisting: preexisting.and_older_than(pid),
            generation: init.generation,
            socket,
            timeout,
            state: State::Booting { deadline: now + timeout, is_late: false },
            queue: VecDeque::new(),
            last_number: 0,
        })
    }

    /// The process, which the caller reaps and then passes to [`Zygote::exited`].
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The generation of its workers.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the zygote is, or may become, ready to fork workers.
    pub fn accepts_orders(&self) -> bool {
        match self.state {
            State::Booting { .. } | State::Ready { .. } => true,
            State::Ending { .. } | State::Gone { .. } => false,
        }
    }

    /// Adds the descriptors that other children close: its socket, and those of orders that were not sent yet.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.socket);
        self.queue.iter().for_each(|order| order.list_descriptors(own));
    }

    /// Whether the zygote ended unexpectedly, or was killed because its socket did.
    pub fn has_died(&self) -> bool {
        matches!(self.state, State::Gone { ending: ZygoteEnding::Died })
    }

    /// The descriptor to poll for reading before [`Zygote::receive`]; `None` if nothing more can arrive.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.state.is_connected().then(|| self.socket.as_fd())
    }

    /// When [`Zygote::check_deadlines`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.state.next_deadline()
    }

    /// Orders a worker. Returns the events that follow at once, usually none.
    pub fn spawn(&mut self, order: SpawnOrder, now: Instant) -> Vec<ZygoteEvent> {
        let mut events = Vec::new();
        match self.state {
            State::Booting { .. } | State::Ready { pending: Some(_) } => {
                self.queue.push_back(order);
            }
            State::Ready { pending: None } => {
                self.queue.push_back(order);
                self.send_next(now, &mut events);
            }
            State::Ending { .. } => events.push(failed(order, SpawnFailure::Withdrawn)),
            State::Gone { ending } => events.push(failed(order, failure_after(ending))),
        }
        events
    }

    /// Reads what the zygote sent. `parentage` classifies the pids that it reports.
    pub fn receive(
        &mut self,
        parentage: &dyn Fn(Pid) -> Parentage,
        now: Instant,
    ) -> Vec<ZygoteEvent> {
        let mut events = Vec::new();
        self.check_reported(parentage, now, &mut events);
        if self.read_messages(parentage, now, &mut events) {
            // Without its socket the zygote is useless, and usually about to exit. Its pid cannot be reused
            // until it is reaped.
            self.kill();
            self.lose(&mut events);
        }
        events
    }

    /// Acts on expired deadlines. Do not call this right after the supervisor itself was suspended.
    pub fn check_deadlines(&mut self, now: Instant) -> Vec<ZygoteEvent> {
        let mut events = Vec::new();
        let reason = match &mut self.state {
            State::Booting { deadline, is_late } if *deadline <= now && !*is_late => {
                (*deadline, *is_late) = (now + STACK_DUMP_TIME, true);
                // SIGUSR2 makes the zygote write its Python stack to the log. Its pid cannot be reused until it
                // is reaped. ESRCH: it has exited, and waits to be reaped.
                let _ = kill(unistd::Pid::from_raw(self.pid.0), Signal::SIGUSR2);
                events.push(ZygoteEvent::NotReady { limit: self.timeout });
                return events;
            }
            State::Booting { deadline, .. } if *deadline <= now => ZygoteDelay::Boot,
            State::Ready { pending: Some(order) } if order.deadline <= now => {
                if let Some(ReportedPid { pid, .. }) = order.reported {
                    self.distrust(ProtocolViolation::ForeignProcess { pid }, &mut events);
                    return events;
                }
                ZygoteDelay::Fork
            }
            State::Ending { kill_at, .. } if *kill_at <= now => ZygoteDelay::Exit,
            State::Booting { .. }
            | State::Ready { .. }
            | State::Ending { .. }
            | State::Gone { .. } => return events,
        };
        self.kill();
        events.push(ZygoteEvent::Killed { reason });
        self.give_up(SpawnFailure::TimedOut, ZygoteEnding::Explained, &mut events);
        events
    }

    /// Asks the zygote to exit within `timeout`. Orders that were not sent yet fail; the one that the zygote has
    /// is still answered.
    pub fn shut_down(&mut self, timeout: Duration, now: Instant) -> Vec<ZygoteEvent> {
        let mut events = Vec::new();
        match &mut self.state {
            // A zygote does not read its socket while it boots. Killing it then loses nothing.
            State::Booting { .. } => {
                self.kill();
                self.give_up(SpawnFailure::Withdrawn, ZygoteEnding::Requested, &mut events);
            }
            State::Ready { pending } => {
                let pending = pending.take();
                self.state = State::Ending { pending, kill_at: now + timeout };
                // ENOTCONN: the zygote is gone already, which the next read finds.
                let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
                let orders = self.queue.drain(..);
                events.extend(orders.map(|order| failed(order, SpawnFailure::Withdrawn)));
            }
            State::Ending { .. } | State::Gone { .. } => {}
        }
        events
    }

    /// Handles the end of a zygote that was reaped. The last of the returned events is [`ZygoteEvent::Ended`].
    pub fn exited(
        &mut self,
        status: ExitStatus,
        parentage: &dyn Fn(Pid) -> Parentage,
        now: Instant,
    ) -> Vec<ZygoteEvent> {
        let mut events = Vec::new();
        // The zygote may have sent something before it exited. The end of its socket is not awaited, because a
        // process that the application forked may hold the socket open.
        self.check_reported(parentage, now, &mut events);
        self.read_messages(parentage, now, &mut events);
        let ending = self.lose(&mut events);
        events.push(ZygoteEvent::Ended { status, ending });
        events
    }

    /// Kills the zygote and reaps it.
    pub fn kill_and_reap(self) {
        self.kill();
        await_exit(self.pid);
    }

    /// Sends the next order, unless one is pending.
    fn send_next(&mut self, now: Instant, events: &mut Vec<ZygoteEvent>) {
        while let State::Ready { pending: None } = self.state {
            let Some(order) = self.queue.pop_front() else { return };
            self.last_number = self.last_number.wrapping_add(1);
            match order.send(&self.socket, self.last_number) {
                Ok(()) => {
                    let pending = PendingOrder::new(self.last_number, &order, self.timeout, now);
                    self.state = State::Ready { pending: Some(pending) };
                }
                Err(Errno::EPIPE) => {
                    // The application may have closed the socket in a zygote that lives on. Nothing would report
                    // the end of that zygote.
                    self.kill();
                    events.push(failed(order, SpawnFailure::Gone));
                    self.give_up(SpawnFailure::Gone, ZygoteEnding::Died, events);
                }
                Err(error) => events.push(failed(order, SpawnFailure::NotSent(error))),
            }
        }
    }

    /// Returns whether the socket has ended.
    fn read_messages(
        &mut self,
        parentage: &dyn Fn(Pid) -> Parentage,
        now: Instant,
        events: &mut Vec<ZygoteEvent>,
    ) -> bool {
        let mut buffer = vec![0; MESSAGE_BYTES];
        for _ in 0..MESSAGES_PER_CALL {
            if !self.state.is_connected() {
                return false;
            }
            match self.read_message(&mut buffer) {
                Received::Message(Some(message)) => self.accept(message, parentage, now, events),
                Received::Message(None) => self.distrust(ProtocolViolation::Malformed, events),
                Received::End => return true,
                Received::Nothing => return false,
            }
        }
        false
    }

    fn read_message(&self, buffer: &mut [u8]) -> Received {
        loop {
            match socket::recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Received::End,
                Ok(length) => return Received::Message(ZygoteMessage::decode(&buffer[..length])),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Received::Nothing,
                Err(_) => return Received::End, // ECONNRESET: it died before it read an order.
            }
        }
    }

    fn accept(
        &mut self,
        message: ZygoteMessage,
        parentage: &dyn Fn(Pid) -> Parentage,
        now: Instant,
        events: &mut Vec<ZygoteEvent>,
    ) {
        let is_booting = matches!(self.state, State::Booting { .. });
        match message {
            ZygoteMessage::Ready { threads, sockets } if is_booting => {
                events.push(ZygoteEvent::Ready { threads, sockets });
                self.state = State::Ready { pending: None };
                self.send_next(now, events);
            }
            ZygoteMessage::Failed { exit, report } if is_booting => {
                events.push(ZygoteEvent::Failed { exit, report });
                self.give_up(SpawnFailure::NotLoaded(exit), ZygoteEnding::Explained, events);
            }
            ZygoteMessage::Ready { .. } | ZygoteMessage::Failed { .. } => {
                self.distrust(ProtocolViolation::RepeatedBootResult, events);
            }
            ZygoteMessage::Started { number, .. } | ZygoteMessage::NotStarted { number, .. }
                if is_booting || self.last_number.wrapping_sub(number) > u32::MAX / 2 =>
            {
                self.distrust(ProtocolViolation::UnknownOrder, events);
            }
            ZygoteMessage::Started { number, pid } => {
                if let Some(order) = self.state.pending()
                    && order.number == number
                    && order.reported.is_none()
                {
                    order.reported = Some(ReportedPid { pid, check_at: now });
                    order.deadline = order.deadline.min(now + ADOPTION_TIMEOUT);
                    self.check_reported(parentage, now, events);
                }
            }
            ZygoteMessage::NotStarted { number, error } => {
                // The intermediate process may have been killed right after it reported the worker: then the
                // worker exists.
                self.check_reported(parentage, now, events);
                if let Some(PendingOrder { slot, side, .. }) = self.state.take_pending(number) {
                    let cause = SpawnFailure::Fork(error);
                    events.push(ZygoteEvent::SpawnFailed { slot, side, cause });
                    self.send_next(now, events);
                }
            }
        }
    }

    /// Checks whether the process that the zygote reported has become the supervisor's child.
    fn check_reported(
        &mut self,
        parentage: &dyn Fn(Pid) -> Parentage,
        now: Instant,
        events: &mut Vec<ZygoteEvent>,
    ) {
        let Some(order) = self.state.pending() else { return };
        let Some(reported) = &mut order.reported else { return };
        let (pid, number) = (reported.pid, order.number);
        let is_preexisting = self.preexisting.contain(pid);
        match if is_preexisting { Parentage::Foreign } else { parentage(pid) } {
            Parentage::OurChild => {
                if let Some(PendingOrder { slot, side, .. }) = self.state.take_pending(number) {
                    events.push(ZygoteEvent::Started { slot, side, pid });
                    self.send_next(now, events);
                }
            }
            Parentage::NotYetOurs => reported.check_at = now + ADOPTION_CHECK,
            Parentage::Foreign => {
                self.distrust(ProtocolViolation::ForeignProcess { pid }, events);
            }
        }
    }

    /// Kills a zygote that broke the protocol.
    fn distrust(&mut self, violation: ProtocolViolation, events: &mut Vec<ZygoteEvent>) {
        self.kill();
        events.push(ZygoteEvent::Distrusted { violation });
        self.give_up(SpawnFailure::Distrusted, ZygoteEnding::Explained, events);
    }

    /// Handles the end of the socket or the process.
    fn lose(&mut self, events: &mut Vec<ZygoteEvent>) -> ZygoteEnding {
        let ending = match self.state {
            State::Booting { .. } | State::Ready { .. } => ZygoteEnding::Died,
            State::Ending { .. } => ZygoteEnding::Requested,
            State::Gone { ending } => ending,
        };
        self.give_up(SpawnFailure::Gone, ending, events);
        ending
    }

    /// Fails all orders, and expects nothing more from the zygote.
    fn give_up(
        &mut self,
        cause: SpawnFailure,
        ending: ZygoteEnding,
        events: &mut Vec<ZygoteEvent>,
    ) {
        let before = std::mem::replace(&mut self.state, State::Gone { ending });
        match before {
            State::Ready { pending: Some(PendingOrder { slot, side, .. }) }
            | State::Ending { pending: Some(PendingOrder { slot, side, .. }), .. } => {
                events.push(ZygoteEvent::SpawnFailed { slot, side, cause });
            }
            State::Booting { .. }
            | State::Ready { pending: None }
            | State::Ending { pending: None, .. }
            | State::Gone { .. } => {}
        }
        events.extend(self.queue.drain(..).map(|order| failed(order, cause)));
    }

    /// Sends SIGKILL. While the application is being loaded, its whole process group gets it; later the
    /// workers may need the other processes of the group. Only valid before the zygote is reaped, because
    /// its pid may be reused after that.
    fn kill(&self) {
        let pid = unistd::Pid::from_raw(self.pid.0);
        let killed = match self.state {
            State::Booting { .. } => match killpg(pid, Signal::SIGKILL) {
                // The group does not exist yet.
                Err(Errno::ESRCH) => kill(pid, Signal::SIGKILL),
                killed => killed,
            },
            State::Ready { .. } | State::Ending { .. } | State::Gone { .. } => {
                kill(pid, Signal::SIGKILL)
            }
        };
        let _ = killed; // kill(2) fails only for a process that was reaped.
    }
}

fn failed(order: SpawnOrder, cause: SpawnFailure) -> ZygoteEvent {
    ZygoteEvent::SpawnFailed { slot: order.slot, side: order.side, cause }
}

/// The failure of an order that comes after the end of the zygote.
fn failure_after(ending: ZygoteEnding) -> SpawnFailure {
    match ending {
        ZygoteEnding::Requested => SpawnFailure::Withdrawn,
        ZygoteEnding::Explained | ZygoteEnding::Died => SpawnFailure::Gone,
    }
}

/// Returns the supervisor's end, which is non-blocking, and the zygote's end.
fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, its) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((ours, its))
}

#[cfg(test)]
mod tests;
