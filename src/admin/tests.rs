use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use nix::fcntl::{F_GETFD, FdFlag, fcntl};
use nix::poll::{PollFd, PollTimeout, poll};

use super::*;
use connection::{READ_PATIENCE, WRITE_PATIENCE};

const REQUEST: &[u8] = b"GET /metrics?a=b HTTP/1.1\r\nHost: a\r\n\r\n";
/// A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn bind(address: &str) -> Admin {
    Admin::bind(&[address.parse().unwrap()]).unwrap()
}

fn refusal(addresses: &[&str]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let Err(error) = Admin::bind(&addresses) else { panic!("{addresses:?} was bound") };
    error.to_string()
}

/// One on any free port, and a way to it.
fn on_tcp() -> (Admin, impl Fn() -> TcpStream) {
    let admin = bind("127.0.0.1:0");
    let address = admin.descriptions()[0].strip_prefix("http://").unwrap().to_owned();
    let connect = move || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    (admin, connect)
}

/// Waits until something can be done, and does it.
fn turn(admin: &mut Admin) -> Vec<Question> {
    let awaited = admin.awaited();
    let mut fds: Vec<_> = awaited.iter().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
    let count = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
    assert!(count > 0, "nothing has happened");
    admin.turn(Instant::now())
}

/// Turns until something is asked.
fn asked(admin: &mut Admin) -> Question {
    loop {
        if let Some(question) = turn(admin).pop() {
            return question;
        }
    }
}

/// Turns until nothing is left to do; `false` when somebody is still there.
fn is_forgotten(admin: &mut Admin) -> bool {
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
fn nowhere_is_awaited_where_no_address_is_given() {
    let mut admin = Admin::bind(&[]).unwrap();
    assert!(admin.awaited().is_empty() && admin.descriptions().is_empty());
    assert_eq!(admin.next_deadline(), None);
    assert_eq!(admin.turn(Instant::now()), []);
}

#[test]
fn a_question_over_tcp_is_handed_out_and_its_answer_sent() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let Question { id, method, path, query, trust, asker } = asked(&mut admin);
    assert_eq!((method, &*path, &*query), (Method::Get, "/metrics", "a=b"));
    assert_eq!((trust, asker), (Trust::Anybody, None));
    admin.answer(id, Answer::plain(200, "as asked\n"));
    let text = read_all(&stream);
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nas asked\n"),
        "{text}"
    );
    drop(stream);
    assert!(is_forgotten(&mut admin));
}

#[test]
fn a_path_is_for_the_owner_alone_and_goes_with_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let mut admin = bind(&format!("unix:{}", path.display()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(admin.descriptions(), [format!("unix:{}", path.display())]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(REQUEST).unwrap();
    let Question { id, trust, asker, .. } = asked(&mut admin);
    assert_eq!(trust, Trust::Owner);
    let (pid, uid) = (std::process::id() as i32, nix::unistd::getuid().as_raw());
    assert_eq!(asker, Some(Asker { pid: Some(pid), uid }));
    admin.answer(id, Answer::plain(503, "later\n"));
    assert!(read_all(stream).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    drop(admin);
    assert!(!path.exists());
}

#[test]
fn an_abstract_name_is_served_to_who_runs_the_server() {
    let name = format!("arctos-admin-test-{}", std::process::id());
    let mut admin = bind(&format!("unix:@{name}"));
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let mut stream = UnixStream::connect_addr(&address).unwrap();
    stream.write_all(REQUEST).unwrap();
    assert_eq!(asked(&mut admin).path, "/metrics");
}

#[test]
fn what_cannot_be_bound_is_told_with_its_address() {
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
        "fd://3: the admin socket is not inherited; give HOST:PORT or unix:/path"
    );
    assert_eq!(refusal(&["unix:/x", "unix:/x"]), "unix:/x is given twice; leave one out");
}

#[test]
fn no_descriptor_is_passed_on_to_what_the_server_executes() {
    let (mut admin, connect) = on_tcp();
    let _stream = connect();
    turn(&mut admin);
    let awaited = admin.awaited();
    assert_eq!(awaited.len(), 2, "a listener and a connection");
    for (fd, _) in awaited {
        let flags = FdFlag::from_bits_retain(fcntl(fd, F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
}

#[test]
fn a_bad_request_is_answered_without_a_question() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    assert_eq!(turn(&mut admin), []);
    assert!(read_all(&stream).starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn bytes_behind_the_request_do_not_reset_the_answer_away() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(&[REQUEST, &[b'x'; 20_000]].concat()).unwrap();
    let id = asked(&mut admin).id;
    // More than one read takes in: closing now would send a reset.
    admin.answer(id, Answer::plain(200, "as asked\n"));
    assert!(read_all(&stream).ends_with("as asked\n"));
    drop(stream);
    assert!(is_forgotten(&mut admin));
}

#[test]
fn a_peer_that_says_nothing_loses_its_connection_in_time() {
    let (mut admin, connect) = on_tcp();
    let stream = connect();
    turn(&mut admin);
    let deadline = admin.next_deadline().unwrap();
    assert!(deadline <= Instant::now() + READ_PATIENCE);
    assert_eq!(admin.turn(deadline), []);
    assert_eq!(admin.next_deadline(), None);
    assert_eq!(read_all(&stream), "");
}

#[test]
fn an_answer_to_a_peer_that_does_not_read_is_given_up_in_time() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = asked(&mut admin).id;
    admin.answer(id, Answer::plain(200, &"x".repeat(64 << 20)));
    let deadline = admin.next_deadline().unwrap();
    assert!(deadline <= Instant::now() + WRITE_PATIENCE);
    admin.turn(deadline);
    assert!(admin.peers.is_empty());
}

#[test]
fn answers_that_nobody_takes_are_held_up_to_a_limit_and_the_newest_always() {
    let (mut admin, connect) = on_tcp();
    let mut streams = Vec::new();
    for bytes in [HELD_BYTES / 2, HELD_BYTES / 2, 2 * HELD_BYTES] {
        let mut stream = connect();
        stream.write_all(REQUEST).unwrap();
        let id = asked(&mut admin).id;
        // The kernel takes a few MB of each.
        admin.answer(id, Answer::plain(200, &"x".repeat(bytes)));
        streams.push(stream);
        assert_eq!(admin.peers.last().map(|peer| peer.id), Some(id));
    }
    assert_eq!(admin.peers.len(), 1);
}

#[test]
fn a_large_answer_is_sent_piece_by_piece() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = asked(&mut admin).id;
    admin.answer(id, Answer::plain(200, &"x".repeat(16 << 20)));
    let reader = std::thread::spawn(move || read_all(stream));
    assert!(is_forgotten(&mut admin));
    assert!(reader.join().unwrap().ends_with(&"x".repeat(16 << 20)));
}

#[test]
fn an_answer_for_a_peer_that_has_gone_is_dropped() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = asked(&mut admin).id;
    drop(stream);
    admin.answer(id, Answer::plain(200, "as asked\n"));
    assert!(is_forgotten(&mut admin));
    admin.answer(id, Answer::plain(200, "again\n"));
    assert!(admin.peers.is_empty());
}

#[test]
fn a_question_that_waits_ends_with_its_peer() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = asked(&mut admin).id;
    stream.write_all(b"more").unwrap();
    assert_eq!(turn(&mut admin), []);
    assert!(admin.is_waiting(id));
    assert_eq!(admin.next_deadline(), None);
    drop(stream);
    assert!(is_forgotten(&mut admin));
    assert!(!admin.is_waiting(id));
}

#[test]
fn a_question_that_waits_ends_with_a_peer_that_resets() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    asked(&mut admin);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert!(is_forgotten(&mut admin));
}

