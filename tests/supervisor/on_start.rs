//! Tests of `--on-start`.

use nix::sys::signal::{Signal, kill};

use crate::OPTIONS;
use crate::process::{TestProcess, pid_of};

/// Starts a server that runs `--on-start` before its first worker.
fn server(role: &str) -> TestProcess {
    TestProcess::with(role, |command| {
        command.env(OPTIONS, "--workers 2 --on-start none:hook");
    })
}

pub(crate) fn on_start_runs_once_in_a_generation_before_its_first_worker() {
    let mut server = server("serves");
    server.wait_for(&["app.on_start", "generation=1", "leads_group=1"]);
    assert_eq!(server.line_count("worker.started"), 0);
    let mut server = server.until_ready();
    kill(server.pid_in(0), Signal::SIGKILL).unwrap();
    server.wait_for(&["worker.ready", "slot=0"]);
    server.signal(Signal::SIGHUP);
    server.wait_for(&["app.on_start", "generation=2"]);
    assert_eq!(server.line_count("worker.started"), 3);
    server.wait_for(&["reload.done"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("app.on_start"), 2);
    assert_eq!(server.line_count("orphan.reaped"), 0);
}

pub(crate) fn an_on_start_failure_exits_with_3_and_is_reported_once() {
    for (role, report) in [
        ("on_start fails", "Traceback: no such table"),
        ("on_start aborts", "ended without a report: SIGABRT"),
    ] {
        let mut server = server(role);
        assert_eq!(server.exit_code(), Some(3), "{role}");
        assert_eq!(server.line_count("on_start.failed generation=1"), 1);
        assert_eq!(server.line_count(report), 1);
        assert_eq!(server.line_count("worker.started"), 0);
    }
}

pub(crate) fn an_on_start_failure_in_a_reload_keeps_the_old_workers() {
    let mut server = server("on_start fails in generation 2").until_ready();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.wait_for(&["on_start.failed", "generation=2"]);
    server.wait_for(&["reload.failed", "generation_in_service=1"]);
    assert_eq!(before, [server.pid_in(0), server.pid_in(1)]);
    assert_eq!(server.line_count("worker.started"), 2);
    server.signal(Signal::SIGHUP);
    server.wait_for(&["reload.done", "generation_in_service=3"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

pub(crate) fn on_start_is_killed_after_the_boot_timeout() {
    let mut server = server("on_start never ends");
    let pid = pid_of(&server.wait_for(&["on_start.started"]));
    assert_eq!(server.exit_code(), Some(3));
    assert_eq!(server.line_count("not done within --boot-timeout"), 1);
    assert!(kill(pid, None).is_err());
}

pub(crate) fn a_stop_does_not_wait_for_on_start() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL] {
        let mut server = server("on_start never ends in generation 2").until_ready();
        server.signal(Signal::SIGHUP);
        let pid = pid_of(&server.wait_for(&["app.on_start", "generation=2"]));
        server.signal(signal);
        let killed = signal == Signal::SIGKILL;
        // The log ends once the `--on-start` process has closed it, so that process has exited, too.
        assert_eq!(server.exit_code(), (!killed).then_some(0), "{signal}");
        assert!(killed || kill(pid, None).is_err(), "the process is reaped");
        assert_eq!(server.line_count("on_start.failed"), 0);
    }
}

pub(crate) fn sighup_during_on_start_runs_it_again() {
    let mut server = server("on_start never ends in generation 2").until_ready();
    server.signal(Signal::SIGHUP);
    let pid = pid_of(&server.wait_for(&["app.on_start", "generation=2"]));
    server.signal(Signal::SIGHUP);
    server.wait_for(&["app.on_start", "generation=3"]);
    assert!(kill(pid, None).is_err());
    server.wait_for(&["reload.done", "generation_in_service=3"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("app.on_start"), 3);
}
