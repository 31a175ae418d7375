//! One worker: a queue of operations, of which each step carries out one. A worker may be killed between any two.

use std::collections::{BTreeMap, VecDeque};

use super::super::holdings::{Claim, Holdings, Installed};
use super::super::message::{self, Kind};
use super::super::{Life, Member, PlaceKey};
use super::kernel::{Direction, Fd, Peek, Pid, Piece, Token};
use super::{Env, Fault};

/// What a worker does next. The documentation of the table of connections has the order, and its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    CloseInherited,
    ReadMail,
    Install { key: PlaceKey, fd: Fd },
    Event(Token),
    Unwatch(Fd),
    PeekStale(Fd),
    Close(Fd),
    LookAtReleased(PlaceKey),
    Expire(PlaceKey),
    Sweep,
    LeaveShared(PlaceKey),
    Serve(Serve),
}

/// What a worker does with the connection that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serve {
    LookAtClaimed,
    LookAtExpired,
    Advance(Phase),
    Receive,
    Parse,
    Execute,
    Send,
    AfterResponse,
    Stamp,
    Watch(Watch),
    /// Waits for the rest of a request, or for the next one on a connection of its own.
    Park,
    PutBack,
    Release,
    Allocate,
    Offer,
    Lend,
    Shutdown,
    Forget,
    Free,
    Close,
}

/// [`Life`] without its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Claimed,
    Reading,
    Running,
    Replying,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// With EPOLLEXCLUSIVE, as every member.
    Shared,
    /// Without: no other process may get the event.
    Own,
}

/// A connection that this worker serves or has for itself.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: Fd,
    /// The place, if it has one.
    pub(super) key: Option<PlaceKey>,
    /// Whether the supervisor can have it.
    pub(super) is_offered: bool,
    pub(super) watch: Watch,
    pub(super) buffer: VecDeque<Piece>,
    /// When the last response was complete, if that was here.
    pub(super) used_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Serving,
    /// Another worker has replaced this one: it releases what is idle, and closes nothing idle.
    Draining,
    Exited,
}

pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) number: u8,
    member: Member,
    pub(super) mode: Mode,
    pub(super) holdings: Holdings<Fd>,
    pub(super) own: BTreeMap<Fd, Connection>,
    pub(super) serving: Option<Connection>,
    plan: VecDeque<Op>,
    /// The worker has closed a descriptor of a connection that may wait for another member.
    wants_look: bool,
    /// Whether the supervisor knows that the worker drains.
    has_left: bool,
}

impl Worker {
    pub(super) fn new(pid: Pid, number: u8) -> Self {
        Self {
            pid,
            number,
            member: Member::worker(number).expect("a small number"),
            mode: Mode::Serving,
            holdings: Holdings::new(),
            own: BTreeMap::new(),
            serving: None,
            plan: VecDeque::from([Op::CloseInherited]),
            wants_look: false,
            has_left: false,
        }
    }

    /// Whether the application has a request, and may have it for long.
    pub(super) fn is_executing(&self) -> bool {
        self.plan.front() == Some(&Op::Serve(Serve::Execute)) && !self.wants_look
    }

    /// Whether the loop has begun.
    pub(super) fn is_ready(&self) -> bool {
        self.plan.front() != Some(&Op::CloseInherited)
    }

    pub(super) fn sweep(&mut self) {
        self.plan.push_back(Op::Sweep);
    }

    /// Does one thing. Returns whether there was one.
    pub(super) fn step(&mut self, env: &mut Env<'_>) -> bool {
        match self.plan.pop_front() {
            Some(op) => {
                self.carry_out(op, env);
                true
            }
            None => self.turn(env),
        }
    }

    fn next<const N: usize>(&mut self, ops: [Op; N]) {
        for op in ops.into_iter().rev() {
            self.plan.push_front(op);
        }
    }

    pub(super) fn look_later(&mut self, key: PlaceKey) {
        self.plan.push_front(Op::LookAtReleased(key));
    }

    pub(super) fn then(&mut self, ops: &[Serve]) {
        for op in ops.iter().rev() {
            self.plan.push_front(Op::Serve(*op));
        }
    }

