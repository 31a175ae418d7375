//! What a worker does with the connection that it serves.

use std::time::Duration;

use super::super::message::Kind;
use super::kernel::{Answer, Direction, Peek, Received, Token};
use super::worker::{Connection, Mode, Phase, Serve, Watch, Worker};
use super::{Env, Fault};

const CLOSE_SHARED: [Serve; 4] = [Serve::Forget, Serve::Free, Serve::Shutdown, Serve::Close];
const CLOSE_OWN: [Serve; 2] = [Serve::Shutdown, Serve::Close];
const RELEASE: [Serve; 2] = [Serve::PutBack, Serve::Release];
const UNSHARE: [Serve; 4] = [Serve::Watch(Watch::Own), Serve::Forget, Serve::Free, Serve::Receive];

impl Worker {
    /// Returns the connection, unless it is not served any more.
    pub(super) fn serve(
        &mut self,
        op: Serve,
        mut connection: Connection,
        env: &mut Env<'_>,
    ) -> Option<Connection> {
        let fd = connection.fd;
        match op {
            Serve::LookAtClaimed => self.look_at_claimed(&mut connection, env),
            Serve::LookAtExpired => self.look_at_expired(&mut connection, env),
            Serve::Advance(phase) => self.advance(&connection, phase, env),
            Serve::Receive => self.receive(&mut connection, env),
            Serve::Parse => self.parse(&connection, env),
            Serve::Execute => self.execute(&connection, env),
            Serve::Send => self.send(&mut connection, env),
            Serve::Stamp => {
                if env.fault != Some(Fault::StampLate) {
                    self.stamp(&connection, env);
                }
            }
            Serve::AfterResponse => self.after_response(&connection, env),
            Serve::Watch(watch) => self.watch(&mut connection, watch, env),
            Serve::Park => {
                self.own.insert(fd, connection);
                return None;
            }
            Serve::PutBack => self.put_back(&connection, env),
            Serve::Release => {
                self.release(&connection, env);
                return None;
            }
            Serve::Allocate => self.allocate(&mut connection, env),
            Serve::Offer => self.offer(&mut connection, env),
            Serve::Lend => {
                let key = connection.key.expect("a place was allocated");
                if let Some(stale) = self.holdings.lend_new(key) {
                    self.drop_stale(stale);
                }
            }
            Serve::Shutdown => {
                if env.fault != Some(Fault::FreeWithoutShutdown) {
                    env.kernel.shutdown(self.pid, fd);
                }
            }
            Serve::Forget => {
                let key = connection.key.expect("a shared connection");
                assert_eq!(self.holdings.forget(key), None);
            }
            Serve::Free => {
                let key = connection.key.take().expect("a place");
                connection.is_offered = false;
                env.drop_hold(key, self.pid);
                env.table.free(key);
            }
            Serve::Close => {
                env.closed.insert(env.kernel.socket_of(self.pid, fd));
                env.kernel.unwatch(self.pid, fd);
                env.kernel.close(self.pid, fd);
                return None;
            }
        }
        Some(connection)
    }

    /// Only the holder reads, so what is there now will be there for recv(2).
    fn look_at_claimed(&mut self, connection: &mut Connection, env: &mut Env<'_>) {
        match env.kernel.peek(self.pid, connection.fd) {
            Peek::Nothing => self.then(&RELEASE),
            Peek::Bytes if env.fault == Some(Fault::ReadBeforeReading) => {
                self.then(&[Serve::Receive]);
            }
            Peek::Bytes => self.then(&[Serve::Advance(Phase::Reading), Serve::Receive]),
            Peek::End => self.close(connection, env),
        }
    }

    fn look_at_expired(&mut self, connection: &mut Connection, env: &mut Env<'_>) {
        let key = connection.key.expect("a shared connection");
        let is_used = !env.is_expired(key) && env.fault != Some(Fault::ExpireUnchecked);
        if is_used || env.kernel.peek(self.pid, connection.fd) != Peek::Nothing {
            return self.look_at_claimed(connection, env);
        }
        let socket = env.kernel.socket_of(self.pid, connection.fd);
        env.clients.expire(socket, env.now - env.idle_timeout);
        self.then(&CLOSE_SHARED);
    }

    fn advance(&self, connection: &Connection, phase: Phase, env: &Env<'_>) {
        if let Some(key) = connection.key {
            let record = env.table.record(key.index).expect("a place of the table");
            record.place.advance(key.generation, self.life(phase));
        }
    }

    fn receive(&mut self, connection: &mut Connection, env: &mut Env<'_>) {
        let count = 1 + env.below(4);
        match env.kernel.receive(self.pid, connection.fd, count) {
            Received::Pieces(pieces) => {
                connection.buffer.extend(pieces);
                self.then(&[Serve::Parse]);
            }
            Received::End => self.close(connection, env),
            Received::Blocked if connection.key.is_some() && connection.buffer.is_empty() => {
                self.then(&RELEASE);
            }
            Received::Blocked if connection.watch == Watch::Own => self.then(&[Serve::Park]),
            Received::Blocked => {
                env.clients.counts.pinned += 1;
                self.then(&[Serve::Watch(Watch::Own), Serve::Park]);
            }
        }
    }

