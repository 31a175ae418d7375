//! The worker processes as a source: reads what they write, sends them commands, and checks a few times a second
//! whether one hangs, has reached a limit, or has left its loop.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::request_key::RequestKeys;
use arctos_worker::shared::scoreboard::Command;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use super::children::{Child, Recycling, Word};
use super::clock::monotonic;
use super::memory::Memory;
use super::quarantine::incident;
use super::running_request::running_request;
use super::source::{Reaped, Report, Round, Source};
use crate::supervisor::health::{Allowed, Grace, Hang, hang, has_ended_loop};
use crate::supervisor::interruption::Verdict;
use crate::supervisor::log_event::Answered;
use crate::supervisor::recycling::RecycleReason;
use crate::supervisor::slot::{ExitStatus, Jitter};
use crate::supervisor::{Event, ExitDetails};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The workers that were not reaped yet, and the state of their checks.
pub(super) struct Workers {
    children: Vec<Child>,
    next_check: Instant,
    /// The last time that the supervisor, and perhaps the workers with it, was suspended.
    grace: Grace,
    pub(super) memory: Memory,
    jitter: Jitter,
    /// Makes the keys of late requests.
    request_keys: RequestKeys,
    log: Log,
}

impl Workers {
    pub(super) fn new(log: Log, request_keys: RequestKeys, seed: u64, now: Instant) -> Self {
        Self {
            children: Vec::new(),
            next_check: now,
            grace: Grace::default(),
            memory: Memory::default(),
            jitter: Jitter::new(seed),
            request_keys,
            log,
        }
    }

    pub(super) fn add(&mut self, child: Child) {
        self.children.push(child);
    }

    pub(super) fn all(&self) -> &[Child] {
        &self.children
    }

    pub(super) fn of(&self, pid: Pid) -> Option<&Child> {
        self.children.iter().find(|child| child.pid == pid)
    }

    pub(super) fn command(&self, pid: Pid, command: Command) {
        let Some(child) = self.of(pid) else { return };
        if let Err(error) = child.command(command) {
            self.log_failure("worker.command_failed", child, error);
        }
    }

    pub(super) fn kill(&mut self, pid: Pid) {
        self.log_last_stacks(pid, Instant::now());
        let Some(child) = self.of(pid) else { return };
        match child.kill() {
            Ok(()) | Err(Errno::ESRCH) => {} // ESRCH cannot happen before the worker is reaped.
            Err(error) => self.log_failure("worker.kill_failed", child, error),
        }
    }

    /// Makes a worker dump the stacks of its threads.
    pub(super) fn dump_stack(&self, pid: Pid) {
        let Some(child) = self.of(pid) else { return };
        match child.dump_stack() {
            Ok(()) | Err(Errno::ESRCH) => {} // ESRCH cannot happen before the worker is reaped.
            Err(error) => self.log_failure("worker.dump_failed", child, error),
        }
    }

    /// Sends the access log that was reopened to all workers.
    pub(super) fn give_access_log(&self, file: BorrowedFd<'_>) {
        for child in &self.children {
            match child.give_access_log(file) {
                Ok(()) | Err(Errno::EPIPE) => {} // EPIPE: the worker has ended.
                Err(error) => self.log_failure("worker.access_log_not_given", child, error),
            }
        }
    }

    fn log_failure(&self, event: &str, child: &Child, error: Errno) {
        log_failure(&self.log, event, child, error);
    }

    fn read_messages(&mut self, index: usize, round: &Round, reports: &mut Vec<Report>) {
        let child = &mut self.children[index];
        let pid = child.pid;
        match child.listen() {
            Some(Word::Ready) => {
                if let Some(monotonic) = monotonic() {
                    let limits = child.recycling.limits;
                    let own = limits.worker_limits(child.entry, monotonic, &mut self.jitter);
                    child.recycling.own = Some(own);
                    self.memory.start(child, round.workers_target, monotonic, &self.log);
                }
                reports.push(Report::Event(Event::Ready { pid }));
            }
            Some(Word::Failing) => reports.push(Report::Event(Event::Failing { pid })),
            None => {}
        }
    }

    /// Checks again the workers that are about to be killed because they hang. One that has gone on was only busy,
    /// and is not killed.
    fn check_hung(&mut self, round: &Round, reports: &mut Vec<Report>) {
        let Some(monotonic) = monotonic() else { return };
        let allowed = allowed(round);
        for child in self.children.iter_mut().filter(|child| child.hang.is_some()) {
            let Child { pid, entry, pulse, .. } = child;
            if hang(entry, pulse, &allowed, &self.grace, monotonic).is_none() {
                reports.push(Report::Event(Event::GoesOn { pid: *pid }));
                child.hang = None;
            }
        }
    }

