//! Which connections are accepted, and which ones are closed for them.

use super::*;
use crate::settings::{ProxyProtocol, ProxyVersion};

#[test]
fn a_worker_in_a_quick_stop_leaves_the_queue_to_others() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let _client = around.request("/");
    await_events(&mut event_loop, 1);
    around.entry.set_command(Command::Quick);
    event_loop.accept(0);
    assert_eq!(around.entry.counters.get(Counter::ConnAcceptSuccess), 0);
}

#[test]
fn closed_listeners_stay_closed() {
    let mut app = app(2);
    let (mut event_loop, _around) = Surroundings::of(&mut app, None);
    let EventLoop { acceptor, poller, context, .. } = &mut event_loop;
    acceptor.close(poller);
    acceptor.pause(poller);
    assert!(acceptor.is_closed());
    acceptor.back_off(&io::Error::from_raw_os_error(nix::libc::ENFILE), poller, context);
    assert!(acceptor.is_closed());
}

#[test]
fn the_backoff_is_short_again_after_an_accepted_connection() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let back_off = |event_loop: &mut EventLoop<'_, App>| {
        let EventLoop { acceptor, poller, context, .. } = event_loop;
        acceptor.back_off(&io::Error::from_raw_os_error(nix::libc::ENFILE), poller, context);
        let until = acceptor.next_deadline().unwrap() - context.clock.now();
        acceptor.open(poller).unwrap();
        until
    };
    let first = back_off(&mut event_loop);
    assert!(back_off(&mut event_loop) > first);
    let _silent = TcpStream::connect(around.address).unwrap();
    await_events(&mut event_loop, 1);
    event_loop.accept(0);
    assert!(event_loop.acceptor.awaits_bytes_from().is_some());
    assert_eq!(back_off(&mut event_loop), first);
}

#[test]
fn a_lingering_connection_makes_room_before_a_kept_one() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    event_loop.clients.limit = 2;
    let answered = |event_loop: &mut EventLoop<'_, App>, count| {
        while around.entry.counters.get(Counter::RespDone) < count {
            event_loop.turn().unwrap();
        }
    };
    let mut kept = around.request("/");
    answered(&mut event_loop, 1);
    let mut refused = TcpStream::connect(around.address).unwrap();
    refused.write_all(b"\n\n\n").unwrap();
    answered(&mut event_loop, 2);
    assert_eq!(event_loop.clients.table.len(), 2);
    let _new = around.request("/");
    answered(&mut event_loop, 3);
    assert_eq!(event_loop.clients.table.len(), 2);
    let mut answer = [0; 1024];
    assert!(kept.read(&mut answer).unwrap() > 0);
    kept.set_nonblocking(true).unwrap();
    let is_open = kept.read(&mut answer).unwrap_err().kind() == io::ErrorKind::WouldBlock;
    assert!(is_open, "nothing more was sent to it");
}

#[test]
fn connections_that_wait_for_their_proxy_header_make_room_before_kept_ones() {
    let senders = ["127.0.0.1".parse().unwrap()].into_iter().collect();
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    event_loop.clients.limit = 2;
    event_loop.context.settings.proxy_protocol =
        ProxyProtocol { version: ProxyVersion::V1, senders };
    let silent = TcpStream::connect(around.address).unwrap();
    let mut slow = TcpStream::connect(around.address).unwrap();
    slow.write_all(b"PROXY TCP4").unwrap();
    while event_loop.clients.table.len() < 2 {
        event_loop.turn().unwrap();
    }
    let mut kept = Vec::new();
    let long = Instant::now() + Duration::from_secs(10);
    for (number, mut closed) in (1..).zip([silent, slow]) {
        let mut new = TcpStream::connect(around.address).unwrap();
        new.write_all(b"PROXY UNKNOWN\r\n").unwrap();
        new.write_all(&request("/")).unwrap();
        kept.push(new);
        while around.entry.counters.get(Counter::RespDone) < number {
            event_loop.turn().unwrap();
            assert!(Instant::now() < long, "nobody makes room");
        }
        assert!(matches!(closed.read(&mut [0; 64]), Ok(0) | Err(_)));
    }
    assert_eq!(event_loop.clients.table.len(), 2);
}
