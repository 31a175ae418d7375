use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{F_GETFD, F_GETFL, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use tempfile::TempDir;

use super::*;

mod inherited_sockets;

fn options() -> ListenOptions {
    ListenOptions {
        reuse_port: false,
        backlog: 64,
        mode: ListenMode::Shared,
        slots: 2,
        unix_socket_mode: Mode::from_bits_truncate(0o600),
        user: None,
        group: None,
    }
}

fn per_slot() -> ListenOptions {
    ListenOptions { mode: ListenMode::PerSlot, ..options() }
}

fn shared_with_others() -> ListenOptions {
    ListenOptions { reuse_port: true, ..options() }
}

fn try_bind(binds: &[&str], options: &ListenOptions) -> Result<Listeners, ListenError> {
    let binds: Vec<_> = binds.iter().map(|text| text.parse().unwrap()).collect();
    Listeners::bind(&binds, options)
}

fn bind(binds: &[&str]) -> Listeners {
    try_bind(binds, &options()).unwrap()
}

fn refusal(binds: &[&str]) -> String {
    let Err(error) = try_bind(binds, &options()) else { panic!("{binds:?} was bound") };
    assert_eq!(error.exit_code(), 1);
    error.to_string()
}

fn inet(listeners: &Listeners) -> Vec<SocketAddr> {
    let inet = |name| match name {
        SocketName::Inet(address) => address,
        SocketName::Unix(path) => panic!("{path} is no TCP address"),
    };
    listeners.names().into_iter().map(inet).collect()
}

/// Waits until a connection is in the queue. On a busy machine, connect(2) may return a moment earlier.
fn await_connection(socket: &Socket) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "no client connects");
}

fn accepted(socket: &Socket) -> Socket {
    await_connection(socket);
    socket.accept().unwrap().0
}

/// Returns the inode of the socket behind the first listener of a slot.
fn inode(listeners: &Listeners, slot: u16) -> u64 {
    let sockets = listeners.for_slot(SlotId(slot)).unwrap();
    fstat(&sockets[0].socket).unwrap().st_ino
}

fn directory() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let bind = format!("unix:{}", directory.path().join("x.sock").display());
    (directory, bind)
}

fn path(bind: &str) -> &Path {
    Path::new(bind.strip_prefix("unix:").unwrap())
}

/// Returns the path of a server that has died.
fn stale() -> (TempDir, String) {
    let (directory, bind) = directory();
    drop(UnixListener::bind(path(&bind)).unwrap());
    assert!(path(&bind).exists());
    (directory, bind)
}

#[test]
fn port_zero_is_shown_as_the_port_that_was_assigned() {
    let listeners = bind(&["127.0.0.1:0"]);
    let address = inet(&listeners)[0];
    assert_ne!(address.port(), 0);
    assert_eq!(listeners.descriptions(), [format!("http://{address}")]);
    TcpStream::connect(address).unwrap();
}

#[test]
fn port_zero_twice_is_two_ports() {
    let ports = inet(&bind(&["127.0.0.1:0", "127.0.0.1:0"]));
    assert_ne!(ports[0], ports[1]);
}

#[test]
fn a_worker_gets_non_blocking_close_on_exec_descriptors() {
    for options in [options(), per_slot()] {
        let listeners = try_bind(&["127.0.0.1:0"], &options).unwrap();
        for listener in listeners.for_slot(SlotId(1)).unwrap() {
            let flags = fcntl(listener.socket.as_fd(), F_GETFD).unwrap();
            assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
            let flags = fcntl(listener.socket.as_fd(), F_GETFL).unwrap();
            assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
        }
    }
}

#[test]
fn all_slots_share_one_socket() {
    let listeners = bind(&["127.0.0.1:0"]);
    assert_eq!(inode(&listeners, 0), inode(&listeners, 1));
}

#[test]
fn in_per_slot_mode_each_slot_has_its_own_socket_on_the_same_port() {
    let listeners = try_bind(&["127.0.0.1:0"], &per_slot()).unwrap();
    assert_ne!(inode(&listeners, 0), inode(&listeners, 1));
    assert_eq!(inode(&listeners, 1), inode(&listeners, 1), "a replacement gets the same one");
    let address = inet(&listeners)[0];
    for slot in 0..4 {
        let socket = Socket::from(listeners.for_slot(SlotId(slot)).unwrap().remove(0).socket);
        assert!(socket.is_listener().unwrap(), "a slot that was added later also has one");
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(address));
    }
}

