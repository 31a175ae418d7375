//! Spawns that are answered late, because a zygote forks the worker or the generation has to be prepared.

use super::*;

impl Rig {
    fn holding(mut self) -> Self {
        self.held = Some(Vec::new());
        self
    }

    /// Returns a server whose workers were forked by a zygote and are all ready.
    fn with_zygote(workers: u16) -> Self {
        let mut rig = Self::new(prepared_by(Preparation::Zygote, workers));
        rig.run();
        rig.event(zygote_started(1));
        rig.event(Event::ZygoteReady { pid: Pid(60) });
        (100..100 + i32::from(workers)).for_each(|pid| drop(rig.ready(pid)));
        rig
    }

    /// Lets a worker crash, with another event before the actions are carried out.
    fn crash_unseen(&mut self, pid: i32) {
        let (pid, status) = (Pid(pid), ExitStatus::Signal(9));
        self.machine
            .handle(Event::Exited { pid, status, details: ExitDetails::default() }, self.now);
    }

    /// Carries out the spawns that are waiting.
    fn spawned(&mut self) -> Vec<Did> {
        let mut did = Vec::new();
        for (slot, side) in self.held.take().unwrap_or_default() {
            let pid = Pid(self.next_pid);
            self.next_pid += 1;
            did.extend(self.event(Event::Started { slot, side, pid }));
        }
        did
    }

    /// Fails the spawns that are waiting.
    fn refused(&mut self) -> Vec<Did> {
        let held = self.held.replace(Vec::new()).unwrap_or_default();
        let failed = |(slot, side)| {
            let verdict = Verdict::NotBooted;
            self.event(Event::SpawnFailed { slot, side, verdict })
        };
        held.into_iter().flat_map(failed).collect()
    }
}

#[test]
fn the_boot_timeout_begins_when_the_worker_exists() {
    let mut rig = Rig::new(policy(2)).holding();
    assert_eq!(rig.run(), [Spawn(0), Spawn(1)]);
    assert_eq!(rig.after(s(59.0)), []);
    assert_eq!(rig.spawned(), []);
    assert_eq!(rig.after(s(59.0)), []);
    rig.ready(100);
    assert_eq!(rig.ready(101), [Ready]);
}

#[test]
fn first_workers_that_cannot_be_spawned_end_the_start() {
    let mut rig = Rig::new(policy(4)).holding();
    rig.run();
    let did = rig.refused();
    assert_eq!(did, [Stopping, CloseQueues, DropListeners, Finish(Verdict::NotBooted)]);
}

#[test]
fn a_stop_ends_when_all_waiting_spawns_have_failed() {
    for command in [OperatorCommand::Terminate, OperatorCommand::Quit, OperatorCommand::Interrupt] {
        let mut rig = Rig::new(policy(2)).holding();
        rig.run();
        assert_eq!(rig.command(command), [Stopping, CloseQueues, DropListeners]);
        assert_eq!(rig.refused(), [Finish(Verdict::Asked)]);
    }
}

#[test]
fn a_canary_that_cannot_be_spawned_changes_nothing() {
    let mut rig = Rig::serving(policy(2)).holding();
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    assert_eq!(rig.event(Event::Configured { policy: Some(policy(2)) }), [Spawn(0)]);
    assert_eq!(rig.after(s(59.0)), []);
    assert_eq!(rig.refused(), [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
    assert_eq!(rig.event(Event::OperatorCommand(OperatorCommand::Reload)), [Configure]);
}

#[test]
fn a_hup_gives_up_a_waiting_canary_and_begins_once_it_has_failed() {
    let mut rig = Rig::serving(policy(2)).holding();
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    rig.event(Event::Configured { policy: Some(policy(2)) });
    assert_eq!(rig.event(Event::OperatorCommand(OperatorCommand::Reload)), [Discard(2)]);
    assert_eq!(rig.refused(), [Configure]);
    assert_eq!(rig.event(Event::Configured { policy: Some(policy(2)) }), [Spawn(0)]);
    assert_eq!(rig.spawned(), []);
    assert_eq!(rig.ready(102), []);
    assert_eq!(rig.after(s(1.1)), [Adopt(3), Tell(100, Command::Drain)]);
}

#[test]
fn a_pause_gives_up_a_waiting_canary() {
    let mut rig = Rig::serving(policy(1)).holding();
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    rig.event(Event::Configured { policy: Some(policy(1)) });
    let did = rig.command(OperatorCommand::Pause);
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::Abandoned), Tell(100, Command::Drain)]);
    assert_eq!(rig.refused(), []);
    assert_eq!(rig.left(100), []);
}

fn prepared_by(preparation: Preparation, workers: u16) -> Policy {
    Policy { preparation, ..policy(workers) }
}

