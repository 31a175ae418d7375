//! Unix sockets: paths that outlive who made them, and abstract names.
//!
//! A path is made with no rights for others and gets its mode and owner afterwards: until then nobody else
//! may connect, so there is no moment at which a wrong peer gets in. Mode and owner are given to what the
//! socket is bound to, never to whatever is at the path by then: who can write to the folder, the worker's
//! user maybe, could have put a link to root's files there, or root's control socket. The path is unlinked
//! by the process that bound it and only while it is still that process's own: a successor may have put its
//! own socket there, and a forked worker that ends has no say.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::fchownat;
use socket2::{Domain, SockAddr, Socket, Type};

use super::ListenOptions;
use super::error::{ListenError, is_in_use};
use crate::system::address::BindAddress;

/// `sizeof(sun_path)` less its closing NUL (unix(7)).
const PATH_MAX_BYTES: usize = 107;

/// A socket's path, unlinked when dropped if it is still ours.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Inode,
    owner: Owner,
}

/// Who unlinks a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// This process; not one that it forks.
    Process(u32),
    /// Another server, during an upgrade.
    Elsewhere,
}

impl SocketFile {
    /// One that is still another server's.
    pub(super) fn lent(path: &Path, inode: Inode) -> Self {
        Self { path: path.to_owned(), inode, owner: Owner::Elsewhere }
    }

    /// It is this process's from now on.
    pub(super) fn own(&mut self) {
        self.owner = Owner::Process(process::id());
    }

    /// It is another server's from now on.
    pub(super) fn disown(&mut self) {
        self.owner = Owner::Elsewhere;
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }
}

/// What tells a file from another one at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) number: u64,
}

impl Inode {
    fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self::in_metadata(&found))
    }

    fn in_metadata(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), number: found.ino() }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = || Inode::of(&self.path).is_ok_and(|inode| inode == self.inode);
        if self.owner == Owner::Process(process::id()) && is_ours() {
            // Ignored: a path that cannot be unlinked is taken for stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who is behind a path.
enum Occupant {
    /// Nothing is there.
    Nobody,
    /// A socket that refuses connections: its owner has died.
    Stale,
    /// A server that listens.
    Server,
    /// A file, a folder, a datagram socket.
    Other,
}

/// Binds a path; [`Listeners`](super::Listeners) calls listen(2).
///
/// With `--reuse-port` a path that a server listens at is replaced by rename(2): from then on
/// connections come here, and the other one serves those that it has.
pub(super) fn bind_path(
    path: &Path,
    options: &ListenOptions,
) -> Result<(Socket, SocketFile), ListenError> {
    let bind = BindAddress::Unix(path.to_owned());
    fits(path)?;
    match occupant(path).map_err(|error| folder_or(&bind, path, "connect(2)", error))? {
        Occupant::Nobody => bind_at(&bind, path, options),
        Occupant::Stale => {
            fs::remove_file(path).map_err(|error| folder_or(&bind, path, "unlink(2)", error))?;
            bind_at(&bind, path, options)
        }
        Occupant::Server if options.reuse_port => {
            let mut beside = path.as_os_str().to_owned();
            beside.push(format!(".{}", process::id()));
            let beside = PathBuf::from(beside);
            fits(&beside)?;
            let (socket, mut file) = bind_at(&bind, &beside, options)?;
            // It listens before it is found: a client that comes in between is not refused.
            socket
                .listen(options.queue())
                .map_err(|error| ListenError::other(&bind, "listen(2)", error))?;
            fs::rename(&beside, path)
                .map_err(|error| folder_or(&bind, path, "rename(2)", error))?;
            file.path = path.to_owned();
            Ok((socket, file))
        }
        Occupant::Server => Err(ListenError::InUse { address: bind.to_string() }),
        Occupant::Other => Err(ListenError::Occupied { path: path.to_owned() }),
    }
}

/// Binds a name in the abstract name space, which the kernel frees with its last socket.
pub(super) fn bind_abstract(bind: &BindAddress, name: &str) -> Result<Socket, ListenError> {
    fits(Path::new(&format!("@{name}")))?;
    let bound = socket().and_then(|socket| {
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
        Ok(socket)
    });
    bound.map_err(|error| match is_in_use(&error) {
        true => ListenError::InUse { address: bind.to_string() },
        false => ListenError::other(bind, "bind(2)", error),
    })
}

fn bind_at(
    bind: &BindAddress,
    path: &Path,
    options: &ListenOptions,
) -> Result<(Socket, SocketFile), ListenError> {
    let socket = socket().map_err(|error| ListenError::other(bind, "socket(2)", error))?;
    // On Linux bind(2) gives the path the mode of the socket, less the umask; the umask itself is the
    // whole process's and stays as it is.
    fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|error| ListenError::other(bind, "fchmod(2)", error.into()))?;
    SockAddr::unix(path)
        .and_then(|address| socket.bind(&address))
        .map_err(|error| folder_or(bind, path, "bind(2)", error))?;
    let file = give_away(bind, path, &socket, options)?;
    Ok((socket, file))
}

