use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;
use crate::wsgi::tests::harness::run;

/// How a child ends that runs this source and comes back to code of the server's.
fn status_of(source: &str) -> i32 {
    Python::initialize();
    Python::attach(|py| {
        let indented = source.replace('\n', "\n        ");
        let names = run(
            py,
            &format!(
                "import atexit, os, sys, threading, time
pid = 0
def call():
    global pid
    pid = os.fork()
    if pid == 0:
        sys.stderr = open(os.devnull, 'w')
        {indented}
"
            ),
        );
        let call = names.bind(py).get_item("call").unwrap().unwrap();
        alone(py, || call.call0().map(drop)).unwrap();
        let pid: i32 = names.bind(py).get_item("pid").unwrap().unwrap().extract().unwrap();
        let ended = waitpid(Pid::from_raw(pid), None);
        let Ok(WaitStatus::Exited(_, code)) = ended else { panic!("{ended:?}") };
        code
    })
}

#[test]
fn a_child_that_returns_ends_with_0() {
    assert_eq!(status_of("pass"), 0);
}

#[test]
fn the_status_of_system_exit_is_the_childs_as_in_a_program_of_its_own() {
    for (code, status) in [
        ("", 0),
        ("None", 0),
        ("0", 0),
        ("7", 7),
        ("True", 1),
        ("256", 0),
        ("-1", 255),
        ("2**80", 255),
        ("'no such job'", 1),
        ("(1, 2)", 1),
    ] {
        assert_eq!(status_of(&format!("sys.exit({code})")), status, "{code}");
    }
}

#[test]
fn any_other_exception_ends_the_child_with_1() {
    assert_eq!(status_of("1 / 0"), 1);
    assert_eq!(status_of("raise KeyboardInterrupt"), 1);
}

#[test]
fn the_threads_of_a_child_finish_and_the_workers_exit_handlers_do_not_run() {
    let work = "atexit.register(os._exit, 9)
threading.Thread(target=lambda: (time.sleep(0.1), os._exit(5))).start()";
    assert_eq!(status_of(work), 5);
    assert_eq!(status_of("atexit.register(os._exit, 9)"), 0);
}
