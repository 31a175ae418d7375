//! `wsgi.errors`: what the application writes there goes to the error log, one event for each piece of text.
//!
//! A write that ends its line is one event, which matches how handlers of `logging` write a record. Two kinds of text
//! arrive in several writes: a line from `print()`, and a traceback, which `traceback.print_exception()` writes line by
//! line. Both are held back until they are complete, separately for each thread, but never beyond the call of the
//! application, because text that is held back is lost if the worker crashes. Chained exceptions that are printed line
//! by line are therefore one event each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringMethods;

use crate::shared::log::{BLOCK_BYTES, Level, Log, VALUE_BYTES, Value};

/// Maximum bytes held back for one thread.
const HELD_BYTES: usize = 64 * 1024;
/// Maximum bytes of collected failures.
const COLLECTED_BYTES: usize = 64 * 1024;
/// The end of the first line of a traceback, also for an exception group.
const TRACEBACK: &str = "Traceback (most recent call last):";
/// The ends of the lines between two chained exceptions.
const CHAIN: [&str; 2] = [", another exception occurred:", "cause of the following exception:"];

/// A text stream that writes to the log.
#[pyclass(frozen, module = "arctos.arctos", name = "ErrorStream")]
pub(super) struct ErrorStream(Arc<ErrorText>);

/// The text that was written and not logged yet.
pub(super) struct ErrorText {
    log: Arc<Log>,
    /// Whether `held` has anything; checked after each call of the application, without a lock.
    is_holding: AtomicBool,
    /// Never locked during a call into Python.
    held: Mutex<Vec<PendingText>>,
    /// The failures of a request that the server itself makes; `None` otherwise. Locked like `held`.
    collected: Mutex<Option<String>>,
}

/// The incomplete text of one thread.
struct PendingText {
    writer: ThreadId,
    text: String,
    /// Whether the text contains the start of a traceback.
    has_traceback: bool,
}

impl ErrorText {
    /// Creates the buffer in front of this log.
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            is_holding: AtomicBool::new(false),
            held: Mutex::default(),
            collected: Mutex::default(),
        }
    }

    /// Starts to collect what is logged.
    pub(super) fn start_collecting(&self) {
        *self.lock_collected() = Some(String::new());
    }

    /// Stops collecting and returns what was collected.
    pub(super) fn take_collected(&self) -> String {
        self.lock_collected().take().unwrap_or_default()
    }

    /// Collects a text, if texts are being collected. Returns whether they are.
    pub(super) fn collect(&self, text: &str) -> bool {
        let mut collected = self.lock_collected();
        let Some(collected) = collected.as_mut() else { return false };
        if collected.len() + text.len() <= COLLECTED_BYTES {
            collected.push_str(text.trim_matches('\n'));
            collected.push('\n');
        }
        true
    }

    fn lock_collected(&self) -> MutexGuard<'_, Option<String>> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs everything that is held back, for all threads, after a call of the application.
    pub(super) fn end_call(&self) {
        if self.is_holding.load(Ordering::Relaxed) {
            let held = std::mem::take(&mut *self.lock());
            self.is_holding.store(false, Ordering::Relaxed);
            held.iter().for_each(|held| self.log_text(&held.text));
        }
    }

    fn write(&self, writer: ThreadId, text: &str) {
        let mut held = self.lock();
        let index = held.iter().position(|held| held.writer == writer).unwrap_or_else(|| {
            held.push(PendingText { writer, text: String::new(), has_traceback: false });
            held.len() - 1
        });
        held[index].append(text);
        let complete = held[index].is_complete().then(|| held.swap_remove(index));
        self.is_holding.store(!held.is_empty(), Ordering::Relaxed);
        drop(held);
        if let Some(complete) = complete {
            self.log_text(&complete.text);
        }
    }

    /// Logs what one thread has written so far.
    fn flush(&self, writer: ThreadId) {
        let mut held = self.lock();
        let index = held.iter().position(|held| held.writer == writer);
        let pending = index.map(|index| held.swap_remove(index));
        self.is_holding.store(!held.is_empty(), Ordering::Relaxed);
        drop(held);
        if let Some(pending) = pending {
            self.log_text(&pending.text);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PendingText>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_text(&self, text: &str) {
        let text = text.trim_matches('\n');
        if text.is_empty() {
            return;
        }
        // A copy, because it is not known yet whether the request fails.
        self.collect(text);
        for piece in Pieces(text) {
            if piece.len() <= VALUE_BYTES && !piece.contains('\n') {
                self.log.line(Level::Notice, "wsgi.errors", &[("text", Value::Text(piece))]);
            } else {
                self.log.block(Level::Notice, "wsgi.errors", &[], piece);
            }
        }
    }
}

impl PendingText {
    fn append(&mut self, text: &str) {
        self.text.push_str(text);
        self.has_traceback |= text.contains(TRACEBACK);
    }

    fn is_complete(&self) -> bool {
        self.text.len() > HELD_BYTES || (self.text.ends_with('\n') && !self.is_amid_traceback())
    }

    /// Whether a traceback is incomplete: its last line, with the exception, is the first line without indentation.
    fn is_amid_traceback(&self) -> bool {
        let text = self.text.trim_end();
        let last = text.rsplit('\n').next().unwrap_or_default();
        if CHAIN.iter().any(|chain| last.ends_with(chain)) {
            return true;
        }
        self.has_traceback && (last.starts_with([' ', '\t']) || last.ends_with(TRACEBACK))
    }
}

/// Splits a text into pieces that fit into one log event, at line ends where possible.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let max_bytes = BLOCK_BYTES.min(self.0.len());
        let max_bytes =
            (1..=max_bytes).rev().find(|&at| self.0.is_char_boundary(at)).unwrap_or(self.0.len());
        let end = if max_bytes == self.0.len() {
            max_bytes
        } else {
            self.0[..max_bytes].rfind('\n').map_or(max_bytes, |at| at + 1)
        };
        let (piece, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(piece)
    }
}

impl ErrorStream {
    /// Creates the object that the application writes to.
    pub(super) fn new(text: Arc<ErrorText>) -> Self {
        Self(text)
    }
}

#[pymethods]
impl ErrorStream {
    /// Writes text. It is logged at the end of a line.
    fn write(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        self.0.write(thread::current().id(), &text.to_string_lossy());
        text.code_point_len()
    }

    /// Writes all texts of an iterable.
    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    /// Logs the incomplete line of this thread.
    fn flush(&self) {
        self.0.flush(thread::current().id());
    }
}

#[cfg(test)]
mod tests;
