//! Tests of reloads, of a paused server and of hung workers.

use arctos::admin::verb::Verb;
use arctos::client::ctl::{self, CtlCommand, ProfileOutput};
use nix::sys::signal::Signal;

use crate::process::TestProcess;
use crate::{ADMIN, OPTIONS, row};

pub(crate) fn sighup_performs_a_rolling_restart_of_all_workers() {
    let mut server = TestProcess::start("serves").until_ready();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.wait_for(&["worker.ready", "slot=0", "generation=2"]);
    server.wait_for(&["worker.exited", "slot=0", "generation=1"]);
    server.wait_for(&["worker.ready", "slot=1", "generation=2"]);
    server.wait_for(&["worker.exited", "slot=1", "generation=1"]);
    server.wait_for(&["reload.done", "generation_in_service=2"]);
    assert!(before != [server.pid_in(0), server.pid_in(1)]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

pub(crate) fn sighup_with_an_import_failure_keeps_the_old_workers() {
    let mut server = TestProcess::start("import fails in generation 2").until_ready();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.wait_for(&["reload.failed", "generation_in_service=1"]);
    assert_eq!(before, [server.pid_in(0), server.pid_in(1)]);
    assert_eq!(server.line_count("Traceback: no such module"), 1);
    // The next reload, which is generation 3, succeeds.
    server.signal(Signal::SIGHUP);
    server.wait_for(&["reload.done", "generation_in_service=3"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

pub(crate) fn sighup_fails_if_the_canary_dies_in_its_probation() {
    let mut server = TestProcess::start("exits in generation 2").until_ready();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.wait_for(&["worker.ready", "generation=2"]);
    server.wait_for(&["worker.died", "generation=2", "exit code 7"]);
    server.wait_for(&["reload.failed", "generation_in_service=1"]);
    assert_eq!(server.line_count("worker.exited"), 0);
    assert_eq!(before[1], server.pid_in(1));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

pub(crate) fn sigwinch_stops_all_workers_and_sighup_starts_them_again() {
    let mut server = TestProcess::start("serves").until_ready();
    server.signal(Signal::SIGWINCH);
    server.wait_for(&["worker.exited"]);
    server.wait_for(&["worker.exited"]);
    server.signal(Signal::SIGHUP);
    server.wait_for(&["worker.ready", "slot=0", "generation=2"]);
    server.wait_for(&["reload.done", "generation_in_service=2"]);
    server.wait_for(&["worker.ready", "slot=1", "generation=2"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("worker.started"), 2 + 2, "each worker boots once");
}

pub(crate) fn a_worker_that_hangs_in_a_request_is_killed_and_replaced() {
    let options = |command: &mut std::process::Command| {
        command.env(OPTIONS, "--workers 2 --timeout 500ms");
        command.env(ADMIN, "127.0.0.1:0");
    };
    let mut server = TestProcess::with("hangs once", options);
    let line = server.wait_for(&["server.ready"]);
    let (_, admin) = line.trim_end().split_once(" admin=http://").unwrap();
    server.wait_for(&["worker.hung", "slot=0", "method=GET path=/for/ever"]);
    server.wait_for(&["worker.died", "slot=0"]);
    server.wait_for(&["worker.ready", "slot=0"]);
    let command = CtlCommand {
        verb: Verb::Metrics,
        is_json: false,
        profile: ProfileOutput::default(),
        server: admin.parse().unwrap(),
    };
    let table = ctl::run(&command).unwrap();
    assert_eq!(row(&table, "worker.timeout"), ["1", "1", "0"], "{table}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("worker.hung"), 1);
}
