//! Simulates the preparation of generations: `--on-start` runs that succeed, fail and hang, and zygotes that become
//! ready, die and hang.

use super::*;

/// The world's record of the preparation of its generations.
#[derive(Default)]
pub(super) struct PreparedGenerations {
    /// The preparation that each generation needs.
    needs: BTreeMap<u32, Preparation>,
    /// The process of `--on-start`.
    on_start: Option<(Pid, Generation)>,
    /// Generations whose `--on-start` has succeeded.
    on_start_done: Vec<Generation>,
    /// Zygotes that were not reaped yet.
    zygotes: BTreeMap<i32, Zygote>,
    /// Whether there was a zygote, so that a stop may have to wait for a fork.
    pub(super) had_zygote: bool,
}

struct Zygote {
    generation: Generation,
    is_ready: bool,
    /// Whether the zygote was asked to exit or is lost.
    is_ending: bool,
    /// Whether the zygote was asked to exit.
    was_ended: bool,
}

impl PreparedGenerations {
    pub(super) fn configure(&mut self, generation: Generation, needs: Preparation) {
        self.needs.insert(generation.0, needs);
    }

    pub(super) fn is_on_start(&self, pid: Pid) -> bool {
        self.on_start.is_some_and(|(on_start, _)| on_start == pid)
    }

    /// The zygote that forks the workers of a generation; `None` if the supervisor forks them.
    pub(super) fn zygote_of(&self, generation: Generation) -> Option<i32> {
        let forks = |zygote: &Zygote| zygote.generation == generation && !zygote.is_ending;
        self.zygotes.iter().find(|(_, zygote)| forks(zygote)).map(|(pid, _)| *pid)
    }

    /// Checks that no worker is spawned before its generation is prepared.
    pub(super) fn check_spawn(&self, generation: Generation) {
        match self.needs[&generation.0] {
            Preparation::None => {}
            Preparation::OnStart => {
                assert!(self.on_start_done.contains(&generation), "spawned before --on-start");
            }
            Preparation::Zygote => {
                let zygote = self.zygote_of(generation).map(|pid| &self.zygotes[&pid]);
                assert!(zygote.is_some_and(|zygote| zygote.is_ready), "spawned without a zygote");
            }
        }
    }

    /// Checks that the state machine knows each process that prepares a generation.
    pub(super) fn check(&self, machine: &Supervisor) {
        let on_start = self.on_start.map(|(pid, _)| pid);
        assert_eq!(machine.preparations.on_start_pid(), on_start, "--on-start is out of sight");
        for pid in self.zygotes.keys() {
            assert_eq!(machine.role_of(Pid(*pid)), Some(ProcessRole::Zygote), "a lost zygote");
        }
    }

    pub(super) fn check_finish(&self) {
        assert_eq!(self.on_start, None, "finished before --on-start was stopped");
        assert!(self.zygotes.values().all(|zygote| zygote.is_ending), "a zygote goes on");
    }
}

impl World {
    pub(super) fn draw_preparation(&mut self) -> Preparation {
        match self.dice.draw() % 4 {
            0 => Preparation::OnStart,
            1 => Preparation::Zygote,
            _ => Preparation::None,
        }
    }

    fn next_process(&mut self) -> Pid {
        self.next_pid += 1;
        Pid(self.next_pid - 1)
    }

    pub(super) fn run_on_start(&mut self, generation: Generation) {
        assert!(!self.asked && self.stopping_since.is_none(), "--on-start while stopping");
        assert_eq!(self.prepared.on_start, None, "two runs of --on-start");
        assert!(!self.prepared.on_start_done.contains(&generation), "--on-start ran before");
        if self.chance(self.failure_percent / 8) {
            return self.machine.handle(Event::OnStartNotStarted { generation }, self.now);
        }
        let (pid, wait) = (self.next_process(), self.up_to(5_000));
        self.prepared.on_start = Some((pid, generation));
        let mut details = ExitDetails::default();
        if !self.chance(self.failure_percent) {
            self.coming.push((
                self.now + wait,
                Event::Exited { pid, status: ExitStatus::Code(0), details },
            ));
        } else if self.chance(60) {
            details.report = Some("Traceback".to_owned());
            let status = ExitStatus::Code(3);
            self.coming.push((self.now + wait, Event::Exited { pid, status, details }));
        } // In all other cases the run hangs.
        self.machine.handle(Event::OnStartStarted { generation, pid }, self.now);
        if self.chance(2) {
            self.disturb_inside();
        }
    }

    /// Ends the run of `--on-start`, which the shell kills and reaps at once.
    pub(super) fn stop_on_start(&mut self) {
        if let Some((stopped, _)) = self.prepared.on_start.take() {
            self.coming.retain(
                |(_, event)| !matches!(event, Event::Exited { pid, .. } if *pid == stopped),
            );
        }
    }

