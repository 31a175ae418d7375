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

/// A worker that is told to leave from the start: how it ended, what it said, and its entry.
fn lived(status: &'static [u8], check: Option<&str>) -> (WorkerExit, String, &'static WorkerEntry) {
    lived_as(App { status, head: ResponseHead::default(), ready: Ok(()) }, check)
}

fn lived_as(mut app: App, check: Option<&str>) -> (WorkerExit, String, &'static WorkerEntry) {
    let (mut supervisor, life) = UnixStream::pair().unwrap();
    let (mut init, doorbell) = stage::init(OwnedFd::from(life));
    let entry = init.entry;
    entry.set_command(Command::Drain);
    doorbell.write(1).unwrap();
    init.settings.reload_check = check.map(str::to_owned);
    let exit = run(init, &mut app);
    let mut said = String::new();
    supervisor.read_to_string(&mut said).unwrap();
    (exit, said, entry)
}

#[test]
fn a_worker_whose_check_is_answered_is_ready() {
    for check in [None, Some("/health")] {
        let (exit, said, entry) = lived(b"200 OK", check);
        assert_eq!((exit, said.as_str(), entry.is_ready()), (WorkerExit::Done, "R", true));
    }
}

#[test]
fn a_worker_whose_check_fails_is_never_ready_and_says_why() {
    let (exit, said, entry) = lived(b"503 Not yet", Some("/health"));
    assert_eq!((exit, entry.is_ready()), (WorkerExit::NotBooted, false));
    assert_eq!(said, "F--reload-check: GET /health was answered 503 Service Unavailable.\n");
    assert!(Counter::ALL.into_iter().all(|counter| entry.counters.get(counter) == 0));
}

#[test]
fn a_worker_whose_application_is_not_ready_after_all_says_why() {
    let ready = Err("its hook failed\n");
    let app = App { status: b"200 OK", head: ResponseHead::default(), ready };
    let (exit, said, entry) = lived_as(app, Some("/health"));
    assert_eq!((exit, entry.is_ready()), (WorkerExit::NotBooted, false));
    assert_eq!(said, "Fits hook failed\n");
}

#[test]
fn a_worker_that_has_left_its_loop_says_so_because_exit_hooks_follow() {
    let (_, _, entry) = lived(b"200 OK", None);
    assert!(entry.exit_start().is_some());
}
