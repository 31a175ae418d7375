//! The WSGI bridge (PEP 3333): [`Bridge`] is the [`Application`] that calls Python.
//!
//! One thread runs it and holds the interpreter's lock, except during [`Application::unlocked`], so a busy
//! worker never gives up the lock between two requests. `Python::attach` then only increments a counter. This
//! directory sees requests and replies as values; sockets, framing and Content-Length belong to the event loop.
//!
//! | file | owns |
//! |---|---|
//! | `app` | loading the application, and the report of a failure |
//! | `asgi` | callables that are not WSGI applications |
//! | `django` | the parts of Django that otherwise load with the first request |
//! | `development` | what a process does for `--reload`: it reports what it imported |
//! | `environ`, `names`, `request_id`, `route` | the environ of a request |
//! | `input`, `errors`, `file_wrapper` | `wsgi.input`, `wsgi.errors`, `wsgi.file_wrapper` |
//! | `start_response` | `start_response`, `write`, and the response head that they build |
//! | `context` | the context variables that a request runs with |
//! | `reply` | iterables, their items and their `close()` |
//! | `finalize`, `threads`, `streams` | threads, exit handlers and output at the end of a worker |
//! | `forked` | children of the application that return into the server's code |
//! | `hooks` | functions that the configuration names for moments in the life of a worker |
//! | `interrupt`, `timeout` | the exception of a request that takes too long, and its request for more time |
//! | `failure`, `traceback` | failures of the application, and how the log shows them |
//! | `traceback_page` | the page with the traceback of a failed request (`--debug`) |
//! | `series` | application metrics |
//! | `latest`, `variables` | what the event loop and the access log ask about the latest request |
//! | `unreadable` | directories that a failed boot cannot read |
//! | `stacks` | the stack dump of all threads on SIGUSR2 |
//! | `profiling` | where the interpreter keeps the frames that profiles sample |
//! | `caller`, `stop` | the program around a server without a supervisor, its signal handlers, its threads |
//! | `ffi` | the only unsafe code in this directory |

mod app;
mod asgi;
mod caller;
mod context;
mod development;
mod django;
mod environ;
mod errors;
mod failure;
mod ffi;
mod file_wrapper;
mod finalize;
mod forked;
mod hooks;
mod input;
mod interrupt;
mod latest;
mod names;
mod profiling;
mod reply;
mod request_id;
mod route;
pub mod series;
mod stacks;
mod start_response;
mod stop;
mod streams;
mod threads;
mod timeout;
mod traceback;
mod traceback_page;
mod unreadable;
mod variables;

use std::num::NonZeroU128;
use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

pub use app::ApplicationSource;
pub use caller::Caller;
pub use hooks::{GenerationArgument, WorkerArgument};
pub use interrupt::RequestTimeout;
pub use profiling::install_stack_sampler;
pub use reply::{ReplyBody, ReplyChunk};
pub use stop::Stop;
pub use timeout::Timeout;

use crate::application::{AppError, Application, Content, Outlet, Reply, Request, ShutdownRequest};
use crate::body_memory::BodyMemory;
use crate::http::ResponseHead;
use crate::settings::{AppSpec, Hooks, Settings};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::log::Log;
use crate::shared::scoreboard::WorkerEntry;
use crate::worker_init::BootFailure;
use context::Context;
use environ::Environs;
use errors::{ErrorStream, ErrorText};
use failure::{CallFailure, Reporter, RequestLabel};
use hooks::{HookFailure, WorkerHooks};
use latest::Latest;
use request_id::RequestIds;
use stacks::Stacks;
use start_response::{ResponderUse, Responders};

/// The application and everything that its requests need.
pub struct Bridge {
    application: Py<PyAny>,
    environs: Environs,
    ids: RequestIds,
    latest: Latest,
    responders: Responders,
    /// The context variables of the next request.
    context: Context,
    reporter: Reporter,
    hooks: WorkerHooks,
    /// The exceptions that Django turned into a 500, while failures are collected.
    django: Option<django::RequestExceptions>,
    /// The program that owns this process, if it is not a worker's.
    caller: Option<Rc<Caller>>,
    /// The head of the latest reply.
    head: ResponseHead,
}