fn on_start_started(generation: u32) -> Event {
    Event::OnStartStarted { generation: Generation(generation), pid: Pid(50) }
}

fn zygote_started(generation: u32) -> Event {
    Event::ZygoteStarted { generation: Generation(generation), pid: Pid(60) }
}

fn zygote_lost() -> Event {
    let reason = "the zygote is gone".to_owned();
    Event::ZygoteLost { pid: Pid(60), verdict: Verdict::NotImportable, reason }
}

#[test]
fn the_first_workers_wait_until_on_start_is_done() {
    let mut rig = Rig::new(prepared_by(Preparation::OnStart, 2));
    assert_eq!(rig.run(), [RunOnStart(1)]);
    assert_eq!(rig.event(on_start_started(1)), []);
    assert_eq!(rig.left(50), [Spawn(0), Spawn(1)]);
    rig.ready(100);
    rig.ready(101);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Spawn(0)], "it runs once");
}

#[test]
fn an_on_start_that_fails_ends_the_first_start() {
    let mut rig = Rig::new(prepared_by(Preparation::OnStart, 2));
    rig.run();
    rig.event(on_start_started(1));
    let did = rig.failed(50, 3, "Traceback");
    assert_eq!(did, [Stopping, CloseQueues, DropListeners, Finish(Verdict::NotBooted)]);
}

#[test]
fn an_on_start_that_hangs_dumps_its_stack_and_is_stopped() {
    let mut rig = Rig::new(prepared_by(Preparation::OnStart, 2));
    rig.run();
    rig.event(on_start_started(1));
    assert_eq!(rig.after(s(60.0)), [DumpStack(50)]);
    let did = rig.after(s(1.0));
    assert_eq!(did[..2], [StopOnStart, Stopping]);
    assert_eq!(did.last(), Some(&Finish(Verdict::NotBooted)));
}

#[test]
fn an_on_start_that_fails_in_a_reload_changes_nothing() {
    let mut rig = Rig::serving(policy(2));
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    let policy = Some(prepared_by(Preparation::OnStart, 2));
    assert_eq!(rig.event(Event::Configured { policy }), [RunOnStart(2)]);
    rig.event(on_start_started(2));
    let did = rig.failed(50, 3, "Traceback");
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
}

#[test]
fn a_stop_does_not_wait_for_on_start() {
    let mut rig = Rig::new(prepared_by(Preparation::OnStart, 2));
    rig.run();
    rig.event(on_start_started(1));
    let did = rig.command(OperatorCommand::Terminate);
    assert_eq!(did, [StopOnStart, Stopping, CloseQueues, DropListeners, Finish(Verdict::Asked)]);
}

#[test]
fn workers_wait_for_their_zygote_and_are_then_spawned_at_once() {
    let mut rig = Rig::new(prepared_by(Preparation::Zygote, 2));
    assert_eq!(rig.run(), [StartZygote(1)]);
    assert_eq!(rig.event(zygote_started(1)), []);
    assert_eq!(rig.event(Event::ZygoteReady { pid: Pid(60) }), [Spawn(0), Spawn(1)]);
    rig.ready(100);
    rig.ready(101);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Spawn(0)]);
    assert_eq!(rig.event(zygote_lost()), []);
    assert_eq!(rig.exited(101, ExitStatus::Signal(9)), [StartZygote(1)]);
}

#[test]
fn a_zygote_that_cannot_load_the_application_ends_the_first_start() {
    let mut rig = Rig::new(prepared_by(Preparation::Zygote, 2));
    rig.run();
    rig.event(zygote_started(1));
    let did = rig.event(zygote_lost());
    assert_eq!(did, [Stopping, CloseQueues, DropListeners, Finish(Verdict::NotImportable)]);
}

#[test]
fn the_zygote_of_the_old_generation_ends_with_the_reload() {
    let mut rig = Rig::new(prepared_by(Preparation::Zygote, 1));
    rig.run();
    rig.event(zygote_started(1));
    rig.event(Event::ZygoteReady { pid: Pid(60) });
    assert_eq!(rig.ready(100), [Ready]);
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    rig.event(Event::Configured { policy: Some(policy(1)) });
    rig.ready(101);
    assert_eq!(rig.after(s(1.1)), [Adopt(2), Tell(100, Command::Drain)]);
    assert_eq!(rig.left(100), [EndZygote(60), Ended(ReloadOutcome::Done)]);
}

