//! The answer of this host's kernel to a datagram for a port that nobody has.
//!
//! As a rule it is there when send(2) returns. On a busy machine the kernel may leave the loopback device's packets
//! to ksoftirqd, and it comes later. The tests that count on it wait for it here.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

/// Returns at once where somebody is there, and else when the answer to what was just sent is here.
pub(in crate::emitter) fn await_refusal(socket: &Socket) {
    let Some(address) = socket.peer_addr().ok().and_then(|peer| peer.as_socket()) else { return };
    // Looked at again and again: other tests open and close sockets meanwhile, and a table that changes may be
    // shown in parts.
    while !is_anybody_at(address) && !has_error(socket, PollTimeout::from(10_u8)) {}
}

/// Returns when an answer is here.
pub(super) fn await_answer(socket: &Socket) {
    assert!(has_error(socket, PollTimeout::from(30_000_u16)), "somebody is there");
}

/// POLLERR is always waited for.
fn has_error(socket: &Socket, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::empty())], timeout) == Ok(1)
}

/// Whether a socket has this port, as proc(5) shows them.
fn is_anybody_at(address: SocketAddr) -> bool {
    let shown = match address.ip() {
        IpAddr::V4(ip) => hexadecimal(&ip.octets()),
        IpAddr::V6(ip) => hexadecimal(&ip.octets()),
    };
    let places =
        [shown, "0".repeat(8), "0".repeat(32)].map(|ip| format!("{ip}:{:04X}", address.port()));
    ["/proc/net/udp", "/proc/net/udp6"].into_iter().any(|path| {
        // There is no such file where there is no IPv6.
        let table = fs::read_to_string(path).unwrap_or_default();
        let mut locals = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        locals.any(|local| places.iter().any(|place| place == local))
    })
}

/// As proc(5) writes an address: words in the host's order.
fn hexadecimal(octets: &[u8]) -> String {
    let words = octets.chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).unwrap());
    words.map(|word| format!("{:08X}", u32::from_ne_bytes(word))).collect()
}
