//! The supervisor as a pure machine: events come in, actions go out.
//!
//! Owns which workers there should be, when the server counts as ready, how it stops and what exit
//! code it ends with. Does no I/O, reads no clock, starts nothing: [`crate::monitor`] is the shell
//! that feeds it and carries its actions out. So every order of deaths, signals and delays can be
//! played through in a test. The life of one slot is [`crate::supervisor::slot`]'s.
//!
//! | phase | event | actions | next |
//! |---|---|---|---|
//! | Canary | start | spawn the first two | Canary |
//! | Canary | one is ready | spawn the rest | Filling |
//! | Filling | each slot has a worker that is ready, or had one that served | report ready | Serving |
//! | Canary, Filling | a worker cannot boot, or fork fails | report, stop quickly | Exiting (3 or 4) |
//! | Serving | a worker ends that has served | spawn | Serving |
//! | Serving | a worker ends that never served | spawn after its backoff | Serving |
//! | Serving | nobody ready for [`CRASH_LOOP`] | stop quickly | Exiting (5) |
//! | Serving | TERM, with a drain delay | announce to all | LameDuck |
//! | Serving | TERM without one; QUIT | close the door, drain all | Exiting (0) |
//! | Canary, Filling | TERM, QUIT | close the door, drain all | Exiting (0) |
//! | LameDuck | the delay is over, TERM, QUIT, or nobody is left | close the door, drain all | Exiting (0) |
//! | Serving | WINCH | drain all | Paused |
//! | Paused | HUP | read the configuration, spawn the canary | Returning |
//! | Returning | the canary has proved itself, or cannot | spawn all | Serving |
//! | Canary .. LameDuck | INT | close the door, quit all | Exiting (0) |
//! | Exiting, gracefully | INT | quit all | Exiting, quickly |
//! | Exiting, quickly | INT | kill all | Exiting, quickly |
//! | Exiting | the last process is gone | finish | Finished |
//!
//! In Paused, LameDuck, Exiting and Finished nothing is spawned. Deadlines that cost a worker its life are
//! judged on [`Event::Tick`] alone, so the shell can leave a round out after it was suspended itself.
//!
//! Processes are addressed by pid, never by slot: a late event finds nobody. How soon one that died is
//! replaced is in `respawn`, how one that serves is replaced in `roll`, how all of them leave in `stop`.

mod action;
mod event;
mod exiting;
mod hang;
pub mod health;
pub mod log_event;
mod preparation;
mod reload_outcome;
mod respawn;
pub mod restart_storm;
mod rollout;
mod shutdown;
pub mod slot;
pub mod stack_dump;
pub mod upgrade;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Command, Side};

use crate::supervisor::log_event::LogEvent;
use crate::supervisor::slot::{Ending, Expired, Jitter, KillReason, SlotState, WorkerSlot};
use crate::system::pid::Pid;
pub use action::{Action, Verdict};
pub use event::{Event, ExitDetails, OperatorCommand};
pub use hang::STACK_DUMP_TIME;
pub use preparation::Preparation;
use preparation::{Preparations, Spawn};
pub use reload_outcome::ReloadOutcome;
pub use rollout::{CRASH_WINDOW, PROBATION, ReloadStep};
use rollout::{Role, Rollout, Spare};
use shutdown::Budget;

/// Without a ready worker for so long (or for the boot timeout, if that is longer) the server gives up.
pub const CRASH_LOOP: Duration = Duration::from_secs(60);
/// Workers that boot before all others, so that a broken application prints one traceback, not N.
const CANARIES: u16 = 2;
/// How long a worker that said it cannot boot may take to end: an application that left a thread
/// running at its failed import would hold it for ever.
const FAILING_TIME: Duration = Duration::from_millis(500);

/// What the machine is told to do and to allow.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Workers at start.
    pub workers: u16,
    /// Most workers there is room for.
    pub ceiling: u16,
    /// From fork to ready.
    pub boot: Duration,
    /// The whole of a graceful stop.
    pub graceful: Duration,
    /// A quick stop.
    pub quick: Duration,
    /// On TERM: how long to go on accepting before the door closes.
    pub drain_delay: Duration,
    /// What precedes the first worker of a generation.
    pub preparation: Preparation,
}

/// Where the server stands, for who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// There was no full set of workers yet.
    Starting,
    /// There was.
    Serving,
    /// All workers were sent away, and the listeners stay.
    Paused,
    /// It was asked to stop; it may still accept.
    Stopping,
}

/// What a child process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessRole {
    /// It boots, serves or exits.
    Worker,
    /// It runs the hooks of `--on-start`.
    OnStart,
    /// It forks workers.
    Zygote,
}

/// How a stop is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Graceful,
    Quick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first two boot; none was ready yet.
    Canary,
    /// The rest boot; there was no full set yet.
    Filling,
    /// There was a full set.
    Serving { unready_since: Option<Instant> },
    /// All workers were sent away; the listeners stay.
    Paused,
    /// They are to come back, of new code: the canary goes first, so that nobody boots twice.
    Returning,
    /// The stop has begun, the door is open.
    LameDuck { until: Instant, budget: Budget },
    /// The door is closed.
    Exiting { pace: Pace, budget: Budget, verdict: Verdict },
    /// [`Action::Finish`] was given.
    Finished,
}

