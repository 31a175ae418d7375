//! The test's side: a server as a child process, awaited by what its log says.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names the role that a second process of the program plays.
pub(crate) const ROLE: &str = "ARCTOS_TEST_ROLE";

/// A test that waits so long for a line has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a process of its own, and the lines of its log.
pub(crate) struct Server {
    pub(crate) process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
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
                let _ = sender.send(line); // The test is over.
            }
        });
        Self { process, lines, seen: Vec::new() }
    }

    /// The next line of the log with all these words.
    pub(crate) fn says(&mut self, words: &[&str]) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("never said {words:?}, but:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    pub(crate) fn awaited(mut self) -> Self {
        self.says(&["server.ready"]);
        self
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    /// The exit code of the server, with all its lines in `seen`.
    pub(crate) fn ends(&mut self) -> Option<i32> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                // Nobody has the pipe any more: neither the server nor a worker.
                Err(RecvTimeoutError::Disconnected) => return self.process.wait().unwrap().code(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("does not end, but said:\n{}", self.seen.join("\n"));
                }
            }
        }
    }

    pub(crate) fn seen_count(&self, word: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(word)).count()
    }

    /// The pid of the worker that became ready last in this slot.
    pub(crate) fn pid_in(&self, slot: u16) -> Pid {
        let slot = format!("slot={slot} ");
        let mut lines = self.seen.iter().rev();
        let of_slot = |line: &&String| line.contains("worker.ready") && line.contains(&slot);
        pid_of(lines.find(of_slot).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It has ended, as a rule.
        let _ = self.process.wait();
    }
}

pub(crate) fn pid_of(line: &str) -> Pid {
    let (_, rest) = line.split_once("pid=").unwrap();
    Pid::from_raw(rest.split(' ').next().unwrap().parse().unwrap())
}
