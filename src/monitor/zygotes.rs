//! The zygotes of `--preload`, and the workers that were ordered from them, as a source. The state machine decides when
//! a zygote is started, when it gets its first order and when it ends.
//!
//! The outcome of an order is reported as if the supervisor had forked the worker itself, only later.

use std::time::{Duration, Instant};

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::shared::scoreboard::{Scoreboard, Side};
use arctos_worker::worker_init::WorkerExit;
use nix::poll::{PollFd, PollFlags};

use super::children::ControlSocket;
use super::failure_cause::{self, Failure};
use super::source::{ForkedWorker, Reaped, Report, Round, Source};
use crate::process::fork::wait::{await_status, is_child};
use crate::process::zygote::{
    Parentage, SpawnFailure, SpawnOrder, Zygote, ZygoteDelay, ZygoteEnding, ZygoteEvent,
};
use crate::supervisor::recycling::RecycleLimits;
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::{Event, ExitDetails, Verdict};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The zygotes, and the orders that they have not answered yet.
pub(super) struct Zygotes {
    /// The zygotes that were not reaped yet. At most one of each generation takes orders.
    zygotes: Vec<Zygote>,
    /// The areas in which they count application metrics, by their index.
    areas: Vec<(Pid, u32)>,
    /// Workers that were ordered and do not exist yet.
    ordered: Vec<OrderedWorker>,
    log: Log,
}

/// The supervisor's side of a worker that was ordered.
pub(super) struct OrderedWorker {
    pub(super) slot: SlotId,
    pub(super) side: Side,
    pub(super) socket: ControlSocket,
    pub(super) limits: RecycleLimits,
}

impl Zygotes {
    pub(super) fn new(log: Log) -> Self {
        Self { zygotes: Vec::new(), areas: Vec::new(), ordered: Vec::new(), log }
    }

    /// The index of an area that no zygote has; `None` if there is none.
    pub(super) fn free_area(&self, scoreboard: &Scoreboard) -> Option<u32> {
        let is_free = |index: &u32| self.areas.iter().all(|(_, taken)| taken != index);
        scoreboard.zygote_areas().find(is_free)
    }

    /// Adds a zygote that was started with this area.
    pub(super) fn add(&mut self, zygote: Zygote, area: Option<u32>) {
        self.areas.extend(area.map(|index| (zygote.pid(), index)));
        self.zygotes.push(zygote);
    }

    /// Orders a worker from the zygote of its generation.
    pub(super) fn order(
        &mut self,
        generation: Generation,
        worker: OrderedWorker,
        order: SpawnOrder,
        round: &Round,
        reports: &mut Vec<Report>,
    ) {
        let (slot, side) = (worker.slot, worker.side);
        let serves = |zygote: &Zygote| zygote.generation() == generation && zygote.accepts_orders();
        let Some(index) = self.zygotes.iter().position(serves) else {
            // The zygote was lost at this moment. The state machine requests another one.
            let verdict = Verdict::NotBooted;
            return reports.push(Report::Event(Event::SpawnFailed { slot, side, verdict }));
        };
        self.ordered.push(worker);
        let events = self.zygotes[index].spawn(order, round.now);
        self.report_events(index, true, events, reports);
    }

    /// Ends a zygote whose workers are not wanted any more. It has `patience` to exit.
    pub(super) fn end(&mut self, pid: Pid, patience: Duration, reports: &mut Vec<Report>) {
        if let Some(index) = self.zygotes.iter().position(|zygote| zygote.pid() == pid) {
            let events = self.zygotes[index].shut_down(patience, Instant::now());
            self.report_events(index, false, events, reports);
        }
    }

