//! Requests to the admin socket.

use std::time::{Instant, SystemTime};

use arctos::admin::connection::{Awaits, Connection, Incoming, Received};
use arctos::admin::prometheus::Format;
use arctos::admin::verb::Verb;
use arctos::admin::{AdminRequest, AdminResponse, Method, RequestId, Trust};
use arctos_worker::http::HttpDate;

use super::pieces::{cuts, pieces};
use super::responses::Head;

/// Sends the bytes to the admin socket as the owner and as anyone else, however they are cut.
///
/// There is at most one request and exactly one response to it, and only the owner can change something.
pub fn admin(bytes: &[u8]) {
    for trust in [Trust::Owner, Trust::Anyone] {
        let whole = serve(bytes, &[bytes.len()], trust);
        for ends in cuts(bytes) {
            assert_eq!(serve(bytes, &ends, trust), whole, "cut at {ends:?}");
        }
        match whole {
            Some((Received::Request(Incoming { method, path, query, accept }), sent)) => {
                check_response(&sent, 200, method == Method::Head);
                assert!(trust == Trust::Owner || method != Method::Post);
                assert!(!path.contains('?'));
                let asks = accept.to_ascii_lowercase().contains("application/openmetrics-text");
                assert!(asks || Format::accepted(&accept) == Format::Text);
                let (id, peer) = (RequestId(1), None);
                check_verb(&AdminRequest { id, method, path, query, accept, trust, peer });
            }
            Some((Received::Refusal(refusal), sent)) => {
                // A refused request may have been one with HEAD.
                check_response(&sent, refusal.status, sent.ends_with(b"\r\n\r\n"));
            }
            Some((Received::Nothing, _)) => panic!("nothing is no request"),
            None => {}
        }
    }
}

/// Responds to the request as soon as it is complete. Returns the request, or its refusal, and what was sent.
fn serve(bytes: &[u8], ends: &[usize], trust: Trust) -> Option<(Received, Vec<u8>)> {
    let (now, date) = (Instant::now(), HttpDate::at(SystemTime::UNIX_EPOCH));
    let mut connection = Connection::new(trust, now);
    let mut outcome = None;
    for piece in pieces(bytes, ends).filter(|piece| !piece.is_empty()) {
        let received = connection.receive(piece);
        let response = match &received {
            Received::Nothing => continue,
            Received::Request(_) => AdminResponse::plain(200, "done\n"),
            Received::Refusal(refusal) => refusal.clone(),
        };
        assert!(outcome.is_none(), "a second request");
        assert_eq!(connection.awaits(), Awaits::Response);
        connection.respond(&response, &date, now);
        let mut sent = Vec::new();
        while connection.awaits() == Awaits::Room {
            let count = connection.outgoing().len().min(100);
            sent.extend_from_slice(&connection.outgoing()[..count]);
            connection.sent(count, now);
        }
        outcome = Some((received, sent));
    }
    assert!(connection.outgoing().is_empty());
    outcome
}

fn check_response(mut sent: &[u8], status: u16, is_head: bool) {
    let head = Head::read(&mut sent);
    assert_eq!(head.status, status);
    assert!(!head.persists(true));
    if !is_head {
        assert!(head.body(&mut sent).is_some(), "the body is cut off");
    }
    assert!(sent.is_empty(), "something behind the response");
}

/// Reads the verb of a request. The request that a client would send for it has the same verb.
fn check_verb(request: &AdminRequest) {
    match Verb::read(request) {
        Ok(verb) => {
            assert_eq!(verb.is_change(), request.method == Method::Post);
            let target = verb.target();
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let (path, query) = (path.to_owned(), query.to_owned());
            assert_eq!(Verb::read(&AdminRequest { path, query, ..request.clone() }), Ok(verb));
        }
        Err(refusal) => assert!(matches!(refusal.status, 400 | 404 | 405)),
    }
}
