//! One worker: a queue of operations, of which each step carries out one. A worker may be killed between any two.

use std::collections::{BTreeMap, VecDeque};

use super::super::holdings::{Claim, Holdings, Installed};
use super::super::message::{self, Kind};
use super::super::{Life, Member, PlaceKey};
use super::kernel::{Direction, Fd, NotSent, Peek, Pid, Piece, Token};
use super::{Env, Fault};

/// What a worker does next. The documentation of the table of connections has the order, and its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    CloseInherited,
    ReadMail,
    Install {
        key: PlaceKey,
        fd: Fd,
    },
    Event(Token),
    Unwatch(Fd),
    PeekStale(Fd),
    Close(Fd),
    LookAtReleased(PlaceKey),
    Expire(PlaceKey),
    Sweep,
    /// Allocates a place for one of the connections that are offered together.
    Prepare(Fd),
    OfferPrepared,
    ReleasePrepared,
    Leave,
    LeaveShared(PlaceKey),
    Tell(Kind),
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
    /// Another worker has replaced this one, and it is about to leave the group.
    Draining,
    /// It releases what it serves, gives away what is idle, and closes nothing idle.
    Left,
    Exited,
}

pub(super) struct Worker {
    pub(super) pid: Pid,
    pub(super) number: u8,
    pub(super) server: usize,
    member: Member,
    pub(super) mode: Mode,
    pub(super) holdings: Holdings<Fd>,
    pub(super) own: BTreeMap<Fd, Connection>,
    pub(super) serving: Option<Connection>,
    pub(super) plan: VecDeque<Op>,
    /// Connections that are offered together.
    pub(super) prepared: VecDeque<Connection>,
    /// What the mailbox had no room for.
    pub(super) unsent: Option<Kind>,
    /// Whether it begins no request any more once it drains.
    pub(super) is_quick: bool,
}

impl Worker {
    pub(super) fn new(pid: Pid, number: u8, server: usize) -> Self {
        Self {
            pid,
            number,
            server,
            member: Member::worker(number).expect("a small number"),
            mode: Mode::Serving,
            holdings: Holdings::new(),
            own: BTreeMap::new(),
            serving: None,
            plan: VecDeque::from([Op::CloseInherited]),
            prepared: VecDeque::new(),
            unsent: None,
            is_quick: false,
        }
    }

    /// Whether the application has a request, and may have it for long.
    pub(super) fn is_executing(&self) -> bool {
        self.plan.front() == Some(&Op::Serve(Serve::Execute)) && self.unsent.is_none()
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
        env.enter(self.server);
        match self.plan.pop_front() {
            Some(op) => {
                self.carry_out(op, env);
                true
            }
            None => self.turn(env),
        }
    }

    pub(super) fn next<const N: usize>(&mut self, ops: [Op; N]) {
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
        if self.tell_again(env) {
            return true;
        }
        if self.mode == Mode::Draining && (self.is_quick || env.chance(50)) {
            self.begin_to_leave(env);
            return true;
        }
        let events = env.kernel.wait(self.pid);
        if env.kernel.has_mail(self.pid, Direction::ToWorker) {
            self.plan.push_back(Op::ReadMail);
        }
        // Another member may not have got the event of a shared connection, while this one runs a request.
        let (shared, own): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|token| matches!(token, Token::Shared(_)));
        let is_own_first = env.fault == Some(Fault::OwnEventsFirst);
        let sorted = if is_own_first { [own, shared] } else { [shared, own] };
        self.plan.extend(sorted.into_iter().flatten().map(Op::Event));
        if !self.plan.is_empty() {
            return true;
        }
        match self.mode {
            Mode::Serving => self.idle(env),
            Mode::Draining => {
                env.kernel.interrupt(self.pid);
                true
            }
            Mode::Left => self.linger(env),
            Mode::Exited => false,
        }
    }

    /// Sends a message without keys to the supervisor, now or as soon as there is room.
    pub(super) fn tell(&mut self, kind: Kind, env: &mut Env<'_>) {
        match env.post(self.pid, Direction::ToSupervisor, kind, &[], &[]) {
            Ok(()) => env.clients.counts.requested_looks += u64::from(kind == Kind::Look),
            Err(NotSent::Full) if self.unsent == Some(Kind::Leave) => {}
            Err(NotSent::Full) => self.unsent = Some(kind),
            Err(NotSent::TooManyRefs) => unreachable!("there are no descriptors"),
        }
    }

    /// From time to time, sends again what could not be sent.
    fn tell_again(&mut self, env: &mut Env<'_>) -> bool {
        let is_time = !env.is_disturbed || env.chance(30);
        if !is_time || !env.kernel.has_room(self.pid, Direction::ToSupervisor) {
            return false;
        }
        let Some(kind) = self.unsent.take() else { return false };
        self.tell(kind, env);
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
            Op::Event(_) if self.begins_nothing() => {}
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
                if is_swallowed && env.fault != Some(Fault::DropStaleUnseen) {
                    self.tell(Kind::Look, env);
                }
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
            Op::Prepare(fd) => self.prepare(fd, env),
            Op::OfferPrepared => self.offer_prepared(env),
            Op::ReleasePrepared => self.release_prepared(),
            Op::Leave => self.leave(),
            Op::Tell(kind) => self.tell(kind, env),
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
        // A worker that is about to say that it leaves has the supervisor look.
        if env.fault == Some(Fault::NoLookAfterRelease) || self.plan.contains(&Op::Leave) {
            return;
        }
        if env.fault == Some(Fault::LookByWatching) && self.mode == Mode::Serving {
            env.kernel.unwatch(self.pid, fd);
            env.kernel.watch(self.pid, fd, Token::Shared(key), true);
        } else if env.kernel.peek(self.pid, fd) != Peek::Nothing {
            self.next([Op::Event(Token::Shared(key))]);
        } else if self.mode == Mode::Left {
            self.holdings.forget(key);
            self.drop_stale(fd);
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
