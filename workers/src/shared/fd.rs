//! System calls on sockets, and on descriptors that come as bare numbers.
//!
//! This module uses nix if its wrapper is safe and complete, and libc otherwise: each call is one operation with one
//! `SAFETY`. Nothing here knows what a connection or a request is. [`send`] to a peer that is gone never raises SIGPIPE
//! (MSG_NOSIGNAL). sendfile(2) has no such flag, so a process that calls [`send_file`] has to ignore SIGPIPE, as
//! CPython and Rust's runtime do.
#![expect(
    unsafe_code,
    reason = "accept4(2) with its address, recvmsg(2) with descriptors, IP_MINTTL, descriptors by number"
)]

pub mod file;

use std::ffi::c_int;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockaddrLike, SockaddrStorage, setsockopt, sockopt,
};
use nix::sys::uio::pread;
use nix::unistd::Pid;

use crate::shared::socket_name::SocketName;

mod datagram;
mod tcp_info;

pub use datagram::{Datagram, MAX_DESCRIPTORS, datagram_pair, receive_datagram, send_datagram};
pub use tcp_info::{
    AcceptQueue, Arrival, accept_queue, arrival, has_half_closed, has_left, last_received,
};

/// The outcome of one read(2) or write(2) on a non-blocking socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// This many bytes were transferred; never 0.
    Bytes(usize),
    /// EAGAIN: nothing is transferred until epoll(7) says so.
    Blocked,
    /// End of stream: the peer has shut down its sending direction.
    Ended,
    /// ECONNRESET, EPIPE or another error: the connection is broken.
    Failed,
}

/// The outcome of one accept4(2).
pub enum Accepted {
    /// A connection.
    Connection {
        /// Non-blocking and close-on-exec.
        socket: OwnedFd,
        /// The address of the peer.
        peer: SocketName,
    },
    /// EAGAIN, EINTR or ECONNABORTED, or an error of the network: the accept queue is empty, or the client has left it.
    /// This is not an error of the listener.
    Empty,
    /// EMFILE, ENFILE, ENOBUFS or ENOMEM: the process is out of resources for now.
    Exhausted(io::Error),
    /// Any other error.
    Failed(io::Error),
}

impl From<Errno> for Accepted {
    fn from(error: Errno) -> Self {
        const AGAIN: [Errno; 3] = [Errno::EAGAIN, Errno::EINTR, Errno::ECONNABORTED];
        // accept(2): errors of the network that the new connection already has.
        const LOST: [Errno; 7] = [
            Errno::ENETDOWN,
            Errno::EPROTO,
            Errno::ENOPROTOOPT,
            Errno::EHOSTDOWN,
            Errno::ENONET,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
        ];
        const FULL: [Errno; 4] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        if AGAIN.contains(&error) || LOST.contains(&error) {
            Self::Empty
        } else if FULL.contains(&error) {
            Self::Exhausted(error.into())
        } else {
            Self::Failed(error.into())
        }
    }
}

/// The bytes of a `struct sockaddr_storage`, with its alignment.
#[repr(C, align(8))]
struct RawName([u8; size_of::<libc::sockaddr_storage>()]);

/// Calls accept4(2) with SOCK_NONBLOCK | SOCK_CLOEXEC, and sets TCP_NODELAY on a TCP connection.
pub fn accept(listener: BorrowedFd<'_>) -> Accepted {
    let mut name = RawName([0; size_of::<RawName>()]);
    let mut name_bytes = size_of::<RawName>() as libc::socklen_t;
    // SAFETY: `name` and `name_bytes` live through the call; the kernel writes at most `name_bytes`
    // bytes of address, which is the size of `name`, and any bytes are valid there.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            (&raw mut name).cast(),
            &raw mut name_bytes,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    };
    if fd < 0 {
        return Errno::last().into();
    }
    // SAFETY: accept4(2) has just made this descriptor, so nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let peer = socket_name(&name.0[..name.0.len().min(name_bytes as usize)]);
    match &peer {
        SocketName::Inet(address) => {
            // Ignored: it fails only for a broken connection, and then reading fails as well.
            let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
            // A connection inherits the limit of a listener that ignores handshakes, and would never receive
            // anything. Ignored: a kernel without the option has set no limit.
            let _ = set_min_ttl(socket.as_fd(), address.is_ipv6(), 0);
        }
        SocketName::Unix(_) => {}
    }
    Accepted::Connection { socket, peer }
}

