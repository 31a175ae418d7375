mod deferred_spawns;
mod exiting;
mod reload;
mod respawn;

use super::*;
use crate::supervisor::slot::{ExitStatus, SlotState};

/// A state machine, its clock and the pids of its processes.
struct Rig {
    machine: Supervisor,
    now: Instant,
    next_pid: i32,
    /// Unanswered spawns; `None` if each spawn is answered at once.
    held: Option<Vec<(SlotId, Side)>>,
}

/// A short form of an action. Log events are left out.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Spawn(u16),
    Tell(i32, Command),
    Kill(i32),
    Ready,
    Stopping,
    CloseQueues,
    Retire(u16),
    DropListeners,
    Report(String),
    Finish(Verdict),
    DumpStack(i32),
    Configure,
    Adopt(u32),
    Discard(u32),
    Ended(ReloadOutcome),
    RunOnStart(u32),
    StopOnStart,
    StartZygote(u32),
    EndZygote(i32),
}

use Did::*;

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn policy(workers: u16) -> Policy {
    Policy {
        workers,
        ceiling: 8,
        boot: s(60.0),
        graceful: s(25.0),
        quick: s(2.0),
        drain_delay: s(0.0),
        probation: PROBATION,
        preparation: Preparation::None,
    }
}

impl Rig {
    fn new(policy: Policy) -> Self {
        let now = Instant::now();
        Self { machine: Supervisor::start(policy, 1, now), now, next_pid: 100, held: None }
    }

    /// Returns a server whose workers are all ready; worker N has pid 100 + N.
    fn serving(policy: Policy) -> Self {
        let workers = i32::from(policy.workers);
        let mut rig = Self::new(policy);
        rig.run();
        for pid in 100..100 + workers {
            rig.ready(pid);
        }
        rig
    }

    fn event(&mut self, event: Event) -> Vec<Did> {
        self.machine.handle(event, self.now);
        self.run()
    }

    /// Carries out all actions. Each spawn creates a process with the next pid.
    fn run(&mut self) -> Vec<Did> {
        let mut done = Vec::new();
        while let Some(action) = self.machine.next_action() {
            done.push(match action {
                Action::Spawn { slot, side, .. } if self.held.is_some() => {
                    self.held.get_or_insert_default().push((slot, side));
                    Spawn(slot.0)
                }
                Action::Spawn { slot, side, .. } => {
                    let pid = Pid(self.next_pid);
                    self.next_pid += 1;
                    self.machine.handle(Event::Started { slot, side, pid }, self.now);
                    Spawn(slot.0)
                }
                Action::RunOnStart { generation } => RunOnStart(generation.0),
                Action::StopOnStart => StopOnStart,
                Action::StartZygote { generation } => StartZygote(generation.0),
                Action::EndZygote { pid } => EndZygote(pid.0),
                Action::Command { pid, command } => Tell(pid.0, command),
                Action::Kill { pid } => Kill(pid.0),
                Action::DumpStack { pid } => DumpStack(pid.0),
                Action::Configure { .. } => Configure,
                Action::Adopt { generation } => Adopt(generation.0),
                Action::Discard { generation } => Discard(generation.0),
                Action::ReloadEnded { outcome } => Ended(outcome),
                Action::ReportReady => Ready,
                Action::ReportStopping { .. } => Stopping,
                Action::CloseQueues => CloseQueues,
                Action::Retire { slot } => Retire(slot.0),
                Action::DropListeners => DropListeners,
                Action::Log(LogEvent::BootReport { report, .. }) => Report(report),
                Action::Log(_) => continue,
                Action::Finish(verdict) => Finish(verdict),
            });
        }
        done
    }

    fn ready(&mut self, pid: i32) -> Vec<Did> {
        self.event(Event::Ready { pid: Pid(pid) })
    }

    fn failing(&mut self, pid: i32) -> Vec<Did> {
        self.event(Event::Failing { pid: Pid(pid) })
    }

    fn exited(&mut self, pid: i32, status: ExitStatus) -> Vec<Did> {
        self.event(Event::Exited { pid: Pid(pid), status, details: ExitDetails::default() })
    }