    fn check_all(&mut self, round: &Round, reports: &mut Vec<Report>) {
        if round.now < self.next_check {
            return;
        }
        self.next_check = round.now + CHECK_INTERVAL;
        let Some(monotonic) = monotonic() else { return };
        let allowed = allowed(round);
        self.memory.weigh(&mut self.children, round.workers_target, monotonic);
        self.memory.log_refusal(round.revision.config.limits.memory, &self.log);
        for child in &mut self.children {
            let pid = child.pid;
            if !child.entry.is_ready() {
                continue;
            }
            if has_ended_loop(child.entry, monotonic) {
                let had_request = child.had_request();
                reports.push(Report::Event(Event::LoopEnded { pid, had_request }));
            }
            let Child { entry, pulse, late, .. } = child;
            let found = hang(entry, pulse, &allowed, &self.grace, monotonic);
            let verdict = late.interruption.judge(found, entry, &allowed, &self.grace, monotonic);
            // ESRCH cannot happen before the worker is reaped; EAGAIN: it has too many signals that are pending.
            let _ = child.check_connection(monotonic, found.is_some());
            match verdict {
                Verdict::Healthy => {}
                Verdict::Interrupt(call) => {
                    let keys = self.request_keys.at(&round.revision.config.worker.root_path);
                    child.late.incident = incident(pid, child.entry, &keys);
                    interrupt(&self.log, child, call);
                    continue;
                }
                Verdict::Wait => {
                    // The system call may have gone on after another signal. The exception is raised once.
                    if found.is_some() {
                        let _ = child.interrupt_again();
                    }
                    continue;
                }
                verdict @ (Verdict::Reacted | Verdict::Recycle) => {
                    if verdict == Verdict::Reacted {
                        log_late(&self.log, child, true);
                        reports.extend(child.late.incident.take().map(Report::Incident));
                    }
                    reports.push(Report::Event(Event::LimitReached { pid }));
                    continue;
                }
                verdict @ (Verdict::Unresponsive(found) | Verdict::Hung(found)) => {
                    if matches!(verdict, Verdict::Unresponsive(_)) {
                        log_late(&self.log, child, false);
                        reports.extend(child.late.incident.take().map(Report::Incident));
                    }
                    child.hang = Some(found);
                    reports.push(Report::Event(Event::Hung { pid }));
                    continue;
                }
            }
            let Recycling { own, memory, .. } = &child.recycling;
            let reached = own.and_then(|limits| limits.reached(child.entry, memory, monotonic));
            if let Some(reason) = reached {
                // The event is repeated until the worker is replaced; it is logged once.
                if !std::mem::replace(&mut child.recycling.is_logged, true) {
                    log_limit(&self.log, child, reason);
                }
                reports.push(Report::Event(Event::LimitReached { pid }));
            }
        }
    }

    /// Logs the stack dumps that are complete.
    fn log_stacks(&mut self, now: Instant) {
        for child in &mut self.children {
            if let Some(dump) = child.stacks.take_whole(now) {
                self.log.block_at_any_level("worker.stacks", &pairs(child), &dump);
            }
        }
    }

    /// Logs what has arrived of the stacks of a worker that is about to be killed or is dead.
    fn log_last_stacks(&mut self, pid: Pid, now: Instant) {
        let Some(child) = self.children.iter_mut().find(|child| child.pid == pid) else { return };
        child.read_stacks(now);
        if let Some(dump) = child.stacks.take() {
            self.log.block_at_any_level("worker.stacks", &pairs(child), &dump);
        }
    }
}

impl Source for Workers {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        for child in &self.children {
            let awaited = child.awaited().into_iter().chain(child.awaited_stacks());
            fds.extend(awaited.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let stacks = self.children.iter().filter_map(|child| child.stacks.deadline());
        stacks.chain([self.next_check]).min()
    }

    fn pids(&self) -> Vec<Pid> {
        self.children.iter().map(|child| child.pid).collect()
    }

