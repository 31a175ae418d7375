//! The access log, which is opened before the workers give up the right to open it, and reopened on USR1.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use arctos_worker::shared::fd;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, readlinkat};
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, geteuid};

use crate::config::{AccessLog, SyslogAddress};
use crate::monitor::fatal::Fatal;

/// Maximum length of a chain of symbolic links, as in the kernel.
const MOST_LINKS: usize = 40;

/// Opens the access log. Call this before the workers give up the right to open it.
pub(super) fn open(access: &AccessLog) -> Result<Option<OwnedFd>, Fatal> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Fatal::AccessLog { path, source }
    };
    match access {
        AccessLog::Off => Ok(None),
        AccessLog::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            Ok(Some(stdout.map_err(failed("-".as_ref()))?))
        }
        AccessLog::File(path) => Ok(Some(open_file(path).map_err(failed(path))?.into())),
        AccessLog::Fd(number) => {
            let name = format!("fd://{number}");
            Ok(Some(inherited(*number).map_err(failed(name.as_ref()))?))
        }
        AccessLog::Syslog(address) => {
            let name = address.to_string();
            Ok(Some(connect(address).map_err(failed(name.as_ref()))?))
        }
    }
}

/// Whether the access log is opened once and for all: the supervisor cannot wait for a name server while it runs.
pub(super) fn is_permanent(access: &AccessLog) -> bool {
    match access {
        AccessLog::Syslog(SyslogAddress::Udp { .. }) => true,
        AccessLog::Syslog(SyslogAddress::Unix(_))
        | AccessLog::Off
        | AccessLog::Stdout
        | AccessLog::File(_)
        | AccessLog::Fd(_) => false,
    }
}

/// Duplicates a descriptor that whoever started this process has opened for writing. One that would be closed by
/// execve(2) was not inherited: it is another file of this process, such as a listening socket.
fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let file = fd::duplicate(number)?;
    if closes_on_exec(number) {
        return Err(io::Error::other("it was not inherited from the process that started arctos"));
    }
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    if flags & OFlag::O_ACCMODE == OFlag::O_RDONLY {
        return Err(io::Error::other("it is not open for writing"));
    }
    Ok(file)
}

/// Whether execve(2) closes a descriptor, as far as proc(5) says so.
fn closes_on_exec(number: RawFd) -> bool {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
}

/// The access log for one worker. Over UDP, each worker has a socket of its own: the kernel reports a message that was
/// refused with the next one of the same socket, and another worker would take the loss for one of its own.
pub(super) fn for_worker(access: &AccessLog, shared: &OwnedFd) -> io::Result<OwnedFd> {
    match access {
        // An error means that the configuration has changed since the log was opened.
        AccessLog::Syslog(SyslogAddress::Udp { .. }) => UdpSocket::from(shared.try_clone()?)
            .peer_addr()
            .and_then(connect_udp)
            .or_else(|_| shared.try_clone()),
        AccessLog::Syslog(SyslogAddress::Unix(_))
        | AccessLog::Off
        | AccessLog::Stdout
        | AccessLog::File(_)
        | AccessLog::Fd(_) => shared.try_clone(),
    }
}

/// Connects to a syslog daemon, so that the kernel says when it is gone.
fn connect(address: &SyslogAddress) -> io::Result<OwnedFd> {
    match address {
        SyslogAddress::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            Ok(socket.into())
        }
        SyslogAddress::Udp { host, port } => {
            let address = (host.as_str(), *port).to_socket_addrs()?.next();
            connect_udp(address.ok_or_else(|| io::Error::other("the host has no address"))?)
        }
    }
}

fn connect_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket.into())
}

/// Root follows no link that another user created: in a directory that the workers' user can write to, a planted link
/// would append lines that clients can influence to a file of root. Root doesn't wait for the reader of a FIFO either.
///
/// A link is checked and read through the same descriptor, and its target is opened by the same rule. Replacing the
/// link between these steps therefore has no effect.
fn open_file(path: &Path) -> io::Result<File> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match open_at_once(&path, libc::O_NOFOLLOW) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {}
            opened => return opened,
        }
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let link = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        let owner = Uid::from_raw(link.metadata()?.uid());
        if !may_follow(owner, geteuid()) {
            return Err(io::Error::other(format!(
                "it is a link of user {owner}, which root does not follow; give its target"
            )));
        }
        // `/dev/stdout` leads to /proc. No user can plant a link there, and the content of such a link is not a path.
        if fstatfs(&link)?.filesystem_type() == PROC_SUPER_MAGIC {
            return open_at_once(&path, 0);
        }
        // EINVAL or ENOENT means that something other than a link has replaced it.
        let target = PathBuf::from(readlinkat(&link, "")?);
        path = path.parent().map_or(target.clone(), |directory| directory.join(target));
    }
    Err(Errno::ELOOP.into())
}

