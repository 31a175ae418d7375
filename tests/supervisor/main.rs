//! Tests of the supervisor with real processes and without Python.
//!
//! Each test starts this program once more as a server (`ARCTOS_TEST_ROLE`), whose application is a few lines
//! of Rust, and waits for lines of the server's log. `cargo test --test supervisor -- WORD` runs the tests
//! whose name contains the word.
#![expect(clippy::unwrap_used, reason = "the whole program is test code")]

mod application;
#[path = "../support/harness.rs"]
mod harness;
mod on_start;
#[path = "../support/process.rs"]
mod process;
mod reload;
#[path = "../support/test_worker.rs"]
mod test_worker;

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode};

use arctos::admin::verb::Verb;
use arctos::client::ctl::{self, CtlCommand, ProfileOutput};
use nix::sys::signal::{Signal, kill};

use application::serve;
use harness::{Test, tests};
use on_start::{
    a_stop_does_not_wait_for_on_start, an_on_start_failure_exits_with_3_and_is_reported_once,
    an_on_start_failure_in_a_reload_keeps_the_old_workers,
    on_start_is_killed_after_the_boot_timeout,
    on_start_runs_once_in_a_generation_before_its_first_worker,
    sighup_during_on_start_runs_it_again,
};
use process::{PATIENCE, ROLE, TestProcess};
use reload::{
    a_worker_that_hangs_in_a_request_is_killed_and_replaced,
    sighup_fails_if_the_canary_dies_in_its_probation,
    sighup_performs_a_rolling_restart_of_all_workers,
    sighup_with_an_import_failure_keeps_the_old_workers,
    sigwinch_stops_all_workers_and_sighup_starts_them_again,
};

pub(crate) const OPTIONS: &str = "ARCTOS_TEST_OPTIONS";
/// The environment variable with the addresses of the server's admin sockets, separated by spaces.
pub(crate) const ADMIN: &str = "ARCTOS_TEST_ADMIN";

fn main() -> ExitCode {
    match std::env::var(ROLE) {
        Ok(role) => ExitCode::from(u8::try_from(serve(&role)).unwrap()),
        Err(_) => harness::run(TESTS),
    }
}

const TESTS: &[Test] = tests![
    a_server_becomes_ready_and_stops_on_sigterm
    a_killed_worker_is_replaced_in_its_slot
    the_log_names_the_request_that_a_crashed_worker_was_running
    an_import_failure_exits_with_4_and_is_reported_once
    a_boot_failure_exits_with_3_and_is_reported_once
    a_panic_at_boot_exits_with_3_and_its_message_is_logged
    a_worker_that_panics_while_serving_exits_with_70_and_is_replaced
    a_supervisor_that_panics_exits_with_70_and_leaves_no_worker
    an_unexpected_worker_exit_counts_a_restart_with_its_reason
    a_requested_worker_exit_does_not_count_a_restart
    sigttin_and_sigttou_change_the_number_of_workers
    an_adopted_orphan_is_reaped_and_nothing_is_restarted
    workers_notice_that_the_supervisor_was_killed
    a_worker_inherits_only_its_own_descriptors_and_signals
    a_second_sigterm_skips_the_drain_delay
    a_second_sigint_kills_an_unresponsive_worker_and_its_children
    sigusr2_is_refused_if_the_program_cannot_execute_itself_again
    a_worker_killed_by_a_real_time_signal_is_replaced
    a_process_with_threads_refuses_to_fork
    signals_that_were_blocked_at_startup_are_handled
    systemd_is_notified_when_the_server_is_ready_and_when_it_stops
    the_pid_file_exists_while_the_server_is_ready
    a_running_server_reports_its_metrics
    a_failure_to_bind_the_admin_socket_exits_with_1
    sighup_performs_a_rolling_restart_of_all_workers
    sighup_with_an_import_failure_keeps_the_old_workers
    sighup_fails_if_the_canary_dies_in_its_probation
    sigwinch_stops_all_workers_and_sighup_starts_them_again
    a_worker_that_hangs_in_a_request_is_killed_and_replaced
    on_start_runs_once_in_a_generation_before_its_first_worker
    an_on_start_failure_exits_with_3_and_is_reported_once
    an_on_start_failure_in_a_reload_keeps_the_old_workers
    on_start_is_killed_after_the_boot_timeout
    a_stop_does_not_wait_for_on_start
    sighup_during_on_start_runs_it_again
];

