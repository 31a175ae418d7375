//! Simulates thousands of servers: processes that boot, hang, fail, crash and ignore commands, an operator who sends
//! every signal, and events of unknown processes.
//!
//! Every invariant is checked at every action. A failure names its seed, and
//! `ARCTOS_SIM_SEED=N cargo test simulated` replays that run.

use std::collections::BTreeMap;

mod crashes;
mod exiting;
mod pacing;
mod preparations;
mod round;
mod spawning;

use super::*;
use crate::supervisor::slot::ExitStatus;
use exiting::ExitState;
use pacing::Pacing;
use preparations::PreparedGenerations;
use round::Round;

const LIVES: u64 = 10_000;
const STEPS: u32 = 250;
/// The time from a kill until the world reports the end of the process.
const REAPING: Duration = Duration::from_millis(10);

#[test]
fn every_simulated_life_keeps_the_invariants() {
    if let Ok(seed) = std::env::var("ARCTOS_SIM_SEED") {
        World::new(seed.parse().unwrap()).live();
        return;
    }
    let base = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) >> 16;
    for seed in base..base + LIVES {
        let lived = std::panic::catch_unwind(|| World::new(seed).live());
        assert!(lived.is_ok(), "replay with ARCTOS_SIM_SEED={seed}");
    }
}

/// The world's record of a process.
struct Process {
    /// When the process became ready; `None` once it counts as having served.
    ready_since: Option<Instant>,
    exit: ExitState,
    slot: SlotId,
    side: Side,
    generation: Generation,
    command: Option<Command>,
    is_ready: bool,
    /// Whether the process was ready when it began to hang.
    was_ready: bool,
    is_killed: bool,
    /// Whether the loop of the process has ended.
    is_over: bool,
    /// Whether the sockets of its slot were closed after it was requested.
    is_retired: bool,
}

/// A worker that was ordered.
#[derive(Clone, Copy)]
struct Order {
    slot: SlotId,
    side: Side,
    generation: Generation,
    /// The zygote that received the order.
    zygote: Option<i32>,
    /// Whether the sockets of its slot were closed in the meantime.
    is_retired: bool,
}

