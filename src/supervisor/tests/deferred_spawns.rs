//! Spawns that are answered late, because something has to be done before the first worker.

use super::*;

impl Rig {
    fn holding(mut self) -> Self {
        self.held = Some(Vec::new());
        self
    }

    /// The spawns that wait are carried out.
    fn spawned(&mut self) -> Vec<Did> {
        let mut did = Vec::new();
        for (slot, side) in self.held.take().unwrap_or_default() {
            let pid = Pid(self.next_pid);
            self.next_pid += 1;
            did.extend(self.event(Event::Started { slot, side, pid }));
        }
        did
    }

    /// They come to nothing.
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
fn the_boot_timeout_of_a_worker_begins_when_there_is_one() {
    let mut rig = Rig::new(policy(2)).holding();
    assert_eq!(rig.run(), [Spawn(0), Spawn(1)]);
    assert_eq!(rig.after(s(59.0)), []);
    assert_eq!(rig.spawned(), []);
    assert_eq!(rig.after(s(59.0)), []);
    rig.ready(100);
    assert_eq!(rig.ready(101), [Ready]);
}

#[test]
fn pilots_that_come_to_nothing_end_the_start_and_nobody_is_spawned_instead() {
    let mut rig = Rig::new(policy(4)).holding();
    rig.run();
    let did = rig.refused();
    assert_eq!(did, [Stopping, CloseDoor, DropListeners, Finish(Verdict::NotBooted)]);
}

#[test]
fn a_stop_has_ended_when_the_spawns_that_wait_are_refused() {
    for wish in [OperatorCommand::Terminate, OperatorCommand::Quit, OperatorCommand::Interrupt] {
        let mut rig = Rig::new(policy(2)).holding();
        rig.run();
        assert_eq!(rig.command(wish), [Stopping, CloseDoor, DropListeners]);
        assert_eq!(rig.refused(), [Finish(Verdict::Asked)]);
    }
}

#[test]
fn a_canary_that_comes_to_nothing_changes_nothing() {
    let mut rig = Rig::serving(policy(2)).holding();
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    assert_eq!(rig.event(Event::Configured { policy: Some(policy(2)) }), [Spawn(0)]);
    assert_eq!(rig.after(s(59.0)), []);
    assert_eq!(rig.refused(), [Discard(2), Ended(ReloadOutcome::CanaryFailed)]);
    assert_eq!(rig.event(Event::OperatorCommand(OperatorCommand::Reload)), [Configure]);
}

#[test]
fn a_hup_gives_up_a_canary_that_waits_and_begins_when_it_is_refused() {
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
fn rest_gives_up_a_canary_that_waits() {
    let mut rig = Rig::serving(policy(1)).holding();
    rig.event(Event::OperatorCommand(OperatorCommand::Reload));
    rig.event(Event::Configured { policy: Some(policy(1)) });
    let did = rig.command(OperatorCommand::Pause);
    assert_eq!(did, [Discard(2), Ended(ReloadOutcome::Abandoned), Tell(100, Command::Drain)]);
    assert_eq!(rig.refused(), []);
    assert_eq!(rig.left(100), []);
}
