//! How much a peer may still send after its last response.

use super::*;

#[test]
fn lingering_ends_when_the_peer_sends_too_much() {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"\n").packet(&vec![b'x'; LINGER_BYTES as usize]);
    assert_eq!(bench.is_closed, None);
    bench.packet(b"x");
    assert!(bench.is_closed.is_some());
}

/// A connection that has refused a request with this body.
fn refused_body(head: &str) -> Bench {
    let mut bench = Bench::new(vec![]);
    bench.settings.limits.body_bytes = 10;
    bench.packet(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes());
    bench
}

#[test]
fn a_body_that_is_declared_too_large_may_be_sent_whole() {
    let mut bench = refused_body("Content-Length: 1000000");
    assert!(bench.text().starts_with("HTTP/1.1 413 "), "{}", bench.text());
    for _ in 0..10 {
        bench.packet(&[b'x'; 100_000]);
    }
    bench.packet(&[b'x'; LINGER_BYTES as usize]);
    assert_eq!(bench.is_closed, None);
    bench.packet(b"x");
    assert!(bench.is_closed.is_some(), "there is a limit");
}

/// With a limit of 64 MB or more, this applies to every declared body that is refused.
#[test]
fn a_body_declared_above_all_limits_may_be_sent_up_to_them() {
    for (limit, head) in [
        (10, format!("Content-Length: {}", u64::MAX)),
        (DISCARD_BYTES, format!("Content-Length: {}", DISCARD_BYTES + 1)),
        (1 << 20, format!("Content-Length: {DISCARD_BYTES}\r\nExpect: a miracle")),
    ] {
        let mut bench = Bench::new(vec![]);
        bench.settings.limits.body_bytes = limit;
        bench.packet(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n").as_bytes());
        assert!(bench.text().starts_with("HTTP/1.1 41"), "{}", bench.text());
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..DISCARD_BYTES >> 20 {
            bench.packet(&piece);
        }
        assert_eq!(bench.is_closed, None, "{head}");
        bench.packet(b"x");
        assert!(bench.is_closed.is_some(), "there is a limit");
    }
}

#[test]
fn a_chunked_body_that_grows_too_large_may_be_sent_up_to_a_limit() {
    let mut bench = refused_body("Transfer-Encoding: chunked");
    bench.packet(b"b\r\n");
    assert!(bench.text().starts_with("HTTP/1.1 413 "), "{}", bench.text());
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..DISCARD_BYTES >> 20 {
        bench.packet(&piece);
    }
    assert_eq!(bench.is_closed, None);
    bench.packet(b"x");
    assert!(bench.is_closed.is_some());
}

#[test]
fn lingering_ends_at_its_deadline_though_the_peer_sends() {
    for timer in [Timer::Linger, Timer::LingerTotal] {
        let mut bench = refused_body("Content-Length: 1000000");
        bench.packet(&[b'x'; 1000]).expires(timer);
        assert!(bench.is_closed.is_some());
    }
}
