//! The supervisor as a pure state machine: events come in, actions go out.
//!
//! It decides how many workers run, when the server counts as ready, how it stops and which exit code it ends with.
//! It does no I/O, reads no clock and starts no process: [`crate::monitor`] is the shell that passes events in and
//! carries out its actions. A test can therefore try every order of crashes, signals and delays. The state machine of
//! one slot is in [`crate::supervisor::slot`].
//!
//! | phase | event | actions | next |
//! |---|---|---|---|
//! | Canary | start | spawn the first two | Canary |
//! | Canary | one is ready | spawn the rest | Filling |
//! | Filling | each slot has a worker that is ready, or had one that served | report ready | Serving |
//! | Canary, Filling | a worker cannot boot, or fork fails | report, stop quickly | Exiting (3 or 4) |
//! | Serving | a worker that has served ends | spawn | Serving |
//! | Serving | a worker that never served ends | spawn after its backoff | Serving |
//! | Serving | no worker is ready for [`CRASH_LOOP`] | stop quickly | Exiting (5) |
//! | Serving | TERM, with a drain delay | announce it to all | LameDuck |
//! | Serving | TERM without one; QUIT | close the queues, drain all | Exiting (0) |
//! | Canary, Filling | TERM, QUIT | close the queues, drain all | Exiting (0) |
//! | LameDuck | the delay expires, TERM, QUIT, or no worker is left | close the queues, drain all | Exiting (0) |
//! | Serving | WINCH | drain all | Paused |
//! | Paused | HUP | read the configuration, spawn the canary | Returning |
//! | Returning | the canary passes its probation, or fails | spawn all | Serving |
//! | Canary .. LameDuck | INT | close the queues, quit all | Exiting (0) |
//! | Exiting, gracefully | INT | quit all | Exiting, quickly |
//! | Exiting, quickly | INT | kill all | Exiting, quickly |
//! | Exiting | the last process is gone | finish | Finished |
//!
//! In Paused, LameDuck, Exiting and Finished no process is spawned. Deadlines after which a worker is killed are
//! checked only on [`Event::Tick`], so that the shell can skip a round after it was suspended itself.
//!
//! Processes are addressed by pid, never by slot, so a late event finds no process. `respawn` decides how soon a worker
//! that crashed is replaced. `rollout` is the rolling restart, `shutdown` the graceful shutdown, and `preparation` the
//! work before the first worker of a generation.

mod action;
pub mod duplicate;
mod event;
mod exiting;
mod hang;
pub mod health;
pub mod interruption;
pub mod log_event;
mod preparation;
pub mod quarantine;
pub mod recycling;
mod reload_outcome;
mod respawn;
pub mod restart_storm;
mod rollout;
mod settle;
mod shutdown;
pub mod slot;
pub mod stack_dump;
pub mod upgrade;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Command, Side};

use crate::supervisor::log_event::LogEvent;
use crate::supervisor::slot::{Ending, Expired, Jitter, KillReason, WorkerSlot};
use crate::system::pid::Pid;
pub use action::{Action, Verdict};
pub use event::{Event, ExitDetails, OperatorCommand};
pub use hang::STACK_DUMP_TIME;
pub use preparation::Preparation;
use preparation::Preparations;
pub use reload_outcome::ReloadOutcome;
pub use rollout::{CRASH_WINDOW, PROBATION, ReloadStep};
use rollout::{Role, Rollout, Spare};
use shutdown::Budget;

/// The server gives up if no worker was ready for this long, or for the boot timeout if that is longer.
pub const CRASH_LOOP: Duration = Duration::from_secs(60);
/// The number of workers that boot before all others, so that a broken application prints one traceback and not N.
const CANARIES: u16 = 2;
/// Time limit for the exit of a worker that cannot boot. A thread that the failed import left running would keep the
/// process forever.
const FAILING_TIME: Duration = Duration::from_millis(500);

