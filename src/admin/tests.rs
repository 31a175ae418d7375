use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use nix::fcntl::{F_GETFD, FdFlag, fcntl};
use nix::poll::{PollFd, PollTimeout, poll};

use super::*;
use connection::{READ_TIMEOUT, WRITE_TIMEOUT};

const REQUEST: &[u8] = b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n";
/// The time after which a test has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

fn bind(address: &str) -> Admin {
    Admin::bind(&[address.parse().unwrap()]).unwrap()
}

fn refusal(addresses: &[&str]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let Err(error) = Admin::bind(&addresses) else { panic!("{addresses:?} was bound") };
    error.to_string()
}

/// An admin socket on a free port, and a function that connects to it.
fn on_tcp() -> (Admin, impl Fn() -> TcpStream) {
    let admin = bind("127.0.0.1:0");
    let address = admin.descriptions()[0].strip_prefix("http://").unwrap().to_owned();
    let connect = move || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    };
    (admin, connect)
}

/// Waits until a descriptor is ready, and takes a turn.
fn turn(admin: &mut Admin) -> Vec<AdminRequest> {
    let poll_fds = admin.poll_fds();
    let mut fds: Vec<_> = poll_fds.iter().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
    let count = poll(&mut fds, PollTimeout::try_from(TIMEOUT).unwrap()).unwrap();
    assert!(count > 0, "no descriptor became ready");
    admin.turn(Instant::now())
}

/// Takes turns until a request arrives.
fn next_request(admin: &mut Admin) -> AdminRequest {
    loop {
        if let Some(request) = turn(admin).pop() {
            return request;
        }
    }
}

/// Takes turns until no connection is left.
fn is_idle(admin: &mut Admin) -> bool {
    while !admin.peers.is_empty() {
        turn(admin);
    }
    true
}

fn read_all(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn without_an_address_there_is_nothing_to_poll() {
    let mut admin = Admin::bind(&[]).unwrap();
    assert!(admin.poll_fds().is_empty() && admin.descriptions().is_empty());
    assert_eq!(admin.next_deadline(), None);
    assert_eq!(admin.turn(Instant::now()), []);
}

#[test]
fn a_request_over_tcp_is_passed_on_and_its_response_sent() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let AdminRequest { id, method, path, query, accept, trust, peer } = next_request(&mut admin);
    assert_eq!((method, &*path, &*query), (Method::Get, "/metrics", "a=b"));
    assert_eq!(accept, "");
    assert_eq!((trust, peer), (Trust::Anyone, None));
    admin.respond(id, &AdminResponse::plain(200, "as requested\n"));
    let text = read_all(&stream);
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nas requested\n"),
        "{text}"
    );
    drop(stream);
    assert!(is_idle(&mut admin));
}

