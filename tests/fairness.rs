//! No client monopolizes a worker: neither one that always has a request, nor one that sends as fast as the
//! worker reads, nor idle clients that fill the worker up to its connection limit.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::{Counter, StatusClass};
use arctos_worker::worker::WorkerExit;

use crate::support::ok::{GET, OkApplication, has_answer, is_answered};
use crate::support::server::Server;

fn start(settings: Settings, delay: Duration) -> Server {
    Server::start(settings, move || OkApplication::with_delay(delay))
}

#[test]
fn a_new_connection_is_accepted_while_others_send_without_pause() {
    let server = start(Settings::default(), Duration::from_millis(1));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (mut client, is_over) = (server.connect(), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(is_answered(&mut client, GET));
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(200)); // all of them are sending
    let answered = (0..5).filter(|_| is_answered(&mut server.connect(), GET)).count();
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("each request of a client is answered");
    }
    assert_eq!(answered, 5);
    assert_eq!(server.stop(), WorkerExit::Done);
}

#[test]
fn a_full_worker_evicts_an_idle_connection_for_a_new_one() {
    let mut settings = Settings::default();
    settings.limits.connections = 2;
    let server = start(settings, Duration::ZERO);
    let mut held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    let (first, second) = GET.split_at(10);
    for client in &mut held {
        assert!(is_answered(client, GET));
        client.write_all(first).expect("half a request is sent");
    }
    thread::sleep(Duration::from_millis(100)); // the worker has read both halves
    let mut late = server.connect();
    late.write_all(GET).expect("the request is sent");
    thread::sleep(Duration::from_millis(100)); // the worker has no room for it yet
    assert!(is_answered(&mut held[0], second));
    assert!(has_answer(&mut late), "the idle connection was not evicted");
    assert_eq!(
        held[0].read(&mut [0; 1]).expect("an orderly close"),
        0,
        "the idle one is still open"
    );
    assert!(is_answered(&mut held[1], second), "the busy one is gone");
    drop((held, late));
    assert_eq!(server.stop(), WorkerExit::Done);
}

#[test]
fn a_fast_upload_does_not_starve_other_connections() {
    const PIECES: usize = 256;
    let server = start(Settings::default(), Duration::ZERO);
    let mut uploader = server.connect();
    let mut other = server.connect();
    let is_over = Arc::new(AtomicBool::new(false));
    let upload = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let piece = vec![b'x'; 1 << 20];
            let length = PIECES << 20;
            let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
            uploader.write_all(head.as_bytes()).expect("the head is sent");
            for _ in 0..PIECES {
                uploader.write_all(&piece).expect("the body is sent");
            }
            assert!(has_answer(&mut uploader));
            is_over.store(true, Ordering::Relaxed);
        }
    });
    while !is_over.load(Ordering::Relaxed) {
        assert!(is_answered(&mut other, GET));
    }
    upload.join().expect("the upload is answered");
    // The worker counts each turn that ends with an incomplete body, and then serves the others.
    let turns = server.entry().counters.get(Counter::ReqActive);
    assert!(turns >= PIECES as u64 / 2, "an upload of {PIECES} MB was read in {turns} turns");
    drop(other);
    assert_eq!(server.stop(), WorkerExit::Done);
}

#[test]
fn a_rejected_request_has_no_request_duration() {
    let server = start(Settings::default(), Duration::ZERO);
    let mut client = server.connect();
    assert!(is_answered(&mut client, GET));
    client.write_all(b"GET / HTTP/3.0\r\n\r\n").expect("the request is sent");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an answer and the end");
    assert!(answer.starts_with(b"HTTP/1.1 505 "), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.entry().requests.duration(StatusClass::Success).count(), 1);
    assert_eq!(server.stop(), WorkerExit::Done);
}