/// The configuration of the state machine.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Number of workers at the start.
    pub workers: u16,
    /// Maximum number of workers.
    pub ceiling: u16,
    /// Time limit from fork to ready.
    pub boot: Duration,
    /// Time limit for a graceful stop.
    pub graceful: Duration,
    /// Time limit for a quick stop.
    pub quick: Duration,
    /// How long the server goes on accepting connections after TERM.
    pub drain_delay: Duration,
    /// How long a canary serves before the others follow it.
    pub probation: Duration,
    /// The preparation that precedes the first worker of a generation.
    pub preparation: Preparation,
}

/// The state of the server, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// The server had no full set of workers yet.
    Starting,
    /// The server had a full set of workers.
    Serving,
    /// All workers were stopped, and the listeners stay open.
    Paused,
    /// The server is stopping, and may still accept connections.
    Stopping,
}

/// The role of a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessRole {
    /// The process boots, serves or exits.
    Worker,
    /// The process runs the hooks of `--on-start`.
    OnStart,
    /// The process forks workers.
    Zygote,
}

/// The pace of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Graceful,
    Quick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first two workers boot, and none was ready yet.
    Canary,
    /// The other workers boot, and the server had no full set yet.
    Filling,
    /// The server had a full set of workers.
    Serving { unready_since: Option<Instant> },
    /// All workers were stopped, and the listeners stay open.
    Paused,
    /// The workers return with new code. The canary goes first, so that no other worker boots twice.
    Returning,
    /// The stop has begun, and the queues are still open for new connections.
    LameDuck { until: Instant, budget: Budget },
    /// The queues are closed for new connections.
    Exiting { pace: Pace, budget: Budget, verdict: Verdict },
    /// [`Action::Finish`] was issued.
    Finished,
}

