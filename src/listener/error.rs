//! Why an address cannot be listened on, in words that say what to do.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use arctos_worker::shared::log::ErrorText;
use nix::libc;

use crate::system::address::BindAddress;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The same address is given twice.
    #[error("{address} is given twice; leave one out")]
    Repeated {
        /// The address.
        address: String,
    },
    /// Two addresses are the same.
    #[error("{first} and {second} are both {address}; leave one out")]
    Twice {
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
        /// What both mean.
        address: String,
    },
    /// A name that has no address.
    #[error("{bind}: the name has no address here ({}); check it, or give the address", ErrorText(.error))]
    Unresolved {
        /// As given.
        bind: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// Somebody listens there (EADDRINUSE).
    #[error(
        "{address} is in use: another server listens there; stop it (ss -ltnp shows it), \
         choose another --bind, or share the address with --reuse-port"
    )]
    InUse {
        /// The address.
        address: String,
    },
    /// Somebody listens where the admin socket should (EADDRINUSE), which is never shared.
    #[error(
        "{address} is in use: another server listens there; stop it (ss -ltnp shows it), or choose \
         another --admin-bind"
    )]
    AdminInUse {
        /// The address.
        address: String,
    },
    /// `fd://N` for the admin socket.
    #[error("fd://{number}: the admin socket is not inherited; give HOST:PORT or unix:/path")]
    AdminFd {
        /// Its number.
        number: RawFd,
    },
    /// Somebody listens there and does not share (EADDRINUSE with `--reuse-port`).
    #[error(
        "{address} is in use by a server that does not share it: sharing takes SO_REUSEPORT on both \
         sides, and the same user"
    )]
    NotShared {
        /// The address.
        address: String,
    },
    /// A low port, or a kernel that says no (EACCES, EPERM).
    #[error(
        "{address}: permission denied; a port below 1024 needs root, CAP_NET_BIND_SERVICE, or a \
         lower net.ipv4.ip_unprivileged_port_start; or choose a higher port"
    )]
    Forbidden {
        /// The address.
        address: String,
    },
    /// No interface has it (EADDRNOTAVAIL, or a family that the kernel does not have).
    #[error(
        "{address}: this machine does not have that address; ip addr shows those it has, and \
         0.0.0.0 listens on all of IPv4"
    )]
    NotHere {
        /// The address.
        address: String,
    },
    /// sun_path is short (unix(7)).
    #[error("unix:{}: the path has {length} bytes and a socket's can have 107; choose a shorter one",
        .path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The socket's folder.
    #[error("unix:{}: its folder cannot be used ({}); make it, or let us write there",
        .path.display(), ErrorText(.error))]
    Folder {
        /// The path.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// Something that is no stream socket has that path.
    #[error("unix:{}: something else is there, not a stream socket; it is not touched: move it away, \
             or choose another path", .path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// Whoever can write to the socket's folder has put something else there.
    #[error("unix:{}: something else was put there while it was bound; it is not touched: let only \
             trusted users write to its folder", .path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// `fd://N` is not open.
    #[error("fd://{number}: no such descriptor was inherited ({})", ErrorText(.error))]
    NotOpen {
        /// Its number.
        number: RawFd,
        /// What fcntl(2) says.
        error: io::Error,
    },
    /// `fd://N` is a file or so.
    #[error("fd://{number}: the inherited descriptor is not a socket")]
    NotASocket {
        /// Its number.
        number: RawFd,
    },
    /// `fd://N` is a socket of another kind.
    #[error(
        "fd://{number}: the inherited socket is not a listening stream socket; its owner has to call \
         listen(2) first (systemd: ListenStream=, Accept=no)"
    )]
    NotListening {
        /// Its number.
        number: RawFd,
    },
    /// Anything else that the kernel says.
    #[error("{address}: {call}: {}", ErrorText(.error))]
    Other {
        /// The address.
        address: String,
        /// The system call.
        call: &'static str,
        /// What it says.
        error: io::Error,
    },
}

impl ListenError {
    /// The exit code: always 1.
    pub fn exit_code(&self) -> i32 {
        1
    }

    /// What has no words of its own.
    pub(super) fn other(bind: &BindAddress, call: &'static str, error: io::Error) -> Self {
        Self::Other { address: bind.to_string(), call, error }
    }
}

/// Whether the machine lacks the address or its family: no reason to give up the other addresses of
/// a name.
pub(super) fn is_not_here(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

/// Whether somebody is there already.
pub(super) fn is_in_use(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}
