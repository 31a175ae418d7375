//! Unix sockets: paths, which outlive the process that bound them, and abstract names.
//!
//! A path is created without permissions for others, and gets its mode and owner afterwards, so that no unauthorized
//! peer can connect in between. Mode and owner are set on the file that the socket is bound to, and not on the path: a
//! user who can write to the directory, such as the workers' user, could have replaced the path with a link to a file
//! or a control socket of root. The path is unlinked only by the process that bound it, and only while it is still the
//! same file: a successor may have put its own socket there, and a forked worker that exits must not unlink it.

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

/// The path of a socket. Dropping it unlinks the path if the file there still belongs to this server.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Inode,
    owner: PathOwner,
}

/// The owner of a path, which unlinks it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PathOwner {
    /// The process with this pid, but none that it forks.
    Process(u32),
    /// Another server, during an upgrade.
    Elsewhere,
}

impl SocketFile {
    /// Returns the path of a socket that still belongs to another server.
    pub(super) fn owned_elsewhere(path: &Path, inode: Inode) -> Self {
        Self { path: path.to_owned(), inode, owner: PathOwner::Elsewhere }
    }

    /// Makes this process the owner.
    pub(super) fn own(&mut self) {
        self.owner = PathOwner::Process(process::id());
    }

    /// Leaves the path to another server.
    pub(super) fn disown(&mut self) {
        self.owner = PathOwner::Elsewhere;
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }
}

/// The identity of a file, which distinguishes it from another one at the same path.
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
        if self.owner == PathOwner::Process(process::id()) && is_ours() {
            // An error is ignored, because the next start finds a stale path and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The use of a path.
enum PathUse {
    /// The path does not exist.
    Free,
    /// The path is a socket that refuses connections, because its owner has died.
    Stale,
    /// The path is a socket on which a server listens.
    Server,
    /// The path is something else: a file, a directory, a datagram socket.
    Other,
}

/// Binds a path; [`Listeners`](super::Listeners) calls listen(2).
///
/// With `--reuse-port`, the path of a server that listens is replaced by rename(2). From then on this server gets all
/// new connections, and the other server finishes its own.
pub(super) fn bind_path(
    path: &Path,
    options: &ListenOptions,
) -> Result<(Socket, SocketFile), ListenError> {
    let bind = BindAddress::Unix(path.to_owned());
    fits(path)?;
    match path_use(path).map_err(|error| directory_error_or(&bind, path, "connect(2)", error))? {
        PathUse::Free => bind_at(&bind, path, options),
        PathUse::Stale => {
            fs::remove_file(path)
                .map_err(|error| directory_error_or(&bind, path, "unlink(2)", error))?;
            bind_at(&bind, path, options)
        }
        PathUse::Server if options.reuse_port => {
            let mut beside = path.as_os_str().to_owned();
            beside.push(format!(".{}", process::id()));
            let beside = PathBuf::from(beside);
            fits(&beside)?;
            let (socket, mut file) = bind_at(&bind, &beside, options)?;
            // The socket listens before it gets its final path, so that no client is refused in between.
            socket
                .listen(options.queue())
                .map_err(|error| ListenError::other(&bind, "listen(2)", error))?;
            fs::rename(&beside, path)
                .map_err(|error| directory_error_or(&bind, path, "rename(2)", error))?;
            file.path = path.to_owned();
            Ok((socket, file))
        }
        PathUse::Server => Err(ListenError::InUse { address: bind.to_string() }),
        PathUse::Other => Err(ListenError::Occupied { path: path.to_owned() }),
    }
}

/// Binds a name in the abstract namespace, which the kernel frees with its last socket.
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
    // On Linux, bind(2) gives the path the mode of the socket, less the umask. The umask belongs to the whole process
    // and stays as it is.
    fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)
        .map_err(|error| ListenError::other(bind, "fchmod(2)", error.into()))?;
    SockAddr::unix(path)
        .and_then(|address| socket.bind(&address))
        .map_err(|error| directory_error_or(bind, path, "bind(2)", error))?;
    let file = set_owner_and_mode(bind, path, &socket, options)?;
    Ok((socket, file))
}

