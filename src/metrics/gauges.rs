//! What is worked out at the moment it is asked for.

use std::time::Duration;

use arctos_worker::fd::AcceptQueue;
use arctos_worker::identity::SlotId;
use arctos_worker::metrics::Block;

use super::Gauge;
use crate::slot::Pid;

/// A worker process as gauges see it. A slot has two while one replaces the other.
#[derive(Clone, Copy)]
pub struct Occupant {
    /// Its place.
    pub slot: SlotId,
    /// Its process.
    pub pid: Pid,
    /// Its part of the board.
    pub block: &'static Block,
}

/// What there is to look at.
pub struct Scene {
    /// Workers that are wanted.
    pub target: u16,
    /// Those that are there.
    pub occupants: Vec<Occupant>,
    /// Queues of the TCP listeners together; `None` where there is no such listener.
    pub queue: Option<AcceptQueue>,
    /// CLOCK_MONOTONIC, as the board has it.
    pub monotonic: Duration,
}

/// Values of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Those of [`super::Scope::Server`].
    pub server: Vec<(Gauge, f64)>,
    /// Those of [`super::Scope::Worker`], slots in order.
    pub workers: Vec<(SlotId, Gauge, f64)>,
}

/// Takes values; remembers what it needs to tell how much time was spent busy.
#[derive(Default)]
pub struct Sampler {}

impl Sampler {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the scene.
    pub fn sample(&mut self, _scene: &Scene) -> Gauges {
        Gauges::default()
    }
}
