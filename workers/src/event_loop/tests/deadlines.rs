//! Deadlines that pass while the loop stalls. No test waits: the tests advance the clock.

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::*;
use crate::settings::StaticMount;

/// Longer than the longest deadline.
const STALL: Duration = Duration::from_secs(100);

/// Runs a test with a loop and its surroundings.
fn with_loop(test: impl FnOnce(&mut EventLoop<'_, App>, &Surroundings)) {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    test(&mut event_loop, &around);
}

/// A client that the loop has accepted, and that has sent these bytes.
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

/// Bytes arrive while the loop stalls.
fn send_during_stall(event_loop: &mut EventLoop<'_, App>, mut client: &TcpStream, said: &[u8]) {
    client.write_all(said).unwrap();
    await_events(event_loop, 1);
    stall(event_loop);
}

/// The loop stalls, and then checks its deadlines before it has asked the kernel.
fn stall(event_loop: &mut EventLoop<'_, App>) {
    event_loop.context.clock.pass(STALL);
    event_loop.check_deadlines();
}

fn status(client: &mut TcpStream) -> String {
    let mut bytes = [0; 1024];
    let count = client.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).chars().take(12).collect()
}

#[test]
fn a_head_that_arrives_during_a_stall_is_not_late() {
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, b"GET / HTTP/1.1\r\n");
        send_during_stall(event_loop, &client, b"Host: a\r\n\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_head_that_does_not_arrive_is_late() {
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, b"GET / HTTP/1.1\r\n");
        send_during_stall(event_loop, &client, b"Host: a\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 408");
    });
}

#[test]
fn a_body_that_arrives_during_a_stall_is_not_late() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n";
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, HEAD);
        // As much as the minimum rate requires in a whole window of 30 s.
        send_during_stall(event_loop, &client, &[b'x'; 20_000]);
        assert_eq!(event_loop.clients.table.len(), 1);
        send_during_stall(event_loop, &client, &[b'x'; 20_000]);
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_body_is_not_too_slow_in_a_window_in_which_the_loop_stalls() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, HEAD);
        for _ in 0..2 {
            send_during_stall(event_loop, &client, b"x");
        }
        send_during_stall(event_loop, &client, b"x");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_body_of_which_nothing_arrives_is_late() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, HEAD);
        stall(event_loop);
        assert_eq!(status(&mut client), "HTTP/1.1 408");
    });
}

#[test]
fn a_request_that_arrives_on_a_kept_connection_during_a_stall_is_answered() {
    with_loop(|event_loop, around| {
        let mut client = client(event_loop, around, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
        send_during_stall(event_loop, &client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&mut client), "HTTP/1.1 200");
        stall(event_loop);
        assert_eq!(status(&mut client), "", "it was idle");
    });
}

#[test]
fn a_response_that_its_client_reads_during_a_stall_goes_on() {
    let mut app = app(TOO_MUCH);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let mut client = around.request("/");
    event_loop.turn().unwrap();
    let mut room = vec![0; 1 << 20];
    let mut read_bytes = 0;
    // Until the worker's socket has room: its buffers are about as large as the client's.
    while event_loop.poller.wait(Some(Duration::ZERO)).unwrap() == 0 && read_bytes < TOO_MUCH {
        read_bytes += client.read(&mut room).unwrap();
    }
    stall(&mut event_loop);
    assert_eq!(event_loop.clients.table.len(), 1, "it goes on after {read_bytes} bytes");
    // What the client's kernel still takes is progress, too, but it is limited.
    while event_loop.clients.table.len() == 1 && read_bytes < TOO_MUCH {
        stall(&mut event_loop);
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
        stall(event_loop);
        assert_eq!(event_loop.schedule.yielded.len(), 1);
        while !event_loop.schedule.yielded.is_empty() {
            event_loop.turn().unwrap();
        }
        assert_eq!(around.entry.counters.get(Counter::RespDone), 200);
        assert_eq!(status(&mut client), "HTTP/1.1 200");
    });
}

#[test]
fn a_client_is_not_late_while_the_disk_is_read_for_it() {
    with_loop(|event_loop, around| {
        let directory = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create_new(directory.path().join("a")).unwrap();
        file.write_all(&vec![b'x'; 8 << 20]).unwrap();
        file.sync_all().unwrap();
        let settings = &mut event_loop.context.settings;
        let mount = StaticMount { prefix: "/s".to_owned(), dir: directory.path().to_owned() };
        settings.files.mounts.push(mount);
        settings.timeouts.write = Duration::from_secs(5);
        event_loop.clients = Clients::new(settings, Instant::now());
        event_loop.open_files().unwrap();
        // If the file system keeps the file in memory nevertheless, the client gets it.
        let forget =
            || posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        forget();
        let _client = client(event_loop, around, b"GET /s/a HTTP/1.1\r\nHost: a\r\n\r\n");
        for _ in 0..2 {
            forget();
            event_loop.context.clock.pass(Duration::from_secs(4));
            event_loop.turn().unwrap();
        }
        assert_eq!(event_loop.clients.table.len(), 1);
    });
}