/// Sets the owner and mode of the path of a socket that was just bound.
fn set_owner_and_mode(
    bind: &BindAddress,
    path: &Path,
    socket: &Socket,
    options: &ListenOptions,
) -> Result<SocketFile, ListenError> {
    let no_link = libc::O_PATH | libc::O_NOFOLLOW;
    // O_PATH opens a file that cannot be read, such as a socket; the access mode is ignored.
    let file = fs::OpenOptions::new().read(true).custom_flags(no_link).open(path);
    let file = file.map_err(|error| directory_error_or(bind, path, "open(2)", error))?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if !is_behind(socket, &own, path)
        .map_err(|error| ListenError::other(bind, "connect(2)", error))?
    {
        return Err(ListenError::Replaced { path: path.to_owned() });
    }
    let found = file.metadata().map_err(|error| ListenError::other(bind, "stat(2)", error))?;
    let inode = Inode::in_metadata(&found);
    let socket_file =
        SocketFile { path: path.to_owned(), inode, owner: PathOwner::Process(process::id()) };
    fchownat(&file, c"", options.user, options.group, AtFlags::AT_EMPTY_PATH)
        .map_err(|error| ListenError::other(bind, "chown(2)", error.into()))?;
    // The mode is set through proc(5), because fchmodat2(2), which takes AT_EMPTY_PATH, exists only since Linux 6.6.
    fs::set_permissions(&own, fs::Permissions::from_mode(options.unix_socket_mode.bits()))
        .map_err(|error| ListenError::other(bind, "chmod(2)", error))?;
    Ok(socket_file)
}

/// Whether this socket is bound to the file `own`, which is an open descriptor: a connection to it must reach a socket
/// of this process with the same name. There is no other way to find out, because fstat(2) of a socket does not show
/// its path. Until then, only root and this user can connect, because the mode is still 0600.
fn is_behind(listener: &Socket, own: &Path, path: &Path) -> io::Result<bool> {
    listener.listen(1)?;
    let probe = socket()?;
    if let Err(error) = probe.connect(&SockAddr::unix(own)?) {
        return match error.raw_os_error() {
            // Nobody listens there, the path is another kind of socket or none, its queue is full, or it belongs to
            // another user.
            Some(
                libc::ECONNREFUSED | libc::EPROTOTYPE | libc::ELOOP | libc::EAGAIN | libc::EACCES,
            ) => Ok(false),
            Some(_) | None => Err(error),
        };
    }
    let process = getsockopt(&probe, sockopt::PeerCredentials)?.pid();
    let is_ours = u32::try_from(process) == Ok(process::id())
        && probe.peer_addr()?.as_pathname() == Some(path);
    if is_ours {
        drop(listener.accept()?); // No worker must serve this connection.
    }
    Ok(is_ours)
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Finds out what is at a path. It tries to connect, because only a refused connection shows that the server is gone.
fn path_use(path: &Path) -> io::Result<PathUse> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PathUse::Free),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return Ok(PathUse::Other),
        Ok(_) => {}
    }
    let Err(error) = socket()?.connect(&SockAddr::unix(path)?) else { return Ok(PathUse::Server) };
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Ok(PathUse::Stale),
        Some(libc::EAGAIN) => Ok(PathUse::Server), // The queue of the server is full.
        Some(libc::EPROTOTYPE) => Ok(PathUse::Other),
        Some(libc::ENOENT) => Ok(PathUse::Free), // The path was removed in the meantime.
        Some(_) | None => Err(error),
    }
}

fn fits(path: &Path) -> Result<(), ListenError> {
    let length = path.as_os_str().as_bytes().len();
    let is_short = length <= PATH_MAX_BYTES;
    is_short.then_some(()).ok_or_else(|| ListenError::PathTooLong { path: path.to_owned(), length })
}

/// Converts the error of a call on a path, to an error about the directory if that is the cause.
fn directory_error_or(
    bind: &BindAddress,
    path: &Path,
    call: &'static str,
    error: io::Error,
) -> ListenError {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EPERM | libc::EROFS) => {
            ListenError::Directory { path: path.to_owned(), error }
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
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let inode = Inode::of(&path).unwrap();
        let parent = process::id() + 1;
        drop(SocketFile { path: path.clone(), inode, owner: PathOwner::Process(parent) });
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

    /// A process that can write to the directory may act between bind(2) and chown(2).
    #[test]
    fn a_file_that_replaced_a_bound_socket_gets_neither_owner_nor_mode() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        fs::write(&secret, "root's").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let control = directory.path().join("control.sock");
        let _control = UnixListener::bind(&control).unwrap();
        fs::set_permissions(&control, fs::Permissions::from_mode(0o600)).unwrap();
        let path = directory.path().join("x.sock");
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
            let given = set_owner_and_mode(&bind, &path, &socket, &options());
            assert!(matches!(given, Err(ListenError::Replaced { .. })));
            for untouched in [&secret, &control] {
                assert_eq!(fs::metadata(untouched).unwrap().mode() & 0o777, 0o600);
            }
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_bound_socket_gets_its_mode_and_its_queue_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let (socket, file) = bind_path(&path, &options()).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(Inode::of(&path).unwrap(), file.inode());
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_datagram_socket_is_not_a_server() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let _socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(path_use(&path), Ok(PathUse::Other)));
    }

    #[test]
    fn a_server_with_a_full_queue_counts_as_listening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let server = socket().unwrap();
        server.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        server.listen(0).unwrap();
        let waiting = socket().unwrap();
        waiting.connect(&SockAddr::unix(&path).unwrap()).unwrap();
        assert!(matches!(path_use(&path), Ok(PathUse::Server)));
    }
}
