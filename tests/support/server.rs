//! A worker on a thread of the test's process, which runs an application in plain Rust.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arctos_worker::application::Application;
use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::settings::Settings;
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::shared::samples::SampleArea;
use arctos_worker::shared::scoreboard::{Command, Scoreboard, Side, WorkerEntry};
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker::{self, CONTROL_READY, Listener, Owner, WorkerExit, WorkerInit};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Time limit for an event that must happen at once, so that a test fails rather than hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running worker.
pub(crate) struct Server {
    address: SocketAddr,
    entry: &'static WorkerEntry,
    doorbell: EventFd,
    /// The supervisor's end: closing it tells the worker that the supervisor is gone.
    _control: UnixStream,
    thread: JoinHandle<WorkerExit>,
}

impl Server {
    /// Starts a worker and waits until it reports that it is ready.
    pub(crate) fn start<A: Application>(
        settings: Settings,
        application: impl FnOnce() -> A + Send + 'static,
    ) -> Self {
        Self::start_logging(settings, None, application)
    }

    /// Starts a worker that has an access log, and waits until it reports that it is ready.
    pub(crate) fn start_logging<A: Application>(
        settings: Settings,
        access_log: Option<OwnedFd>,
        application: impl FnOnce() -> A + Send + 'static,
    ) -> Self {
        let scoreboard = Scoreboard::create(1).expect("a scoreboard");
        let header = scoreboard.header();
        let entry = scoreboard.entry(SlotId(0), Side::A).expect("slot 0");
        entry.assign(Generation(1));
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("non-blocking");
        let address = socket.local_addr().expect("an address");
        let (mut control, workers_end) = UnixStream::pair().expect("a pair");
        workers_end.set_nonblocking(true).expect("non-blocking");
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let doorbell = EventFd::from_value_and_flags(0, flags).expect("an eventfd");
        let workers_doorbell = doorbell.as_fd().try_clone_to_owned().expect("a duplicate");
        let thread = thread::spawn(move || {
            let init = WorkerInit {
                group: None,
                request_keys: None,
                slot: SlotId(0),
                generation: Generation(1),
                entry,
                header,
                samples: SampleArea::detached(),
                control_fd: OwnedFd::from(workers_end),
                doorbell: workers_doorbell,
                listeners: vec![Listener {
                    owner: Owner::Supervisor,
                    socket: OwnedFd::from(socket),
                    name: SocketName::Inet(address),
                }],
                settings,
                log: Log::discard(),
                access_log,
                supervisor: Arc::new(SupervisorProcess::this()),
                tls: None,
                series: None,
                ticker: None,
            };
            worker::run(init, &mut application())
        });
        control.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut byte = [0];
        control.read_exact(&mut byte).expect("a byte of the worker");
        assert_eq!(byte[0], CONTROL_READY, "the worker cannot boot");
        Self { address, entry, doorbell, _control: control, thread }
    }

    /// The worker's entry in the scoreboard.
    pub(crate) fn entry(&self) -> &'static WorkerEntry {
        self.entry
    }

    /// Opens a connection that sends without delay, and whose reads and writes have a time limit.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the listener");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Tells the worker to drain, and waits until it has exited.
    pub(crate) fn stop(self) -> WorkerExit {
        self.entry.set_command(Command::Drain);
        self.doorbell.write(1).expect("the doorbell");
        self.thread.join().expect("the worker does not panic")
    }
}
