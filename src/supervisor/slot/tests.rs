use super::*;

fn slot() -> (WorkerSlot, Jitter, Instant) {
    (WorkerSlot::new(SlotId(0)), Jitter::new(1), Instant::now())
}

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Spawns as soon as the slot allows. Returns the time of the spawn.
fn spawn(slot: &mut WorkerSlot, now: Instant) -> Instant {
    slot.fill(now);
    let at = slot.deadline().unwrap().max(now);
    assert!(slot.spawn_when_due(Generation(1), None, at).is_some());
    assert!(slot.started(Pid(7), at + s(60.0)));
    at
}

#[test]
fn a_slot_whose_workers_never_serve_backs_off_up_to_5_s() {
    let (mut slot, mut jitter, mut now) = slot();
    for nominal in [0.0, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0] {
        now = spawn(&mut slot, now);
        now += s(30.0); // A slow boot changes nothing.
        assert_eq!(slot.exited(false, now, &mut jitter), Some(Ending::BootFailed));
        let wait = (slot.deadline().unwrap() - now).as_secs_f64();
        assert!((0.9 * nominal..=1.1 * nominal).contains(&wait), "{wait} instead of {nominal}");
    }
}

/// Returns a slot whose workers have never served and whose next spawn is far away.
fn failed() -> (WorkerSlot, Jitter, Instant) {
    let (mut slot, mut jitter, mut now) = slot();
    for _ in 0..6 {
        now = spawn(&mut slot, now);
        slot.exited(false, now, &mut jitter);
    }
    (slot, jitter, now)
}

#[test]
fn the_crash_of_a_worker_that_received_a_request_causes_no_delay() {
    let (mut slot, mut jitter, mut now) = failed();
    for _ in 0..20 {
        now = spawn(&mut slot, now);
        slot.ready(now);
        assert_eq!(slot.exited(true, now, &mut jitter), Some(Ending::Died));
        assert_eq!(slot.deadline(), Some(now));
    }
}

#[test]
fn the_crash_of_a_worker_that_was_ready_for_a_second_causes_no_delay() {
    let (mut slot, mut jitter, mut now) = failed();
    for _ in 0..20 {
        now = spawn(&mut slot, now);
        slot.ready(now);
        now += SERVED_AFTER;
        assert_eq!(slot.exited(false, now, &mut jitter), Some(Ending::Died));
        assert_eq!(slot.deadline(), Some(now));
    }
}

#[test]
fn a_worker_that_hangs_in_a_request_causes_no_delay() {
    let (mut slot, mut jitter, mut now) = failed();
    now = spawn(&mut slot, now);
    slot.ready(now);
    slot.mark_hung(now);
    slot.kill(KillReason::Hung);
    assert_eq!(slot.exited(false, now, &mut jitter), Some(Ending::Hung));
    assert_eq!(slot.deadline(), Some(now));
}

#[test]
fn a_worker_that_was_ready_briefly_without_a_request_has_not_served() {
    let (mut slot, mut jitter, mut now) = failed();
    now = spawn(&mut slot, now);
    slot.ready(now);
    now += SERVED_AFTER - s(0.01);
    assert!(!slot.has_served(now));
    slot.exited(false, now, &mut jitter);
    assert!(slot.deadline().unwrap() > now + s(4.0));
}

#[test]
fn has_served_returns_true_once() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    slot.ready(now);
    assert_eq!(slot.deadline(), Some(now + SERVED_AFTER));
    assert!(slot.has_served(now + SERVED_AFTER));
    assert!(!slot.has_served(now + SERVED_AFTER));
    assert_eq!(slot.deadline(), None);
}

#[test]
fn forgotten_failures_do_not_delay_a_spawn() {
    let (mut slot, mut jitter, now) = failed();
    assert!(slot.deadline().unwrap() > now);
    slot.forget_failures(now);
    assert_eq!(slot.deadline(), Some(now));
    spawn(&mut slot, now);
    slot.exited(false, now, &mut jitter);
    assert_eq!(slot.deadline(), Some(now), "the next failure counts as the first one");
}

#[test]
fn a_delay_can_be_shortened_but_not_prolonged() {
    let (mut slot, _, now) = failed();
    slot.hasten(now + s(0.5));
    slot.hasten(now + s(60.0));
    assert_eq!(slot.deadline(), Some(now + s(0.5)));
}

