use std::num::NonZeroU16;
use std::time::Instant;

use arctos_worker::shared::identity::Generation;

use super::*;
use crate::admin::{RequestId, Trust};

fn read(method: Method, target: &str) -> Result<Verb, AdminResponse> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    Verb::read(&AdminRequest {
        id: RequestId(0),
        method,
        path,
        query,
        accept: String::new(),
        trust: Trust::Owner,
        peer: None,
    })
}

fn status_of(read: Result<Verb, AdminResponse>) -> u16 {
    read.unwrap_err().status
}

#[test]
fn verbs_that_show_something_are_read_from_get_and_head() {
    for (target, verb) in [
        ("/livez", Verb::Livez),
        ("/readyz?verbose", Verb::Readyz),
        ("/status", Verb::Status),
        ("/metrics?x=y", Verb::Metrics),
        ("/quarantine", Verb::Quarantine),
    ] {
        for method in [Method::Get, Method::Head] {
            assert_eq!(read(method, target), Ok(verb));
        }
        assert_eq!(status_of(read(Method::Post, target)), 405);
    }
}

#[test]
fn verbs_that_change_something_are_read_from_post() {
    for (target, verb) in [
        ("/reload", Verb::Reload { wait: false }),
        ("/reload?wait=0", Verb::Reload { wait: false }),
        ("/reload?wait=1", Verb::Reload { wait: true }),
        ("/stop", Verb::Stop { mode: StopMode::Graceful }),
        ("/stop?quick=1", Verb::Stop { mode: StopMode::Quick }),
        ("/scale?workers=1", Verb::Scale { workers: 1 }),
        ("/scale?workers=65535", Verb::Scale { workers: 65535 }),
        ("/dump?slot=0", Verb::Dump { slot: SlotId(0) }),
        ("/recycle?slot=3", Verb::Recycle { slot: SlotId(3) }),
        ("/release", Verb::Release { number: None }),
        ("/release?number=3", Verb::Release { number: NonZeroU16::new(3) }),
        ("/profile?seconds=10", Verb::Profile { seconds: 10, slot: None }),
        ("/profile?seconds=600&slot=0", Verb::Profile { seconds: 600, slot: Some(SlotId(0)) }),
    ] {
        assert_eq!(read(Method::Post, target), Ok(verb));
        assert_eq!(read(Method::Post, &verb.target()), Ok(verb), "a client asks for it so");
        assert_eq!(status_of(read(Method::Get, target)), 405);
        assert_eq!(status_of(read(Method::Head, target)), 405);
    }
}

#[test]
fn an_unknown_path_or_query_is_refused_with_the_right_ones() {
    for target in [
        "/reload?wait",
        "/reload?wait=yes",
        "/reload?quick=1",
        "/stop?wait=1",
        "/stop?quick=1&x=y",
        "/scale",
        "/scale?workers=",
        "/scale?workers=0",
        "/scale?workers=-1",
        "/scale?workers=+1",
        "/scale?workers=65536",
        "/scale?workers=1&workers=2",
        "/dump",
        "/dump?slot=a",
        "/recycle",
        "/recycle?slot=-1",
        "/release?number=",
        "/release?number=0",
        "/release?slot=1",
        "/profile",
        "/profile?seconds=0",
        "/profile?seconds=601",
        "/profile?slot=1",
        "/profile?seconds=1&slot=",
        "/profile?slot=1&seconds=1",
    ] {
        let Err(answer) = read(Method::Post, target) else { panic!("{target}") };
        assert_eq!(answer.status, 400, "{target}");
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        assert!(answer.body.starts_with(&format!("refused: expected {path}")), "{answer:?}");
    }
    for target in ["/", "/reload/", "/RELOAD", "/stop%3fquick=1", "*", ""] {
        let Err(answer) = read(Method::Post, target) else { panic!("{target}") };
        assert_eq!(answer.status, 404, "{target}");
        for path in [
            "/livez",
            "/readyz",
            "/status",
            "/metrics",
            "/reload",
            "/stop",
            "/scale",
            "/dump",
            "/recycle",
            "/quarantine",
            "/release",
            "/profile",
        ] {
            assert!(answer.body.contains(path), "{path}");
        }
    }
}

#[test]
fn a_server_that_stops_or_rests_refuses_verbs_without_effect() {
    let refused = |verb: Verb, state| verb.refusal(state).map(|answer| answer.status);
    let reload = Verb::Reload { wait: true };
    let scale = Verb::Scale { workers: 2 };
    let stop = Verb::Stop { mode: StopMode::Quick };
    assert_eq!(refused(reload, ServiceState::Stopping), Some(409));
    assert_eq!(refused(scale, ServiceState::Stopping), Some(409));
    assert_eq!(refused(scale, ServiceState::Paused), Some(409));
    assert_eq!(refused(reload, ServiceState::Paused), None, "it resumes the server");
    assert_eq!(refused(stop, ServiceState::Stopping), None, "it makes the stop faster");
    for verb in [reload, scale] {
        assert_eq!(refused(verb, ServiceState::Serving), None);
        assert_eq!(refused(verb, ServiceState::Starting), None);
    }
}

