//! The program around a server without a supervisor, and its signal handlers: they keep running while the server
//! serves, and an exception from one of them ends the server.
//!
//! CPython runs handlers in the main thread, between two instructions of whatever Python code comes next. While the
//! server sleeps there is none, so CPython also writes to a pipe (`signal.set_wakeup_fd`) that the event loop polls,
//! and [`Caller::take_raised`] takes what the handlers raised. If a handler ran while the application did, its exception
//! looks like one of the application; [`Caller::note_if_of_handler`] tells them apart.
//!
//! Ctrl-C should not abort the running request. So while the handler of SIGINT is the interpreter's own, a
//! substitute only notes the first signal, and raises from the second on.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use super::stop::Stop;
use crate::application::ShutdownRequest;

/// Maximum number of signals read at once, a byte each.
const SIGNALS_AT_ONCE: usize = 64;

/// The signal handlers of the calling program, while a server runs in its process.
pub struct Caller {
    /// The reading end of the pipe. This module only peeks at it; the event loop empties it.
    wakeup: UnixStream,
    /// The writing end, for CPython.
    wakeup_writer: UnixStream,
    /// The module `_signal`: no handler can run inside its functions, which are C, unlike those of `signal`.
    signal: Py<PyModule>,
    /// What to restore; `None` outside the main thread, where handlers do not run.
    former: RefCell<Option<Former>>,
    /// The number of SIGINTs noted.
    interrupts: Arc<AtomicU32>,
    /// Whether another thread has called [`Stop::set`]; `None` without a `Stop`.
    stopped: Option<Arc<AtomicBool>>,
    /// The first exception that a handler raised.
    raised: RefCell<Option<PyErr>>,
    raised_count: Cell<u32>,
    /// The part of [`Caller::noted_count`] that was reported to the event loop.
    reported_count: Cell<u32>,
}

/// The previous state of the interpreter's signal handling.
struct Former {
    wakeup_fd: i32,
    /// The interpreter's handler of SIGINT and its substitute; `None` if the program has its own handler.
    interrupt: Option<StandIn>,
}

struct StandIn {
    former: Py<PyAny>,
    ours: Py<PyAny>,
}

impl Caller {
    /// Takes over the signal handling of this process, until [`Caller::detach`]. Also returns the doorbell for the
    /// event loop.
    ///
    /// Errors: OSError without descriptors.
    pub fn attach(py: Python<'_>, stop: Option<Py<Stop>>) -> PyResult<(Self, OwnedFd)> {
        let (wakeup, wakeup_writer) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        wakeup_writer.set_nonblocking(true)?;
        let doorbell = OwnedFd::from(wakeup.try_clone()?);
        let stopped = match stop {
            Some(stop) => Some(stop.get().connect(wakeup_writer.try_clone()?)),
            None => None,
        };
        let caller = Self {
            wakeup,
            wakeup_writer,
            signal: py.import("_signal")?.unbind(),
            former: RefCell::new(None),
            interrupts: Arc::default(),
            stopped,
            raised: RefCell::new(None),
            raised_count: Cell::new(0),
            reported_count: Cell::new(0),
        };
        if let Some(wakeup_fd) = caller.set_wakeup_fd(py, caller.wakeup_writer.as_raw_fd())? {
            // From here on, a failure has to restore the descriptor.
            caller.former.replace(Some(Former { wakeup_fd, interrupt: None }));
            let interrupt = caller.stand_in(py)?;
            caller.former.replace(Some(Former { wakeup_fd, interrupt }));
        }
        Ok((caller, doorbell))
    }

