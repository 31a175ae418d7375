//! A worker that has run out of file descriptors.
//!
//! The limit holds for a whole process and would make the tests beside this one fail, so the test starts
//! this program once more, to run nothing else.

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Command;

use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::Counter;
use arctos_worker::worker::WorkerExit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::ok::{GET, OkApplication, is_answered};
use crate::support::server::{PATIENCE, Server};

/// Set in the process that runs only this test.
const ALONE: &str = "ARCTOS_TEST_ALONE";

/// Runs one test of this program in a process of its own.
fn run_alone(name: &str) {
    let output = Command::new(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("this program starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Without the count, a name that matches no test would pass.
    let has_passed = output.status.success() && stdout.contains(" 1 passed;");
    assert!(has_passed, "{}\n{stdout}\n{stderr}", output.status);
}

#[test]
fn a_worker_without_free_descriptors_evicts_the_longest_idle_connection() {
    if std::env::var_os(ALONE).is_none() {
        let name =
            "descriptors::a_worker_without_free_descriptors_evicts_the_longest_idle_connection";
        return run_alone(name);
    }
    let server = Server::start(Settings::default(), OkApplication::default);
    let mut idle = [server.connect(), server.connect()];
    for client in &mut idle {
        assert!(is_answered(client, GET));
    }
    let new = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    new.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("RLIMIT_NOFILE");
    let mut others = vec![File::open("/dev/null").expect("/dev/null")];
    let highest = others[0].as_raw_fd() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, highest.max(64) + 1, hard).expect("a lower limit");
    while let Ok(other) = File::open("/dev/null") {
        others.push(other);
    }
    let address = idle[0].peer_addr().expect("the server's");
    new.connect(&SockAddr::from(address)).expect("the backlog has room");
    let mut new = TcpStream::from(new);
    assert!(is_answered(&mut new, GET));
    assert_eq!(
        idle[0].read(&mut [0]).expect("an orderly close"),
        0,
        "it was idle for the longest time"
    );
    assert!(is_answered(&mut idle[1], GET), "one eviction is enough");
    assert_eq!(server.entry().counters.get(Counter::ConnAcceptError), 1);
    drop((others, idle, new));
    assert_eq!(server.stop(), WorkerExit::Done);
}
