//! Sends the metrics and answers the admin socket.

use std::time::Instant;

use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::Counter;

use super::report::running_request;
use super::{Monitor, monotonic};
use crate::admin::status::{self, Health, ProcessStatus, ReloadStatus, ServerStatus, WorkerStatus};
use crate::admin::verb::{self, StopMode, Verb};
use crate::admin::{AdminRequest, AdminResponse, PeerProcess, RequestId, Trust, prometheus};
use crate::listener::Listeners;
use crate::metrics::{ResidentSet, Snapshot, WorkerSample};
use crate::monitor::children::Child;
use crate::supervisor::slot::WorkerSlot;
use crate::supervisor::{Event, OperatorCommand, Supervisor};

/// A verb, and the process that sent it.
#[derive(Clone, Copy)]
struct SentVerb {
    verb: Verb,
    peer: Option<PeerProcess>,
}

impl Monitor<'_> {
    /// Sends the metrics that are due and answers who asks.
    pub(super) fn measure(&mut self, now: Instant) {
        let Self { collector, scoreboard, children, supervisor, listeners, .. } = self;
        collector.turn(scoreboard, || scene(supervisor, children, listeners.as_ref()), now);
        for request in self.admin.turn(now) {
            self.respond(&request, now);
        }
    }

    fn respond(&mut self, request: &AdminRequest, now: Instant) {
        let id = request.id;
        let verb = match Verb::read(request) {
            Ok(verb) => verb,
            Err(refusal) => return self.admin.respond(id, &refusal),
        };
        if let Some(refusal) = verb.refusal(self.supervisor.service_state()) {
            return self.admin.respond(id, &refusal);
        }
        let by = SentVerb { verb, peer: request.peer };
        let response = match verb {
            Verb::Livez => status::livez(),
            Verb::Readyz => status::readyz(&self.health()),
            Verb::Status => status::response(&self.status(request.trust, now)),
            Verb::Metrics => self.metrics(now),
            Verb::Reload { wait: false } => {
                self.obey(by, OperatorCommand::Reload, now);
                verb::reloading()
            }
            Verb::Reload { wait: true } => return self.reload_and_answer(id, by, now),
            Verb::Stop { mode } => {
                let wish = match mode {
                    StopMode::Graceful => OperatorCommand::Terminate,
                    StopMode::Quick => OperatorCommand::Interrupt,
                };
                self.obey(by, wish, now);
                verb::stopping()
            }
            Verb::Scale { workers } => match verb::scaled(workers, self.scoreboard.slot_count()) {
                Ok(answer) => {
                    self.obey(by, OperatorCommand::Scale { workers }, now);
                    answer
                }
                Err(refusal) => refusal,
            },
            Verb::Dump { slot } => match verb::dumped(slot, self.supervisor.slots()) {
                Ok((pid, answer)) => {
                    self.log_deed(by);
                    self.dump_stack(pid);
                    answer
                }
                Err(refusal) => refusal,
            },
            Verb::Recycle { slot } => match verb::recycled(slot, self.supervisor.slots()) {
                Ok(answer) => {
                    self.obey(by, OperatorCommand::Recycle { slot }, now);
                    answer
                }
                Err(refusal) => refusal,
            },
        };
        self.admin.respond(id, &response);
    }

    fn obey(&mut self, by: SentVerb, wish: OperatorCommand, now: Instant) {
        self.log_deed(by);
        self.supervisor.handle(Event::OperatorCommand(wish), now);
    }

    /// Says who does what to the server.
    fn log_deed(&self, by: SentVerb) {
        let SentVerb { verb, peer } = by;
        let mut pairs = vec![("verb", Value::Text(verb.name()))];
        let argument = verb.argument();
        pairs.extend(argument.map(|(key, value)| (key, Value::Number(value.into()))));
        if let Some(peer) = peer {
            pairs.extend(peer.pid.map(|pid| ("by_pid", Value::Number(pid.into()))));
            pairs.push(("by_uid", Value::Number(peer.uid.into())));
        }
        self.log.line(Level::Info, "admin.asked", &pairs);
    }

    /// The answer comes when the reload has ended.
    fn reload_and_answer(&mut self, id: RequestId, by: SentVerb, now: Instant) {
        let admin = &self.admin;
        self.waiting.retain(|id| admin.is_waiting(id));
        match self.waiting.join(id) {
            Ok(()) => self.obey(by, OperatorCommand::Reload, now),
            Err(refusal) => self.admin.respond(id, &refusal),
        }
    }

    fn metrics(&mut self, now: Instant) -> AdminResponse {
        let zone = self.generations.current().load.config.zone.clone();
        let Self { collector, scoreboard, children, supervisor, listeners, .. } = self;
        let scene = || scene(supervisor, children, listeners.as_ref());
        let (carried, gauges) = collector.look(scoreboard, scene, now);
        let body = prometheus::text(&carried, gauges, zone.as_deref());
        // Whoever has read this may ask the successor next, which must not know less.
        self.tell_books(now);
        AdminResponse { status: 200, content_type: prometheus::CONTENT_TYPE, body }
    }

    fn health(&self) -> Health {
        let ready = self.supervisor.places().filter(|place| place.is_ready()).count();
        Health {
            state: self.supervisor.service_state(),
            target: self.supervisor.target(),
            ready: u16::try_from(ready).unwrap_or(u16::MAX),
        }
    }

    fn status(&self, trust: Trust, now: Instant) -> ServerStatus {
        let reload = match (self.supervisor.reloading(), &self.last_reload) {
            (Some((generation, step)), _) => ReloadStatus::Running { generation, step },
            (None, Some(ended)) => ReloadStatus::Ended {
                outcome: ended.outcome,
                ago: now.saturating_duration_since(ended.at),
                // A traceback may hold a secret: it is for who may read the log.
                report: ended.report.clone().filter(|_| trust == Trust::Owner),
            },
            (None, None) => ReloadStatus::Idle,
        };
        let listen = self.listeners.as_ref().map_or_else(Vec::new, Listeners::descriptions);
        let taken = self.supervisor.places().filter(|place| !place.is_unused());
        let standing_since = match self.service_state {
            (standing, since) if standing == self.supervisor.service_state() => since,
            (_, _) => now, // It has changed in this round.
        };
        ServerStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            health: self.health(),
            generation: self.supervisor.generation(),
            age: now.saturating_duration_since(self.started),
            state_age: now.saturating_duration_since(standing_since),
            listen,
            admin: self.admin.descriptions(),
            backlog: self.listeners.as_ref().and_then(Listeners::queue),
            reload,
            workers: taken.map(|place| self.worker(place, now)).collect(),
        }
    }

    fn worker(&self, place: &WorkerSlot, now: Instant) -> WorkerStatus {
        let member = self.children.iter().find(|member| Some(member.pid) == place.pid());
        let process = |member: &Child| {
            let mut resident = ResidentSet::default();
            resident.look(std::iter::once(member.pid), monotonic().unwrap_or_default());
            ProcessStatus {
                pid: member.pid,
                age: now.saturating_duration_since(member.since),
                request: running_request(member.entry),
                requests_count: member.entry.counters.get(Counter::ReqSuccessRead),
                open_count: member.entry.open_connections(),
                rss_bytes: resident.bytes(member.pid),
            }
        };
        WorkerStatus {
            slot: place.id(),
            generation: place.generation(),
            state: place.state(),
            restarts_count: self.restarts(place.id()),
            process: member.map(process),
        }
    }
}

/// What there is to measure at this moment.
pub(super) fn scene(
    supervisor: &Supervisor,
    children: &[Child],
    listeners: Option<&Listeners>,
) -> Snapshot {
    let occupant =
        |member: &Child| WorkerSample { slot: member.slot, pid: member.pid, entry: member.entry };
    Snapshot {
        target: supervisor.target(),
        occupants: children.iter().map(occupant).collect(),
        queue: listeners.and_then(Listeners::queue),
        monotonic: monotonic().unwrap_or_default(),
    }
}