    /// Lets CPython write to a descriptor when a signal arrives. Returns the previous one, or `None` outside the main
    /// thread.
    fn set_wakeup_fd(&self, py: Python<'_>, fd: i32) -> PyResult<Option<i32>> {
        let options = PyDict::new(py);
        options.set_item("warn_on_full_buffer", false)?;
        let set = self.signal.bind(py).getattr("set_wakeup_fd")?;
        match set.call((fd,), Some(&options)) {
            Ok(before) => Ok(Some(before.extract()?)),
            Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stand_in(&self, py: Python<'_>) -> PyResult<Option<StandIn>> {
        let signal = self.signal.bind(py);
        let former = signal.call_method1("getsignal", (libc::SIGINT,))?;
        if !former.is(&signal.getattr("default_int_handler")?) {
            return Ok(None);
        }
        let interrupts = Arc::clone(&self.interrupts);
        let server = std::process::id();
        let ours = PyCFunction::new_closure(py, None, None, move |_, _| {
            let is_first = interrupts.fetch_add(1, Ordering::Relaxed) == 0;
            // In a child of the application, nobody would read the note.
            if is_first && std::process::id() == server {
                return Ok(());
            }
            Err(PyKeyboardInterrupt::new_err(()))
        })?;
        signal.call_method1("signal", (libc::SIGINT, &ours))?;
        Ok(Some(StandIn { former: former.unbind(), ours: ours.into_any().unbind() }))
    }

    /// Takes the result of running the pending handlers, and returns what the event loop should do.
    pub(super) fn take_raised(&self, handled: PyResult<()>) -> ShutdownRequest {
        if let Err(error) = handled {
            self.note(error);
        }
        let count = self.noted_count();
        if self.reported_count.replace(count) == count {
            ShutdownRequest::None
        } else {
            ShutdownRequest::Exit
        }
    }

    /// Whether something was noted that has not been reported to the event loop.
    pub(super) fn has_pending(&self) -> bool {
        self.noted_count() != self.reported_count.get()
    }

    fn noted_count(&self) -> u32 {
        let stopped = self.stopped.as_ref().is_some_and(|stopped| stopped.load(Ordering::Relaxed));
        self.interrupts.load(Ordering::Relaxed) + self.raised_count.get() + u32::from(stopped)
    }

    /// Notes an exception from the application, if a signal handler raised it.
    pub(super) fn note_if_of_handler(&self, py: Python<'_>, error: &PyErr) {
        let mut signals = [0; SIGNALS_AT_ONCE];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        // EAGAIN: no signal has arrived.
        let Ok(count) = recv(self.wakeup.as_raw_fd(), &mut signals, flags) else { return };
        if signals[..count].iter().any(|&number| self.is_of_handler(py, error, number)) {
            self.note(error.clone_ref(py));
        }
    }

    fn note(&self, error: PyErr) {
        let later = self.raised.borrow_mut().replace(error);
        // If there was an earlier one, it stays. Dropping the other must not find the cell borrowed.
        if let Some(first) = later {
            drop(self.raised.replace(Some(first)));
        }
        self.raised_count.set(self.raised_count.get() + 1);
    }

    /// Whether the handler of this signal raised an exception: its code is then in the traceback. A handler without
    /// Python code (in C, a `functools.partial`, or removed meanwhile) appears in no traceback; any exception that is
    /// not an Exception, such as KeyboardInterrupt, is then attributed to it.
    fn is_of_handler(&self, py: Python<'_>, error: &PyErr, number: u8) -> bool {
        let is_in_traceback = || -> PyResult<bool> {
            let handler = self.signal.bind(py).call_method1("getsignal", (number,))?;
            let Some(code) = code_of(&handler)? else {
                return Ok(!error.is_instance_of::<PyException>(py));
            };
            let mut entry = error.traceback(py).map(Bound::into_any);
            while let Some(here) = entry.filter(|here| !here.is_none()) {
                if here.getattr("tb_frame")?.getattr("f_code")?.is(&code) {
                    return Ok(true);
                }
                entry = here.getattr_opt("tb_next")?;
            }
            Ok(false)
        };
        is_in_traceback().unwrap_or(false)
    }

    /// Restores the previous signal handling.
    ///
    /// Errors: the exception that ended the server: the one from a handler, or KeyboardInterrupt for a noted
    ///         SIGINT.
    pub fn detach(&self, py: Python<'_>) -> PyResult<()> {
        let restored = self.restore(py);
        if let Some(error) = self.raised.take() {
            return Err(error);
        }
        if self.interrupts.load(Ordering::Relaxed) > 0 {
            return Err(PyKeyboardInterrupt::new_err(()));
        }
        restored
    }

    /// Restores the previous state, except for what the application has changed since.
    fn restore(&self, py: Python<'_>) -> PyResult<()> {
        let Some(Former { wakeup_fd, interrupt }) = self.former.take() else { return Ok(()) };
        if let Some(StandIn { former, ours }) = &interrupt {
            let signal = self.signal.bind(py);
            if signal.call_method1("getsignal", (libc::SIGINT,))?.is(ours) {
                signal.call_method1("signal", (libc::SIGINT, former))?;
            }
        }
        match self.set_wakeup_fd(py, wakeup_fd)? {
            Some(other) if other != self.wakeup_writer.as_raw_fd() => {
                self.set_wakeup_fd(py, other).map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Returns the code of a function, a method, or an object with `__call__`.
fn code_of<'py>(handler: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match (handler.getattr_opt("__code__")?, handler.getattr_opt("__call__")?) {
        (None, Some(call)) => call.getattr_opt("__code__"),
        (code, _) => Ok(code),
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Something is left to restore only after a failure, which the caller reports.
        let _ = Python::attach(|py| self.restore(py));
    }
}
