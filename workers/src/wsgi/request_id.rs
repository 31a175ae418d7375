//! `arctos.request_id`: the X-Request-Id of a trusted proxy if it is valid, or else a generated one.

use std::hash::{BuildHasher, RandomState};

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::ffi;
use crate::application::Request;
use crate::http::forwarded;
use crate::settings::TrustedPeers;
use crate::shared::identity::{Generation, SlotId};

/// Maximum bytes of an identifier from a client.
const MAX_BYTES: usize = 128;
/// The hex digits of a generated identifier: 12 for the worker, 12 for the request.
const WORKER_DIGITS: usize = 12;
const REQUEST_DIGITS: usize = 12;

/// Whether an identifier is safe to log and pass on: visible ASCII, and not too long.
fn is_valid(id: &[u8]) -> bool {
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

/// Generates identifiers. They are unique as long as no two workers draw the same 48 bits.
pub(super) struct RequestIds {
    /// The proxies whose identifiers are kept.
    proxies: TrustedPeers,
    /// The worker's digits, drawn once, followed by the request's.
    text: [u8; WORKER_DIGITS + REQUEST_DIGITS],
}

impl RequestIds {
    /// Creates the generator of a worker. Slot and generation repeat after each start and in each container, so they
    /// only contribute to a random number.
    pub(super) fn new(slot: SlotId, generation: Generation, proxies: &TrustedPeers) -> Self {
        let worker = RandomState::new().hash_one((slot, generation, std::process::id()));
        let mut text = [b'0'; WORKER_DIGITS + REQUEST_DIGITS];
        write_hex(&mut text[..WORKER_DIGITS], worker);
        Self { proxies: proxies.clone(), text }
    }

    /// Returns the identifier of a request, by its number in this worker.
    pub(super) fn text(&mut self, sequence: u64) -> &[u8] {
        write_hex(&mut self.text[WORKER_DIGITS..], sequence);
        &self.text
    }

    /// Whether an identifier is kept that came with a request.
    pub(super) fn keeps(&self, request: &Request<'_>, id: &[u8]) -> bool {
        is_valid(id)
            && !self.proxies.is_empty()
            && forwarded::is_trusted(request.conn.source(), &self.proxies)
    }

    /// Returns the identifier that the environ has for a request: the proxy's or a generated one.
    pub(super) fn of<'a>(&'a mut self, request: &Request<'a>) -> &'a [u8] {
        match request.head.find(request.head_bytes, "x-request-id") {
            Some(sent) if self.keeps(request, sent) => sent,
            Some(_) | None => self.text(request.sequence),
        }
    }

    /// Returns the generated identifier as str.
    pub(super) fn make<'py>(
        &mut self,
        py: Python<'py>,
        sequence: u64,
    ) -> PyResult<Bound<'py, PyString>> {
        ffi::latin1(py, self.text(sequence))
    }
}

/// Writes the lowest digits of a number, with leading zeros.
fn write_hex(digits: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 0xf) as usize];
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_of_limited_length_is_valid() {
        assert!(is_valid(b"7f3a-01"));
        assert!(is_valid(&[b'x'; MAX_BYTES]));
        for id in [&b""[..], b"a b", b"a\x7f", b"caf\xe9", &[b'x'; MAX_BYTES + 1]] {
            assert!(!is_valid(id), "{id:?}");
        }
    }

    #[test]
    fn two_requests_and_two_workers_have_different_ids() {
        let mut ids = RequestIds::new(SlotId(1), Generation(1), &TrustedPeers::default());
        let mut others = RequestIds::new(SlotId(1), Generation(1), &TrustedPeers::default());
        let first = ids.text(1).to_vec();
        assert_ne!(ids.text(2), first);
        assert_ne!(others.text(1), first);
    }
}