    pub(super) fn start_zygote(&mut self, generation: Generation) {
        assert!(!self.asked && self.stopping_since.is_none(), "a zygote while stopping");
        assert_eq!(self.prepared.zygote_of(generation), None, "two zygotes of a generation");
        if self.chance(self.failure_percent / 8) {
            return self.machine.handle(Event::ZygoteNotStarted { generation }, self.now);
        }
        let (pid, boot) = (self.next_process(), self.up_to(5_000));
        self.prepared.had_zygote = true;
        let zygote = Zygote { generation, is_ready: false, is_ending: false, was_ended: false };
        self.prepared.zygotes.insert(pid.0, zygote);
        let lost = |verdict| {
            let reason = "the zygote is gone".to_owned();
            Event::ZygoteLost { pid, verdict, reason }
        };
        if !self.chance(self.failure_percent) {
            self.coming.push((self.now + boot, Event::ZygoteReady { pid }));
            if self.chance(self.failure_percent.max(5)) {
                let lifetime = self.up_to(60_000);
                self.coming.push((self.now + boot + lifetime, lost(Verdict::NotBooted)));
            }
        } else if self.chance(60) {
            self.coming.push((self.now + boot, lost(Verdict::NotImportable)));
        } else if self.chance(50) {
            self.will_exit(pid, boot, ExitStatus::Signal(9)); // It sends no message.
        } else {
            let boot = self.policy.boot + STACK_DUMP_TIME; // The zygote hangs, and the shell kills it.
            self.coming.push((self.now + boot, lost(Verdict::NotBooted)));
        }
        self.machine.handle(Event::ZygoteStarted { generation, pid }, self.now);
        if self.chance(2) {
            self.disturb_inside();
        }
    }

    pub(super) fn end_zygote(&mut self, pid: Pid) {
        let zygote = self.prepared.zygotes.get_mut(&pid.0).expect("the zygote was not reaped");
        let is_stopping = self.machine.service_state() == ServiceState::Stopping;
        assert!(is_stopping || zygote.generation != self.in_service, "the zygote in service ends");
        assert!(!std::mem::replace(&mut zygote.was_ended, true), "a zygote is ended once");
        if std::mem::replace(&mut zygote.is_ending, true) {
            return; // The zygote was lost at the same moment.
        }
        let wait = if zygote.is_ready { self.policy.quick } else { REAPING };
        self.withdraw(|order| order.zygote == Some(pid.0));
        self.will_exit(pid, wait, ExitStatus::Code(0));
    }

    /// Applies an event of a process that prepares a generation. Returns whether the state machine gets the event.
    pub(super) fn prepare(&mut self, event: &Event) -> bool {
        match event {
            Event::ZygoteReady { pid } => {
                if let Some(zygote) = self.prepared.zygotes.get_mut(&pid.0) {
                    zygote.is_ready = !zygote.is_ending;
                }
            }
            Event::ZygoteLost { pid, .. } => {
                let Some(zygote) = self.prepared.zygotes.get_mut(&pid.0) else { return false };
                if std::mem::replace(&mut zygote.is_ending, true) {
                    return false;
                }
                self.fail_orders(pid.0);
                self.will_exit(*pid, REAPING, ExitStatus::Signal(9));
            }
            Event::Exited { pid, details, .. } => {
                if self.prepared.zygotes.remove(&pid.0).is_some() {
                    self.fail_orders(pid.0);
                }
                let ended = self.prepared.on_start.take_if(|(on_start, _)| on_start == pid);
                if let Some((_, generation)) = ended
                    && details.report.is_none()
                {
                    self.prepared.on_start_done.push(generation);
                }
            }
            Event::Started { .. }
            | Event::SpawnFailed { .. }
            | Event::OnStartStarted { .. }
            | Event::OnStartNotStarted { .. }
            | Event::ZygoteStarted { .. }
            | Event::ZygoteNotStarted { .. }
            | Event::Ready { .. }
            | Event::Failing { .. }
            | Event::Hung { .. }
            | Event::GoesOn { .. }
            | Event::LoopEnded { .. }
            | Event::LimitReached { .. }
            | Event::Configured { .. }
            | Event::OperatorCommand(_)
            | Event::Tick => {}
        }
        true
    }

    /// Fails the orders that a lost zygote has not answered.
    fn fail_orders(&mut self, zygote: i32) {
        let (failed, kept): (Vec<_>, _) =
            std::mem::take(&mut self.orders).into_iter().partition(|it| it.zygote == Some(zygote));
        self.orders = kept;
        for order in failed {
            self.fail_order(&order);
        }
    }
}
