//! Tests of the zygote with real processes and without Python.
//!
//! Each test starts this program once more as a small supervisor (`ARCTOS_TEST_ROLE`), which reads commands
//! from its standard input and logs what happens. `cargo test --test zygote -- WORD` runs the tests whose
//! name contains the word.
#![expect(clippy::unwrap_used, reason = "the whole program is test code")]

mod application;
#[path = "../support/harness.rs"]
mod harness;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "the tests of the supervisor use more of it")]
mod process;
mod supervisor;
#[path = "../support/test_worker.rs"]
mod test_worker;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use tempfile::TempDir;

use harness::{Test, tests};
use process::{ROLE, TestProcess, pid_of};

/// The environment variable with the user that the zygote runs as, and its limit of processes.
pub(crate) const LIMIT: &str = "ARCTOS_TEST_LIMIT";
/// The environment variable with the path of the FIFO that blocks an application that loads slowly.
pub(crate) const GATE: &str = "ARCTOS_TEST_GATE";

fn main() -> ExitCode {
    match std::env::var(ROLE) {
        Ok(role) => {
            supervisor::run(&role);
            ExitCode::SUCCESS
        }
        Err(_) => harness::run(TESTS),
    }
}

const TESTS: &[Test] = tests![
    workers_share_the_loaded_code_and_are_children_of_the_supervisor
    spawn_orders_are_carried_out_once_the_application_is_loaded
    a_hundred_short_lived_workers_are_reaped_and_leave_no_zombie
    a_worker_inherits_only_its_own_descriptors_and_signals
    a_zygote_keeps_only_its_own_descriptors
    a_killed_worker_is_reaped_and_the_next_one_is_spawned
    workers_outlive_a_killed_zygote_and_spawn_orders_fail
    workers_outlive_a_zygote_that_is_no_longer_needed
    zygote_and_workers_exit_when_the_supervisor_is_killed
    a_zygote_that_loads_forever_dies_with_the_supervisor
    a_spawn_order_is_withdrawn_from_a_zygote_that_is_still_loading
    a_failure_to_load_the_application_is_reported_once
    a_crash_at_import_ends_only_the_zygote
    a_worker_that_panics_exits_with_70
    threads_of_the_application_are_logged_and_do_not_prevent_forks
    sockets_of_the_application_are_logged_and_stay_open
    signals_for_the_supervisor_do_not_harm_a_zygote_or_its_workers
    workers_inherit_the_signal_dispositions_of_the_application
    before_fork_runs_in_the_zygote_for_each_worker
    a_failed_fork_is_reported_and_the_next_one_can_succeed
];

/// Starts a supervisor whose zygote plays a role.
fn start(role: &str) -> TestProcess {
    start_with(role, |_| {})
}

fn start_with(role: &str, prepare: impl FnOnce(&mut Command)) -> TestProcess {
    TestProcess::with(role, |command| {
        command.stdin(Stdio::piped());
        prepare(command);
    })
}

