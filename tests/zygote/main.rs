//! A zygote with real processes and no Python.
//!
//! Each test starts this program once more as a keeper (`ARCTOS_TEST_ROLE`): a supervisor that does what
//! is written to it and says what happens. No harness: a keeper forks, which arctos refuses in a process
//! with threads. `cargo test --test zygote -- WORD` runs the tests whose name has the word.
#![expect(clippy::unwrap_used, reason = "all of it is test code")]

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
use process::{ROLE, Server, pid_of};

/// Who the processes run as, and how many processes that user may have.
pub(crate) const LIMIT: &str = "ARCTOS_TEST_LIMIT";
/// The FIFO at which an application that loads slowly waits.
pub(crate) const GATE: &str = "ARCTOS_TEST_GATE";

fn main() -> ExitCode {
    match std::env::var(ROLE) {
        Ok(role) => ExitCode::from(supervisor::keep(&role)),
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

/// A keeper whose zygote plays a role.
fn keeper(role: &str) -> Server {
    keeper_with(role, |_| {})
}

fn keeper_with(role: &str, prepare: impl FnOnce(&mut Command)) -> Server {
    Server::with(role, |command| {
        command.stdin(Stdio::piped());
        prepare(command);
    })
}

/// A keeper whose zygote loads until the gate is opened.
fn slow_keeper(folder: &TempDir) -> Server {
    let gate = folder.path().join("gate");
    mkfifo(&gate, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    keeper_with("loads slowly", |command| {
        command.env(GATE, &gate);
    })
}

/// Tells a keeper to do something.
fn tell(keeper: &mut Server, words: &str) {
    writeln!(keeper.process.stdin.as_mut().unwrap(), "{words}").unwrap();
}

/// Waits until the zygote has loaded its application; its pid.
fn loaded(keeper: &mut Server) -> Pid {
    pid_of(&keeper.says(&["zygote.ready"]))
}

/// A worker that is ready; its pid.
fn spawned(keeper: &mut Server, slot: u16) -> Pid {
    tell(keeper, &format!("spawn {slot}"));
    pid_of(&keeper.says(&["keeper.ready", &format!("slot={slot} ")]))
}

/// The keeper ends, without a word to anybody; and so do all.
fn quits(mut keeper: Server) -> Server {
    tell(&mut keeper, "quit");
    assert_eq!(keeper.ends(), Some(0));
    keeper
}

/// State and parent of a process (proc(5)).
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
    let mut keeper = keeper("serves");
    let zygote = loaded(&mut keeper);
    let workers = [0, 1].map(|slot| spawned(&mut keeper, slot));
    tell(&mut keeper, "drain 0");
    let line = keeper.says(&["keeper.reaped", "exit code 0"]);
    assert_eq!(pid_of(&line), workers[0]);
    let supervisor = Pid::from_raw(keeper.process.id().cast_signed());
    // The middle of the second has been reaped: the answer to an order to the zygote comes after it.
    let third = spawned(&mut keeper, 2);
    assert_eq!(stat(workers[1]).unwrap().1, supervisor);
    assert!(!children(zygote).contains(&third));
    let keeper = quits(keeper);
    assert_eq!(keeper.seen_count(&format!(" loaded_by={zygote} ")), 3);
    assert_eq!(keeper.seen_count("app.orphaned"), 2);
}

fn before_fork_runs_in_the_zygote_for_each_worker() {
    let mut keeper = keeper("prepares");
    loaded(&mut keeper);
    for slot in [0, 3] {
        tell(&mut keeper, &format!("spawn {slot}"));
        keeper.says(&["actor.prepares", "in_zygote=1", &format!("for_slot={slot}")]);
        keeper.says(&["keeper.ready", &format!("slot={slot} ")]);
    }
    quits(keeper);
}

fn spawn_orders_are_carried_out_once_the_application_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = slow_keeper(&folder);
    for slot in 0..3 {
        tell(&mut keeper, &format!("spawn {slot}"));
    }
    tell(&mut keeper, "say ordered");
    keeper.says(&["keeper.says", "ordered"]);
    assert_eq!(keeper.seen_count("zygote.ready"), 0);
    // Opening it waits for the reader.
    drop(File::options().write(true).open(folder.path().join("gate")).unwrap());
    loaded(&mut keeper);
    for slot in 0..3 {
        keeper.says(&["keeper.started", &format!("slot={slot} ")]);
    }
    quits(keeper);
}

fn a_hundred_short_lived_workers_are_reaped_and_leave_no_zombie() {
    let mut keeper = keeper("leaves at once");
    let zygote = loaded(&mut keeper);
    for slot in 0..100 {
        tell(&mut keeper, &format!("spawn {}", slot % 8));
    }
    for _ in 0..100 {
        keeper.says(&["keeper.reaped", "exit code 0"]);
    }
    assert_eq!(keeper.seen_count("keeper.started"), 100);
    assert_eq!(keeper.seen_count("keeper.orphan"), 0);
    // Its answer comes when the zygote has reaped the middle of the hundredth.
    spawned(&mut keeper, 0);
    keeper.says(&["keeper.reaped"]);
    let left = children(zygote);
    assert!(left.len() <= 1, "the last middle may be there yet, but {left:?}");
    let supervisor = Pid::from_raw(keeper.process.id().cast_signed());
    assert_eq!(children(supervisor), [zygote]);
    quits(keeper);
}

fn a_worker_inherits_only_its_own_descriptors_and_signals() {
    let mut keeper = keeper("introspective");
    loaded(&mut keeper);
    for slot in 0..2 {
        tell(&mut keeper, &format!("spawn {slot}"));
        let line = keeper.says(&["app.inherited", &format!("slot={slot} ")]);
        // One descriptor of the application's, which is the worker's as well.
        let expected = "excess=1 nonblocking=3 caught=0 ignored=0 blocked=0 leads_group=1 notify=0";
        assert!(line.contains(expected), "{line}");
        assert!(line.contains(&format!("title=\"test: w{slot}\"")), "{line}");
    }
    quits(keeper);
}

fn a_zygote_keeps_only_its_own_descriptors() {
    let mut keeper = keeper("introspective");
    let zygote = loaded(&mut keeper);
    for slot in 0..3 {
        spawned(&mut keeper, slot);
    }
    // An answer comes before the zygote closes what the order had brought: the next order is read after.
    let open = fs::read_dir(format!("/proc/{zygote}/fd")).unwrap().count();
    // The log's, its socket, the supervisor's process, the application's; at most one order's four.
    assert!(open <= inherited_count() + 4 + 4, "{open}");
    let name = fs::read_to_string(format!("/proc/{zygote}/comm")).unwrap();
    assert_eq!(name, "test: zygote\n");
    quits(keeper);
}

/// How many descriptors a program has that this process starts: the standard streams, and what whoever started the
/// tests has left open.
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
    let mut keeper = keeper("serves");
    loaded(&mut keeper);
    for _ in 0..2 {
        let worker = spawned(&mut keeper, 0);
        kill(worker, Signal::SIGKILL).unwrap();
        let line = keeper.says(&["keeper.reaped", "SIGKILL"]);
        assert_eq!(pid_of(&line), worker);
    }
    quits(keeper);
}

