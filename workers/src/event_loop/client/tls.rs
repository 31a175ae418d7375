//! What TLS changes for a client: the handshake comes before its first request, and may fail.

use std::time::{Duration, Instant};

use super::Client;
use crate::application::AppBody;
use crate::connection::{ClientName, RefusalReason, Timer};
use crate::event_loop::drive::Kept;
use crate::event_loop::drive::WorkerContext;
use crate::event_loop::phase::DRAIN_QUIET;
use crate::event_loop::transport::{Encrypted, Failure, Stage};
use crate::http::{Framing, PartialHead};
use crate::shared::fd::{self, Io};
use crate::shared::log::throttle::Throttle;
use crate::shared::log::{Level, Value};

/// Failures of TLS that one worker logs in each interval: any client can cause as many as it likes.
const FAILURES_LOGGED: u32 = 10;
const FAILURES_INTERVAL: Duration = Duration::from_secs(60);

/// The limit of [`Client::log_failure`].
pub(in crate::event_loop) fn failures() -> Throttle {
    Throttle::new(FAILURES_LOGGED, FAILURES_INTERVAL)
}

impl<B: AppBody> Client<B> {
    /// How far TLS has come, if the connection is encrypted.
    pub(super) fn tls_stage(&self) -> Option<Stage> {
        self.transport.tls().map(Encrypted::stage)
    }

    /// Whether the handshake of TLS is incomplete.
    pub fn is_handshaking(&self) -> bool {
        match self.tls_stage() {
            Some(Stage::Silent | Stage::Handshake) => true,
            Some(Stage::Established) | None => false,
        }
    }

    /// The deadline of the state that the client is in now.
    pub(super) fn due_timer(&mut self) -> Option<Timer> {
        if let Some((tls, _)) = self.transport.tls_mut()
            && tls.take_progress()
        {
            self.timer.progressed();
        }
        if self.awaits_proxy_header() || (self.is_handshaking() && self.conn.is_idle()) {
            return Some(Timer::Handshake);
        }
        self.conn.timer()
    }

    /// Receives bytes of requests.
    #[inline]
    pub fn receive(&mut self, room: &mut [u8], context: &WorkerContext) -> Io {
        match self.transport.tls() {
            None => fd::receive(self.transport.socket(), room),
            Some(_) => self.receive_encrypted(room, context),
        }
    }

    #[inline(never)]
    fn receive_encrypted(&mut self, room: &mut [u8], context: &WorkerContext) -> Io {
        let was_handshaking = self.is_handshaking();
        let Some((tls, socket)) = self.transport.tls_mut() else { return Io::Failed };
        let received = tls.receive(socket, room);
        match received {
            Ok(outcome) => {
                if was_handshaking && tls.stage() == Stage::Established {
                    self.conn.begin_tls(tls.session().info());
                    self.expect_request(context);
                }
                outcome
            }
            Err(Failure::PlainHttp(count)) => {
                self.transport.give_up_tls();
                let request = PartialHead::default();
                let (reason, rules) = (RefusalReason::PlainHttp, context.rules());
                self.conn.refuse_read(reason, request, Framing::None, &rules);
                Io::Bytes(count)
            }
            Err(Failure::Broken(reason)) => {
                let stage = tls.stage();
                self.log_failure(stage, &reason, context);
                // A failed handshake is the end of a connection without a request.
                if was_handshaking { Io::Ended } else { Io::Failed }
            }
        }
    }

    /// A worker that stops gives a client whose PROXY header or handshake has just ended a moment for the request that
    /// it was for.
    pub(in crate::event_loop) fn expect_request(&mut self, context: &WorkerContext) {
        if context.kept != Kept::All {
            let until = context.clock.now() + DRAIN_QUIET;
            self.resends_until = self.resends_until.max(Some(until));
        }
    }

    /// The handshake was not complete in time.
    pub(in crate::event_loop) fn note_late_handshake(&self, context: &WorkerContext) {
        if self.tls_stage() == Some(Stage::Handshake) {
            self.log_failure(Stage::Handshake, "it was not complete in time", context);
        }
    }

    fn log_failure(&self, stage: Stage, reason: &str, context: &WorkerContext) {
        let Some(tls) = self.transport.tls() else { return };
        if !context.log.is_enabled(Level::Info) {
            return;
        }
        let now: Instant = context.clock.now();
        let Some(suppressed) = tls.context().failures.borrow_mut().pass(now) else { return };
        let address = match ClientName::of(self.conn.info().source()) {
            ClientName::Inet(address) => address.to_string(),
            ClientName::Unix(path) => path.to_owned(),
        };
        let mut pairs =
            vec![("remote_addr", Value::Text(&address)), ("reason", Value::Text(reason))];
        if suppressed > 0 {
            pairs
                .push(("not_logged", Value::Number(i64::try_from(suppressed).unwrap_or(i64::MAX))));
        }
        let event = match stage {
            Stage::Silent | Stage::Handshake => "tls.handshake_failed",
            Stage::Established => "tls.failed",
        };
        context.log.line(Level::Info, event, &pairs);
    }
}
