//! The WSGI bridge (PEP 3333): [`Bridge`] is the [`Application`] that calls Python.
//!
//! One thread runs it, and holds the interpreter's lock all the time but for [`Application::unlocked`],
//! so that a busy worker never hands the lock over between two requests. `Python::attach` is then a
//! counter's increment. This folder knows requests and replies as values; sockets, framing and
//! Content-Length are the loop's.
//!
//! | file | owns |
//! |---|---|
//! | `app` | loading `MODULE:ATTR`, and the report where that fails |
//! | `environ`, `names`, `request_id` | the environ of a request |
//! | `input`, `errors`, `file_wrapper` | `wsgi.input`, `wsgi.errors`, `wsgi.file_wrapper` |
//! | `start_response` | `start_response`, `write`, and the head they make |
//! | `reply` | iterables, their items and their `close()` |
//! | `failure` | what went wrong, and how the log names it |
//! | `ffi` | the only unsafe code here |

mod app;
mod environ;
mod errors;
mod failure;
mod ffi;
mod file_wrapper;
mod input;
mod names;
mod reply;
mod request_id;
mod start_response;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

pub use app::BootFailure;
pub use reply::{Body, Chunk};

use crate::application::{AppError, Application, Content, Outlet, Reply, Request};
use crate::http::ResponseHead;
use crate::identity::{Generation, SlotId};
use crate::log::{Level, Log};
use crate::settings::{AppSpec, Settings};
use environ::Environs;
use errors::ErrorStream;
use failure::{Failure, Label, Reporter};
use request_id::RequestIds;
use start_response::{Responders, Use};

/// The application, and what its requests need.
pub struct Bridge {
    application: Py<PyAny>,
    environs: Environs,
    ids: RequestIds,
    responders: Responders,
    reporter: Reporter,
    log: Arc<Log>,
    /// The head of the latest reply.
    head: ResponseHead,
    /// Set in a process that the application forked off this one.
    is_fork: Arc<AtomicBool>,
}

impl Bridge {
    /// Loads the application into this process, which must be a worker's: the code is imported here
    /// and nowhere before.
    ///
    /// Errors: [`BootFailure`], with the report for the supervisor's log.
    pub fn boot(
        spec: &AppSpec,
        settings: &Settings,
        slot: SlotId,
        generation: Generation,
        log: Log,
    ) -> Result<Self, BootFailure> {
        Python::attach(|py| {
            let application = app::load(py, spec)?.unbind();
            let bridge = Self::around(py, application, settings, slot, generation, log);
            bridge.map_err(|error| BootFailure::not_booted(py, "Cannot set up WSGI.", &error))
        })
    }

    /// Around a loaded application.
    fn around(
        py: Python<'_>,
        application: Py<PyAny>,
        settings: &Settings,
        slot: SlotId,
        generation: Generation,
        log: Log,
    ) -> PyResult<Self> {
        let log = Arc::new(log);
        let errors = Py::new(py, ErrorStream::new(Arc::clone(&log)))?;
        let bridge = Self {
            application,
            environs: Environs::new(py, settings, slot.0, errors)?,
            ids: RequestIds::new(slot, generation),
            responders: Responders::new(),
            reporter: Reporter::new(Arc::clone(&log)),
            log,
            head: ResponseHead::default(),
            is_fork: Arc::new(AtomicBool::new(false)),
        };
        let is_fork = Arc::clone(&bridge.is_fork);
        after_fork_in_child(py, move || is_fork.store(true, Ordering::Relaxed))?;
        Ok(bridge)
    }

    /// Runs `hook` in each process that the application forks off this one through Python
    /// (`os.fork`, multiprocessing), before any of its code runs there: the place to close what must
    /// not live on in a copy. It stays for the life of the process.
    pub fn on_fork(&self, hook: impl Fn() + Send + 'static) {
        // pyo3 asks for Sync, too; there is one thread after fork(2), so the lock is always free.
        let hook = Mutex::new(hook);
        let run = move || {
            if let Ok(hook) = hook.lock() {
                hook();
            }
        };
        Python::attach(|py| {
            if let Err(error) = after_fork_in_child(py, run) {
                self.reporter.signal_failed(py, &error);
            }
        });
    }

