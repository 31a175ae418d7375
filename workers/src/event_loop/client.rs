//! One connection as the event loop holds it: the descriptor, the pure machine, and what the
//! application still owes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

use crate::application::AppBody;
use crate::connection::Timer;
use crate::connection::{CloseManner, ConnInfo, Connection};
use crate::event_loop::poller::Interest;
use crate::http::Version;
use crate::process::fork_guard::{Mark, Private};
use crate::spool::Spool;

/// A connection and everything that belongs to its current request.
pub struct Client<B: AppBody> {
    /// Before the socket, because it goes first.
    guard: Mark,
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// What is due next.
    pub conn: Connection<B::Chunk>,
    /// Bytes that were read and not used before the loop went on to others.
    pub pending: Vec<u8>,
    /// The body of the request that is being gathered.
    pub spool: Option<Spool>,
    /// The rest of the application's reply.
    pub body: Option<B>,
    /// The file that is being sent.
    pub file: Option<Private<OwnedFd>>,
    /// The request that is being answered, where somebody will want to know.
    pub record: Option<Box<Record>>,
    /// How long what lies there had waited in the kernel when the connection was accepted; until its
    /// first request has come, or the peer is waited for.
    pub waited: Option<Duration>,
    /// Until when the peer sends again what a closed queue has dropped, if the connection comes from one.
    pub resends_until: Option<Instant>,
    /// The peer may have left, which is to be looked at before the application is called.
    pub is_suspect: bool,
    /// When the application was called for the reply that is on its way.
    pub called: Option<Instant>,
    /// Whether bytes moved since the deadline was last set.
    pub progressed: bool,
    /// What epoll(7) watches for; `None` while it does not know the socket.
    pub watched: Option<Interest>,
    /// The deadline that is set, and the request it was set for.
    pub armed: Option<(Timer, u32)>,
    /// How long the loop had been away when the window began over which the body's rate is measured.
    pub away_before: Duration,
}

/// What is kept of a request while it is answered: for the access log, and to name it while its
/// items are asked for.
pub struct Record {
    /// The method.
    pub method: Box<[u8]>,
    /// The path, without the query.
    pub path: Box<[u8]>,
    /// The version.
    pub version: Version,
    /// When the application was called for it, as [`Client::called`].
    pub called: Instant,
    /// The field `Referer`.
    pub referer: Option<Box<[u8]>>,
    /// The field `User-Agent`.
    pub user_agent: Option<Box<[u8]>>,
    /// The identifier that the application knows it by, where the access log names it.
    pub id: Option<Box<[u8]>>,
}

impl<B: AppBody> Client<B> {
    /// Takes a connection over: one just accepted, or one that another worker kept.
    pub fn adopt(socket: OwnedFd, info: ConnInfo) -> Self {
        Self {
            guard: Mark::of(socket.as_fd()),
            socket,
            conn: Connection::new(info),
            pending: Vec::new(),
            spool: None,
            body: None,
            file: None,
            record: None,
            waited: None,
            resends_until: None,
            is_suspect: false,
            called: None,
            progressed: false,
            watched: None,
            armed: None,
            away_before: Duration::ZERO,
        }
    }

    /// Gives an idle connection up to another owner; nothing but the descriptor and [`ConnInfo`] is
    /// left of it. A connection with a request under way is handed back.
    #[expect(clippy::result_large_err, reason = "a busy connection is handed back as it was")]
    pub fn release(mut self) -> Result<(OwnedFd, ConnInfo), Self> {
        if !self.pending.is_empty() {
            return Err(self);
        }
        match self.conn.release() {
            Ok(info) => {
                drop(self.guard);
                Ok((self.socket, info))
            }
            Err(conn) => {
                self.conn = conn;
                Err(self)
            }
        }
    }

    /// Whether no byte of a request is here.
    pub fn is_idle(&self) -> bool {
        self.conn.is_idle() && self.pending.is_empty()
    }

    /// Until when the peer may send again what a closed queue has dropped of its first request; `None` once
    /// something has come, or the time is over.
    pub fn awaits_resend(&self, now: Instant) -> Option<Instant> {
        let is_silent = self.is_idle() && self.conn.awaits_first_request();
        self.resends_until.filter(|until| is_silent && *until > now)
    }

    /// Closes the application's side of a reply: each iterable exactly once.
    pub fn close_reply(&mut self) {
        if let Some(body) = self.body.take() {
            body.close();
        }
        self.file = None;
        self.record = None;
    }

    /// Closes the descriptor; the application's side is closed already ([`Client::close_reply`]). shutdown(2) comes first, so that the peer hears of it even where a child
    /// of the application holds a duplicate.
    pub fn close(self, manner: CloseManner) {
        match manner {
            CloseManner::Tidy => {
                // The peer may be gone already: ENOTCONN says what close(2) is about to say.
                let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
            }
            CloseManner::Reset => {
                let abort = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                // Without it the close is tidy: worse for the peer, but nothing here can mend it.
                let _ = setsockopt(&self.socket, sockopt::Linger, &abort);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::application::{AppError, Outlet};
    use crate::shared::socket_name::SocketName;

    /// A reply that is never made.
    struct NoBody;

    impl AppBody for NoBody {
        type Chunk = Vec<u8>;

        fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
            Ok(None)
        }

        fn close(self) {}
    }

    fn adopted(served: u32) -> (Client<NoBody>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let address = SocketName::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let (peer, local) = (address.clone(), address);
        let info = ConnInfo { peer, local, listener: 3, accepted: Instant::now(), served };
        (Client::adopt(ours.into(), info), theirs)
    }

    #[test]
    fn an_idle_connection_passes_to_another_owner_with_all_that_is_known_of_it() {
        let (client, _theirs) = adopted(7);
        let number = client.socket.as_raw_fd();
        let Ok((socket, info)) = client.release() else { panic!("it was idle") };
        assert_eq!((socket.as_raw_fd(), info.served, info.listener), (number, 7, 3));
        let again: Client<NoBody> = Client::adopt(socket, info);
        assert_eq!(again.conn.info().served, 7);
    }

    #[test]
    fn a_connection_with_unused_bytes_is_handed_back_whole() {
        let (mut client, _theirs) = adopted(0);
        client.pending = b"GET / HT".to_vec();
        let Err(client) = client.release() else { panic!("its bytes would be lost") };
        assert_eq!(client.pending, b"GET / HT");
    }
}
