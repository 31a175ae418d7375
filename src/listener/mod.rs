//! The listening sockets: bound once by the supervisor, before the first fork, kept for its life.
//!
//! One socket an address, shared by all workers, so that an idle one takes the next connection; or,
//! with `--listen-mode per-slot`, one SO_REUSEPORT socket an address and slot. Either way the
//! supervisor holds them all, so the death of a worker resets no connection that waits in a queue.
//! Workers get duplicates. Which address is bound how is in [`tcp`] and [`unix`]; this file knows
//! nothing of workers but the number of their slots.

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
use inherited::Leaving;
pub use inherited::{Holder, InheritedSocket, InheritedSockets};
use unix::SocketFile;

/// How to listen, whatever the address.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Whether another server may be bound to the same address already.
    pub reuse_port: bool,
    /// Length of the accept queue.
    pub backlog: u32,
    /// One socket for all slots, or one each.
    pub mode: ListenMode,
    /// Slots at start: with [`ListenMode::PerSlot`] exactly these get a socket, because one that
    /// nobody reads would still be given its share of the connections.
    pub slots: u16,
    /// Permissions of `unix:/path`.
    pub unix_socket_mode: Mode,
    /// Owner of `unix:/path`; ours otherwise.
    pub user: Option<Uid>,
    /// Group of `unix:/path`; ours otherwise.
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
    /// For listen(2).
    fn queue(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }
}

/// All listening sockets.
pub struct Listeners {
    doors: Vec<Door>,
    options: ListenOptions,
    warnings: Vec<String>,
    /// What the server before had and this one does not want.
    leavings: Vec<Leaving>,
}

/// One address and its sockets.
struct Door {
    /// As the configuration has it.
    bind: String,
    name: SocketName,
    sockets: Sockets,
}

/// The sockets of one address.
enum Sockets {
    /// One for all slots.
    Shared(Socket),
    /// One for all slots, behind a path.
    File {
        /// The socket.
        socket: Socket,
        /// Its path, unlinked by its drop.
        file: SocketFile,
    },
    /// One for all slots, which somebody outside has bound and may go on using after us.
    Inherited(Socket),
    /// One for each slot that was asked for.
    PerSlot {
        /// Where each is bound, port 0 resolved.
        address: SocketAddr,
        /// Those bound so far.
        of: RefCell<BTreeMap<SlotId, Socket>>,
    },
}

impl Listeners {
    /// Binds all addresses and listens. All are probed before the first is bound, so that a second
    /// server started by mistake changes nothing.
    ///
    /// Errors: [`ListenError`]; what was bound until then is closed, its paths unlinked.
    pub fn bind(binds: &[BindAddress], options: &ListenOptions) -> Result<Self, ListenError> {
        Self::inherit(binds, options, InheritedSockets::default())
    }

