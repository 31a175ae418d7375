//! What is known of a connection, as bytes in shared memory, so that another worker can go on with it.
//!
//! Shape: the number of requests served (4 bytes), when it was accepted (8 bytes, CLOCK_MONOTONIC in microseconds), the
//! index of its listener (2 bytes), then the names of the peer, of the server, and if a PROXY header has announced
//! others, of its source and its destination. A name is its kind (1 byte) and
//!
//! | kind | content |
//! |---|---|
//! | 4 | address (4 bytes), port (2 bytes) |
//! | 6 | address (16 bytes), port (2 bytes), flow information (4 bytes), scope (4 bytes) |
//! | 1 | length (1 byte), path of a Unix socket |

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ConnInfo;
use crate::http::ProxiedAddresses;
use crate::shared::socket_name::SocketName;

const IPV4: u8 = 4;
const IPV6: u8 = 6;
const UNIX: u8 = 1;
/// Where the index of the listener is.
const LISTENER: Range<usize> = 12..14;

/// Two readings of the same clock at the same moment: [`Instant`] means something only in the process that has read it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the type says what the fields are")]
pub struct Reading {
    pub instant: Instant,
    pub monotonic: Duration,
}

/// Writes the facts, and returns their length; `None` for a connection that another worker cannot take over: one with
/// TLS, or with names that are too long.
#[must_use]
pub fn encode(info: &ConnInfo, clock: Reading, bytes: &mut [u8]) -> Option<usize> {
    if info.tls.is_some() {
        return None;
    }
    let room = bytes.len();
    let mut rest = bytes;
    let age = clock.instant.saturating_duration_since(info.accepted);
    let accepted = clock.monotonic.saturating_sub(age).as_micros();
    put(&mut rest, &info.served.to_ne_bytes())?;
    put(&mut rest, &u64::try_from(accepted).unwrap_or(u64::MAX).to_ne_bytes())?;
    put(&mut rest, &info.listener.to_ne_bytes())?;
    let proxied = info.proxied.iter().flat_map(|it| [&it.source, &it.destination]);
    for name in [&info.peer, &info.local].into_iter().chain(proxied) {
        encode_name(name, &mut rest)?;
    }
    Some(room - rest.len())
}

fn encode_name(name: &SocketName, rest: &mut &mut [u8]) -> Option<()> {
    match name {
        SocketName::Inet(SocketAddr::V4(address)) => {
            put(rest, &[IPV4])?;
            put(rest, &address.ip().octets())?;
            put(rest, &address.port().to_ne_bytes())
        }
        SocketName::Inet(SocketAddr::V6(address)) => {
            put(rest, &[IPV6])?;
            put(rest, &address.ip().octets())?;
            put(rest, &address.port().to_ne_bytes())?;
            put(rest, &address.flowinfo().to_ne_bytes())?;
            put(rest, &address.scope_id().to_ne_bytes())
        }
        SocketName::Unix(path) => {
            put(rest, &[UNIX, u8::try_from(path.len()).ok()?])?;
            put(rest, path.as_bytes())
        }
    }
}

fn put(rest: &mut &mut [u8], bytes: &[u8]) -> Option<()> {
    let (to, behind) = mem::take(rest).split_at_mut_checked(bytes.len())?;
    to.copy_from_slice(bytes);
    *rest = behind;
    Some(())
}

/// Takes the index of the listener out of what [`encode`] has written: in another server, it may be that of another
/// listener.
pub fn forget_listener(facts: &mut [u8]) {
    if let Some(index) = facts.get_mut(LISTENER) {
        index.copy_from_slice(&ConnInfo::UNKNOWN_LISTENER.to_ne_bytes());
    }
}

/// Reads what [`encode`] has written; `None` if it is anything else.
pub fn decode(bytes: &[u8], clock: Reading) -> Option<ConnInfo> {
    let mut rest = bytes;
    let served = u32::from_ne_bytes(take(&mut rest)?);
    let accepted = Duration::from_micros(u64::from_ne_bytes(take(&mut rest)?));
    let listener = u16::from_ne_bytes(take(&mut rest)?);
    let (peer, local) = (decode_name(&mut rest)?, decode_name(&mut rest)?);
    let proxied = match rest {
        [] => None,
        _ => {
            let (source, destination) = (decode_name(&mut rest)?, decode_name(&mut rest)?);
            Some(Arc::new(ProxiedAddresses { source, destination }))
        }
    };
    let age = clock.monotonic.saturating_sub(accepted);
    let accepted = clock.instant.checked_sub(age).unwrap_or(clock.instant);
    let is_whole = rest.is_empty();
    is_whole.then_some(ConnInfo {
        proxied,
        listener,
        served,
        ..ConnInfo::new(peer, local, accepted)
    })
}