/// Opens a file without waiting, although open(2) waits for the reader of a FIFO. Writing to the file may block.
fn open_at_once(path: &Path, flags: i32) -> io::Result<File> {
    let flags = flags | libc::O_NONBLOCK;
    let opened = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a FIFO or a socket that nobody reads from"),
        Some(_) | None => error,
    })?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

fn may_follow(owner: Uid, own: Uid) -> bool {
    owner.is_root() || !own.is_root()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{lchown, symlink};

    use nix::fcntl::FdFlag;

    use super::*;

    #[test]
    fn root_follows_links_that_root_owns() {
        let (root, other) = (Uid::from_raw(0), Uid::from_raw(1_234_567));
        assert!(may_follow(root, root));
        assert!(!may_follow(other, root));
        assert!(may_follow(other, other));
        assert!(may_follow(root, other));
    }

    #[test]
    fn root_does_not_follow_a_link_of_another_user() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        symlink(&target, &link).unwrap();
        open_file(&link).unwrap();
        assert!(target.exists());
        if geteuid().is_root() {
            lchown(&link, Some(1_234_567), None).unwrap();
            assert!(open_file(&link).unwrap_err().to_string().contains("user 1234567"));
        }
        open_file(&directory.path().join("file")).unwrap();
    }

    #[test]
    fn a_chain_of_links_is_followed_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name| directory.path().join(name);
        symlink("second", at("first")).unwrap(); // This link is relative.
        symlink(at("file"), at("second")).unwrap();
        open_file(&at("first")).unwrap();
        assert!(at("file").exists());
        symlink(at("round"), at("round")).unwrap();
        assert_eq!(open_file(&at("round")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        symlink("/proc/self/fd/1", at("stdout")).unwrap();
        let _ = open_file(&at("stdout")); // Standard output of the test may be anything.
        symlink("/dev/null", at("null")).unwrap();
        open_file(&at("null")).unwrap();
    }

    #[test]
    fn an_inherited_descriptor_has_to_be_open_for_writing() {
        let mut file = tempfile::tempfile().unwrap();
        let log = AccessLog::Fd(file.as_raw_fd());
        let error = open(&log).unwrap_err().chain();
        assert!(error.ends_with("it was not inherited from the process that started arctos"));
        let inherit = |file: &File| fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        inherit(&file);
        let mut copy = File::from(open(&log).unwrap().unwrap());
        copy.write_all(b"line").unwrap();
        file.rewind().unwrap();
        assert_eq!(io::read_to_string(&file).unwrap(), "line");
        let read_only = File::open("/dev/null").unwrap();
        inherit(&read_only);
        let number = read_only.as_raw_fd();
        let error = open(&AccessLog::Fd(number)).unwrap_err().chain();
        let expected = format!("the access log fd://{number}: it is not open for writing");
        assert!(error.ends_with(&expected), "{error}");
        let error = open(&AccessLog::Fd(9999)).unwrap_err().chain();
        assert!(error.contains("fd://9999: Bad file descriptor"), "{error}");
    }

    #[test]
    fn a_daemon_is_reached_at_its_socket_or_its_port() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let unix = AccessLog::Syslog(SyslogAddress::Unix(path.clone()));
        let error = open(&unix).unwrap_err().chain();
        assert!(error.contains("log syslog:///") && error.ends_with("No such file or directory"));
        let daemon = UnixDatagram::bind(&path).unwrap();
        UnixDatagram::from(open(&unix).unwrap().unwrap()).send(b"message").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(daemon.recv(&mut buffer).unwrap(), 7);
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = daemon.local_addr().unwrap().port();
        let udp = SyslogAddress::Udp { host: "127.0.0.1".to_owned(), port };
        UdpSocket::from(open(&AccessLog::Syslog(udp)).unwrap().unwrap()).send(b"message").unwrap();
        assert_eq!(daemon.recv(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn a_message_over_udp_is_lost_for_the_worker_that_sent_it() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = daemon.local_addr().unwrap().port();
        let access = AccessLog::Syslog(SyslogAddress::Udp { host: "127.0.0.1".to_owned(), port });
        let shared = open(&access).unwrap().unwrap();
        let [first, second] =
            [(); 2].map(|()| UdpSocket::from(for_worker(&access, &shared).unwrap()));
        first.send(b"message").unwrap();
        assert_eq!(daemon.recv(&mut [0; 16]).unwrap(), 7);
        drop(daemon);
        first.send(b"lost").unwrap();
        second.send(b"lost, too").unwrap();
        let error = first.send(b"repeated").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert!(for_worker(&access, &file).is_ok(), "the configuration has changed");
    }

    #[test]
    fn a_fifo_without_a_reader_is_refused_and_one_with_a_reader_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open_file(&path).unwrap_err().to_string().contains("nobody reads"));
        let flags = libc::O_NONBLOCK;
        let _reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let file = open_file(&path).unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_APPEND) && !flags.contains(OFlag::O_NONBLOCK));
    }
}
