//! TCP sockets: resolves names, probes for another server, and binds.
//!
//! All sockets have SO_REUSEPORT, so that a successor can bind the same port at the same time. By itself, this would
//! let a second server that is started by mistake silently take half of the connections. So a bind without SO_REUSEPORT
//! is tried first.
//!
//! An IPv6 socket never accepts IPv4 (IPV6_V6ONLY). `[::]` is bound as two sockets, `[::]` and `0.0.0.0`, so that an
//! IPv4 client is 192.0.2.1 in REMOTE_ADDR and not ::ffff:192.0.2.1, whatever net.ipv6.bindv6only says.
//!
//! A loopback address has no network to be fair to, so its connections are not paced. BBR sends by a timer of the kernel:
//! where net.ipv4.tcp_congestion_control is `bbr`, a response of 1 MB takes 200 µs of CPU time with it and 100 µs without.
//! The listener has to choose, because a connection that has begun with BBR remains paced under any other one.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::error::{ListenError, is_in_use, is_not_here};
use super::inherited::InheritedSockets;
use crate::system::address::BindAddress;

/// One `--bind` and the addresses that it stands for, at least one.
pub(super) struct Target<'a> {
    bind: &'a BindAddress,
    addresses: Vec<SocketAddr>,
}

impl<'a> Target<'a> {
    pub(super) fn bind(&self) -> &'a BindAddress {
        self.bind
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = (&'a BindAddress, SocketAddr)> {
        self.addresses.iter().map(|address| (self.bind, *address))
    }
}

/// Resolves all TCP addresses, in their order.
///
/// A name stands for all of its addresses, because some clients try ::1 first for `localhost`, and others 127.0.0.1.
///
/// Errors: [`ListenError::Unresolved`]; [`ListenError::Twice`].
pub(super) fn plan(binds: &[BindAddress]) -> Result<Vec<Target<'_>>, ListenError> {
    let mut targets: Vec<Target<'_>> = Vec::new();
    for bind in binds {
        let BindAddress::Tcp { host, port } = bind else { continue };
        targets.push(Target { bind, addresses: resolve(bind, host, *port)? });
    }
    leave_out_implied(&mut targets);
    for (index, target) in targets.iter().enumerate() {
        let earlier = targets[..index].iter().flat_map(Target::addresses);
        for (first, address) in earlier {
            if address.port() != 0 && target.addresses.contains(&address) {
                let (first, second) = (first.to_string(), target.bind.to_string());
                return Err(ListenError::Twice { first, second, address: address.to_string() });
            }
        }
    }
    Ok(targets)
}

fn resolve(bind: &BindAddress, host: &str, port: u16) -> Result<Vec<SocketAddr>, ListenError> {
    if is_everywhere(host) {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        return Ok(vec![any, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))]);
    }
    let unresolved = |error| ListenError::Unresolved { bind: bind.to_string(), error };
    let mut addresses = Vec::new();
    for address in (host, port).to_socket_addrs().map_err(unresolved)? {
        // getaddrinfo(3) repeats an address that /etc/hosts repeats.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unresolved(io::Error::from(io::ErrorKind::NotFound)));
    }
    Ok(addresses)
}

/// Whether a host stands for all addresses of both families: `:PORT`, `[::]:PORT`.
fn is_everywhere(host: &str) -> bool {
    host.is_empty() || host.parse() == Ok(Ipv6Addr::UNSPECIFIED)
}

