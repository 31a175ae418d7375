//! When the access log is written, and how lost lines are logged.

use std::os::fd::OwnedFd;

use super::WorkerContext;
use crate::event_loop::access_log::Lost;
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::Counter;

impl WorkerContext {
    /// Writes the lines of this turn to the access log, and logs from time to time how many were lost.
    pub fn flush_access_log(&mut self) {
        let Some(access) = &mut self.access else { return };
        if let Some(lost) = access.flush() {
            self.entry.counters.add(Counter::LogDropped, lost.lines);
            self.limited.losses.add(lost);
        }
        if let Some(lost) = self.limited.losses.due(self.clock.now()) {
            log_lost(&self.log, lost);
        }
    }

    /// Flushes the access log for the last time.
    pub fn close_access_log(&mut self) {
        self.flush_access_log();
        if let Some(lost) = self.limited.losses.take() {
            log_lost(&self.log, lost);
        }
    }

    /// Writes the access log to another file from now on. A worker without an access log gets none: the supervisor
    /// sends files only to workers that have one.
    pub fn replace_access_log(&mut self, file: OwnedFd) {
        if let Some(access) = &mut self.access {
            access.replace(file);
        }
    }
}

fn log_lost(log: &Log, lost: Lost) {
    let lines = i64::try_from(lost.lines).unwrap_or(i64::MAX);
    let pairs = [("lines", Value::Number(lines)), ("reason", Value::Display(&lost.cause))];
    log.line(Level::Warning, "access_log.lines_lost", &pairs);
}
