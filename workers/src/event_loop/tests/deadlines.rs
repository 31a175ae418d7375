//! Deadlines that pass while the loop is away. No test waits: time passes by hand.

use super::*;

/// As long as the longest of them, and more.
const AWAY: Duration = Duration::from_secs(100);

/// A loop, its surroundings, and what is left of its deadlines after an absence.
fn with_loop(test: impl FnOnce(&mut EventLoop<'_, App>, &Surroundings)) {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    test(&mut event_loop, &around);
}

/// A client that the loop knows, and that has sent this.
fn client(event_loop: &mut EventLoop<'_, App>, around: &Surroundings, said: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(around.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(said).unwrap();
    while around.entry.counters.get(Counter::BytesIn) < said.len() as u64 {
        event_loop.turn().unwrap();
    }
    assert_eq!(event_loop.clients.table.len(), 1);
    client
}

/// Something comes while the loop is away.
fn comes(event_loop: &mut EventLoop<'_, App>, mut client: &TcpStream, said: &[u8]) {
    client.write_all(said).unwrap();
    await_events(event_loop, 1);
    is_away(event_loop);
}

/// What the loop does when it comes back: it judges by the clock, before it has asked the kernel.
fn is_away(event_loop: &mut EventLoop<'_, App>) {
    event_loop.context.clock.pass(AWAY);
    event_loop.check_deadlines();
}

fn status(client: &mut TcpStream) -> String {
    let mut bytes = [0; 1024];
    let count = client.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).chars().take(12).collect()
}

#[test]
fn a_head_that_came_while_the_loop_was_away_is_not_late() {
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, b"GET / HTTP/1.1\r\n");
        comes(event_loop, &client, b"Host: a\r\n\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_head_that_did_not_come_is_late() {
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, b"GET / HTTP/1.1\r\n");
        comes(event_loop, &client, b"Host: a\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 408");
    });
}

#[test]
fn a_body_that_came_while_the_loop_was_away_is_not_late() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n";
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, HEAD);
        // As much as the least rate wants for a whole window of 30 s.
        comes(event_loop, &client, &[b'x'; 20_000]);
        assert_eq!(event_loop.clients.table.len(), 1);
        comes(event_loop, &client, &[b'x'; 20_000]);
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_body_is_not_too_slow_for_a_window_in_which_the_loop_was_away() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, HEAD);
        for _ in 0..2 {
            comes(event_loop, &client, b"x");
        }
        comes(event_loop, &client, b"x");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_body_of_which_nothing_came_is_late() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, HEAD);
        is_away(event_loop);
        assert_eq!(status(&mut client), "HTTP/1.1 408");
    });
}

#[test]
fn a_request_on_a_kept_connection_that_came_while_the_loop_was_away_is_answered() {
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
        comes(event_loop, &client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
        is_away(event_loop);
        assert_eq!(status(&mut client), "", "it was idle");
    });
}

#[test]
fn a_response_that_its_client_reads_while_the_loop_is_away_is_not_given_up() {
    let mut app = app(TOO_MUCH);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let mut client = around.asks("/");
    event_loop.turn().unwrap();
    let mut room = vec![0; 1 << 20];
    let mut read_bytes = 0;
    // Until the worker's socket has room: its buffers and the client's are about as large.
    while event_loop.poller.wait(Some(Duration::ZERO)).unwrap() == 0 && read_bytes < TOO_MUCH {
        read_bytes += client.read(&mut room).unwrap();
    }
    is_away(&mut event_loop);
    assert_eq!(event_loop.clients.table.len(), 1, "it goes on after {read_bytes} bytes");
    // What the client's kernel still takes is progress, too; that has an end.
    while event_loop.clients.table.len() == 1 && read_bytes < TOO_MUCH {
        is_away(&mut event_loop);
        read_bytes += 1 << 20;
    }
    assert_eq!(event_loop.clients.table.len(), 0, "nobody has read since");
}

#[test]
fn a_connection_that_waits_for_its_turn_is_not_late() {
    with_loop(|event_loop, around| {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = client(event_loop, around, &request.repeat(200));
        assert_eq!(event_loop.schedule.yielded.len(), 1, "a turn is 64 requests, and this had two");
        is_away(event_loop);
        assert_eq!(event_loop.schedule.yielded.len(), 1);
        while !event_loop.schedule.yielded.is_empty() {
            event_loop.turn().unwrap();
        }
        assert_eq!(around.entry.counters.get(Counter::RespDone), 200);
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}
