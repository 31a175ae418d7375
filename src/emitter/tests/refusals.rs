//! The error that this host's kernel reports for a datagram to an unused port.
//!
//! It has usually arrived when send(2) returns. On a busy machine the kernel may leave loopback packets to ksoftirqd,
//! and the error arrives later. Tests that rely on it wait for it here.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

/// An agent at an address of its own in 127.0.0.0/8: as long as it is closed, the kernel gives its port to no other
/// socket, neither of this process nor of another one.
pub(in crate::emitter) fn agent_that_closes() -> (UdpSocket, SocketAddr) {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id().to_le_bytes();
    let ip = [127, process[1].max(1), process[0], COUNT.fetch_add(1, Ordering::Relaxed)];
    let agent = UdpSocket::bind((IpAddr::from(ip), 0)).unwrap();
    agent.set_nonblocking(true).unwrap();
    let address = agent.local_addr().unwrap();
    (agent, address)
}

/// Closes an agent of [`agent_that_closes`]. A child that another test has just forked may still hold a copy of the
/// socket until it closes it or executes a program, so this waits until the port is free.
pub(in crate::emitter) fn close(agent: UdpSocket) {
    let address = agent.local_addr().unwrap();
    drop(agent);
    // /proc may show a changing table incompletely, so one look is not enough.
    while (0..3).any(|_| is_in_use(address)) {
        thread::yield_now();
    }
}

/// Returns at once if the port is in use, and otherwise when the error for the last datagram has arrived.
pub(in crate::emitter) fn await_refusal(socket: &Socket) {
    let Some(address) = socket.peer_addr().ok().and_then(|peer| peer.as_socket()) else { return };
    // This repeats, because other tests open and close sockets meanwhile, and /proc may show a changing table
    // incompletely.
    while !is_in_use(address) && !has_error(socket, PollTimeout::from(10_u8)) {}
}

/// Returns when an error has arrived.
pub(super) fn await_error(socket: &Socket) {
    assert!(has_error(socket, PollTimeout::from(30_000_u16)), "the port is in use");
}

/// Whether an error arrives within the timeout. poll(2) always reports POLLERR.
fn has_error(socket: &Socket, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::empty())], timeout) == Ok(1)
}

/// Whether a socket is bound to this port, according to proc(5).
fn is_in_use(address: SocketAddr) -> bool {
    let shown = match address.ip() {
        IpAddr::V4(ip) => hexadecimal(&ip.octets()),
        IpAddr::V6(ip) => hexadecimal(&ip.octets()),
    };
    let forms =
        [shown, "0".repeat(8), "0".repeat(32)].map(|ip| format!("{ip}:{:04X}", address.port()));
    ["/proc/net/udp", "/proc/net/udp6"].into_iter().any(|path| {
        // Without IPv6 there is no such file.
        let table = fs::read_to_string(path).unwrap_or_default();
        let mut locals = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
        locals.any(|local| forms.iter().any(|form| form == local))
    })
}

/// An address as proc(5) writes it: 32-bit words in the host's byte order.
fn hexadecimal(octets: &[u8]) -> String {
    let words = octets.chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).unwrap());
    words.map(|word| format!("{:08X}", u32::from_ne_bytes(word))).collect()
}
