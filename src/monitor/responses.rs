//! Responds to requests on the admin socket, and carries out the commands that operators send there.

use std::num::NonZeroU16;
use std::time::Instant;

use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::Counter;

use super::Monitor;
use super::clock::monotonic;
use super::profiles::Scope;
use super::running_request::running_request;
use super::shared_connections::SharedConnections;
use super::workers::Workers;
use crate::admin::prometheus::Format;
use crate::admin::quarantine;
use crate::admin::routes::RoutesStatus;
use crate::admin::status::{
    self, Health, ProcessStatus, ReloadStatus, RequestsStatus, Resources, ServerStatus,
    WorkerStatus,
};
use crate::admin::verb::{self, StopMode, Verb};
use crate::admin::{
    AdminRequest, AdminResponse, PeerProcess, RequestId, Trust, prometheus, readiness,
};
use crate::listener::Listeners;
use crate::metrics::{Snapshot, WorkerSample};
use crate::monitor::children::Child;
use crate::supervisor::slot::WorkerSlot;
use crate::supervisor::{Event, OperatorCommand, Supervisor};
use crate::system::cgroup::CgroupMemory;
use crate::system::pid::Pid;

/// A command from the admin socket, and the process that sent it.
#[derive(Clone, Copy)]
struct SentVerb {
    verb: Verb,
    peer: Option<PeerProcess>,
}