#[test]
fn more_workers_than_the_maximum_are_refused() {
    assert_eq!(scaled(64, 64), Ok(AdminResponse::plain(200, "the target is 64 workers\n")));
    let answer = scaled(65, 64).unwrap_err();
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("64"), "{answer:?}");
}

#[test]
fn any_worker_with_a_process_can_dump_its_stack_even_at_start() {
    let now = Instant::now();
    let mut slot = WorkerSlot::new(SlotId(1));
    let dumped = |slot: &WorkerSlot| dumped(SlotId(1), std::slice::from_ref(slot));
    assert_eq!(dumped(&slot).unwrap_err().status, 404);
    slot.fill(now);
    slot.spawn_when_due(Generation(1), None, now).unwrap();
    assert_eq!(dumped(&slot).unwrap_err().status, 409);
    slot.started(Pid(70), now);
    let (pid, answer) = dumped(&slot).unwrap();
    assert_eq!((pid, answer.status), (Pid(70), 200));
    assert!(answer.body.contains("still starting"), "{answer:?}");
    slot.ready(now);
    let (pid, answer) = dumped(&slot).unwrap();
    assert_eq!((pid, answer.status), (Pid(70), 200));
    slot.mark_hung(now);
    assert!(dumped(&slot).is_ok(), "a hanging worker is the one whose stack matters");
    assert_eq!(super::dumped(SlotId(2), &[slot]).unwrap_err().status, 404);
}

#[test]
fn only_a_ready_worker_is_recycled() {
    let now = Instant::now();
    let mut slot = WorkerSlot::new(SlotId(1));
    let status = |slot: &WorkerSlot| {
        let (Ok(answer) | Err(answer)) = recycled(SlotId(1), std::slice::from_ref(slot));
        answer.status
    };
    assert_eq!(status(&slot), 404);
    slot.fill(now);
    slot.spawn_when_due(Generation(1), None, now).unwrap();
    slot.started(Pid(70), now);
    assert_eq!(status(&slot), 409);
    slot.ready(now);
    let answer = recycled(SlotId(1), std::slice::from_ref(&slot)).unwrap();
    assert!(answer.status == 202 && answer.body.contains("(pid 70)"), "{answer:?}");
    slot.drain(now, now, now);
    assert_eq!(status(&slot), 409);
    assert_eq!(recycled(SlotId(2), &[slot]).unwrap_err().status, 404);
}

#[test]
fn a_verb_has_a_name_and_an_argument_for_the_log_and_for_its_target() {
    for (verb, name, argument) in [
        (Verb::Reload { wait: false }, "reload", None),
        (Verb::Reload { wait: true }, "reload", Some(("wait", 1))),
        (Verb::Stop { mode: StopMode::Graceful }, "stop", None),
        (Verb::Stop { mode: StopMode::Quick }, "stop", Some(("quick", 1))),
        (Verb::Scale { workers: 3 }, "scale", Some(("workers", 3))),
        (Verb::Dump { slot: SlotId(2) }, "dump", Some(("slot", 2))),
        (Verb::Recycle { slot: SlotId(2) }, "recycle", Some(("slot", 2))),
        (Verb::Release { number: None }, "release", None),
        (Verb::Release { number: NonZeroU16::new(2) }, "release", Some(("number", 2))),
    ] {
        assert_eq!((verb.name(), verb.arguments().next()), (name, argument));
        assert!(verb.is_change());
    }
    for (verb, name) in [
        (Verb::Livez, "livez"),
        (Verb::Readyz, "readyz"),
        (Verb::Status, "status"),
        (Verb::Metrics, "metrics"),
        (Verb::Quarantine, "quarantine"),
    ] {
        assert_eq!((verb.name(), verb.arguments().next(), verb.is_change()), (name, None, false));
        assert_eq!(verb.target(), format!("/{name}"));
    }
}

#[test]
fn one_profile_runs_at_a_time_and_only_of_workers_that_exist() {
    let now = Instant::now();
    let mut slot = WorkerSlot::new(SlotId(1));
    assert_eq!(profiled(None, &[], None), Ok(()), "workers may start meanwhile");
    assert_eq!(
        profiled(Some(SlotId(1)), std::slice::from_ref(&slot), None).unwrap_err().status,
        404
    );
    slot.fill(now);
    slot.spawn_when_due(Generation(1), None, now).unwrap();
    slot.started(Pid(70), now);
    let slots = std::slice::from_ref(&slot);
    assert_eq!(profiled(Some(SlotId(1)), slots, None), Ok(()));
    assert_eq!(profiled(Some(SlotId(2)), slots, None).unwrap_err().status, 404);
    let refusal = profiled(None, slots, Some(7)).unwrap_err();
    assert_eq!((refusal.status, refusal.body.contains("within 8 s")), (409, true), "{refusal:?}");
}