/// The state machine. The module describes its phases.
pub struct Supervisor {
    policy: Policy,
    phase: Phase,
    /// The generation that a worker gets if it is spawned now.
    generation: Generation,
    /// The highest generation so far.
    last_generation: Generation,
    rollout: Rollout,
    /// A reload was requested and has not begun.
    is_reload_wanted: bool,
    spare: Option<Spare>,
    /// The preparation of each generation.
    preparations: Preparations,
    /// Workers whose loop has ended and for which no slot waits.
    exiting: Vec<WorkerSlot>,
    /// Workers that must be recycled.
    recycling: Vec<Pid>,
    /// When the next replacement may be tried, after one that could not boot.
    next_replacement: Option<Instant>,
    /// Slots below this index should have a worker.
    target: u16,
    /// When a slot was last given a new worker.
    last_spawn: Option<Instant>,
    /// The slots, at least `target` of them. A slot is never removed, so that its failures are not forgotten.
    slots: Vec<WorkerSlot>,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Supervisor {
    /// Returns a server that starts now. `seed` determines the jitter of backoffs.
    pub fn start(policy: Policy, seed: u64, now: Instant) -> Self {
        let target = policy.workers.min(policy.ceiling).max(1);
        let mut supervisor = Self {
            phase: Phase::Canary,
            generation: Generation(1),
            last_generation: Generation(1),
            rollout: Rollout::Idle,
            is_reload_wanted: false,
            spare: None,
            preparations: Preparations::default(),
            exiting: Vec::new(),
            recycling: Vec::new(),
            next_replacement: None,
            target,
            last_spawn: None,
            slots: (0..target).map(|index| WorkerSlot::new(SlotId(index))).collect(),
            jitter: Jitter::new(seed),
            actions: VecDeque::new(),
            policy,
        };
        supervisor.settle(now);
        supervisor
    }

    /// Returns the next action; `None` until the next event.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if let Some(Action::Spawn { generation, .. }) = action {
            self.preparations.note_spawn(generation);
        }
        action
    }

    /// The latest time for the next [`Event::Tick`].
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_phase = match self.phase {
            Phase::Canary
            | Phase::Filling
            | Phase::Paused
            | Phase::Exiting { .. }
            | Phase::Finished => None,
            Phase::Returning => self.rollout_deadline(),
            Phase::Serving { unready_since } => {
                let gives_up = unready_since.map(|since| since + self.crash_loop());
                gives_up.into_iter().chain(self.rollout_deadline()).min()
            }
            Phase::LameDuck { until, .. } => Some(until),
        };
        // The end of a backoff needs no event while both entries of its slot are in use.
        let places = self.places().enumerate().filter(|(index, _)| !self.waits_for_entry(*index));
        let of_slots = places.filter_map(|(_, place)| place.deadline());
        of_slots.chain(of_phase).chain(self.preparations.next_deadline()).min()
    }

    /// The number of workers that the server should have.
    pub fn target(&self) -> u16 {
        self.target
    }

    /// The state of the server.
    pub fn service_state(&self) -> ServiceState {
        match self.phase {
            Phase::Canary | Phase::Filling => ServiceState::Starting,
            Phase::Serving { .. } | Phase::Returning => ServiceState::Serving,
            Phase::Paused => ServiceState::Paused,
            Phase::LameDuck { .. } | Phase::Exiting { .. } | Phase::Finished => {
                ServiceState::Stopping
            }
        }
    }

    /// The generation that a worker gets if it is spawned now.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the role of a process; `None` if the process is unknown.
    pub fn role_of(&self, pid: Pid) -> Option<ProcessRole> {
        if self.index_of(pid).is_some() {
            Some(ProcessRole::Worker)
        } else if self.preparations.on_start_pid() == Some(pid) {
            Some(ProcessRole::OnStart)
        } else if self.preparations.has_zygote(pid) {
            Some(ProcessRole::Zygote)
        } else {
            None
        }
    }

    /// The slots.
    pub fn slots(&self) -> &[WorkerSlot] {
        &self.slots
    }

    /// Handles one event. [`Supervisor::next_action`] then returns the resulting actions.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Started { slot, side, pid } => self.started(slot, side, pid, now),
            Event::SpawnFailed { slot, side, verdict } => {
                self.spawn_failed(slot, side, verdict, now);
            }
            Event::OnStartStarted { generation, pid } => {
                self.on_start_started(generation, pid, now);
            }
            Event::OnStartNotStarted { generation } => self.on_start_not_started(generation),
            Event::ZygoteStarted { generation, pid } => self.zygote_started(generation, pid),
            Event::ZygoteNotStarted { generation } => self.zygote_not_started(generation),
            Event::ZygoteReady { pid } => self.zygote_ready(pid),
            Event::ZygoteLost { pid, verdict, reason } => {
                self.zygote_lost(pid, verdict, &reason, now);
            }
            Event::Ready { pid } => self.ready(pid, now),
            Event::Failing { pid } => {
                if let Some(place) = self.index_of(pid).and_then(|index| self.place_mut(index)) {
                    place.failing(now + FAILING_TIME);
                }
            }
            Event::Hung { pid } => self.hung(pid, now),
            Event::GoesOn { pid } => self.goes_on(pid),
            Event::LoopEnded { pid, had_request } => self.loop_ended(pid, had_request, now),
            Event::LimitReached { pid } => self.recycle_worker(pid),
            Event::Exited { pid, status, details } => self.exited(pid, status, details, now),
            Event::Configured { policy } => self.configured(policy),
            Event::OperatorCommand(command) => {
                self.reset_backoffs(now);
                self.command(command, now);
            }
            Event::Tick => self.check_deadlines(now),
        }
        self.settle(now);
    }

    fn command(&mut self, command: OperatorCommand, now: Instant) {
        match command {
            OperatorCommand::Terminate => self.terminate(now),
            OperatorCommand::Quit => self.stop_gracefully(now),
            OperatorCommand::Interrupt => self.interrupt(now),
            OperatorCommand::Reload => self.reload(now),
            OperatorCommand::Pause => self.pause(now),
            OperatorCommand::More => self.scale(self.target.saturating_add(1), now),
            OperatorCommand::Fewer => self.scale(self.target - 1, now),
            OperatorCommand::Scale { workers } => self.scale(workers, now),
            OperatorCommand::Recycle { slot } => self.recycle_slot(slot),
        }
    }

    fn crash_loop(&self) -> Duration {
        CRASH_LOOP.max(self.policy.boot)
    }

    /// All places that may have a process: the slots, the spare place if it is in use, and those of exiting workers.
    pub fn places(&self) -> impl Iterator<Item = &WorkerSlot> {
        let spare = self.spare.iter().map(|spare| &spare.place);
        self.slots.iter().chain(spare).chain(&self.exiting)
    }

    fn place_count(&self) -> usize {
        self.places().count()
    }

    /// The place with an index below [`Supervisor::place_count`].
    fn place_mut(&mut self, index: usize) -> Option<&mut WorkerSlot> {
        let spare = self.spare.as_mut().map(|spare| &mut spare.place);
        self.slots.iter_mut().chain(spare).chain(&mut self.exiting).nth(index)
    }

    fn index_of(&self, pid: Pid) -> Option<usize> {
        self.places().position(|place| place.pid() == Some(pid))
    }

    fn is_spare(&self, index: usize) -> bool {
        self.spare.is_some() && index == self.slots.len()
    }

    /// Returns the index of the place that requested a spawn in this entry.
    fn spawning(&self, slot: SlotId, side: Side) -> Option<usize> {
        self.places()
            .position(|place| place.id() == slot && place.side() == side && place.is_spawning())
    }

    fn log(&mut self, event: LogEvent) {
        self.actions.push_back(Action::Log(event));
    }

    /// Whether the slot with this index should have a worker now.
    fn wants(&self, index: u16) -> bool {
        match self.phase {
            Phase::Canary => index < self.target.min(CANARIES),
            Phase::Filling | Phase::Serving { .. } => index < self.target,
            Phase::Paused
            | Phase::Returning
            | Phase::LameDuck { .. }
            | Phase::Exiting { .. }
            | Phase::Finished => false,
        }
    }

    fn started(&mut self, id: SlotId, side: Side, pid: Pid, now: Instant) {
        let deadline = now + self.policy.boot;
        let Some(index) = self.spawning(id, side) else { return };
        let (is_given_up, is_wanted) = match self.spare.as_ref().filter(|_| self.is_spare(index)) {
            Some(spare) => (spare.role == Role::Exiting, true),
            None => (self.slots[index].is_dismissed(), self.wants(id.0)),
        };
        let Some(place) = self.place_mut(index) else { return };
        place.started(pid, deadline);
        let generation = place.generation();
        self.log(LogEvent::Started { slot: id, pid, generation });
        match self.phase {
            Phase::Canary | Phase::Filling | Phase::Serving { .. } | Phase::Returning
                if is_wanted && !is_given_up => {}
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Returning
            | Phase::Paused => {
                let budget = Budget::graceful(&self.policy, now);
                self.stop_worker(index, Pace::Graceful, budget, now);
            }
            Phase::LameDuck { budget, .. } if is_given_up => {
                self.stop_worker(index, Pace::Graceful, budget, now);
            }
            Phase::LameDuck { .. } => {
                self.actions.push_back(Action::Command { pid, command: Command::LameDuck });
            }
            Phase::Exiting { pace, budget, .. } => self.stop_worker(index, pace, budget, now),
            Phase::Finished => {}
        }
    }

    fn spawn_failed(&mut self, id: SlotId, side: Side, verdict: Verdict, now: Instant) {
        let Some(index) = self.spawning(id, side) else { return };
        if self.is_spare(index) {
            return self.spare_exited(Ending::BootFailed, false, now);
        }
        if self.slots[index].spawn_failed(now, &mut self.jitter) {
            self.boot_failed(verdict, now);
        }
    }

    fn ready(&mut self, pid: Pid, now: Instant) {
        let Some(index) = self.index_of(pid) else { return };
        let Some(place) = self.place_mut(index) else { return };
        if !place.ready(now) {
            return;
        }
        let (slot, generation) = (place.id(), place.generation());
        self.log(LogEvent::Ready { slot, pid, generation });
        if self.is_spare(index) {
            self.spare_ready(now);
        }
    }

    fn stop_worker(&mut self, index: usize, pace: Pace, budget: Budget, now: Instant) {
        let soon = self.policy.quick;
        let Some(place) = self.place_mut(index) else { return };
        let action = stop_command(place, soon, pace, budget, now);
        self.actions.extend(action);
    }

    fn kill(&mut self, index: usize, reason: KillReason) {
        let Some(place) = self.place_mut(index) else { return };
        let (slot, side, generation) = (place.id(), place.side(), place.generation());
        let Some(pid) = place.kill(reason) else { return };
        self.log(LogEvent::Killed { slot, side, pid, generation, reason });
        self.actions.push_back(Action::Kill { pid });
    }

    /// Changes the number of workers that the server should have.
    fn scale(&mut self, workers: u16, now: Instant) {
        match self.phase {
            Phase::Canary | Phase::Filling | Phase::Serving { .. } | Phase::Returning => {}
            Phase::Paused | Phase::LameDuck { .. } | Phase::Exiting { .. } | Phase::Finished => {
                return;
            }
        }
        if workers > self.policy.ceiling {
            self.log(LogEvent::AtCeiling { workers: self.policy.ceiling });
        }
        if workers == 0 {
            self.log(LogEvent::AtFloor);
        }
        let workers = workers.clamp(1, self.policy.ceiling);
        if workers == self.target {
            return;
        }
        while self.slots.len() < usize::from(workers) {
            let next = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
            self.slots.push(WorkerSlot::new(SlotId(next)));
        }
        let dismissed = workers..self.target;
        self.target = workers;
        self.log(LogEvent::Scaled { workers });
        self.withdraw_spawns(|spawn| spawn.slot.0 >= workers);
        let budget = Budget::graceful(&self.policy, now);
        for index in dismissed.rev() {
            self.stop_worker(usize::from(index), Pace::Graceful, budget, now);
            self.slots[usize::from(index)].dismiss();
            if self.spare.as_ref().is_some_and(|spare| spare.place.id() == SlotId(index)) {
                self.stop_spare(now);
            }
            self.actions.push_back(Action::Retire { slot: SlotId(index) });
        }
    }

    /// Checks all deadlines.
    fn check_deadlines(&mut self, now: Instant) {
        for index in 0..self.place_count() {
            let expired = self.place_mut(index).and_then(|place| place.expired(now));
            match expired {
                Some(Expired::Boot) => self.boot_late(index, now),
                Some(Expired::Late) => self.kill(index, KillReason::BootTimeout),
                Some(Expired::Failing) => self.kill(index, KillReason::BootFailed),
                Some(Expired::Drain) => {
                    let patience = self.policy.quick;
                    let Some(place) = self.place_mut(index) else { continue };
                    let Some(pid) = place.pid() else { continue };
                    place.quit(now + patience); // An earlier deadline stays.
                    self.actions.push_back(Action::Command { pid, command: Command::Quick });
                }
                Some(Expired::Quit) => self.kill(index, KillReason::Overdue),
                Some(Expired::Hung) => self.kill(index, KillReason::Hung),
                None => {}
            }
        }
        self.check_on_start(now);
        match self.phase {
            Phase::Serving { unready_since: Some(since) } if since + self.crash_loop() <= now => {
                self.log(LogEvent::CrashLoop { unready: now.saturating_duration_since(since) });
                self.give_up(Verdict::CrashLoop, now);
            }
            Phase::LameDuck { until, .. } if until <= now => self.stop_gracefully(now),
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Paused
            | Phase::Returning
            | Phase::LameDuck { .. }
            | Phase::Exiting { .. }
            | Phase::Finished => {}
        }
    }
}

/// Returns the command that stops a worker. A worker that is not ready yet serves no requests and may be unable to read
/// the command, so it gets the time of a quick stop.
fn stop_command(
    place: &mut WorkerSlot,
    patience: Duration,
    pace: Pace,
    budget: Budget,
    now: Instant,
) -> Option<Action> {
    let pid = place.pid()?;
    let (is_news, command) = match pace {
        Pace::Graceful => {
            (place.drain(now + patience, budget.quick_at, budget.kill_at), Command::Drain)
        }
        Pace::Quick => (place.quit(budget.kill_at), Command::Quick),
    };
    is_news.then_some(Action::Command { pid, command })
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