/// See the module.
pub struct Supervisor {
    policy: Policy,
    phase: Phase,
    /// What a worker that is spawned now is of.
    generation: Generation,
    /// The highest that was ever given.
    last_generation: Generation,
    rollout: Rollout,
    /// A HUP came and its turn has not come.
    is_reload_wanted: bool,
    spare: Option<Spare>,
    /// What precedes the first worker of each generation.
    preparations: Preparations,
    /// Workers whose loop is over, and that no seat waits for.
    exiting: Vec<WorkerSlot>,
    /// Workers that are to be replaced because they are worn out.
    recycling: Vec<Pid>,
    /// A replacement could not boot: not before this.
    next_replacement: Option<Instant>,
    /// Slots below this index are to have a worker.
    target: u16,
    /// When a slot was last given a new worker.
    last_spawn: Option<Instant>,
    /// At least `target`; a slot once made stays, and with it the memory of its failures.
    slots: Vec<WorkerSlot>,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Supervisor {
    /// A server that starts now. `seed` decides the jitter of backoffs.
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

    /// The next thing to do; `None` until another event.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due at the latest.
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
        let of_slots = self.seats().filter_map(WorkerSlot::deadline);
        of_slots.chain(of_phase).chain(self.preparations.next_deadline()).min()
    }

    /// Workers that are wanted, for whoever shows it.
    pub fn target(&self) -> u16 {
        self.target
    }

    /// Where the server stands.
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

    /// The generation of a worker that is spawned now.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What a process is to this machine; `None` where it is a stranger.
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

    /// The slots, and the seats beside them that are taken.
    pub fn places(&self) -> impl Iterator<Item = &WorkerSlot> {
        self.seats()
    }

    /// The slots, for whoever shows them.
    pub fn slots(&self) -> &[WorkerSlot] {
        &self.slots
    }

