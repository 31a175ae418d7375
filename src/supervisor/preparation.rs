//! The preparation of a generation before its first worker: its `--on-start` run, or the zygote that forks its workers.
//!
//! Spawns that come too early are held here. The rest of the state machine sees them as slow spawns, which fail if the
//! preparation fails. A first start therefore ends as it does with a worker that cannot boot, and a reload changes
//! nothing.
//!
//! | preparation | event | held spawns | next |
//! |---|---|---|---|
//! | none | a spawn of a generation with `--on-start` | held | run it |
//! | `--on-start` runs | it exits without a report | spawned | done |
//! | `--on-start` runs | it exits with a report, or cannot be started | fail | none |
//! | `--on-start` runs | the boot timeout expires | held | let it dump its stack for [`STACK_DUMP_TIME`] |
//! | `--on-start` runs | that time expires, too | fail | kill it; none |
//! | none | a spawn of a generation with `--preload` | held | start a zygote |
//! | zygote boots | it is ready | spawned | ready |
//! | zygote boots | it is lost or exits | fail | none |
//! | zygote ready | a spawn | spawned at once | ready |
//! | zygote ready | it is lost or exits | withdrawn, but fail if it never had one | none |
//! | any | its generation is discarded | fail | end it |
//! | any | the slot is given up | withdrawn | it goes on |
//! | any | the server stops | withdrawn | end it |

use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::Side;

use super::{Action, Policy, Rollout, STACK_DUMP_TIME, Supervisor, Verdict};
use crate::supervisor::log_event::LogEvent;
use crate::system::duration::shown;
use crate::system::pid::Pid;

/// The kind of preparation that a generation needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preparation {
    /// No preparation: the supervisor forks the workers.
    #[default]
    None,
    /// The hooks of `--on-start` run once, in a separate process.
    OnStart,
    /// A zygote loads the application (`--preload`), and forks the workers.
    Zygote,
}

/// A request for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spawn {
    pub(super) slot: SlotId,
    pub(super) side: Side,
    pub(super) generation: Generation,
}

/// The preparations that are running or done.
#[derive(Debug, Default)]
pub(super) struct Preparations {
    /// The `--on-start` run. There is at most one, because a reload begins only after the processes of the previous one
    /// are gone.
    on_start: Option<OnStartRun>,
    /// `--on-start` is done for all generations up to this one.
    on_start_done: Option<Generation>,
    /// Zygotes that were not reaped yet. At most one of each generation takes spawns.
    zygotes: Vec<Zygote>,
    /// Spawns whose preparation was given up. They fail before anything else happens.
    refused: Vec<Spawn>,
}

#[derive(Debug)]
struct OnStartRun {
    generation: Generation,
    /// The process and its deadline; `None` until the shell has started it.
    process: Option<OnStartProcess>,
    held: Vec<Spawn>,
}

#[derive(Clone, Copy, Debug)]
struct OnStartProcess {
    pid: Pid,
    deadline: Instant,
    /// Whether the deadline was postponed once, so that the process can dump its stack.
    is_late: bool,
}

#[derive(Debug)]
struct Zygote {
    generation: Generation,
    /// The process; `None` until the shell has started it.
    pid: Option<Pid>,
    state: ZygoteState,
    held: Vec<Spawn>,
    /// Whether the shell has taken a spawn for this zygote.
    has_orders: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZygoteState {
    Booting,
    Ready,
    /// The zygote was asked to exit, or cannot be used any more.
    Exiting,
}

impl Preparations {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.on_start.as_ref()?.process.map(|process| process.deadline)
    }

    /// The process of the `--on-start` run.
    pub(super) fn on_start_pid(&self) -> Option<Pid> {
        self.on_start.as_ref()?.process.map(|process| process.pid)
    }

    pub(super) fn has_zygote(&self, pid: Pid) -> bool {
        self.zygotes.iter().any(|zygote| zygote.pid == Some(pid))
    }

    /// Records that the shell carries out a spawn of this generation.
    pub(super) fn note_spawn(&mut self, generation: Generation) {
        let is_its = |zygote: &&mut Zygote| {
            zygote.generation == generation && zygote.state == ZygoteState::Ready
        };
        if let Some(zygote) = self.zygotes.iter_mut().find(is_its) {
            zygote.has_orders = true;
        }
    }