/// Starts a supervisor whose zygote loads until the test opens the FIFO in `directory`.
fn start_loading_slowly(directory: &TempDir) -> TestProcess {
    let gate = directory.path().join("gate");
    mkfifo(&gate, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    start_with("loads slowly", |command| {
        command.env(GATE, &gate);
    })
}

/// Sends a command to the supervisor.
fn send(supervisor: &mut TestProcess, words: &str) {
    writeln!(supervisor.process.stdin.as_mut().unwrap(), "{words}").unwrap();
}

/// Waits until the zygote has loaded its application; returns the pid of the zygote.
fn wait_until_loaded(supervisor: &mut TestProcess) -> Pid {
    pid_of(&supervisor.wait_for(&["zygote.ready"]))
}

/// Spawns a worker and waits until it is ready; returns its pid.
fn spawn(supervisor: &mut TestProcess, slot: u16) -> Pid {
    send(supervisor, &format!("spawn {slot}"));
    pid_of(&supervisor.wait_for(&["test.worker_ready", &format!("slot={slot} ")]))
}

/// Makes the supervisor exit without telling the other processes, and waits until all of them have exited.
fn quit(mut supervisor: TestProcess) -> TestProcess {
    send(&mut supervisor, "quit");
    assert_eq!(supervisor.exit_code(), Some(0));
    supervisor
}

/// Reads the state and the parent of a process (proc(5)).
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

fn children(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids = pids.map(Pid::from_raw);
    pids.filter(|&pid| stat(pid).is_some_and(|(_, found)| found == parent)).collect()
}

fn workers_share_the_loaded_code_and_are_children_of_the_supervisor() {
    let mut supervisor = start("serves");
    let zygote = wait_until_loaded(&mut supervisor);
    let workers = [0, 1].map(|slot| spawn(&mut supervisor, slot));
    send(&mut supervisor, "drain 0");
    let line = supervisor.wait_for(&["test.worker_reaped", "exit code 0"]);
    assert_eq!(pid_of(&line), workers[0]);
    let supervisor_pid = Pid::from_raw(supervisor.process.id().cast_signed());
    // The zygote carries out an order only once it has reaped the middle process of the previous double fork.
    let third = spawn(&mut supervisor, 2);
    assert_eq!(stat(workers[1]).unwrap().1, supervisor_pid);
    assert!(!children(zygote).contains(&third));
    let supervisor = quit(supervisor);
    assert_eq!(supervisor.line_count(&format!(" loaded_by={zygote} ")), 3);
    assert_eq!(supervisor.line_count("app.orphaned"), 2);
}

fn before_fork_runs_in_the_zygote_for_each_worker() {
    let mut supervisor = start("has before_fork");
    wait_until_loaded(&mut supervisor);
    for slot in [0, 3] {
        send(&mut supervisor, &format!("spawn {slot}"));
        supervisor.wait_for(&["app.before_fork", "in_zygote=1", &format!("for_slot={slot}")]);
        supervisor.wait_for(&["test.worker_ready", &format!("slot={slot} ")]);
    }
    quit(supervisor);
}

fn spawn_orders_are_carried_out_once_the_application_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let mut supervisor = start_loading_slowly(&directory);
    for slot in 0..3 {
        send(&mut supervisor, &format!("spawn {slot}"));
    }
    send(&mut supervisor, "say ordered");
    supervisor.wait_for(&["test.echo", "ordered"]);
    assert_eq!(supervisor.line_count("zygote.ready"), 0);
    // Opening a FIFO for writing waits for its reader.
    drop(File::options().write(true).open(directory.path().join("gate")).unwrap());
    wait_until_loaded(&mut supervisor);
    for slot in 0..3 {
        supervisor.wait_for(&["test.worker_started", &format!("slot={slot} ")]);
    }
    quit(supervisor);
}

fn a_hundred_short_lived_workers_are_reaped_and_leave_no_zombie() {
    let mut supervisor = start("exits at once");
    let zygote = wait_until_loaded(&mut supervisor);
    for slot in 0..100 {
        send(&mut supervisor, &format!("spawn {}", slot % 8));
    }
    for _ in 0..100 {
        supervisor.wait_for(&["test.worker_reaped", "exit code 0"]);
    }
    assert_eq!(supervisor.line_count("test.worker_started"), 100);
    assert_eq!(supervisor.line_count("test.orphan_reaped"), 0);
    // The zygote answers this order once it has reaped the middle process of the hundredth worker.
    spawn(&mut supervisor, 0);
    supervisor.wait_for(&["test.worker_reaped"]);
    let left = children(zygote);
    assert!(left.len() <= 1, "only the last middle process may be left, not {left:?}");
    let supervisor_pid = Pid::from_raw(supervisor.process.id().cast_signed());
    assert_eq!(children(supervisor_pid), [zygote]);
    quit(supervisor);
}

fn a_worker_inherits_only_its_own_descriptors_and_signals() {
    let mut supervisor = start("logs its inheritance");
    wait_until_loaded(&mut supervisor);
    for slot in 0..2 {
        send(&mut supervisor, &format!("spawn {slot}"));
        let line = supervisor.wait_for(&["app.inherited", &format!("slot={slot} ")]);
        // The one in excess is the descriptor that the application opened before the fork.
        let expected = "excess=1 nonblocking=3 caught=0 ignored=0 blocked=0 leads_group=1 notify=0";
        assert!(line.contains(expected), "{line}");
        assert!(line.contains(&format!("title=\"test: w{slot}\"")), "{line}");
    }
    quit(supervisor);
}