    fn read(&mut self, round: &Round, reports: &mut Vec<Report>) {
        for index in 0..self.children.len() {
            let child = &mut self.children[index];
            let pipe = child.awaited_stacks().map(|pipe| pipe.as_raw_fd());
            if pipe.is_some_and(|pipe| round.ready_fds.contains(&pipe)) {
                child.read_stacks(round.now);
            }
            let control = child.awaited().map(|control| control.as_raw_fd());
            if control.is_some_and(|control| round.ready_fds.contains(&control)) {
                child.receive_connection();
            }
            self.read_messages(index, round, reports);
        }
        if round.suspended_for.is_none() {
            self.check_hung(round, reports);
        }
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        if let Some(gap) = round.suspended_for {
            self.next_check = round.now + CHECK_INTERVAL;
            if let Some(until) = monotonic() {
                self.grace = Grace { until, gap };
            }
        }
        self.log_stacks(round.now);
        self.check_all(round, reports);
    }

    fn reap(
        &mut self,
        pid: Pid,
        _status: ExitStatus,
        round: &Round,
        reports: &mut Vec<Report>,
    ) -> Option<Reaped> {
        let index = self.children.iter().position(|child| child.pid == pid)?;
        self.read_messages(index, round, reports); // This reads what the worker wrote before it ended.
        self.log_last_stacks(pid, round.now);
        let mut child = self.children.swap_remove(index);
        self.memory.forget(pid);
        let unanswered = child.take_unanswered();
        let details = ExitDetails {
            report: child.report(),
            had_request: child.had_request(),
            was_in_request: running_request(child.entry).is_some(),
            is_baseline: false,
            answered: Answered::default(),
        };
        let has_hung = child.hang.is_some();
        Some(Reaped::Worker { details, entry: child.entry, has_hung, unanswered })
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.children.iter().for_each(|child| child.list_descriptors(own));
    }
}

/// Returns the time limits for the parts of a worker that belong to the application.
fn allowed(round: &Round) -> Allowed<'_> {
    let patience = round.patience();
    let reaction = Some(patience.reaction).filter(|time| !time.is_zero());
    let calls = &round.revision.config.worker.call_limits;
    Allowed { calls, reaction, stop: patience.graceful }
}

/// Interrupts the call of a worker that started at this moment.
fn interrupt(log: &Log, child: &mut Child, call: Duration) {
    child.late.request = running_request(child.entry);
    match child.interrupt(call) {
        Ok(()) | Err(Errno::ESRCH) => {} // ESRCH cannot happen before the worker is reaped.
        Err(error) => log_failure(log, "worker.interrupt_failed", child, error),
    }
}

/// Logs a request that exceeded its time limit, once it is known whether it reacted to the exception.
fn log_late(log: &Log, child: &mut Child, has_reacted: bool) {
    let Some(request) = child.late.request.take() else { return };
    let mut pairs = pairs(child).to_vec();
    pairs.push(("reacted", Value::Text(if has_reacted { "yes" } else { "no" })));
    pairs.extend(request.pairs());
    let level = if has_reacted { Level::Warning } else { Level::Error };
    log.line(level, "request.timed_out", &pairs);
}

fn log_failure(log: &Log, event: &str, child: &Child, error: Errno) {
    let mut pairs = pairs(child).to_vec();
    pairs.push(("reason", Value::Display(&error)));
    log.line(Level::Error, event, &pairs);
}

/// The keys of every log line about a worker.
fn pairs(child: &Child) -> [(&'static str, Value<'static>); 3] {
    [
        ("slot", Value::Number(i64::from(child.slot.0))),
        ("pid", Value::Number(i64::from(child.pid.0))),
        ("generation", Value::Number(i64::from(child.entry.generation().0))),
    ]
}

fn log_limit(log: &Log, child: &Child, reason: RecycleReason) {
    let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
    let (limit, value) = match reason {
        RecycleReason::Requests(count) => ("--max-requests", number(count)),
        RecycleReason::Memory(bytes) => ("--max-rss", number(bytes)),
        RecycleReason::Lifetime(age) => ("--max-lifetime", number(age.as_secs())),
    };
    let mut pairs = pairs(child).to_vec();
    pairs.extend([("limit", Value::Text(limit)), ("value", value)]);
    log.line(Level::Info, "worker.limit_reached", &pairs);
}

/// Describes for the log what a worker hangs in, and for how long.
pub(super) fn describe_hang(hang: Hang) -> (&'static str, Duration) {
    match hang {
        Hang::Request(age) => ("request", age),
        Hang::Loop(age) => ("loop", age),
        Hang::Exit(age) => ("exit", age),
    }
}