    fn failed(&mut self, pid: i32, code: i32, report: &str) -> Vec<Did> {
        let (pid, status) = (Pid(pid), ExitStatus::Code(code));
        self.event(Event::Exited {
            pid,
            status,
            details: ExitDetails { report: Some(report.into()), ..ExitDetails::default() },
        })
    }

    fn left(&mut self, pid: i32) -> Vec<Did> {
        self.exited(pid, ExitStatus::Code(0))
    }

    fn command(&mut self, command: OperatorCommand) -> Vec<Did> {
        self.event(Event::OperatorCommand(command))
    }

    /// Lets time pass and ticks once.
    fn after(&mut self, wait: Duration) -> Vec<Did> {
        self.now += wait;
        self.event(Event::Tick)
    }
}

#[test]
fn two_workers_boot_first_and_the_rest_once_one_is_ready() {
    let mut rig = Rig::new(policy(4));
    assert_eq!(rig.run(), [Spawn(0), Spawn(1)]);
    assert_eq!(rig.ready(101), [Spawn(2), Spawn(3)]);
}

#[test]
fn the_server_reports_ready_once_with_the_full_set_of_workers() {
    let mut rig = Rig::new(policy(3));
    rig.run();
    rig.ready(100);
    assert_eq!(rig.ready(101), []);
    assert_eq!(rig.ready(102), [Ready]);
    assert_eq!(rig.ready(102), []);
    assert_eq!(rig.exited(102, ExitStatus::Signal(9)), [Spawn(2)]);
    assert_eq!(rig.ready(103), []);
}

#[test]
fn workers_that_crash_in_requests_still_complete_the_first_full_set() {
    let mut rig = Rig::new(policy(2));
    rig.run();
    rig.ready(100);
    let details = ExitDetails { had_request: true, ..ExitDetails::default() };
    let status = ExitStatus::Signal(11);
    assert_eq!(rig.event(Event::Exited { pid: Pid(100), status, details }), [Spawn(0)]);
    assert_eq!(rig.ready(101), [Ready]);
}

#[test]
fn a_single_worker_can_be_a_full_set() {
    let mut rig = Rig::new(policy(1));
    assert_eq!(rig.run(), [Spawn(0)]);
    assert_eq!(rig.ready(100), [Ready]);
}

#[test]
fn a_failed_import_ends_the_start_with_one_report() {
    for workers in [1, 8] {
        let mut rig = Rig::new(policy(workers));
        rig.run();
        assert_eq!(rig.failing(100), []);
        let did = rig.failed(100, 4, "Traceback");
        assert_eq!(did[0], Report("Traceback".into()));
        assert!(did.contains(&CloseQueues) && !did.contains(&Spawn(2)), "{did:?}");
        let last = match workers {
            1 => did.into_iter().last(),
            _ => rig.failed(101, 4, "Traceback").into_iter().last(),
        };
        assert_eq!(last, Some(Finish(Verdict::NotImportable)));
    }
}

#[test]
fn the_report_of_the_second_worker_is_not_logged() {
    let mut rig = Rig::new(policy(2));
    rig.run();
    rig.failing(101);
    rig.failed(100, 4, "one");
    assert_eq!(rig.failed(101, 4, "two"), [Finish(Verdict::NotImportable)]);
}

#[test]
fn a_worker_that_dies_before_it_is_ready_ends_the_start() {
    let mut rig = Rig::new(policy(2));
    rig.run();
    let expected = [Stopping, CloseQueues, Tell(101, Command::Quick), DropListeners];
    assert_eq!(rig.exited(100, ExitStatus::Signal(11)), expected);
    assert_eq!(rig.after(s(1.0)), [Kill(101)]);
    assert_eq!(rig.exited(101, ExitStatus::Signal(9)), [Finish(Verdict::NotBooted)]);
}

#[test]
fn a_fork_that_fails_ends_the_first_start() {
    let mut rig = Rig::new(policy(1));
    let Some(Action::Spawn { slot, side, .. }) = rig.machine.next_action() else { panic!() };
    let did = rig.event(Event::SpawnFailed { slot, side, verdict: Verdict::NotBooted });
    assert_eq!(did.last(), Some(&Finish(Verdict::NotBooted)));
}

