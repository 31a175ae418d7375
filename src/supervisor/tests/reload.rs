//! Reloads, replacements, pauses and hanging workers.

use super::*;

fn reload() -> Event {
    Event::OperatorCommand(OperatorCommand::Reload)
}

impl Rig {
    fn configure(&mut self, policy: Policy) -> Vec<Did> {
        self.event(Event::Configured { policy: Some(policy) })
    }

    /// Sends HUP, with a configuration that can be used.
    fn hup(&mut self, policy: Policy) -> Vec<Did> {
        assert_eq!(self.event(reload()), [Configure]);
        self.configure(policy)
    }

    fn died(&mut self, pid: i32) -> Vec<Did> {
        self.exited(pid, ExitStatus::Signal(11))
    }
}

#[test]
fn other_workers_follow_one_by_one_once_the_canary_passed_its_probation() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.hup(policy(2)), [Spawn(0)]); // 102
    assert_eq!(rig.ready(102), []);
    assert_eq!(rig.after(s(0.9)), []);
    assert_eq!(rig.after(s(0.2)), [Adopt(2), Tell(100, Command::Drain)]);
    assert_eq!(rig.left(100), [Spawn(1)]); // 103
    assert_eq!(rig.ready(103), [Tell(101, Command::Drain)]);
    assert_eq!(rig.left(101), [Ended(ReloadOutcome::Done)]);
    assert_eq!(rig.died(102), [Spawn(0)]);
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.event(reload()), [Configure]);
    let did = rig.event(Event::Configured { policy: None });
    assert_eq!(did, [Ended(ReloadOutcome::Misconfigured)]);
    assert_eq!(rig.hup(policy(2)), [Spawn(0)]);
}

#[test]
fn a_canary_that_cannot_boot_changes_nothing() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.failing(102);
    let did = rig.failed(102, 4, "Traceback");
    let expected = [Report("Traceback".into()), Discard(2), Ended(ReloadOutcome::CanaryFailed)];
    assert_eq!(did, expected);
    assert_eq!(rig.died(100), [Spawn(0)]);
}

#[test]
fn a_canary_that_is_not_ready_in_time_is_killed_and_changes_nothing() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(policy(1));
    assert_eq!(rig.after(s(60.0)), [DumpStack(101)]);
    assert_eq!(rig.after(s(1.0)), [Kill(101)]);
    let did = rig.exited(101, ExitStatus::Signal(9));
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
}

#[test]
fn a_canary_that_dies_in_its_probation_changes_nothing() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.ready(102);
    rig.after(s(0.5));
    assert_eq!(rig.died(102), [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
    assert_eq!(rig.after(s(60.0)), []);
}

#[test]
fn without_a_probation_a_canary_takes_its_slot_as_soon_as_it_is_ready() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(Policy { probation: s(0.0), ..policy(1) });
    assert_eq!(rig.ready(101), [Adopt(2), Tell(100, Command::Drain)]);
    assert_eq!(rig.left(100), [Ended(ReloadOutcome::Done)]);
}

#[test]
fn workers_that_were_sent_term_directly_do_not_halt_a_rollout() {
    let mut rig = Rig::serving(policy(3));
    rig.hup(policy(3));
    rig.ready(103);
    rig.after(PROBATION);
    rig.left(100); // The replacement of the second boots.
    assert_eq!(rig.left(103), [Spawn(0)]);
    rig.ready(105);
    assert_eq!(rig.left(105), [Spawn(0)]);
    assert!(matches!(rig.machine.reloading(), Some((Generation(2), ReloadStep::Rolling))));
}

impl Rig {
    /// Lets a worker crash in a request in which workers of the old code crash, too.
    fn crashed_within_baseline(&mut self, pid: i32) -> Vec<Did> {
        let details =
            ExitDetails { had_request: true, is_baseline: true, ..ExitDetails::default() };
        self.event(Event::Exited { pid: Pid(pid), status: ExitStatus::Signal(11), details })
    }
}

#[test]
fn a_canary_that_crashes_like_old_workers_is_followed_by_another() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.ready(102);
    rig.after(s(0.6));
    assert_eq!(rig.crashed_within_baseline(102), [Spawn(0)]); // 103
    assert_eq!(rig.after(s(30.0)), [], "the time to boot does not count as probation");
    rig.ready(103);
    assert_eq!(rig.after(s(0.3)), []);
    assert_eq!(rig.after(s(0.1)), [Adopt(2), Tell(100, Command::Drain)]);
}

