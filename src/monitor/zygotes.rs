//! `--preload`: workers that a zygote forks, one zygote for each generation.
//!
//! A zygote is started when the first worker of its generation is wanted, and anew when one is wanted and
//! the last one is gone. It ends when nobody can want a worker of its generation any more. What becomes of
//! an order is told to the machine as if the worker had been forked here: [`Event::Started`] or
//! [`Event::SpawnFailed`], only later.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::Side;
use arctos_worker::worker_init::WorkerExit;

use super::actions::{Equipment, SpawnError};
use super::generations::Loaded;
use super::{Monitor, blame};
use crate::monitor::children::{Child, ControlSocket};
use crate::process::fork::ChildSetup;
use crate::process::fork::wait::{await_status, is_child};
use crate::process::on_start::OnStart;
use crate::process::title::zygote_title;
use crate::process::zygote::{
    Parentage, SpawnFailure, SpawnOrder, Zygote, ZygoteDelay, ZygoteEnding, ZygoteEvent,
    ZygoteInit, adopt_orphans,
};
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::{Event, Verdict};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The zygotes, and what they were asked for.
#[derive(Default)]
pub(super) struct Zygotes {
    /// Those that were not reaped yet; no two of a generation take orders.
    zygotes: Vec<Zygote>,
    /// Our ends of the lines of workers that are not there yet.
    ordered: Vec<(SlotId, Side, ControlSocket)>,
}

impl Zygotes {
    /// Readable when one has something to say.
    pub(super) fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.zygotes.iter().filter_map(Zygote::poll_fd)
    }

    /// When [`Monitor::judge_zygotes`] is due at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.zygotes.iter().filter_map(Zygote::next_deadline).min()
    }

    /// The descriptors that a child closes.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.zygotes.iter().for_each(|zygote| zygote.list_descriptors(own));
        self.ordered.iter().for_each(|(_, _, lines)| lines.list_descriptors(own));
    }

    /// Kills and reaps what is left of them.
    pub(super) fn close(self) {
        self.zygotes.into_iter().for_each(Zygote::kill_and_reap);
    }

    /// Our ends of the lines of this order.
    fn answered(&mut self, slot: SlotId, side: Side) -> Option<ControlSocket> {
        let is_its = |of: &(SlotId, Side, ControlSocket)| (of.0, of.1) == (slot, side);
        let index = self.ordered.iter().position(is_its)?;
        Some(self.ordered.swap_remove(index).2)
    }
}