fn a_zygote_keeps_only_its_own_descriptors() {
    let mut supervisor = start("logs its inheritance");
    let zygote = wait_until_loaded(&mut supervisor);
    for slot in 0..3 {
        spawn(&mut supervisor, slot);
    }
    // The zygote answers an order before it closes the descriptors that the order brought, so those of the
    // last order may still be open.
    let open = fs::read_dir(format!("/proc/{zygote}/fd")).unwrap().count();
    // Four of its own: log, socket, the supervisor's pidfd and the application's file. Four of an order.
    assert!(open <= inherited_count() + 4 + 4, "{open}");
    let name = fs::read_to_string(format!("/proc/{zygote}/comm")).unwrap();
    assert_eq!(name, "test: zygote\n");
    quit(supervisor);
}

/// Returns how many descriptors a program inherits that this process starts: the standard streams, and any
/// that the caller of the tests has left open.
fn inherited_count() -> usize {
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    let flags = texts.filter_map(|text| {
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
        u32::from_str_radix(&flags, 8).ok()
    });
    flags.filter(|flags| flags & 0o2_000_000 == 0).count()
}

fn a_killed_worker_is_reaped_and_the_next_one_is_spawned() {
    let mut supervisor = start("serves");
    wait_until_loaded(&mut supervisor);
    for _ in 0..2 {
        let worker = spawn(&mut supervisor, 0);
        kill(worker, Signal::SIGKILL).unwrap();
        let line = supervisor.wait_for(&["test.worker_reaped", "SIGKILL"]);
        assert_eq!(pid_of(&line), worker);
    }
    quit(supervisor);
}

fn workers_outlive_a_killed_zygote_and_spawn_orders_fail() {
    let mut supervisor = start("serves");
    let zygote = wait_until_loaded(&mut supervisor);
    spawn(&mut supervisor, 0);
    kill(zygote, Signal::SIGKILL).unwrap();
    supervisor.wait_for(&["zygote.died", "SIGKILL"]);
    send(&mut supervisor, "spawn 1");
    supervisor.wait_for(&["worker.spawn_failed", "slot=1 ", "the zygote is gone"]);
    send(&mut supervisor, "drain 0");
    supervisor.wait_for(&["test.worker_reaped", "exit code 0"]);
    quit(supervisor);
}

fn workers_outlive_a_zygote_that_is_no_longer_needed() {
    let mut supervisor = start("serves");
    wait_until_loaded(&mut supervisor);
    spawn(&mut supervisor, 0);
    send(&mut supervisor, "end");
    supervisor.wait_for(&["zygote.exited", "exit code 0"]);
    send(&mut supervisor, "drain 0");
    supervisor.wait_for(&["test.worker_reaped", "exit code 0"]);
    quit(supervisor);
}

fn zygote_and_workers_exit_when_the_supervisor_is_killed() {
    let mut supervisor = start("serves");
    wait_until_loaded(&mut supervisor);
    spawn(&mut supervisor, 0);
    spawn(&mut supervisor, 1);
    supervisor.signal(Signal::SIGKILL);
    // The log is a pipe, which ends once the last process has exited.
    assert_eq!(supervisor.exit_code(), None);
    assert_eq!(supervisor.line_count("app.orphaned"), 2);
}

fn a_zygote_that_loads_forever_dies_with_the_supervisor() {
    let directory = tempfile::tempdir().unwrap();
    let mut supervisor = start_loading_slowly(&directory);
    supervisor.wait_for(&["app.loading"]);
    supervisor.signal(Signal::SIGKILL);
    assert_eq!(supervisor.exit_code(), None);
}

fn a_spawn_order_is_withdrawn_from_a_zygote_that_is_still_loading() {
    let directory = tempfile::tempdir().unwrap();
    let mut supervisor = start_loading_slowly(&directory);
    send(&mut supervisor, "spawn 0");
    supervisor.wait_for(&["app.loading"]);
    send(&mut supervisor, "end");
    supervisor.wait_for(&["test.order_withdrawn", "slot=0"]);
    supervisor.wait_for(&["zygote.exited", "SIGKILL"]);
    quit(supervisor);
}

fn a_failure_to_load_the_application_is_reported_once() {
    let mut supervisor = start("import fails");
    send(&mut supervisor, "spawn 0");
    send(&mut supervisor, "spawn 1");
    supervisor.wait_for(&["zygote.exited", "exit code 4"]);
    let supervisor = quit(supervisor);
    assert_eq!(supervisor.line_count("zygote.boot_failed"), 1);
    assert_eq!(supervisor.line_count("    Traceback: no such module"), 1);
    assert_eq!(supervisor.line_count("worker.spawn_failed"), 2);
}