fn workers_outlive_a_killed_zygote_and_spawn_orders_fail() {
    let mut keeper = keeper("serves");
    let zygote = loaded(&mut keeper);
    spawned(&mut keeper, 0);
    kill(zygote, Signal::SIGKILL).unwrap();
    keeper.says(&["zygote.died", "SIGKILL"]);
    tell(&mut keeper, "spawn 1");
    keeper.says(&["worker.spawn_failed", "slot=1 ", "the zygote is gone"]);
    tell(&mut keeper, "drain 0");
    keeper.says(&["keeper.reaped", "exit code 0"]);
    quits(keeper);
}

fn workers_outlive_a_zygote_that_is_no_longer_needed() {
    let mut keeper = keeper("serves");
    loaded(&mut keeper);
    spawned(&mut keeper, 0);
    tell(&mut keeper, "end");
    keeper.says(&["zygote.left", "exit code 0"]);
    tell(&mut keeper, "drain 0");
    keeper.says(&["keeper.reaped", "exit code 0"]);
    quits(keeper);
}

fn zygote_and_workers_exit_when_the_supervisor_is_killed() {
    let mut keeper = keeper("serves");
    loaded(&mut keeper);
    spawned(&mut keeper, 0);
    spawned(&mut keeper, 1);
    keeper.signal(Signal::SIGKILL);
    // The pipe of their log ends when the last of them has.
    assert_eq!(keeper.ends(), None);
    assert_eq!(keeper.seen_count("app.orphaned"), 2);
}

fn a_zygote_that_loads_forever_dies_with_the_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = slow_keeper(&folder);
    keeper.says(&["actor.loads"]);
    keeper.signal(Signal::SIGKILL);
    assert_eq!(keeper.ends(), None);
}

