use std::time::Instant;

use arctos_worker::shared::identity::Generation;

use super::*;
use crate::admin::{QuestionId, Trust};

fn read(method: Method, target: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    Request::read(&Question {
        id: QuestionId(0),
        method,
        path,
        query,
        trust: Trust::Owner,
        asker: None,
    })
}

fn status_of(request: Request) -> u16 {
    let Request::Refused(answer) = request else { panic!("{request:?}") };
    answer.status
}

#[test]
fn what_shows_something_is_got() {
    for (target, request) in [
        ("/livez", Request::Livez),
        ("/readyz?verbose", Request::Readyz),
        ("/status", Request::Status),
        ("/metrics?x=y", Request::Metrics),
    ] {
        for method in [Method::Get, Method::Head] {
            assert_eq!(read(method, target), request);
        }
        assert_eq!(status_of(read(Method::WorkerInit, target)), 405);
    }
}

#[test]
fn what_changes_something_is_posted() {
    for (target, request) in [
        ("/reload", Request::Reload { wait: false }),
        ("/reload?wait=0", Request::Reload { wait: false }),
        ("/reload?wait=1", Request::Reload { wait: true }),
        ("/stop", Request::Stop { haste: Haste::Graceful }),
        ("/stop?quick=1", Request::Stop { haste: Haste::Quick }),
        ("/scale?workers=1", Request::Scale { workers: 1 }),
        ("/scale?workers=65535", Request::Scale { workers: 65535 }),
        ("/dump?slot=0", Request::Dump { slot: SlotId(0) }),
        ("/recycle?slot=3", Request::Recycle { slot: SlotId(3) }),
    ] {
        assert_eq!(read(Method::WorkerInit, target), request);
        assert_eq!(status_of(read(Method::Get, target)), 405);
        assert_eq!(status_of(read(Method::Head, target)), 405);
    }
}

#[test]
fn what_is_not_understood_is_refused_with_what_would_be() {
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
    ] {
        let Request::Refused(answer) = read(Method::WorkerInit, target) else { panic!("{target}") };
        assert_eq!(answer.status, 400, "{target}");
        let (path, _) = target.split_once('?').unwrap_or((target, ""));
        assert!(answer.body.starts_with(&format!("refused: expected {path}")), "{answer:?}");
    }
    for target in ["/", "/reload/", "/RELOAD", "/stop%3fquick=1", "*", ""] {
        let Request::Refused(answer) = read(Method::WorkerInit, target) else { panic!("{target}") };
        assert_eq!(answer.status, 404, "{target}");
        for path in [
            "/livez", "/readyz", "/status", "/metrics", "/reload", "/stop", "/scale", "/dump",
            "/recycle",
        ] {
            assert!(answer.body.contains(path), "{path}");
        }
    }
}

#[test]
fn a_server_that_stops_or_rests_refuses_what_it_would_not_do() {
    let refused = |request: Request, phase| request.refusal(phase).map(|answer| answer.status);
    let reload = Request::Reload { wait: true };
    let scale = Request::Scale { workers: 2 };
    let stop = Request::Stop { haste: Haste::Quick };
    assert_eq!(refused(reload.clone(), Phase::Stopping), Some(409));
    assert_eq!(refused(scale.clone(), Phase::Stopping), Some(409));
    assert_eq!(refused(scale.clone(), Phase::Paused), Some(409));
    assert_eq!(refused(reload.clone(), Phase::Paused), None, "it ends the rest");
    assert_eq!(refused(stop, Phase::Stopping), None, "it hastens the stop");
    for request in [reload, scale] {
        assert_eq!(refused(request.clone(), Phase::Serving), None);
        assert_eq!(refused(request, Phase::Starting), None);
    }
}

#[test]
fn more_workers_than_there_is_room_for_are_refused() {
    assert_eq!(scaled(64, 64), Ok(Answer::plain(200, "64 wanted\n")));
    let answer = scaled(65, 64).unwrap_err();
    assert_eq!(answer.status, 409);
    assert!(answer.body.contains("64"), "{answer:?}");
}

#[test]
fn a_worker_that_has_a_process_can_say_where_it_is_also_while_it_starts() {
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
    assert!(dumped(&slot).is_ok(), "one that hangs is the one to ask");
    assert_eq!(super::dumped(SlotId(2), &[slot]).unwrap_err().status, 404);
}

#[test]
fn only_a_worker_that_serves_is_recycled() {
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
fn what_changes_something_has_a_name_for_the_log() {
    let deed = |request: Request| request.deed().map(|deed| (deed.verb, deed.with));
    assert_eq!(deed(Request::Reload { wait: false }), Some(("reload", None)));
    assert_eq!(deed(Request::Reload { wait: true }), Some(("reload", Some(("wait", 1)))));
    assert_eq!(deed(Request::Stop { haste: Haste::Graceful }), Some(("stop", None)));
    assert_eq!(deed(Request::Stop { haste: Haste::Quick }), Some(("stop", Some(("quick", 1)))));
    assert_eq!(deed(Request::Scale { workers: 3 }), Some(("scale", Some(("workers", 3)))));
    assert_eq!(deed(Request::Dump { slot: SlotId(2) }), Some(("dump", Some(("slot", 2)))));
    assert_eq!(deed(Request::Recycle { slot: SlotId(2) }), Some(("recycle", Some(("slot", 2)))));
    for looks in [Request::Livez, Request::Readyz, Request::Status, Request::Metrics] {
        assert_eq!(deed(looks), None);
    }
}
