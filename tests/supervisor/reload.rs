//! Reload, rest and hanging workers, with real processes.

use arctos::client::ctl::{self, Order, Verb};
use nix::sys::signal::Signal;

use crate::process::Server;
use crate::{ADMIN, OPTIONS, row};

pub(crate) fn sighup_performs_a_rolling_restart_of_all_workers() {
    let mut server = Server::start("serves").awaited();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.says(&["worker.ready", "slot=0", "generation=2"]);
    server.says(&["worker.left", "slot=0", "generation=1"]);
    server.says(&["worker.ready", "slot=1", "generation=2"]);
    server.says(&["worker.left", "slot=1", "generation=1"]);
    server.says(&["reload.done", "generation_in_service=2"]);
    assert!(before != [server.pid_in(0), server.pid_in(1)]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

pub(crate) fn sighup_with_an_import_failure_keeps_the_old_workers() {
    let mut server = Server::start("breaks later").awaited();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.says(&["reload.failed", "generation_in_service=1"]);
    assert_eq!(before, [server.pid_in(0), server.pid_in(1)]);
    assert_eq!(server.seen_count("Traceback: no such module"), 1);
    // The next one works: it is of generation 3.
    server.signal(Signal::SIGHUP);
    server.says(&["reload.done", "generation_in_service=3"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

pub(crate) fn sighup_fails_if_the_canary_dies_in_its_probation() {
    let mut server = Server::start("dies later").awaited();
    let before = [server.pid_in(0), server.pid_in(1)];
    server.signal(Signal::SIGHUP);
    server.says(&["worker.ready", "generation=2"]);
    server.says(&["worker.died", "generation=2", "exit code 7"]);
    server.says(&["reload.failed", "generation_in_service=1"]);
    assert_eq!(server.seen_count("worker.left"), 0);
    assert_eq!(before[1], server.pid_in(1));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

pub(crate) fn sigwinch_stops_all_workers_and_sighup_starts_them_again() {
    let mut server = Server::start("serves").awaited();
    server.signal(Signal::SIGWINCH);
    server.says(&["worker.left"]);
    server.says(&["worker.left"]);
    server.signal(Signal::SIGHUP);
    server.says(&["worker.ready", "slot=0", "generation=2"]);
    server.says(&["reload.done", "generation_in_service=2"]);
    server.says(&["worker.ready", "slot=1", "generation=2"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("worker.started"), 2 + 2, "each boots once");
}

pub(crate) fn a_worker_that_hangs_in_a_request_is_killed_and_replaced() {
    let options = |command: &mut std::process::Command| {
        command.env(OPTIONS, "--workers 2 --timeout 500ms");
        command.env(ADMIN, "127.0.0.1:0");
    };
    let mut server = Server::with("hangs once", options);
    let line = server.says(&["server.ready"]);
    let (_, admin) = line.trim_end().split_once(" admin=http://").unwrap();
    server.says(&["worker.hangs", "slot=0", "GET /for/ever"]);
    server.says(&["worker.died", "slot=0"]);
    server.says(&["worker.ready", "slot=0"]);
    let order = Order { verb: Verb::Metrics, server: admin.parse().unwrap() };
    let table = ctl::obey(&order).unwrap();
    assert_eq!(row(&table, "worker.timeout"), ["1", "1", "0"], "{table}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("worker.hangs"), 1);
}
