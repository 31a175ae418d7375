//! The stacks that workers write: asked for, put together, and logged with who wrote them.

use std::time::Instant;

use arctos_worker::shared::log::Value;
use nix::errno::Errno;

use super::Monitor;
use crate::monitor::children::Child;
use crate::system::pid::Pid;

impl Monitor<'_> {
    /// SIGUSR2 makes a worker write down what its threads are doing.
    pub(super) fn dump_stack(&self, pid: Pid) {
        let Some(member) = self.children.iter().find(|member| member.pid == pid) else { return };
        match member.dump_stack() {
            Ok(()) | Err(Errno::ESRCH) => {} // ESRCH: not with a pid that was not reaped.
            Err(error) => self.complain("worker.dump_failed", member, error),
        }
    }

    /// Reads what workers have written of their stacks.
    pub(super) fn hear_stacks(&mut self, now: Instant) {
        for member in &mut self.children {
            member.read_stacks(now);
        }
    }

    /// Logs the dumps that are whole.
    pub(super) fn tell_stacks(&mut self, now: Instant) {
        for index in 0..self.children.len() {
            if let Some(dump) = self.children[index].stacks.take_whole(now) {
                self.tell_dump(&self.children[index], &dump);
            }
        }
    }

    /// Logs what a worker has written so far: it is about to be killed, or is dead.
    pub(super) fn tell_last_stacks(&mut self, pid: Pid, now: Instant) {
        let Some(index) = self.children.iter().position(|member| member.pid == pid) else { return };
        let member = &mut self.children[index];
        member.read_stacks(now);
        if let Some(dump) = member.stacks.take() {
            self.tell_dump(&self.children[index], &dump);
        }
    }

    /// The next time that a dump is taken to be whole.
    pub(super) fn next_stacks(&self) -> Option<Instant> {
        self.children.iter().filter_map(|member| member.stacks.deadline()).min()
    }

    fn tell_dump(&self, member: &Child, dump: &str) {
        let pairs = [
            ("slot", Value::Number(i64::from(member.slot.0))),
            ("pid", Value::Number(i64::from(member.pid.0))),
            ("generation", Value::Number(i64::from(member.entry.generation().0))),
        ];
        self.log.block_at_any_level("worker.stacks", &pairs, dump);
    }
}