#[test]
fn a_crash_of_a_canary_before_it_is_ready_has_no_baseline() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    assert_eq!(rig.crashed_within_baseline(102), [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
}

#[test]
fn crashes_within_the_baseline_do_not_halt_a_rollout() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.ready(102);
    rig.after(s(1.0));
    for _ in 0..20 {
        let newest = rig.next_pid - 1;
        assert_eq!(rig.crashed_within_baseline(newest), [Spawn(0)]);
        rig.ready(rig.next_pid - 1);
    }
    assert_eq!(rig.left(100), [Spawn(1)]);
}

#[test]
fn a_hup_while_the_canary_boots_starts_over() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    assert_eq!(rig.event(reload()), [Discard(2), Tell(102, Command::Drain)]);
    assert_eq!(rig.event(reload()), []);
    assert_eq!(rig.left(102), [Configure]);
    assert_eq!(rig.configure(policy(2)), [Spawn(0)]); // 103
    rig.ready(103);
    assert_eq!(rig.after(s(1.0)), [Adopt(3), Tell(100, Command::Drain)]);
}

#[test]
fn a_hup_while_the_canary_boots_waits_only_for_a_quick_stop() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.event(reload());
    assert_eq!(rig.after(s(2.0)), [Kill(102)]);
    assert_eq!(rig.exited(102, ExitStatus::Signal(9)), [Configure]);
}

#[test]
fn at_a_hup_a_canary_that_serves_finishes_its_requests() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.ready(102);
    rig.after(s(0.5));
    assert_eq!(rig.event(reload()), [Discard(2), Tell(102, Command::Drain)]);
    assert_eq!(rig.after(s(20.0)), [], "it has as much time as any other worker");
    assert_eq!(rig.left(102), [Configure]);
}

#[test]
fn a_canary_that_becomes_ready_at_a_hup_finishes_its_requests() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.event(reload());
    assert_eq!(rig.ready(102), [], "it was ready before it could read the command");
    assert_eq!(rig.after(s(20.0)), []);
    assert_eq!(rig.left(102), [Configure]);
}

#[test]
fn a_worker_that_becomes_ready_at_winch_or_ttou_finishes_its_requests() {
    for command in [OperatorCommand::Pause, OperatorCommand::Fewer, OperatorCommand::Terminate] {
        let mut rig = Rig::serving(policy(2));
        rig.command(OperatorCommand::More); // 102
        if command == OperatorCommand::Pause {
            assert!(rig.command(command).contains(&Tell(102, Command::Drain)));
        } else {
            rig.command(command);
        }
        rig.ready(102);
        let did = rig.after(s(20.0));
        assert!(!did.contains(&Tell(102, Command::Quick)) && !did.contains(&Kill(102)), "{did:?}");
    }
}

#[test]
fn several_hups_during_a_rollout_cause_one_more_reload() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(policy(1));
    rig.ready(101);
    rig.after(s(1.0));
    for _ in 0..50 {
        assert_eq!(rig.event(reload()), []);
    }
    assert_eq!(rig.left(100), [Ended(ReloadOutcome::Done), Configure]);
    assert_eq!(rig.configure(policy(1)), [Spawn(0)]);
}

#[test]
fn a_hup_before_the_server_is_ready_waits_until_it_is() {
    let mut rig = Rig::new(policy(1));
    rig.run();
    assert_eq!(rig.event(reload()), []);
    assert_eq!(rig.ready(100), [Ready, Configure]);
}

#[test]
fn two_crashes_of_the_new_generation_bring_the_old_one_back() {
    let mut rig = Rig::serving(policy(3));
    rig.hup(policy(3));
    rig.ready(103);
    rig.after(s(1.0));
    assert_eq!(rig.left(100), [Spawn(1)]); // 104
    rig.ready(104);
    assert_eq!(rig.died(103), [Spawn(0)]); // 105, still of the new one
    rig.ready(105);
    assert_eq!(rig.died(104), [Adopt(1), Spawn(1)]); // 106
    rig.ready(106);
    assert_eq!(rig.left(101), [Spawn(0)]); // 107
    assert_eq!(rig.ready(107), [Tell(105, Command::Drain)]);
    assert_eq!(rig.left(105), [Ended(ReloadOutcome::Halted)]);
    assert_eq!(rig.died(102), [Spawn(2)]);
}