fn a_spawn_order_is_withdrawn_from_a_zygote_that_is_still_loading() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = slow_keeper(&folder);
    tell(&mut keeper, "spawn 0");
    keeper.says(&["actor.loads"]);
    tell(&mut keeper, "end");
    keeper.says(&["keeper.withdrawn", "slot=0"]);
    keeper.says(&["zygote.left", "SIGKILL"]);
    quits(keeper);
}

fn a_failure_to_load_the_application_is_reported_once() {
    let mut keeper = keeper("not importable");
    tell(&mut keeper, "spawn 0");
    tell(&mut keeper, "spawn 1");
    keeper.says(&["zygote.left", "exit code 4"]);
    let keeper = quits(keeper);
    assert_eq!(keeper.seen_count("zygote.boot_failed"), 1);
    assert_eq!(keeper.seen_count("    Traceback: no such module"), 1);
    assert_eq!(keeper.seen_count("worker.spawn_failed"), 2);
}

fn a_crash_at_import_ends_only_the_zygote() {
    for (role, status) in [("aborts", "SIGABRT"), ("exits", "exit code 7"), ("panics", "code 70")] {
        let mut keeper = keeper(role);
        tell(&mut keeper, "spawn 0");
        keeper.says(&["worker.spawn_failed", "slot=0 "]);
        keeper.says(&["zygote.died", status]);
        let keeper = quits(keeper);
        let panics = usize::from(role == "panics");
        assert_eq!(keeper.seen_count("zygote.panic message=\"the stage is on fire\""), panics);
    }
}

fn a_worker_that_panics_exits_with_70() {
    let mut keeper = keeper("panics later");
    loaded(&mut keeper);
    for _ in 0..2 {
        tell(&mut keeper, "spawn 0");
        keeper.says(&["worker.panic", "slot=0 ", "generation=3 message=\"the stage gives way\""]);
        keeper.says(&["keeper.reaped", "exit code 70"]);
    }
    quits(keeper);
}

fn threads_of_the_application_are_logged_and_do_not_prevent_forks() {
    let mut keeper = keeper("threaded");
    loaded(&mut keeper);
    keeper.says(&["zygote.threads", "threads=\"stray, stray\""]);
    spawned(&mut keeper, 0);
    quits(keeper);
}

fn sockets_of_the_application_are_logged_and_stay_open() {
    let mut keeper = keeper("connected");
    loaded(&mut keeper);
    let line = keeper.says(&["zygote.sockets"]);
    assert_eq!(line.matches("listening at 127.0.0.1:").count(), 1, "{line}");
    assert_eq!(line.matches("connected to 127.0.0.1:").count(), 1, "{line}");
    spawned(&mut keeper, 0);
    let keeper = quits(keeper);
    assert_eq!(keeper.seen_count("zygote.threads"), 0);
    assert_eq!(keeper.seen_count("actor.connected"), 1);
}

fn signals_for_the_supervisor_do_not_harm_a_zygote_or_its_workers() {
    let mut keeper = keeper("serves");
    let zygote = loaded(&mut keeper);
    let worker = spawned(&mut keeper, 0);
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTTIN] {
        kill(zygote, signal).unwrap();
        kill(worker, signal).unwrap();
    }
    spawned(&mut keeper, 1);
    tell(&mut keeper, "drain 0");
    keeper.says(&["keeper.reaped", "exit code 0"]);
    quits(keeper);
}

fn workers_inherit_the_signal_dispositions_of_the_application() {
    let mut keeper = keeper("ignores usr2");
    loaded(&mut keeper);
    tell(&mut keeper, "spawn 0");
    keeper.says(&["actor.ignores", "usr2=1"]);
    quits(keeper);
}

fn a_failed_fork_is_reported_and_the_next_one_can_succeed() {
    if !geteuid().is_root() {
        return; // RLIMIT_NPROC is counted by user, and ours has other processes.
    }
    // With as many others of this user, not the middle; and the middle, but not the worker.
    for others in [2, 1] {
        // Nobody else's: an earlier test's may be counted until init has reaped them.
        let user = 100_000_000 + 10 * std::process::id() + others;
        let other = || Command::new("sleep").arg("1000").uid(user).spawn().unwrap();
        let others: Vec<_> = (0..others).map(|_| other()).collect();
        let mut keeper = keeper_with("serves", |command| {
            command.env(LIMIT, format!("{user} 3"));
        });
        loaded(&mut keeper);
        tell(&mut keeper, "spawn 0");
        keeper.says(&["worker.spawn_failed", "slot=0 ", "fork: EAGAIN"]);
        for mut other in others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
        spawned(&mut keeper, 0);
        quits(keeper);
    }
}
