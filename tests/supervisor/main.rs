//! The supervisor with real processes and no Python.
//!
//! Each test starts this program once more as a server (`ARCTOS_TEST_ROLE`), whose workers are a few
//! lines of Rust, and awaits what the server's log says. No harness: a server forks, which arctos
//! refuses in a process with threads. `cargo test --test supervisor -- WORD` runs the tests whose
//! name has the word.
#![expect(clippy::unwrap_used, reason = "all of it is test code")]

mod actor;
mod opening;
mod process;
mod reload;

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, ExitCode};

use arctos::client::ctl::{self, Order, Verb};
use nix::sys::signal::{Signal, kill};

use actor::serve;
use opening::{
    a_generation_is_opened_once_before_its_first_worker,
    a_generation_that_cannot_be_opened_changes_nothing, a_hup_during_an_opening_starts_over,
    a_server_that_cannot_be_opened_is_exit_3_and_one_report, a_stop_does_not_wait_for_an_opening,
    an_opening_that_takes_too_long_is_killed,
};
use process::{PATIENCE, Server};
use reload::{
    a_worker_that_hangs_in_a_request_is_killed_and_replaced,
    hup_replaces_all_workers_one_after_the_other,
    hup_with_code_that_cannot_be_imported_changes_nothing,
    hup_with_code_that_dies_in_its_probation_changes_nothing,
    winch_sends_all_workers_away_and_hup_brings_them_back,
};

pub(crate) const ROLE: &str = "ARCTOS_TEST_ROLE";
pub(crate) const OPTIONS: &str = "ARCTOS_TEST_OPTIONS";
/// Addresses of the server's admin socket, separated by spaces.
pub(crate) const ADMIN: &str = "ARCTOS_TEST_ADMIN";

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        let code = serve(&role);
        return ExitCode::from(u8::try_from(code).unwrap());
    }
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut out = io::stdout();
    let mut failed_count = 0;
    for (name, test) in TESTS {
        if !words.iter().all(|word| name.contains(word.as_str())) {
            continue;
        }
        let outcome = match catch_unwind(test) {
            Ok(()) => "ok",
            Err(_) => {
                failed_count += 1;
                "FAILED"
            }
        };
        writeln!(out, "test {name} ... {outcome}").unwrap();
    }
    ExitCode::from(failed_count)
}

macro_rules! tests {
    ($($name:ident)*) => { &[$((stringify!($name), $name as fn())),*] };
}

const TESTS: &[(&str, fn())] = tests![
    a_server_becomes_ready_and_stops_on_term
    a_killed_worker_is_replaced_in_its_slot
    the_request_that_a_dead_worker_was_running_is_named
    an_application_that_cannot_be_imported_is_exit_4_and_one_report
    a_worker_that_cannot_boot_is_exit_3_and_one_report
    a_worker_that_panics_at_boot_is_exit_3_and_its_message_is_logged
    a_worker_that_panics_later_is_exit_70_of_that_worker_and_is_replaced
    a_supervisor_that_panics_is_exit_70_and_leaves_no_worker
    the_end_of_a_worker_that_nobody_asked_for_is_counted_with_its_reason
    the_end_of_a_worker_that_was_asked_for_is_no_restart
    ttin_and_ttou_change_the_number_of_workers
    an_adopted_orphan_is_reaped_and_nothing_else
    workers_hear_that_the_supervisor_was_killed
    a_worker_keeps_only_what_is_its_own
    a_second_term_skips_the_drain_delay
    a_second_int_kills_a_stubborn_worker_and_what_it_started
    usr2_to_a_program_that_cannot_start_itself_anew_is_refused
    a_worker_killed_by_a_real_time_signal_is_replaced
    a_process_with_a_thread_does_not_fork
    signals_that_were_blocked_at_the_start_are_heard
    the_service_manager_hears_when_the_server_is_ready_and_when_it_stops
    the_pid_file_is_there_while_the_server_is_ready
    a_server_is_asked_for_its_metrics_while_it_runs
    an_admin_socket_that_cannot_be_bound_is_exit_1
    hup_replaces_all_workers_one_after_the_other
    hup_with_code_that_cannot_be_imported_changes_nothing
    hup_with_code_that_dies_in_its_probation_changes_nothing
    winch_sends_all_workers_away_and_hup_brings_them_back
    a_worker_that_hangs_in_a_request_is_killed_and_replaced
    a_generation_is_opened_once_before_its_first_worker
    a_server_that_cannot_be_opened_is_exit_3_and_one_report
    a_generation_that_cannot_be_opened_changes_nothing
    an_opening_that_takes_too_long_is_killed
    a_stop_does_not_wait_for_an_opening
    a_hup_during_an_opening_starts_over
];