#[test]
fn a_replacement_of_a_halted_rollout_takes_no_slot() {
    let mut rig = Rig::serving(policy(3));
    rig.hup(policy(3));
    rig.ready(103);
    rig.after(s(1.0));
    assert_eq!(rig.left(100), [Spawn(1)]); // 104
    rig.ready(104);
    assert_eq!(rig.left(101), [Spawn(2)]); // 105, in the spare place
    assert_eq!(rig.died(103), [Spawn(0)]); // 106, still of the new generation
    rig.ready(106);
    assert_eq!(rig.died(104), [Adopt(1), Tell(105, Command::Drain), Spawn(1)]); // 107
    assert_eq!(rig.ready(105), [], "worker 102 goes on");
}

#[test]
fn crashes_far_apart_do_not_halt_a_rollout() {
    let mut rig = Rig::serving(policy(3));
    rig.hup(policy(3));
    rig.ready(103);
    rig.after(s(1.0));
    assert_eq!(rig.died(103), [Spawn(0)]); // 104
    rig.ready(104);
    rig.after(s(11.0));
    assert_eq!(rig.died(104), [Spawn(0)]); // 105
    rig.ready(105);
    assert_eq!(rig.left(100), [Spawn(1)]);
}

#[test]
fn a_new_number_of_workers_is_adopted_with_the_canary() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(3));
    rig.ready(102);
    assert_eq!(rig.after(s(1.0)), [Adopt(2), Tell(100, Command::Drain), Spawn(2)]);
}

#[test]
fn a_reload_with_the_same_number_of_workers_does_not_undo_ttin() {
    let mut rig = Rig::serving(policy(1));
    rig.command(OperatorCommand::More); // 101
    rig.ready(101);
    rig.hup(policy(1));
    rig.ready(102);
    rig.after(s(1.0));
    assert_eq!(rig.left(100), [Spawn(1)]);
}

#[test]
fn workers_that_reached_a_limit_are_recycled_one_at_a_time() {
    let mut rig = Rig::serving(policy(2));
    assert_eq!(rig.event(Event::LimitReached { pid: Pid(101) }), [Spawn(1)]); // 102
    assert_eq!(rig.event(Event::LimitReached { pid: Pid(100) }), []);
    assert_eq!(rig.event(Event::LimitReached { pid: Pid(101) }), []);
    assert_eq!(rig.ready(102), [Tell(101, Command::Drain)]);
    assert_eq!(rig.left(101), [Spawn(0)]);
}

#[test]
fn an_operator_can_recycle_a_worker() {
    let mut rig = Rig::serving(policy(2));
    let recycle =
        |rig: &mut Rig, slot| rig.command(OperatorCommand::Recycle { slot: SlotId(slot) });
    assert_eq!(recycle(&mut rig, 1), [Spawn(1)]); // 102
    assert_eq!(recycle(&mut rig, 1), []);
    assert_eq!(recycle(&mut rig, 7), [], "the slot has no worker");
    assert_eq!(rig.ready(102), [Tell(101, Command::Drain)]);
    assert_eq!(rig.left(101), [], "the worker is already replaced");
    assert_eq!(recycle(&mut rig, 1), [Spawn(1)]);
}

#[test]
fn recycling_waits_until_the_canary_has_passed_its_probation() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2)); // 102, of slot 0
    assert_eq!(rig.command(OperatorCommand::Recycle { slot: SlotId(1) }), []);
    rig.ready(102);
    rig.after(s(1.0));
    assert_eq!(rig.left(100), [Spawn(1)]); // 103
    rig.ready(103);
    assert_eq!(rig.left(101), [Ended(ReloadOutcome::Done)], "the rollout has replaced it");
}

#[test]
fn a_replacement_that_cannot_boot_is_tried_again_later() {
    let mut rig = Rig::serving(policy(1));
    rig.event(Event::LimitReached { pid: Pid(100) }); // 101
    let did = rig.failed(101, 4, "Traceback");
    assert_eq!(did, [Report("Traceback".into()), Spawn(0)]); // 102
    assert_eq!(rig.failed(102, 4, "Traceback"), [Report("Traceback".into())]);
    assert_eq!(rig.after(s(0.4)), []);
    assert_eq!(rig.after(s(0.2)), [Spawn(0)]);
}

#[test]
fn an_old_worker_that_dies_while_the_canary_boots_is_replaced() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(policy(1)); // 101
    assert_eq!(rig.died(100), [Spawn(0)]); // 102
    rig.ready(101);
    rig.ready(102);
    assert_eq!(rig.after(s(1.0)), [Adopt(2), Tell(102, Command::Drain)]);
    assert_eq!(rig.left(102), [Ended(ReloadOutcome::Done)]);
}

