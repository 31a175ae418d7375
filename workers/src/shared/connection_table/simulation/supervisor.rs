//! The supervisor's part: it holds, passes on, and takes over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::distribution::Distribution;
use super::super::holdings::{Holdings, Installed};
use super::super::message::{self, Kind};
use super::super::{Life, Member, PlaceKey};
use super::kernel::{Answer, Direction, Fd, NotSent, Peek, Pid};
use super::{Env, Fault};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    ReadAll {
        pid: Pid,
        number: u8,
    },
    TakeOver {
        index: u32,
        number: u8,
        pid: Pid,
    },
    Release(PlaceKey),
    Answer(PlaceKey),
    Shutdown(PlaceKey),
    Close(PlaceKey),
    Free(PlaceKey),
    Poll,
    Bury {
        pid: Pid,
        number: u8,
    },
    /// Sends a claimed connection to the successor.
    Pass(PlaceKey),
    ClaimPassed(PlaceKey),
    ReleaseClaimed(PlaceKey),
}

pub(super) struct Supervisor {
    pub(super) pid: Pid,
    pub(super) server: usize,
    pub(super) holdings: Holdings<Fd>,
    pub(super) distribution: Distribution,
    /// The members that may get connections.
    members: BTreeMap<u8, Pid>,
    /// Connections at which a member has still to look.
    looks: BTreeMap<u8, BTreeSet<u32>>,
    /// Members to which a message failed although there was room: nothing says when to try again.
    stalled: BTreeSet<u8>,
    /// Workers that were reaped and are not taken over yet.
    dead: VecDeque<(Pid, u8)>,
    /// All workers whose mailboxes are open.
    mailboxes: BTreeMap<Pid, u8>,
    pub(super) plan: VecDeque<Op>,
    /// Whether idle connections go to a successor.
    pub(super) is_passing: bool,
    /// Whether the last worker has left.
    is_abandoned: bool,
}

impl Supervisor {
    pub(super) fn new(pid: Pid, server: usize) -> Self {
        Self {
            pid,
            server,
            holdings: Holdings::new(),
            distribution: Distribution::default(),
            members: BTreeMap::new(),
            looks: BTreeMap::new(),
            stalled: BTreeSet::new(),
            dead: VecDeque::new(),
            mailboxes: BTreeMap::new(),
            plan: VecDeque::new(),
            is_passing: false,
            is_abandoned: false,
        }
    }

    /// A worker has started.
    pub(super) fn join(&mut self, pid: Pid, number: u8, env: &Env<'_>) {
        self.is_abandoned &= env.fault == Some(Fault::StayAbandoned);
        self.distribution.join(number, self.holdings.keys());
        self.members.insert(number, pid);
        self.mailboxes.insert(pid, number);
    }

    /// A worker gets nothing more.
    fn leave(&mut self, number: u8) {
        self.distribution.leave(number);
        self.members.remove(&number);
        self.looks.remove(&number);
        self.stalled.remove(&number);
    }

    /// A worker was reaped.
    pub(super) fn reap(&mut self, pid: Pid, number: u8) {
        if self.members.get(&number) == Some(&pid) {
            self.leave(number);
        }
        self.dead.push_back((pid, number));
    }

    pub(super) fn next<const N: usize>(&mut self, ops: [Op; N]) {
        for op in ops.into_iter().rev() {
            self.plan.push_front(op);
        }
    }

    /// Whether no worker with this number is left, dead or alive.
    pub(super) fn is_free(&self, number: u8) -> bool {
        !self.mailboxes.values().any(|it| *it == number)
    }

    /// Does one thing. Returns whether there was one.
    pub(super) fn step(&mut self, env: &mut Env<'_>) -> bool {
        env.enter(self.server);
        if let Some(op) = self.plan.pop_front() {
            self.carry_out(op, env);
            return true;
        }
        if let Some((pid, number)) = self.dead.pop_front() {
            self.bury(pid, number, env);
            return true;
        }
        if self.pass(env) || self.adopt(env) {
            return true;
        }
        let mut pids: Vec<_> = self.mailboxes.iter().map(|(pid, number)| (*pid, *number)).collect();
        let middle = env.below(pids.len().max(1));
        pids.rotate_left(middle);
        let turn = env.below(3);
        pids.into_iter().any(|(pid, number)| {
            (0..3).any(|step| match (turn + step) % 3 {
                0 => self.read(pid, number, env),
                1 => self.pass_on(pid, number, env),
                _ => self.send_looks(pid, number, env),
            })
        })
    }

