//! Everything that a client sends on one connection.

pub(crate) mod application;
pub(crate) mod shell;

use arctos_worker::settings::{Forwarding, HeaderMap, Limits, Settings};

use super::pieces::{Numbers, cuts};
use super::responses;
use shell::Shell;

/// Sends the bytes to a connection, however they are cut and however little its socket takes, and reads what it
/// sends back.
///
/// The application, what reaches it, every byte that is sent (except `100 Continue`), the refusal and the counts
/// do not depend on cuts. The responses are as many as the requests, in their order, and a strict client reads
/// from them what the application gave.
pub fn connection(bytes: &[u8]) {
    let mut settings = Settings::default();
    // The peer is one of these proxies.
    settings.forwarding.proxies = ["127.0.0.1", "10.0.0.0/8"]
        .map(|peer| peer.parse().expect("a proxy"))
        .into_iter()
        .collect();
    check(bytes, &settings);
    settings.forwarding = Forwarding::default();
    settings.header_map = HeaderMap::Refuse;
    settings.limits = Limits {
        request_line_bytes: 60,
        header_count: 6,
        header_field_bytes: 40,
        head_bytes: 200,
        body_bytes: 20,
        requests_per_connection: 3,
        ..Limits::DEFAULT
    };
    check(bytes, &settings);
}

fn check(bytes: &[u8], settings: &Settings) {
    let whole = Shell::run(bytes, &[bytes.len()], &mut |length| length, settings);
    responses::check(&whole);
    let mut numbers = Numbers::of(bytes, 1);
    for ends in cuts(bytes) {
        let mut room = |length: usize| 1 + numbers.below(length);
        let cut = Shell::run(bytes, &ends, &mut room, settings);
        assert_eq!(cut, whole, "cut at {ends:?}");
    }
}
