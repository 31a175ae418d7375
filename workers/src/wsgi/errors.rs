//! `wsgi.errors`: what the application writes there goes to the error log, what belongs together as one
//! block.
//!
//! A write that ends its line is a block of its own, which is what a handler of `logging` makes of a record.
//! Two things come in several writes: a line, as `print()` writes it, and a traceback, of which
//! `traceback.print_exception()` writes line by line. Both are held back until they are complete, for each
//! thread on its own, and for no longer than the call of the application: what is held would be lost with
//! the worker. So chained exceptions that are printed in this way are a block each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringMethods;

use crate::shared::log::{BLOCK_BYTES, Level, Log, VALUE_BYTES, Value};

/// More than this is not held back by one thread.
const HELD_BYTES: usize = 64 * 1024;
/// More than this is not kept of what goes wrong.
const KEPT_BYTES: usize = 64 * 1024;
/// How the first line of a traceback ends, be it of one exception or of a group.
const TRACEBACK: &str = "Traceback (most recent call last):";
/// How a line ends that stands between two chained exceptions.
const CHAIN: [&str; 2] = [", another exception occurred:", "cause of the following exception:"];

/// A text stream that writes to the log.
#[pyclass(frozen, module = "arctos.arctos", name = "ErrorStream")]
pub(super) struct ErrorStream(Arc<ErrorText>);

/// What was written, on its way to the log.
pub(super) struct ErrorText {
    log: Arc<Log>,
    /// Whether there is anything in `held`: asked behind each call of the application, without a lock.
    is_holding: AtomicBool,
    /// Never locked over a call into Python.
    held: Mutex<Vec<PendingText>>,
    /// What went wrong in a request that nobody has made but the server; `None` in all others. Locked as
    /// `held` is.
    kept: Mutex<Option<String>>,
}

/// What one thread has written and not completed.
struct PendingText {
    writer: ThreadId,
    text: String,
    /// Whether a traceback begins in it.
    has_traceback: bool,
}

impl ErrorText {
    /// Onto this log.
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            is_holding: AtomicBool::new(false),
            held: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Keeps what is told from here on.
    pub(super) fn keep(&self) {
        *self.lock_kept() = Some(String::new());
    }

    /// What was kept; nothing is from here on.
    pub(super) fn take_kept(&self) -> String {
        self.lock_kept().take().unwrap_or_default()
    }

    /// Keeps a text, if any is kept; whether it is.
    pub(super) fn kept(&self, text: &str) -> bool {
        let mut kept = self.lock_kept();
        let Some(kept) = kept.as_mut() else { return false };
        if kept.len() + text.len() <= KEPT_BYTES {
            kept.push_str(text.trim_matches('\n'));
            kept.push('\n');
        }
        true
    }

    fn lock_kept(&self) -> MutexGuard<'_, Option<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs all that is held back, whoever wrote it: the call of the application is over.
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
        let begun = index.map(|index| held.swap_remove(index));
        self.is_holding.store(!held.is_empty(), Ordering::Relaxed);
        drop(held);
        if let Some(begun) = begun {
            self.log_text(&begun.text);
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
        // A copy: whether the request fails is not known yet.
        self.kept(text);
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

    /// Whether more of a traceback is to come: its last line, which names the exception, is the first that
    /// is not indented.
    fn is_amid_traceback(&self) -> bool {
        let text = self.text.trim_end();
        let last = text.rsplit('\n').next().unwrap_or_default();
        if CHAIN.iter().any(|chain| last.ends_with(chain)) {
            return true;
        }
        self.has_traceback && (last.starts_with([' ', '\t']) || last.ends_with(TRACEBACK))
    }
}

/// A text in pieces that a block of the log can hold whole, cut at the ends of lines where that is possible.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let most = BLOCK_BYTES.min(self.0.len());
        let most = (1..=most).rev().find(|&at| self.0.is_char_boundary(at)).unwrap_or(self.0.len());
        let end = if most == self.0.len() {
            most
        } else {
            self.0[..most].rfind('\n').map_or(most, |at| at + 1)
        };
        let (piece, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(piece)
    }
}

impl ErrorStream {
    /// The object that the application writes to.
    pub(super) fn new(text: Arc<ErrorText>) -> Self {
        Self(text)
    }
}

#[pymethods]
impl ErrorStream {
    /// Writes text; the log has it when a line ends.
    fn write(&self, text: &Bound<'_, PyString>) -> PyResult<usize> {
        self.0.write(thread::current().id(), &text.to_string_lossy());
        text.code_point_len()
    }

    /// Writes each text of an iterable.
    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    /// Ends what this thread has begun.
    fn flush(&self) {
        self.0.flush(thread::current().id());
    }
}

#[cfg(test)]
mod tests;