fn a_server_becomes_ready_and_stops_on_sigterm() {
    let mut server = TestProcess::start("serves").until_ready();
    assert_eq!(server.line_count("worker.ready"), 2);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("command=Drain"), 2);
    assert_eq!(server.line_count("server.stopped abandoned=0"), 1);
}

fn a_killed_worker_is_replaced_in_its_slot() {
    let mut server = TestProcess::start("serves").until_ready();
    let before = server.pid_in(1);
    kill(before, Signal::SIGKILL).unwrap();
    server.wait_for(&["worker.died", "slot=1", "SIGKILL"]);
    server.wait_for(&["worker.ready", "slot=1"]);
    assert_ne!(server.pid_in(1), before);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("server.ready"), 1);
}

fn the_log_names_the_request_that_a_crashed_worker_was_running() {
    let mut server = TestProcess::start("is in a request").until_ready();
    kill(server.pid_in(0), Signal::SIGABRT).unwrap();
    server.wait_for(&["worker.died", "slot=0", "SIGABRT", "method=GET path=/slow"]);
    server.signal(Signal::SIGQUIT);
    assert_eq!(server.exit_code(), Some(0));
}

fn an_import_failure_exits_with_4_and_is_reported_once() {
    for workers in ["1", "8"] {
        let mut server = TestProcess::with("import fails", |command| {
            command.env(OPTIONS, format!("--workers {workers}"));
        });
        assert_eq!(server.exit_code(), Some(4), "{workers} workers");
        assert_eq!(server.line_count("Traceback: no such module"), 1);
        assert!(server.line_count("worker.started") <= 2);
        assert_eq!(server.line_count("server.ready"), 0);
    }
}

fn a_boot_failure_exits_with_3_and_is_reported_once() {
    for workers in ["1", "8"] {
        let mut server = TestProcess::with("boot fails", |command| {
            command.env(OPTIONS, format!("--workers {workers}"));
        });
        assert_eq!(server.exit_code(), Some(3), "{workers} workers");
        assert_eq!(server.line_count("Traceback: no such module"), 1);
    }
}

fn a_panic_at_boot_exits_with_3_and_its_message_is_logged() {
    let mut server = TestProcess::with("boot panics", |command| {
        command.env(OPTIONS, "--workers 1");
    });
    assert_eq!(server.exit_code(), Some(3));
    assert_eq!(server.line_count("generation=1 message=\"deliberate panic at boot\""), 1);
    assert_eq!(server.line_count("status=\"exit code 70\""), 1);
    let last = "a worker could not boot: worker 0 (pid";
    assert_eq!(server.line_count(last), 1);
}