/// Parses a socket address that the kernel wrote.
///
/// Shape:  `sa_family` in native byte order, then as in ip(7), ipv6(7) and unix(7).
/// Errors: none; any other or incomplete address becomes an unnamed Unix one.
fn socket_name(raw: &[u8]) -> SocketName {
    const INET: c_int = libc::AF_INET;
    const INET6: c_int = libc::AF_INET6;
    const UNIX: c_int = libc::AF_UNIX;
    let unnamed = || SocketName::Unix(String::new());
    let Some((family, rest)) = raw.split_first_chunk() else { return unnamed() };
    match c_int::from(u16::from_ne_bytes(*family)) {
        INET => inet_name(rest).map_or_else(unnamed, SocketName::Inet),
        INET6 => inet6_name(rest).map_or_else(unnamed, SocketName::Inet),
        UNIX => SocketName::Unix(unix_name(rest)),
        _ => unnamed(),
    }
}

fn inet_name(rest: &[u8]) -> Option<SocketAddr> {
    let (port, rest) = rest.split_first_chunk()?;
    let (ip, _) = rest.split_first_chunk::<4>()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(*port)).into())
}

fn inet6_name(rest: &[u8]) -> Option<SocketAddr> {
    let (port, rest) = rest.split_first_chunk()?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (scope, _) = rest.split_first_chunk()?;
    // Both in native byte order, as std does: otherwise equal addresses would differ.
    let (flow, scope) = (u32::from_ne_bytes(*flow), u32::from_ne_bytes(*scope));
    Some(SocketAddrV6::new(Ipv6Addr::from(*ip), u16::from_be_bytes(*port), flow, scope).into())
}

/// A path ends at its first NUL; an abstract name starts with one and may hold more.
fn unix_name(path: &[u8]) -> String {
    match path.split_first() {
        None => String::new(),
        Some((0, [])) => String::new(),
        Some((0, name)) => format!("@{}", String::from_utf8_lossy(name)),
        Some(_) => {
            let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(path).into_owned()
        }
    }
}

/// Calls recv(2), and repeats it after EINTR. `buffer` must not be empty.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Io {
    debug_assert!(!buffer.is_empty(), "no room to read into looks like the end of the stream");
    let transferred = retry(|| socket::recv(socket.as_raw_fd(), buffer, MsgFlags::empty()));
    outcome(transferred)
}

/// Like [`receive`], but what it returns stays in the socket (MSG_PEEK).
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Io {
    debug_assert!(!buffer.is_empty(), "no room to read into looks like the end of the stream");
    outcome(retry(|| socket::recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)))
}

/// The outcome of [`receive_message`].
#[derive(Debug)]
pub enum Message {
    /// EAGAIN or EINTR: nothing has arrived.
    Nothing,
    /// One byte, and the descriptor that was sent with it.
    Received {
        /// The byte.
        word: u8,
        /// Close-on-exec. `None` if none was sent, or if this process cannot have another descriptor.
        descriptor: Option<OwnedFd>,
    },
    /// End of stream, ECONNRESET or another error: the peer is gone.
    Ended,
}

/// Receives one byte from a Unix socket without blocking. It is one byte, because a descriptor arrives with the byte
/// that it was sent with: with two it would be unclear to which it belongs.
pub fn receive_message(socket: BorrowedFd<'_>) -> Message {
    let mut word = [0_u8];
    // Room for two descriptors. The kernel makes no more than fit, and says that it left some out (MSG_CTRUNC).
    let mut rights = [0_u64; 3];
    let mut slice = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: word.len() };
    // SAFETY: zero is a valid value of each field.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut slice, 1);
    header.msg_control = rights.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&rights) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header describes buffers that are alive, with their lengths.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    match Errno::result(received) {
        Ok(0) => return Message::Ended,
        Ok(_) => {}
        Err(Errno::EAGAIN | Errno::EINTR) => return Message::Nothing,
        Err(_) => return Message::Ended,
    }
    // SAFETY: recvmsg(2) has just filled the header and its buffers, and nothing else has read them.
    let mut descriptors = unsafe { take_descriptors(&header) };
    let descriptor = descriptors.pop(); // All others are closed.
    Message::Received { word: word[0], descriptor }
}

