//! The code of the zygote process: it loads the application, and forks a worker for each request.
//!
//! A zygote serves no connections. Once the application is loaded, it runs only the application's hooks and what the
//! interpreter calls around a fork. It exits when its socket ends, without running exit handlers.
//!
//! Descriptors that the application opened stay open in each worker, because it may need them. The zygote's own
//! socket is closed in a worker, and the descriptors of a worker are closed in the zygote.

use std::fs;
use std::io::IoSliceMut;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::vec::IntoIter;

use arctos_worker::process::fork_guard;
use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::settings::Settings;
use arctos_worker::shared::connection_table::ConnectionTable;
use arctos_worker::shared::fd;
use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::Log;
use arctos_worker::shared::request_key::RequestKeys;
use arctos_worker::shared::scoreboard::Scoreboard;
use arctos_worker::shared::series::{Area, attachment};
use arctos_worker::tls::TlsConfig;
use arctos_worker::worker_init::{
    BootFailure, GroupMembership, Listener, WorkerExit, WorkerInit, receive_stacks_pipe,
};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{
    self, ControlMessageOwned, MsgFlags, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};

use super::message::{MAX_DESCRIPTORS, MESSAGE_BYTES, SpawnRequest, ZygoteMessage};
use crate::process::fork::child_setup::{ChildSetupError, catch_panic};
use crate::process::fork::double::{Branch, double_fork};
use crate::process::launch::{Launch, Preloaded};
use crate::process::threads::other_thread_names;
use crate::process::title::worker_title;

/// The data that a zygote passes on to each of its workers, in addition to the application.
#[derive(Clone, Copy)]
pub struct ZygoteInit<'a> {
    /// The generation of the workers.
    pub generation: Generation,
    /// The name of the server, which becomes part of their names in ps(1).
    pub name: &'a str,
    /// The configuration of the workers.
    pub settings: &'a Settings,
    /// TLS of the workers.
    pub tls: Option<&'a TlsConfig>,
    /// The log. Each worker adds its identity to its lines and counts them in its own entry.
    pub log: &'a Log,
    /// The scoreboard that holds their entries.
    pub scoreboard: &'a Scoreboard,
    /// Where the application counts its own metrics while it is loaded; `None` for nowhere.
    pub series: Option<Area>,
    /// The tables of the connections that groups of workers share.
    pub connection_tables: &'a [ConnectionTable],
    /// The keys under which requests are in quarantine; `None` without `--quarantine`.
    pub request_keys: Option<&'a RequestKeys>,
    /// The supervisor's process, whose end the workers notice.
    pub supervisor: &'a Arc<SupervisorProcess>,
}

/// Runs the zygote in the child, and returns its exit code. In a worker forked on the way, this returns
/// the worker's exit code.
pub(super) fn run(
    launch: &dyn Launch,
    socket: OwnedFd,
    init: &ZygoteInit<'_>,
    prepared: Result<(), ChildSetupError>,
) -> i32 {
    // The kernel closes it, so that the socket ends when this process does.
    let socket = ManuallyDrop::new(socket);
    // A process that the application forks by itself, while it is being loaded or in a hook, must not keep our
    // descriptors.
    let _guarded = fork_guard::begin();
    fork_guard::guard(socket.as_fd());
    init.supervisor.as_fd().map(fork_guard::guard);
    attachment::attach(init.series);
    let mut own = vec![0, 1, 2, socket.as_raw_fd()];
    own.extend(init.log.as_fd().iter().map(AsRawFd::as_raw_fd));
    let loaded = match prepared {
        Ok(()) => launch.preload(init.generation, init.log),
        Err(error) => Err(BootFailure::not_booted(format!("{error}\n"))),
    };
    let preloaded = match loaded {
        Ok(preloaded) => preloaded,
        Err(BootFailure { exit, report }) => {
            send(&socket, &ZygoteMessage::Failed { exit, report });
            return exit.code();
        }
    };
    // Without /proc no threads are known, and no warning is given.
    let threads = other_thread_names().unwrap_or_default();
    send(&socket, &ZygoteMessage::Ready { threads, sockets: sockets_except(&own) });
    serve_requests(launch, &*preloaded, socket, init)
}

/// Forks a worker for each request.
fn serve_requests(
    launch: &dyn Launch,
    preloaded: &dyn Preloaded,
    socket: ManuallyDrop<OwnedFd>,
    init: &ZygoteInit<'_>,
) -> i32 {
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let (request, descriptors) = match receive(&socket, &mut buffer) {
            Received::Request { request, descriptors } => (request, descriptors),
            Received::Truncated(request) => {
                // Some of its descriptors arrived under unknown numbers. They would stay open in all later
                // workers.
                let number = request.number;
                send(&socket, &ZygoteMessage::NotStarted { number, error: Errno::EMFILE });
                return WorkerExit::NotBooted.code();
            }
            Received::Malformed => return WorkerExit::Internal.code(),
            Received::End => return WorkerExit::Done.code(),
        };
        let number = request.number;
        let report = |forked: Result<_, Errno>| {
            let message = match forked {
                Ok(pid) => ZygoteMessage::Started { number, pid },
                Err(error) => ZygoteMessage::NotStarted { number, error },
            };
            send(&socket, &message);
        };
        descriptors.as_slice().iter().for_each(|own| fork_guard::guard(own.as_fd()));
        preloaded.before_fork(request.slot);
        match double_fork(launch, report) {
            Branch::Zygote => {
                descriptors.as_slice().iter().for_each(|own| fork_guard::forget(own.as_fd()));
            }
            Branch::Worker => {
                fork_guard::forget(socket.as_fd());
                drop(ManuallyDrop::into_inner(socket));
                return run_worker(preloaded, request, descriptors, init);
            }
        }
    }
}