fn a_worker_that_panics_while_serving_exits_with_70_and_is_replaced() {
    let mut server = TestProcess::with("panics", |command| {
        command.env(OPTIONS, "--workers 1");
    });
    server.wait_for(&["worker.panicked", "slot=0", "message=\"deliberate panic\""]);
    server.wait_for(&["worker.died", "slot=0", "exit code 70"]);
    server.wait_for(&["worker.started", "slot=0"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

fn a_supervisor_that_panics_exits_with_70_and_leaves_no_worker() {
    let mut server = TestProcess::start("supervisor panics");
    assert_eq!(server.exit_code(), Some(70));
    assert_eq!(server.line_count("deliberate panic in the supervisor"), 1);
    assert_eq!(server.line_count("app.orphaned"), 1, "the supervisor had forked the first worker");
}

fn an_unexpected_worker_exit_counts_a_restart_with_its_reason() {
    let started = |role| {
        TestProcess::with(role, |command| {
            command.env(OPTIONS, "--workers 1");
        })
    };
    let mut killed = started("logs restarts").until_ready();
    for _ in 0..2 {
        kill(killed.pid_in(0), Signal::SIGKILL).unwrap();
        killed.wait_for(&["worker.ready"]);
    }
    assert_eq!(killed.line_count("boot=0 exit=0 signal=0 "), 2);
    assert_eq!(killed.line_count("boot=0 exit=0 signal=1 "), 1);

    let mut exiting = started("exits");
    exiting.wait_for(&["app.restarts", "boot=0 exit=1 signal=0 "]);

    let mut failing = started("boots once").until_ready();
    kill(failing.pid_in(0), Signal::SIGKILL).unwrap();
    failing.wait_for(&["app.restarts", "boot=1 exit=0 signal=0 "]);

    for mut server in [killed, exiting, failing] {
        server.signal(Signal::SIGTERM);
        assert_eq!(server.exit_code(), Some(0));
    }
}

fn a_requested_worker_exit_does_not_count_a_restart() {
    let mut server = TestProcess::with("logs restarts", |command| {
        command.env(OPTIONS, "--workers 1");
    })
    .until_ready();
    for _ in 0..2 {
        server.signal(Signal::SIGTTIN);
        server.wait_for(&["worker.ready", "slot=1"]);
        server.signal(Signal::SIGTTOU);
        server.wait_for(&["worker.exited", "slot=1"]);
    }
    server.signal(Signal::SIGTTIN);
    server.wait_for(&["worker.ready", "slot=1"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("app.restarts"), 4);
    assert_eq!(server.line_count("boot=0 exit=0 signal=0 "), 4);
}

fn sigttin_and_sigttou_change_the_number_of_workers() {
    let mut server = TestProcess::start("serves").until_ready();
    server.signal(Signal::SIGTTIN);
    server.wait_for(&["worker.ready", "slot=2"]);
    server.signal(Signal::SIGTTOU);
    server.wait_for(&["app.command", "Drain"]);
    server.wait_for(&["worker.exited", "slot=2"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

fn an_adopted_orphan_is_reaped_and_nothing_is_restarted() {
    let mut server = TestProcess::start("leaves an orphan");
    server.wait_for(&["orphan.reaped", "exit code 4"]);
    server.wait_for(&["orphan.reaped", "exit code 4"]);
    let mut server = match server.line_count("server.ready") {
        0 => server.until_ready(),
        _ => server,
    };
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("worker.started"), 2);
}

fn workers_notice_that_the_supervisor_was_killed() {
    let mut server = TestProcess::start("serves").until_ready();
    server.signal(Signal::SIGKILL);
    server.wait_for(&["app.orphaned"]);
    server.wait_for(&["app.orphaned"]);
}

fn a_worker_inherits_only_its_own_descriptors_and_signals() {
    let mut server = TestProcess::with("logs its inheritance", |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent").env(ADMIN, "127.0.0.1:0");
    });
    for slot in 0..2 {
        let line = server.wait_for(&["app.inherited"]);
        let expected = "excess=0 nonblocking=4 caught=0 ignored=0 blocked=0 leads_group=1 notify=0";
        assert!(line.contains(expected), "{slot}: {line}");
        assert!(line.contains("test: w"), "{line}");
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

fn a_second_sigterm_skips_the_drain_delay() {
    let mut server = TestProcess::with("serves", |command| {
        command.env(OPTIONS, "--workers 2 --drain-delay 1000 --graceful-timeout 2000");
    })
    .until_ready();
    server.signal(Signal::SIGTERM);
    server.wait_for(&["app.command", "LameDuck"]);
    server.wait_for(&["app.command", "LameDuck"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("command=Drain"), 2);
}

fn a_second_sigint_kills_an_unresponsive_worker_and_its_children() {
    let mut server = TestProcess::with("ignores stops", |command| {
        command.env(OPTIONS, "--workers 1");
    })
    .until_ready();
    server.signal(Signal::SIGINT);
    server.wait_for(&["app.command", "Quick"]);
    server.signal(Signal::SIGINT);
    server.wait_for(&["worker.killed", "slot=0"]);
    // The log is a pipe, which the worker's own child has open, too: it ends once that child is gone.
    assert_eq!(server.exit_code(), Some(0));
}

fn sigusr2_is_refused_if_the_program_cannot_execute_itself_again() {
    let mut server = TestProcess::start("serves").until_ready();
    server.signal(Signal::SIGUSR2);
    server.wait_for(&["upgrade.refused", "cannot be started again"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(server.line_count("worker.started"), 2);
}

fn a_worker_killed_by_a_real_time_signal_is_replaced() {
    let mut server = TestProcess::start("serves").until_ready();
    let pid = server.pid_in(0).to_string();
    assert!(
        Command::new("sh").args(["-c", &format!("kill -40 {pid}")]).status().unwrap().success()
    );
    server.wait_for(&["worker.died", "slot=0", "signal 40"]);
    server.wait_for(&["worker.ready", "slot=0"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

fn a_process_with_threads_refuses_to_fork() {
    let mut server = TestProcess::start("has a thread");
    assert_eq!(server.exit_code(), Some(1));
    assert_eq!(server.line_count("worker.started"), 0);
    assert_eq!(server.line_count("server.failed"), 1);
}

fn signals_that_were_blocked_at_startup_are_handled() {
    let mut server = TestProcess::start("blocks signals").until_ready();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

fn systemd_is_notified_when_the_server_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 256];
    let mut next = || {
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut server = TestProcess::with("serves", |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert_eq!(next(), "READY=1\nSTATUS=Serving");
    server.signal(Signal::SIGTERM);
    let stopping = next();
    // The worker budget is 25 s minus 2%, and 5 s are added for the work after it.
    let extended = stopping.strip_prefix("STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=");
    let usec: u32 = extended.unwrap().parse().unwrap();
    assert!((25_000_000..=29_500_000).contains(&usec), "{usec}");
    assert_eq!(server.exit_code(), Some(0));
}

fn the_pid_file_exists_while_the_server_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.pid");
    let started = |role| {
        TestProcess::with(role, |command| {
            command.env(OPTIONS, format!("--workers 2 --pid {}", path.display()));
        })
    };
    let is_empty = |directory: &Path| std::fs::read_dir(directory).unwrap().next().is_none();
    let mut server = started("serves").until_ready();
    let expected = format!("{}\n", server.process.id());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert!(is_empty(directory.path()));
    assert_eq!(started("boot fails").exit_code(), Some(3));
    assert!(is_empty(directory.path()));
}

/// Returns the cells of the row with this name.
pub(crate) fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let cells = table.lines().find_map(|line| line.strip_prefix(name));
    cells.unwrap_or_else(|| panic!("no {name}\n{table}")).split_whitespace().collect()
}

fn a_running_server_reports_its_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let mut server = TestProcess::with("serves", |command| {
        command.env(ADMIN, format!("unix:{} 127.0.0.1:0", path.display()));
    });
    let line = server.wait_for(&["server.ready"]);
    let (_, admin) = line.split_once(" admin=").unwrap();
    let (by_path, by_tcp) = admin.trim_matches('"').split_once(" http://").unwrap();
    assert_eq!(by_path, format!("unix:{}", path.display()));
    for address in [by_path, by_tcp] {
        let command = CtlCommand {
            verb: Verb::Metrics,
            is_json: false,
            profile: ProfileOutput::default(),
            server: address.parse().unwrap(),
        };
        let table = ctl::run(&command).unwrap();
        assert!(table.starts_with("counters"), "{table}");
        assert_eq!(row(&table, "counters"), ["total", "w0", "w1"], "{table}");
        assert_eq!(row(&table, "conn.accept.success"), ["0", "0", "0"], "{table}");
        assert_eq!(row(&table, "workers.ready"), ["2"], "{table}");
    }
    // The supervisor notices a killed worker and still answers.
    kill(server.pid_in(1), Signal::SIGKILL).unwrap();
    server.wait_for(&["worker.ready", "slot=1"]);
    let command = CtlCommand {
        verb: Verb::Metrics,
        is_json: false,
        profile: ProfileOutput::default(),
        server: by_tcp.parse().unwrap(),
    };
    let table = ctl::run(&command).unwrap();
    assert_eq!(row(&table, "worker.restarts signal"), ["1", "0", "1"], "{table}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert!(!path.exists());
    let message = ctl::run(&command).unwrap_err().to_string();
    assert!(message.starts_with("cannot reach the server at 127.0.0.1:"), "{message}");
}

fn a_failure_to_bind_the_admin_socket_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut server = TestProcess::with("serves", |command| {
        command.env(ADMIN, &address);
    });
    server.wait_for(&["server.failed", "--admin-bind: ", &address, "exit_code=1"]);
    assert_eq!(server.exit_code(), Some(1));
    assert_eq!(server.line_count("worker.started"), 0);
}
