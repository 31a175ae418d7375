//! Idle connections go from a server to its successor: in the order of `monitor::shared_connections::succession`.

use std::time::Duration;

use super::super::holdings::Installed;
use super::super::{Life, Member, PlaceKey};
use super::kernel::{Direction, SUCCESSOR, SUPERVISOR};
use super::supervisor::{Op, Supervisor};
use super::{Env, Fault};

impl Supervisor {
    /// Claims what is idle, to send it to the successor. Returns whether there was anything.
    pub(super) fn pass(&mut self, env: &mut Env<'_>) -> bool {
        let is_time = !env.is_disturbed || env.chance(30);
        if !self.is_passing || !is_time || !env.kernel.has_room(SUCCESSOR, Direction::ToWorker) {
            return false;
        }
        for key in self.holdings.keys() {
            let place = &env.table.record(key.index).expect("a place of the table").place;
            if env.fault == Some(Fault::ClaimAfterPass) {
                if place.read() == (key.generation, Life::Idle) {
                    self.plan.push_back(Op::Pass(key));
                }
            } else if place.claim(key.generation, Member::SUPERVISOR).is_ok() {
                env.hold(key, self.pid);
                self.plan.push_back(Op::Pass(key));
            }
        }
        !self.plan.is_empty()
    }

    /// The wrong order.
    pub(super) fn claim_passed(&mut self, key: PlaceKey, env: &mut Env<'_>) {
        let place = &env.table.record(key.index).expect("a place of the table").place;
        if place.claim(key.generation, Member::SUPERVISOR).is_ok() {
            env.hold(key, self.pid);
            self.next([Op::Close(key), Op::Free(key)]);
        }
    }

    pub(super) fn pass_one(&mut self, key: PlaceKey, env: &mut Env<'_>) {
        let fd = *self.holdings.get(key).expect("a held connection");
        let record = env.table.record(key.index).expect("a place of the table");
        let used_us = record.used_at().as_micros() as u64;
        let bytes = used_us.to_ne_bytes().to_vec();
        let is_refused = env.is_disturbed && env.chance(5); // ETOOMANYREFS
        if !is_refused && env.kernel.post(SUCCESSOR, Direction::ToWorker, bytes, &[fd]).is_ok() {
            env.clients.counts.passed += 1;
            if env.fault == Some(Fault::ClaimAfterPass) {
                self.plan.push_front(Op::ClaimPassed(key));
            } else {
                self.next([Op::Close(key), Op::Free(key)]);
            }
            return;
        }
        // What is claimed goes back to the workers.
        self.plan.push_front(Op::Pass(key));
        if env.fault == Some(Fault::ClaimAfterPass) {
            return self.plan.clear();
        }
        for op in &mut self.plan {
            if let Op::Pass(key) = *op {
                *op = Op::ReleaseClaimed(key);
            }
        }
        self.plan.push_back(Op::Poll);
    }

    /// Takes a connection of the predecessor. Without a place, it ends.
    pub(super) fn adopt(&mut self, env: &mut Env<'_>) -> bool {
        if self.pid == SUPERVISOR {
            return false;
        }
        let Some((bytes, fds)) = env.kernel.read_mail(SUCCESSOR, Direction::ToWorker) else {
            return false;
        };
        let used_at = u64::from_ne_bytes(bytes.try_into().expect("the predecessor writes 8 bytes"));
        let random = env.dice.draw() as u32;
        let Some(key) = env.table.allocate(Member::SUPERVISOR, random) else {
            env.clients.allow_end(env.kernel.socket_of(self.pid, fds[0]));
            env.kernel.shutdown(self.pid, fds[0]);
            env.kernel.close(self.pid, fds[0]);
            return true;
        };
        env.hold(key, self.pid);
        let record = env.table.record(key.index).expect("a place of the table");
        record.set_used_at(Duration::from_micros(used_at));
        match self.holdings.install(env.table, key, fds[0]) {
            Installed::Held { stale } => {
                self.distribution.offer_to_all(key);
                stale.into_iter().for_each(|fd| env.kernel.close(self.pid, fd));
            }
            Installed::Refused(_) => unreachable!("the place is new"),
        }
        self.plan.push_front(Op::ReleaseClaimed(key));
        true
    }
}
