//! The floor: the minimum that the kernel and one thread need for a request, without parsing and without Python. It
//! counts bytes, and sends a fixed response for each complete request.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use clap::Args;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;

use crate::workload::{Kind, Workload};

/// Options of `load floor`.
#[derive(Args)]
pub(crate) struct Options {
    /// Port of 127.0.0.1 to listen on.
    #[arg(long)]
    port: u16,
    /// Requests to expect. Only their length matters, and whether a connection has more than one.
    #[arg(long, value_enum, default_value = "hello")]
    kind: Kind,
    /// Size of the response body in bytes.
    #[arg(long, default_value_t = 13)]
    body_bytes: usize,
}

struct Connection {
    stream: TcpStream,
    /// Bytes received of the incomplete request.
    received_bytes: usize,
    /// Bytes of responses that did not fit into the socket.
    unsent_bytes: usize,
}

/// The state in which a connection is left.
enum Turn {
    /// A request is incomplete.
    Incomplete,
    /// Responses wait for room in the socket.
    Blocked,
    /// All requests are answered.
    Answered,
    /// The client has closed.
    Ended,
}

const LISTENER: u64 = u64::MAX;

/// Serves until it is killed.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    // The standard library uses a short accept queue; a second listen(2) sets its length.
    SockRef::from(&listener).listen(4096)?;
    listener.set_nonblocking(true)?;
    // Accepted sockets inherit this option.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    // BBR would pace the connections (see `listener/tcp.rs`). Every process may choose Reno.
    SockRef::from(&listener).set_tcp_congestion(b"reno")?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let workload = Workload::of(options.kind);
    let mut floor = Floor {
        request_bytes: workload.request_bytes(),
        closes: workload.closes,
        responses: Responses::new(options.body_bytes, workload.closes),
        input: vec![0; 256 * 1024],
        connections: Vec::new(),
        epoll,
    };
    let mut events = vec![EpollEvent::empty(); 512];
    loop {
        let count = floor.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                floor.accept(&listener)?;
            } else {
                floor.turn(event.data() as usize);
            }
        }
    }
}

struct Floor {
    /// Size of a request with head and body.
    request_bytes: usize,
    /// Whether a connection is closed after its response.
    closes: bool,
    responses: Responses,
    input: Vec<u8>,
    /// The connections by key. An entry is `None` until the next connection uses it.
    connections: Vec<Option<Connection>>,
    epoll: Epoll,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            let vacant = self.connections.iter().position(Option::is_none);
            let key = vacant.unwrap_or(self.connections.len());
            self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, key as u64))?;
            let connection = Connection { stream, received_bytes: 0, unsent_bytes: 0 };
            match vacant {
                Some(key) => self.connections[key] = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
    }

    fn turn(&mut self, key: usize) {
        let Some(connection) = &mut self.connections[key] else { return };
        let was_blocked = connection.unsent_bytes > 0;
        let turn = if was_blocked {
            connection.send(&self.responses)
        } else {
            connection.receive(&mut self.input, self.request_bytes, &self.responses)
        };
        let is_blocked = connection.unsent_bytes > 0;
        let ends = match turn {
            Ok(Turn::Answered) => self.closes,
            Ok(Turn::Incomplete | Turn::Blocked) => false,
            Ok(Turn::Ended) | Err(_) => true, // a client that reset its connection is gone, too
        };
        if ends {
            self.connections[key] = None;
        } else if is_blocked != was_blocked {
            let wanted = if is_blocked { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            let mut event = EpollEvent::new(wanted, key as u64);
            if self.epoll.modify(&connection.stream, &mut event).is_err() {
                self.connections[key] = None;
            }
        }
    }
}

impl Connection {
    fn receive(
        &mut self,
        input: &mut [u8],
        request_bytes: usize,
        responses: &Responses,
    ) -> io::Result<Turn> {
        let count = match self.stream.read(input) {
            Ok(0) => return Ok(Turn::Ended),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Incomplete),
            Err(error) => return Err(error),
        };
        self.received_bytes += count;
        let requests = self.received_bytes / request_bytes;
        self.received_bytes %= request_bytes;
        if requests == 0 {
            return Ok(Turn::Incomplete);
        }
        self.unsent_bytes = requests * responses.one_bytes;
        self.send(responses)
    }

    fn send(&mut self, responses: &Responses) -> io::Result<Turn> {
        while self.unsent_bytes > 0 {
            match self.stream.write(responses.last(self.unsent_bytes)) {
                Ok(count) => self.unsent_bytes -= count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Turn::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Turn::Answered)
    }
}

/// Several copies of the response, so that the responses to pipelined requests are sent together.
struct Responses {
    bytes: Vec<u8>,
    one_bytes: usize,
}

impl Responses {
    const COUNT: usize = 16;

    fn new(body_bytes: usize, closes: bool) -> Self {
        let connection = if closes { "close" } else { "keep-alive" };
        let mut response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body_bytes}\r\n\
             Connection: {connection}\r\n\r\n"
        )
        .into_bytes();
        response.resize(response.len() + body_bytes, b'x');
        Self { one_bytes: response.len(), bytes: response.repeat(Self::COUNT) }
    }

    /// The next bytes to send when `unsent_bytes` are left, or the first part of them.
    fn last(&self, unsent_bytes: usize) -> &[u8] {
        let of_one = (unsent_bytes - 1) % self.one_bytes + 1;
        let start = self.one_bytes - of_one;
        &self.bytes[start..self.bytes.len().min(start + unsent_bytes)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_leave_whole_wherever_they_were_cut() {
        let responses = Responses::new(5, false);
        let one = responses.bytes[..responses.one_bytes].to_vec();
        for first in 1..one.len() {
            let mut sent = Vec::new();
            let mut unsent_bytes = 20 * one.len();
            while unsent_bytes > 0 {
                let part = responses.last(unsent_bytes);
                let part = if sent.is_empty() { &part[..first] } else { part };
                sent.extend_from_slice(part);
                unsent_bytes -= part.len();
            }
            assert_eq!(sent, one.repeat(20));
        }
    }
}
