//! Workers whose loop has ended while their process remains.

use super::*;

impl Rig {
    fn loop_ended(&mut self, pid: i32) -> Vec<Did> {
        self.event(Event::LoopEnded { pid: Pid(pid), had_request: true })
    }
}

#[test]
fn a_reload_does_not_wait_for_a_worker_whose_loop_has_ended() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.command(OperatorCommand::Reload), [Configure]);
    rig.event(Event::Configured { policy: Some(policy(2)) });
    rig.ready(102);
    assert_eq!(rig.after(PROBATION), [Adopt(2), Tell(100, Command::Drain)]);
    assert_eq!(rig.loop_ended(100), [Spawn(1)]);
    assert_eq!(rig.loop_ended(100), [], "the end of the loop is reported repeatedly");
    assert_eq!(rig.ready(103), [Tell(101, Command::Drain)]);
    assert_eq!(rig.loop_ended(101), [Ended(ReloadOutcome::Done)]);
    assert_eq!(rig.left(101), []);
    assert_eq!(rig.after(s(23.0)), [Tell(100, Command::Quick)], "its own deadline stays");
    assert_eq!(rig.after(s(2.0)), [Kill(100)]);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), []);
    assert_eq!(rig.machine.places().count(), 2);
}

#[test]
fn the_next_reload_waits_while_both_entries_of_its_slot_are_in_use() {
    let mut rig = Rig::serving(policy(1));
    for _ in 0..2 {
        assert_eq!(rig.command(OperatorCommand::Reload), [Configure]);
        rig.event(Event::Configured { policy: Some(policy(1)) });
        rig.ready(101);
        rig.after(PROBATION);
        rig.loop_ended(100);
    }
    assert_eq!(rig.machine.places().filter_map(WorkerSlot::pid).count(), 2);
    assert_eq!(rig.left(100), [Spawn(0)]);
}

#[test]
fn a_worker_that_exits_by_itself_is_replaced_when_its_loop_has_ended() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.loop_ended(100), [Spawn(0)]);
    assert!(!rig.machine.slots()[0].is_ready());
    assert_eq!(rig.ready(102), []);
    assert_eq!(rig.left(100), []);
    assert_eq!(rig.command(OperatorCommand::Quit)[..2], [Stopping, CloseQueues]);
}

#[test]
fn a_worker_that_exits_by_itself_before_it_has_served_has_a_backoff() {
    let mut rig = Rig::serving(policy(2));
    let mut spawns_count = 0;
    for pid in 102..110 {
        let first = rig.machine.slots()[0].pid().map_or(0, |pid| pid.0);
        let ended = Event::LoopEnded { pid: Pid(first), had_request: false };
        spawns_count += rig.event(ended).iter().filter(|did| **did == Spawn(0)).count();
        rig.left(first);
        rig.ready(pid);
    }
    assert_eq!(spawns_count, 1);
}

#[test]
fn a_canary_that_exits_by_itself_ends_its_reload_at_once() {
    let mut rig = Rig::serving(policy(1));
    rig.command(OperatorCommand::Reload);
    rig.event(Event::Configured { policy: Some(policy(1)) });
    rig.ready(101);
    assert_eq!(rig.loop_ended(101), [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
    assert_eq!(rig.command(OperatorCommand::Reload), [Configure]);
}

#[test]
fn a_stop_waits_for_workers_whose_loop_has_ended() {
    let mut rig = Rig::serving(policy(1));
    rig.loop_ended(100);
    rig.ready(101);
    rig.command(OperatorCommand::Quit);
    assert_eq!(rig.left(101), []);
    assert_eq!(rig.left(100), [Finish(Verdict::Asked)]);
}

#[test]
fn a_slot_whose_entries_are_both_in_use_keeps_its_backoff() {
    let mut rig = Rig::serving(policy(2));
    rig.loop_ended(100);
    rig.command(OperatorCommand::Reload);
    rig.exited(102, ExitStatus::Code(3));
    rig.exited(103, ExitStatus::Code(3));
    assert!(matches!(rig.machine.slots()[0].state(), SlotState::Backoff { .. }));
    assert_eq!(rig.event(Event::Configured { policy: Some(policy(2)) }), [Spawn(0)], "the canary");
    let canary = rig.next_pid - 1;
    assert_eq!(rig.after(s(0.1)), [], "an exiting worker and the canary use both entries");
    let did = rig.exited(canary, ExitStatus::Code(3));
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
    assert_eq!(rig.after(s(0.6)), [Spawn(0)]);
}

#[test]
fn a_slot_that_waits_for_an_entry_past_its_backoff_gets_the_next_free_one() {
    let mut rig = Rig::serving(policy(2));
    rig.loop_ended(100);
    rig.command(OperatorCommand::Reload);
    rig.exited(102, ExitStatus::Code(3));
    rig.exited(103, ExitStatus::Code(3));
    rig.event(Event::Configured { policy: Some(policy(2)) });
    rig.ready(101);
    assert_eq!(rig.after(s(0.9)), []);
    assert!(rig.machine.next_deadline() > Some(rig.now), "nothing is due until an entry is free");
    assert_eq!(rig.left(100), [Spawn(0)]);
}

#[test]
fn a_stop_takes_back_the_canary_of_a_slot_that_waits_for_its_backoff() {
    let mut rig = Rig::serving(policy(1));
    rig.loop_ended(100);
    rig.command(OperatorCommand::Reload);
    rig.exited(101, ExitStatus::Code(3));
    rig.exited(102, ExitStatus::Code(3));
    rig.machine.handle(Event::Configured { policy: Some(policy(1)) }, rig.now);
    rig.command(OperatorCommand::Quit);
    assert_eq!(rig.left(100), [Finish(Verdict::Asked)]);
}