/// Takes all descriptors that came with a message, even if some were left out: those that are here would stay open.
///
/// # Safety
///
/// recvmsg(2) has filled `header`, whose buffers are alive, and this is called once.
unsafe fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has written the control messages and their lengths.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: it is null or refers to one of them.
    while let Some(control) = unsafe { next.as_ref() } {
        if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: this only computes a length.
            let header_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
            let length: usize = control.cmsg_len as _;
            let count = (length - header_bytes) / size_of::<RawFd>();
            // SAFETY: this only computes where the data of this message begin.
            let numbers = unsafe { libc::CMSG_DATA(control) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: the data are so many numbers.
                let number = unsafe { numbers.add(index) };
                // SAFETY: as above; they may not be aligned.
                let number = unsafe { number.read_unaligned() };
                // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(header, control) };
    }
    descriptors
}

/// Sends one byte and a duplicate of a descriptor over a Unix socket, without blocking and without SIGPIPE. It allocates
/// nothing, so that a signal handler may call it (signal-safety(7)).
pub fn send_descriptor(
    socket: BorrowedFd<'_>,
    mut word: u8,
    descriptor: BorrowedFd<'_>,
) -> Result<(), Errno> {
    const RAW_FD_BYTES: libc::c_uint = size_of::<RawFd>() as libc::c_uint;
    let mut slice = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 1 };
    // Room for the header of a control message and one descriptor.
    let mut rights = [0_u64; 3];
    // SAFETY: zero is a valid value of each field.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut slice, 1);
    header.msg_control = rights.as_mut_ptr().cast();
    // SAFETY: this only computes a length, which is at most that of `rights`.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(RAW_FD_BYTES) } as _;
    // SAFETY: the header describes `rights`, which has room for a control message.
    let control = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: it is in `rights`, which is alive and aligned.
    let control = unsafe { &mut *control };
    (control.cmsg_level, control.cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    // SAFETY: this only computes a length.
    control.cmsg_len = unsafe { libc::CMSG_LEN(RAW_FD_BYTES) } as _;
    // SAFETY: this only computes where the data begin.
    let data = unsafe { libc::CMSG_DATA(control) }.cast::<RawFd>();
    // SAFETY: `rights` has room for one number there.
    unsafe { data.write_unaligned(descriptor.as_raw_fd()) };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header describes buffers that are alive, with their lengths.
    let send = || unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    retry(|| Errno::result(send())).map(drop)
}

/// The number of a file in its file system: for a socket, no other one has it while it is open. A signal handler may
/// call this.
pub fn inode(fd: RawFd) -> nix::Result<u64> {
    let mut found = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes a `stat` to `found`, which lives through the call; a number that is not open is EBADF.
    Errno::result(unsafe { libc::fstat(fd, found.as_mut_ptr()) })?;
    // SAFETY: fstat(2) has filled it.
    Ok(unsafe { found.assume_init() }.st_ino)
}