fn a_server_becomes_ready_and_stops_on_term() {
    let mut server = Server::start("serves").awaited();
    assert_eq!(server.seen_count("worker.ready"), 2);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("command=Drain"), 2);
    assert_eq!(server.seen_count("server.stopped abandoned=0"), 1);
}

fn a_killed_worker_is_replaced_in_its_slot() {
    let mut server = Server::start("serves").awaited();
    let before = server.pid_in(1);
    kill(before, Signal::SIGKILL).unwrap();
    server.says(&["worker.died", "slot=1", "SIGKILL"]);
    server.says(&["worker.ready", "slot=1"]);
    assert_ne!(server.pid_in(1), before);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("server.ready"), 1);
}

fn the_request_that_a_dead_worker_was_running_is_named() {
    let mut server = Server::start("busy").awaited();
    kill(server.pid_in(0), Signal::SIGABRT).unwrap();
    server.says(&["worker.died", "slot=0", "SIGABRT", "GET /slow"]);
    server.signal(Signal::SIGQUIT);
    assert_eq!(server.ends(), Some(0));
}

fn an_application_that_cannot_be_imported_is_exit_4_and_one_report() {
    for workers in ["1", "8"] {
        let mut server = Server::with("not importable", |command| {
            command.env(OPTIONS, format!("--workers {workers}"));
        });
        assert_eq!(server.ends(), Some(4), "{workers} workers");
        assert_eq!(server.seen_count("Traceback: no such module"), 1);
        assert!(server.seen_count("worker.started") <= 2);
        assert_eq!(server.seen_count("server.ready"), 0);
    }
}

fn a_worker_that_cannot_boot_is_exit_3_and_one_report() {
    for workers in ["1", "8"] {
        let mut server = Server::with("not booted", |command| {
            command.env(OPTIONS, format!("--workers {workers}"));
        });
        assert_eq!(server.ends(), Some(3), "{workers} workers");
        assert_eq!(server.seen_count("Traceback: no such module"), 1);
    }
}

fn a_worker_that_panics_at_boot_is_exit_3_and_its_message_is_logged() {
    let mut server = Server::with("panics", |command| {
        command.env(OPTIONS, "--workers 1");
    });
    assert_eq!(server.ends(), Some(3));
    assert_eq!(server.seen_count("generation=1 message=\"the stage is on fire\""), 1);
    assert_eq!(server.seen_count("status=\"exit code 70\""), 1);
    let last = "a worker could not boot: worker 0 (pid";
    assert_eq!(server.seen_count(last), 1);
}

