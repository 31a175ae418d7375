//! `--on-start`, with real processes.

use nix::sys::signal::{Signal, kill};

use crate::OPTIONS;
use crate::process::{Server, pid_of};

/// A server with something to do before its first worker.
fn server(role: &str) -> Server {
    Server::with(role, |command| {
        command.env(OPTIONS, "--workers 2 --on-start none:hook");
    })
}

pub(crate) fn a_generation_is_opened_once_before_its_first_worker() {
    let mut server = server("serves");
    server.says(&["actor.opens", "generation=1", "leads_group=1"]);
    assert_eq!(server.seen_count("worker.started"), 0);
    let mut server = server.awaited();
    kill(server.pid_in(0), Signal::SIGKILL).unwrap();
    server.says(&["worker.ready", "slot=0"]);
    server.signal(Signal::SIGHUP);
    server.says(&["actor.opens", "generation=2"]);
    assert_eq!(server.seen_count("worker.started"), 3);
    server.says(&["reload.done"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("actor.opens"), 2);
    assert_eq!(server.seen_count("orphan.reaped"), 0);
}

pub(crate) fn a_server_that_cannot_be_opened_is_exit_3_and_one_report() {
    for (role, report) in [
        ("opens badly", "Traceback: no such table"),
        ("aborts in its opening", "ended without a report: SIGABRT"),
    ] {
        let mut server = server(role);
        assert_eq!(server.ends(), Some(3), "{role}");
        assert_eq!(server.seen_count("generation.not_opened generation=1"), 1);
        assert_eq!(server.seen_count(report), 1);
        assert_eq!(server.seen_count("worker.started"), 0);
    }
}

pub(crate) fn a_generation_that_cannot_be_opened_changes_nothing() {
    let mut server = server("opens badly later").awaited();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.says(&["generation.not_opened", "generation=2"]);
    server.says(&["reload.failed", "generation_in_service=1"]);
    assert_eq!(before, [server.pid_in(0), server.pid_in(1)]);
    assert_eq!(server.seen_count("worker.started"), 2);
    server.signal(Signal::SIGHUP);
    server.says(&["reload.done", "generation_in_service=3"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

pub(crate) fn an_opening_that_takes_too_long_is_killed() {
    let mut server = server("opens for ever");
    let pid = pid_of(&server.says(&["generation.opening"]));
    assert_eq!(server.ends(), Some(3));
    assert_eq!(server.seen_count("not done within --boot-timeout"), 1);
    assert!(kill(pid, None).is_err());
}

pub(crate) fn a_stop_does_not_wait_for_an_opening() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let mut server = server("opens for ever later").awaited();
        server.signal(Signal::SIGHUP);
        let pid = pid_of(&server.says(&["actor.opens", "generation=2"]));
        server.signal(signal);
        let killed = signal == Signal::SIGKILL;
        // Nobody has the log any more: it has ended in any case.
        assert_eq!(server.ends(), (!killed).then_some(0), "{signal}");
        assert!(killed || kill(pid, None).is_err(), "it is reaped");
        assert_eq!(server.seen_count("generation.not_opened"), 0);
    }
}

pub(crate) fn a_hup_during_an_opening_starts_over() {
    let mut server = server("opens for ever later").awaited();
    server.signal(Signal::SIGHUP);
    let pid = pid_of(&server.says(&["actor.opens", "generation=2"]));
    server.signal(Signal::SIGHUP);
    server.says(&["actor.opens", "generation=3"]);
    assert!(kill(pid, None).is_err());
    server.says(&["reload.done", "generation_in_service=3"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("actor.opens"), 3);
}
