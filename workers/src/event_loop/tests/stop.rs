//! What happens to connections that wait in an accept queue when it is closed.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, connect, setsockopt, socket,
    sockopt,
};

use super::*;
use crate::shared::fd;

/// A client that completed its handshake with a closed queue, which drops everything that it sends: only the packets
/// of the handshake had the TTL that the queue requires.
fn late_client(address: SocketAddr) -> TcpStream {
    let SocketAddr::V4(address) = address else { panic!("no IPv4") };
    let (family, protocol) = (AddressFamily::Inet, SockProtocol::Tcp);
    let client = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    setsockopt(&client, sockopt::Ipv4Ttl, &255).unwrap();
    connect(client.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    setsockopt(&client, sockopt::Ipv4Ttl, &64).unwrap();
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// A loop that got the command to drain while it was in a request for a minute.
fn busy_for_long<'a>(app: &'a mut App) -> (EventLoop<'a, App>, Surroundings) {
    let (mut event_loop, around) = Surroundings::of(app, None);
    let since = Instant::now() - Duration::from_secs(60);
    event_loop.begin_drain(DrainCause::Command);
    event_loop.phase = Phase::Draining { since, cause: DrainCause::Command };
    (event_loop, around)
}

#[test]
fn a_request_dropped_by_a_closed_queue_is_answered_when_retransmitted() {
    let mut app = app(2);
    let (mut event_loop, around) = busy_for_long(&mut app);
    fd::close_queue(around.listener.as_fd()).unwrap();
    let mut client = late_client(around.address);
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert!(!event_loop.turn().unwrap());
    assert!(!event_loop.is_done(true), "the request is still to come");
    while around.entry.counters.get(Counter::RespDone) == 0 {
        assert!(!event_loop.turn().unwrap());
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_connection_closed_before_it_could_retransmit_counts_as_abandoned() {
    let mut app = app(2);
    let (mut event_loop, around) = busy_for_long(&mut app);
    fd::close_queue(around.listener.as_fd()).unwrap();
    let _client = late_client(around.address);
    assert!(!event_loop.turn().unwrap());
    around.command(Command::Quick);
    assert!(event_loop.turn().unwrap());
    assert_eq!(event_loop.close_clients().abandoned_count, 1);
}

/// Nothing of what it might have sent was dropped.
#[test]
fn a_silent_connection_of_an_open_queue_delays_no_exit() {
    let mut app = app(2);
    let (mut event_loop, around) = busy_for_long(&mut app);
    let _client = TcpStream::connect(around.address).unwrap();
    event_loop.follow_command();
    assert!(event_loop.is_done(true));
    assert_eq!(event_loop.close_clients().abandoned_count, 0);
}
