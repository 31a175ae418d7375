//! Everything that the supervisor hands to a worker when it starts one, and how the worker ends.
//!
//! # What makes a worker exit
//!
//! | cause | who sends it | what the worker does | exit status |
//! |---|---|---|---|
//! | command word `Drain`: graceful stop, reload, scaling down, `ctl recycle`, or a limit is reached (`--max-requests`, `--max-rss`, `--max-lifetime`) | the supervisor, on the scoreboard, with the doorbell | drains: takes what is in the accept queue, closes the listeners, finishes every request, exits | 0 |
//! | command word `Quick`: quick stop, or a graceful one that runs out of time | the supervisor, likewise | finishes the replies under way and begins no further request | 0 |
//! | SIGTERM or SIGQUIT | anyone, to this process | drains, but leaves the accept queue to the other workers | 0 |
//! | SIGINT | anyone, to this process | as for `Quick` | 0 |
//! | SIGTERM, SIGQUIT or SIGINT before the application is loaded | anyone, to this process | the default action, as nothing was accepted yet | killed by that signal |
//! | SIGKILL: the time limit of a stop, `--timeout`, `--boot-timeout` or the exit is over, or the loop hangs | the supervisor, to the process group | nothing | killed by SIGKILL |
//! | end of the control socket, and the supervisor is gone | the kernel | becomes an orphan (`worker.orphaned`): closes and empties the accept queue, shuts the listeners down unless somebody else needs them, and exits within 10 s | 0, or killed by its own timer ([`crate::process::hard_end`]) |
//! | end of the control socket, but the supervisor runs | the supervisor gave the worker up, or the application closed the descriptor | leaves the accept queue to the other workers (`worker.disconnected`) and exits within 10 s | 0, or killed by its own timer |
//! | a listener or the doorbell is closed or replaced | the application | leaves the accept queue to the other workers (`worker.descriptor_lost`) and drains | 0 |
//! | the supervisor ends before the worker is ready, or after its loop | the kernel (PR_SET_PDEATHSIG) | nothing | killed by SIGKILL |
//! | the application cannot be imported | the worker itself | sends [`CONTROL_BOOT_FAILED`] with the report | 4 |
//! | user, group, signals, a hook or `--reload-check` fails | the worker itself | sends [`CONTROL_BOOT_FAILED`] with the report | 3 |
//! | epoll(7) fails, or arctos panics | the worker itself | logs `worker.failed` or `worker.panicked` | 70 |
//! | the application ends the process (`os._exit()`, a crash in C) | the application | nothing: the kernel closes everything | as the application chose, or the signal |
//! | [`ShutdownRequest::Exit`] in an embedded server | the calling program's signal handler | finishes the replies under way within 2 s; a second request ends it at once | none: [`crate::worker::run_embedded`] returns |
//!
//! A worker never recycles itself: it counts, and the supervisor decides. After its loop it runs the application's
//! exit hooks, waits for its threads and runs its `atexit` handlers; the supervisor limits that as it limits a hanging
//! request. A drain that comes before the worker is ready begins with its first turn. Exit status 0 stands for [`WorkerExit::Done`] and for
//! [`WorkerExit::Abandoned`]; the latter has logged `worker.abandoned`.
//!
//! [`ShutdownRequest::Exit`]: crate::application::ShutdownRequest::Exit

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::process::fork_guard;
use crate::process::supervisor_process::SupervisorProcess;
use crate::settings::Settings;
use crate::shared::connection_table::ConnectionTable;
use crate::shared::fd::{self, Message};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::log::Log;
use crate::shared::request_key::RequestKeys;
use crate::shared::samples::SampleArea;
use crate::shared::scoreboard::{Header, WorkerEntry};
use crate::shared::series::Area;
use crate::shared::socket_name::SocketName;
use crate::ticker::Ticker;
use crate::tls::TlsConfig;

/// Everything that a worker gets: its identity, what it serves, and its connection to the supervisor.
#[expect(missing_docs, reason = "the types of the other fields say what they are")]
pub struct WorkerInit {
    pub slot: SlotId,
    pub generation: Generation,
    pub entry: &'static WorkerEntry,
    pub header: &'static Header,
    /// Where the worker writes samples of its stack while a profile runs.
    pub samples: &'static SampleArea,
    /// The control socket: one end of a socketpair(2), non-blocking. At end of file, the supervisor is gone or
    /// has given this worker up. The worker sends [`CONTROL_READY`] when it can serve, or
    /// [`CONTROL_BOOT_FAILED`] and a report before it exits.
    pub control_fd: OwnedFd,
    pub supervisor: Arc<SupervisorProcess>,
    /// eventfd(2), non-blocking. The supervisor rings it after every change of the command word, and the worker's
    /// own signal handlers do so, too.
    pub doorbell: OwnedFd,
    /// Non-blocking, and shared with the other workers.
    pub listeners: Vec<Listener>,
    pub settings: Settings,
    pub log: Log,
    pub access_log: Option<OwnedFd>,
    /// TLS for connections over TCP; `None` if they are plain.
    pub tls: Option<TlsConfig>,
    /// The group of workers that share their kept connections; `None` if this worker keeps its own.
    pub group: Option<GroupMembership>,
    /// The keys under which requests are in quarantine, as the supervisor makes them; `None` without `--quarantine`.
    pub request_keys: Option<RequestKeys>,
    /// Where the application counts its own metrics; `None` for nowhere.
    pub series: Option<Area>,
    /// Work of the surrounding process that the loop does between two turns.
    pub ticker: Option<Box<dyn Ticker>>,
}

