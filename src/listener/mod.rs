//! The listening sockets, which the supervisor binds once, before the first fork, and keeps open until it stops.
//!
//! There is one socket per address, shared by all workers, so that an idle worker takes the next connection; or, with
//! `--listen-mode per-slot`, one SO_REUSEPORT socket per address and slot. In both modes the supervisor holds all
//! sockets, so that the death of a worker resets no connection that waits in a queue. Workers get duplicates. [`tcp`]
//! and [`unix`] bind the addresses; this file knows nothing about workers except the number of their slots.

mod error;
mod inherited;
mod tcp;
mod unix;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use arctos_worker::shared::fd::{self, AcceptQueue};
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker::{Listener, Owner};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use socket2::{SockAddr, Socket};

use crate::config::{Config, ListenMode};
use crate::system::address::BindAddress;
use crate::system::descriptors::OwnDescriptors;

pub use error::ListenError;
use inherited::UnusedSocket;
pub use inherited::{DescriptorOwner, InheritedSocket, InheritedSockets};
use unix::SocketFile;

/// The options for listening, which apply to all addresses.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Whether another server may already be bound to the same address.
    pub reuse_port: bool,
    /// Length of the accept queue of each socket.
    pub backlog: u32,
    /// Whether all slots share one socket or each has its own.
    pub mode: ListenMode,
    /// The number of slots at the start. With [`ListenMode::PerSlot`] exactly these get a socket, because the kernel
    /// would send a share of the connections to a socket that nobody reads.
    pub slots: u16,
    /// Permissions of `unix:/path`.
    pub unix_socket_mode: Mode,
    /// Owner of `unix:/path`; the user of this process if `None`.
    pub user: Option<Uid>,
    /// Group of `unix:/path`; the group of this process if `None`.
    pub group: Option<Gid>,
}

impl From<&Config> for ListenOptions {
    fn from(config: &Config) -> Self {
        Self {
            reuse_port: config.reuse_port,
            backlog: config.backlog,
            mode: config.listen_mode,
            slots: config.workers,
            unix_socket_mode: config.unix_socket_mode,
            user: config.privileges.user,
            group: config.privileges.group,
        }
    }
}