#[test]
fn an_old_worker_that_does_not_exit_is_killed_and_the_rollout_goes_on() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2));
    rig.ready(102);
    rig.after(s(1.0));
    assert_eq!(rig.after(s(22.5)), [Tell(100, Command::Quick)]);
    assert_eq!(rig.after(s(2.0)), [Kill(100)]);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Spawn(1)]);
}

#[test]
fn a_stop_ends_a_rollout_and_stops_the_spare_worker() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(policy(1));
    rig.ready(101);
    let expected = [
        Discard(2),
        Ended(ReloadOutcome::Abandoned),
        Stopping,
        CloseQueues,
        Tell(100, Command::Drain),
        Tell(101, Command::Drain),
        DropListeners,
    ];
    assert_eq!(rig.command(OperatorCommand::Quit), expected);
    assert_eq!(rig.left(101), []);
    assert_eq!(rig.left(100), [Finish(Verdict::Asked)]);
}

/// Returns a paused server, whose workers 100 and 101 have exited.
fn paused() -> Rig {
    let mut rig = Rig::serving(policy(2));
    let all = [Tell(100, Command::Drain), Tell(101, Command::Drain)];
    assert_eq!(rig.command(OperatorCommand::Pause), all);
    rig.left(100);
    rig.left(101);
    assert_eq!(rig.after(s(600.0)), []);
    rig
}

#[test]
fn winch_stops_all_workers_and_hup_brings_them_back_canary_first() {
    let mut rig = paused();
    assert_eq!(rig.event(reload()), [Configure]);
    assert_eq!(rig.configure(policy(2)), [Spawn(0)]); // 102
    assert_eq!(rig.ready(102), []);
    assert_eq!(rig.after(s(1.0)), [Adopt(2), Ended(ReloadOutcome::Done), Spawn(1)]); // 103
    assert_eq!(rig.ready(103), []);
    assert_eq!(rig.after(s(600.0)), []);
}

#[test]
fn a_failed_hup_after_a_pause_brings_back_the_old_generation() {
    let mut rig = paused();
    rig.event(reload());
    let did = rig.event(Event::Configured { policy: None });
    assert_eq!(did, [Ended(ReloadOutcome::Misconfigured), Spawn(0), Spawn(1)]);

    let mut rig = paused();
    rig.event(reload());
    rig.configure(policy(2)); // 102
    let did = rig.exited(102, ExitStatus::Code(4));
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::CanaryFailed), Spawn(0), Spawn(1)]);
    assert_eq!(rig.machine.places().map(|slot| slot.generation().0).max(), Some(1));
}

#[test]
fn a_second_hup_after_a_pause_does_not_wait_for_the_first_canary() {
    let mut rig = paused();
    rig.event(reload());
    rig.configure(policy(2)); // 102
    rig.ready(102);
    let did = rig.event(reload());
    assert_eq!(did, [Discard(2), Tell(102, Command::Drain), Spawn(0), Spawn(1)]);
}

#[test]
fn a_hup_after_a_pause_does_not_wait_for_exiting_workers() {
    let mut rig = Rig::serving(policy(2));
    rig.hup(policy(2)); // 102
    rig.ready(102);
    assert_eq!(rig.after(s(1.0)), [Adopt(2), Tell(100, Command::Drain)]);
    rig.command(OperatorCommand::Pause);
    rig.left(102);
    rig.left(101);
    assert_eq!(rig.event(reload()), [Spawn(0), Spawn(1)], "worker 100 occupies the spare place");
    assert_eq!(rig.left(100), [Configure]);
}

#[test]
fn a_hup_after_a_pause_is_given_up_by_another_pause_and_by_a_stop() {
    let mut rig = paused();
    rig.event(reload());
    rig.configure(policy(2)); // 102
    let did = rig.command(OperatorCommand::Pause);
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::Abandoned), Tell(102, Command::Drain)]);
    rig.left(102);
    assert_eq!(rig.event(reload()), [Configure]);
    rig.configure(policy(2)); // 103
    assert!(rig.command(OperatorCommand::Quit).contains(&Tell(103, Command::Drain)));
    assert_eq!(rig.left(103), [Finish(Verdict::Asked)]);
}

