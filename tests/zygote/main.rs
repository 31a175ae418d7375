//! A zygote with real processes and no Python.
//!
//! Each test starts this program once more as a keeper (`ARCTOS_TEST_ROLE`): a supervisor that does what
//! is written to it and says what happens. No harness: a keeper forks, which arctos refuses in a process
//! with threads. `cargo test --test zygote -- WORD` runs the tests whose name has the word.
#![expect(clippy::unwrap_used, reason = "all of it is test code")]

mod actor;
mod keeper;
#[path = "../supervisor/process.rs"]
#[allow(dead_code, reason = "the tests of the supervisor use more of it")]
mod process;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::panic::catch_unwind;
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, geteuid, mkfifo};
use tempfile::TempDir;

use process::{Server, pid_of};

pub(crate) const ROLE: &str = "ARCTOS_TEST_ROLE";
/// Who the processes run as, and how many processes that user may have.
pub(crate) const LIMIT: &str = "ARCTOS_TEST_LIMIT";
/// The FIFO at which an application that loads slowly waits.
pub(crate) const GATE: &str = "ARCTOS_TEST_GATE";

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return ExitCode::from(keeper::keep(&role));
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
    workers_have_what_the_zygote_has_loaded_and_are_children_of_the_supervisor
    orders_that_come_before_the_application_is_loaded_are_carried_out_after_it
    a_hundred_workers_are_each_known_before_they_are_reaped_and_leave_no_zombie
    a_worker_keeps_only_what_is_its_own
    a_zygote_keeps_only_what_is_its_own
    a_killed_worker_is_reaped_and_the_next_one_is_forked
    a_killed_zygote_leaves_its_workers_and_orders_fail
    a_zygote_that_is_not_needed_any_more_leaves_its_workers
    zygote_and_workers_hear_that_the_supervisor_was_killed
    a_zygote_that_loads_for_ever_dies_with_the_supervisor
    an_order_is_withdrawn_from_a_zygote_that_still_loads
    an_application_that_cannot_be_loaded_is_reported_once
    a_crash_at_the_import_is_the_end_of_the_zygote_alone
    a_worker_that_panics_is_exit_70_of_that_worker
    threads_of_the_application_are_named_and_workers_forked_all_the_same
    sockets_of_the_application_are_named_and_stay_open
    signals_for_the_supervisor_do_no_harm_to_a_zygote_or_its_workers
    what_the_application_does_with_a_signal_is_left_to_its_workers
    what_the_application_does_before_a_fork_is_done_in_the_zygote_each_time
    a_fork_that_fails_is_reported_and_the_next_one_may_succeed
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

fn workers_have_what_the_zygote_has_loaded_and_are_children_of_the_supervisor() {
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
    assert_eq!(keeper.seen_count("actor.orphaned"), 2);
}

fn what_the_application_does_before_a_fork_is_done_in_the_zygote_each_time() {
    let mut keeper = keeper("prepares");
    loaded(&mut keeper);
    for slot in [0, 3] {
        tell(&mut keeper, &format!("spawn {slot}"));
        keeper.says(&["actor.prepares", "in_zygote=1", &format!("for_slot={slot}")]);
        keeper.says(&["keeper.ready", &format!("slot={slot} ")]);
    }
    quits(keeper);
}