    /// Returns the spawns that wait for their preparation.
    #[cfg(test)]
    pub(super) fn held(&self) -> impl Iterator<Item = &Spawn> {
        let on_start = self.on_start.iter().flat_map(|run| &run.held);
        on_start.chain(self.zygotes.iter().flat_map(|zygote| &zygote.held))
    }

    /// Takes these spawns if they wait. Their preparation goes on.
    fn take_held(&mut self, is_taken: impl Fn(&Spawn) -> bool) -> Vec<Spawn> {
        let on_start = self.on_start.iter_mut().map(|run| &mut run.held);
        let held = on_start.chain(self.zygotes.iter_mut().map(|zygote| &mut zygote.held));
        held.flat_map(|held| held.extract_if(.., |spawn| is_taken(spawn))).collect()
    }
}

impl Supervisor {
    /// Requests a worker from the shell, or holds the spawn until its generation is prepared.
    pub(super) fn request_spawn(&mut self, spawn: Spawn) {
        match self.policy_of(spawn.generation).preparation {
            Preparation::None => self.spawn(spawn),
            Preparation::OnStart => self.spawn_after_on_start(spawn),
            Preparation::Zygote => self.spawn_from_zygote(spawn),
        }
    }

    fn spawn(&mut self, Spawn { slot, side, generation }: Spawn) {
        self.actions.push_back(Action::Spawn { slot, side, generation });
    }

    fn policy_of(&self, generation: Generation) -> &Policy {
        match &self.rollout {
            Rollout::Canary { generation: canary, policy, .. } if *canary == generation => policy,
            Rollout::Idle
            | Rollout::Configuring
            | Rollout::Canary { .. }
            | Rollout::Rolling { .. }
            | Rollout::RollingBack => &self.policy,
        }
    }

    /// Gives up the preparation of these generations. Spawns that wait for it fail.
    pub(super) fn cancel_preparations(&mut self, is_cancelled: impl Fn(Generation) -> bool) {
        self.cancel_on_start(&is_cancelled);
        let zygotes = std::mem::take(&mut self.preparations.zygotes);
        for mut zygote in zygotes {
            if zygote.state != ZygoteState::Exiting && is_cancelled(zygote.generation) {
                zygote.state = ZygoteState::Exiting;
                self.preparations.refused.append(&mut zygote.held);
                let generation = zygote.generation;
                match zygote.pid {
                    Some(pid) => self.actions.push_back(Action::EndZygote { pid }),
                    None if self.withdraw_action(&Action::StartZygote { generation }) => continue,
                    None => {} // The zygote is being started. It is ended as soon as its pid is known.
                }
            }
            self.preparations.zygotes.push(zygote);
        }
    }

    /// Gives up the `--on-start` run if it belongs to one of these generations. Spawns that wait for it fail.
    fn cancel_on_start(&mut self, is_cancelled: impl Fn(Generation) -> bool) {
        let cancelled = self.preparations.on_start.take_if(|run| is_cancelled(run.generation));
        let Some(OnStartRun { generation, process, held }) = cancelled else { return };
        self.preparations.refused.extend(held);
        match process {
            Some(_) => self.actions.push_back(Action::StopOnStart),
            None => {
                self.withdraw_action(&Action::RunOnStart { generation });
            }
        }
    }

    /// Withdraws an action that the shell has not seen yet. Returns whether there was one.
    fn withdraw_action(&mut self, withdrawn: &Action) -> bool {
        let count = self.actions.len();
        self.actions.retain(|action| action != withdrawn);
        self.actions.len() < count
    }

    /// Withdraws these spawns, unless the shell has seen them.
    pub(super) fn withdraw_spawns(&mut self, is_withdrawn: impl Fn(&Spawn) -> bool) {
        let held = self.preparations.take_held(&is_withdrawn);
        let unreported = self.take_unreported_spawns(is_withdrawn);
        held.into_iter().chain(unreported).for_each(|spawn| self.withdraw(spawn));
    }