/// Removes `0.0.0.0` from the addresses of `[::]` if it is also given, as people who know IPV6_V6ONLY do.
fn leave_out_implied(targets: &mut [Target<'_>]) {
    let is_explicit = |target: &Target<'_>| target.addresses.len() == 1;
    let explicit: Vec<_> =
        targets.iter().filter(|it| is_explicit(it)).flat_map(Target::addresses).collect();
    for target in targets {
        let BindAddress::Tcp { host, .. } = target.bind else { continue };
        if is_everywhere(host) {
            target.addresses.retain(|address| {
                address.is_ipv6() || !explicit.iter().any(|(_, it)| it == address)
            });
        }
    }
}

/// Finds out whether another server listens on an address, with a socket that is bound and closed again.
///
/// With SO_REUSEADDR alone, the bind conflicts with a listening socket, whatever options that has, but neither with
/// TIME_WAIT nor with sockets that are only bound (socket(7)). The probe never listens, so no connection can reach it.
/// Errors other than EADDRINUSE are left to the real bind.
pub(super) fn probe(bind: &BindAddress, address: SocketAddr) -> Result<(), ListenError> {
    if address.port() == 0 {
        return Ok(());
    }
    let bound = socket(address).and_then(|socket| socket.bind(&SockAddr::from(address)));
    match bound {
        Err(error) if is_in_use(&error) => {
            let address = shown(bind, address);
            Err(ListenError::InUse { address })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// How many ports are tried for a port 0 at several addresses.
const PORT_ATTEMPTS: usize = 32;

/// Opens every address of a target, or takes the inherited socket. Addresses that this machine does not have are left
/// out with a warning as long as one remains. Port 0 becomes the same port at each address, one that is free at all.
pub(super) fn open_all(
    target: &Target<'_>,
    reuse_port: bool,
    inherited_sockets: &mut InheritedSockets,
    warnings: &mut Vec<String>,
) -> Result<Vec<(SocketAddr, Socket)>, ListenError> {
    let mut attempts = PORT_ATTEMPTS;
    loop {
        attempts -= 1;
        match try_open_all(target, reuse_port, inherited_sockets, warnings) {
            Err(Attempt::PortTaken { .. }) if attempts > 0 => {}
            Err(Attempt::PortTaken { error } | Attempt::Failed { error }) => return Err(error),
            Ok(opened) => return Ok(opened),
        }
    }
}

/// Why not all addresses of a target are open.
enum Attempt {
    /// The port that the kernel chose for the first address is in use at another one.
    PortTaken { error: ListenError },
    /// Another port would not help.
    Failed { error: ListenError },
}

impl From<ListenError> for Attempt {
    fn from(error: ListenError) -> Self {
        Self::Failed { error }
    }
}

fn try_open_all(
    target: &Target<'_>,
    reuse_port: bool,
    inherited_sockets: &mut InheritedSockets,
    warnings: &mut Vec<String>,
) -> Result<Vec<(SocketAddr, Socket)>, Attempt> {
    let mut opened: Vec<(SocketAddr, Socket)> = Vec::new();
    let mut left_out = Vec::new();
    let mut is_inherited = false;
    for (bind, mut address) in target.addresses() {
        let is_chosen = address.port() == 0 && !opened.is_empty();
        if let Some((first, _)) = opened.first() {
            address.set_port(first.port());
        }
        let socket = match inherited_sockets.take_tcp(bind, address) {
            Some(socket) => {
                is_inherited = true;
                Ok(socket)
            }
            None => {
                // SO_REUSEPORT would share the port with another server of this user.
                if is_chosen && !is_inherited {
                    probe(bind, address).map_err(|error| Attempt::PortTaken { error })?;
                }
                open(address)
            }
        };
        let outcome = socket.and_then(|socket| Ok((local(&socket)?, socket)));
        match outcome {
            Ok(socket) => opened.push(socket),
            Err(error) if is_not_here(&error) => left_out.push((address, error)),
            Err(error) => return Err(refused(shown(bind, address), error, reuse_port).into()),
        }
    }
    let BindAddress::Tcp { host, .. } = target.bind else { return Ok(opened) };
    if opened.is_empty()
        && let Some((address, error)) = left_out.pop()
    {
        return Err(refused(shown(target.bind, address), error, reuse_port).into());
    }
    // A machine without IPv6 deserves no warning unless an IPv6 address was given.
    if !is_everywhere(host) {
        warnings.extend(left_out.into_iter().map(|(address, error)| {
            format!("{}: not listening on {address}: {error}", target.bind)
        }));
    }
    Ok(opened)
}

/// Returns a socket that is bound with SO_REUSEPORT, close-on-exec and non-blocking. It does not listen yet.
pub(super) fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    if address.ip().to_canonical().is_loopback() {
        avoid_pacing(&socket);
    }
    Ok(socket)
}

/// Replaces BBR by Reno, which every process may choose. The connections of a listener inherit it (tcp(7)).
fn avoid_pacing(socket: &Socket) {
    if socket.tcp_congestion().is_ok_and(|name| name.starts_with(b"bbr")) {
        // Ignored: with BBR it is only slower.
        let _ = socket.set_tcp_congestion(b"reno");
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// The address, after the name that it was resolved from, if any.
fn shown(bind: &BindAddress, address: SocketAddr) -> String {
    let (bind, address) = (bind.to_string(), address.to_string());
    if bind == address { address } else { format!("{bind} ({address})") }
}

/// Converts an error of bind(2) or listen(2).
pub(super) fn refused(address: String, error: io::Error, reuse_port: bool) -> ListenError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) if reuse_port => ListenError::NotShared { address },
        Some(libc::EADDRINUSE) => ListenError::InUse { address },
        Some(libc::EACCES | libc::EPERM) => ListenError::Forbidden { address },
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => ListenError::NotHere { address },
        Some(_) | None => ListenError::Other { address, call: "bind(2)", error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of a congestion control, without the zeros that the kernel fills up with.
    fn congestion(socket: &Socket) -> String {
        let name = socket.tcp_congestion().unwrap();
        String::from_utf8(name).unwrap().trim_end_matches('\0').to_owned()
    }

    #[test]
    fn connections_over_loopback_are_not_paced() {
        let default = congestion(&socket("127.0.0.1:0".parse().unwrap()).unwrap());
        let expected = if default.starts_with("bbr") { "reno" } else { &default };
        let listener = open("127.0.0.1:0".parse().unwrap()).unwrap();
        listener.listen(1).unwrap();
        let _client = std::net::TcpStream::connect(local(&listener).unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        assert_eq!(congestion(&listener.accept().unwrap().0), expected);
        for everywhere in ["0.0.0.0:0", "[::]:0"] {
            if let Ok(listener) = open(everywhere.parse().unwrap()) {
                assert_eq!(congestion(&listener), default, "{everywhere}");
            }
        }
    }

    #[test]
    fn only_bbr_is_replaced() {
        for (name, expected) in [("bbr", "reno"), ("cubic", "cubic"), ("reno", "reno")] {
            let socket = socket("127.0.0.1:0".parse().unwrap()).unwrap();
            // The kernel may lack it, or may not allow it to this process.
            if socket.set_tcp_congestion(name.as_bytes()).is_ok() {
                avoid_pacing(&socket);
                assert_eq!(congestion(&socket), expected);
            }
        }
    }

    #[test]
    fn a_port_that_was_chosen_for_one_address_is_not_shared_at_the_next() {
        let other = open("127.0.0.1:0".parse().unwrap()).unwrap();
        other.listen(1).unwrap();
        let taken = local(&other).unwrap().port();
        let bind: BindAddress = ":0".parse().unwrap();
        // As if the kernel had chosen this port for the first address.
        let addresses = vec![
            SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), taken)),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ];
        let target = Target { bind: &bind, addresses };
        let inherited = &mut InheritedSockets::default();
        let error = open_all(&target, false, inherited, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    }
}