#[test]
fn a_socket_path_is_for_the_owner_and_is_removed_with_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let mut admin = bind(&format!("unix:{}", path.display()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(admin.descriptions(), [format!("unix:{}", path.display())]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(REQUEST).unwrap();
    let AdminRequest { id, trust, peer, .. } = next_request(&mut admin);
    assert_eq!(trust, Trust::Owner);
    let (pid, uid) = (std::process::id() as i32, nix::unistd::getuid().as_raw());
    assert_eq!(peer, Some(PeerProcess { pid: Some(pid), uid }));
    admin.respond(id, &AdminResponse::plain(503, "later\n"));
    assert!(read_all(stream).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    drop(admin);
    assert!(!path.exists());
}

#[test]
fn an_abstract_name_is_served_to_the_user_of_the_server() {
    let name = format!("arctos-admin-test-{}", std::process::id());
    let mut admin = bind(&format!("unix:@{name}"));
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let mut stream = UnixStream::connect_addr(&address).unwrap();
    stream.write_all(REQUEST).unwrap();
    assert_eq!(next_request(&mut admin).path, "/metrics");
}

#[test]
fn an_address_that_cannot_be_bound_is_named_in_the_error() {
    let (admin, _) = on_tcp();
    let address = admin.descriptions()[0].strip_prefix("http://").unwrap().to_owned();
    assert_eq!(
        refusal(&[&address]),
        format!(
            "{address} is in use: another server listens there; stop it (ss -ltnp shows it), or \
             choose another --admin-bind"
        )
    );
    assert_eq!(
        refusal(&["fd://3"]),
        "fd://3: the admin socket cannot be inherited; give HOST:PORT or unix:/path"
    );
    assert_eq!(refusal(&["unix:/x", "unix:/x"]), "unix:/x is given twice; leave one out");
}

#[test]
fn no_descriptor_is_inherited_by_executed_programs() {
    let (mut admin, connect) = on_tcp();
    let _stream = connect();
    turn(&mut admin);
    let poll_fds = admin.poll_fds();
    assert_eq!(poll_fds.len(), 2, "a listener and a connection");
    for (fd, _) in poll_fds {
        let flags = FdFlag::from_bits_retain(fcntl(fd, F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
}

#[test]
fn a_bad_request_is_refused_and_not_passed_on() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(turn(&mut admin), []);
    assert!(read_all(&stream).starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn bytes_after_the_request_do_not_reset_the_connection() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(&[REQUEST, &[b'x'; 20_000]].concat()).unwrap();
    let id = next_request(&mut admin).id;
    // There is more than one read takes in, so that closing now would send a reset.
    admin.respond(id, &AdminResponse::plain(200, "as requested\n"));
    assert!(read_all(&stream).ends_with("as requested\n"));
    drop(stream);
    assert!(is_idle(&mut admin));
}

#[test]
fn a_silent_peer_is_disconnected_after_the_read_timeout() {
    let (mut admin, connect) = on_tcp();
    let stream = connect();
    turn(&mut admin);
    let deadline = admin.next_deadline().unwrap();
    assert!(deadline <= Instant::now() + READ_TIMEOUT);
    assert_eq!(admin.turn(deadline), []);
    assert_eq!(admin.next_deadline(), None);
    assert_eq!(read_all(&stream), "");
}

#[test]
fn a_peer_that_does_not_read_is_disconnected_after_the_write_timeout() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = next_request(&mut admin).id;
    admin.respond(id, &AdminResponse::plain(200, &"x".repeat(64 << 20)));
    let deadline = admin.next_deadline().unwrap();
    assert!(deadline <= Instant::now() + WRITE_TIMEOUT);
    admin.turn(deadline);
    assert!(admin.peers.is_empty());
}

#[test]
fn unread_responses_are_held_up_to_a_limit_and_the_newest_always() {
    let (mut admin, connect) = on_tcp();
    let mut streams = Vec::new();
    for bytes in [HELD_BYTES / 2, HELD_BYTES / 2, 2 * HELD_BYTES] {
        let mut stream = connect();
        stream.write_all(REQUEST).unwrap();
        let id = next_request(&mut admin).id;
        // The kernel buffers a few MB of each.
        admin.respond(id, &AdminResponse::plain(200, &"x".repeat(bytes)));
        streams.push(stream);
        assert_eq!(admin.peers.last().map(|peer| peer.id), Some(id));
    }
    assert_eq!(admin.peers.len(), 1);
}

#[test]
fn a_large_response_is_sent_piece_by_piece() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = next_request(&mut admin).id;
    admin.respond(id, &AdminResponse::plain(200, &"x".repeat(16 << 20)));
    let reader = std::thread::spawn(move || read_all(stream));
    assert!(is_idle(&mut admin));
    assert!(reader.join().unwrap().ends_with(&"x".repeat(16 << 20)));
}

#[test]
fn a_response_for_a_peer_that_is_gone_is_dropped() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = next_request(&mut admin).id;
    drop(stream);
    admin.respond(id, &AdminResponse::plain(200, "as requested\n"));
    assert!(is_idle(&mut admin));
    admin.respond(id, &AdminResponse::plain(200, "again\n"));
    assert!(admin.peers.is_empty());
}

#[test]
fn a_waiting_request_ends_with_its_peer() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = next_request(&mut admin).id;
    stream.write_all(b"more").unwrap();
    assert_eq!(turn(&mut admin), []);
    assert!(admin.is_waiting(id));
    assert_eq!(admin.next_deadline(), None);
    drop(stream);
    assert!(is_idle(&mut admin));
    assert!(!admin.is_waiting(id));
}

#[test]
fn a_waiting_request_ends_with_a_peer_that_resets() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    next_request(&mut admin);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert!(is_idle(&mut admin));
}

#[test]
fn an_answered_request_does_not_wait() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = next_request(&mut admin).id;
    assert!(admin.is_waiting(id));
    admin.respond(id, &AdminResponse::plain(200, "as requested\n"));
    assert!(!admin.is_waiting(id));
}