    /// Withdraws a spawn from the place that requested it.
    fn withdraw(&mut self, Spawn { slot, side, .. }: Spawn) {
        // A vacant place may have the same entry, but only one of the two waits for a spawn.
        if let Some(place) = self.spawning(slot, side).and_then(|index| self.place_mut(index)) {
            place.withdraw();
        }
    }

    /// Takes these spawns if they were requested and the shell has not seen them yet.
    fn take_unreported_spawns(&mut self, is_taken: impl Fn(&Spawn) -> bool) -> Vec<Spawn> {
        let mut unreported = Vec::new();
        self.actions.retain(|action| {
            let Action::Spawn { slot, side, generation } = *action else { return true };
            let spawn = Spawn { slot, side, generation };
            let is_taken = is_taken(&spawn);
            unreported.extend(is_taken.then_some(spawn));
            !is_taken
        });
        unreported
    }

    /// Fails the spawns whose preparation was given up.
    pub(super) fn fail_refused_spawns(&mut self, now: Instant) {
        // A failure may end the server, and that refuses other spawns.
        while let Some(Spawn { slot, side, .. }) = self.preparations.refused.pop() {
            self.spawn_failed(slot, side, Verdict::NotBooted, now);
        }
    }
}

/// The `--on-start` run.
impl Supervisor {
    fn spawn_after_on_start(&mut self, spawn: Spawn) {
        let generation = spawn.generation;
        if self.preparations.on_start_done.is_some_and(|done| generation <= done) {
            return self.spawn(spawn);
        }
        if let Some(run) = &mut self.preparations.on_start
            && run.generation == generation
        {
            return run.held.push(spawn);
        }
        self.cancel_on_start(|other| other != generation); // Zygotes of other generations still serve.
        let run = OnStartRun { generation, process: None, held: vec![spawn] };
        self.preparations.on_start = Some(run);
        self.actions.push_back(Action::RunOnStart { generation });
    }

    pub(super) fn on_start_started(&mut self, generation: Generation, pid: Pid, now: Instant) {
        let deadline = now + self.policy_of(generation).boot;
        match &mut self.preparations.on_start {
            Some(run) if run.generation == generation && run.process.is_none() => {
                run.process = Some(OnStartProcess { pid, deadline, is_late: false });
                self.log(LogEvent::OnStartStarted { generation, pid });
            }
            // The run was cancelled in the meantime.
            Some(_) | None => self.actions.push_back(Action::StopOnStart),
        }
    }

    /// Handles a failure to start the process of `--on-start`. The shell has logged the reason.
    pub(super) fn on_start_not_started(&mut self, generation: Generation) {
        let run = self.preparations.on_start.take_if(|run| run.generation == generation);
        self.preparations.refused.extend(run.into_iter().flat_map(|run| run.held));
    }

    /// Handles the end of the process of `--on-start`. `report` says why it failed.
    pub(super) fn on_start_exited(&mut self, report: Option<String>) {
        let Some(run) = self.preparations.on_start.take() else { return };
        let generation = run.generation;
        match report {
            None => {
                self.preparations.on_start_done = Some(generation);
                run.held.into_iter().for_each(|spawn| self.spawn(spawn));
            }
            Some(report) => self.on_start_failed(run, report),
        }
    }

    /// Checks whether the `--on-start` run has taken too long.
    pub(super) fn check_on_start(&mut self, now: Instant) {
        let Some(run) = &mut self.preparations.on_start else { return };
        let generation = run.generation;
        let Some(process) = run.process.as_mut().filter(|process| process.deadline <= now) else {
            return;
        };
        let pid = process.pid;
        let is_late = std::mem::replace(&mut process.is_late, true);
        process.deadline = now + STACK_DUMP_TIME;
        let limit = self.policy_of(generation).boot;
        if !is_late {
            self.log(LogEvent::OnStartLate { generation, pid, limit });
            return self.actions.push_back(Action::DumpStack { pid });
        }
        self.actions.push_back(Action::StopOnStart);
        let limit = shown(limit);
        let report =
            format!("The hooks of --on-start were not done within --boot-timeout {limit}.\n");
        if let Some(run) = self.preparations.on_start.take() {
            self.on_start_failed(run, report);
        }
    }

