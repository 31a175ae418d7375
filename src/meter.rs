//! Reads the board, takes gauges, and hands both to who asks: the emitter when a flush is due, the admin
//! socket when somebody looks.
//!
//! Owned by whoever has the board: the supervisor's shell, or a server inside its caller's process.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use arctos_worker::log::Log;
use arctos_worker::metrics::Board;

use crate::emitter::Emitter;
use crate::metrics::{Gauges, Ledger, Sampler, Scene};
use crate::statsd::Statsd;

/// Gauges of so long ago are still shown: `workers.utilization` needs some time to look back at.
const FRESH: Duration = Duration::from_secs(1);
/// The last flush may take so long: a stop waits for it.
const LAST_FLUSH: Duration = Duration::from_millis(500);

/// See the module.
pub struct Meter {
    ledger: Ledger,
    sampler: Sampler,
    gauges: Gauges,
    sampled: Option<Instant>,
    emitter: Option<Emitter>,
}

impl Meter {
    /// Begins with what the board says; `statsd` is where it is sent, if it is.
    pub fn start(board: &Board, statsd: Option<&Statsd>, log: &Log, now: Instant) -> Self {
        let emitter = statsd.map(|statsd| Emitter::new(statsd.clone(), log.clone(), now));
        Self {
            ledger: Ledger::open(board),
            sampler: Sampler::new(),
            gauges: Gauges::default(),
            sampled: None,
            emitter,
        }
    }

    /// When [`Meter::turn`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.emitter.as_ref().map(Emitter::next_deadline)
    }

    /// Something that becomes readable when [`Meter::turn`] has something to do.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.emitter.as_ref().and_then(Emitter::awaited)
    }

    /// Sends what is due.
    pub fn turn(&mut self, board: &Board, scene: impl FnOnce() -> Scene, now: Instant) {
        let Some(emitter) = &mut self.emitter else { return };
        if emitter.begins_flush(now) {
            self.ledger.read(board);
            self.gauges = self.sampler.sample(&scene());
            self.sampled = Some(now);
        }
        emitter.turn(&self.ledger, &self.gauges, &board.header().row, now);
    }

    /// All numbers of this moment.
    pub fn look(
        &mut self,
        board: &Board,
        scene: impl FnOnce() -> Scene,
        now: Instant,
    ) -> (&Ledger, &Gauges) {
        self.ledger.read(board);
        if self.sampled.is_none_or(|sampled| now.saturating_duration_since(sampled) >= FRESH) {
            self.gauges = self.sampler.sample(&scene());
            self.sampled = Some(now);
        }
        (&self.ledger, &self.gauges)
    }

    /// Sends all that has not been sent, when no worker is left.
    pub fn finish(mut self, board: &Board, scene: impl FnOnce() -> Scene) {
        let Some(emitter) = &mut self.emitter else { return };
        self.ledger.read(board);
        let gauges = self.sampler.sample(&scene());
        emitter.finish(&self.ledger, &gauges, &board.header().row, LAST_FLUSH);
    }
}
