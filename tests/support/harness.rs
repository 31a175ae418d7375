//! Runs the tests of a program that forks.
//!
//! Rust's own harness cannot: it runs each test on a thread, and arctos refuses to fork in a process with
//! threads. Here a test starts its program once more, with a role to play ([`ROLE`](crate::process::ROLE)),
//! and only that second process forks. The first one may therefore have threads, and runs several tests at
//! a time, because a test spends nearly all of its time waiting.
#![expect(clippy::print_stdout, reason = "a test harness reports on standard output")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// How many tests run at a time unless `--test-threads=N` says otherwise.
const DEFAULT_THREAD_COUNT: usize = 8;

/// Makes a table of [`Test`]s from the names of functions.
macro_rules! tests {
    ($($name:ident)*) => { &[$((stringify!($name), $name as fn())),*] };
}
pub(crate) use tests;

/// Runs the tests whose names contain all words of the command line.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let (options, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let thread_count = options.iter().find_map(|option| option.strip_prefix("--test-threads="));
    let thread_count = thread_count.map_or(DEFAULT_THREAD_COUNT, |count| count.parse().unwrap());
    let is_selected = |(name, _): &&Test| words.iter().all(|word| name.contains(word.as_str()));
    let selected = Mutex::new(tests.iter().filter(is_selected));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread_count {
            scope.spawn(|| {
                while let Some((name, test)) = { selected.lock().unwrap().next() } {
                    // The message of a panic names its thread.
                    let thread = thread::Builder::new().name((*name).to_owned());
                    let has_passed = thread.spawn(*test).unwrap().join().is_ok();
                    let outcome = if has_passed { "ok" } else { "FAILED" };
                    println!("test {name} ... {outcome}");
                    if !has_passed {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
