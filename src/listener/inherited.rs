//! Listening sockets that a successor has from the server before it, in an upgrade.
//!
//! They are told apart by where they are bound, and those of port 0 by how that was asked for. A socket
//! is taken once. What nobody takes is given up when the server before has nothing more to do with it.

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

/// One of them: a duplicate, close-on-exec.
pub struct InheritedSocket {
    /// As the configuration has it.
    pub(super) bind: String,
    /// Whose alone it was (per-slot mode).
    pub(super) slot: Option<SlotId>,
    pub(super) socket: Socket,
    /// What is at its path.
    pub(super) inode: Option<Inode>,
}

impl InheritedSocket {
    /// A duplicate of a socket that goes on being used here.
    pub(super) fn of(
        bind: &str,
        slot: Option<SlotId>,
        socket: &Socket,
        inode: Option<Inode>,
    ) -> io::Result<Self> {
        let socket = Socket::from(fd::duplicate(socket.as_raw_fd())?);
        Ok(Self { bind: bind.to_owned(), slot, socket, inode })
    }

    /// How it is told of to who inherits its number.
    pub fn describe(&self) -> Value {
        let inode = self.inode.map(|inode| json!([inode.device, inode.number]));
        let slot = self.slot.map(|slot| slot.0);
        json!({"bind": self.bind, "slot": slot, "fd": self.socket.as_raw_fd(), "inode": inode})
    }

    /// The same from the other side: takes the number over. `None`: it is nothing of the kind.
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

    /// Whether it is what a bind of this address is after.
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

/// See the module.
#[derive(Default)]
pub struct InheritedSockets(Vec<InheritedSocket>);

impl From<Vec<InheritedSocket>> for InheritedSockets {
    fn from(all: Vec<InheritedSocket>) -> Self {
        Self(all)
    }
}

/// Whose the numbers of `fd://N` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever started this process has left them to it.
    Nobody,
    /// A program that runs in this process and goes on using them: it gets them back as they were.
    Program,
}

impl InheritedSockets {
    /// Takes the sockets of all `fd://N` that are not among them. To be called before this process opens anything
    /// itself: what gets a free number would be taken for what was inherited under it.
    ///
    /// Errors: [`ListenError`].
    pub fn with_inherited(
        mut self,
        binds: &[BindAddress],
        holder: Holder,
    ) -> Result<Self, ListenError> {
        super::refuse_equal(binds)?;
        for bind in binds {
            let BindAddress::Fd(number) = bind else { continue };
            let bind = bind.to_string();
            if self.0.iter().all(|inherited_socket| inherited_socket.bind != bind) {
                let socket = super::take_over(*number, holder)?;
                self.0.push(InheritedSocket { bind, slot: None, socket, inode: None });
            }
        }
        Ok(self)
    }

    /// Whether an address is bound by one of them.
    pub(super) fn have(&self, bind: &BindAddress, address: SocketAddr) -> bool {
        self.0.iter().any(|inherited_socket| inherited_socket.is_at(bind, address))
    }

    /// A TCP socket for this address; of several, that of the lowest slot.
    pub(super) fn take_tcp(&mut self, bind: &BindAddress, address: SocketAddr) -> Option<Socket> {
        let numbered = self.0.iter().enumerate();
        let fitting =
            numbered.filter(|(_, inherited_socket)| inherited_socket.is_at(bind, address));
        let (index, _) =
            fitting.min_by_key(|(_, inherited_socket)| inherited_socket.slot.map(|slot| slot.0))?;
        Some(self.0.remove(index).socket)
    }

    /// What was bound by these words: a path, an abstract name, a descriptor.
    pub(super) fn take(&mut self, bind: &BindAddress) -> Option<(Socket, Option<Inode>)> {
        let bind = bind.to_string();
        let index = self.0.iter().position(|inherited_socket| inherited_socket.bind == bind)?;
        let inherited_socket = self.0.remove(index);
        Some((inherited_socket.socket, inherited_socket.inode))
    }

    /// What nobody has taken; descriptors of somebody outside are closed here and now.
    pub(super) fn leavings(self) -> Vec<Leaving> {
        let is_outside = |bind: &str| matches!(bind.parse::<BindAddress>(), Ok(BindAddress::Fd(_)));
        let ours =
            self.0.into_iter().filter(|inherited_socket| !is_outside(&inherited_socket.bind));
        let leaving = |inherited_socket: InheritedSocket| {
            let path = inherited_socket.bind.strip_prefix("unix:").map(str::to_owned);
            let file = path.zip(inherited_socket.inode);
            let file = file.map(|(path, inode)| SocketFile::lent(path.as_ref(), inode));
            Leaving { socket: inherited_socket.socket, file }
        };
        ours.map(leaving).collect()
    }
}

/// A socket of the server before that is not wanted any more.
pub(super) struct Leaving {
    /// Shut for new connections before the workers of the server before empty its queue.
    pub(super) socket: Socket,
    /// Its path, to be unlinked.
    pub(super) file: Option<SocketFile>,
}