/// Makes SIGUSR2 dump the Python stacks of this process, which is not a worker's. Called before any code of the
/// application runs, so that an import that hangs can be examined.
pub fn install_stack_dump(log: &Log) {
    Python::attach(|py| {
        Stacks::install(py, log);
    });
}

/// Calls the hooks of `--on-start` in this process, which does nothing else and then exits.
///
/// Errors: as [`Bridge::boot`].
pub fn run_on_start(spec: &AppSpec, generation: Generation) -> Result<(), BootFailure> {
    Python::attach(|py| {
        app::prepare(py, spec)?;
        hooks::on_start(py, &spec.hooks, generation)?;
        let ended = finalize::finalize(py, |_| {});
        ended.map_err(|error| app::not_booted(py, "An exit handler of --on-start failed.", &error))
    })
}

/// Checks that all hooks can be imported. The application's directory and `sys.path` must have been set.
///
/// Errors: as [`Bridge::boot`].
pub fn find_hooks(hooks: &Hooks) -> Result<(), BootFailure> {
    Ok(Python::attach(|py| hooks::find_all(py, hooks))?)
}

impl From<HookFailure> for BootFailure {
    fn from(failure: HookFailure) -> Self {
        Self::not_booted(failure.report())
    }
}

/// Loads the application into this process, a zygote, after the hooks of `--on-start`. Exit handlers that the
/// application registers never run here: each worker runs them when it exits, as if it had imported the
/// application itself.
///
/// Errors: as [`Bridge::boot`].
pub fn preload(
    source: &ApplicationSource,
    spec: &AppSpec,
    generation: Generation,
) -> Result<ApplicationSource, BootFailure> {
    Python::attach(|py| {
        app::prepare(py, spec)?;
        hooks::on_start(py, &spec.hooks, generation)?;
        let loaded = app::load(py, source, spec);
        development::report_imports(py, spec);
        let application = loaded?;
        django::close_connections(py);
        app::freeze(py)
            .map_err(|error| app::not_booted(py, "Cannot prepare to fork workers.", &error))?;
        Ok(ApplicationSource::Zygote(application.unbind()))
    })
}

/// Calls the hooks of `--pre-fork` in a zygote that is about to fork a worker. Their failure is logged and
/// does not keep the worker from being forked.
pub fn before_fork(hooks: &Hooks, slot: SlotId, generation: Generation, log: &Log) {
    Python::attach(|py| {
        if let Err(failure) = WorkerHooks::new(hooks, slot, generation).pre_fork(py) {
            failure.log(log);
        }
    });
}

impl Bridge {
    /// Loads the application into this process, which must be a worker's. The application's code has run
    /// nowhere before, except in the zygote that loaded it. From then on, SIGUSR2 dumps Python's stacks.
    ///
    /// Errors: [`BootFailure`], with the report for the supervisor's log.
    pub fn boot(
        source: &ApplicationSource,
        spec: &AppSpec,
        settings: &Settings,
        (slot, generation): (SlotId, Generation),
        entry: &'static WorkerEntry,
        log: Log,
    ) -> Result<Self, BootFailure> {
        Python::attach(|py| {
            let stacks = Stacks::install(py, &log);
            let hooks = WorkerHooks::new(&spec.hooks, slot, generation);
            let application = match source {
                // The zygote has prepared this process and imported the code that could replace the handler.
                ApplicationSource::Zygote(application) => {
                    hooks.post_fork(py)?;
                    application.clone_ref(py)
                }
                ApplicationSource::Path | ApplicationSource::Object(_) => {
                    app::prepare(py, spec)?;
                    hooks.post_fork(py)?;
                    let loaded = app::load(py, source, spec);
                    development::report_imports(py, spec);
                    let application = loaded?.unbind();
                    stacks.reinstall(py, &log);
                    application
                }
            };
            let application = if settings.debug {
                traceback_page::around(py, application)
                    .map_err(|error| app::not_booted(py, "Cannot set up --debug.", &error))?
            } else {
                application
            };
            interrupt::install(py, entry, &settings.call_limits, &log);
            let identity = (slot, generation);
            match Self::around(py, application, settings, identity, entry, log) {
                Ok(bridge) => Ok(Self { hooks, ..bridge }),
                Err(error) => Err(app::not_booted(py, "Cannot set up WSGI.", &error)),
            }
        })
    }