    pub(super) fn sweep(&mut self, env: &mut Env<'_>) {
        env.enter(self.server);
        for fd in self.holdings.take_stale(env.table) {
            env.kernel.close(self.pid, fd);
        }
        if env.fault != Some(Fault::StallForever) {
            self.stalled.clear();
        }
        self.end_idle(env);
    }

    /// Whether it has to wait for the next sweep.
    pub(super) fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// The order matters: an offered connection outlives the worker only if the offer is read first, and nothing may
    /// be idle and unwatched when the supervisor looks for bytes.
    fn bury(&mut self, pid: Pid, number: u8, env: &Env<'_>) {
        let take_over = (0..env.table.used_end()).map(|index| Op::TakeOver { index, number, pid });
        let read = Op::ReadAll { pid, number };
        if env.fault == Some(Fault::OfferAfterTakeOver) {
            self.plan.extend(take_over);
            self.plan.push_back(read);
        } else {
            self.plan.push_back(read);
            self.plan.extend(take_over);
        }
        self.plan.push_back(Op::Bury { pid, number });
        if env.fault != Some(Fault::NoLookAfterDeath) {
            self.plan.push_back(Op::Poll);
        }
    }

    fn carry_out(&mut self, op: Op, env: &mut Env<'_>) {
        match op {
            Op::ReadAll { pid, number } => {
                if self.read(pid, number, env) {
                    self.plan.push_front(op);
                }
            }
            Op::TakeOver { index, number, pid } => self.take_over(index, number, pid, env),
            Op::Release(key) => {
                env.drop_hold(key, self.pid);
                env.table.record(key.index).expect("a place").place.release(key.generation);
                env.clients.counts.released_after_death += 1;
            }
            Op::Answer(key) => {
                let fd = *self.holdings.get(key).expect("a held connection");
                env.kernel.send(self.pid, fd, Answer::BadGateway);
            }
            Op::Shutdown(key) => {
                let fd = *self.holdings.get(key).expect("a held connection");
                env.kernel.shutdown(self.pid, fd);
                env.closed.insert(env.kernel.socket_of(self.pid, fd));
            }
            Op::Close(key) => {
                let fd = self.holdings.forget(key).expect("a held connection");
                env.kernel.close(self.pid, fd);
            }
            Op::Free(key) => {
                env.drop_hold(key, self.pid);
                env.table.free(key);
            }
            Op::Poll => self.poll(env),
            Op::Pass(key) => self.pass_one(key, env),
            Op::ClaimPassed(key) => self.claim_passed(key, env),
            Op::ReleaseClaimed(key) => {
                env.drop_hold(key, self.pid);
                env.table.record(key.index).expect("a place").place.release(key.generation);
            }
            Op::Bury { pid, .. } => {
                env.kernel.drop_mailbox(pid, Direction::ToSupervisor);
                self.mailboxes.remove(&pid);
            }
        }
    }

    fn take_over(&mut self, index: u32, number: u8, pid: Pid, env: &mut Env<'_>) {
        let record = env.table.record(index).expect("a place of the table");
        let dead = Member::worker(number).expect("a small number");
        let Some((generation, life)) = record.place.take_over(dead) else { return };
        let key = PlaceKey { index, generation };
        env.drop_hold(key, pid);
        env.hold(key, self.pid);
        let is_held = self.holdings.get(key).is_some();
        let ops: &[Op] = match life {
            _ if !is_held => &[Op::Free(key)],
            Life::Claimed(_) => &[Op::Release(key)],
            Life::Reading(_) | Life::Running(_) => {
                &[Op::Answer(key), Op::Shutdown(key), Op::Close(key), Op::Free(key)]
            }
            Life::Replying(_) => &[Op::Shutdown(key), Op::Close(key), Op::Free(key)],
            Life::Free | Life::Idle => unreachable!("nobody had claimed it"),
        };
        for op in ops.iter().rev() {
            self.next([*op]);
        }
    }

    fn poll(&mut self, env: &mut Env<'_>) {
        for key in self.holdings.keys() {
            let record = env.table.record(key.index).expect("a place of the table");
            let is_idle = record.place.read() == (key.generation, Life::Idle);
            let fd = *self.holdings.get(key).expect("the supervisor lends nothing");
            if is_idle && env.kernel.peek(self.pid, fd) != Peek::Nothing {
                for number in self.members.keys() {
                    self.looks.entry(*number).or_default().insert(key.index);
                }
            }
        }
    }