#[test]
fn a_question_that_is_answered_does_not_wait() {
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(REQUEST).unwrap();
    let id = asked(&mut admin).id;
    assert!(admin.is_waiting(id));
    admin.answer(id, Answer::plain(200, "as asked\n"));
    assert!(!admin.is_waiting(id));
}

#[test]
fn the_oldest_that_is_still_reading_gives_way() {
    let (mut admin, connect) = on_tcp();
    let mut first = connect();
    first.write_all(REQUEST).unwrap();
    let waiting = asked(&mut admin).id;
    let silent: Vec<_> = (1..CONNECTIONS).map(|_| connect()).collect();
    while admin.peers.len() < CONNECTIONS {
        turn(&mut admin);
    }
    let mut last = connect();
    last.write_all(REQUEST).unwrap();
    let id = asked(&mut admin).id;
    assert_eq!(admin.peers.len(), CONNECTIONS);
    assert_eq!(read_all(&silent[0]), "", "the first that said nothing");
    silent[1].set_nonblocking(true).unwrap();
    assert_eq!((&silent[1]).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    admin.answer(waiting, Answer::plain(200, "first\n"));
    admin.answer(id, Answer::plain(200, "last\n"));
    assert!(read_all(first).ends_with("first\n"));
    assert!(read_all(last).ends_with("last\n"));
}

#[test]
fn a_crowd_at_one_listener_takes_no_place_at_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let by_path = format!("unix:{}", path.display()).parse().unwrap();
    let mut admin = Admin::bind(&["127.0.0.1:0".parse().unwrap(), by_path]).unwrap();
    let address = admin.descriptions()[0].strip_prefix("http://").unwrap().to_owned();
    let mut owner = UnixStream::connect(&path).unwrap();
    turn(&mut admin);
    // They wait for answers that never come, so none of them gives way.
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
    while asked(&mut admin).path != "/owner" {}
}

#[test]
fn in_one_turn_no_more_is_asked_than_can_be_answered_soon_and_nobody_is_passed_over() {
    let (mut admin, connect) = on_tcp();
    let streams: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    while admin.peers.len() < CONNECTIONS {
        turn(&mut admin);
    }
    for mut stream in &streams {
        stream.write_all(REQUEST).unwrap();
    }
    let mut asked = Vec::new();
    while asked.len() < CONNECTIONS {
        let questions = turn(&mut admin);
        assert!(questions.len() <= QUESTIONS, "{}", questions.len());
        asked.extend(questions.into_iter().map(|question| question.id.0));
    }
    assert_eq!(asked, (0..CONNECTIONS as u64).collect::<Vec<_>>());
}

#[test]
fn a_post_is_handed_out_where_the_kernel_knows_who_it_is() {
    let post = b"POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let (mut admin, connect) = on_tcp();
    let mut stream = connect();
    stream.write_all(post).unwrap();
    assert_eq!(turn(&mut admin), []);
    assert!(read_all(&stream).starts_with("HTTP/1.1 403 Forbidden\r\n"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let mut admin = bind(&format!("unix:{}", path.display()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(post).unwrap();
    assert_eq!(asked(&mut admin).method, Method::WorkerInit);
}