fn a_worker_that_panics_later_is_exit_70_of_that_worker_and_is_replaced() {
    let mut server = Server::with("panics later", |command| {
        command.env(OPTIONS, "--workers 1");
    });
    server.says(&["worker.panicked", "slot=0", "message=\"the stage gives way\""]);
    server.says(&["worker.died", "slot=0", "exit code 70"]);
    server.says(&["worker.started", "slot=0"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

fn a_supervisor_that_panics_is_exit_70_and_leaves_no_worker() {
    let mut server = Server::start("defective");
    assert_eq!(server.ends(), Some(70));
    assert_eq!(server.seen_count("the roof comes down"), 1);
    assert_eq!(server.seen_count("actor.orphaned"), 1, "the first worker had been forked");
}

fn the_end_of_a_worker_that_nobody_asked_for_is_counted_with_its_reason() {
    let started = |role| {
        Server::with(role, |command| {
            command.env(OPTIONS, "--workers 1");
        })
    };
    let mut killed = started("counted").awaited();
    for _ in 0..2 {
        kill(killed.pid_in(0), Signal::SIGKILL).unwrap();
        killed.says(&["worker.ready"]);
    }
    assert_eq!(killed.seen_count("boot=0 exit=0 signal=0 "), 2);
    assert_eq!(killed.seen_count("boot=0 exit=0 signal=1 "), 1);

    let mut exiting = started("exits");
    exiting.says(&["actor.restarts", "boot=0 exit=1 signal=0 "]);

    let mut failing = started("boots once").awaited();
    kill(failing.pid_in(0), Signal::SIGKILL).unwrap();
    failing.says(&["actor.restarts", "boot=1 exit=0 signal=0 "]);

    for mut server in [killed, exiting, failing] {
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ends(), Some(0));
    }
}

fn the_end_of_a_worker_that_was_asked_for_is_no_restart() {
    let mut server = Server::with("counted", |command| {
        command.env(OPTIONS, "--workers 1");
    })
    .awaited();
    for _ in 0..2 {
        server.signal(Signal::SIGTTIN);
        server.says(&["worker.ready", "slot=1"]);
        server.signal(Signal::SIGTTOU);
        server.says(&["worker.left", "slot=1"]);
    }
    server.signal(Signal::SIGTTIN);
    server.says(&["worker.ready", "slot=1"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("actor.restarts"), 4);
    assert_eq!(server.seen_count("boot=0 exit=0 signal=0 "), 4);
}

fn ttin_and_ttou_change_the_number_of_workers() {
    let mut server = Server::start("serves").awaited();
    server.signal(Signal::SIGTTIN);
    server.says(&["worker.ready", "slot=2"]);
    server.signal(Signal::SIGTTOU);
    server.says(&["actor.told", "Drain"]);
    server.says(&["worker.left", "slot=2"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

fn an_adopted_orphan_is_reaped_and_nothing_else() {
    let mut server = Server::start("parent");
    server.says(&["orphan.reaped", "exit code 4"]);
    server.says(&["orphan.reaped", "exit code 4"]);
    let mut server = match server.seen_count("server.ready") {
        0 => server.awaited(),
        _ => server,
    };
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("worker.started"), 2);
}

fn workers_hear_that_the_supervisor_was_killed() {
    let mut server = Server::start("serves").awaited();
    server.signal(Signal::SIGKILL);
    server.says(&["actor.orphaned"]);
    server.says(&["actor.orphaned"]);
}

fn a_worker_keeps_only_what_is_its_own() {
    let mut server = Server::with("introspective", |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent").env(ADMIN, "127.0.0.1:0");
    });
    for slot in 0..2 {
        let line = server.says(&["actor.found"]);
        let expected = "excess=0 caught=0 ignored=0 blocked=0 leads_group=1 notify=0";
        assert!(line.contains(expected), "{slot}: {line}");
        assert!(line.contains("test: w"), "{line}");
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

fn a_second_term_skips_the_drain_delay() {
    let mut server = Server::with("serves", |command| {
        command.env(OPTIONS, "--workers 2 --drain-delay 1000 --graceful-timeout 2000");
    })
    .awaited();
    server.signal(Signal::SIGTERM);
    server.says(&["actor.told", "Announce"]);
    server.says(&["actor.told", "Announce"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("command=Drain"), 2);
}

fn a_second_int_kills_a_stubborn_worker_and_what_it_started() {
    let mut server = Server::with("family", |command| {
        command.env(OPTIONS, "--workers 1");
    })
    .awaited();
    server.signal(Signal::SIGINT);
    server.says(&["actor.told", "Quick"]);
    server.signal(Signal::SIGINT);
    server.says(&["worker.killed", "slot=0"]);
    // The pipe of its log ends only when the worker's own child, which has it, too, is gone.
    assert_eq!(server.ends(), Some(0));
}

fn usr2_to_a_program_that_cannot_start_itself_anew_is_refused() {
    let mut server = Server::start("serves").awaited();
    server.signal(Signal::SIGUSR2);
    server.says(&["upgrade.refused", "cannot be started again"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert_eq!(server.seen_count("worker.started"), 2);
}

fn a_worker_killed_by_a_real_time_signal_is_replaced() {
    let mut server = Server::start("serves").awaited();
    let pid = server.pid_in(0).to_string();
    assert!(
        Command::new("sh").args(["-c", &format!("kill -40 {pid}")]).status().unwrap().success()
    );
    server.says(&["worker.died", "slot=0", "signal 40"]);
    server.says(&["worker.ready", "slot=0"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

fn a_process_with_a_thread_does_not_fork() {
    let mut server = Server::start("threaded");
    assert_eq!(server.ends(), Some(1));
    assert_eq!(server.seen_count("worker.started"), 0);
    assert_eq!(server.seen_count("server.failed"), 1);
}

fn signals_that_were_blocked_at_the_start_are_heard() {
    let mut server = Server::start("blocked").awaited();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
}

fn the_service_manager_hears_when_the_server_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 256];
    let mut next = || {
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut server = Server::with("serves", |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert_eq!(next(), "READY=1\nSTATUS=Serving");
    server.signal(Signal::SIGTERM);
    let stopping = next();
    // The budget, 25 s without a fiftieth, and 5 s for what is left to do then.
    let extended = stopping.strip_prefix("STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC=");
    let usec: u32 = extended.unwrap().parse().unwrap();
    assert!((25_000_000..=29_500_000).contains(&usec), "{usec}");
    assert_eq!(server.ends(), Some(0));
}

fn the_pid_file_is_there_while_the_server_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.pid");
    let started = |role| {
        Server::with(role, |command| {
            command.env(OPTIONS, format!("--workers 2 --pid {}", path.display()));
        })
    };
    let is_empty = |folder: &Path| std::fs::read_dir(folder).unwrap().next().is_none();
    let mut server = started("serves").awaited();
    let expected = format!("{}\n", server.process.id());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert!(is_empty(folder.path()));
    assert_eq!(started("not booted").ends(), Some(3));
    assert!(is_empty(folder.path()));
}

/// The cells behind this name.
pub(crate) fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let cells = table.lines().find_map(|line| line.strip_prefix(name));
    cells.unwrap_or_else(|| panic!("no {name}\n{table}")).split_whitespace().collect()
}

fn a_server_is_asked_for_its_metrics_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let mut server = Server::with("serves", |command| {
        command.env(ADMIN, format!("unix:{} 127.0.0.1:0", path.display()));
    });
    let line = server.says(&["server.ready"]);
    let (_, admin) = line.split_once(" admin=").unwrap();
    let (by_path, by_tcp) = admin.trim_matches('"').split_once(" http://").unwrap();
    assert_eq!(by_path, format!("unix:{}", path.display()));
    for address in [by_path, by_tcp] {
        let order = Order { verb: Verb::Metrics, server: address.parse().unwrap() };
        let table = ctl::obey(&order).unwrap();
        assert!(table.starts_with("counters"), "{table}");
        assert_eq!(row(&table, "counters"), ["total", "w0", "w1"], "{table}");
        assert_eq!(row(&table, "conn.accept.success"), ["0", "0", "0"], "{table}");
        assert_eq!(row(&table, "workers.ready"), ["2"], "{table}");
    }
    // A killed worker is seen, and the supervisor still answers.
    kill(server.pid_in(1), Signal::SIGKILL).unwrap();
    server.says(&["worker.ready", "slot=1"]);
    let order = Order { verb: Verb::Metrics, server: by_tcp.parse().unwrap() };
    let table = ctl::obey(&order).unwrap();
    assert_eq!(row(&table, "worker.restarts signal"), ["1", "0", "1"], "{table}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ends(), Some(0));
    assert!(!path.exists());
    let message = ctl::obey(&order).unwrap_err().to_string();
    assert!(message.starts_with("cannot reach the server at 127.0.0.1:"), "{message}");
}

fn an_admin_socket_that_cannot_be_bound_is_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut server = Server::with("serves", |command| {
        command.env(ADMIN, &address);
    });
    server.says(&["server.failed", "--admin-bind: ", &address, "exit_code=1"]);
    assert_eq!(server.ends(), Some(1));
    assert_eq!(server.seen_count("worker.started"), 0);
}
