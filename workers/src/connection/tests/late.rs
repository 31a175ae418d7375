//! Peers that take too long.

use super::*;

#[test]
fn a_late_request_gets_a_408() {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"GET / HT").expires(Timer::Head);
    assert_eq!(bench.counts(), "AS RA CD RX");
    assert!(bench.text().starts_with("HTTP/1.1 408 "), "{}", bench.text());
}

#[test]
fn a_body_slower_than_the_minimum_rate_is_late() {
    let mut bench = Bench::new(vec![]);
    bench.settings.timeouts.body_rate_bytes = 4;
    bench.packet(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\nabcd");
    let window = bench.settings.timeouts.body;
    bench.window_ends(window);
    assert_eq!(bench.text(), "");
    bench.packet(b"abc").window_ends(window);
    assert!(bench.text().starts_with("HTTP/1.1 408 "), "{}", bench.text());
}

#[test]
fn a_body_needs_its_rate_only_while_the_loop_watches() {
    let mut bench = Bench::new(vec![]);
    bench.settings.timeouts.body_rate_bytes = 8;
    let window = bench.settings.timeouts.body;
    bench.packet(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n");
    bench.window_ends(Duration::ZERO);
    bench.packet(b"abcd").window_ends(window / 2);
    assert_eq!(bench.text(), "", "half of the time, and half of the bytes");
    bench.packet(b"abcd").window_ends(window * 3 / 4);
    assert!(bench.text().starts_with("HTTP/1.1 408 "), "{}", bench.text());
}

#[test]
fn a_deadline_never_truncates_a_half_sent_100() {
    const HEAD: &[u8] =
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    for sent in [0, 5] {
        let mut bench = Bench::new(vec![]);
        bench.room = sent;
        bench.packet(HEAD);
        bench.room = usize::MAX;
        bench.expires(Timer::Body);
        let text = bench.text();
        assert!(text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 "), "{text}");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_response() {
    let mut bench = Bench::new(vec![]);
    bench.expires(Timer::KeepAlive);
    assert_eq!(bench.counts(), "AS CD RX");
    assert_eq!(bench.text(), "");
    assert!(bench.is_closed.is_some());
}
