//! The application's side: what a zygote loads, and the workers that play with it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};

use arctos::process::launch::{Launch, Preloaded};
use arctos::process::sigaction::{Disposition, set_disposition};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::worker_init::{BootFailure, LIFE_READY, WorkerExit, WorkerInit};
use nix::sys::signal::{Signal, raise};
use nix::unistd::write;

use crate::GATE;
use crate::test_worker::{self, is_ignored, log_inheritance};

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
            "introspective" => log_inheritance(&init),
            "panics later" => panic!("the stage gives way"),
            "ignores usr2" => {
                let ignores = i64::from(is_ignored(Signal::SIGUSR2));
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
        test_worker::serve(&init, false)
    }
}
