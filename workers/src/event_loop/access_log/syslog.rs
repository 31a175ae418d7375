//! Messages to a syslog daemon: each line is a datagram with a head of its own.
//!
//! | socket | head | source |
//! |---|---|---|
//! | Unix | `<PRI>TAG[PID]: ` | what syslog(3) writes, without the time: the daemon is on this machine, and has a clock |
//! | UDP | `<PRI>1 TIME HOST TAG PID access - ` | RFC 5424 §6, RFC 5426 |
//!
//! Sending never waits. A message for which the daemon has no room stays in the buffer. The kernel reports an absent
//! daemon: over UDP with the next message, which is then sent once more; at a Unix socket at once. A daemon that was
//! restarted has another socket at the same path, so the worker connects to that path again, at most once a second.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, getpeername,
    getsockopt, sockopt,
};
use nix::unistd::gethostname;

use crate::settings::SyslogSettings;
use crate::shared::log::timestamp::Timestamp;

const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// What a message begins with, and whether the daemon has to be looked for again.
pub(super) struct Syslog {
    /// What stands before the time.
    before: Vec<u8>,
    /// What stands after the time; `None` if the head has none.
    after: Option<Vec<u8>>,
    /// The address of a Unix socket.
    path: Option<UnixAddr>,
    reconnected: Option<Instant>,
}

/// What becomes of a message after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It is lost.
    Drop,
    /// It is sent again: the error is that of an earlier message.
    RepeatAfterLoss,
    /// It is sent again, to the new socket of the daemon.
    Repeat,
}

impl Syslog {
    /// `None` if `socket` is no socket for datagrams.
    pub(super) fn of(socket: BorrowedFd<'_>, settings: &SyslogSettings) -> Option<Self> {
        if getsockopt(&socket, sockopt::SockType) != Ok(SockType::Datagram) {
            return None;
        }
        let path = peer_path(socket);
        let SyslogSettings { facility, tag } = settings;
        let (priority, pid) = (facility.informational(), std::process::id());
        let family = getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok();
        let is_unix = family.and_then(|peer| peer.family()) == Some(AddressFamily::Unix);
        let (before, after) = if is_unix {
            (format!("<{priority}>{tag}[{pid}]: "), None)
        } else {
            (format!("<{priority}>1 "), Some(format!(" {} {tag} {pid} access - ", host())))
        };
        let after = after.map(String::into_bytes);
        Some(Self { before: before.into(), after, path, reconnected: None })
    }

    /// Appends the head of a message.
    pub(super) fn head(&self, out: &mut Vec<u8>, at: SystemTime) {
        out.extend_from_slice(&self.before);
        if let Some(after) = &self.after {
            Timestamp::from(at).rfc3339(out);
            out.extend_from_slice(after);
        }
    }

    /// What to do after an error. `is_repeated` says that the message was sent again already.
    pub(super) fn remedy(
        &mut self,
        socket: BorrowedFd<'_>,
        errno: Errno,
        is_repeated: bool,
        now: Instant,
    ) -> Remedy {
        if is_repeated {
            return Remedy::Drop;
        }
        let Some(path) = &self.path else {
            let is_earlier = errno == Errno::ECONNREFUSED;
            return if is_earlier { Remedy::RepeatAfterLoss } else { Remedy::Drop };
        };
        if !matches!(errno, Errno::ECONNREFUSED | Errno::ECONNRESET) {
            return Remedy::Drop;
        }
        let is_early = self
            .reconnected
            .is_some_and(|at| now.saturating_duration_since(at) < RECONNECT_INTERVAL);
        if is_early {
            return Remedy::Drop;
        }
        self.reconnected = Some(now);
        match connect(socket.as_raw_fd(), path) {
            Ok(()) => Remedy::Repeat,
            Err(_) => Remedy::Drop,
        }
    }
}

/// The path that a Unix socket is connected to.
fn peer_path(socket: BorrowedFd<'_>) -> Option<UnixAddr> {
    let peer: UnixAddr = getpeername(socket.as_raw_fd()).ok()?;
    peer.path().is_some().then_some(peer)
}

/// The name of this machine, as far as a head can have it (RFC 5424 §6.2.4).
fn host() -> String {
    let name = gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { name } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;
    use crate::settings::Facility;

    fn settings() -> SyslogSettings {
        let facility = Facility::of("local0").unwrap();
        SyslogSettings { facility, tag: "shop".to_owned() }
    }

    fn head(syslog: &Syslog) -> String {
        let mut out = Vec::new();
        syslog.head(&mut out, SystemTime::UNIX_EPOCH + Duration::from_millis(971_186_136_007));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_has_a_head_that_its_daemon_reads() {
        let pid = std::process::id();
        let (ours, _theirs) = UnixDatagram::pair().unwrap();
        let syslog = Syslog::of(ours.as_fd(), &settings()).unwrap();
        assert_eq!(head(&syslog), format!("<134>shop[{pid}]: "));
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(daemon.local_addr().unwrap()).unwrap();
        let syslog = Syslog::of(socket.as_fd(), &settings()).unwrap();
        let host = host();
        let expected = format!("<134>1 2000-10-10T13:55:36.007Z {host} shop {pid} access - ");
        assert_eq!(head(&syslog), expected);
    }

    #[test]
    fn a_stream_takes_no_messages() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(Syslog::of(ours.as_fd(), &settings()).is_none());
        assert!(Syslog::of(tempfile::tempfile().unwrap().as_fd(), &settings()).is_none());
    }

    #[test]
    fn a_daemon_that_was_restarted_is_found_again_at_most_once_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        let mut syslog = Syslog::of(socket.as_fd(), &settings()).unwrap();
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let now = Instant::now();
        let mut remedy = |ms: u64| {
            let now = now + Duration::from_millis(ms);
            syslog.remedy(socket.as_fd(), Errno::ECONNREFUSED, false, now)
        };
        assert_eq!(remedy(0), Remedy::Drop, "nobody is there");
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert_eq!(remedy(999), Remedy::Drop);
        assert_eq!(remedy(1000), Remedy::Repeat);
        socket.send(b"message").unwrap();
        assert_eq!(daemon.recv(&mut [0; 16]).unwrap(), 7);
        assert_eq!(syslog.remedy(socket.as_fd(), Errno::EMSGSIZE, false, now), Remedy::Drop);
    }

    #[test]
    fn the_error_of_an_earlier_message_over_udp_does_not_lose_the_next_one() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.1:9").unwrap();
        let mut syslog = Syslog::of(socket.as_fd(), &settings()).unwrap();
        let mut remedy =
            |errno, is_repeated| syslog.remedy(socket.as_fd(), errno, is_repeated, Instant::now());
        assert_eq!(remedy(Errno::ECONNREFUSED, false), Remedy::RepeatAfterLoss);
        assert_eq!(remedy(Errno::ECONNREFUSED, true), Remedy::Drop);
        assert_eq!(remedy(Errno::EMSGSIZE, false), Remedy::Drop);
    }
}
