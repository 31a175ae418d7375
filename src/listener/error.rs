//! The errors of listening on an address. Each message says what to do.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use arctos_worker::shared::log::ErrorText;
use nix::libc;

use crate::system::address::BindAddress;

/// An error that prevents the server from listening.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address is given twice.
    #[error("{address} is given twice; leave one out")]
    Repeated {
        /// The address.
        address: String,
    },
    /// Two `--bind` options stand for the same address.
    #[error("{first} and {second} are both {address}; leave one out")]
    Twice {
        /// The earlier address.
        first: String,
        /// The later address.
        second: String,
        /// The address that both stand for.
        address: String,
    },
    /// The name cannot be resolved.
    #[error("{bind}: cannot resolve the name ({}); check it, or give the address", ErrorText(.error))]
    Unresolved {
        /// The address as given.
        bind: String,
        /// The error of the resolver.
        error: io::Error,
    },
    /// Another server listens there (EADDRINUSE).
    #[error(
        "{address} is in use: another server listens there; stop it (ss -ltnp shows it), \
         choose another --bind, or share the address with --reuse-port"
    )]
    InUse {
        /// The address.
        address: String,
    },
    /// Another server listens on the address of the admin socket (EADDRINUSE), which is never shared.
    #[error(
        "{address} is in use: another server listens there; stop it (ss -ltnp shows it), or choose \
         another --admin-bind"
    )]
    AdminInUse {
        /// The address.
        address: String,
    },
    /// The admin socket is `fd://N`.
    #[error("fd://{number}: the admin socket cannot be inherited; give HOST:PORT or unix:/path")]
    AdminFd {
        /// The number of the descriptor.
        number: RawFd,
    },
    /// Another server listens there and does not share the address (EADDRINUSE with `--reuse-port`).
    #[error(
        "{address} is in use by a server that does not share it; both servers need SO_REUSEPORT and the same user"
    )]
    NotShared {
        /// The address.
        address: String,
    },
    /// The port is privileged, or the kernel refuses (EACCES, EPERM).
    #[error(
        "{address}: permission denied. Ports below 1024 need root, CAP_NET_BIND_SERVICE or a lower \
         net.ipv4.ip_unprivileged_port_start; or choose a higher port"
    )]
    Forbidden {
        /// The address.
        address: String,
    },
    /// No interface has the address (EADDRNOTAVAIL), or the kernel lacks its family.
    #[error(
        "{address}: this machine does not have the address; `ip addr` lists those that it has, and \
         0.0.0.0 listens on all IPv4 addresses"
    )]
    NotHere {
        /// The address.
        address: String,
    },
    /// The path does not fit sun_path (unix(7)).
    #[error("unix:{}: the path has {length} bytes, and that of a socket can have 107; choose a shorter one",
        .path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The directory of the socket cannot be used.
    #[error("unix:{}: cannot use its directory ({}); create it, or grant write permission",
        .path.display(), ErrorText(.error))]
    Directory {
        /// The path.
        path: PathBuf,
        /// The error of the kernel.
        error: io::Error,
    },
    /// The path belongs to something other than a stream socket.
    #[error("unix:{}: the path exists and is not a stream socket; remove it, or choose another path", .path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// A process that can write to the directory replaced the socket.
    #[error("unix:{}: another process replaced the path while it was bound; let only trusted users write \
             to its directory", .path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// `fd://N` is not open.
    #[error("fd://{number}: no such descriptor was inherited ({})", ErrorText(.error))]
    NotOpen {
        /// The number of the descriptor.
        number: RawFd,
        /// The error of fcntl(2).
        error: io::Error,
    },
    /// `fd://N` is not a socket.
    #[error("fd://{number}: the inherited descriptor is not a socket")]
    NotASocket {
        /// The number of the descriptor.
        number: RawFd,
    },
    /// `fd://N` is a socket that does not listen, or not for streams.
    #[error(
        "fd://{number}: the inherited socket is not a listening stream socket; its owner must call \
         listen(2) first (systemd: ListenStream=, Accept=no)"
    )]
    NotListening {
        /// The number of the descriptor.
        number: RawFd,
    },
    /// The kernel reported another error.
    #[error("{address}: {call}: {}", ErrorText(.error))]
    Other {
        /// The address.
        address: String,
        /// The system call.
        call: &'static str,
        /// Its error.
        error: io::Error,
    },
}

impl ListenError {
    /// The exit code: always 1.
    pub fn exit_code(&self) -> i32 {
        1
    }

    /// Returns an error that has no variant of its own.
    pub(super) fn other(bind: &BindAddress, call: &'static str, error: io::Error) -> Self {
        Self::Other { address: bind.to_string(), call, error }
    }
}

/// Whether the machine lacks the address or its family. The other addresses of a name can still be used then.
pub(super) fn is_not_here(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

/// Whether another socket is already bound there.
pub(super) fn is_in_use(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}
