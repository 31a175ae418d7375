//! Interrupts a request that takes too long, by an exception in the code that it is running.
//!
//! The supervisor names the call in the worker's entry, and sends a signal that nothing else uses. CPython's own handler
//! notes it, and the system call in which the worker may be waiting fails with EINTR. CPython then runs the handler of
//! this file before it repeats the call or goes on, between two instructions of Python code, and the handler raises
//! [`RequestTimeout`] there. C code that never returns to the interpreter does not react.
//!
//! The handler may run a little later than the signal came, or in code that is not the application's. It therefore
//! raises only while the gate is open, and while the call that was named still runs.
//!
//! | gate | event | next |
//! |---|---|---|
//! | Closed | a call of the application begins | Open |
//! | Open | the handler raises the exception | Raised |
//! | Open | the call ends | Closed |
//! | Raised | the call ends | Raised, so that the failure of the call can be told apart |
//! | Raised | the next call begins | Open |
//! | any | the server's own Python code runs inside of a call | Closed meanwhile |

use std::cell::Cell;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::process::{fork_guard, signals};
use crate::settings::CallLimits;
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::WorkerEntry;

pyo3::create_exception!(
    arctos,
    RequestTimeout,
    PyBaseException,
    "Raised in a request that takes longer than --timeout, so that it can clean up and respond.\n\n\
     It is no Exception, so that frameworks do not take it for a failure of the view."
);

/// Whether the handler may raise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// No code of the application runs.
    Closed,
    /// A call of the application runs.
    Open,
    /// The exception was raised in the running call, or in the last one.
    Raised,
}

thread_local! {
    /// The gate of the thread that runs requests. Signal handlers run in the same one, the main thread.
    static GATE: Cell<Gate> = const { Cell::new(Gate::Closed) };
}

/// Closes the gate, also when the code in between panics.
struct Close;

impl Drop for Close {
    fn drop(&mut self) {
        if GATE.get() == Gate::Open {
            GATE.set(Gate::Closed);
        }
    }
}

/// Restores the gate, also when the code in between panics.
struct Restore(Gate);

impl Drop for Restore {
    fn drop(&mut self) {
        GATE.set(self.0);
    }
}

/// Calls the application, which may be interrupted meanwhile.
pub(super) fn allowed<T>(call: impl FnOnce() -> T) -> T {
    GATE.set(Gate::Open);
    let _close = Close;
    call()
}

/// Runs Python code of the server that a call of the application needs, and that must not be interrupted.
pub(super) fn suspended<T>(run: impl FnOnce() -> T) -> T {
    let _restore = Restore(GATE.replace(Gate::Closed));
    run()
}

/// Whether the exception was raised in the running call of the application.
pub(super) fn has_raised(entry: &WorkerEntry) -> bool {
    GATE.get() == Gate::Raised && entry.is_call_interrupted()
}

/// Installs the handler. Called in a worker that has loaded its application, whose requests the supervisor interrupts.
/// A failure is logged: the worker serves anyway, and is killed if a request takes too long.
pub(super) fn install(py: Python<'_>, entry: &'static WorkerEntry, limits: &CallLimits, log: &Log) {
    match register(py, entry, limits) {
        Ok(false) => {}
        Ok(true) => {
            let signal = format!("SIGRTMIN+{}", signals::INTERRUPT_OFFSET);
            let pairs = [("signal", Value::Text(&signal))];
            log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
        }
        Err(error) => {
            let error = error.value(py).to_string();
            let pairs = [("error", Value::Text(&error))];
            log.line(Level::Warning, "worker.interrupt_not_installed", &pairs);
        }
    }
}

/// Returns whether the application had a handler of its own for this signal.
fn register(py: Python<'_>, entry: &'static WorkerEntry, limits: &CallLimits) -> PyResult<bool> {
    // The functions of `_signal` are C, unlike those of `signal`.
    let module = py.import("_signal")?;
    let handler = handler(py, entry, limits.clone())?;
    // CPython's handler has no SA_RESTART, so that system calls are interrupted.
    let former = module.call_method1("signal", (signals::interrupt_signal(), handler))?;
    Ok(former.is_callable())
}

