//! The program around a server that has no supervisor, and its signal handlers: they go on running
//! while it serves, and what one of them raises ends the server.
//!
//! CPython runs handlers in the main thread, between two instructions of whatever Python code comes
//! next. Where the server sleeps none comes: so a pipe is rung (`signal.set_wakeup_fd`) that the loop
//! waits at, and [`Caller::take_raised`] is told what the handlers raised. Where a handler ran inside of the
//! application, its exception looks like one of the application's; [`Caller::note_if_of_handler`] tells them
//! apart.
//!
//! Ctrl-C is not to break off the request that runs. So while the handler of SIGINT is the
//! interpreter's own, another stands in for it, which notes the first and raises from the second on.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use crate::application::ShutdownRequest;

/// Signals that are looked at together; a byte each.
const SIGNALS_AT_ONCE: usize = 64;

/// See the module.
pub struct Caller {
    /// The loop's end of the wakeup, which is looked at here and emptied there.
    wakeup: UnixStream,
    /// The other end, which CPython writes to.
    wakeup_writer: UnixStream,
    /// `_signal`: its functions are C, so that no handler runs inside of them; those of `signal` are not.
    signal: Py<PyModule>,
    /// What is to be put back; `None` outside of the main thread, where there are no handlers.
    former: RefCell<Option<Former>>,
    /// How often Ctrl-C was noted.
    interrupts: Arc<AtomicU32>,
    /// What a handler raised first.
    raised: RefCell<Option<PyErr>>,
    raised_count: Cell<u32>,
    /// Of `interrupts` and `raised_count` together, those that the loop was told of.
    reported_count: Cell<u32>,
}

/// What was there before.
struct Former {
    wakeup_fd: i32,
    /// The interpreter's handler of SIGINT and the one that stands in for it; `None` where the program
    /// has a handler of its own.
    interrupt: Option<StandIn>,
}

struct StandIn {
    former: Py<PyAny>,
    ours: Py<PyAny>,
}

impl Caller {
    /// Attends to the signals of this process; [`Caller::detach`] undoes it. With it comes the doorbell for
    /// the loop.
    ///
    /// Errors: want of descriptors, as OSError.
    pub fn attach(py: Python<'_>) -> PyResult<(Self, OwnedFd)> {
        let (wakeup, wakeup_writer) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        wakeup_writer.set_nonblocking(true)?;
        let doorbell = OwnedFd::from(wakeup.try_clone()?);
        let caller = Self {
            wakeup,
            wakeup_writer,
            signal: py.import("_signal")?.unbind(),
            former: RefCell::new(None),
            interrupts: Arc::default(),
            raised: RefCell::new(None),
            raised_count: Cell::new(0),
            reported_count: Cell::new(0),
        };
        if let Some(wakeup_fd) = caller.set_wakeup_fd(py, caller.wakeup_writer.as_raw_fd())? {
            // From here on there is something to undo, whatever fails.
            caller.former.replace(Some(Former { wakeup_fd, interrupt: None }));
            let interrupt = caller.stand_in(py)?;
            caller.former.replace(Some(Former { wakeup_fd, interrupt }));
        }
        Ok((caller, doorbell))
    }

    /// Lets CPython write to a descriptor when a signal comes; the one before, or `None` where this is
    /// not the main thread.
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
            // A child of the application's has nobody who would hear of a note.
            if is_first && std::process::id() == server {
                return Ok(());
            }
            Err(PyKeyboardInterrupt::new_err(()))
        })?;
        signal.call_method1("signal", (libc::SIGINT, &ours))?;
        Ok(Some(StandIn { former: former.unbind(), ours: ours.into_any().unbind() }))
    }

    /// What the loop is to do after a look at the signals, which raised this or nothing.
    pub(super) fn take_raised(&self, looked: PyResult<()>) -> ShutdownRequest {
        if let Err(error) = looked {
            self.note(error);
        }
        let count = self.noted_count();
        if self.reported_count.replace(count) == count {
            ShutdownRequest::None
        } else {
            ShutdownRequest::Exit
        }
    }

    /// Whether something was noted that the loop was not told of.
    pub(super) fn has_pending(&self) -> bool {
        self.noted_count() != self.reported_count.get()
    }

    fn noted_count(&self) -> u32 {
        self.interrupts.load(Ordering::Relaxed) + self.raised_count.get()
    }

    /// Notes what the application raised, if it was a signal handler that raised it.
    pub(super) fn note_if_of_handler(&self, py: Python<'_>, error: &PyErr) {
        let mut signals = [0; SIGNALS_AT_ONCE];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        // EAGAIN: no signal came.
        let Ok(count) = recv(self.wakeup.as_raw_fd(), &mut signals, flags) else { return };
        if signals[..count].iter().any(|&number| self.is_of_handler(py, error, number)) {
            self.note(error.clone_ref(py));
        }
    }

    fn note(&self, error: PyErr) {
        let later = self.raised.borrow_mut().replace(error);
        // Put back if there was one: the drop of the other is not to find this borrowed.
        if let Some(first) = later {
            drop(self.raised.replace(Some(first)));
        }
        self.raised_count.set(self.raised_count.get() + 1);
    }

    /// Whether an exception came out of the handler of this signal: the handler's code is in its
    /// traceback. One that is no Python code (C, `functools.partial`, none any more) is in none, and what is
    /// no Exception, as KeyboardInterrupt, is then taken for its.
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

    /// Puts back what was there before. What a handler raised, or KeyboardInterrupt for a Ctrl-C that
    /// was noted, is the error: the server was ended by it.
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

    /// What the application has changed meanwhile is its own.
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

/// The code of a function, a method, or an object with `__call__`.
fn code_of<'py>(handler: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    match (handler.getattr_opt("__code__")?, handler.getattr_opt("__call__")?) {
        (None, Some(call)) => call.getattr_opt("__code__"),
        (code, _) => Ok(code),
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Nothing is left to be put back but after a failure, which is what will be told of.
        let _ = Python::attach(|py| self.restore(py));
    }
}
