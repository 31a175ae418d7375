//! How a worker that drains leaves its group: in the order of `event_loop::sharing::leaving`.

use super::super::PlaceKey;
use super::super::message::Kind;
use super::kernel::{Direction, Fd};
use super::worker::{Connection, Mode, Op, Serve, Watch, Worker};
use super::{Env, Fault};

impl Worker {
    /// Gives its idle connections to the others as far as the mailbox has room, then leaves.
    pub(super) fn begin_to_leave(&mut self, env: &mut Env<'_>) {
        self.share_idle(env);
        self.plan.push_back(Op::Leave);
    }

    /// The supervisor looks for what this worker has been told of, once it watches nothing more.
    pub(super) fn leave(&mut self) {
        self.mode = Mode::Left;
        let held = self.held_here();
        self.plan.extend(held.into_iter().map(Op::LeaveShared));
        self.plan.push_back(Op::Tell(Kind::Leave));
    }

    /// From time to time, gives away what is idle by now. Exits when nothing is left.
    pub(super) fn linger(&mut self, env: &mut Env<'_>) -> bool {
        if env.is_disturbed && !env.chance(30) {
            return false;
        }
        let idle = self.idle_fds();
        if !idle.is_empty() {
            if env.fault == Some(Fault::ShareOnce) {
                self.serving = self.own.remove(&idle[0]);
                self.then(&[Serve::Shutdown, Serve::Close]);
            } else if env.kernel.has_room(self.pid, Direction::ToSupervisor) {
                self.share_idle(env);
            } else {
                return false; // The supervisor makes room.
            }
            env.kernel.interrupt(self.pid);
            return true;
        }
        let held = self.held_here();
        if !held.is_empty() {
            // Another worker was faster to claim these.
            env.kernel.interrupt(self.pid);
            for key in held {
                if let Some(fd) = self.holdings.take(key) {
                    self.drop_stale(fd);
                }
            }
            return true;
        }
        if self.is_quick && !self.own.is_empty() {
            return self.close_any(env);
        }
        if self.own.is_empty() {
            self.mode = Mode::Exited;
        }
        self.own.is_empty()
    }

    /// A worker that exits closes connections whose requests it has not begun.
    fn close_any(&mut self, env: &mut Env<'_>) -> bool {
        env.kernel.interrupt(self.pid);
        if let Some((_, connection)) = self.own.pop_first() {
            self.close(&connection, env);
            self.serving = Some(connection);
        }
        true
    }

    /// Whether it is about to exit, and leaves all events to others.
    pub(super) fn begins_nothing(&self) -> bool {
        self.is_quick && matches!(self.mode, Mode::Draining | Mode::Left)
    }

    fn held_here(&self) -> Vec<PlaceKey> {
        self.holdings.keys().filter(|key| self.holdings.get(*key).is_some()).collect()
    }

    fn idle_fds(&self) -> Vec<Fd> {
        let is_idle = |it: &&Connection| it.key.is_none() && it.buffer.is_empty();
        self.own.values().filter(is_idle).map(|it| it.fd).collect()
    }

    fn share_idle(&mut self, env: &mut Env<'_>) {
        let count = 1 + env.below(3);
        for fds in self.idle_fds().chunks(count) {
            self.plan.extend(fds.iter().map(|fd| Op::Prepare(*fd)));
            self.plan.push_back(Op::OfferPrepared);
        }
    }

    pub(super) fn prepare(&mut self, fd: Fd, env: &mut Env<'_>) {
        let mut connection = self.own.remove(&fd).expect("an idle connection");
        let random = env.dice.draw() as u32;
        connection.key = env.table.allocate(self.member(), random);
        let Some(key) = connection.key else {
            self.own.insert(fd, connection);
            return;
        };
        env.hold(key, self.pid);
        self.stamp(&connection, env);
        self.prepared.push_back(connection);
    }

    pub(super) fn offer_prepared(&mut self, env: &mut Env<'_>) {
        let keys: Vec<_> = self.prepared.iter().filter_map(|it| it.key).collect();
        let fds: Vec<_> = self.prepared.iter().map(|it| it.fd).collect();
        if keys.is_empty() {
            return self.close_unshared(env);
        }
        if env.post(self.pid, Direction::ToSupervisor, Kind::Offer, &keys, &fds).is_ok() {
            env.clients.counts.shared += keys.len() as u64;
            env.clients.counts.shared_together += u64::from(keys.len() > 1);
            self.prepared.iter_mut().for_each(|it| it.is_offered = true);
            for _ in keys {
                self.plan.push_front(Op::ReleasePrepared);
            }
            return;
        }
        for key in keys {
            env.drop_hold(key, self.pid);
            env.table.free(key);
        }
        while let Some(mut connection) = self.prepared.pop_front() {
            connection.key = None;
            self.own.insert(connection.fd, connection);
        }
        self.plan.retain(|op| !matches!(op, Op::Prepare(_) | Op::OfferPrepared));
    }

    /// The table has no places. What is left when the worker exits is closed.
    fn close_unshared(&mut self, env: &mut Env<'_>) {
        self.plan.retain(|op| !matches!(op, Op::Prepare(_) | Op::OfferPrepared));
        if self.mode == Mode::Left
            && let Some(fd) = self.idle_fds().first()
        {
            self.serving = self.own.remove(fd);
            let socket = env.kernel.socket_of(self.pid, *fd);
            env.clients.allow_end(socket);
            self.then(&[Serve::Shutdown, Serve::Close]);
        }
    }

    pub(super) fn release_prepared(&mut self) {
        self.serving = self.prepared.pop_front();
        let is_member = self.mode != Mode::Left;
        self.then(&[Serve::PutBack, Serve::Release]);
        if is_member {
            self.then(&[Serve::Watch(Watch::Shared)]);
        }
        self.then(&[Serve::Lend]);
    }
}