/// Creates the handler.
fn handler<'py>(
    py: Python<'py>,
    entry: &'static WorkerEntry,
    limits: CallLimits,
) -> PyResult<Bound<'py, PyCFunction>> {
    PyCFunction::new_closure(py, None, None, move |_, _| -> PyResult<()> {
        let is_due = GATE.get() == Gate::Open && entry.is_call_interrupted();
        if !is_due || fork_guard::is_forked() {
            return Ok(());
        }
        GATE.set(Gate::Raised);
        let limit = limits.of_request(&entry.request_line().unwrap_or_default());
        let limit = limit.unwrap_or_default().saturating_add(entry.call_extension());
        Err(RequestTimeout::new_err(format!("the request exceeds its time limit of {limit:?}")))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs a test with a worker whose limit is 30 s, and a function that returns what its handler raises.
    fn with_handler(test: impl FnOnce(&'static WorkerEntry, &dyn Fn() -> Option<String>)) {
        Python::initialize();
        let entry = WorkerEntry::detached();
        let limits = CallLimits { usual: Some(s(30)), routes: Vec::new() };
        Python::attach(|py| {
            let handler = handler(py, entry, limits).unwrap();
            let raised = || {
                let error = handler.call1((signals::interrupt_signal(), py.None())).err()?;
                assert!(error.is_instance_of::<RequestTimeout>(py));
                Some(error.value(py).to_string())
            };
            test(entry, &raised);
        });
    }

    #[test]
    fn the_handler_raises_once_in_the_interrupted_call() {
        with_handler(|entry, raised| {
            entry.begin_request(s(100), b"GET", b"/");
            entry.extend_call(s(5));
            allowed(|| {
                assert_eq!(raised(), None, "nobody has interrupted it");
                entry.interrupt_call(s(100));
                assert_eq!(raised().as_deref(), Some("the request exceeds its time limit of 35s"));
                assert_eq!(raised(), None, "it was raised already");
            });
            assert!(has_raised(entry));
            assert_eq!(raised(), None, "the call has ended");
            entry.end_call(s(132));
            assert!(!has_raised(entry));
        });
    }

    #[test]
    fn the_handler_does_nothing_in_another_call() {
        with_handler(|entry, raised| {
            entry.begin_request(s(100), b"GET", b"/late");
            entry.interrupt_call(s(100));
            entry.end_call(s(131));
            allowed(|| assert_eq!(raised(), None, "no call runs"));
            entry.begin_request(s(131), b"GET", b"/next");
            allowed(|| assert_eq!(raised(), None));
            assert!(!has_raised(entry));
        });
    }

    #[test]
    fn the_handler_does_nothing_in_code_of_the_server() {
        with_handler(|entry, raised| {
            entry.begin_request(s(100), b"GET", b"/");
            entry.interrupt_call(s(100));
            assert_eq!(raised(), None, "before the call");
            allowed(|| {
                suspended(|| assert_eq!(raised(), None, "while it is logged"));
                assert!(raised().is_some());
                suspended(|| assert_eq!(raised(), None));
                assert!(has_raised(entry));
            });
            assert_eq!(raised(), None, "after the call");
            std::thread::scope(|scope| {
                scope.spawn(|| assert_eq!(GATE.get(), Gate::Closed)).join().unwrap();
            });
        });
    }

    #[test]
    fn the_exception_is_no_exception_that_frameworks_catch() {
        Python::initialize();
        Python::attach(|py| {
            let kind = py.get_type::<RequestTimeout>();
            assert!(kind.is_subclass_of::<PyBaseException>().unwrap());
            assert!(!kind.is_subclass_of::<pyo3::exceptions::PyException>().unwrap());
            assert_eq!(kind.to_string(), "<class 'arctos.RequestTimeout'>");
        });
    }
}