#[test]
fn the_oldest_connection_without_a_request_is_closed_for_a_new_one() {
    let (mut admin, connect) = on_tcp();
    let mut first = connect();
    first.write_all(REQUEST).unwrap();
    let waiting = next_request(&mut admin).id;
    let silent: Vec<_> = (1..CONNECTIONS).map(|_| connect()).collect();
    while admin.peers.len() < CONNECTIONS {
        turn(&mut admin);
    }
    let mut last = connect();
    last.write_all(REQUEST).unwrap();
    let id = next_request(&mut admin).id;
    assert_eq!(admin.peers.len(), CONNECTIONS);
    assert_eq!(read_all(&silent[0]), "", "the oldest silent one");
    silent[1].set_nonblocking(true).unwrap();
    assert_eq!((&silent[1]).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    admin.respond(waiting, &AdminResponse::plain(200, "first\n"));
    admin.respond(id, &AdminResponse::plain(200, "last\n"));
    assert!(read_all(first).ends_with("first\n"));
    assert!(read_all(last).ends_with("last\n"));
}

#[test]
fn a_crowd_at_one_listener_does_not_displace_clients_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let by_path = format!("unix:{}", path.display()).parse().unwrap();
    let mut admin = Admin::bind(&["127.0.0.1:0".parse().unwrap(), by_path]).unwrap();
    let address = admin.descriptions()[0].strip_prefix("http://").unwrap().to_owned();
    let mut owner = UnixStream::connect(&path).unwrap();
    turn(&mut admin);
    // They wait for responses that never come, so none of them is closed.
    let _crowd: Vec<_> = (0..2 * CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(REQUEST).unwrap();
            turn(&mut admin);
            stream
        })
        .collect();
    while admin.peers.len() < CONNECTIONS + 1 {
        turn(&mut admin);
    }
    owner.write_all(b"GET /owner HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    while next_request(&mut admin).path != "/owner" {}
}

#[test]
fn requests_per_turn_are_limited_and_none_is_passed_over() {
    let (mut admin, connect) = on_tcp();
    let streams: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    while admin.peers.len() < CONNECTIONS {
        turn(&mut admin);
    }
    for mut stream in &streams {
        stream.write_all(REQUEST).unwrap();
    }
    let mut ids = Vec::new();
    while ids.len() < CONNECTIONS {
        let requests = turn(&mut admin);
        assert!(requests.len() <= REQUESTS_PER_TURN, "{}", requests.len());
        ids.extend(requests.into_iter().map(|request| request.id.0));
    }
    assert_eq!(ids, (0..CONNECTIONS as u64).collect::<Vec<_>>());
}

#[test]
fn a_post_is_passed_on_only_from_a_unix_socket() {
    let post = b"POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(post).unwrap();
    assert_eq!(turn(&mut admin), []);
    assert!(read_all(&stream).starts_with("HTTP/1.1 403 Forbidden\r\n"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let mut admin = bind(&format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(post).unwrap();
    assert_eq!(next_request(&mut admin).method, Method::Post);
}