#[test]
fn a_paused_server_stops_at_once() {
    let mut rig = Rig::serving(policy(1));
    rig.command(OperatorCommand::Pause);
    rig.left(100);
    let expected = [Stopping, CloseQueues, DropListeners, Finish(Verdict::Asked)];
    assert_eq!(rig.command(OperatorCommand::Terminate), expected);
}

#[test]
fn a_worker_that_hangs_dumps_its_stack_and_is_killed_a_second_later() {
    let mut rig = Rig::serving(policy(1));
    let hung = Event::Hung { pid: Pid(100) };
    assert_eq!(rig.event(hung.clone()), [DumpStack(100)]);
    assert_eq!(rig.event(hung), []);
    assert_eq!(rig.after(s(0.9)), []);
    assert_eq!(rig.after(s(0.1)), [Kill(100)]);
    assert_eq!(rig.exited(100, ExitStatus::Signal(9)), [Spawn(0)]);
}

#[test]
fn a_worker_that_hung_and_goes_on_is_not_killed() {
    let mut rig = Rig::serving(policy(1));
    let (hung, goes_on) = (Event::Hung { pid: Pid(100) }, Event::GoesOn { pid: Pid(100) });
    assert_eq!(rig.event(hung.clone()), [DumpStack(100)]);
    assert!(rig.machine.is_hung(Pid(100)));
    assert_eq!(rig.event(goes_on), []);
    assert_eq!(rig.after(s(60.0)), []);
    assert!(rig.machine.slots()[0].is_ready());
    assert_eq!(rig.event(hung), [DumpStack(100)], "it can hang again");
    assert_eq!(rig.after(s(1.0)), [Kill(100)]);
    assert_eq!(rig.event(Event::GoesOn { pid: Pid(100) }), [], "too late");
}

#[test]
fn a_worker_that_hangs_obeys_a_stop_if_it_goes_on() {
    let mut rig = Rig::serving(policy(1));
    rig.event(Event::Hung { pid: Pid(100) });
    let told = Tell(100, Command::Drain);
    assert_eq!(rig.command(OperatorCommand::Quit), [Stopping, CloseQueues, told, DropListeners]);
    rig.event(Event::GoesOn { pid: Pid(100) });
    assert_eq!(rig.after(s(1.0)), [], "it drains, and has time for that");
    assert_eq!(rig.command(OperatorCommand::Interrupt), [Tell(100, Command::Quick)]);
    assert_eq!(rig.event(Event::Hung { pid: Pid(100) }), [DumpStack(100)]);
    assert_eq!(rig.command(OperatorCommand::Quit), [], "it already has the command");
    rig.event(Event::GoesOn { pid: Pid(100) });
    assert_eq!(rig.left(100), [Finish(Verdict::Asked)]);
}

#[test]
fn a_canary_that_hung_and_goes_on_passes_its_probation() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(policy(1));
    rig.ready(101);
    rig.event(Event::Hung { pid: Pid(101) });
    rig.event(Event::GoesOn { pid: Pid(101) });
    assert_eq!(rig.after(s(1.0)), [Adopt(2), Tell(100, Command::Drain)]);
}

#[test]
fn an_operator_can_set_the_number_of_workers() {
    let mut rig = Rig::serving(policy(1));
    assert_eq!(rig.command(OperatorCommand::Scale { workers: 3 }), [Spawn(1), Spawn(2)]);
    rig.ready(101);
    rig.ready(102);
    let did = rig.command(OperatorCommand::Scale { workers: 1 });
    let expected = [Tell(102, Command::Drain), Retire(2), Tell(101, Command::Drain), Retire(1)];
    assert_eq!(did, expected);
}

#[test]
fn a_canary_that_hangs_in_its_probation_changes_nothing() {
    let mut rig = Rig::serving(policy(1));
    rig.hup(policy(1));
    rig.ready(101);
    assert_eq!(rig.event(Event::Hung { pid: Pid(101) }), [DumpStack(101)]);
    assert_eq!(rig.after(s(1.0)), [Kill(101)]);
    let did = rig.exited(101, ExitStatus::Signal(9));
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
}

#[test]
fn a_second_signal_in_the_drain_delay_never_prolongs_the_stop() {
    let mut rig = Rig::serving(Policy { graceful: s(3.0), drain_delay: s(1.0), ..policy(1) });
    rig.command(OperatorCommand::Terminate);
    rig.after(s(0.9));
    rig.command(OperatorCommand::Interrupt);
    assert_eq!(rig.after(s(2.94 - 0.9)), [Kill(100)]);
}
