//! The application that the zygote loads, and its workers.

use std::fs::File;
use std::net::{TcpListener, TcpStream};

use arctos::process::launch::{Launch, Preloaded};
use arctos::process::sigaction::{Disposition, set_disposition};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::worker_init::{BootFailure, CONTROL_READY, WorkerExit, WorkerInit};
use nix::sys::signal::{Signal, raise};
use nix::unistd::write;

use crate::GATE;
use crate::test_worker::{self, is_ignored, log_inheritance};

/// An application that plays the given role.
pub(crate) struct TestApplication {
    role: String,
    log: Log,
}

impl TestApplication {
    pub(crate) fn new(role: &str, log: &Log) -> Self {
        Self { role: role.to_owned(), log: log.clone() }
    }
}

impl Launch for TestApplication {
    fn work(&self, _post: WorkerInit) -> WorkerExit {
        WorkerExit::Internal // All workers are forked by the zygote.
    }

    fn preload(
        &self,
        _generation: Generation,
        _log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, BootFailure> {
        let loaded_by = std::process::id();
        let mut loaded = Loaded { role: &self.role, log: &self.log, loaded_by, open: None };
        match self.role.as_str() {
            "import fails" => {
                let report = "Traceback: no such module\n".to_owned();
                return Err(BootFailure::not_importable(report));
            }
            "import aborts" => raise(Signal::SIGABRT).unwrap(),
            "import exits" => std::process::exit(7),
            "import panics" => panic!("deliberate panic at boot"),
            "loads slowly" => {
                self.log.line(Level::Info, "app.loading", &[]);
                // Opening a FIFO waits until the test opens its other end (fifo(7)).
                drop(File::open(std::env::var_os(GATE).unwrap()).unwrap());
            }
            "has threads" => {
                for _ in 0..2 {
                    let stray = std::thread::Builder::new().name("stray".into());
                    let (named, is_named) = std::sync::mpsc::channel();
                    let wait = move || {
                        named.send(()).unwrap();
                        std::thread::park();
                    };
                    stray.spawn(wait).unwrap();
                    is_named.recv().unwrap(); // A thread sets its name before it runs the closure.
                }
            }
            "has sockets" => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                loaded.open = Some((listener, stream));
            }
            // The application never closes this file.
            "logs its inheritance" => std::mem::forget(File::open("/dev/null").unwrap()),
            "ignores SIGUSR2" => set_disposition(Signal::SIGUSR2, Disposition::Ignore).unwrap(),
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
        if self.role == "has before_fork" {
            let pairs = [
                ("in_zygote", Value::Number(i64::from(std::process::id() == self.loaded_by))),
                ("for_slot", Value::Number(i64::from(slot.0))),
            ];
            self.log.line(Level::Info, "app.before_fork", &pairs);
        }
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        let number = |number: u32| Value::Number(i64::from(number));
        let pairs = [("loaded_by", number(self.loaded_by)), ("end", Value::Text(""))];
        init.log.line(Level::Info, "app.working", &pairs);
        init.entry.occupy(std::process::id());
        match self.role {
            "logs its inheritance" => log_inheritance(&init),
            "panics" => panic!("deliberate panic"),
            "ignores SIGUSR2" => {
                let ignores = i64::from(is_ignored(Signal::SIGUSR2));
                init.log.line(Level::Info, "app.ignores", &[("usr2", Value::Number(ignores))]);
            }
            "has sockets" => {
                let (listener, stream) = self.open.as_ref().unwrap();
                assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
                init.log.line(Level::Info, "app.connected", &[]);
            }
            _ => {}
        }
        init.entry.set_ready();
        // EPIPE: the supervisor is gone, which the loop notices.
        let _ = write(&init.control_fd, &[CONTROL_READY]);
        if self.role == "exits at once" {
            return WorkerExit::Done;
        }
        test_worker::serve(&init, false)
    }
}