#[test]
fn an_on_start_run_leaves_the_zygote_of_the_old_generation_alone() {
    let mut rig = Rig::new(prepared_by(Preparation::Zygote, 1));
    rig.run();
    rig.event(zygote_started(1));
    assert_eq!(rig.event(Event::ZygoteReady { pid: Pid(60) }), [Spawn(0)]);
    rig.ready(100);
    rig.command(OperatorCommand::Reload);
    let new = prepared_by(Preparation::OnStart, 1);
    assert_eq!(rig.event(Event::Configured { policy: Some(new) }), [RunOnStart(2)]);
    rig.event(on_start_started(2));
    let did = rig.failed(50, 3, "Traceback");
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Spawn(0)], "its zygote forks the next one");
}

#[test]
fn a_zygote_that_is_lost_as_soon_as_it_is_ready_fails_its_spawns() {
    let mut rig = Rig::new(prepared_by(Preparation::Zygote, 2));
    rig.run();
    rig.event(zygote_started(1));
    rig.machine.handle(Event::ZygoteReady { pid: Pid(60) }, rig.now);
    let did = rig.event(zygote_lost());
    assert_eq!(did, [Stopping, CloseQueues, DropListeners, Finish(Verdict::NotImportable)]);
}

#[test]
fn a_spawn_that_a_lost_zygote_did_not_get_goes_to_the_next_one() {
    let mut rig = Rig::with_zygote(1);
    rig.crash_unseen(100);
    assert_eq!(rig.event(zygote_lost()), [StartZygote(1)]);
}

#[test]
fn a_spawn_that_a_lost_zygote_did_not_get_is_dropped_with_its_slot() {
    let mut rig = Rig::with_zygote(2);
    rig.crash_unseen(101);
    rig.machine.handle(Event::OperatorCommand(OperatorCommand::Fewer), rig.now);
    assert_eq!(rig.event(zygote_lost()), [Retire(1)]);
    assert_eq!(rig.command(OperatorCommand::More), [StartZygote(1)]);
}

#[test]
fn a_spawn_that_a_lost_zygote_did_not_get_is_of_the_generation_in_service() {
    let mut rig = Rig::with_zygote(2);
    rig.command(OperatorCommand::Reload);
    rig.event(Event::Configured { policy: Some(policy(2)) });
    rig.ready(102);
    rig.crash_unseen(101);
    rig.now += s(1.1);
    rig.machine.handle(Event::Tick, rig.now);
    assert_eq!(rig.event(zygote_lost()), [Adopt(2), Tell(100, Command::Drain), Spawn(1)]);
    assert_eq!(rig.machine.slots()[1].generation(), Generation(2));
}

#[test]
fn a_waiting_spawn_is_withdrawn_when_its_slot_is_given_up() {
    let mut rig = Rig::new(prepared_by(Preparation::OnStart, 2));
    rig.run();
    rig.event(on_start_started(1));
    assert_eq!(rig.command(OperatorCommand::Fewer), [Retire(1)]);
    assert_eq!(rig.left(50), [Spawn(0)]);
    assert_eq!(rig.ready(100), [Ready]);

    let mut rig = Rig::new(prepared_by(Preparation::Zygote, 2));
    rig.run();
    rig.event(zygote_started(1));
    assert_eq!(rig.command(OperatorCommand::Fewer), [Retire(1)]);
    assert_eq!(rig.event(Event::ZygoteReady { pid: Pid(60) }), [Spawn(0)]);
    assert_eq!(rig.command(OperatorCommand::More), [Spawn(1)]);
}

#[test]
fn a_worker_ordered_before_its_slot_was_given_up_exits_even_if_the_slot_returns() {
    let mut rig = Rig::serving(policy(2)).holding();
    assert_eq!(rig.exited(101, ExitStatus::Signal(9)), [Spawn(1)]);
    assert_eq!(rig.command(OperatorCommand::Fewer), [Retire(1)]);
    assert_eq!(rig.command(OperatorCommand::More), []);
    assert_eq!(rig.spawned(), [Tell(102, Command::Drain)], "its listeners were closed");
    assert_eq!(rig.left(102), [Spawn(1)]);
    assert_eq!(rig.ready(103), []);
}

#[test]
fn a_slot_that_is_given_up_before_its_spawn_was_seen_gets_no_worker() {
    let mut rig = Rig::serving(policy(2));
    rig.crash_unseen(101);
    assert_eq!(rig.command(OperatorCommand::Fewer), [Retire(1)]);
    assert_eq!(rig.command(OperatorCommand::More), [Spawn(1)]);
}

#[test]
fn a_worker_that_was_given_up_does_not_serve_during_the_drain_delay() {
    let mut rig = Rig::serving(Policy { drain_delay: s(5.0), ..policy(2) }).holding();
    rig.exited(101, ExitStatus::Signal(9));
    assert_eq!(rig.command(OperatorCommand::Fewer), [Retire(1)]);
    rig.command(OperatorCommand::Terminate);
    assert_eq!(rig.spawned(), [Tell(102, Command::Drain)]);
}