#[test]
fn a_worker_that_hangs_ends_the_first_start_at_the_boot_timeout() {
    let mut rig = Rig::new(policy(1));
    rig.run();
    assert_eq!(rig.after(s(59.9)), []);
    assert_eq!(rig.after(s(0.1)), [DumpStack(100)]);
    assert_eq!(rig.after(s(1.0)), [Kill(100)]);
    let did = rig.exited(100, ExitStatus::Signal(9));
    assert_eq!(did, [Stopping, CloseQueues, DropListeners, Finish(Verdict::NotBooted)]);
}

#[test]
fn a_worker_that_is_ready_just_after_its_deadline_serves() {
    let mut rig = Rig::new(policy(1));
    rig.run();
    assert_eq!(rig.after(s(60.0)), [DumpStack(100)]);
    assert_eq!(rig.ready(100), [Ready]);
    assert_eq!(rig.after(s(10.0)), []);
}

#[test]
fn a_worker_that_cannot_boot_and_does_not_exit_is_killed() {
    let mut rig = Rig::new(policy(1));
    rig.run();
    rig.failing(100);
    assert_eq!(rig.after(FAILING_TIME), [Kill(100)]);
    let did = rig.event(Event::Exited {
        pid: Pid(100),
        status: ExitStatus::Signal(9),
        details: ExitDetails { report: Some("Traceback".into()), ..ExitDetails::default() },
    });
    assert_eq!(did[0], Report("Traceback".into()));
    assert_eq!(did.last(), Some(&Finish(Verdict::NotBooted)));
}

#[test]
fn giving_up_takes_less_than_two_seconds() {
    assert!(FAILING_TIME + shutdown::GIVE_UP_TIME < s(2.0));
}

#[test]
fn a_later_failure_to_boot_is_logged_and_retried() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.exited(100, ExitStatus::Signal(11)), [Spawn(0)]);
    assert_eq!(rig.failed(102, 4, "Traceback"), [Report("Traceback".into())]);
    assert_eq!(rig.after(s(0.55)), [Spawn(0)]);
    assert_eq!(rig.ready(103), []);
}

#[test]
fn a_later_fork_that_fails_is_tried_again() {
    let mut rig = Rig::serving(policy(1));
    rig.machine.handle(
        Event::Exited {
            pid: Pid(100),
            status: ExitStatus::Signal(9),
            details: ExitDetails::default(),
        },
        rig.now,
    );
    while let Some(action) = rig.machine.next_action() {
        if let Action::Spawn { slot, side, .. } = action {
            rig.machine
                .handle(Event::SpawnFailed { slot, side, verdict: Verdict::NotBooted }, rig.now);
        }
    }
    assert_eq!(rig.after(s(0.55)), [Spawn(0)]);
}

#[test]
fn the_exit_of_an_adopted_orphan_changes_nothing() {
    let mut rig = Rig::serving(policy(2));
    for code in [0, 3, 4] {
        assert_eq!(rig.exited(999, ExitStatus::Code(code)), []);
    }
}

#[test]
fn the_server_gives_up_after_a_minute_without_a_ready_worker() {
    let mut rig = Rig::serving(policy(1));
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Spawn(0)]);
    rig.after(s(30.0));
    rig.exited(101, ExitStatus::Code(3));
    rig.now += s(29.0);
    rig.event(Event::Tick);
    let did = rig.after(s(1.0));
    assert_eq!(did[..2], [Stopping, CloseQueues]);
    rig.after(s(1.0));
    assert_eq!(rig.exited(102, ExitStatus::Signal(9)), [Finish(Verdict::CrashLoop)]);
}

#[test]
fn one_ready_worker_keeps_the_server_running() {
    let mut rig = Rig::serving(policy(2));
    for _ in 0..200 {
        let newest = rig.next_pid - 1;
        let did = rig.exited(newest, ExitStatus::Code(3));
        assert!(did.iter().all(|did| *did == Spawn(1)), "{did:?}");
        let did = rig.after(s(33.0));
        assert!(did.iter().all(|did| *did == Spawn(1)), "{did:?}");
    }
}

#[test]
fn a_longer_boot_timeout_prolongs_the_time_until_the_server_gives_up() {
    let mut rig = Rig::serving(Policy { boot: s(120.0), ..policy(1) });
    rig.exited(100, ExitStatus::Signal(9));
    assert_eq!(rig.after(s(100.0)), []);
    assert_eq!(rig.ready(101), []);
}

