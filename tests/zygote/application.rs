//! The application's side: what a zygote loads, and the workers that play with it.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use arctos::process::launch::{Launch, Preloaded};
use arctos::process::sigaction::{Disposition, set_disposition};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::Command;
use arctos_worker::worker_init::{BootFailure, LIFE_READY, WorkerExit, WorkerInit};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, getpgrp, read, write};

use crate::GATE;
use crate::process::open_count;
use crate::supervisor::INHERITED;

/// Loads a role.
pub(crate) struct Actor {
    role: String,
    log: Log,
}

impl Actor {
    pub(crate) fn new(role: &str, log: &Log) -> Self {
        Self { role: role.to_owned(), log: log.clone() }
    }
}

impl Launch for Actor {
    fn work(&self, _post: WorkerInit) -> WorkerExit {
        WorkerExit::Internal // There is no worker but those of the zygote.
    }

    fn preload(
        &self,
        _generation: Generation,
        _log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, BootFailure> {
        let loaded_by = std::process::id();
        let mut loaded = Loaded { role: &self.role, log: &self.log, loaded_by, open: None };
        match self.role.as_str() {
            "not importable" => {
                let report = "Traceback: no such module\n".to_owned();
                return Err(BootFailure::not_importable(report));
            }
            "aborts" => raise(Signal::SIGABRT).unwrap(),
            "exits" => std::process::exit(7),
            "panics" => panic!("the stage is on fire"),
            "loads slowly" => {
                self.log.line(Level::Info, "actor.loads", &[]);
                // fifo(7): it waits here until somebody opens the other end.
                drop(File::open(std::env::var_os(GATE).unwrap()).unwrap());
            }
            "threaded" => {
                for _ in 0..2 {
                    let stray = std::thread::Builder::new().name("stray".into());
                    let (named, is_named) = std::sync::mpsc::channel();
                    let wait = move || {
                        named.send(()).unwrap();
                        std::thread::park();
                    };
                    stray.spawn(wait).unwrap();
                    is_named.recv().unwrap(); // It names itself before it runs.
                }
            }
            "connected" => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                loaded.open = Some((listener, stream));
            }
            // Never closed: it is the application's.
            "introspective" => std::mem::forget(File::open("/dev/null").unwrap()),
            "ignores usr2" => set_disposition(Signal::SIGUSR2, Disposition::Ignore).unwrap(),
            _ => {}
        }
        Ok(Box::new(loaded))
    }
}

struct Loaded<'a> {
    role: &'a str,
    log: &'a Log,
    loaded_by: u32,
    open: Option<(TcpListener, TcpStream)>,
}

impl Preloaded for Loaded<'_> {
    fn before_fork(&self, slot: SlotId) {
        if self.role == "prepares" {
            let pairs = [
                ("in_zygote", Value::Number(i64::from(std::process::id() == self.loaded_by))),
                ("for_slot", Value::Number(i64::from(slot.0))),
            ];
            self.log.line(Level::Info, "actor.prepares", &pairs);
        }
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        let number = |number: u32| Value::Number(i64::from(number));
        let pairs = [("loaded_by", number(self.loaded_by)), ("end", Value::Text(""))];
        init.log.line(Level::Info, "actor.plays", &pairs);
        init.entry.occupy(std::process::id());
        match self.role {
            "introspective" => introspect(&init),
            "panics later" => panic!("the stage gives way"),
            "ignores usr2" => {
                let ignores = i64::from(has_signal("SigIgn:", Signal::SIGUSR2));
                init.log.line(Level::Info, "actor.ignores", &[("usr2", Value::Number(ignores))]);
            }
            "connected" => {
                let (listener, stream) = self.open.as_ref().unwrap();
                assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
                init.log.line(Level::Info, "actor.connected", &[]);
            }
            _ => {}
        }
        init.entry.set_ready();
        let _ = write(&init.life, &[LIFE_READY]); // Without a supervisor it ends below.
        if self.role == "leaves at once" {
            return WorkerExit::Done;
        }
        loop {
            let mut fds = [
                PollFd::new(init.life.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.doorbell.as_fd(), PollFlags::POLLIN),
            ];
            let _ = poll(&mut fds, PollTimeout::NONE); // EINTR: nothing of ours.
            if read(&init.life, &mut [0; 8]) == Ok(0) {
                init.log.line(Level::Info, "actor.orphaned", &[]);
                return WorkerExit::Done;
            }
            let _ = read(&init.doorbell, &mut [0; 8]); // EAGAIN: it was the other one.
            match init.entry.command() {
                Command::Serve | Command::Announce => {}
                Command::Drain | Command::Quick => return WorkerExit::Done,
            }
        }
    }
}

/// Logs what this worker was given, and what it was not.
fn introspect(init: &WorkerInit) {
    let given = [&init.life, &init.doorbell, &init.listeners[0].socket];
    let access_log = usize::from(init.access_log.is_some());
    let own = given.len() + access_log + usize::from(init.log.as_fd().is_some());
    let own = own + usize::from(init.supervisor.as_fd().is_some());
    let own = own + 1; // The pipe for its stacks.
    let open = open_count() - INHERITED.get().unwrap();
    let is_nonblocking = |fd: &&&std::os::fd::OwnedFd| {
        let flags = fcntl(fd.as_fd(), FcntlArg::F_GETFL).unwrap();
        OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
    };
    let nonblocking = given.iter().filter(is_nonblocking).count();
    // All are closed when the application runs a program.
    for fd in given.map(AsRawFd::as_raw_fd) {
        let flags = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        assert_ne!(u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000, 0, "{flags}");
    }
    let count = |key, signals: &[Signal]| {
        signals.iter().filter(|&&signal| has_signal(key, signal)).count() as i64
    };
    let caught = count("SigCgt:", &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    let ignored = count("SigIgn:", &[Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2]);
    let blocked = Signal::iterator().filter(|&signal| has_signal("SigBlk:", signal)).count();
    let title = fs::read_to_string("/proc/self/comm").unwrap();
    let pairs = [
        ("excess", Value::Number(open as i64 - own as i64)),
        ("nonblocking", Value::Number(nonblocking as i64)),
        ("caught", Value::Number(caught)),
        ("ignored", Value::Number(ignored)),
        ("blocked", Value::Number(blocked as i64)),
        ("leads_group", Value::Number(i64::from(getpgrp() == Pid::this()))),
        ("notify", Value::Number(i64::from(std::env::var_os("NOTIFY_SOCKET").is_some()))),
        ("title", Value::Text(title.trim_end())),
    ];
    init.log.line(Level::Info, "actor.found", &pairs);
}

/// Whether a set of signals in /proc/PID/status has this one.
fn has_signal(key: &str, signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() >> (signal as i32 - 1) & 1 == 1
}