impl Monitor<'_> {
    /// Orders a worker of this generation, from a new zygote if there is none.
    pub(super) fn order(
        &mut self,
        slot: SlotId,
        side: Side,
        generation: Generation,
        loaded: &Loaded,
        equipment: Equipment,
    ) -> Result<(), SpawnError> {
        let now = Instant::now();
        let serves = |zygote: &Zygote| zygote.generation() == generation && zygote.accepts_orders();
        let index = match self.zygotes.zygotes.iter().position(serves) {
            Some(index) => index,
            None => {
                let zygote = self.start_zygote(generation, loaded, &equipment, now)?;
                self.zygotes.zygotes.push(zygote);
                self.zygotes.zygotes.len() - 1
            }
        };
        let Equipment { lines, life, doorbell, listeners, access_log } = equipment;
        self.zygotes.ordered.push((slot, side, lines));
        let order = SpawnOrder { slot, side, control_fd: life, doorbell, listeners, access_log };
        let events = self.zygotes.zygotes[index].spawn(order, now);
        self.heed(index, events);
        Ok(())
    }

    fn start_zygote(
        &self,
        generation: Generation,
        loaded: &Loaded,
        equipment: &Equipment,
        now: Instant,
    ) -> Result<Zygote, SpawnError> {
        let config = &loaded.load.config;
        let name = config.process_name();
        let inheritance = ZygoteInit {
            generation,
            name,
            settings: &config.worker,
            log: &self.log,
            scoreboard: &self.scoreboard,
            supervisor: &self.process,
        };
        let title = zygote_title(name);
        let mut own = self.own_descriptors_beside(&equipment.lines);
        equipment.list_descriptors(&mut own);
        let setup = ChildSetup { signals: &self.signals, identity: &loaded.identity, title, own };
        adopt_orphans().map_err(SpawnError::Orphans)?;
        let launch = &*loaded.load.launch;
        Ok(Zygote::start(launch, &inheritance, &setup, config.patience.boot, now)?)
    }

    /// Takes in what zygotes have said. `reaped` is a child that was reaped just now and is nobody's yet.
    pub(super) fn hear_zygotes(&mut self, reaped: Option<Pid>, now: Instant) {
        for index in 0..self.zygotes.zygotes.len() {
            let known = self.known();
            let admit = |pid| admission(&known, reaped, pid);
            let events = self.zygotes.zygotes[index].receive(&admit, now);
            self.heed(index, events);
        }
    }

    /// The children that have a place already.
    fn known(&self) -> Vec<Pid> {
        let children = self.children.iter().map(|member| member.pid);
        let zygotes = self.zygotes.zygotes.iter().map(Zygote::pid);
        let opening = self.openings.opening().map(OnStart::pid);
        let others = [self.succession.successor(), self.collector.child()].into_iter().flatten();
        children.chain(zygotes).chain(opening).chain(others).collect()
    }

    /// Whose time is up? Not to be called when we have been stopped ourselves.
    pub(super) fn judge_zygotes(&mut self, now: Instant) {
        for index in 0..self.zygotes.zygotes.len() {
            let events = self.zygotes.zygotes[index].check_deadlines(now);
            self.heed(index, events);
        }
    }

    /// Whether the process that was reaped was a zygote.
    pub(super) fn bury_zygote(&mut self, pid: Pid, status: ExitStatus, now: Instant) -> bool {
        let Some(index) = self.zygotes.zygotes.iter().position(|zygote| zygote.pid() == pid) else {
            return false;
        };
        let known = self.known();
        let admit = |pid| admission(&known, None, pid);
        let events = self.zygotes.zygotes[index].exited(status, &admit, now);
        self.heed(index, events);
        self.zygotes.zygotes.swap_remove(index);
        true
    }

    /// Nobody wants workers of these generations any more.
    pub(super) fn end_zygotes(&mut self, is_over: impl Fn(Generation) -> bool) {
        let now = Instant::now();
        let patience = self.generations.current().load.config.patience.quick;
        for index in 0..self.zygotes.zygotes.len() {
            if is_over(self.zygotes.zygotes[index].generation()) {
                let events = self.zygotes.zygotes[index].shut_down(patience, now);
                self.heed(index, events);
            }
        }
    }

    /// A zygote that has ended while it loaded the application may not have been reaped yet.
    pub(super) fn blame_zygotes(&mut self) {
        let gone = self.zygotes.zygotes.iter().filter(|zygote| zygote.has_died());
        for pid in gone.map(Zygote::pid).collect::<Vec<_>>() {
            let who = format!("the zygote (pid {})", pid.0);
            if let Some(status) = await_status(pid) {
                self.blame(&who, blame::not_booted(&who, status));
            }
        }
    }

    fn heed(&mut self, index: usize, events: Vec<ZygoteEvent>) {
        let zygote = &self.zygotes.zygotes[index];
        let (pid, generation) = (zygote.pid(), zygote.generation());
        let who = format!("the zygote (pid {})", pid.0);
        for event in events {
            event.log(&self.log, pid, generation);
            let event = match event {
                ZygoteEvent::Started { slot, side, pid } => {
                    let Some(lines) = self.zygotes.answered(slot, side) else { continue };
                    self.children.push(Child::new(pid, slot, lines, Instant::now()));
                    Event::Started { slot, side, pid }
                }
                ZygoteEvent::SpawnFailed { slot, side, cause } => {
                    drop(self.zygotes.answered(slot, side));
                    Event::SpawnFailed { slot, side, verdict: verdict(cause) }
                }
                ZygoteEvent::Failed { report, .. } => {
                    self.blame_by_report(&who);
                    self.last_report = Some(report);
                    continue;
                }
                ZygoteEvent::Ended { status, ending: ZygoteEnding::Died } => {
                    self.blame(&who, blame::not_booted(&who, status));
                    continue;
                }
                ZygoteEvent::Killed { reason: ZygoteDelay::Boot } => {
                    let boot = self.generations.current().load.config.patience.boot;
                    self.blame(&who, blame::late(&who, boot));
                    continue;
                }
                ZygoteEvent::Ready { .. }
                | ZygoteEvent::NotReady { .. }
                | ZygoteEvent::Killed { .. }
                | ZygoteEvent::Distrusted { .. }
                | ZygoteEvent::Ended { .. } => continue,
            };
            self.supervisor.handle(event, Instant::now());
        }
    }
}

/// Whether a pid that a zygote tells is that of a worker.
fn admission(known: &[Pid], reaped: Option<Pid>, pid: Pid) -> Parentage {
    if known.contains(&pid) {
        Parentage::Foreign
    } else if reaped == Some(pid) || is_child(pid) {
        Parentage::OurChild
    } else {
        Parentage::NotYetOurs
    }
}

/// How a server ends whose first workers there are not, for this cause.
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