struct World {
    machine: Supervisor,
    policy: Policy,
    dice: Jitter,
    now: Instant,
    next_pid: i32,
    processes: BTreeMap<i32, Process>,
    prepared: PreparedGenerations,
    /// Processes that were reaped and that the state machine has not accounted for yet.
    unaccounted: Vec<Pid>,
    round: Round,
    orders: Vec<Order>,
    /// Future events.
    coming: Vec<(Instant, Event)>,
    pacing: Pacing,
    stopping_since: Option<Instant>,
    queues_closed: bool,
    listeners_dropped: bool,
    ready_reported: bool,
    last_ready: Instant,
    finished: Option<Verdict>,
    /// The target number of workers, according to the last log event.
    logged_target: u16,
    /// When the server was last paused.
    rested: Option<Instant>,
    /// The generation in service.
    in_service: Generation,
    /// Whether a reload is running.
    reloading: bool,
    /// The percentage of workers that fail. It differs between runs.
    failure_percent: u64,
    /// The divisor of all durations: in some runs everything happens at once.
    speed: u64,
    asked: bool,
    /// Whether the stop must be quick.
    interrupted: bool,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Jitter::new(seed);
        let now = Instant::now();
        let policy = Policy {
            workers: 1 + (dice.draw() % 6) as u16,
            ceiling: 8,
            boot: ms(1_000 + dice.draw() % 70_000),
            graceful: ms(dice.draw() % 30_000),
            quick: ms(dice.draw() % 3_000),
            drain_delay: ms([0, 5_000, 40_000][dice.draw() as usize % 3]),
            probation: [PROBATION, Duration::ZERO][dice.draw() as usize % 2],
            preparation: [Preparation::None, Preparation::OnStart, Preparation::Zygote]
                [dice.draw() as usize % 3],
        };
        let mut prepared = PreparedGenerations::default();
        prepared.configure(Generation(1), policy.preparation);
        Self {
            machine: Supervisor::start(policy.clone(), dice.draw(), now),
            policy,
            now,
            next_pid: 100,
            processes: BTreeMap::new(),
            prepared,
            unaccounted: Vec::new(),
            round: Round::default(),
            orders: Vec::new(),
            coming: Vec::new(),
            pacing: Pacing::default(),
            stopping_since: None,
            queues_closed: false,
            listeners_dropped: false,
            ready_reported: false,
            last_ready: now,
            finished: None,
            logged_target: u16::MAX,
            rested: None,
            in_service: Generation(1),
            reloading: false,
            failure_percent: [0, 2, 10, 40, 90][dice.draw() as usize % 5],
            speed: [1, 1, 100][dice.draw() as usize % 3],
            dice,
            asked: false,
            interrupted: false,
        }
    }

    fn live(&mut self) {
        self.carry_out();
        for _ in 0..STEPS {
            if self.chance(12 * self.speed.min(4)) {
                self.disturb();
            } else {
                self.advance();
            }
            self.check();
        }
        if self.finished.is_none() {
            self.deliver(Event::OperatorCommand(OperatorCommand::Quit));
        }
        let mut patience = 100_000;
        while self.finished.is_none() {
            self.advance();
            self.check();
            patience -= 1;
            assert!(patience > 0, "the stop never ends");
        }
        self.deliver(Event::Tick);
        self.deliver(Event::OperatorCommand(OperatorCommand::Terminate));
        assert_eq!(self.machine.next_deadline(), None);
    }

    fn chance(&mut self, of_hundred: u64) -> bool {
        self.dice.draw() % 100 < of_hundred
    }

    fn up_to(&mut self, longest: u64) -> Duration {
        ms(self.dice.draw() % (longest + 1) / self.speed)
    }

    /// Adds unplanned events: signals, and news of processes that do not exist, or not any more.
    fn disturb(&mut self) {
        let any_pid = Pid(100 + (self.dice.draw() % 40) as i32);
        let is_there = self.processes.contains_key(&any_pid.0);
        let event = match self.dice.draw() % 80 {
            0 => Event::OperatorCommand(OperatorCommand::Terminate),
            1 => Event::OperatorCommand(OperatorCommand::Quit),
            2 => Event::OperatorCommand(OperatorCommand::Interrupt),
            3..=8 => Event::OperatorCommand(OperatorCommand::More),
            9..=14 => Event::OperatorCommand(OperatorCommand::Fewer),
            40..=46 => Event::OperatorCommand(OperatorCommand::Reload),
            47 => Event::OperatorCommand(OperatorCommand::Pause),
            48..=50 => Event::OperatorCommand(OperatorCommand::Scale {
                workers: self.dice.draw() as u16 % 12,
            }),
            51..=56 => Event::Hung { pid: any_pid },
            63..=68 => Event::GoesOn { pid: any_pid },
            57..=59 => Event::LimitReached { pid: any_pid },
            69..=76 => Event::LoopEnded { pid: any_pid, had_request: false },
            60..=62 => {
                let slot = SlotId(self.dice.draw() as u16 % 9);
                Event::OperatorCommand(OperatorCommand::Recycle { slot })
            }
            15..=20 if is_there => Event::Tick,
            15..=20 => Event::Ready { pid: any_pid },
            21..=26 if is_there => Event::Tick,
            21..=26 => Event::Failing { pid: any_pid },
            _ => {
                let status = ExitStatus::Code([0, 3, 4][self.dice.draw() as usize % 3]);
                Event::Exited { pid: Pid(9_999), status, details: ExitDetails::default() }
            }
        };
        self.deliver(event);
    }

    /// Advances to the next deadline of the state machine or to the next event.
    fn advance(&mut self) {
        let next_event = self.coming.iter().map(|(at, _)| *at).min();
        let deadline = self.machine.next_deadline();
        let Some(next) = next_event.into_iter().chain(deadline).min() else {
            let is_over = self.stopping_since.is_none() || self.finished.is_some();
            assert!(is_over, "nothing will ever end this stop");
            self.now += ms(60_000 / self.speed);
            return self.deliver(Event::Tick);
        };
        self.now = self.now.max(next);
        // The shell is a little late, and finds several events at once.
        let longest = if self.chance(10) { 50 } else { 3 };
        let lateness = self.up_to(longest);
        self.now += lateness;
        let event = self.take_due().unwrap_or(Event::Tick);
        self.deliver(event);
    }

    /// Passes an event to the state machine, which gets it before any action is carried out.
    fn pass(&mut self, mut event: Event) {
        if let Event::Exited { pid, details, .. } = &mut event {
            let process = self.processes.get(&pid.0);
            let is_young = process.is_some_and(|process| process.ready_since.is_some());
            details.had_request = is_young && self.chance(50);
            details.is_baseline = self.chance(30);
        }
        self.pace(&event);
        if !self.prepare(&event) {
            return;
        }
        self.interrupted |= matches!(event, Event::OperatorCommand(OperatorCommand::Interrupt));
        if !self.take_in(&event) {
            return;
        }
        if self.processes.values().any(|process| process.is_ready) {
            self.last_ready = self.now;
        }
        if let Event::OperatorCommand(OperatorCommand::Pause) = event {
            self.rested = Some(self.now);
        }
        self.machine.handle(event, self.now);
    }

    /// Changes the world according to the event. Returns whether the state machine gets the event.
    fn take_in(&mut self, event: &Event) -> bool {
        match event {
            Event::Started { slot, side, pid } => {
                let Some(order) = self.answered(*slot, *side) else { return false }; // The order was withdrawn.
                self.appears(order, *pid);
            }
            Event::SpawnFailed { slot, side, .. } => {
                if self.answered(*slot, *side).is_none() {
                    return false;
                }
            }
            Event::Exited { pid, .. } => {
                let process = self.processes.remove(&pid.0);
                self.round.reap(*pid, process.as_ref().map(|process| process.slot));
                if process.is_some() || self.machine.role_of(*pid).is_none() {
                    self.unaccounted.push(*pid);
                }
            }
            Event::Ready { pid } => {
                if let Some(process) = self.processes.get_mut(&pid.0) {
                    process.ready_since = process.ready_since.or(Some(self.now));
                    process.exit.has_been_ready = true;
                    process.is_ready = process.command.is_none_or(|told| told == Command::LameDuck)
                        && !process.is_killed
                        && !process.is_over;
                }
            }
            Event::GoesOn { pid } if self.machine.is_hung(*pid) => {
                let process = self.processes.get_mut(&pid.0).expect("the process is alive");
                process.exit.is_hung = false;
                process.is_ready = process.was_ready
                    && !process.is_over
                    && process.command.is_none_or(|told| told == Command::LameDuck);
            }
            Event::LoopEnded { pid, .. } => {
                let process = self.processes.get_mut(&pid.0);
                let has_loop = |process: &&mut Process| process.exit.has_been_ready;
                let Some(process) = process.filter(has_loop) else { return false };
                process.is_over = true;
                process.is_ready = false;
                process.was_ready = false;
                process.exit.since = process.exit.since.or(Some(self.now));
            }
            Event::OperatorCommand(
                OperatorCommand::Terminate | OperatorCommand::Quit | OperatorCommand::Interrupt,
            ) => self.asked = true,
            Event::OnStartStarted { .. }
            | Event::OnStartNotStarted { .. }
            | Event::ZygoteStarted { .. }
            | Event::ZygoteNotStarted { .. }
            | Event::ZygoteReady { .. }
            | Event::ZygoteLost { .. }
            | Event::Failing { .. }
            | Event::OperatorCommand(
                OperatorCommand::More
                | OperatorCommand::Fewer
                | OperatorCommand::Scale { .. }
                | OperatorCommand::Recycle { .. }
                | OperatorCommand::Reload
                | OperatorCommand::Pause,
            )
            | Event::Hung { .. }
            | Event::GoesOn { .. }
            | Event::LimitReached { .. }
            | Event::Configured { .. }
            | Event::Tick => {}
        }
        true
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.machine.next_action() {
            let is_orphan = matches!(action, Action::Log(LogEvent::OrphanReaped { .. }));
            assert!(self.finished.is_none() || is_orphan, "{action:?} after the end");
            match action {
                Action::Command { pid, .. } | Action::Kill { pid } | Action::EndZygote { pid }
                    if self.round.has_reaped(pid) => {}
                Action::DumpStack { pid } if self.round.has_reaped(pid) => self.pacing.forget(),
                Action::Spawn { slot, side, generation } => self.spawn(slot, side, generation),
                Action::RunOnStart { generation } => self.run_on_start(generation),
                Action::StopOnStart => self.stop_on_start(),
                Action::StartZygote { generation } => self.start_zygote(generation),
                Action::EndZygote { pid } => self.end_zygote(pid),
                Action::DumpStack { pid } if self.prepared.is_on_start(pid) => {}
                Action::DumpStack { pid } => self.dump_stack(pid),
                Action::Configure { generation } => self.configure(generation),
                Action::Adopt { generation } => {
                    assert!(self.reloading);
                    self.pacing.forget();
                    self.in_service = generation;
                }
                Action::Discard { generation } => {
                    assert_ne!(generation, self.in_service);
                    self.reloading = false; // Another reload may follow.
                }
                Action::ReloadEnded { outcome } => self.reloaded(outcome),
                Action::Command { pid, command } => self.command(pid, command),
                Action::Kill { pid } => self.kill(pid),
                Action::ReportReady => {
                    assert!(!self.ready_reported && self.stopping_since.is_none());
                    self.ready_reported = true;
                }
                Action::ReportStopping { deadline } => {
                    assert_eq!(self.stopping_since, None, "two stops");
                    assert!(deadline >= self.now);
                    self.stopping_since = Some(self.now);
                }
                Action::CloseQueues => {
                    assert!(self.stopping_since.is_some() && !self.queues_closed);
                    self.queues_closed = true;
                }
                Action::DropListeners => self.drop_listeners(),
                Action::Retire { slot } => self.retire(slot),
                Action::Log(LogEvent::Scaled { workers }) => self.logged_target = workers,
                Action::Log(LogEvent::Ended { pid, .. } | LogEvent::OrphanReaped { pid, .. }) => {
                    let index = self.unaccounted.iter().position(|reaped| *reaped == pid);
                    self.unaccounted.swap_remove(index.expect("each process is reaped once"));
                }
                Action::Log(_) => {}
                Action::Finish(verdict) => self.finish(verdict),
            }
        }
    }

    fn dump_stack(&mut self, pid: Pid) {
        let process = self.processes.get_mut(&pid.0).expect("the process is alive");
        // A worker that is late with its boot may still serve.
        if process.exit.has_been_ready {
            self.pacing.forget(); // The worker hangs in a request, so it has served.
            process.was_ready = std::mem::replace(&mut process.is_ready, false);
            process.exit.is_hung = true;
        }
    }

    fn configure(&mut self, generation: Generation) {
        assert!(!self.reloading, "two reloads at once");
        self.reloading = true;
        let preparation = self.draw_preparation();
        self.prepared.configure(generation, preparation);
        let policy = (!self.chance(20)).then(|| Policy {
            workers: 1 + (self.dice.draw() % 6) as u16,
            preparation,
            ..self.policy.clone()
        });
        self.machine.handle(Event::Configured { policy }, self.now);
    }

    fn kill(&mut self, pid: Pid) {
        self.check_patience(pid);
        let process = self.processes.get_mut(&pid.0).expect("the process is alive");
        assert!(!process.is_killed, "killed twice");
        process.is_killed = true;
        process.is_ready = false;
        self.will_exit(pid, REAPING, ExitStatus::Signal(9));
    }

    fn drop_listeners(&mut self) {
        assert!(self.queues_closed && !self.listeners_dropped);
        let told = |process: &Process| process.command.is_some_and(|told| told >= Command::Drain);
        // A worker that cannot boot or is being killed serves no requests, and needs no command.
        let staffed = self.machine.places().filter(|place| place.is_staffed());
        assert_eq!(staffed.count(), 0);
        let is_new = |pid: &i32| self.round.has_started(Pid(*pid));
        let serves = |process: &Process| !told(process) && process.is_ready;
        assert!(self.processes.iter().all(|(pid, process)| is_new(pid) || !serves(process)));
        self.listeners_dropped = true;
    }

    fn finish(&mut self, verdict: Verdict) {
        assert!(self.processes.is_empty(), "finished before all processes had exited");
        assert!(self.listeners_dropped);
        self.prepared.check_finish();
        self.finished = Some(verdict);
        let since = self.stopping_since.expect("the stop was reported");
        let bound = match verdict {
            Verdict::Asked => self.policy.graceful.max(self.policy.quick),
            Verdict::NotBooted | Verdict::NotImportable | Verdict::CrashLoop => {
                shutdown::GIVE_UP_TIME
            }
        };
        // A zygote may be forking, and the stop waits for that.
        let bound = if self.prepared.had_zygote { bound.max(self.policy.quick) } else { bound };
        let took = self.now - since;
        assert!(took <= bound + ms(200), "the stop took {took:?}, allowed were {bound:?}");
        match verdict {
            Verdict::Asked => assert!(self.asked),
            Verdict::NotBooted | Verdict::NotImportable => assert!(!self.ready_reported),
            Verdict::CrashLoop => {
                assert!(self.ready_reported);
                assert!(since - self.last_ready >= CRASH_LOOP);
            }
        }
    }

    fn reloaded(&mut self, outcome: ReloadOutcome) {
        self.reloading = false;
        match outcome {
            ReloadOutcome::Done | ReloadOutcome::Halted => {
                let all = self.machine.slots[..usize::from(self.machine.target)].iter();
                let is_coming = |slot: &&WorkerSlot| slot.is_spawning();
                let is_taken = |slot: &&WorkerSlot| slot.is_ready() || is_coming(slot);
                let of = all.filter(is_taken).map(WorkerSlot::generation);
                assert!(of.into_iter().all(|generation| generation == self.in_service));
            }
            ReloadOutcome::Misconfigured
            | ReloadOutcome::CanaryFailed
            | ReloadOutcome::Abandoned => {}
        }
    }

    fn disturb_inside(&mut self) {
        let command = match self.dice.draw() % 30 {
            0 => OperatorCommand::Terminate,
            1 => OperatorCommand::Quit,
            2 => OperatorCommand::Interrupt,
            3..=15 => OperatorCommand::More,
            _ => OperatorCommand::Fewer,
        };
        self.asked |= !matches!(command, OperatorCommand::More | OperatorCommand::Fewer);
        self.interrupted |= command == OperatorCommand::Interrupt;
        self.pacing.forget();
        self.machine.handle(Event::OperatorCommand(command), self.now);
    }

    fn draw_fate(&mut self, pid: Pid) {
        let boot = self.up_to(5_000);
        if !self.chance(self.failure_percent) {
            self.coming.push((self.now + boot, Event::Ready { pid }));
            if self.chance(5) {
                self.coming.push((self.now + boot + ms(1), Event::Ready { pid }));
            }
            if self.chance(self.failure_percent) {
                let lifetime = self.up_to(100_000);
                self.will_exit(pid, boot + lifetime, ExitStatus::Signal(11));
            }
            return;
        }
        match self.dice.draw() % 4 {
            0 => {} // The process hangs.
            1 => self.will_exit(pid, boot, ExitStatus::Code(3)),
            2 => self.coming.push((self.now + boot, Event::Failing { pid })), // The process does not exit.
            _ => {
                self.coming.push((self.now + boot, Event::Failing { pid }));
                self.will_exit(pid, boot + ms(50), ExitStatus::Code(4));
            }
        }
    }

    /// Schedules the end of a process, unless an earlier one is scheduled.
    fn will_exit(&mut self, pid: Pid, wait: Duration, status: ExitStatus) {
        let at = self.now + wait;
        let is_end =
            |event: &Event| matches!(event, Event::Exited { pid: other, .. } if *other == pid);
        if self.coming.iter().any(|(earlier, event)| is_end(event) && *earlier <= at) {
            return;
        }
        self.coming.retain(|(_, event)| !is_end(event));
        self.coming.push((at, Event::Exited { pid, status, details: ExitDetails::default() }));
    }

    fn command(&mut self, pid: Pid, command: Command) {
        let obeys = self.chance(60);
        let wait = self.up_to(40_000);
        let process = self.processes.get_mut(&pid.0).expect("the process is alive");
        assert!(process.command < Some(command), "{command:?} after {:?}", process.command);
        let (slot, generation, was_ready) = (process.slot, process.generation, process.is_ready);
        let is_retired = process.is_retired;
        process.command = Some(command);
        match command {
            Command::Drain => process.exit.since = Some(self.now),
            Command::Quick => self.check_patience(pid),
            Command::Serve | Command::LameDuck => {}
        }
        match command {
            Command::Serve => panic!("no worker is ordered to serve"),
            Command::LameDuck => assert!(!self.queues_closed),
            Command::Drain | Command::Quick => {
                self.processes.get_mut(&pid.0).expect("the process is alive").is_ready = false;
                let is_meant = is_retired
                    || self.round.explains(pid, slot)
                    || self.stopping_since.is_some()
                    || self.rested == Some(self.now)
                    || slot.0 >= self.logged_target
                    || generation != self.in_service && !self.reloading;
                let mut others = self.processes.values().filter(|other| other.slot == slot);
                assert!(
                    !was_ready || is_meant || others.any(|other| other.is_ready),
                    "there is one ready worker too few"
                );
                if obeys {
                    self.will_exit(pid, wait, ExitStatus::Code(0));
                }
            }
        }
    }

    fn check(&self) {
        let mut known: Vec<_> = self.machine.places().filter_map(WorkerSlot::pid).collect();
        known.sort_unstable();
        let alive: Vec<_> = self.processes.keys().map(|pid| Pid(*pid)).collect();
        assert_eq!(known, alive, "the machine has lost sight of a process");
        assert_eq!(self.unaccounted, [], "a reaped process was not accounted for");
        let is_cut_off = |process: &Process| process.is_retired && process.is_ready;
        assert!(!self.processes.values().any(is_cut_off), "a worker serves on closed sockets");
        self.prepared.check(&self.machine);
        let is_spawning = |place: &&WorkerSlot| place.is_spawning();
        let spawning_count = self.machine.places().filter(is_spawning).count();
        let held_count = self.machine.preparations.held().count();
        assert_eq!(spawning_count, held_count + self.orders.len(), "a spawn was forgotten");
        self.check_waits();
        let canary = self.machine.spare.as_ref().filter(|spare| spare.role == Role::Canary);
        if canary.is_some_and(|spare| spare.place.is_ready()) {
            let is_its = matches!(self.machine.rollout, Rollout::Canary { .. });
            assert!(is_its, "a canary without a reload blocks all later reloads");
        }
    }
}