    /// Wraps an application of the program that owns this process. The interpreter stays as it is, with its
    /// `sys.path` and streams.
    pub fn inside(
        py: Python<'_>,
        application: Py<PyAny>,
        settings: &Settings,
        log: Log,
        caller: Rc<Caller>,
    ) -> PyResult<Self> {
        if let Some(problem) = asgi::problem(application.bind(py)) {
            let advice = asgi::advice(application.bind(py));
            return Err(PyTypeError::new_err(format!("wsgi_app {problem}. {advice}")));
        }
        let identity = (SlotId(0), Generation(1));
        let entry = WorkerEntry::detached();
        let mut bridge = Self::around(py, application, settings, identity, entry, log)?;
        bridge.reporter.set_caller(Rc::clone(&caller));
        bridge.caller = Some(caller);
        Ok(bridge)
    }

    /// Wraps a loaded application.
    fn around(
        py: Python<'_>,
        application: Py<PyAny>,
        settings: &Settings,
        (slot, generation): (SlotId, Generation),
        entry: &'static WorkerEntry,
        log: Log,
    ) -> PyResult<Self> {
        let log = Arc::new(log);
        let text = Arc::new(ErrorText::new(Arc::clone(&log)));
        let errors = Py::new(py, ErrorStream::new(Arc::clone(&text)))?;
        let timeout = Py::new(py, Timeout::new(entry, settings.call_limits.clone()))?;
        Ok(Self {
            application,
            environs: Environs::new(py, settings, slot.0, errors, timeout)?,
            ids: RequestIds::new(slot, generation, &settings.forwarding.proxies),
            latest: Latest::of(settings),
            responders: Responders::new(),
            context: Context::new(py)?,
            reporter: Reporter::new(log, text, entry),
            hooks: WorkerHooks::new(&Hooks::default(), slot, generation),
            django: None,
            caller: None,
            head: ResponseHead::default(),
        })
    }

    /// Runs the framework's own checks on the loaded application, and logs their warnings.
    ///
    /// Errors: as [`Bridge::boot`].
    pub fn check(&self, log: &Log) -> Result<(), BootFailure> {
        Python::attach(|py| django::check(py, self.application.bind(py), log))
    }

    /// Ends the interpreter's part of the worker: the hooks of `--worker-exit` run, threads finish, exit handlers
    /// run, and output is flushed.
    pub fn shutdown(self) {
        Python::attach(|py| {
            if let Err(failure) = self.hooks.exit(py) {
                self.reporter.hook_failed(&failure);
            }
            if let Err(error) = finalize::finalize(py, |names| self.reporter.awaits_threads(names))
            {
                self.reporter.signal_failed(py, &error);
            }
            self.reporter.end_call();
        });
    }

