mod cost;
pub(super) mod harness;

use std::fs::File;
use std::io::Read;
use std::sync::mpsc;

use pyo3::prelude::*;

use super::*;
use crate::application::RequestBody;
use crate::event_loop::readiness_check::{self, ReadinessFailure};
use crate::wsgi::tests::harness::{App, run};

const HELLO: &str = "def app(environ, start_response):
    start_response('200 OK', [])
    return [b'x']
";

#[test]
fn wsgi_errors_takes_only_str() {
    let mut app = App::new(
        "def app(environ, start_response):
    start_response('200 OK', [])
    try:
        environ['wsgi.errors'].write(b'x')
    except TypeError:
        return [b'refused']
",
    );
    assert_eq!(app.get().unwrap().items, [b"refused"]);
}

#[test]
fn other_threads_run_while_the_bridge_waits_unlocked() {
    let app = App::new(HELLO);
    Python::attach(|_| {
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn(move || Python::attach(|_| sender.send(()).unwrap()));
        // This would wait forever with the lock held.
        app.bridge.unlocked(move || receiver.recv().unwrap());
        other.join().unwrap();
    });
}

#[test]
fn exit_handlers_run_and_output_is_flushed_in_that_order() {
    Python::initialize();
    let (reader, writer) = std::io::pipe().unwrap();
    let pid = Python::attach(|py| {
        let names = run(
            py,
            &format!(
                "import atexit, os, sys
pid = os.fork()
if pid == 0:
    atexit._clear()
    # The test's thread is none of Python's, and those of other tests are not in this process.
    sys.modules.pop('threading', None)
    sys.stdout = os.fdopen({}, 'w')
    atexit.register(print, 'bye')
",
                std::os::fd::AsRawFd::as_raw_fd(&writer)
            ),
        );
        let pid: i32 = names.bind(py).get_item("pid").unwrap().unwrap().extract().unwrap();
        if pid == 0 {
            let code = if finalize::finalize(py, |_| {}).is_ok() { 0 } else { 1 };
            py.import("os").unwrap().call_method1("_exit", (code,)).unwrap();
        }
        pid
    });
    drop(writer);
    let mut printed = String::new();
    File::from(std::os::fd::OwnedFd::from(reader)).read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "bye\n");
    let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(nix::unistd::Pid::from_raw(pid), 0));
}

#[test]
fn a_readiness_check_is_a_plain_request_to_the_first_listener() {
    let mut app = App::new(
        "seen, closed = [], []
class Items:
    def __iter__(self): return iter([b'a', b'', b'b'])
    def close(self): closed.append(True)
def app(environ, start_response):
    if environ['PATH_INFO'] == '/raise':
        1 / 0
    for key in ('REQUEST_METHOD', 'PATH_INFO', 'QUERY_STRING', 'REMOTE_ADDR', 'SERVER_NAME',
                'SERVER_PORT', 'HTTP_HOST', 'HTTP_USER_AGENT'):
        seen.append(environ[key])
    start_response('200 OK', [])
    return Items()
",
    );
    let (settings, local) = (Settings::default(), app.conn.local.clone());
    let mut rehearse = |path| {
        let now = std::time::Instant::now();
        readiness_check::run(&mut app.bridge, &settings, path, local.clone(), now)
    };
    assert_eq!(rehearse("/health?a=1"), Ok(()));
    assert_eq!(rehearse("/raise"), Err(ReadinessFailure::Failed(AppError::Raised)));
    assert_eq!(
        app.value("seen"),
        "['GET', '/health', 'a=1', '', '192.0.2.1', '8000', 'localhost', 'arctos-reload-check']"
    );
    assert_eq!(app.value("closed"), "[True]");
    assert!(app.logged().contains("ZeroDivisionError: division by zero"));
}

#[test]
fn failures_are_collected_instead_of_logged_during_a_check() {
    let mut app = App::new(
        "class Closes(list):
    def close(self): raise KeyError('close')
def app(environ, start_response):
    environ['wsgi.errors'].write('written\\n')
    if environ['PATH_INFO'] == '/raise':
        raise ValueError('on purpose')
    start_response('200 OK', [])
    return Closes([b'a', b'b'])
",
    );
    app.bridge.keep_failures();
    assert_eq!(app.text("/", ""), "ab");
    let head = b"GET /raise HTTP/1.1\r\nHost: a\r\n\r\n";
    app.send(head, RequestBody::Empty).unwrap_err();
    let kept = app.bridge.take_failures();
    let logged = app.logged();
    for (words, is_logged) in
        [("written", true), ("KeyError: 'close'", true), ("on purpose", false)]
    {
        assert!(kept.contains(words), "{words}: {kept}");
        assert_eq!(logged.contains(words), is_logged, "{words}: {logged}");
    }
    app.send(head, RequestBody::Empty).unwrap_err();
    assert!(app.logged().contains("on purpose"));
    assert_eq!(app.bridge.take_failures(), "");
}