fn orders_that_come_before_the_application_is_loaded_are_carried_out_after_it() {
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

fn a_hundred_workers_are_each_known_before_they_are_reaped_and_leave_no_zombie() {
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

fn a_worker_keeps_only_what_is_its_own() {
    let mut keeper = keeper("introspective");
    loaded(&mut keeper);
    for slot in 0..2 {
        tell(&mut keeper, &format!("spawn {slot}"));
        let line = keeper.says(&["actor.found", &format!("slot={slot} ")]);
        // One descriptor of the application's, which is the worker's as well.
        let expected = "excess=1 nonblocking=3 caught=0 ignored=0 blocked=0 leads_group=1 notify=0";
        assert!(line.contains(expected), "{line}");
        assert!(line.contains(&format!("title=\"test: w{slot}\"")), "{line}");
    }
    quits(keeper);
}

fn a_zygote_keeps_only_what_is_its_own() {
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

fn a_killed_worker_is_reaped_and_the_next_one_is_forked() {
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

fn a_killed_zygote_leaves_its_workers_and_orders_fail() {
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

fn a_zygote_that_is_not_needed_any_more_leaves_its_workers() {
    let mut keeper = keeper("serves");
    loaded(&mut keeper);
    spawned(&mut keeper, 0);
    tell(&mut keeper, "end");
    keeper.says(&["zygote.left", "exit code 0"]);
    tell(&mut keeper, "drain 0");
    keeper.says(&["keeper.reaped", "exit code 0"]);
    quits(keeper);
}

fn zygote_and_workers_hear_that_the_supervisor_was_killed() {
    let mut keeper = keeper("serves");
    loaded(&mut keeper);
    spawned(&mut keeper, 0);
    spawned(&mut keeper, 1);
    keeper.signal(Signal::SIGKILL);
    // The pipe of their log ends when the last of them has.
    assert_eq!(keeper.ends(), None);
    assert_eq!(keeper.seen_count("actor.orphaned"), 2);
}

fn a_zygote_that_loads_for_ever_dies_with_the_supervisor() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = slow_keeper(&folder);
    keeper.says(&["actor.loads"]);
    keeper.signal(Signal::SIGKILL);
    assert_eq!(keeper.ends(), None);
}

fn an_order_is_withdrawn_from_a_zygote_that_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = slow_keeper(&folder);
    tell(&mut keeper, "spawn 0");
    keeper.says(&["actor.loads"]);
    tell(&mut keeper, "end");
    keeper.says(&["keeper.withdrawn", "slot=0"]);
    keeper.says(&["zygote.left", "SIGKILL"]);
    quits(keeper);
}

fn an_application_that_cannot_be_loaded_is_reported_once() {
    let mut keeper = keeper("not importable");
    tell(&mut keeper, "spawn 0");
    tell(&mut keeper, "spawn 1");
    keeper.says(&["zygote.left", "exit code 4"]);
    let keeper = quits(keeper);
    assert_eq!(keeper.seen_count("zygote.boot_failed"), 1);
    assert_eq!(keeper.seen_count("    Traceback: no such module"), 1);
    assert_eq!(keeper.seen_count("worker.spawn_failed"), 2);
}

fn a_crash_at_the_import_is_the_end_of_the_zygote_alone() {
    for (role, status) in [("aborts", "SIGABRT"), ("exits", "exit code 7"), ("panics", "code 70")] {
        let mut keeper = keeper(role);
        tell(&mut keeper, "spawn 0");
        keeper.says(&["worker.spawn_failed", "slot=0 "]);
        keeper.says(&["zygote.died", status]);
        let keeper = quits(keeper);
        let panics = usize::from(role == "panics");
        assert_eq!(keeper.seen_count("zygote.panicked message=\"the stage is on fire\""), panics);
    }
}

fn a_worker_that_panics_is_exit_70_of_that_worker() {
    let mut keeper = keeper("panics later");
    loaded(&mut keeper);
    for _ in 0..2 {
        tell(&mut keeper, "spawn 0");
        keeper.says(&[
            "worker.panicked",
            "slot=0 ",
            "generation=3 message=\"the stage gives way\"",
        ]);
        keeper.says(&["keeper.reaped", "exit code 70"]);
    }
    quits(keeper);
}

fn threads_of_the_application_are_named_and_workers_forked_all_the_same() {
    let mut keeper = keeper("threaded");
    loaded(&mut keeper);
    keeper.says(&["zygote.threads", "threads=\"stray, stray\""]);
    spawned(&mut keeper, 0);
    quits(keeper);
}

fn sockets_of_the_application_are_named_and_stay_open() {
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

fn signals_for_the_supervisor_do_no_harm_to_a_zygote_or_its_workers() {
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

fn what_the_application_does_with_a_signal_is_left_to_its_workers() {
    let mut keeper = keeper("ignores usr2");
    loaded(&mut keeper);
    tell(&mut keeper, "spawn 0");
    keeper.says(&["actor.ignores", "usr2=1"]);
    quits(keeper);
}

fn a_fork_that_fails_is_reported_and_the_next_one_may_succeed() {
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
