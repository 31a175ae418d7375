//! Listening sockets that a successor inherits from its predecessor in an upgrade.
//!
//! Sockets are identified by the address that they are bound to, and sockets of port 0 by the text that asked for it. A
//! socket is taken once. Sockets that are not taken are closed when the predecessor no longer needs them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use arctos_worker::shared::fd;
use arctos_worker::shared::identity::SlotId;
use serde_json::{Value, json};
use socket2::Socket;

use super::ListenError;
use super::unix::{Inode, SocketFile};
use crate::system::address::BindAddress;

/// One inherited socket: a duplicate, which is close-on-exec.
pub struct InheritedSocket {
    /// The address as it is configured.
    pub(super) bind: String,
    /// The slot that it belongs to (per-slot mode).
    pub(super) slot: Option<SlotId>,
    pub(super) socket: Socket,
    /// The file at its path.
    pub(super) inode: Option<Inode>,
}

impl InheritedSocket {
    /// Duplicates a socket that stays in use here.
    pub(super) fn of(
        bind: &str,
        slot: Option<SlotId>,
        socket: &Socket,
        inode: Option<Inode>,
    ) -> io::Result<Self> {
        let socket = Socket::from(fd::duplicate(socket.as_raw_fd())?);
        Ok(Self { bind: bind.to_owned(), slot, socket, inode })
    }

    /// Describes the socket to the process that inherits its number.
    pub fn describe(&self) -> Value {
        let inode = self.inode.map(|inode| json!([inode.device, inode.number]));
        let slot = self.slot.map(|slot| slot.0);
        json!({"bind": self.bind, "slot": slot, "fd": self.socket.as_raw_fd(), "inode": inode})
    }

    /// Takes over a socket that a predecessor described; `None` if the number is not a listening socket.
    pub fn take_over(described: &Value) -> Option<Self> {
        let bind = described["bind"].as_str()?.to_owned();
        let slot = described["slot"].as_u64().and_then(|slot| u16::try_from(slot).ok());
        let number = i32::try_from(described["fd"].as_u64()?).ok().filter(|number| *number > 2)?;
        let inode = match (described["inode"][0].as_u64(), described["inode"][1].as_u64()) {
            (Some(device), Some(number)) => Some(Inode { device, number }),
            (Some(_) | None, _) => None,
        };
        let socket = Socket::from(fd::adopt(number).ok()?);
        let is_listener = socket.is_listener().is_ok_and(|is_listener| is_listener);
        is_listener.then_some(Self { bind, slot: slot.map(SlotId), socket, inode })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// Whether this socket is the one for this address.
    fn is_at(&self, bind: &BindAddress, address: SocketAddr) -> bool {
        self.address().is_some_and(|own| match address.port() {
            0 => own.ip() == address.ip() && self.bind == bind.to_string(),
            _ => own == address,
        })
    }
}

impl AsFd for InheritedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The inherited sockets that were not taken yet.
#[derive(Default)]
pub struct InheritedSockets(Vec<InheritedSocket>);

impl From<Vec<InheritedSocket>> for InheritedSockets {
    fn from(all: Vec<InheritedSocket>) -> Self {
        Self(all)
    }
}

/// Who owns the descriptors of `fd://N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorOwner {
    /// This process: its parent passed them to it.
    Server,
    /// A program in this process, which continues to use them.
    Program,
}

impl InheritedSockets {
    /// Adds the sockets of all `fd://N` that are not inherited yet. Call this before this process opens anything
    /// itself: a new descriptor that gets one of these numbers would be taken for an inherited one.
    ///
    /// Errors: [`ListenError`].
    pub fn with_inherited(
        mut self,
        binds: &[BindAddress],
        owner: DescriptorOwner,
    ) -> Result<Self, ListenError> {
        super::refuse_equal(binds)?;
        for bind in binds {
            let BindAddress::Fd(number) = bind else { continue };
            let bind = bind.to_string();
            if self.0.iter().all(|inherited_socket| inherited_socket.bind != bind) {
                let socket = super::take_over(*number, owner)?;
                self.0.push(InheritedSocket { bind, slot: None, socket, inode: None });
            }
        }
        Ok(self)
    }

    /// Whether one of the sockets is bound to this address.
    pub(super) fn contains(&self, bind: &BindAddress, address: SocketAddr) -> bool {
        self.0.iter().any(|inherited_socket| inherited_socket.is_at(bind, address))
    }

    /// Takes a TCP socket for this address. If there are several, takes that of the lowest slot.
    pub(super) fn take_tcp(&mut self, bind: &BindAddress, address: SocketAddr) -> Option<Socket> {
        let numbered = self.0.iter().enumerate();
        let fitting =
            numbered.filter(|(_, inherited_socket)| inherited_socket.is_at(bind, address));
        let (index, _) =
            fitting.min_by_key(|(_, inherited_socket)| inherited_socket.slot.map(|slot| slot.0))?;
        Some(self.0.remove(index).socket)
    }

    /// Takes the socket of an address that is a path, an abstract name or a descriptor.
    pub(super) fn take(&mut self, bind: &BindAddress) -> Option<(Socket, Option<Inode>)> {
        let bind = bind.to_string();
        let index = self.0.iter().position(|inherited_socket| inherited_socket.bind == bind)?;
        let inherited_socket = self.0.remove(index);
        Some((inherited_socket.socket, inherited_socket.inode))
    }

    /// Returns the sockets that were not taken. Those of `fd://N` are closed at once.
    pub(super) fn into_unused(self) -> Vec<UnusedSocket> {
        let is_outside = |bind: &str| matches!(bind.parse::<BindAddress>(), Ok(BindAddress::Fd(_)));
        let ours =
            self.0.into_iter().filter(|inherited_socket| !is_outside(&inherited_socket.bind));
        let unused = |inherited_socket: InheritedSocket| {
            let path = inherited_socket.bind.strip_prefix("unix:").map(str::to_owned);
            let file = path.zip(inherited_socket.inode);
            let file = file.map(|(path, inode)| SocketFile::owned_elsewhere(path.as_ref(), inode));
            UnusedSocket { socket: inherited_socket.socket, file }
        };
        ours.map(unused).collect()
    }
}

/// A socket of the predecessor that this server does not use.
pub(super) struct UnusedSocket {
    /// The socket. It is closed for new connections before the workers of the predecessor empty its queue.
    pub(super) socket: Socket,
    /// Its path, which will be unlinked.
    pub(super) file: Option<SocketFile>,
}