    fn on_start_failed(&mut self, run: OnStartRun, report: String) {
        self.log(LogEvent::OnStartFailed { generation: run.generation, report });
        self.preparations.refused.extend(run.held);
    }
}

/// The zygotes of `--preload`.
impl Supervisor {
    fn spawn_from_zygote(&mut self, spawn: Spawn) {
        let generation = spawn.generation;
        let mut zygotes = self.preparations.zygotes.iter_mut();
        let zygote = zygotes
            .find(|zygote| zygote.generation == generation && zygote.state != ZygoteState::Exiting);
        match zygote {
            Some(zygote) if zygote.state == ZygoteState::Ready => self.spawn(spawn),
            Some(zygote) => zygote.held.push(spawn),
            None => {
                let (state, held) = (ZygoteState::Booting, vec![spawn]);
                let zygote = Zygote { generation, pid: None, state, held, has_orders: false };
                self.preparations.zygotes.push(zygote);
                self.actions.push_back(Action::StartZygote { generation });
            }
        }
    }

    pub(super) fn zygote_started(&mut self, generation: Generation, pid: Pid) {
        let mut zygotes = self.preparations.zygotes.iter_mut();
        let awaited = zygotes.find(|it| it.generation == generation && it.pid.is_none());
        let Some(zygote) = awaited else { return };
        zygote.pid = Some(pid);
        if zygote.state == ZygoteState::Exiting {
            self.actions.push_back(Action::EndZygote { pid }); // The zygote was cancelled in the meantime.
        }
    }

    /// Handles a failure to start a zygote. The shell has logged the reason.
    pub(super) fn zygote_not_started(&mut self, generation: Generation) {
        let Preparations { zygotes, refused, .. } = &mut self.preparations;
        let is_awaited = |it: &Zygote| it.generation == generation && it.pid.is_none();
        if let Some(index) = zygotes.iter().position(is_awaited) {
            refused.extend(zygotes.swap_remove(index).held);
        }
    }

    /// Handles the news that a zygote has loaded the application.
    pub(super) fn zygote_ready(&mut self, pid: Pid) {
        let mut zygotes = self.preparations.zygotes.iter_mut();
        let Some(zygote) = zygotes.find(|zygote| zygote.pid == Some(pid)) else { return };
        if zygote.state == ZygoteState::Booting {
            zygote.state = ZygoteState::Ready;
            let held = std::mem::take(&mut zygote.held);
            held.into_iter().for_each(|spawn| self.spawn(spawn));
        }
    }

    /// Handles the loss of a zygote, which may not have been reaped yet.
    pub(super) fn zygote_lost(&mut self, pid: Pid, verdict: Verdict, reason: &str, now: Instant) {
        let mut zygotes = self.preparations.zygotes.iter_mut();
        let Some(zygote) = zygotes.find(|zygote| zygote.pid == Some(pid)) else { return };
        let state = std::mem::replace(&mut zygote.state, ZygoteState::Exiting);
        let (generation, has_orders) = (zygote.generation, zygote.has_orders);
        let mut failed = std::mem::take(&mut zygote.held);
        let mut unreported = match state {
            ZygoteState::Ready => {
                self.take_unreported_spawns(|spawn| spawn.generation == generation)
            }
            ZygoteState::Booting | ZygoteState::Exiting => Vec::new(),
        };
        if !has_orders {
            failed.append(&mut unreported); // The next zygote would probably be lost, too.
        }
        for Spawn { slot, side, generation } in failed {
            let reason = reason.to_owned();
            self.log(LogEvent::SpawnFailed { slot, generation, reason });
            self.spawn_failed(slot, side, verdict, now);
        }
        // Places that still want a worker request it again, perhaps in another generation.
        unreported.into_iter().for_each(|spawn| self.withdraw(spawn));
    }

    /// Handles the end of a zygote that was reaped.
    pub(super) fn zygote_exited(&mut self, pid: Pid, now: Instant) {
        self.zygote_lost(pid, Verdict::NotBooted, "the zygote is gone", now);
        self.preparations.zygotes.retain(|zygote| zygote.pid != Some(pid));
    }
}