/// Runs the worker.
fn run_worker(
    preloaded: &dyn Preloaded,
    request: SpawnRequest,
    mut descriptors: IntoIter<OwnedFd>,
    init: &ZygoteInit<'_>,
) -> i32 {
    let ZygoteInit { generation, name, settings, tls, log, scoreboard, supervisor, .. } = *init;
    let slot = request.slot;
    // None can be missing: the supervisor has looked up the entry, and `receive` has counted the descriptors.
    let place = scoreboard.entry(slot, request.side).zip(scoreboard.samples(slot, request.side));
    let Some((entry, samples)) = place else { return WorkerExit::Internal.code() };
    let mut next = || descriptors.next();
    let (Some(control_fd), Some(doorbell)) = (next(), next()) else {
        return WorkerExit::Internal.code();
    };
    let stacks = receive_stacks_pipe(control_fd.as_fd());
    stacks.iter().for_each(|pipe| fork_guard::replace_in_children(pipe.as_fd()));
    // The supervisor may have given up the order meanwhile, and reassigned the entry.
    if is_at_end(&control_fd) {
        return WorkerExit::Done.code();
    }
    let access_log = if request.has_access_log { next() } else { None };
    let mailbox = if request.group.is_some() { next() } else { None };
    let group = mailbox.zip(request.group).and_then(|(mailbox, (index, number))| {
        let table = *init.connection_tables.get(usize::from(index))?;
        Some(GroupMembership { table, index, number, mailbox })
    });
    let listeners = request.listeners.into_iter().zip(descriptors);
    let listeners = listeners.map(|((name, owner), socket)| Listener { socket, name, owner });
    let log =
        log.with_identity(slot, std::process::id(), generation).with_counters(&entry.counters);
    let log = log.with_stacks_pipe(stacks);
    let init = WorkerInit {
        slot,
        generation,
        entry,
        header: scoreboard.header(),
        samples,
        control_fd,
        supervisor: Arc::clone(supervisor),
        doorbell,
        listeners: listeners.collect(),
        settings: settings.clone(),
        log: log.clone(),
        access_log,
        tls: tls.map(TlsConfig::for_child),
        group,
        request_keys: init.request_keys.cloned(),
        series: scoreboard.area(Scoreboard::worker_area(slot, request.side)),
        ticker: None,
    };
    attachment::attach(init.series);
    let _ = prctl::set_name(&worker_title(name, slot)); // The name in ps(1) is only cosmetic.
    catch_panic(&log, "worker.panicked", || preloaded.work(init).code())
}

/// The outcome of one read from the supervisor's socket.
enum Received {
    /// A request, with all its descriptors.
    Request { request: SpawnRequest, descriptors: IntoIter<OwnedFd> },
    /// A request with missing descriptors, because this process cannot have more open.
    Truncated(SpawnRequest),
    /// A packet that does not decode.
    Malformed,
    /// The supervisor is gone, or no longer needs this zygote.
    End,
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Received {
    let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let (length, numbers) = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match socket::recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => break (message.bytes, numbers_in(message.cmsgs())),
            Err(Errno::EINTR) => {}
            Err(_) => return Received::End, // ECONNRESET: the supervisor died before it read everything.
        }
    };
    if length == 0 {
        return Received::End;
    }
    let Some(request) = SpawnRequest::decode(&buffer[..length]) else { return Received::Malformed };
    let descriptors: Vec<_> = numbers.into_iter().flat_map(fd::adopt).collect();
    match descriptors.len() == request.descriptor_count() {
        true => Received::Request { request, descriptors: descriptors.into_iter() },
        false => Received::Truncated(request),
    }
}

/// The descriptors of a message; none if the kernel truncated them (MSG_CTRUNC).
fn numbers_in(messages: nix::Result<socket::CmsgIterator<'_>>) -> Vec<RawFd> {
    let mut all = Vec::new();
    for message in messages.into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            all.extend(numbers);
        }
    }
    all
}

fn send(socket: &OwnedFd, message: &ZygoteMessage) {
    let packet = message.encode();
    // EPIPE: the supervisor is gone, which the next read from the socket finds.
    while socket::send(socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL) == Err(Errno::EINTR) {}
}

/// Whether the peer has closed its end.
fn is_at_end(socket: &OwnedFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    socket::recv(socket.as_raw_fd(), &mut [0], flags) == Ok(0)
}

/// Describes the open sockets except these: the listening ones, and the connected ones with their peers.
fn sockets_except(own: &[RawFd]) -> Vec<String> {
    // Without /proc no sockets are known, and no warning is given.
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    open.filter(|number| !own.contains(number)).filter_map(describe).collect()
}

/// Returns `None` for any other descriptor: sharing it between processes confuses no peer.
fn describe(number: RawFd) -> Option<String> {
    if let Ok(peer) = getpeername::<SockaddrStorage>(number) {
        return Some(format!("connected to {peer}"));
    }
    let name = getsockname::<SockaddrStorage>(number).ok()?;
    let socket = fd::duplicate(number).ok()?;
    let listens = getsockopt(&socket, sockopt::AcceptConn).ok()?;
    listens.then(|| format!("listening at {name}"))
}