#[test]
fn a_retired_slot_gets_no_more_connections() {
    let listeners = try_bind(&["127.0.0.1:0"], &per_slot()).unwrap();
    listeners.retire(SlotId(1));
    let first = Socket::from(listeners.for_slot(SlotId(0)).unwrap().remove(0).socket);
    for _ in 0..16 {
        let _client = TcpStream::connect(inet(&listeners)[0]).unwrap();
        accepted(&first);
    }
}

#[test]
fn a_second_server_is_refused_and_the_first_continues() {
    for mode in [options(), per_slot(), shared_with_others()] {
        let first = try_bind(&["127.0.0.1:0"], &mode).unwrap();
        let address = inet(&first)[0];
        assert_eq!(
            refusal(&[&address.to_string()]),
            format!(
                "{address} is in use: another server listens there; stop it (ss -ltnp shows it), \
                 choose another --bind, or share the address with --reuse-port"
            )
        );
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn a_second_server_on_all_addresses_is_also_refused() {
    let first = bind(&["127.0.0.1:0"]);
    let port = inet(&first)[0].port();
    assert!(matches!(
        try_bind(&[&format!("0.0.0.0:{port}")], &options()),
        Err(ListenError::InUse { .. })
    ));
}

#[test]
fn a_second_server_may_share_the_port_with_reuse_port() {
    let first = bind(&["127.0.0.1:0"]);
    let address = inet(&first)[0];
    let second = try_bind(&[&address.to_string()], &shared_with_others()).unwrap();
    assert_eq!(inet(&second), [address]);
}

#[test]
fn sharing_needs_reuse_port_on_both_sides() {
    let alone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = alone.local_addr().unwrap().to_string();
    let refused = try_bind(&[&address], &shared_with_others());
    assert!(matches!(refused, Err(ListenError::NotShared { .. })));
}

#[test]
fn connections_in_time_wait_do_not_prevent_a_start() {
    let first = bind(&["127.0.0.1:0"]);
    let address = inet(&first)[0];
    let client = TcpStream::connect(address).unwrap();
    let socket = Socket::from(first.for_slot(SlotId(0)).unwrap().remove(0).socket);
    drop(accepted(&socket)); // The side that closes first enters TIME_WAIT.
    drop(client);
    drop((first, socket));
    bind(&[&address.to_string()]);
}

#[test]
fn one_address_and_all_addresses_can_be_combined() {
    let port = inet(&bind(&["127.0.0.1:0"]))[0].port();
    let both = [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}")];
    bind(&[&both[0], &both[1]]);
}

#[test]
fn a_name_is_bound_at_each_of_its_addresses_on_one_port() {
    let addresses = inet(&bind(&["localhost:0"]));
    assert!(addresses.iter().any(|address| address.ip().is_loopback() && address.is_ipv4()));
    assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
}

#[test]
fn all_addresses_include_both_families_and_ipv4_clients_stay_ipv4() {
    for everywhere in [":0", "[::]:0"] {
        let listeners = bind(&[everywhere]);
        let addresses = inet(&listeners);
        let ipv4 = addresses.iter().position(SocketAddr::is_ipv4).unwrap();
        let _client = TcpStream::connect(("127.0.0.1", addresses[ipv4].port())).unwrap();
        let sockets = listeners.for_slot(SlotId(0)).unwrap();
        let socket = Socket::from(sockets[ipv4].socket.try_clone().unwrap());
        let peer = accepted(&socket).peer_addr().unwrap();
        assert!(peer.as_socket().unwrap().is_ipv4());
    }
}

#[test]
fn both_families_can_also_be_given_as_two_addresses() {
    let port = inet(&bind(&["127.0.0.1:0"]))[0].port();
    let addresses = [format!("[::]:{port}"), format!("0.0.0.0:{port}")];
    let binds = addresses.each_ref().map(|text| text.parse().unwrap());
    let planned = tcp::plan(&binds).unwrap();
    let planned: Vec<_> = planned.iter().flat_map(tcp::Target::addresses).collect();
    let planned: Vec<_> = planned.iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(planned, addresses);
}

#[test]
fn the_same_address_twice_is_refused() {
    assert_eq!(
        refusal(&["127.0.0.1:80", "127.0.0.1:80"]),
        "127.0.0.1:80 is given twice; leave one out"
    );
    assert_eq!(refusal(&["fd://9", "fd://9"]), "fd://9 is given twice; leave one out");
    assert_eq!(
        refusal(&["localhost:80", "127.0.0.1:80"]),
        "localhost:80 and 127.0.0.1:80 are both 127.0.0.1:80; leave one out"
    );
}

#[test]
fn an_address_of_another_machine_is_refused() {
    // RFC 5737: for documentation only.
    assert_eq!(
        refusal(&["192.0.2.1:0"]),
        "192.0.2.1:0: this machine does not have the address; `ip addr` lists those that it has, \
         and 0.0.0.0 listens on all IPv4 addresses"
    );
}

#[test]
fn a_name_without_an_address_is_refused() {
    // Longer than a label can be (RFC 1035 §2.3.4): no resolver asks a network for it.
    let name = "x".repeat(64);
    let message = refusal(&[&format!("{name}:80")]);
    assert!(message.starts_with(&format!("{name}:80: cannot resolve the name (")));
}

#[test]
fn the_error_for_a_privileged_port_says_what_to_do() {
    let denied = io::Error::from_raw_os_error(nix::libc::EACCES);
    assert_eq!(
        tcp::refused("0.0.0.0:80".to_owned(), denied, false).to_string(),
        "0.0.0.0:80: permission denied. Ports below 1024 need root, CAP_NET_BIND_SERVICE or a \
         lower net.ipv4.ip_unprivileged_port_start; or choose a higher port"
    );
}

#[test]
fn a_unix_socket_has_its_mode_and_is_unlinked_with_its_server() {
    let (_directory, bind) = directory();
    let listeners = self::bind(&[&bind]);
    assert_eq!(listeners.descriptions(), [bind.as_str()]);
    let mode = path(&bind).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    UnixStream::connect(path(&bind)).unwrap();
    drop(listeners);
    assert!(!path(&bind).exists());
}

#[test]
fn a_mode_that_the_umask_would_restrict_is_set() {
    let (_directory, bind) = directory();
    let options = ListenOptions { unix_socket_mode: Mode::from_bits_truncate(0o666), ..options() };
    let _listeners = try_bind(&[&bind], &options).unwrap();
    assert_eq!(path(&bind).metadata().unwrap().permissions().mode() & 0o777, 0o666);
}

#[test]
fn a_unix_socket_belongs_to_the_workers_user_and_group() {
    if !Uid::effective().is_root() {
        return; // Only root may call chown(2).
    }
    let (_directory, bind) = directory();
    let (user, group) = (Some(Uid::from_raw(1234)), Some(Gid::from_raw(4321)));
    let _listeners = try_bind(&[&bind], &ListenOptions { user, group, ..options() }).unwrap();
    let found = path(&bind).metadata().unwrap();
    assert_eq!((found.uid(), found.gid()), (1234, 4321));
}

#[test]
fn a_path_whose_server_has_died_is_taken_over() {
    let (_directory, bind) = stale();
    let _listeners = self::bind(&[&bind]);
    UnixStream::connect(path(&bind)).unwrap();
}

#[test]
fn the_path_of_a_listening_server_is_not_replaced() {
    let (_directory, bind) = directory();
    let _first = self::bind(&[&bind]);
    assert!(refusal(&[&bind]).starts_with(&format!("{bind} is in use: ")));
    UnixStream::connect(path(&bind)).unwrap();
}

#[test]
fn a_predecessor_does_not_unlink_the_path_of_its_successor() {
    let (directory, bind) = directory();
    let first = self::bind(&[&bind]);
    let second = try_bind(&[&bind], &shared_with_others()).unwrap();
    drop(first);
    let _client = UnixStream::connect(path(&bind)).unwrap();
    let socket = Socket::from(second.for_slot(SlotId(0)).unwrap().remove(0).socket);
    accepted(&socket);
    assert_eq!(second.descriptions(), [bind.as_str()]);
    drop(second);
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_at_the_path_is_not_touched() {
    let (_directory, bind) = directory();
    std::fs::write(path(&bind), "precious").unwrap();
    assert!(refusal(&[&bind]).contains("the path exists and is not a stream socket"));
    assert_eq!(std::fs::read_to_string(path(&bind)).unwrap(), "precious");
}

#[test]
fn a_path_is_unlinked_when_a_later_address_cannot_be_bound() {
    let (_directory, bind) = directory();
    refusal(&[&bind, "192.0.2.1:0"]);
    assert!(!path(&bind).exists());
}

#[test]
fn the_errors_for_unusable_paths_say_what_to_do() {
    let long = format!("/tmp/{}", "x".repeat(103));
    assert_eq!(
        refusal(&[&format!("unix:{long}")]),
        format!(
            "unix:{long}: the path has 108 bytes, and that of a socket can have 107; choose a shorter one"
        )
    );
    assert_eq!(
        refusal(&["unix:/no/such/x.sock"]),
        "unix:/no/such/x.sock: cannot use its directory (No such file or directory); \
         create it, or grant write permission"
    );
}

#[test]
fn an_abstract_name_can_be_bound_once() {
    let name = format!("arctos-test-{}", std::process::id());
    let listeners = bind(&[&format!("unix:@{name}")]);
    assert_eq!(listeners.descriptions(), [format!("unix:@{name}")]);
    assert!(refusal(&[&format!("unix:@{name}")]).starts_with(&format!("unix:@{name} is in use")));
}

#[test]
fn an_inherited_listener_is_taken_over() {
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = inherited.local_addr().unwrap();
    let listeners = bind(&[&format!("fd://{}", inherited.into_raw_fd())]);
    assert_eq!(listeners.descriptions(), [format!("http://{address}")]);
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_listener_that_a_program_passed_stays_open() {
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let binds = [format!("fd://{}", own.as_raw_fd()).parse().unwrap()];
    let inherited =
        InheritedSockets::default().with_inherited(&binds, DescriptorOwner::Program).unwrap();
    let listeners = Listeners::inherit(&binds, &options(), inherited).unwrap();
    let workers = listeners.for_slot(SlotId(0)).unwrap();
    assert_eq!(workers[0].owner, Owner::Outside);
    drop((listeners, workers));
    TcpStream::connect(own.local_addr().unwrap()).unwrap();
}

#[test]
fn a_descriptor_that_is_not_a_listener_stays_open() {
    let file = tempfile::tempfile().unwrap();
    let number = file.as_raw_fd();
    refusal(&[&format!("fd://{number}")]);
    assert!(file.metadata().is_ok());
}

#[test]
fn a_descriptor_that_is_not_a_listener_is_refused_with_the_reason() {
    let (one, _other) = UnixStream::pair().unwrap();
    let number = one.into_raw_fd();
    assert_eq!(
        refusal(&[&format!("fd://{number}")]),
        format!(
            "fd://{number}: the inherited socket is not a listening stream socket; its owner must \
             call listen(2) first (systemd: ListenStream=, Accept=no)"
        )
    );
    let number = OwnedFd::from(tempfile::tempfile().unwrap()).into_raw_fd();
    assert_eq!(
        refusal(&[&format!("fd://{number}")]),
        format!("fd://{number}: the inherited descriptor is not a socket")
    );
    assert_eq!(
        refusal(&["fd://65000"]),
        "fd://65000: no such descriptor was inherited (Bad file descriptor)"
    );
}

/// Whether two clients can connect, which is one more than a queue with a backlog of 0 holds.
fn takes_two(path: &Path) -> bool {
    let connect = || {
        let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).map(|()| socket)
    };
    let _first = connect().unwrap();
    match connect() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

#[test]
fn a_closed_queue_keeps_waiting_clients_and_accepts_no_more() {
    let listeners = bind(&["127.0.0.1:0"]);
    let _waiting = TcpStream::connect(inet(&listeners)[0]).unwrap();
    let socket = Socket::from(listeners.for_slot(SlotId(0)).unwrap().remove(0).socket);
    await_connection(&socket);
    listeners.close_queues().unwrap();
    accepted(&socket);

    let (_directory, bind) = directory();
    let listeners = self::bind(&[&bind]);
    listeners.close_queues().unwrap();
    assert!(!takes_two(path(&bind)));
}

#[test]
fn a_queue_that_is_closed_while_empty_accepts_no_client() {
    for options in [options(), per_slot()] {
        let listeners = try_bind(&["127.0.0.1:0"], &options).unwrap();
        let _worker = listeners.for_slot(SlotId(0)).unwrap();
        listeners.close_queues().unwrap();
        let late = TcpStream::connect_timeout(&inet(&listeners)[0], Duration::from_millis(200));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn the_queue_of_an_inherited_listener_stays_open() {
    let (_directory, bind) = directory();
    let number = UnixListener::bind(path(&bind)).unwrap().into_raw_fd();
    let listeners = self::bind(&[&format!("fd://{number}")]);
    listeners.close_queues().unwrap();
    assert!(takes_two(path(&bind)));
}

#[test]
fn a_backlog_that_the_kernel_caps_causes_a_warning() {
    let warning = queue_warning(u32::MAX).unwrap();
    assert!(warning.starts_with("the kernel caps --backlog 4294967295 at "), "{warning}");
    assert_eq!(queue_warning(1), None);
}
