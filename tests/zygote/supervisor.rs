//! A small supervisor that carries out the commands on its standard input and logs what happens.

use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arctos::config::Privileges;
use arctos::monitor::children::{Child, ControlSocket, Word};
use arctos::process::fork::ChildSetup;
use arctos::process::fork::wait::{is_child, reap};
use arctos::process::privileges::Identity;
use arctos::process::signals::Signals;
use arctos::process::title::zygote_title;
use arctos::process::zygote::{
    Parentage, SpawnFailure, SpawnOrder, Zygote, ZygoteEvent, ZygoteInit, adopt_orphans,
};
use arctos::supervisor::slot::ExitStatus;
use arctos::system::descriptors::OwnDescriptors;
use arctos::system::pid::Pid;
use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::settings::Settings;
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, LogFormat, Value};
use arctos_worker::shared::scoreboard::{Command, Scoreboard, Side};
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker_init::{Listener, Owner};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};

use crate::LIMIT;
use crate::application::TestApplication;
use crate::test_worker::count_inherited_descriptors;

const GENERATION: Generation = Generation(3);

struct TestSupervisor {
    log: Log,
    scoreboard: Scoreboard,
    socket: TcpListener,
    zygote: Option<Zygote>,
    /// Our ends of the control sockets of workers that were ordered but have not started.
    ordered: Vec<(SlotId, Side, ControlSocket)>,
    children: Vec<Child>,
    /// The child that we reaped last.
    reaped: Option<Pid>,
}

/// Runs a supervisor until its standard input ends.
pub(crate) fn run(role: &str) {
    count_inherited_descriptors();
    let stderr = io::stderr().as_fd().try_clone_to_owned().unwrap();
    let log = Log::new(Level::Debug, LogFormat::Text, stderr);
    let signals = Signals::install().unwrap();
    let scoreboard = Scoreboard::create(8).unwrap();
    adopt_orphans().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let identity = Identity::resolve(&privileges()).unwrap();
    let title = zygote_title("test");
    let mut own = OwnDescriptors::default();
    own.add(&signals);
    own.add(&socket);
    own.add(scoreboard.as_fd());
    let setup = ChildSetup { signals: &signals, identity: &identity, title, own };
    let init = ZygoteInit {
        series: None,
        request_keys: None,
        connection_tables: &[],
        generation: GENERATION,
        name: "test",
        settings: &Settings::default(),
        tls: None,
        log: &log,
        scoreboard: &scoreboard,
        supervisor: &Arc::new(SupervisorProcess::this()),
    };
    let application = TestApplication::new(role, &log);
    let patience = Duration::from_secs(60);
    let zygote = Zygote::start(&application, &init, &setup, patience, Instant::now()).unwrap();
    let (ordered, children) = (Vec::new(), Vec::new());
    TestSupervisor {
        log,
        scoreboard,
        socket,
        zygote: Some(zygote),
        ordered,
        children,
        reaped: None,
    }
    .serve(&signals);
}

/// Returns the user that the zygote runs as, and sets the process limit that this user inherits from us.
fn privileges() -> Privileges {
    let Ok(words) = std::env::var(LIMIT) else {
        return Privileges::default();
    };
    let (user, processes) = words.split_once(' ').unwrap();
    setrlimit(Resource::RLIMIT_NPROC, processes.parse().unwrap(), 100).unwrap();
    let user: u32 = user.parse().unwrap();
    Privileges {
        user: Some(Uid::from_raw(user)),
        group: Some(Gid::from_raw(user)),
        ..Privileges::default()
    }
}

impl TestSupervisor {
    fn serve(mut self, signals: &Signals) {
        let mut input = String::new();
        let stdin = io::stdin();
        loop {
            let mut fds = vec![
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            let controls = self.children.iter().filter_map(Child::awaited);
            let zygote = self.zygote.as_ref().and_then(Zygote::poll_fd);
            fds.extend(controls.chain(zygote).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let deadline = self.zygote.as_ref().and_then(Zygote::next_deadline);
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let ms = left.and_then(|left| i32::try_from(left.as_millis() + 1).ok());
            let timeout = ms.and_then(|ms| PollTimeout::try_from(ms).ok());
            // EINTR: the signal also makes its descriptor readable.
            let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE));
            let is_input = fds[1].any() == Some(true);
            signals.take();
            if is_input {
                let mut bytes = [0; 4096];
                let count = stdin.lock().read(&mut bytes).unwrap();
                if count == 0 {
                    return;
                }
                input.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
                while let Some((line, rest)) = input.split_once('\n') {
                    if line == "quit" {
                        return;
                    }
                    self.carry_out(line);
                    input = rest.to_owned();
                }
            }
            self.poll_zygote();
            for index in 0..self.children.len() {
                self.poll_child(index);
            }
            while let Some((pid, status)) = reap() {
                self.reap(pid, status);
            }
        }
    }