/// Ends a TCP connection for all processes that hold it, with a reset (connect(2) to AF_UNSPEC). Does nothing to other
/// sockets.
pub fn disconnect(socket: BorrowedFd<'_>) {
    // SAFETY: all fields of `sockaddr` are integers.
    let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nowhere` is a valid address of this length. Errors are ignored: the socket is closed next.
    unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
}

/// Whether there are bytes to receive.
pub fn has_unread(socket: BorrowedFd<'_>) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    socket::recv(socket.as_raw_fd(), &mut [0], flags).is_ok_and(|count| count > 0)
}

/// Sends up to three parts in order, with MSG_NOSIGNAL: by send(2) if one part is not empty, by sendmsg(2) if there are
/// more. Repeats the call after EINTR. At least one part must not be empty.
pub fn send(socket: BorrowedFd<'_>, parts: [&[u8]; 3]) -> Io {
    send_with(socket, parts, MsgFlags::MSG_NOSIGNAL)
}

/// Like [`send`], if more is about to follow (MSG_MORE): TCP may hold back a last segment that is not full until the
/// next [`send`] or [`push`], for at most 200 ms.
pub fn send_ahead(socket: BorrowedFd<'_>, parts: [&[u8]; 3]) -> Io {
    send_with(socket, parts, MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(libc::MSG_MORE))
}

/// Sends what [`send_ahead`] has held back. Setting TCP_NODELAY does that, even if it is set already (tcp(7)).
pub fn push(socket: BorrowedFd<'_>) {
    // Ignored: a Unix socket does not have this option and holds nothing back; a broken one has nothing to send.
    let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
}

fn send_with(socket: BorrowedFd<'_>, parts: [&[u8]; 3], flags: MsgFlags) -> Io {
    let mut slices = [IoSlice::new(&[]); 3];
    let mut count = 0;
    for part in parts {
        if !part.is_empty() {
            slices[count] = IoSlice::new(part);
            count += 1;
        }
    }
    let transferred = match &slices[..count] {
        [] => {
            debug_assert!(false, "nothing to send");
            return Io::Failed;
        }
        [part] => retry(|| socket::send(socket.as_raw_fd(), part, flags)),
        parts => retry(|| socket::sendmsg::<()>(socket.as_raw_fd(), parts, &[], flags, None)),
    };
    outcome(transferred)
}

/// Calls sendfile(2) from `offset`. The outcome is `Ended` if the file has no byte there any more. A file that cannot be
/// sent this way (not a regular one, or unreadable) is `Failed` like a broken connection: the caller sends only regular
/// files, and the head was sent already.
pub fn send_file(socket: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: u64, length: u64) -> Io {
    debug_assert!(length > 0, "nothing to send looks like the end of the file");
    let Ok(offset) = libc::off_t::try_from(offset) else { return Io::Ended };
    // The kernel transfers at most 2 GB per call (sendfile(2)), so the limit matters only on 32-bit targets.
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    outcome(retry(|| sendfile(socket, file, Some(&mut { offset }), length)))
}

/// Whether a socket has a pending error (SO_ERROR), usually a reset. Reading it clears it.
pub fn has_failed(socket: BorrowedFd<'_>) -> bool {
    socket::getsockopt(&socket, sockopt::SocketError).is_ok_and(|error| error != 0)
}

/// Calls pread(2). The outcome is `Ended` at the end of the file.
pub fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Io {
    let Ok(offset) = libc::off_t::try_from(offset) else { return Io::Ended };
    outcome(retry(|| pread(file, buffer, offset)))
}

/// Keeps new connections out of the accept queue of a listener. Connections that wait there stay.
///
/// A TCP listener ignores new handshakes from then on and finishes those that have begun. An ignored client tries again
/// a second later, and is refused if the socket is closed by then. The listener drops every packet with a TTL below
/// 255. That is every packet that a router has forwarded, and nearly every other one, because systems start at 64 or
/// 128, even on loopback. (A neighbor that starts at 255 is not ignored; if it connects after the last accept(2), it is
/// reset.) The limit does not apply to a handshake that has begun. It applies to its connection until [`accept`]
/// removes it: what the peer sends in between is dropped, and the peer retransmits it after 0.2 s or more. It doubles
/// the wait each time, so after a long time in the queue the next attempt is about as far away as the connection is
/// old.
///
/// A backlog of 0 would not do. It still queues one connection, and while a connection is in the queue, it drops the
/// last packet of other handshakes: their clients believe that they are connected, and are reset later. A socket filter
/// on TCP needs CAP_NET_ADMIN since Linux 6.18. TCP has no other way.
///
/// Source: IP_MINTTL of ip(7); IPV6_MINHOPCOUNT of RFC 5082, which has no man page.
/// Errors: that of setsockopt(2), if the kernel does not have the option. Then the backlog is 0.
pub fn close_queue(listener: BorrowedFd<'_>) -> io::Result<()> {
    match family(listener) {
        Family::Inet { is_ipv6 } => set_min_ttl(listener, is_ipv6, u8::MAX)
            .or_else(|error| set_backlog_to_0(listener).and(Err(error))),
        Family::Other => set_backlog_to_0(listener),
    }
}

/// Whether a listener drops what the clients in its accept queue send, after [`close_queue`].
pub fn is_queue_closed(listener: BorrowedFd<'_>) -> bool {
    match family(listener) {
        Family::Inet { is_ipv6 } => min_ttl(listener, is_ipv6) == Ok(c_int::from(u8::MAX)),
        Family::Other => false,
    }
}

/// Undoes [`close_queue`], except for the backlog, which the caller knows.
pub fn open_queue(listener: BorrowedFd<'_>) {
    if let Family::Inet { is_ipv6 } = family(listener) {
        // Ignored: a kernel without the option has set no limit.
        let _ = set_min_ttl(listener, is_ipv6, 0);
    }
}

enum Family {
    Inet { is_ipv6: bool },
    Other,
}

fn family(socket: BorrowedFd<'_>) -> Family {
    let name = socket::getsockname::<SockaddrStorage>(socket.as_raw_fd());
    match name.ok().and_then(|name| name.family()) {
        Some(AddressFamily::Inet) => Family::Inet { is_ipv6: false },
        Some(AddressFamily::Inet6) => Family::Inet { is_ipv6: true },
        Some(_) | None => Family::Other,
    }
}

fn set_backlog_to_0(listener: BorrowedFd<'_>) -> io::Result<()> {
    Ok(socket::listen(&listener, Backlog::new(0)?)?)
}

/// Sets the minimum TTL (IPv6: hop limit) of packets that a socket receives; 0 is no limit.
fn set_min_ttl(socket: BorrowedFd<'_>, is_ipv6: bool, ttl: u8) -> io::Result<()> {
    let (level, option) = min_ttl_option(is_ipv6);
    Ok(set_option(socket, level, option, c_int::from(ttl))?)
}

fn min_ttl(socket: BorrowedFd<'_>, is_ipv6: bool) -> nix::Result<c_int> {
    let (level, option) = min_ttl_option(is_ipv6);
    let mut value: c_int = 0;
    let mut bytes = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` and `bytes` live through the call; the kernel writes at most `bytes` bytes, which is
    // the size of `value`, and any bytes are valid there.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut bytes)
    };
    Errno::result(result).map(|_| value)
}

