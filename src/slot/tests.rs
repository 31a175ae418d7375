use super::*;

fn slot() -> (WorkerSlot, Jitter, Instant) {
    (WorkerSlot::new(SlotId(0)), Jitter::new(1), Instant::now())
}

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Spawns as soon as the slot allows; when that was.
fn spawn(slot: &mut WorkerSlot, now: Instant) -> Instant {
    slot.fill(now);
    let at = slot.deadline().unwrap().max(now);
    assert!(slot.spawn_when_due(Generation(1), None, at).is_some());
    assert!(slot.started(Pid(7), at + s(60.0)));
    at
}

#[test]
fn a_slot_whose_worker_fails_waits_longer_each_time_and_30_s_at_most() {
    let (mut slot, mut jitter, mut now) = slot();
    for nominal in [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
        now = spawn(&mut slot, now);
        now += s(600.0); // Long after the limit of spawns has forgotten it.
        assert_eq!(slot.exited(now, &mut jitter), Some(Ending::BootFailed));
        let wait = (slot.deadline().unwrap() - now).as_secs_f64();
        assert!((0.9 * nominal..=1.1 * nominal).contains(&wait), "{wait} instead of {nominal}");
    }
}

#[test]
fn a_minute_of_health_makes_failures_forgotten() {
    let (mut slot, mut jitter, mut now) = slot();
    for _ in 0..5 {
        now = spawn(&mut slot, now);
        slot.exited(now, &mut jitter);
    }
    now = spawn(&mut slot, now);
    slot.ready(now);
    now += HEALTH;
    assert_eq!(slot.exited(now, &mut jitter), Some(Ending::Died));
    assert_eq!(slot.deadline(), Some(now));
}

#[test]
fn less_than_a_minute_of_health_does_not() {
    let (mut slot, mut jitter, mut now) = slot();
    for _ in 0..5 {
        now = spawn(&mut slot, now);
        slot.exited(now, &mut jitter);
    }
    now = spawn(&mut slot, now);
    slot.ready(now);
    now += HEALTH - s(1.0);
    slot.exited(now, &mut jitter);
    assert!(slot.deadline().unwrap() > now + s(5.0));
}

#[test]
fn a_ninth_spawn_waits_until_the_first_is_a_minute_old() {
    let (mut slot, mut jitter, start) = slot();
    for _ in 0..8 {
        spawn(&mut slot, start);
        slot.drain(start, start);
        assert_eq!(slot.exited(start, &mut jitter), Some(Ending::Asked));
    }
    slot.fill(start);
    assert_eq!(slot.deadline(), Some(start + MINUTE));
    assert_eq!(slot.spawn_when_due(Generation(1), None, start + MINUTE - s(0.001)), None);
    assert!(slot.spawn_when_due(Generation(1), None, start + MINUTE).is_some());
}

#[test]
fn each_spawn_takes_the_side_that_the_one_before_did_not() {
    let (mut slot, mut jitter, mut now) = slot();
    let mut sides = Vec::new();
    for _ in 0..4 {
        now = spawn(&mut slot, now);
        sides.push(slot.side());
        slot.exited(now, &mut jitter);
    }
    assert_eq!(sides, [Side::A, Side::B, Side::A, Side::B]);
}

#[test]
fn a_second_ready_is_no_news() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    assert!(slot.ready(now));
    assert!(!slot.ready(now + s(1.0)));
    assert!(slot.is_ready());
}

#[test]
fn a_worker_that_was_told_to_leave_does_not_become_ready() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    assert!(slot.drain(now + s(1.0), now + s(2.0)));
    assert!(!slot.ready(now));
    assert!(!slot.is_ready());
}

#[test]
fn an_earlier_time_to_leave_is_not_prolonged() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    slot.drain(now + s(5.0), now + s(6.0));
    assert!(!slot.drain(now + s(50.0), now + s(60.0)));
    assert_eq!(slot.deadline(), Some(now + s(5.0)));
    assert!(slot.quit(now + s(60.0)));
    assert_eq!(slot.deadline(), Some(now + s(6.0)));
    assert!(!slot.drain(now, now), "a quitting worker is not sent back to draining");
}

#[test]
fn a_killed_worker_is_killed_once() {
    let (mut slot, _, now) = slot();
    spawn(&mut slot, now);
    assert_eq!(slot.kill(KillReason::Overdue), Some(Pid(7)));
    assert_eq!(slot.kill(KillReason::Overdue), None);
}

#[test]
fn a_vacant_slot_has_nobody_to_lose() {
    let (mut slot, mut jitter, now) = slot();
    assert_eq!(slot.exited(now, &mut jitter), None);
    slot.fill(now);
    assert_eq!(slot.exited(now, &mut jitter), None);
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