#[test]
fn term_closes_the_queues_commands_the_workers_and_drops_the_listeners() {
    let mut rig = Rig::serving(policy(2));
    let expected = [
        Stopping,
        CloseQueues,
        Tell(100, Command::Drain),
        Tell(101, Command::Drain),
        DropListeners,
    ];
    assert_eq!(rig.command(OperatorCommand::Terminate), expected);
    assert_eq!(rig.left(100), []);
    assert_eq!(rig.left(101), [Finish(Verdict::Asked)]);
}

#[test]
fn after_term_the_server_accepts_connections_for_the_drain_delay() {
    let mut rig = Rig::serving(Policy { drain_delay: s(5.0), ..policy(1) });
    assert_eq!(rig.command(OperatorCommand::Terminate), [Stopping, Tell(100, Command::LameDuck)]);
    assert_eq!(rig.after(s(4.9)), []);
    let expected = [CloseQueues, Tell(100, Command::Drain), DropListeners];
    assert_eq!(rig.after(s(0.1)), expected);
}

#[test]
fn a_second_term_skips_the_rest_of_the_delay() {
    let mut rig = Rig::serving(Policy { drain_delay: s(5.0), ..policy(1) });
    rig.command(OperatorCommand::Terminate);
    let expected = [CloseQueues, Tell(100, Command::Drain), DropListeners];
    assert_eq!(rig.command(OperatorCommand::Terminate), expected);
    assert_eq!(rig.command(OperatorCommand::Terminate), []);
}

#[test]
fn quit_ignores_the_drain_delay() {
    let mut rig = Rig::serving(Policy { drain_delay: s(5.0), ..policy(1) });
    let expected = [Stopping, CloseQueues, Tell(100, Command::Drain), DropListeners];
    assert_eq!(rig.command(OperatorCommand::Quit), expected);
}

#[test]
fn a_worker_that_crashes_in_the_drain_delay_is_not_replaced() {
    let mut rig = Rig::serving(Policy { drain_delay: s(5.0), ..policy(2) });
    rig.command(OperatorCommand::Terminate);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), []);
    let did = rig.exited(101, ExitStatus::Signal(9));
    assert_eq!(did, [CloseQueues, DropListeners, Finish(Verdict::Asked)]);
}

#[test]
fn the_drain_delay_and_the_steps_of_a_stop_share_one_budget() {
    let mut rig = Rig::serving(Policy { drain_delay: s(5.0), ..policy(1) });
    rig.command(OperatorCommand::Terminate);
    rig.after(s(5.0));
    assert_eq!(rig.after(s(17.4)), []);
    assert_eq!(rig.after(s(0.1)), [Tell(100, Command::Quick)]);
    assert_eq!(rig.after(s(1.9)), []);
    assert_eq!(rig.after(s(0.1)), [Kill(100)]);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Finish(Verdict::Asked)]);
}

#[test]
fn a_delay_longer_than_the_budget_ends_before_it() {
    let mut rig = Rig::serving(Policy { drain_delay: s(100.0), ..policy(1) });
    rig.command(OperatorCommand::Terminate);
    let did = rig.after(s(22.5));
    assert_eq!(did[..2], [CloseQueues, Tell(100, Command::Drain)]);
}

#[test]
fn int_gives_running_requests_the_time_of_a_quick_stop() {
    let mut rig = Rig::serving(policy(1));
    let expected = [Stopping, CloseQueues, Tell(100, Command::Quick), DropListeners];
    assert_eq!(rig.command(OperatorCommand::Interrupt), expected);
    assert_eq!(rig.after(s(1.9)), []);
    assert_eq!(rig.after(s(0.1)), [Kill(100)]);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Finish(Verdict::Asked)]);
}

#[test]
fn a_second_int_kills_at_once() {
    let mut rig = Rig::serving(policy(2));
    rig.command(OperatorCommand::Interrupt);
    assert_eq!(rig.command(OperatorCommand::Interrupt), [Kill(100), Kill(101)]);
    assert_eq!(rig.command(OperatorCommand::Interrupt), []);
}

#[test]
fn int_hastens_a_graceful_stop() {
    let mut rig = Rig::serving(policy(1));
    rig.command(OperatorCommand::Terminate);
    assert_eq!(rig.command(OperatorCommand::Interrupt), [Tell(100, Command::Quick)]);
    assert_eq!(rig.after(s(2.0)), [Kill(100)]);
}