fn min_ttl_option(is_ipv6: bool) -> (c_int, c_int) {
    match is_ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_MINTTL),
        true => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    }
}

/// Calls setsockopt(2) for an option that is an `int` and that nix does not have.
fn set_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: c_int,
) -> nix::Result<()> {
    // SAFETY: `value` lives through the call, and the kernel reads no more bytes than it has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// The maximum number of open descriptors of this process (the soft limit of RLIMIT_NOFILE).
pub fn descriptor_limit() -> u64 {
    // getrlimit(2) cannot fail for an existing resource, and no limit is the harmless answer.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Opens a pidfd, which becomes readable when the process exits (pidfd_open(2)). It is close-on-exec.
///
/// Errors: ENOSYS before Linux 5.3; ESRCH.
pub fn process(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: this call touches no memory. Its wrapper exists since glibc 2.36.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let number = RawFd::try_from(Errno::result(number)?).map_err(|_| io::ErrorKind::Unsupported)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes a close-on-exec duplicate of a descriptor that has another owner (fcntl(2) F_DUPFD_CLOEXEC). Its number is never
/// 0 to 2.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: this command touches no memory and does not change `fd`; a number that is not open is EBADF.
    let copy = Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: fcntl(2) has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes over a descriptor that came as a number: from the parent of this process (systemd, `fd://N`, an upgrade), or in a
/// message. Checks with fcntl(2) that it is open, and makes it close-on-exec, because the application's children have no
/// use for it.
///
/// The caller owns the number. It must not take one over twice: the second owner would close a descriptor of someone else.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: this command touches no memory; a number that is not open is EBADF.
    let flags = Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: as above.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as F_GETFD has shown, and nobody owns it. The callers uphold that: recvmsg(2) has just made it
    // (zygote); or the parent of this process left it, and the caller refuses to take over a number twice
    // (`Listeners::inherit`, `Handover::read`) and does so before this process opens anything itself.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn outcome(transferred: nix::Result<usize>) -> Io {
    match transferred {
        Ok(0) => Io::Ended,
        Ok(bytes) => Io::Bytes(bytes),
        Err(Errno::EAGAIN) => Io::Blocked,
        Err(_) => Io::Failed,
    }
}

#[cfg(test)]
mod tests;
