//! One worker of arctos: a single-threaded process that accepts, parses, calls the application and
//! answers.
//!
//! Import rule: `worker -> event_loop -> connection -> http, metrics`; `wsgi -> application, http,
//! spool`. `http/*`, [`connection`] and [`deadlines`] are pure: bytes and `now` come in, values go
//! out. `wsgi`, behind the feature `python`, is the only folder here that names pyo3.
pub mod access;
pub mod application;
pub mod channel;
pub mod clock;
pub mod companion;
pub mod connection;
pub mod deadlines;
pub mod drive;
pub mod event_loop;
pub mod fd;
pub mod fork_guard;
mod hard_end;
pub mod http;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod outbox;
pub mod poller;
pub mod post;
pub mod rehearsal;
pub mod settings;
pub mod signals;
pub mod spool;
pub mod supervisor_process;
pub mod table;
pub mod worker;

#[cfg(feature = "python")]
pub mod wsgi;