fn a_crash_at_import_ends_only_the_zygote() {
    for (role, status) in [
        ("import aborts", "SIGABRT"),
        ("import exits", "exit code 7"),
        ("import panics", "code 70"),
    ] {
        let mut supervisor = start(role);
        send(&mut supervisor, "spawn 0");
        // The order may arrive before or after the crash.
        let died = ["zygote.died", status];
        supervisor.wait_for_each(&[&["worker.spawn_failed", "slot=0 "], &died]);
        let supervisor = quit(supervisor);
        let panics = usize::from(role == "import panics");
        assert_eq!(
            supervisor.line_count("zygote.panicked message=\"deliberate panic at boot\""),
            panics
        );
    }
}

fn a_worker_that_panics_exits_with_70() {
    let mut supervisor = start("panics");
    wait_until_loaded(&mut supervisor);
    for _ in 0..2 {
        send(&mut supervisor, "spawn 0");
        supervisor.wait_for(&[
            "worker.panicked",
            "slot=0 ",
            "generation=3 message=\"deliberate panic\"",
        ]);
        supervisor.wait_for(&["test.worker_reaped", "exit code 70"]);
    }
    quit(supervisor);
}

fn threads_of_the_application_are_logged_and_do_not_prevent_forks() {
    let mut supervisor = start("has threads");
    wait_until_loaded(&mut supervisor);
    supervisor.wait_for(&["zygote.threads", "threads=\"stray, stray\""]);
    spawn(&mut supervisor, 0);
    quit(supervisor);
}

fn sockets_of_the_application_are_logged_and_stay_open() {
    let mut supervisor = start("has sockets");
    wait_until_loaded(&mut supervisor);
    let line = supervisor.wait_for(&["zygote.sockets"]);
    assert_eq!(line.matches("listening at 127.0.0.1:").count(), 1, "{line}");
    assert_eq!(line.matches("connected to 127.0.0.1:").count(), 1, "{line}");
    spawn(&mut supervisor, 0);
    let supervisor = quit(supervisor);
    assert_eq!(supervisor.line_count("zygote.threads"), 0);
    assert_eq!(supervisor.line_count("app.connected"), 1);
}

fn signals_for_the_supervisor_do_not_harm_a_zygote_or_its_workers() {
    let mut supervisor = start("serves");
    let zygote = wait_until_loaded(&mut supervisor);
    let worker = spawn(&mut supervisor, 0);
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTTIN] {
        kill(zygote, signal).unwrap();
        kill(worker, signal).unwrap();
    }
    spawn(&mut supervisor, 1);
    send(&mut supervisor, "drain 0");
    supervisor.wait_for(&["test.worker_reaped", "exit code 0"]);
    quit(supervisor);
}

fn workers_inherit_the_signal_dispositions_of_the_application() {
    let mut supervisor = start("ignores SIGUSR2");
    wait_until_loaded(&mut supervisor);
    send(&mut supervisor, "spawn 0");
    supervisor.wait_for(&["app.ignores", "usr2=1"]);
    quit(supervisor);
}

fn a_failed_fork_is_reported_and_the_next_one_can_succeed() {
    if !geteuid().is_root() {
        return; // RLIMIT_NPROC counts all processes of a user, and ours has others.
    }
    // With two other processes of this user, the fork of the middle process fails. With one, the middle
    // process is forked, but its own fork of the worker fails.
    for others in [2, 1] {
        // A user of this run alone: processes of an earlier run may count until init has reaped them.
        let user = 100_000_000 + 10 * std::process::id() + others;
        let other = || Command::new("sleep").arg("1000").uid(user).spawn().unwrap();
        let others: Vec<_> = (0..others).map(|_| other()).collect();
        let mut supervisor = start_with("serves", |command| {
            command.env(LIMIT, format!("{user} 3"));
        });
        wait_until_loaded(&mut supervisor);
        send(&mut supervisor, "spawn 0");
        supervisor.wait_for(&["worker.spawn_failed", "slot=0 ", "fork: EAGAIN"]);
        for mut other in others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
        spawn(&mut supervisor, 0);
        quit(supervisor);
    }
}