    fn parse(&mut self, connection: &Connection, env: &Env<'_>) {
        if connection.buffer.iter().any(|piece| piece.is_last) {
            self.then(&[Serve::Advance(Phase::Running), Serve::Execute]);
        } else if env.fault == Some(Fault::ReadBeforeReading) {
            self.then(&[Serve::Receive]);
        } else {
            self.then(&[Serve::Advance(Phase::Reading), Serve::Receive]);
        }
    }

    fn execute(&mut self, connection: &Connection, env: &mut Env<'_>) {
        let socket = env.kernel.socket_of(self.pid, connection.fd);
        env.clients.execute(connection.buffer[0].request, socket);
        self.then(&[Serve::Advance(Phase::Replying), Serve::Send]);
    }

    fn send(&mut self, connection: &mut Connection, env: &mut Env<'_>) {
        let request = connection.buffer[0].request;
        env.kernel.send(self.pid, connection.fd, Answer::Response { request });
        while connection.buffer.pop_front().is_some_and(|piece| !piece.is_last) {}
        connection.used_at = Some(env.now);
        self.then(&[Serve::AfterResponse]);
    }

    fn after_response(&mut self, connection: &Connection, env: &mut Env<'_>) {
        env.is_slow ^= env.chance(env.flip_percent);
        if env.chance(2) {
            env.clients.allow_end(env.kernel.socket_of(self.pid, connection.fd));
            return self.close(connection, env); // `Connection: close`.
        }
        if !connection.buffer.is_empty() && self.begins_nothing() {
            return self.close(connection, env);
        }
        if !connection.buffer.is_empty() {
            return self.then(&[Serve::Parse]);
        }
        if connection.key.is_none() {
            let is_shared = self.mode == Mode::Left || env.is_slow && env.chance(90);
            return self.then(&[if is_shared { Serve::Allocate } else { Serve::Receive }]);
        }
        let is_unshared = !env.is_slow && self.mode != Mode::Left && env.chance(80);
        env.clients.counts.unshared += u64::from(is_unshared);
        self.then(if is_unshared { &UNSHARE } else { &RELEASE });
        if connection.watch == Watch::Own && !is_unshared && self.mode != Mode::Left {
            self.then(&[Serve::Watch(Watch::Shared)]);
        }
        self.then(&[Serve::Stamp, Serve::Advance(Phase::Claimed)]);
    }

    pub(super) fn close(&mut self, connection: &Connection, env: &mut Env<'_>) {
        env.clients.allow_end(env.kernel.socket_of(self.pid, connection.fd));
        self.then(if connection.key.is_some() { &CLOSE_SHARED } else { &CLOSE_OWN });
    }

    fn watch(&mut self, connection: &mut Connection, watch: Watch, env: &mut Env<'_>) {
        let fd = connection.fd;
        let token = match (watch, connection.key) {
            (Watch::Shared, Some(key)) => Token::Shared(key),
            (Watch::Shared | Watch::Own, _) => Token::Own(fd),
        };
        env.kernel.unwatch(self.pid, fd);
        env.kernel.watch(self.pid, fd, token, watch == Watch::Shared);
        connection.watch = watch;
    }

    /// The holder may be killed at any time from here on, and the place is released by the supervisor.
    pub(super) fn stamp(&self, connection: &Connection, env: &Env<'_>) {
        if let (Some(key), Some(used_at)) = (connection.key, connection.used_at) {
            let record = env.table.record(key.index).expect("a place of the table");
            record.set_used_at(Duration::from_micros(used_at));
        }
    }

    fn put_back(&mut self, connection: &Connection, env: &Env<'_>) {
        if env.fault == Some(Fault::StampLate) {
            self.stamp(connection, env);
        }
        self.holdings.put_back(connection.key.expect("a shared connection"), connection.fd);
    }

    fn release(&mut self, connection: &Connection, env: &mut Env<'_>) {
        let key = connection.key.expect("a shared connection");
        env.drop_hold(key, self.pid);
        env.table.record(key.index).expect("a place of the table").place.release(key.generation);
        self.look_later(key);
    }

    fn allocate(&mut self, connection: &mut Connection, env: &mut Env<'_>) {
        let random = env.dice.draw() as u32;
        connection.key = env.table.allocate(self.member(), random);
        match connection.key {
            Some(key) => {
                env.hold(key, self.pid);
                self.then(&[Serve::Stamp, Serve::Offer]);
            }
            None => self.then(&[Serve::Receive]),
        }
    }

    fn offer(&mut self, connection: &mut Connection, env: &mut Env<'_>) {
        let key = connection.key.expect("a place was allocated");
        let fds = [connection.fd];
        match env.post(self.pid, Direction::ToSupervisor, Kind::Offer, &[key], &fds) {
            Ok(()) => {
                connection.is_offered = true;
                env.clients.counts.shared += 1;
                self.then(&RELEASE);
                if self.mode != Mode::Left {
                    self.then(&[Serve::Watch(Watch::Shared)]);
                }
                self.then(&[Serve::Lend]);
            }
            // The worker keeps the connection for itself, and tries again after the next response.
            Err(_) => self.then(&[Serve::Free, Serve::Receive]),
        }
    }
}