#[test]
fn a_stop_while_booting_does_not_wait_for_workers_that_do_not_serve() {
    let mut rig = Rig::new(Policy { drain_delay: s(5.0), ..policy(4) });
    rig.run();
    let did = rig.command(OperatorCommand::Terminate);
    assert_eq!(did[..2], [Stopping, CloseQueues]);
    assert_eq!(rig.after(s(2.0)), [Kill(100), Kill(101)]);
    rig.exited(100, ExitStatus::Signal(9));
    assert_eq!(rig.exited(101, ExitStatus::Signal(9)), [Finish(Verdict::Asked)]);
}

#[test]
fn a_worker_that_cannot_boot_during_a_stop_does_not_change_the_exit_code() {
    let mut rig = Rig::new(policy(1));
    rig.run();
    rig.command(OperatorCommand::Terminate);
    assert_eq!(rig.failed(100, 4, "Traceback"), [Finish(Verdict::Asked)]);
}

#[test]
fn a_stop_withdraws_a_spawn_that_was_not_carried_out_yet() {
    let mut rig = Rig::new(policy(2));
    rig.machine.handle(Event::OperatorCommand(OperatorCommand::Quit), rig.now);
    assert_eq!(rig.run(), [Stopping, CloseQueues, DropListeners, Finish(Verdict::Asked)]);
}

#[test]
fn a_process_that_starts_during_a_stop_is_ordered_to_exit() {
    let mut rig = Rig::new(policy(1));
    let Some(Action::Spawn { slot, .. }) = rig.machine.next_action() else { panic!() };
    assert_eq!(rig.command(OperatorCommand::Quit), [Stopping, CloseQueues, DropListeners]);
    let did = rig.event(Event::Started { slot, side: Side::A, pid: Pid(100) });
    assert_eq!(did, [Tell(100, Command::Drain)]);
    assert_eq!(rig.left(100), [Finish(Verdict::Asked)]);
}

#[test]
fn ttin_adds_a_worker_up_to_the_ceiling() {
    let mut rig = Rig::serving(Policy { ceiling: 3, ..policy(2) });
    assert_eq!(rig.command(OperatorCommand::More), [Spawn(2)]);
    assert_eq!(rig.command(OperatorCommand::More), []);
}

#[test]
fn ttou_drains_the_highest_slot_and_leaves_the_last_worker_alone() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.command(OperatorCommand::Fewer), [Tell(101, Command::Drain), Retire(1)]);
    assert_eq!(rig.left(101), []);
    assert_eq!(rig.command(OperatorCommand::Fewer), []);
    assert_eq!(rig.after(s(1000.0)), []);
}

#[test]
fn after_ttin_a_slot_that_still_drains_is_filled_once_it_is_empty() {
    let mut rig = Rig::serving(policy(2));
    rig.command(OperatorCommand::Fewer);
    assert_eq!(rig.command(OperatorCommand::More), []);
    assert_eq!(rig.left(101), [Spawn(1)]);
}

#[test]
fn ttou_can_complete_the_first_full_set() {
    let mut rig = Rig::new(policy(3));
    rig.run();
    rig.ready(100);
    rig.ready(101);
    assert_eq!(rig.command(OperatorCommand::Fewer), [Tell(102, Command::Drain), Retire(2), Ready]);
}

#[test]
fn a_removed_worker_keeps_its_time_when_the_server_stops() {
    let mut rig = Rig::serving(policy(2));
    rig.command(OperatorCommand::Fewer);
    rig.now += s(10.0);
    let expected = [Stopping, CloseQueues, Tell(100, Command::Drain), DropListeners];
    assert_eq!(rig.command(OperatorCommand::Terminate), expected);
    assert_eq!(rig.after(s(12.4)), []);
    assert_eq!(rig.after(s(0.1)), [Tell(101, Command::Quick)]);
}

#[test]
fn workers_are_killed_only_at_a_tick() {
    let mut rig = Rig::serving(policy(2));
    rig.exited(101, ExitStatus::Signal(9));
    rig.now += s(3600.0);
    assert_eq!(rig.ready(102), [], "the worker was ready long before the supervisor resumed");
    assert_eq!(rig.after(s(0.0)), []);
}
