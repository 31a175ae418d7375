//! A statsd agent that only counts, so that metrics have a receiver.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use clap::Args;

/// Options of `load sink`.
#[derive(Args)]
pub(crate) struct Options {
    /// Port of 127.0.0.1 to listen on.
    #[arg(long)]
    port: u16,
}

/// The datagram that requests the counts so far, which are sent back as JSON.
const QUESTION: &[u8] = b"?";

/// Receives until it is killed.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let mut datagram = vec![0; 64 * 1024];
    let (mut datagrams, mut lines): (u64, u64) = (0, 0);
    loop {
        let (count, sender) = socket.recv_from(&mut datagram)?;
        let datagram = &datagram[..count];
        if datagram == QUESTION {
            socket.send_to(
                format!("{{\"datagrams\":{datagrams},\"lines\":{lines}}}").as_bytes(),
                sender,
            )?;
        } else {
            datagrams += 1;
            lines += datagram.trim_ascii_end().split(|byte| *byte == b'\n').count() as u64;
        }
    }
}