    /// Ends the interpreter's part of the worker: exit handlers of the application's run, and what it
    /// printed is written out.
    pub fn shutdown(self) {
        Python::attach(|py| {
            if let Err(error) = run_exit_handlers(py) {
                self.reporter.signal_failed(py, &error);
            }
        });
    }

    /// Calls the application and makes its reply.
    fn answer(
        &mut self,
        py: Python<'_>,
        mut request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Body>, AppError> {
        let (head, head_bytes, sequence) = (request.head, request.head_bytes, request.sequence);
        let (method, path) = (head.method.of(head_bytes), head.path.of(head_bytes));
        let prepared = self.environs.build(py, &mut request, &mut self.ids);
        let prepared = prepared.and_then(|made| Ok((made, self.responders.take(py)?)));
        let ((environ, request_id), starter) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let label = Label::new(method, path, self.ids.text(sequence));
                return Err(self.reporter.report(py, &label, Failure::Raised(error)));
            }
        };
        let label = || Label::new(method, path, ffi::latin1_bytes(&request_id).unwrap_or_default());
        let responder = starter.responder.bind(py);
        let content = ffi::lend_outlet(outlet, start_response::owner(responder), || {
            let start_response = starter.start_response.bind(py);
            let result = self
                .application
                .bind(py)
                .call1((environ, start_response))
                .map_err(|error| reply::raised(responder, error))?;
            reply::content(py, result, responder, label, &self.reporter)
        });
        if self.is_fork.load(Ordering::Relaxed) {
            self.leave_fork(py);
        }
        match content {
            Ok(content) => {
                let usage = match &content {
                    Content::Empty | Content::Whole(_) => Use::Over,
                    Content::Stream(_) | Content::File(_) => Use::GoesOn,
                };
                self.responders.give_back(py, starter, &mut self.head, usage);
                Ok(Reply { head: &self.head, content })
            }
            Err(failure) => {
                let error = self.reporter.report(py, &label(), failure);
                self.responders.give_back(py, starter, &mut self.head, Use::Over);
                Err(error)
            }
        }
    }

    /// Ends a process that the application forked off and that came back here: it is no worker, has no
    /// socket any more, and must not answer its parent's client.
    fn leave_fork(&self, py: Python<'_>) -> ! {
        self.log.line(Level::Warning, "application.fork_returned", &[]);
        // At once, as after os.fork(3): exit handlers and buffers are the parent's.
        let left = py.import("os").and_then(|os| os.call_method1("_exit", (70,)));
        drop(left); // reached only where the application replaced os._exit
        std::process::exit(70)
    }
}

impl Application for Bridge {
    type Body = Body;

    fn call(
        &mut self,
        request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Body>, AppError> {
        Python::attach(|py| self.answer(py, request, outlet))
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        Python::attach(|py| py.detach(wait))
    }

    fn signalled(&mut self) {
        Python::attach(|py| {
            // KeyboardInterrupt, or what a handler of the application's raised: it would end a program
            // of its own, but a worker is ended by its supervisor.
            if let Err(error) = py.check_signals() {
                self.reporter.signal_failed(py, &error);
            }
        });
    }
}

/// Registers `hook` with `os.register_at_fork`.
fn after_fork_in_child(py: Python<'_>, hook: impl Fn() + Send + Sync + 'static) -> PyResult<()> {
    let run = move |_: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| hook();
    let hook = PyCFunction::new_closure(py, Some(c"arctos_after_fork"), None, run)?;
    let options = PyDict::new(py);
    options.set_item("after_in_child", hook)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&options)).map(drop)
}

/// `atexit` first, as the interpreter's own end does, for its handlers may print.
fn run_exit_handlers(py: Python<'_>) -> PyResult<()> {
    let ran = py.import("atexit")?.call_method0("_run_exitfuncs").map(drop);
    let sys = py.import("sys")?;
    for name in ["stdout", "stderr"] {
        let stream = sys.getattr(name)?;
        if !stream.is_none() {
            stream.call_method0("flush")?;
        }
    }
    ran
}

#[cfg(test)]
mod tests;