    /// Calls the application and builds its reply.
    fn answer(
        &mut self,
        py: Python<'_>,
        mut request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, ReplyBody>, AppError> {
        self.latest.clear();
        let (head, head_bytes, sequence) = (request.head, request.head_bytes, request.sequence);
        let (method, path) = (head.method.of(head_bytes), head.path.of(head_bytes));
        let prepared = self.environs.build(py, &mut request, &mut self.ids);
        let prepared = prepared.and_then(|made| Ok((made, self.responders.take(py)?)));
        let ((environ, ids), starter) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let label = RequestLabel::new(method, path, self.ids.text(sequence), None);
                return Err(self.reporter.report(py, &label, CallFailure::Raised(error)));
            }
        };
        let id = ffi::latin1_bytes(&ids.request).unwrap_or_default();
        self.reporter.begin_call(id, ids.trace.as_ref());
        self.latest.trace = ids.sampled;
        let label = || RequestLabel::new(method, path, id, ids.trace.as_ref());
        let (latest, kept) = (&mut self.latest, environ.clone());
        let responder = starter.responder.bind(py);
        let call = || {
            let start_response = starter.start_response.bind(py);
            let result = self.application.bind(py).call1((environ, start_response));
            self.reporter.leave_if_forked(py, label, result.as_ref().err());
            let result = result.map_err(|error| reply::raised(responder, error))?;
            let result = match self.caller {
                // bjoern accepts plain bytes, and programs written for it return them.
                Some(_) => reply::bytes_as_one_item(result)?,
                None => result,
            };
            reply::content(py, result, responder, label, &self.context, &self.reporter)
        };
        let owner = start_response::owner(responder);
        let call = || {
            let content = interrupt::allowed(call);
            latest.read(&kept);
            content
        };
        let content = self.context.run(py, || ffi::lend_outlet(outlet, owner, call));
        self.reporter.end_call();
        match content {
            Ok(content) => {
                let usage = match &content {
                    Content::Empty | Content::Whole(_) => ResponderUse::Finished,
                    Content::Stream(_) | Content::File(_) => {
                        // This fails only without memory; sharing the reply's context is the lesser evil.
                        if let Ok(fresh) = Context::new(py) {
                            self.context = fresh;
                        }
                        ResponderUse::Continues
                    }
                };
                self.responders.give_back(py, starter, &mut self.head, usage);
                Ok(Reply { head: &self.head, content })
            }
            Err(failure) => {
                let error = self.reporter.report(py, &label(), failure);
                self.responders.give_back(py, starter, &mut self.head, ResponderUse::Finished);
                Err(error)
            }
        }
    }
}

impl Application for Bridge {
    type Body = ReplyBody;

    fn call(
        &mut self,
        request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, ReplyBody>, AppError> {
        Python::attach(|py| self.answer(py, request, outlet))
    }

    fn body_memory(is_known: bool) -> Box<dyn BodyMemory> {
        // A bytes object cannot grow in place.
        if is_known { Box::new(ffi::BytesMemory::default()) } else { Box::new(Vec::new()) }
    }

    fn request_id<'a>(&'a mut self, request: &Request<'a>) -> Option<&'a [u8]> {
        Some(self.ids.of(request))
    }

    fn route(&self) -> Option<&str> {
        self.latest.route.get()
    }

    fn sampled_trace(&self) -> Option<NonZeroU128> {
        self.latest.trace
    }

    fn variables(&self, keep: &mut dyn FnMut(Option<&[u8]>)) {
        self.latest.variables.values().for_each(keep);
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        Python::attach(|py| py.detach(wait))
    }

    fn ready(&mut self) -> Result<(), String> {
        Python::attach(|py| self.hooks.ready(py)).map_err(|failure| failure.report())
    }

    fn has_shutdown_request(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.has_pending())
    }

    fn keep_failures(&mut self) {
        self.reporter.start_collecting();
        self.django = Python::attach(django::RequestExceptions::of_requests);
    }

    fn take_failures(&mut self) -> String {
        let caught = self.django.take().map(|django| Python::attach(|py| django.take(py)));
        self.reporter.take_collected() + &caught.unwrap_or_default()
    }

    fn run_signal_handlers(&mut self) -> ShutdownRequest {
        Python::attach(|py| {
            let raised = py.check_signals();
            if let Some(caller) = &self.caller {
                return caller.take_raised(raised);
            }
            // KeyboardInterrupt, or an exception from one of the application's signal handlers. It would end a
            // standalone program, but only the supervisor ends a worker.
            if let Err(error) = raised {
                self.reporter.signal_failed(py, &error);
            }
            ShutdownRequest::None
        })
    }
}

#[cfg(test)]
mod tests;