    /// One turn of the event loop, which ends in epoll_wait(2).
    fn turn(&mut self, env: &mut Env<'_>) -> bool {
        if self.ask_for_look(env) {
            return true;
        }
        if self.mode == Mode::Draining && !self.has_left {
            self.has_left = env.kernel.has_room(self.pid, Direction::ToSupervisor);
            if self.has_left {
                let sent = env.post(self.pid, Direction::ToSupervisor, Kind::Leave, &[], &[]);
                assert_eq!(sent, Ok(()));
                return true;
            }
        }
        let events = env.kernel.wait(self.pid);
        if env.kernel.has_mail(self.pid, Direction::ToWorker) {
            self.plan.push_back(Op::ReadMail);
        }
        // Another member may not have got the event of a shared connection, while this one runs a request.
        let (shared, own): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|token| matches!(token, Token::Shared(_)));
        let is_blind = self.mode == Mode::Draining && env.fault == Some(Fault::LeaveUnseen);
        let shared = if is_blind { Vec::new() } else { shared };
        let is_own_first = env.fault == Some(Fault::OwnEventsFirst);
        let sorted = if is_own_first { [own, shared] } else { [shared, own] };
        self.plan.extend(sorted.into_iter().flatten().map(Op::Event));
        if !self.plan.is_empty() {
            return true;
        }
        match self.mode {
            Mode::Serving => self.idle(env),
            Mode::Draining => self.leave(env),
            Mode::Exited => false,
        }
    }

    /// Tells the supervisor that this worker may have swallowed the event of a connection that it knows no more.
    fn ask_for_look(&mut self, env: &mut Env<'_>) -> bool {
        if !self.wants_look || !env.kernel.has_room(self.pid, Direction::ToSupervisor) {
            return false;
        }
        self.wants_look = false;
        env.clients.counts.requested_looks += 1;
        let sent = env.post(self.pid, Direction::ToSupervisor, Kind::Look, &[], &[]);
        assert_eq!(sent, Ok(()));
        true
    }

    /// Nothing has arrived.
    fn idle(&mut self, env: &mut Env<'_>) -> bool {
        if let Some(fd) = env.kernel.accept(self.pid) {
            env.kernel.interrupt(self.pid);
            self.serving = Some(Connection {
                fd,
                key: None,
                is_offered: false,
                watch: Watch::Own,
                buffer: VecDeque::new(),
                used_at: Some(env.now),
            });
            self.then(&[Serve::Watch(Watch::Own), Serve::Receive]);
            return true;
        }
        if env.is_disturbed && env.chance(env.tick_percent) {
            env.kernel.interrupt(self.pid);
            self.plan.push_back(Op::Sweep);
            let expired = self.holdings.keys().filter(|key| env.is_expired(*key));
            self.plan.extend(expired.map(Op::Expire));
        }
        false
    }

    /// Gives away what is idle, one after the other, and then exits.
    fn leave(&mut self, env: &mut Env<'_>) -> bool {
        let idle = self.own.values().find(|it| it.key.is_none() && it.buffer.is_empty());
        if let Some(fd) = idle.map(|it| it.fd) {
            if !env.kernel.has_room(self.pid, Direction::ToSupervisor) {
                return false; // The supervisor makes room.
            }
            env.kernel.interrupt(self.pid);
            self.serving = self.own.remove(&fd);
            self.then(&[Serve::Allocate]);
            return true;
        }
        let here = self.holdings.keys().find(|key| self.holdings.get(*key).is_some());
        if let Some(key) = here {
            env.kernel.interrupt(self.pid);
            self.plan.push_back(Op::LeaveShared(key));
            return true;
        }
        if self.own.is_empty() && !self.wants_look && self.has_left {
            self.mode = Mode::Exited;
            return true;
        }
        false
    }

    fn carry_out(&mut self, op: Op, env: &mut Env<'_>) {
        match op {
            Op::CloseInherited => {
                if env.fault != Some(Fault::KeepInherited) {
                    for fd in env.kernel.descriptors(self.pid) {
                        env.kernel.close(self.pid, fd);
                    }
                }
            }
            Op::ReadMail => self.read_mail(env),
            Op::Install { key, fd } => self.install(key, fd, env),
            Op::Event(Token::Shared(key)) => self.claim(key, Serve::LookAtClaimed, env),
            Op::Expire(key) => self.claim(key, Serve::LookAtExpired, env),
            Op::Event(Token::Own(fd)) => {
                if let Some(connection) = self.own.remove(&fd) {
                    self.serving = Some(connection);
                    self.then(&[Serve::Receive]);
                }
            }
            Op::Unwatch(fd) => {
                if env.fault != Some(Fault::CloseWithoutUnwatch) {
                    env.kernel.unwatch(self.pid, fd);
                }
            }
            Op::PeekStale(fd) => {
                let is_swallowed = env.kernel.peek(self.pid, fd) == Peek::Bytes;
                self.wants_look |= is_swallowed && env.fault != Some(Fault::DropStaleUnseen);
                self.ask_for_look(env);
            }
            Op::Close(fd) => env.kernel.close(self.pid, fd),
            Op::Sweep => {
                for fd in self.holdings.take_stale(env.table) {
                    self.drop_stale(fd);
                }
            }
            Op::LeaveShared(key) => {
                if let Some(fd) = self.holdings.forget(key) {
                    self.next([Op::Unwatch(fd), Op::Close(fd)]);
                }
            }
            Op::LookAtReleased(key) => self.look_at_released(key, env),
            Op::Serve(op) => {
                let connection = self.serving.take().expect("a connection is served");
                self.serving = self.serve(op, connection, env);
            }
        }
    }

    // --- What the process holds ---

    fn read_mail(&mut self, env: &mut Env<'_>) {
        let Some((bytes, fds)) = env.kernel.read_mail(self.pid, Direction::ToWorker) else {
            return;
        };
        let (kind, keys) = message::decode(&bytes).expect("the supervisor writes messages");
        let keys: Vec<_> = keys.collect();
        match kind {
            Kind::Install if self.mode == Mode::Serving => {
                assert_eq!(keys.len(), fds.len());
                let pairs = keys.into_iter().zip(fds);
                self.plan.extend(pairs.map(|(key, fd)| Op::Install { key, fd }));
            }
            Kind::Look if self.mode == Mode::Serving => {
                self.plan.extend(keys.into_iter().map(|key| Op::Event(Token::Shared(key))));
            }
            Kind::Install | Kind::Look => self.plan.extend(fds.into_iter().map(Op::Close)),
            Kind::Offer | Kind::Leave => unreachable!("the supervisor offers nothing"),
        }
    }

    fn install(&mut self, key: PlaceKey, fd: Fd, env: &mut Env<'_>) {
        match self.holdings.install(env.table, key, fd) {
            Installed::Held { stale } => {
                env.kernel.watch(self.pid, fd, Token::Shared(key), true);
                if let Some(stale) = stale {
                    self.drop_stale(stale);
                }
            }
            Installed::Refused(fd) => env.kernel.close(self.pid, fd),
        }
    }

    pub(super) fn drop_stale(&mut self, fd: Fd) {
        self.next([Op::Unwatch(fd), Op::PeekStale(fd), Op::Close(fd)]);
    }

    fn claim(&mut self, key: PlaceKey, then: Serve, env: &mut Env<'_>) {
        match self.holdings.claim(env.table, key, self.member) {
            Claim::Claimed(fd) => {
                self.begin(key, fd, env);
                self.then(&[then]);
            }
            Claim::Taken => env.clients.counts.taken += 1,
            Claim::Gone(Some(fd)) => self.drop_stale(fd),
            Claim::Gone(None) => {}
        }
    }

    fn begin(&mut self, key: PlaceKey, fd: Fd, env: &mut Env<'_>) {
        env.hold(key, self.pid);
        self.serving = Some(Connection {
            fd,
            key: Some(key),
            is_offered: true,
            watch: Watch::Shared,
            buffer: VecDeque::new(),
            used_at: None,
        });
    }

    /// The worker has given up its claim. Whoever could not claim the connection meanwhile relies on this look.
    fn look_at_released(&mut self, key: PlaceKey, env: &mut Env<'_>) {
        let Some(&fd) = self.holdings.get(key) else { return };
        if env.fault == Some(Fault::NoLookAfterRelease) {
            return;
        }
        if env.fault == Some(Fault::LookByWatching) && self.mode == Mode::Serving {
            env.kernel.unwatch(self.pid, fd);
            env.kernel.watch(self.pid, fd, Token::Shared(key), true);
        } else if env.kernel.peek(self.pid, fd) != Peek::Nothing {
            self.next([Op::Event(Token::Shared(key))]);
        }
    }

    pub(super) fn life(&self, phase: Phase) -> Life {
        match phase {
            Phase::Claimed => Life::Claimed(self.member),
            Phase::Reading => Life::Reading(self.member),
            Phase::Running => Life::Running(self.member),
            Phase::Replying => Life::Replying(self.member),
        }
    }

    pub(super) fn member(&self) -> Member {
        self.member
    }
}