/// Gives the path of a socket that was just bound its owner and mode.
fn give_away(
    bind: &BindAddress,
    path: &Path,
    socket: &Socket,
    options: &ListenOptions,
) -> Result<SocketFile, ListenError> {
    let no_link = libc::O_PATH | libc::O_NOFOLLOW;
    // O_PATH opens what cannot be read, such as a socket, and no access mode counts.
    let file = fs::OpenOptions::new().read(true).custom_flags(no_link).open(path);
    let file = file.map_err(|error| folder_or(bind, path, "open(2)", error))?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if !is_behind(socket, &own, path)
        .map_err(|error| ListenError::other(bind, "connect(2)", error))?
    {
        return Err(ListenError::Replaced { path: path.to_owned() });
    }
    let found = file.metadata().map_err(|error| ListenError::other(bind, "stat(2)", error))?;
    let inode = Inode::in_metadata(&found);
    let socket_file =
        SocketFile { path: path.to_owned(), inode, owner: Owner::Process(process::id()) };
    fchownat(&file, c"", options.user, options.group, AtFlags::AT_EMPTY_PATH)
        .map_err(|error| ListenError::other(bind, "chown(2)", error.into()))?;
    // By way of proc(5), because chmod(2) has no flag for it before Linux 6.6.
    fs::set_permissions(&own, fs::Permissions::from_mode(options.unix_socket_mode.bits()))
        .map_err(|error| ListenError::other(bind, "chmod(2)", error))?;
    Ok(socket_file)
}

/// Whether it is this socket that is bound to the file behind a descriptor, `own`: who connects there reaches a
/// socket of this process with the same name. Nothing else tells, because fstat(2) of a socket knows nothing of
/// its path. Only who may be root or ourselves can come before it is asked, for the mode is still 0600.
fn is_behind(listener: &Socket, own: &Path, path: &Path) -> io::Result<bool> {
    listener.listen(1)?;
    let knock = socket()?;
    if let Err(error) = knock.connect(&SockAddr::unix(own)?) {
        return match error.raw_os_error() {
            // Nobody listens there; a socket of another kind, or none; one that is full; one of somebody else's.
            Some(
                libc::ECONNREFUSED | libc::EPROTOTYPE | libc::ELOOP | libc::EAGAIN | libc::EACCES,
            ) => Ok(false),
            Some(_) | None => Err(error),
        };
    }
    let process = getsockopt(&knock, sockopt::PeerCredentials)?.pid();
    let is_ours = u32::try_from(process) == Ok(process::id())
        && knock.peer_addr()?.as_pathname() == Some(path);
    if is_ours {
        drop(listener.accept()?); // Nobody is to serve it.
    }
    Ok(is_ours)
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Looks at a path, and knocks: only a refusal says that nobody is there any more.
fn occupant(path: &Path) -> io::Result<Occupant> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return Ok(Occupant::Other),
        Ok(_) => {}
    }
    let Err(error) = socket()?.connect(&SockAddr::unix(path)?) else { return Ok(Occupant::Server) };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Ok(Occupant::Stale),
        Some(libc::EAGAIN) => Ok(Occupant::Server), // its queue is full
        Some(libc::EPROTOTYPE) => Ok(Occupant::Other),
        Some(libc::ENOENT) => Ok(Occupant::Nobody), // gone since
        Some(_) | None => Err(error),
    }
}

fn fits(path: &Path) -> Result<(), ListenError> {
    let length = path.as_os_str().as_bytes().len();
    let is_short = length <= PATH_MAX_BYTES;
    is_short.then_some(()).ok_or_else(|| ListenError::PathTooLong { path: path.to_owned(), length })
}

/// What a call on a path says: about its folder, where that is at fault.
fn folder_or(bind: &BindAddress, path: &Path, call: &'static str, error: io::Error) -> ListenError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM | libc::EROFS) => {
            ListenError::Folder { path: path.to_owned(), error }
        }
        Some(libc::EADDRINUSE) => ListenError::InUse { address: bind.to_string() },
        Some(_) | None => ListenError::other(bind, call, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::ListenMode;

    #[test]
    fn a_process_that_did_not_bind_a_path_leaves_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let inode = Inode::of(&path).unwrap();
        let parent = process::id() + 1;
        drop(SocketFile { path: path.clone(), inode, owner: Owner::Process(parent) });
        assert!(path.exists());
    }

    fn options() -> ListenOptions {
        ListenOptions {
            reuse_port: false,
            backlog: 16,
            mode: ListenMode::Shared,
            slots: 1,
            unix_socket_mode: Mode::from_bits_truncate(0o660),
            user: None,
            group: None,
        }
    }

    /// Whoever can write to the folder is faster than chown(2) and chmod(2).
    #[test]
    fn what_was_put_in_the_place_of_a_bound_socket_gets_neither_owner_nor_mode() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let control = folder.path().join("control.sock");
        let _control = UnixListener::bind(&control).unwrap();
        fs::set_permissions(&control, fs::Permissions::from_mode(0o600)).unwrap();
        let path = folder.path().join("x.sock");
        let bind = BindAddress::Unix(path.clone());
        let plant_link = || std::os::unix::fs::symlink(&secret, &path);
        let plant_file = || fs::hard_link(&secret, &path);
        let plant_socket = || fs::hard_link(&control, &path);
        let plants: [&dyn Fn() -> io::Result<()>; 3] = [&plant_link, &plant_file, &plant_socket];
        for plant in plants {
            let socket = socket().unwrap();
            socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
            fs::remove_file(&path).unwrap();
            plant().unwrap();
            let given = give_away(&bind, &path, &socket, &options());
            assert!(matches!(given, Err(ListenError::Replaced { .. })));
            for untouched in [&secret, &control] {
                assert_eq!(fs::metadata(untouched).unwrap().mode() & 0o777, 0o600);
            }
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_bound_socket_gets_its_mode_and_nobody_waits_in_its_queue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let (socket, file) = bind_path(&path, &options()).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(Inode::of(&path).unwrap(), file.inode());
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_datagram_socket_is_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(occupant(&path), Ok(Occupant::Other)));
    }

    #[test]
    fn a_server_whose_queue_is_full_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let server = socket().unwrap();
        server.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        server.listen(0).unwrap();
        let waiting = socket().unwrap();
        waiting.connect(&SockAddr::unix(&path).unwrap()).unwrap();
        assert!(matches!(occupant(&path), Ok(Occupant::Server)));
    }
}
