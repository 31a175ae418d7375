//! A server as a child process of a test, which waits for lines of its log.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The environment variable with the role that a second process of this program plays.
pub(crate) const ROLE: &str = "ARCTOS_TEST_ROLE";

/// A test fails if it waits longer than this for a line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A second process of this program, and the lines of its log.
pub(crate) struct TestProcess {
    pub(crate) process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl TestProcess {
    pub(crate) fn start(role: &str) -> Self {
        Self::with(role, |_| {})
    }

    pub(crate) fn with(role: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).stderr(Stdio::piped());
        prepare(&mut command);
        let mut process = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line); // The test may be over.
            }
        });
        Self { process, lines, seen: Vec::new() }
    }

    /// Waits for the next line of the log with all these words.
    pub(crate) fn wait_for(&mut self, words: &[&str]) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line has {words:?}, but these were logged:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// Waits for the next lines of the log that have all words of one of these groups each, in any order.
    #[allow(dead_code, reason = "only some of the test programs have lines in an open order")]
    pub(crate) fn wait_for_each(&mut self, groups: &[&[&str]]) {
        let mut missing = groups.to_vec();
        while !missing.is_empty() {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line has {missing:?}, but these were logged:\n{}", self.seen.join("\n"));
            };
            missing.retain(|words| !words.iter().all(|word| line.contains(word)));
            self.seen.push(line);
        }
    }

    pub(crate) fn until_ready(mut self) -> Self {
        self.wait_for(&["server.ready"]);
        self
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the process to exit and for the end of its log; returns its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                // The pipe ends once the process and all its workers have closed it.
                Err(RecvTimeoutError::Disconnected) => return self.process.wait().unwrap().code(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!(
                        "the process does not exit, but these lines were logged:\n{}",
                        self.seen.join("\n")
                    );
                }
            }
        }
    }

    pub(crate) fn line_count(&self, word: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(word)).count()
    }

    /// The pid of the worker in this slot that became ready last.
    pub(crate) fn pid_in(&self, slot: u16) -> Pid {
        let slot = format!("slot={slot} ");
        let mut lines = self.seen.iter().rev();
        let of_slot = |line: &&String| line.contains("worker.ready") && line.contains(&slot);
        pid_of(lines.find(of_slot).unwrap())
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It usually has exited already.
        let _ = self.process.wait();
    }
}

pub(crate) fn pid_of(line: &str) -> Pid {
    let (_, rest) = line.split_once("pid=").unwrap();
    Pid::from_raw(rest.split(' ').next().unwrap().parse().unwrap())
}