#[test]
fn a_spawn_that_was_withdrawn_leaves_its_side_to_the_next_one() {
    let (mut slot, _, now) = slot();
    for (taken, side) in [(None, Side::A), (Some(Side::A), Side::B), (None, Side::A)] {
        slot.fill(now);
        assert_eq!(slot.spawn_when_due(Generation(1), taken, now), Some(side));
        slot.withdraw();
    }
}

#[test]
fn spawns_alternate_between_the_two_sides() {
    let (mut slot, mut jitter, mut now) = slot();
    let mut sides = Vec::new();
    for _ in 0..4 {
        now = spawn(&mut slot, now);
        sides.push(slot.side());
        slot.exited(false, now, &mut jitter);
    }
    assert_eq!(sides, [Side::A, Side::B, Side::A, Side::B]);
}

#[test]
fn a_second_ready_changes_nothing() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    assert!(slot.ready(now));
    assert!(!slot.ready(now + s(1.0)));
    assert!(slot.is_ready());
}

#[test]
fn a_worker_that_was_asked_to_exit_does_not_become_ready() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    assert!(slot.drain(now, now + s(1.0), now + s(2.0)));
    assert!(!slot.ready(now));
    assert!(!slot.is_ready());
}

#[test]
fn a_stop_does_not_wait_for_a_worker_that_does_not_serve_yet() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    slot.drain(now + s(2.0), now + s(20.0), now + s(25.0));
    assert_eq!(slot.deadline(), Some(now + s(2.0)));
    assert_eq!(slot.expired(now + s(2.0)), Some(Expired::Quit));
    let (mut in_a_hurry, _, now) = self::slot();
    spawn(&mut in_a_hurry, now);
    in_a_hurry.drain(now + s(2.0), now + s(0.5), now + s(1.0));
    assert_eq!(in_a_hurry.deadline(), Some(now + s(1.0)));
}

#[test]
fn a_worker_that_becomes_ready_when_asked_to_exit_has_time_to_drain() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    slot.drain(now + s(2.0), now + s(20.0), now + s(25.0));
    assert!(!slot.ready(now + s(1.0)));
    assert_eq!(slot.expired(now + s(2.0)), None);
    assert_eq!(slot.deadline(), Some(now + s(20.0)));
    assert_eq!(slot.expired(now + s(20.0)), Some(Expired::Drain));
}

#[test]
fn an_earlier_deadline_to_exit_is_not_prolonged() {
    for is_ready in [true, false] {
        let (mut slot, _, now) = slot();
        spawn(&mut slot, now);
        if is_ready {
            slot.ready(now);
        }
        slot.drain(now + s(5.0), now + s(5.0), now + s(6.0));
        assert!(!slot.drain(now + s(50.0), now + s(50.0), now + s(60.0)));
        assert_eq!(slot.deadline(), Some(now + s(5.0)));
        slot.ready(now);
        assert!(slot.quit(now + s(60.0)));
        assert_eq!(slot.deadline(), Some(now + s(6.0)));
        assert!(!slot.drain(now, now, now), "a quitting worker is not sent back to draining");
    }
}

#[test]
fn a_killed_worker_is_killed_once() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    assert_eq!(slot.kill(KillReason::Overdue), Some(Pid(7)));
    assert_eq!(slot.kill(KillReason::Overdue), None);
}

#[test]
fn a_vacant_slot_ignores_an_exit() {
    let (mut slot, mut jitter, now) = slot();
    assert_eq!(slot.exited(false, now, &mut jitter), None);
    slot.fill(now);
    assert_eq!(slot.exited(false, now, &mut jitter), None);
    assert!(slot.is_vacant());
}

#[test]
fn jitter_stays_within_a_tenth_and_repeats_with_its_seed() {
    let waits = |seed| {
        let mut jitter = Jitter::new(seed);
        (0..1000).map(|_| jitter.spread(s(1.0))).collect::<Vec<_>>()
    };
    assert!(waits(3).iter().all(|wait| (s(0.9)..=s(1.1)).contains(wait)));
    assert_eq!(waits(3), waits(3));
    assert_ne!(waits(3), waits(4));
}