    /// Takes one event in; what follows from it is in [`Supervisor::next_action`].
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
                if let Some(seat) = self.index_of(pid).and_then(|index| self.seat_mut(index)) {
                    seat.failing(now + FAILING_TIME);
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

    /// All places where a process may be: the slots, the spare seat if it is taken, and those of the leavers.
    fn seats(&self) -> impl Iterator<Item = &WorkerSlot> {
        let spare = self.spare.iter().map(|spare| &spare.seat);
        self.slots.iter().chain(spare).chain(&self.exiting)
    }

    fn seat_count(&self) -> usize {
        self.seats().count()
    }

    /// The seat of an index below [`Supervisor::seat_count`].
    fn seat_mut(&mut self, index: usize) -> Option<&mut WorkerSlot> {
        let spare = self.spare.as_mut().map(|spare| &mut spare.seat);
        self.slots.iter_mut().chain(spare).chain(&mut self.exiting).nth(index)
    }

    fn index_of(&self, pid: Pid) -> Option<usize> {
        self.seats().position(|seat| seat.pid() == Some(pid))
    }

    fn is_spare(&self, index: usize) -> bool {
        self.spare.is_some() && index == self.slots.len()
    }

    /// The seat that asked for a spawn in this entry.
    fn spawning(&self, slot: SlotId, side: Side) -> Option<usize> {
        self.seats().position(|seat| {
            seat.id() == slot && seat.side() == side && seat.state() == SlotState::Spawning
        })
    }

    fn log(&mut self, event: LogEvent) {
        self.actions.push_back(Action::Log(event));
    }

    /// Whether there should be a worker in the slot of this index, now.
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
        let is_wanted = match self.spare.as_ref().filter(|_| self.is_spare(index)) {
            Some(spare) => spare.role != Role::Exiting,
            None => self.wants(id.0),
        };
        let Some(seat) = self.seat_mut(index) else { return };
        seat.started(pid, deadline);
        let generation = seat.generation();
        self.log(LogEvent::Started { slot: id, pid, generation });
        match self.phase {
            Phase::Canary | Phase::Filling | Phase::Serving { .. } | Phase::Returning
                if is_wanted => {}
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Returning
            | Phase::Paused => {
                let budget = Budget::graceful(&self.policy, now);
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
        let Some(seat) = self.seat_mut(index) else { return };
        if !seat.ready(now) {
            return;
        }
        let (slot, generation) = (seat.id(), seat.generation());
        self.log(LogEvent::Ready { slot, pid, generation });
        if self.is_spare(index) {
            self.spare_ready(now);
        }
    }

    fn stop_worker(&mut self, index: usize, pace: Pace, budget: Budget, now: Instant) {
        let soon = self.policy.quick;
        let Some(seat) = self.seat_mut(index) else { return };
        let told = dismiss(seat, soon, pace, budget, now);
        self.actions.extend(told);
    }

    fn kill(&mut self, index: usize, reason: KillReason) {
        let Some(seat) = self.seat_mut(index) else { return };
        let (slot, side, generation) = (seat.id(), seat.side(), seat.generation());
        let Some(pid) = seat.kill(reason) else { return };
        self.log(LogEvent::Killed { slot, side, pid, generation, reason });
        self.actions.push_back(Action::Kill { pid });
    }

    /// So many workers are wanted from now on.
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
        let budget = Budget::graceful(&self.policy, now);
        for index in dismissed.rev() {
            self.stop_worker(usize::from(index), Pace::Graceful, budget, now);
            if self.spare.as_ref().is_some_and(|spare| spare.seat.id() == SlotId(index)) {
                self.stop_spare(now);
            }
            self.actions.push_back(Action::Retire { slot: SlotId(index) });
        }
    }

    /// Whose time is up?
    fn check_deadlines(&mut self, now: Instant) {
        for index in 0..self.seat_count() {
            let expired = self.seat_mut(index).and_then(|seat| seat.expired(now));
            match expired {
                Some(Expired::Boot) => self.boot_late(index, now),
                Some(Expired::Late) => self.kill(index, KillReason::BootTimeout),
                Some(Expired::Failing) => self.kill(index, KillReason::BootFailed),
                Some(Expired::Drain) => {
                    let patience = self.policy.quick;
                    let Some(seat) = self.seat_mut(index) else { continue };
                    let Some(pid) = seat.pid() else { continue };
                    seat.quit(now + patience); // No later than the time it already has.
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

    /// What follows from the states, whatever the event was.
    fn settle(&mut self, now: Instant) {
        self.fail_refused_spawns(now);
        self.note_service(now);
        self.advance_phase(now);
        self.advance_rollout(now);
        self.fail_refused_spawns(now); // The end of a rollout may have given up more of them.
        for index in 0..self.slots.len() {
            let wanted = self.wants(self.slots[index].id().0);
            let (generation, taken) = (self.generation, self.side_taken(index, Some(index)));
            let slot = &mut self.slots[index];
            let Some(taken) = taken.ok().filter(|_| wanted) else {
                slot.retire();
                continue;
            };
            slot.fill(now);
            if let Some(side) = slot.spawn_when_due(generation, taken, now) {
                let slot = slot.id();
                self.last_spawn = Some(now);
                self.request_spawn(Spawn { slot, side, generation });
            }
        }
        self.hasten_one(now);
        self.spawn_spare(now);
        // A worker that the drain delay has outlived leaves nothing to announce to.
        if let Phase::LameDuck { .. } = self.phase
            && self.seats().all(WorkerSlot::is_vacant)
        {
            self.stop_gracefully(now);
        }
        if let Phase::Exiting { verdict, .. } = self.phase
            && self.seats().all(WorkerSlot::is_vacant)
        {
            self.phase = Phase::Finished;
            self.actions.push_back(Action::Finish(verdict));
        }
    }

    fn spawn_spare(&mut self, now: Instant) {
        let Some(id) = self.spare.as_ref().map(|spare| spare.seat.id()) else { return };
        // Its slot may have lost its process, and asked for another one, in the same moment.
        let taken = self.side_taken(usize::from(id.0), Some(self.slots.len()));
        let (Some(spare), Ok(taken)) = (&mut self.spare, taken) else { return };
        let generation = match (spare.role, &self.rollout) {
            (Role::Canary, Rollout::Canary { generation, .. }) => *generation,
            (Role::Replacement, _) => self.generation,
            (Role::Canary | Role::Exiting, _) => return,
        };
        if spare.seat.pid().is_none() {
            spare.seat.fill(now);
            if let Some(side) = spare.seat.spawn_when_due(generation, taken, now) {
                let slot = spare.seat.id();
                self.request_spawn(Spawn { slot, side, generation });
            }
        }
    }

    fn advance_phase(&mut self, now: Instant) {
        if self.phase == Phase::Canary && self.slots.iter().any(WorkerSlot::is_ready) {
            self.phase = Phase::Filling;
        }
        let wanted = &self.slots[..usize::from(self.target)];
        let has_come = |slot: &WorkerSlot| slot.is_ready() || slot.was_served();
        if self.phase == Phase::Filling && wanted.iter().all(has_come) {
            self.phase = Phase::Serving { unready_since: None };
            self.actions.push_back(Action::ReportReady);
        }
        if let Phase::Serving { unready_since } = self.phase {
            let unready_since = match self.seats().any(WorkerSlot::is_ready) {
                true => None,
                false => unready_since.or(Some(now)),
            };
            self.phase = Phase::Serving { unready_since };
        }
    }
}

/// Tells a worker to leave. One that is not ready yet serves nobody and may not hear us: it gets the
/// patience of a quick stop.
fn dismiss(
    seat: &mut WorkerSlot,
    patience: Duration,
    pace: Pace,
    budget: Budget,
    now: Instant,
) -> Option<Action> {
    let pid = seat.pid()?;
    let (is_news, command) = match pace {
        Pace::Graceful => {
            (seat.drain(now + patience, budget.quick_at, budget.kill_at), Command::Drain)
        }
        Pace::Quick => (seat.quit(budget.kill_at), Command::Quick),
    };
    is_news.then_some(Action::Command { pid, command })
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