    fn read(&mut self, pid: Pid, number: u8, env: &mut Env<'_>) -> bool {
        let Some((bytes, fds)) = env.kernel.read_mail(pid, Direction::ToSupervisor) else {
            return false;
        };
        let (kind, keys) = message::decode(&bytes).expect("workers write messages");
        match kind {
            Kind::Offer => {
                for (key, fd) in keys.zip(fds) {
                    let stale = match self.holdings.install(env.table, key, fd) {
                        Installed::Held { stale } => {
                            self.distribution.offer(number, key);
                            stale
                        }
                        Installed::Refused(fd) => Some(fd),
                    };
                    if let Some(fd) = stale {
                        env.kernel.close(self.pid, fd);
                    }
                }
            }
            Kind::Look => self.look_later(),
            Kind::Leave => {
                self.leave(number);
                self.is_abandoned |= self.members.is_empty();
                if env.fault != Some(Fault::LeaveUnseen) {
                    self.look_later();
                }
            }
            Kind::Install => unreachable!("workers install nothing elsewhere"),
        }
        true
    }

    /// What another worker has offered before counts as well: its event may be the one that was taken.
    fn look_later(&mut self) {
        let mailboxes = self.mailboxes.iter();
        self.plan.extend(mailboxes.map(|(&pid, &number)| Op::ReadAll { pid, number }));
        self.plan.push_back(Op::Poll);
    }

    fn pass_on(&mut self, pid: Pid, number: u8, env: &mut Env<'_>) -> bool {
        let count = 1 + env.below(3);
        let places = self.distribution.next(number, count);
        if places.is_empty() || self.stalled.contains(&number) {
            return false;
        }
        let keys: Vec<_> = places.iter().filter_map(|place| self.holdings.at(*place)).collect();
        let fds: Vec<_> = keys.iter().filter_map(|key| self.holdings.get(*key).copied()).collect();
        let is_sent = self.send(pid, number, (Kind::Install, &keys, &fds), env);
        if is_sent || env.fault == Some(Fault::InstallOnce) {
            self.distribution.sent(number, &places);
        }
        is_sent
    }

    fn send_looks(&mut self, pid: Pid, number: u8, env: &mut Env<'_>) -> bool {
        let Some(places) = self.looks.get(&number) else { return false };
        let keys: Vec<_> = places.iter().filter_map(|place| self.holdings.at(*place)).collect();
        let is_sent = self.send(pid, number, (Kind::Look, &keys, &[]), env);
        if is_sent || env.fault == Some(Fault::LookOnce) {
            env.clients.counts.looks += keys.len() as u64;
            self.looks.remove(&number);
        }
        is_sent
    }

    fn send(
        &mut self,
        pid: Pid,
        number: u8,
        (kind, keys, fds): (Kind, &[PlaceKey], &[Fd]),
        env: &mut Env<'_>,
    ) -> bool {
        if keys.is_empty() {
            return true;
        }
        let sent = env.post(pid, Direction::ToWorker, kind, keys, fds);
        if sent == Err(NotSent::TooManyRefs) {
            env.clients.counts.stalled += 1;
            self.stalled.insert(number);
        } else {
            self.stalled.remove(&number);
        }
        sent.is_ok()
    }

    /// Ends connections that wait for a request, because no worker is left to serve them: all of them if the last one has
    /// left, otherwise those that are expired.
    fn end_idle(&mut self, env: &mut Env<'_>) {
        let is_abandoned = self.is_abandoned && !self.is_passing;
        if env.fault == Some(Fault::KeepAbandoned) || !is_abandoned && !self.mailboxes.is_empty() {
            return;
        }
        for key in self.holdings.keys() {
            let place = &env.table.record(key.index).expect("a place of the table").place;
            let is_late = is_abandoned || env.is_expired(key);
            if !is_late || place.claim(key.generation, Member::SUPERVISOR).is_err() {
                continue;
            }
            env.hold(key, self.pid);
            let fd = *self.holdings.get(key).expect("a held connection");
            let socket = env.kernel.socket_of(self.pid, fd);
            if !is_abandoned {
                env.clients.expire(socket, env.now - env.idle_timeout);
            } else if self.members.is_empty() {
                env.clients.counts.abandoned += 1;
                env.clients.allow_end(socket);
            }
            self.plan.extend([Op::Shutdown(key), Op::Close(key), Op::Free(key)]);
        }
    }
}
