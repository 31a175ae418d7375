//! The access log of one worker: when it is written, and what is said of lines that were lost.

use std::os::fd::OwnedFd;

use super::WorkerContext;
use crate::event_loop::access_log::Lost;
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::Counter;

impl WorkerContext {
    /// Writes the access log's lines of this turn, and says from time to time how many were lost.
    pub fn flush_access_log(&mut self) {
        let Some(access) = &mut self.access else { return };
        if let Some(lost) = access.flush() {
            self.entry.counters.add(Counter::LogDropped, lost.lines);
            self.losses.add(lost);
        }
        if let Some(lost) = self.losses.due(self.clock.now()) {
            tell_lost(&self.log, lost);
        }
    }

    /// The same for the last time.
    pub fn close_access_log(&mut self) {
        self.flush_access_log();
        if let Some(lost) = self.losses.take() {
            tell_lost(&self.log, lost);
        }
    }

    /// Writes the access log to another file from now on. Without one it stays so: the supervisor gives
    /// one to workers that have one.
    pub fn replace_access_log(&mut self, file: OwnedFd) {
        if let Some(access) = &mut self.access {
            access.replace(file);
        }
    }
}

fn tell_lost(log: &Log, lost: Lost) {
    let lines = i64::try_from(lost.lines).unwrap_or(i64::MAX);
    let pairs = [("lines", Value::Number(lines)), ("reason", Value::Display(&lost.cause))];
    log.line(Level::Warning, "access_log.lines_lost", &pairs);
}
