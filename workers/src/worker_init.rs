//! A worker's init: all that the supervisor hands over when it starts one, and how the worker ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::process::fork_guard;
use crate::process::supervisor_process::SupervisorProcess;
use crate::settings::Settings;
use crate::shared::fd::{self, Message};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::log::Log;
use crate::shared::scoreboard::{Header, WorkerEntry};
use crate::shared::socket_name::SocketName;
use crate::ticker::Ticker;

/// A worker's init: who it is, what it serves, and how it hears from the supervisor.
pub struct WorkerInit {
    /// Its place.
    pub slot: SlotId,
    /// Its load of the code.
    pub generation: Generation,
    /// Its part of the scoreboard.
    pub entry: &'static WorkerEntry,
    /// The scoreboard's common part.
    pub header: &'static Header,
    /// One end of a socketpair(2), non-blocking. End of file: the supervisor is gone, or has given this worker
    /// up. The worker sends
    /// [`CONTROL_READY`] when it can serve, or [`CONTROL_BOOT_FAILED`] and the text of its failure before it
    /// exits.
    pub control_fd: OwnedFd,
    /// The supervisor's process, shared with all who were forked from it.
    pub supervisor: Arc<SupervisorProcess>,
    /// eventfd(2), non-blocking: rung after every change of the command word, and by the worker's own
    /// signal handlers.
    pub doorbell: OwnedFd,
    /// The listening sockets, shared with all workers, non-blocking.
    pub listeners: Vec<Listener>,
    /// Configuration.
    pub settings: Settings,
    /// The log.
    pub log: Log,
    /// The access log, if there is one.
    pub access_log: Option<OwnedFd>,
    /// Who else has something to do in this loop, if anybody.
    pub ticker: Option<Box<dyn Ticker>>,
}

impl WorkerInit {
    /// Keeps all of it from children of the application, from its first line on. Who closes a descriptor forgets
    /// it before; the supervisor's process is asked for to the end.
    pub fn guard(&self) {
        let own = [&self.control_fd, &self.doorbell].into_iter().chain(&self.access_log);
        let listeners = self.listeners.iter().map(|listener| &listener.socket);
        own.chain(listeners).for_each(|own| fork_guard::guard(own.as_fd()));
        if let Some(process) = self.supervisor.as_fd() {
            fork_guard::guard(process);
        }
    }
}

/// A listening socket as a worker sees it.
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// The address it is bound to (port 0 resolved).
    pub name: SocketName,
    /// Whose it is.
    pub owner: Owner,
}

/// Who has bound a listening socket, and so may end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The supervisor: when it is gone, nobody needs the socket.
    Supervisor,
    /// The supervisor, for the workers of one slot alone (`--listen-mode per-slot`).
    Slot,
    /// Somebody outside (systemd, `fd://N`), who may go on using it.
    Outside,
}

/// First byte on the life socket: this worker is ready.
pub const CONTROL_READY: u8 = b'R';
/// First byte on the life socket: this worker cannot boot; UTF-8 text follows up to end of file.
pub const CONTROL_BOOT_FAILED: u8 = b'F';

/// From the supervisor, on the life socket: the access log was opened anew. A byte that has the new
/// descriptor with it (SCM_RIGHTS), because a worker may have given up the right to open the file itself.
pub const CONTROL_ACCESS_LOG: u8 = b'L';

/// From the supervisor, and first of all, on the life socket: a byte that has the writing end of a pipe with
/// it, for the worker's stacks. The supervisor logs what comes out of it.
pub const CONTROL_STACKS: u8 = b'S';

/// Takes what [`CONTROL_STACKS`] has brought, before anything else is received. `None` if nothing has, or this
/// process can have no more descriptors.
pub fn receive_stacks_pipe(control_fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let pipe = match fd::receive_message(control_fd) {
        Message::Said { word: CONTROL_STACKS, descriptor } => descriptor,
        Message::Said { .. } | Message::Nothing | Message::Ended => None,
    }?;
    fork_guard::replace_in_children(pipe.as_fd());
    Some(pipe)
}

/// How a worker ends, and the exit status that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// It was asked to leave and nothing was abandoned.
    Done,
    /// It was asked to leave; requests were cut off.
    Abandoned,
    /// The application could not be imported.
    NotImportable,
    /// It could not start for another reason.
    NotBooted,
    /// A defect of arctos.
    Internal,
}

impl WorkerExit {
    /// The exit status.
    pub fn code(self) -> i32 {
        match self {
            Self::Done | Self::Abandoned => 0,
            Self::NotImportable => 4,
            Self::NotBooted => 3,
            Self::Internal => 70,
        }
    }
}

/// Why a process could not load the application or prepare to serve it.
///
/// Workers, zygotes, the run of `--on-start` and `arctos --check` fail with it alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFailure {
    /// How the process ends.
    pub exit: WorkerExit,
    /// The text for the log: what failed, the traceback where there is one, and what to do.
    pub report: String,
}

impl BootFailure {
    /// The application itself cannot be loaded.
    pub fn not_importable(report: String) -> Self {
        Self { exit: WorkerExit::NotImportable, report }
    }

    /// Something other than the application failed.
    pub fn not_booted(report: String) -> Self {
        Self { exit: WorkerExit::NotBooted, report }
    }
}

#[cfg(test)]
pub(crate) mod stage {
    use std::net::TcpListener;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;
    use crate::shared::scoreboard::Scoreboard;

    /// A init with a listener on the loopback interface, and its doorbell.
    pub(crate) fn init(control_fd: OwnedFd) -> (WorkerInit, EventFd) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let name = SocketName::Inet(socket.local_addr().unwrap());
        let doorbell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let init = WorkerInit {
            slot: SlotId(0),
            generation: Generation(1),
            entry: WorkerEntry::detached(),
            header: Scoreboard::create(1).unwrap().header(),
            control_fd,
            supervisor: Arc::new(SupervisorProcess::this()),
            doorbell: doorbell.as_fd().try_clone_to_owned().unwrap(),
            listeners: vec![Listener { socket: socket.into(), name, owner: Owner::Supervisor }],
            settings: Settings::default(),
            log: Log::discard(),
            access_log: None,
            ticker: None,
        };
        (init, doorbell)
    }
}