    /// The failures of zygotes that exited while they loaded the application, and were not reaped yet.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let died = self.zygotes.iter().filter(|zygote| zygote.has_died());
        let failure = |pid| {
            let who = name(pid);
            let cause = failure_cause::not_booted(&who, await_status(pid)?);
            Some(Failure::observed(who, cause))
        };
        died.map(Zygote::pid).filter_map(failure).collect()
    }

    /// Kills and reaps the remaining zygotes.
    pub(super) fn close(self) {
        self.zygotes.into_iter().for_each(Zygote::kill_and_reap);
    }

    /// Reads what the zygotes have sent. `reaped` is a child that was just reaped and that no source knows.
    fn listen(&mut self, reaped: Option<Pid>, round: &Round, reports: &mut Vec<Report>) {
        let mut pids = round.pids.clone();
        for index in 0..self.zygotes.len() {
            let zygote = &mut self.zygotes[index];
            let took_orders = zygote.accepts_orders();
            let events = zygote.receive(&|pid| admission(&pids, reaped, pid), round.now);
            pids.extend(events.iter().filter_map(|event| match event {
                ZygoteEvent::Started { pid, .. } => Some(*pid),
                ZygoteEvent::Ready { .. }
                | ZygoteEvent::Failed { .. }
                | ZygoteEvent::NotReady { .. }
                | ZygoteEvent::Killed { .. }
                | ZygoteEvent::Distrusted { .. }
                | ZygoteEvent::SpawnFailed { .. }
                | ZygoteEvent::Ended { .. } => None,
            }));
            self.report_events(index, took_orders, events, reports);
        }
    }

    fn take_ordered(&mut self, slot: SlotId, side: Side) -> Option<OrderedWorker> {
        let index = self.ordered.iter().position(|it| (it.slot, it.side) == (slot, side))?;
        Some(self.ordered.swap_remove(index))
    }

    /// Reports the events of a zygote. `took_orders` says whether it took orders before these events.
    fn report_events(
        &mut self,
        index: usize,
        took_orders: bool,
        events: Vec<ZygoteEvent>,
        reports: &mut Vec<Report>,
    ) {
        let zygote = &self.zygotes[index];
        let (pid, generation) = (zygote.pid(), zygote.generation());
        let is_lost = took_orders && !zygote.accepts_orders();
        let mut loss = SpawnFailure::Gone;
        for event in events {
            event.log(&self.log, pid, generation);
            match event {
                ZygoteEvent::Ready { .. } => {
                    reports.push(Report::Event(Event::ZygoteReady { pid }))
                }
                ZygoteEvent::Started { slot, side, pid } => {
                    let Some(worker) = self.take_ordered(slot, side) else { continue };
                    let mut forked = ForkedWorker::new(slot, side, pid, worker.socket);
                    forked.child.recycling.limits = worker.limits;
                    reports.push(Report::Forked(Box::new(forked)));
                }
                ZygoteEvent::SpawnFailed { slot, side, cause } => {
                    drop(self.take_ordered(slot, side));
                    let verdict = verdict(cause);
                    reports.push(Report::Event(Event::SpawnFailed { slot, side, verdict }));
                }
                ZygoteEvent::Failed { exit, report } => {
                    loss = SpawnFailure::NotLoaded(exit);
                    reports.push(Report::Failure(Failure::reported(name(pid), report)));
                }
                ZygoteEvent::Killed { reason } => {
                    loss = SpawnFailure::TimedOut;
                    if reason == ZygoteDelay::Boot {
                        reports.push(Report::Failure(Failure::late(name(pid))));
                    }
                }
                ZygoteEvent::Distrusted { .. } => loss = SpawnFailure::Distrusted,
                ZygoteEvent::Ended { status, ending: ZygoteEnding::Died } => {
                    let cause = failure_cause::not_booted(&name(pid), status);
                    reports.push(Report::Failure(Failure::observed(name(pid), cause)));
                }
                ZygoteEvent::NotReady { .. } | ZygoteEvent::Ended { .. } => {}
            }
        }
        if is_lost {
            let (verdict, reason) = (verdict(loss), loss.to_string());
            reports.push(Report::Event(Event::ZygoteLost { pid, verdict, reason }));
        }
    }
}

impl Source for Zygotes {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let sockets = self.zygotes.iter().filter_map(Zygote::poll_fd);
        fds.extend(sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.zygotes.iter().filter_map(Zygote::next_deadline).min()
    }

    fn pids(&self) -> Vec<Pid> {
        self.zygotes.iter().map(Zygote::pid).collect()
    }

    fn read(&mut self, round: &Round, reports: &mut Vec<Report>) {
        self.listen(None, round, reports);
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        if round.suspended_for.is_some() {
            return; // The zygotes may have been suspended, too.
        }
        for index in 0..self.zygotes.len() {
            let took_orders = self.zygotes[index].accepts_orders();
            let events = self.zygotes[index].check_deadlines(round.now);
            self.report_events(index, took_orders, events, reports);
        }
    }

    fn reap(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        round: &Round,
        reports: &mut Vec<Report>,
    ) -> Option<Reaped> {
        let Some(index) = self.zygotes.iter().position(|zygote| zygote.pid() == pid) else {
            if !round.pids.contains(&pid) {
                self.listen(Some(pid), round, reports); // A zygote may have forked this worker and not reported it yet.
            }
            return None;
        };
        let zygote = &mut self.zygotes[index];
        let took_orders = zygote.accepts_orders();
        let events = zygote.exited(status, &|pid| admission(&round.pids, None, pid), round.now);
        self.report_events(index, took_orders, events, reports);
        self.zygotes.swap_remove(index);
        if let Some(index) = self.areas.iter().position(|(owner, _)| *owner == pid) {
            reports.push(Report::AreaLeft(self.areas.swap_remove(index).1));
        }
        Some(Reaped::Other(ExitDetails::default()))
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.zygotes.iter().for_each(|zygote| zygote.list_descriptors(own));
        self.ordered.iter().for_each(|worker| worker.socket.list_descriptors(own));
    }
}

/// Names a zygote in a sentence.
fn name(pid: Pid) -> String {
    format!("the zygote (pid {})", pid.0)
}

/// Checks whether a pid that a zygote reports can be its worker. `known` are the other processes of the server.
fn admission(known: &[Pid], reaped: Option<Pid>, pid: Pid) -> Parentage {
    if known.contains(&pid) {
        Parentage::Foreign
    } else if reaped == Some(pid) || is_child(pid) {
        Parentage::OurChild
    } else {
        Parentage::NotYetOurs
    }
}

/// The verdict for a server if its first workers fail for this cause.
fn verdict(cause: SpawnFailure) -> Verdict {
    match cause {
        SpawnFailure::NotLoaded(WorkerExit::NotImportable) => Verdict::NotImportable,
        SpawnFailure::NotLoaded(
            WorkerExit::Done | WorkerExit::Abandoned | WorkerExit::NotBooted | WorkerExit::Internal,
        )
        | SpawnFailure::Fork(_)
        | SpawnFailure::NotSent(_)
        | SpawnFailure::TimedOut
        | SpawnFailure::Gone
        | SpawnFailure::Distrusted
        | SpawnFailure::Withdrawn => Verdict::NotBooted,
    }
}
