use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::application::{AppBody, AppError, Content, Outlet, Reply, Request};
use crate::http::ResponseHead;
use crate::shared::scoreboard::{Command, Counter, WorkerEntry};
use crate::worker_init::stage;

/// Answers every request with this status.
struct App {
    status: &'static [u8],
    head: ResponseHead,
    ready: Result<(), &'static str>,
}

struct Nothing;

impl AppBody for Nothing {
    type Chunk = Vec<u8>;

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
        Ok(None)
    }

    fn close(self) {}
}

impl Application for App {
    type Body = Nothing;

    fn call(
        &mut self,
        _request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Nothing>, AppError> {
        self.head.start(self.status).map_err(|_| AppError::Invalid)?;
        Ok(Reply { head: &self.head, content: Content::Empty })
    }

    fn ready(&mut self) -> Result<(), String> {
        self.ready.map_err(str::to_owned)
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

/// Runs a worker that has to drain from the start. Returns how it ended, what it sent, and its entry.
fn run_worker(
    status: &'static [u8],
    check: Option<&str>,
) -> (WorkerExit, String, &'static WorkerEntry) {
    run_app(App { status, head: ResponseHead::default(), ready: Ok(()) }, check)
}

fn run_app(mut app: App, check: Option<&str>) -> (WorkerExit, String, &'static WorkerEntry) {
    let (mut supervisor, control) = UnixStream::pair().unwrap();
    let (mut init, doorbell) = stage::init(OwnedFd::from(control));
    let entry = init.entry;
    entry.set_command(Command::Drain);
    doorbell.write(1).unwrap();
    init.settings.reload_check = check.map(str::to_owned);
    let exit = run(init, &mut app);
    let mut sent = String::new();
    supervisor.read_to_string(&mut sent).unwrap();
    (exit, sent, entry)
}

#[test]
fn a_worker_whose_readiness_check_is_answered_is_ready() {
    for check in [None, Some("/health")] {
        let (exit, sent, entry) = run_worker(b"200 OK", check);
        assert_eq!((exit, sent.as_str(), entry.is_ready()), (WorkerExit::Done, "R", true));
    }
}

#[test]
fn a_worker_whose_readiness_check_fails_reports_why() {
    let (exit, sent, entry) = run_worker(b"503 Not yet", Some("/health"));
    assert_eq!((exit, entry.is_ready()), (WorkerExit::NotBooted, false));
    assert_eq!(sent, "F--reload-check: GET /health was answered 503 Service Unavailable.\n");
    assert!(Counter::ALL.into_iter().all(|counter| entry.counters.get(counter) == 0));
}

#[test]
fn a_worker_whose_application_is_not_ready_reports_why() {
    let ready = Err("its hook failed\n");
    let app = App { status: b"200 OK", head: ResponseHead::default(), ready };
    let (exit, sent, entry) = run_app(app, Some("/health"));
    assert_eq!((exit, entry.is_ready()), (WorkerExit::NotBooted, false));
    assert_eq!(sent, "Fits hook failed\n");
}

#[test]
fn a_worker_that_left_its_loop_says_so_on_the_scoreboard() {
    let (_, _, entry) = run_worker(b"200 OK", None);
    assert!(entry.exit_start().is_some());
}