impl Monitor<'_> {
    pub(super) fn respond(&mut self, request: &AdminRequest, now: Instant) {
        let id = request.id;
        let verb = match Verb::read(request) {
            Ok(verb) => verb,
            Err(refusal) => return self.sources.admin.admin.respond(id, &refusal),
        };
        if let Some(refusal) = verb.refusal(self.supervisor.service_state()) {
            return self.sources.admin.admin.respond(id, &refusal);
        }
        let sent = SentVerb { verb, peer: request.peer };
        let response = match verb {
            Verb::Livez => status::livez(),
            Verb::Readyz => self.readyz(),
            Verb::Status => status::response(&self.status(request.trust, now)),
            Verb::Metrics => self.metrics(Format::accepted(&request.accept), now),
            Verb::Reload { wait: false } => {
                self.carry_out_command(sent, OperatorCommand::Reload, now);
                verb::reloading()
            }
            Verb::Reload { wait: true } => return self.reload_and_respond(id, sent, now),
            Verb::Stop { mode } => {
                let command = match mode {
                    StopMode::Graceful => OperatorCommand::Terminate,
                    StopMode::Quick => OperatorCommand::Interrupt,
                };
                self.carry_out_command(sent, command, now);
                verb::stopping()
            }
            Verb::Scale { workers } => {
                let scaled = verb::scaled(workers, self.server.scoreboard.slot_count());
                self.carry_out_if(scaled, sent, OperatorCommand::Scale { workers }, now)
            }
            Verb::Dump { slot } => match verb::dumped(slot, self.supervisor.slots()) {
                Ok((pid, response)) => {
                    self.log_verb(sent);
                    self.sources.workers.dump_stack(pid);
                    response
                }
                Err(refusal) => refusal,
            },
            Verb::Recycle { slot } => {
                let recycled = verb::recycled(slot, self.supervisor.slots());
                self.carry_out_if(recycled, sent, OperatorCommand::Recycle { slot }, now)
            }
            Verb::Profile { seconds, slot } => {
                return self.profile_and_respond(id, sent, Scope { seconds, slot }, now);
            }
            Verb::Quarantine => quarantine::response(self.sources.quarantine.status(now).as_ref()),
            Verb::Release { number } => {
                self.log_verb(sent);
                let number = number.map(NonZeroU16::get);
                let ended = self.sources.quarantine.release(number, now);
                quarantine::released(number, ended)
            }
        };
        self.sources.admin.admin.respond(id, &response);
    }

    fn carry_out_if(
        &mut self,
        response: Result<AdminResponse, AdminResponse>,
        sent: SentVerb,
        command: OperatorCommand,
        now: Instant,
    ) -> AdminResponse {
        match response {
            Ok(response) => {
                self.carry_out_command(sent, command, now);
                response
            }
            Err(refusal) => refusal,
        }
    }

    fn carry_out_command(&mut self, sent: SentVerb, command: OperatorCommand, now: Instant) {
        self.log_verb(sent);
        self.supervisor.handle(Event::OperatorCommand(command), now);
    }

    /// Logs a command and its sender.
    fn log_verb(&self, sent: SentVerb) {
        let SentVerb { verb, peer } = sent;
        let mut pairs = vec![("verb", Value::Text(verb.name()))];
        pairs.extend(verb.arguments().map(|(key, value)| (key, Value::Number(value.into()))));
        if let Some(peer) = peer {
            pairs.extend(peer.pid.map(|pid| ("by_pid", Value::Number(pid.into()))));
            pairs.push(("by_uid", Value::Number(peer.uid.into())));
        }
        self.server.log.line(Level::Info, "admin.command_received", &pairs);
    }

    /// Starts a reload. The response is sent when the reload has ended.
    fn reload_and_respond(&mut self, id: RequestId, sent: SentVerb, now: Instant) {
        let source = &mut self.sources.admin;
        let admin = &source.admin;
        source.waiters.retain(|id| admin.is_waiting(id));
        match source.waiters.join(id) {
            Ok(()) => self.carry_out_command(sent, OperatorCommand::Reload, now),
            Err(refusal) => source.admin.respond(id, &refusal),
        }
    }

    /// Begins a profile. The response is sent when it has ended.
    fn profile_and_respond(&mut self, id: RequestId, sent: SentVerb, scope: Scope, now: Instant) {
        let running_s = self.sources.optional.profiles.remaining(now).map(|rest| rest.as_secs());
        match verb::profiled(scope.slot, self.supervisor.slots(), running_s) {
            Ok(()) => {
                self.log_verb(sent);
                self.sources.optional.profiles.begin(id, scope, &self.server.scoreboard, now);
            }
            Err(refusal) => self.sources.admin.admin.respond(id, &refusal),
        }
    }

    fn metrics(&mut self, format: Format, now: Instant) -> AdminResponse {
        let zone = self.server.generations.current().config.zone.clone();
        let Self { supervisor, sources, server, .. } = self;
        let snapshot = || {
            snapshot(
                supervisor,
                &mut sources.workers,
                &sources.shared_connections,
                server.listeners.as_ref(),
            )
        };
        let collector = &mut sources.metrics.collector;
        let (totals, gauges) = collector.sample(&server.scoreboard, snapshot, now);
        let exemplar = |slot, class, octave| server.scoreboard.exemplar(slot, class, octave);
        let body = prometheus::page(format, &totals, gauges, zone.as_deref(), &exemplar);
        // The client may send its next request to the successor, which must not show lower totals.
        self.send_totals(now);
        AdminResponse { status: 200, content_type: format.content_type(), body }
    }

    /// The accept queue is measured only if its length matters.
    fn readyz(&mut self) -> AdminResponse {
        let Health { state, target, ready } = self.health();
        let limits = self.server.generations.current().config.readiness;
        let queue = || self.server.listeners.as_ref().and_then(Listeners::queue);
        let backlog = limits.max_backlog.and_then(|_| queue()).map(|queue| queue.len);
        let found = readiness::Found { target, ready, backlog };
        status::readyz(state, readiness::unmet(limits, found, &mut self.sources.admin.queue))
    }

    fn health(&self) -> Health {
        let ready = self.supervisor.places().filter(|place| place.is_ready()).count();
        Health {
            state: self.supervisor.service_state(),
            target: self.supervisor.target(),
            ready: u16::try_from(ready).unwrap_or(u16::MAX),
        }
    }

    fn status(&mut self, trust: Trust, now: Instant) -> ServerStatus {
        let memory = self.sample_memory();
        let totals = self.sources.metrics.collector.carried(&self.server.scoreboard, now);
        let routes = RoutesStatus::of(totals.series());
        let source = &self.sources.admin;
        let reload = match (self.supervisor.reloading(), &source.last_reload) {
            (Some((generation, step)), _) => ReloadStatus::Running { generation, step },
            (None, Some(ended)) => ReloadStatus::Ended {
                outcome: ended.outcome,
                ago: now.saturating_duration_since(ended.at),
                // A traceback may contain secrets, so only users who may also read the log see it.
                report: ended.report.clone().filter(|_| trust == Trust::Owner),
            },
            (None, None) => ReloadStatus::Idle,
        };
        let listeners = self.server.listeners.as_ref();
        let taken = self.supervisor.places().filter(|place| !place.is_unused());
        let state_since = match source.state {
            (state, since) if state == self.supervisor.service_state() => since,
            (_, _) => now, // The state has changed in this round.
        };
        ServerStatus {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            health: self.health(),
            generation: self.supervisor.generation(),
            age: now.saturating_duration_since(source.started),
            state_age: now.saturating_duration_since(state_since),
            listen: listeners
                .map_or_else(Vec::new, |it| it.describe(self.server.generations.scheme())),
            admin: source.admin.descriptions(),
            resources: Resources { backlog: listeners.and_then(Listeners::queue), memory },
            reload,
            requests: RequestsStatus { quarantine: self.sources.quarantine.status(now), routes },
            workers: taken.map(|place| self.worker(place, now)).collect(),
        }
    }

    /// Samples the memory of all workers. Returns that of the cgroup.
    fn sample_memory(&mut self) -> CgroupMemory {
        let workers = &mut self.sources.workers;
        let monotonic = monotonic().unwrap_or_default();
        let pids: Vec<Pid> = workers.all().iter().map(|child| child.pid).collect();
        workers.memory.sample_all(&pids, monotonic);
        workers.memory.cgroup(monotonic)
    }

    fn worker(&self, place: &WorkerSlot, now: Instant) -> WorkerStatus {
        let child = place.pid().and_then(|pid| self.sources.workers.of(pid));
        let process = |child: &Child| {
            let memory = self.sources.workers.memory.of(child.pid);
            ProcessStatus {
                pid: child.pid,
                age: now.saturating_duration_since(child.since),
                request: running_request(child.entry),
                requests_count: child.entry.counters.get(Counter::ReqSuccessRead),
                open_count: child.entry.open_connections(),
                memory,
            }
        };
        WorkerStatus {
            slot: place.id(),
            generation: place.generation(),
            state: place.state(),
            restarts_count: self.server.restarts_count(place.id()),
            process: child.map(process),
        }
    }
}

/// Takes the snapshot of the server that metrics are computed from.
pub(super) fn snapshot(
    supervisor: &Supervisor,
    workers: &mut Workers,
    shared_connections: &SharedConnections,
    listeners: Option<&Listeners>,
) -> Snapshot {
    let monotonic = monotonic().unwrap_or_default();
    let pids: Vec<Pid> = workers.all().iter().map(|child| child.pid).collect();
    workers.memory.sample(&pids, monotonic);
    let cgroup = workers.memory.cgroup(monotonic);
    let sample = |child: &Child| WorkerSample {
        slot: child.slot,
        entry: child.entry,
        memory: workers.memory.of(child.pid),
    };
    Snapshot {
        target: supervisor.target(),
        workers: workers.all().iter().map(sample).collect(),
        queue: listeners.and_then(Listeners::queue),
        shared_connections: shared_connections.idle_count(),
        cgroup,
        monotonic,
    }
}