impl ListenOptions {
    /// The backlog for listen(2).
    fn queue(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

/// All listening sockets.
pub struct Listeners {
    endpoints: Vec<Endpoint>,
    options: ListenOptions,
    warnings: Vec<String>,
    /// Sockets of the predecessor that this server does not use.
    unused: Vec<UnusedSocket>,
}

/// One address and its sockets.
struct Endpoint {
    /// The address as the configuration gives it.
    bind: String,
    name: SocketName,
    sockets: Sockets,
}

/// The sockets of one address.
enum Sockets {
    /// One socket for all slots.
    Shared(Socket),
    /// One socket for all slots, with a path.
    File {
        /// The socket.
        socket: Socket,
        /// The path of the socket. Dropping this field unlinks it.
        file: SocketFile,
    },
    /// One socket for all slots, which another process bound and may use after this server.
    Inherited(Socket),
    /// One socket for each slot that has requested one.
    PerSlot {
        /// The address to which each socket is bound, with port 0 resolved.
        address: SocketAddr,
        /// The sockets that are bound so far.
        of: RefCell<BTreeMap<SlotId, Socket>>,
    },
}

impl Listeners {
    /// Binds all addresses and listens. All are probed before the first is bound, so that a second server that is
    /// started by mistake changes nothing.
    ///
    /// Errors: [`ListenError`]. Sockets that were bound before the error are closed, and their paths are unlinked.
    pub fn bind(binds: &[BindAddress], options: &ListenOptions) -> Result<Self, ListenError> {
        Self::inherit(binds, options, InheritedSockets::default())
    }

    /// Like [`Listeners::bind`], with the sockets that were inherited from the predecessor in an upgrade: only new
    /// addresses are bound. The sockets and paths of the predecessor do not change while it may have to continue.
    pub fn inherit(
        binds: &[BindAddress],
        options: &ListenOptions,
        mut inherited_sockets: InheritedSockets,
    ) -> Result<Self, ListenError> {
        refuse_equal(binds)?;
        let mut warnings = queue_warning(options.backlog).into_iter().collect();
        let targets = tcp::plan(binds)?;
        if !options.reuse_port {
            let all = targets.iter().flat_map(tcp::Target::addresses);
            for (bind, address) in
                all.filter(|(bind, address)| !inherited_sockets.contains(bind, *address))
            {
                tcp::probe(bind, address)?;
            }
        }
        let mut endpoints = Vec::new();
        let mut targets = targets.into_iter();
        for bind in binds {
            match bind {
                BindAddress::Tcp { .. } => {
                    let target = targets.next().expect("each TCP address has been planned");
                    endpoints.extend(tcp_endpoints(
                        &target,
                        options,
                        &mut inherited_sockets,
                        &mut warnings,
                    )?);
                }
                BindAddress::Unix(path) => {
                    let (socket, file) = match inherited_sockets.take(bind) {
                        Some((socket, Some(inode))) => {
                            (socket, SocketFile::owned_elsewhere(path, inode))
                        }
                        Some((_, None)) | None => unix::bind_path(path, options)?,
                    };
                    // The name that the socket reports may be a different one, if it was bound beside the path and
                    // renamed.
                    let name = SocketName::Unix(path.display().to_string());
                    let bind = bind.to_string();
                    endpoints.push(Endpoint {
                        bind,
                        name,
                        sockets: Sockets::File { socket, file },
                    });
                }
                BindAddress::Abstract(name) => {
                    let socket = match inherited_sockets.take(bind) {
                        Some((socket, _)) => socket,
                        None => unix::bind_abstract(bind, name)?,
                    };
                    endpoints.push(Endpoint::of(bind, socket, Sockets::Shared)?);
                }
                BindAddress::Fd(number) => {
                    let socket = match inherited_sockets.take(bind) {
                        Some((socket, _)) => socket,
                        None => take_over(*number, DescriptorOwner::Server)?,
                    };
                    endpoints.push(Endpoint::of(bind, socket, Sockets::Inherited)?);
                }
            }
        }
        let unused = inherited_sockets.into_unused();
        let listeners = Self { endpoints, options: options.clone(), warnings, unused };
        listeners.listen(options.queue()).map_err(|(name, error)| {
            let address = describe(&name, "http");
            tcp::refused(address, error, options.reuse_port)
        })?;
        Ok(listeners)
    }

    /// Returns duplicates for the worker of one slot: close-on-exec, non-blocking, in the order of
    /// [`Listeners::names`]. In per-slot mode, a new slot gets its sockets now.
    ///
    /// Errors: EMFILE and the like; in per-slot mode also those of bind(2).
    pub fn for_slot(&self, slot: SlotId) -> io::Result<Vec<Listener>> {
        let duplicate = |endpoint: &Endpoint| {
            let socket = match &endpoint.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => fd::duplicate(socket.as_raw_fd())?,
                Sockets::PerSlot { address, of } => {
                    let mut of = of.borrow_mut();
                    let socket = match of.entry(slot) {
                        Entry::Occupied(bound) => bound.into_mut(),
                        Entry::Vacant(vacant) => {
                            let socket = tcp::open(*address)?;
                            socket.listen(self.options.queue())?;
                            vacant.insert(socket)
                        }
                    };
                    fd::duplicate(socket.as_raw_fd())?
                }
            };
            let owner = match endpoint.sockets {
                Sockets::Inherited(_) => Owner::Outside,
                Sockets::Shared(_) | Sockets::File { .. } => Owner::Supervisor,
                Sockets::PerSlot { .. } => Owner::Slot,
            };
            Ok(Listener { socket, name: endpoint.name.clone(), owner })
        };
        self.endpoints.iter().map(duplicate).collect()
    }

    /// Lists the descriptors that a child closes. A worker has duplicates of those that it needs.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        for endpoint in &self.endpoints {
            match &endpoint.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => own.add(socket),
                Sockets::PerSlot { of, .. } => own.extend(of.borrow().values()),
            }
        }
        own.extend(self.unused.iter().map(|unused| &unused.socket));
    }

    /// Closes the sockets of a slot (per-slot mode) that will not get another worker, because the kernel would send
    /// connections to a socket that nobody reads. The exiting worker accepts what waits in the queue through its own
    /// duplicate.
    pub fn retire(&self, slot: SlotId) {
        for endpoint in &self.endpoints {
            match &endpoint.sockets {
                Sockets::PerSlot { of, .. } => drop(of.borrow_mut().remove(&slot)),
                Sockets::Shared(_) | Sockets::File { .. } | Sockets::Inherited(_) => {}
            }
        }
    }

    /// Closes the accept queues for new connections, without resetting those that wait ([`fd::close_queue`]). Workers
    /// then accept until EAGAIN and close their sockets.
    ///
    /// Inherited sockets stay open: their queue belongs to the process that bound them, and with systemd it bridges a
    /// restart.
    ///
    /// Errors: the first error of the kernel; the other queues are closed anyway.
    pub fn close_queues(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for endpoint in &self.endpoints {
            match &endpoint.sockets {
                Sockets::Shared(socket) | Sockets::File { socket, .. } => {
                    outcome = outcome.and(fd::close_queue(socket.as_fd()));
                }
                Sockets::PerSlot { of, .. } => {
                    for socket in of.borrow().values() {
                        outcome = outcome.and(fd::close_queue(socket.as_fd()));
                    }
                }
                Sockets::Inherited(_) => {}
            }
        }
        outcome
    }

    /// Returns duplicates of all sockets for a successor.
    ///
    /// Errors: EMFILE and the like.
    pub fn inherited_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        let mut all = Vec::new();
        for Endpoint { bind, sockets, .. } in &self.endpoints {
            match sockets {
                Sockets::Shared(socket) | Sockets::Inherited(socket) => {
                    all.push(InheritedSocket::of(bind, None, socket, None)?);
                }
                Sockets::File { socket, file } => {
                    all.push(InheritedSocket::of(bind, None, socket, Some(file.inode()))?);
                }
                Sockets::PerSlot { of, .. } => {
                    for (slot, socket) in of.borrow().iter() {
                        all.push(InheritedSocket::of(bind, Some(*slot), socket, None)?);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Leaves the paths to the successor.
    pub fn disown(&mut self) {
        self.files().for_each(SocketFile::disown);
    }

    /// Closes the queues that this server does not use. Called when it is ready; the workers of the predecessor then
    /// empty these queues.
    pub fn close_unused_queues(&self) {
        for unused in &self.unused {
            // An error is ignored, because a socket whose queue stays open is closed a moment later anyway.
            let _ = fd::close_queue(unused.socket.as_fd());
        }
    }

    /// Undoes the changes of a failed successor to the sockets that it shared with this server.
    pub fn reopen(&self) {
        for endpoint in &self.endpoints {
            let reopen = |socket: &Socket| {
                fd::open_queue(socket.as_fd());
                let _ = socket.listen(self.options.queue());
            };
            match &endpoint.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => reopen(socket),
                Sockets::PerSlot { of, .. } => of.borrow().values().for_each(reopen),
            }
        }
    }

    /// Makes this server the owner of all sockets and paths, and closes those that it does not use.
    pub fn own(&mut self) {
        self.files().for_each(SocketFile::own);
        for unused in self.unused.drain(..) {
            if let Some(mut file) = unused.file {
                file.own();
            }
        }
    }

    fn files(&mut self) -> impl Iterator<Item = &mut SocketFile> {
        self.endpoints.iter_mut().filter_map(|endpoint| match &mut endpoint.sockets {
            Sockets::File { file, .. } => Some(file),
            Sockets::Shared(_) | Sockets::Inherited(_) | Sockets::PerSlot { .. } => None,
        })
    }

    /// The addresses in readable form, with port 0 resolved: `http://127.0.0.1:8000`, `unix:/run/x.sock`.
    pub fn descriptions(&self) -> Vec<String> {
        self.describe("http")
    }

    /// Like [`Listeners::descriptions`], with this scheme for addresses of TCP.
    pub fn describe(&self, scheme: &str) -> Vec<String> {
        self.endpoints.iter().map(|endpoint| describe(&endpoint.name, scheme)).collect()
    }

    /// The addresses, with port 0 resolved.
    pub fn names(&self) -> Vec<SocketName> {
        self.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect()
    }

    /// The total length of the queues of all TCP sockets; `None` if there is no TCP socket.
    pub fn queue(&self) -> Option<AcceptQueue> {
        let mut sum: Option<AcceptQueue> = None;
        let mut add = |socket: &Socket| {
            if let Some(queue) = fd::accept_queue(socket.as_fd()) {
                let before = sum.unwrap_or(AcceptQueue { len: 0, max: 0 });
                sum = Some(AcceptQueue {
                    len: before.len.saturating_add(queue.len),
                    max: before.max.saturating_add(queue.max),
                });
            }
        };
        for endpoint in &self.endpoints {
            match &endpoint.sockets {
                Sockets::Shared(socket) | Sockets::Inherited(socket) => add(socket),
                Sockets::File { .. } => {}
                Sockets::PerSlot { of, .. } => of.borrow().values().for_each(&mut add),
            }
        }
        sum
    }

    /// Warnings for the operator, one per log line.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Calls listen(2) on all sockets. A predecessor may have left the queue of one closed for new connections.
    fn listen(&self, backlog: i32) -> Result<(), (SocketName, io::Error)> {
        let listen = |socket: &Socket| {
            fd::open_queue(socket.as_fd());
            socket.listen(backlog)
        };
        let mut outcome = Ok(());
        for endpoint in &self.endpoints {
            let listened = match &endpoint.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => listen(socket),
                Sockets::PerSlot { of, .. } => {
                    let all = |outcome: io::Result<()>, socket| outcome.and(listen(socket));
                    of.borrow().values().fold(Ok(()), all)
                }
            };
            outcome = outcome.and(listened.map_err(|error| (endpoint.name.clone(), error)));
        }
        outcome
    }
}

impl Endpoint {
    /// Returns an endpoint with the name that its socket reports.
    fn of(
        bind: &BindAddress,
        socket: Socket,
        sockets: impl FnOnce(Socket) -> Sockets,
    ) -> Result<Self, ListenError> {
        let name = socket.local_addr().and_then(|address| {
            name_of(&address).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
        });
        let name = name.map_err(|error| ListenError::other(bind, "getsockname(2)", error))?;
        Ok(Self { bind: bind.to_string(), name, sockets: sockets(socket) })
    }
}

fn tcp_endpoints(
    target: &tcp::Target<'_>,
    options: &ListenOptions,
    inherited_sockets: &mut InheritedSockets,
    warnings: &mut Vec<String>,
) -> Result<Vec<Endpoint>, ListenError> {
    let bind = target.bind();
    let is_inherited =
        target.addresses().any(|(bind, address)| inherited_sockets.contains(bind, address));
    let opened = tcp::open_all(target, options.reuse_port, inherited_sockets, warnings)?;
    let endpoint = |(address, socket)| {
        let name = SocketName::Inet(address);
        let sockets = match options.mode {
            ListenMode::Shared => Sockets::Shared(socket),
            ListenMode::PerSlot => {
                let mut of = BTreeMap::from([(SlotId(0), socket)]);
                for slot in 1..options.slots {
                    let socket = match inherited_sockets.take_tcp(bind, address) {
                        Some(socket) => socket,
                        // The other sockets are read already, so the kernel would send connections to one that
                        // nobody reads. It is bound when its worker starts.
                        None if is_inherited => break,
                        None => tcp::open(address).map_err(|error| {
                            tcp::refused(describe(&name, "http"), error, options.reuse_port)
                        })?,
                    };
                    of.insert(SlotId(slot), socket);
                }
                Sockets::PerSlot { address, of: RefCell::new(of) }
            }
        };
        Ok(Endpoint { bind: bind.to_string(), name, sockets })
    };
    opened.into_iter().map(endpoint).collect()
}

/// Refuses an address that is given twice, which is a mistake; a descriptor can be taken over only once. Port 0 twice
/// is two ports.
fn refuse_equal(binds: &[BindAddress]) -> Result<(), ListenError> {
    for (index, bind) in binds.iter().enumerate() {
        let is_any_port = matches!(bind, BindAddress::Tcp { port: 0, .. });
        if !is_any_port && binds[..index].contains(bind) {
            return Err(ListenError::Repeated { address: bind.to_string() });
        }
    }
    Ok(())
}

/// Takes over a descriptor that is a listening stream socket. Any other descriptor stays as it is, because it may
/// belong to the program that runs in this process.
fn take_over(number: RawFd, owner: DescriptorOwner) -> Result<Socket, ListenError> {
    let not_open = |error| ListenError::NotOpen { number, error };
    let duplicate = Socket::from(fd::duplicate(number).map_err(not_open)?);
    match (duplicate.r#type(), duplicate.is_listener()) {
        (Ok(socket2::Type::STREAM), Ok(true)) => {}
        (Ok(_), Ok(_)) => return Err(ListenError::NotListening { number }),
        (Err(_), _) | (_, Err(_)) => return Err(ListenError::NotASocket { number }),
    }
    let socket = match owner {
        DescriptorOwner::Server => Socket::from(fd::adopt(number).map_err(not_open)?),
        DescriptorOwner::Program => duplicate,
    };
    let prepared = socket.set_nonblocking(true);
    prepared.map_err(|error| ListenError::other(&BindAddress::Fd(number), "fcntl(2)", error))?;
    Ok(socket)
}

/// Duplicates a listening stream socket of another owner, and returns it with the address that it is bound to. The
/// duplicate is close-on-exec and non-blocking.
///
/// Non-blocking is a property of the socket and not of a descriptor, so it affects the owner, too. It stays so, because
/// other processes may wait at the same socket: one that wakes up for a connection that another process has accepted
/// must not block until the next one.
///
/// Errors: EBADF and the like; `InvalidInput` if it is not a listening stream socket.
pub fn borrow(number: RawFd) -> io::Result<(OwnedFd, SocketName)> {
    let socket = Socket::from(fd::duplicate(number)?);
    if socket.r#type()? != socket2::Type::STREAM || !socket.is_listener()? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let name = name_of(&socket.local_addr()?);
    let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), name))
}

fn name_of(address: &SockAddr) -> Option<SocketName> {
    if let Some(inet) = address.as_socket() {
        return Some(SocketName::Inet(inet));
    }
    if let Some(path) = address.as_pathname() {
        return Some(SocketName::Unix(path.display().to_string()));
    }
    if let Some(name) = address.as_abstract_namespace() {
        return Some(SocketName::Unix(format!("@{}", String::from_utf8_lossy(name))));
    }
    address.is_unnamed().then(|| SocketName::Unix(String::new()))
}

fn describe(name: &SocketName, scheme: &str) -> String {
    match name {
        SocketName::Inet(address) => format!("{scheme}://{address}"),
        SocketName::Unix(path) => format!("unix:{path}"),
    }
}

/// Warns about a backlog that the kernel would cap silently (listen(2)).
fn queue_warning(backlog: u32) -> Option<String> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    let max = text.trim().parse::<u32>().ok().filter(|max| *max < backlog)?;
    Some(format!(
        "the kernel caps --backlog {backlog} at {max}; raise net.core.somaxconn (in Kubernetes, with \
         securityContext.sysctls of the pod), or give --backlog {max}"
    ))
}

#[cfg(test)]
mod tests;
