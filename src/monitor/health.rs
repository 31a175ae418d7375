//! Looks at the workers a few times a second: who hangs, who is worn out, who has left its loop.

use std::time::{Duration, Instant};

use arctos_worker::shared::log::{Level, Value};

use super::{Monitor, monotonic};
use crate::monitor::children::Child;
use crate::supervisor::Event;
use crate::supervisor::health::{Allowed, Grace, Hang, RecycleReason, hang, has_ended_loop};
use crate::system::pid::Pid;

/// From one look to the next.
pub(super) const LOOK: Duration = Duration::from_millis(250);

impl Monitor<'_> {
    /// Looks, if it is time.
    pub(super) fn watch(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        let Some(monotonic) = monotonic() else { return };
        let allowed = self.allowed();
        let is_weighed = |member: &&Child| member.lease.is_some_and(|lease| lease.wants_rss());
        let weighed = self.children.iter().filter(is_weighed).map(|member| member.pid);
        self.resident.look(weighed, monotonic);
        let mut news = Vec::new();
        for member in &mut self.children {
            if !member.entry.is_ready() {
                continue;
            }
            if has_ended_loop(member.entry, monotonic) {
                news.push((member.pid, Trouble::Leaves { had_request: member.had_request() }));
            }
            let Child { entry, pulse, .. } = member;
            if let Some(found) = hang(entry, pulse, &allowed, &self.pardon, monotonic) {
                news.push((member.pid, Trouble::Hangs(found)));
                continue;
            }
            let Some(lease) = &member.lease else { continue };
            let rss = self.resident.bytes(member.pid);
            if let Some(wear) = lease.reached(member.entry, rss, monotonic) {
                news.push((member.pid, Trouble::Worn(wear)));
            }
        }
        for (pid, trouble) in news {
            match trouble {
                Trouble::Hangs(found) => {
                    self.last_hang = Some((pid, found));
                    self.supervisor.handle(Event::Hung { pid }, now);
                }
                Trouble::Leaves { had_request } => {
                    self.supervisor.handle(Event::LoopEnded { pid, had_request }, now);
                }
                Trouble::Worn(wear) => {
                    self.tell_wear(pid, wear);
                    self.supervisor.handle(Event::LimitReached { pid }, now);
                }
            }
        }
    }

    /// Looks once more at those that are about to be killed because they hang: one that goes on by now was
    /// busy, and is let live.
    pub(super) fn look_again(&mut self, now: Instant) {
        let allowed = self.allowed();
        let Some(monotonic) = monotonic() else { return };
        let mut busy = Vec::new();
        for Child { pid, entry, pulse, .. } in &mut self.children {
            if self.supervisor.is_hung(*pid)
                && hang(entry, pulse, &allowed, &self.pardon, monotonic).is_none()
            {
                busy.push(*pid);
            }
        }
        for pid in busy {
            self.supervisor.handle(Event::GoesOn { pid }, now);
        }
    }

    /// How long a worker may take for what is the application's.
    fn allowed(&self) -> Allowed {
        let patience = &self.generations.current().load.config.patience;
        let request = Some(patience.request).filter(|timeout| !timeout.is_zero());
        Allowed { request, stop: patience.graceful }
    }

    /// Who was stopped together with us is pardoned the time.
    pub(super) fn pardon(&mut self, gap: Duration, now: Instant) {
        self.next_look = now + LOOK;
        if let Some(until) = monotonic() {
            self.pardon = Grace { until, gap };
        }
    }

    /// Once for each worker: it is told again until it is replaced.
    fn tell_wear(&mut self, pid: Pid, wear: RecycleReason) {
        let Some(member) = self.children.iter_mut().find(|member| member.pid == pid) else {
            return;
        };
        if std::mem::replace(&mut member.is_worn, true) {
            return;
        }
        let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
        let (limit, value) = match wear {
            RecycleReason::Requests(count) => ("--max-requests", number(count)),
            RecycleReason::Rss(bytes) => ("--max-rss", number(bytes)),
            RecycleReason::Lifetime(age) => ("--max-lifetime", number(age.as_secs())),
        };
        let pairs = [
            ("slot", Value::Number(i64::from(member.slot.0))),
            ("pid", Value::Number(i64::from(pid.0))),
            ("generation", Value::Number(i64::from(member.entry.generation().0))),
            ("limit", Value::Text(limit)),
            ("value", value),
        ];
        self.log.line(Level::Info, "worker.worn", &pairs);
    }
}

enum Trouble {
    Hangs(Hang),
    /// Its loop is over, and its process is still there.
    Leaves {
        had_request: bool,
    },
    Worn(RecycleReason),
}