fn decode_name(rest: &mut &[u8]) -> Option<SocketName> {
    let [kind] = take(rest)?;
    Some(match kind {
        IPV4 => {
            let address = Ipv4Addr::from(take::<4>(rest)?);
            let port = u16::from_ne_bytes(take(rest)?);
            SocketName::Inet(SocketAddr::V4(SocketAddrV4::new(address, port)))
        }
        IPV6 => {
            let address = Ipv6Addr::from(take::<16>(rest)?);
            let port = u16::from_ne_bytes(take(rest)?);
            let flow = u32::from_ne_bytes(take(rest)?);
            let scope = u32::from_ne_bytes(take(rest)?);
            SocketName::Inet(SocketAddr::V6(SocketAddrV6::new(address, port, flow, scope)))
        }
        UNIX => {
            let [len] = take(rest)?;
            let (path, behind) = rest.split_at_checked(usize::from(len))?;
            *rest = behind;
            SocketName::Unix(std::str::from_utf8(path).ok()?.to_owned())
        }
        _ => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::TlsInfo;
    use crate::shared::connection_table::FACT_BYTES;

    fn reading() -> Reading {
        Reading { instant: Instant::now(), monotonic: Duration::from_secs(5000) }
    }

    fn name(text: &str) -> SocketName {
        text.parse().map_or_else(|_| SocketName::Unix(text.to_owned()), SocketName::Inet)
    }

    fn info(peer: &str, local: &str) -> ConnInfo {
        let accepted = Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
        ConnInfo { served: 7, listener: 3, ..ConnInfo::new(name(peer), name(local), accepted) }
    }

    #[test]
    fn another_process_reads_what_one_has_written() {
        let longest = "x".repeat(108);
        let proxied = |source, destination| {
            Some(Arc::new(ProxiedAddresses {
                source: name(source),
                destination: name(destination),
            }))
        };
        for info in [
            info("192.0.2.1:80", "127.0.0.1:8000"),
            info("[2001:db8::1%7]:80", "[::1]:8000"),
            info("", "/run/arctos.sock"),
            info(&longest, &longest),
            ConnInfo {
                proxied: proxied("192.0.2.9:1", "[2001:db8::2]:443"),
                ..info("", "@arctos")
            },
            ConnInfo { proxied: proxied(&longest, ""), ..info(&longest, &longest) },
        ] {
            let mut bytes = [0; FACT_BYTES];
            let writer = reading();
            let len = encode(&info, writer, &mut bytes).unwrap();
            // The other process reads the same clock later.
            let later = Duration::from_secs(60);
            let reader =
                Reading { instant: writer.instant + later, monotonic: writer.monotonic + later };
            let read = decode(&bytes[..len], reader).unwrap();
            assert_eq!((&read.peer, &read.local), (&info.peer, &info.local));
            assert_eq!((read.served, read.listener), (info.served, info.listener));
            assert_eq!(read.proxied.is_some(), info.proxied.is_some());
            if let (Some(read), Some(info)) = (&read.proxied, &info.proxied) {
                assert_eq!((&read.source, &read.destination), (&info.source, &info.destination));
            }
            let error = read.accepted.max(info.accepted) - read.accepted.min(info.accepted);
            assert!(error < Duration::from_micros(2), "{error:?}");
        }
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        let is_refused = |info: &ConnInfo| encode(info, reading(), &mut [0; 400]).is_none();
        assert!(is_refused(&info(&"x".repeat(256), "")));
        assert!(is_refused(&info(&"x".repeat(200), &"x".repeat(200))));
        assert!(is_refused(&ConnInfo { tls: Some(Arc::new(TlsInfo::default())), ..info("", "") }));
        assert!(!is_refused(&info(&"x".repeat(190), &"x".repeat(190))));
    }

    #[test]
    fn any_other_bytes_are_refused() {
        let mut bytes = [IPV4; FACT_BYTES];
        let whole = info("192.0.2.1:80", "/run/arctos.sock");
        let whole = encode(&whole, reading(), &mut bytes).unwrap();
        for len in (0..whole).chain([whole + 1]) {
            assert!(decode(&bytes[..len], reading()).is_none(), "{len}");
        }
        assert!(decode(&[0xff; FACT_BYTES], reading()).is_none());
    }
}