    fn carry_out(&mut self, line: &str) {
        let (verb, object) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "spawn" => self.spawn(SlotId(object.parse().unwrap())),
            "end" => {
                let events = self
                    .zygote
                    .as_mut()
                    .unwrap()
                    .shut_down(Duration::from_secs(60), Instant::now());
                self.handle(events);
            }
            "drain" => {
                let slot = SlotId(object.parse().unwrap());
                let child = self.children.iter().find(|child| child.slot == slot).unwrap();
                child.command(Command::Drain).unwrap();
            }
            _ => self.log.line(Level::Info, "test.echo", &[("word", Value::Text(object))]),
        }
    }

    fn spawn(&mut self, slot: SlotId) {
        let side = Side::A;
        let entry = self.scoreboard.entry(slot, side).unwrap();
        entry.assign(GENERATION);
        let (control, control_fd, doorbell) = ControlSocket::open(entry).unwrap();
        self.ordered.push((slot, side, control));
        let socket = OwnedFd::from(self.socket.try_clone().unwrap());
        let name = SocketName::Inet(self.socket.local_addr().unwrap());
        let listeners = vec![Listener { socket, name, owner: Owner::Outside }];
        let access_log = Some(io::stdout().as_fd().try_clone_to_owned().unwrap());
        let order =
            SpawnOrder { slot, side, control_fd, doorbell, listeners, access_log, group: None };
        let events = match &mut self.zygote {
            Some(zygote) => zygote.spawn(order, Instant::now()),
            None => vec![ZygoteEvent::SpawnFailed { slot, side, cause: SpawnFailure::Gone }],
        };
        self.handle(events);
    }

    fn poll_zygote(&mut self) {
        let mut zygote = self.zygote.take();
        let parentage = |pid| self.parentage(pid);
        let events = zygote.as_mut().map(|zygote| zygote.receive(&parentage, Instant::now()));
        self.zygote = zygote;
        self.handle(events.unwrap_or_default());
    }

    fn parentage(&self, pid: Pid) -> Parentage {
        match self.reaped == Some(pid) || is_child(pid) {
            true => Parentage::OurChild,
            false => Parentage::NotYetOurs,
        }
    }

    fn handle(&mut self, events: Vec<ZygoteEvent>) {
        for event in events {
            let pid = self.zygote.as_ref().map_or(Pid(0), Zygote::pid);
            event.log(&self.log, pid, GENERATION);
            match event {
                ZygoteEvent::Started { slot, side, pid } => {
                    let control = self.take_ordered(slot, side);
                    self.children.push(Child::new(pid, slot, control, Instant::now()));
                    self.log_event("test.worker_started", pid, slot);
                }
                ZygoteEvent::SpawnFailed { slot, side, cause } => {
                    drop(self.take_ordered(slot, side));
                    if cause == SpawnFailure::Withdrawn {
                        self.log_event("test.order_withdrawn", Pid(0), slot);
                    }
                }
                ZygoteEvent::Ready { .. }
                | ZygoteEvent::Failed { .. }
                | ZygoteEvent::Killed { .. }
                | ZygoteEvent::Distrusted { .. }
                | ZygoteEvent::NotReady { .. }
                | ZygoteEvent::Ended { .. } => {}
            }
        }
    }

    fn take_ordered(&mut self, slot: SlotId, side: Side) -> ControlSocket {
        let is_its = |of: &(SlotId, Side, ControlSocket)| (of.0, of.1) == (slot, side);
        self.ordered.remove(self.ordered.iter().position(is_its).unwrap()).2
    }

    fn poll_child(&mut self, index: usize) {
        let child = &mut self.children[index];
        let (pid, slot) = (child.pid, child.slot);
        if child.listen() == Some(Word::Ready) {
            self.log_event("test.worker_ready", pid, slot);
        }
    }

    fn reap(&mut self, pid: Pid, status: ExitStatus) {
        if self.zygote.as_ref().is_some_and(|zygote| zygote.pid() == pid) {
            let mut zygote = self.zygote.take().unwrap();
            let events = zygote.exited(status, &|pid| self.parentage(pid), Instant::now());
            self.handle(events);
            return;
        }
        self.reaped = Some(pid);
        self.poll_zygote(); // The zygote may not have reported this worker before.
        let pairs = [("pid", Value::Number(i64::from(pid.0))), ("status", Value::Display(&status))];
        let Some(index) = self.children.iter().position(|child| child.pid == pid) else {
            return self.log.line(Level::Info, "test.orphan_reaped", &pairs);
        };
        self.poll_child(index);
        self.children.swap_remove(index);
        self.log.line(Level::Info, "test.worker_reaped", &pairs);
    }

    fn log_event(&self, event: &str, pid: Pid, slot: SlotId) {
        let pairs = [
            ("pid", Value::Number(i64::from(pid.0))),
            ("slot", Value::Number(i64::from(slot.0))),
            ("end", Value::Text("")),
        ];
        self.log.line(Level::Info, event, &pairs);
    }
}