    /// The same with what was inherited from the server before, in an upgrade: only what is new is bound.
    /// As long as that server may go on, nothing happens to its sockets and paths.
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
                all.filter(|(bind, address)| !inherited_sockets.have(bind, *address))
            {
                tcp::probe(bind, address)?;
            }
        }
        let mut doors = Vec::new();
        let mut targets = targets.into_iter();
        for bind in binds {
            match bind {
                BindAddress::Tcp { .. } => {
                    let target = targets.next().expect("each TCP address has been planned");
                    doors.extend(tcp_doors(
                        &target,
                        options,
                        &mut inherited_sockets,
                        &mut warnings,
                    )?);
                }
                BindAddress::Unix(path) => {
                    let (socket, file) = match inherited_sockets.take(bind) {
                        Some((socket, Some(inode))) => (socket, SocketFile::lent(path, inode)),
                        Some((_, None)) | None => unix::bind_path(path, options)?,
                    };
                    // Not the socket's own word: it may have been bound beside and moved there.
                    let name = SocketName::Unix(path.display().to_string());
                    let bind = bind.to_string();
                    doors.push(Door { bind, name, sockets: Sockets::File { socket, file } });
                }
                BindAddress::Abstract(name) => {
                    let socket = match inherited_sockets.take(bind) {
                        Some((socket, _)) => socket,
                        None => unix::bind_abstract(bind, name)?,
                    };
                    doors.push(Door::of(bind, socket, Sockets::Shared)?);
                }
                BindAddress::Fd(number) => {
                    let socket = match inherited_sockets.take(bind) {
                        Some((socket, _)) => socket,
                        None => take_over(*number, Holder::Nobody)?,
                    };
                    doors.push(Door::of(bind, socket, Sockets::Inherited)?);
                }
            }
        }
        let leavings = inherited_sockets.leavings();
        let listeners = Self { doors, options: options.clone(), warnings, leavings };
        listeners.listen(options.queue()).map_err(|(name, error)| {
            let address = describe(&name);
            tcp::refused(address, error, options.reuse_port)
        })?;
        Ok(listeners)
    }

    /// Duplicates for the worker of one slot: close-on-exec, non-blocking, in the order of
    /// [`Listeners::names`]. A slot that is new in per-slot mode gets its sockets now.
    ///
    /// Errors: EMFILE and the like; in per-slot mode also what bind(2) says.
    pub fn for_slot(&self, slot: SlotId) -> io::Result<Vec<Listener>> {
        let duplicate = |door: &Door| {
            let socket = match &door.sockets {
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
            let owner = match door.sockets {
                Sockets::Inherited(_) => Owner::Outside,
                Sockets::Shared(_) | Sockets::File { .. } => Owner::Supervisor,
                Sockets::PerSlot { .. } => Owner::Slot,
            };
            Ok(Listener { socket, name: door.name.clone(), owner })
        };
        self.doors.iter().map(duplicate).collect()
    }

    /// The descriptors that a child closes: a worker has duplicates of those that it needs.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        for door in &self.doors {
            match &door.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => own.add(socket),
                Sockets::PerSlot { of, .. } => own.extend(of.borrow().values()),
            }
        }
        own.extend(self.leavings.iter().map(|leaving| &leaving.socket));
    }

    /// Gives up the sockets that only this slot had (per-slot mode): the slot is not to be filled
    /// again, and a socket that nobody reads would still be given connections. What waits in its
    /// queue is the leaving worker's, which takes it through its own duplicate.
    pub fn retire(&self, slot: SlotId) {
        for door in &self.doors {
            match &door.sockets {
                Sockets::PerSlot { of, .. } => drop(of.borrow_mut().remove(&slot)),
                Sockets::Shared(_) | Sockets::File { .. } | Sockets::Inherited(_) => {}
            }
        }
    }

    /// Shuts the queues for new connections, without a reset for those that wait
    /// ([`fd::close_queue`]). Workers then accept until EAGAIN and close.
    ///
    /// Inherited sockets are left alone: their queue belongs to who bound them, and with systemd it
    /// is what bridges a restart.
    ///
    /// Errors: the first that the kernel gives; the others are shut all the same.
    pub fn close_door(&self) -> io::Result<()> {
        let mut outcome = Ok(());
        for door in &self.doors {
            match &door.sockets {
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

    /// Duplicates of all of them, for a successor.
    ///
    /// Errors: EMFILE and the like.
    pub fn inherited_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        let mut all = Vec::new();
        for Door { bind, sockets, .. } in &self.doors {
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

    /// Paths are the successor's from now on.
    pub fn disown(&mut self) {
        self.files().for_each(SocketFile::disown);
    }

    /// A successor is ready: no new connection enters the queues that are not wanted any more. The
    /// workers of the server before empty them.
    pub fn shut_leavings(&self) {
        for leaving in &self.leavings {
            // Ignored: what is not shut is closed a moment later all the same.
            let _ = fd::close_queue(leaving.socket.as_fd());
        }
    }

    /// A successor came to nothing: what it did to the sockets, which were its own as well, is undone.
    pub fn reopen(&self) {
        for door in &self.doors {
            let reopen = |socket: &Socket| {
                fd::open_queue(socket.as_fd());
                let _ = socket.listen(self.options.queue());
            };
            match &door.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => reopen(socket),
                Sockets::PerSlot { of, .. } => of.borrow().values().for_each(reopen),
            }
        }
    }

    /// Everything is this server's from now on; what is not wanted any more is given up.
    pub fn own(&mut self) {
        self.files().for_each(SocketFile::own);
        for leaving in self.leavings.drain(..) {
            if let Some(mut file) = leaving.file {
                file.own();
            }
        }
    }

    fn files(&mut self) -> impl Iterator<Item = &mut SocketFile> {
        self.doors.iter_mut().filter_map(|door| match &mut door.sockets {
            Sockets::File { file, .. } => Some(file),
            Sockets::Shared(_) | Sockets::Inherited(_) | Sockets::PerSlot { .. } => None,
        })
    }

    /// The addresses for people, port 0 resolved: `http://127.0.0.1:8000`, `unix:/run/x.sock`.
    pub fn descriptions(&self) -> Vec<String> {
        self.doors.iter().map(|door| describe(&door.name)).collect()
    }

    /// The addresses, port 0 resolved.
    pub fn names(&self) -> Vec<SocketName> {
        self.doors.iter().map(|door| door.name.clone()).collect()
    }

    /// How full the queues of all TCP sockets are together; `None` where there is none.
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
        for door in &self.doors {
            match &door.sockets {
                Sockets::Shared(socket) | Sockets::Inherited(socket) => add(socket),
                Sockets::File { .. } => {}
                Sockets::PerSlot { of, .. } => of.borrow().values().for_each(&mut add),
            }
        }
        sum
    }

    /// What an operator may want to know about these sockets, a sentence each, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// listen(2) on all sockets. A server before may have left one of them closed for new connections.
    fn listen(&self, backlog: i32) -> Result<(), (SocketName, io::Error)> {
        let listen = |socket: &Socket| {
            fd::open_queue(socket.as_fd());
            socket.listen(backlog)
        };
        let mut outcome = Ok(());
        for door in &self.doors {
            let listened = match &door.sockets {
                Sockets::Shared(socket)
                | Sockets::File { socket, .. }
                | Sockets::Inherited(socket) => listen(socket),
                Sockets::PerSlot { of, .. } => {
                    let all = |outcome: io::Result<()>, socket| outcome.and(listen(socket));
                    of.borrow().values().fold(Ok(()), all)
                }
            };
            outcome = outcome.and(listened.map_err(|error| (door.name.clone(), error)));
        }
        outcome
    }
}

impl Door {
    /// A door with the name that the socket says it has.
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

fn tcp_doors(
    target: &tcp::Target<'_>,
    options: &ListenOptions,
    inherited_sockets: &mut InheritedSockets,
    warnings: &mut Vec<String>,
) -> Result<Vec<Door>, ListenError> {
    let bind = target.bind();
    let has_heirlooms =
        target.addresses().any(|(bind, address)| inherited_sockets.have(bind, address));
    let opened = tcp::open_all(target, options.reuse_port, inherited_sockets, warnings)?;
    let door = |(address, socket)| {
        let name = SocketName::Inet(address);
        let sockets = match options.mode {
            ListenMode::Shared => Sockets::Shared(socket),
            ListenMode::PerSlot => {
                let mut of = BTreeMap::from([(SlotId(0), socket)]);
                for slot in 1..options.slots {
                    let socket = match inherited_sockets.take_tcp(bind, address) {
                        Some(socket) => socket,
                        // Beside sockets that are read already, one that nobody reads would be given
                        // connections: it is made when its worker is.
                        None if has_heirlooms => break,
                        None => tcp::open(address).map_err(|error| {
                            tcp::refused(describe(&name), error, options.reuse_port)
                        })?,
                    };
                    of.insert(SlotId(slot), socket);
                }
                Sockets::PerSlot { address, of: RefCell::new(of) }
            }
        };
        Ok(Door { bind: bind.to_string(), name, sockets })
    };
    opened.into_iter().map(door).collect()
}

/// The same twice is a mistake, and a descriptor can be taken over only once. Any free port twice
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

/// A descriptor that is a listening stream socket, or why it is none. What is none is left as it was: it may be
/// somebody else's who runs in this process.
fn take_over(number: RawFd, holder: Holder) -> Result<Socket, ListenError> {
    let not_open = |error| ListenError::NotOpen { number, error };
    let duplicate = Socket::from(fd::duplicate(number).map_err(not_open)?);
    match (duplicate.r#type(), duplicate.is_listener()) {
        (Ok(socket2::Type::STREAM), Ok(true)) => {}
        (Ok(_), Ok(_)) => return Err(ListenError::NotListening { number }),
        (Err(_), _) | (_, Err(_)) => return Err(ListenError::NotASocket { number }),
    }
    let socket = match holder {
        Holder::Nobody => Socket::from(fd::adopt(number).map_err(not_open)?),
        Holder::Program => duplicate,
    };
    let prepared = socket.set_nonblocking(true);
    prepared.map_err(|error| ListenError::other(&BindAddress::Fd(number), "fcntl(2)", error))?;
    Ok(socket)
}

/// A duplicate of a listening stream socket that somebody else owns, and where that is bound. The
/// duplicate is close-on-exec and made non-blocking.
///
/// Non-blocking is a property of the socket and not of a descriptor, so it holds for the owner, too. It
/// stays so: another process may be waiting at the same socket, and one that is woken for a connection
/// which somebody else has taken must not wait for the next.
///
/// Errors: EBADF and the like; `InvalidInput` for what is no listening stream socket.
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

fn describe(name: &SocketName) -> String {
    match name {
        SocketName::Inet(address) => format!("http://{address}"),
        SocketName::Unix(path) => format!("unix:{path}"),
    }
}

/// The kernel cuts a longer backlog silently (listen(2)).
fn queue_warning(backlog: u32) -> Option<String> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    let most = text.trim().parse::<u32>().ok().filter(|most| *most < backlog)?;
    Some(format!(
        "--backlog {backlog} is cut to {most} by the kernel; raise net.core.somaxconn \
         (in Kubernetes: a pod's securityContext.sysctls), or give --backlog {most}"
    ))
}

#[cfg(test)]
mod tests;