impl WorkerInit {
    /// Keeps every descriptor from children of the application, from its first line on. Whoever closes one
    /// forgets it first; that of the supervisor's process stays to the end.
    pub fn guard(&self) {
        let mailbox = self.group.as_ref().map(|group| &group.mailbox);
        let own =
            [&self.control_fd, &self.doorbell].into_iter().chain(&self.access_log).chain(mailbox);
        let listeners = self.listeners.iter().map(|listener| &listener.socket);
        own.chain(listeners).for_each(|own| fork_guard::guard(own.as_fd()));
        if let Some(process) = self.supervisor.as_fd() {
            fork_guard::guard(process);
        }
    }
}

/// A worker's membership in a group that shares kept connections.
#[expect(missing_docs, reason = "the types say what the fields are")]
pub struct GroupMembership {
    pub table: ConnectionTable,
    /// The index of the group.
    pub index: u16,
    /// The number of the worker in its group, below 255.
    pub number: u8,
    /// Non-blocking, to the supervisor ([`crate::shared::connection_table::message`]).
    pub mailbox: OwnedFd,
}

/// A listening socket of a worker.
#[expect(missing_docs, reason = "the types say what the fields are")]
pub struct Listener {
    pub socket: OwnedFd,
    /// The address that it is bound to, with port 0 resolved.
    pub name: SocketName,
    pub owner: Owner,
}

/// The process that has bound a listening socket, and so may shut it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The supervisor: once it is gone, nobody needs the socket.
    Supervisor,
    /// The supervisor, for the workers of one slot only (`--listen-mode per-slot`).
    Slot,
    /// Another process (systemd, `fd://N`), which may go on using the socket.
    Outside,
}

/// First byte from the worker on the control socket: it is ready.
pub const CONTROL_READY: u8 = b'R';
/// First byte from the worker on the control socket: it cannot boot. A report in UTF-8 follows up to end of file.
pub const CONTROL_BOOT_FAILED: u8 = b'F';

/// From the supervisor on the control socket: the access log was reopened. The new descriptor comes with this
/// byte (SCM_RIGHTS), because the worker may have given up the permission to open the file itself.
pub const CONTROL_ACCESS_LOG: u8 = b'L';

/// The first message from the supervisor on the control socket. The writing end of a pipe comes with this byte:
/// the worker writes its stacks there, and the supervisor logs them.
pub const CONTROL_STACKS: u8 = b'S';

pub use crate::process::passed_connection::CONTROL_CONNECTION;

/// Receives the pipe of [`CONTROL_STACKS`], before anything else is received. `None` if it did not come, or if
/// this process cannot have another descriptor.
///
/// A worker keeps it open to its end, and has it replaced in its children ([`fork_guard::replace_in_children`]).
pub fn receive_stacks_pipe(control_fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    match fd::receive_message(control_fd) {
        Message::Received { word: CONTROL_STACKS, descriptor } => descriptor,
        Message::Received { .. } | Message::Nothing | Message::Ended => None,
    }
}

/// How a worker ends. The module has the table of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// It was asked to exit, and every request was finished.
    Done,
    /// It was asked to exit, and requests were aborted.
    Abandoned,
    /// The application could not be imported.
    NotImportable,
    /// It could not boot for another reason.
    NotBooted,
    /// A defect of arctos.
    Internal,
}

impl WorkerExit {
    /// The exit status of the process.
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

    /// An init with a listener on the loopback interface, and its doorbell.
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
            samples: SampleArea::detached(),
            control_fd,
            supervisor: Arc::new(SupervisorProcess::this()),
            doorbell: doorbell.as_fd().try_clone_to_owned().unwrap(),
            listeners: vec![Listener { socket: socket.into(), name, owner: Owner::Supervisor }],
            settings: Settings::default(),
            log: Log::discard(),
            access_log: None,
            tls: None,
            group: None,
            request_keys: None,
            series: None,
            ticker: None,
        };
        (init, doorbell)
    }
}
