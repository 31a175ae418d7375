//! Sends the metrics and answers the admin socket.

use std::time::Instant;

use super::{Monitor, monotonic};
use crate::admin::{Answer, Method, Question, prometheus};
use crate::crew::Member;
use crate::listener::Listeners;
use crate::metrics::{Occupant, Scene};
use crate::supervisor::Supervisor;

impl Monitor<'_> {
    /// Sends the metrics that are due and answers who asks.
    pub(super) fn measure(&mut self, now: Instant) {
        let zone = self.generations.current().load.config.zone.clone();
        let Self { meter, admin, board, crew, supervisor, listeners, .. } = self;
        let scene = || scene(supervisor, crew, listeners.as_ref());
        meter.turn(board, scene, now);
        for Question { id, method, path, .. } in admin.turn(now) {
            let answer = match (method, path.as_str()) {
                (Method::Get | Method::Head, "/metrics") => {
                    let (ledger, gauges) = meter.look(board, scene, now);
                    Answer {
                        status: 200,
                        content_type: prometheus::CONTENT_TYPE,
                        body: prometheus::text(ledger, gauges, zone.as_deref()),
                    }
                }
                (Method::Post, "/metrics") => Answer::plain(405, "only GET and HEAD\n"),
                (Method::Get | Method::Head | Method::Post, _) => {
                    Answer::plain(404, "there is /metrics\n")
                }
            };
            admin.answer(id, answer);
        }
    }
}

/// What there is to measure at this moment.
pub(super) fn scene(
    supervisor: &Supervisor,
    crew: &[Member],
    listeners: Option<&Listeners>,
) -> Scene {
    let occupant =
        |member: &Member| Occupant { slot: member.slot, pid: member.pid, block: member.block };
    Scene {
        target: supervisor.target(),
        occupants: crew.iter().map(occupant).collect(),
        queue: listeners.and_then(Listeners::queue),
        monotonic: monotonic().unwrap_or_default(),
    }
}
