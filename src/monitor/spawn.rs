//! Starts the processes that the state machine requests: workers, zygotes, and the process of `--on-start`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use arctos_worker::settings::KeepaliveMode;
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::request_key::RequestKeys;
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};
use arctos_worker::tls::TlsConfig;
use arctos_worker::worker_init::{Listener, WorkerInit};
use thiserror::Error;

use super::failure_cause::Failure;
use super::generations::ResolvedRevision;
use super::zygotes::OrderedWorker;
use super::{Monitor, access_log};
use crate::config::Config;
use crate::monitor::children::{Child, ControlSocket};
use crate::process::fork::{self, ChildSetup, ForkError};
use crate::process::on_start::{OnStart, OnStartError};
use crate::process::title::{on_start_title, worker_title, zygote_title};
use crate::process::zygote::{SpawnOrder, Zygote, ZygoteInit, ZygoteStartError, adopt_orphans};
use crate::supervisor::{Event, Verdict};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The descriptors that a worker gets, and the supervisor's ends of them.
struct WorkerResources {
    socket: ControlSocket,
    control_fd: OwnedFd,
    doorbell: OwnedFd,
    listeners: Vec<Listener>,
    access_log: Option<OwnedFd>,
}

/// The reason why a process could not be started.
#[derive(Debug, Error)]
enum SpawnError {
    #[error("cannot create its control socket or doorbell: {0}")]
    ControlSocket(io::Error),
    #[error("cannot duplicate its listeners: {0}")]
    Listeners(io::Error),
    #[error("cannot duplicate the access log: {0}")]
    AccessLog(io::Error),
    #[error("its generation has been given up")]
    Generation,
    #[error("there is no entry for it on the scoreboard")]
    Scoreboard,
    #[error(transparent)]
    Fork(#[from] ForkError),
    #[error("cannot start --on-start: {0}")]
    OnStart(#[from] OnStartError),
    #[error("cannot become the parent of orphans: {0}")]
    Orphans(io::Error),
    #[error("cannot start its zygote: {0}")]
    Zygote(#[from] ZygoteStartError),
}

impl Monitor<'_> {
    /// Starts a worker. A failure is reported to the state machine.
    pub(super) fn spawn(&mut self, slot: SlotId, side: Side, generation: Generation) {
        if let Err(error) = self.try_spawn(slot, side, generation) {
            self.log_not_spawned(Some(slot), generation, &error);
            let verdict = Verdict::NotBooted;
            self.supervisor.handle(Event::SpawnFailed { slot, side, verdict }, Instant::now());
        }
    }

    /// Starts the process of `--on-start`, and reports the outcome to the state machine.
    pub(super) fn run_on_start(&mut self, generation: Generation) {
        let event = match self.try_on_start(generation) {
            Ok(pid) => Event::OnStartStarted { generation, pid },
            Err(error) => {
                self.log_not_spawned(None, generation, &error);
                Event::OnStartNotStarted { generation }
            }
        };
        self.supervisor.handle(event, Instant::now());
    }

    /// Starts a zygote, and reports the outcome to the state machine.
    pub(super) fn start_zygote(&mut self, generation: Generation) {
        let event = match self.try_zygote(generation) {
            Ok(pid) => Event::ZygoteStarted { generation, pid },
            Err(error) => {
                self.log_not_spawned(None, generation, &error);
                Event::ZygoteNotStarted { generation }
            }
        };
        self.supervisor.handle(event, Instant::now());
    }

    /// Logs that a process could not be started. `slot` is `None` for a process that precedes the workers of its
    /// generation.
    fn log_not_spawned(
        &mut self,
        slot: Option<SlotId>,
        generation: Generation,
        error: &SpawnError,
    ) {
        let slot_pair = slot.map(|slot| ("slot", Value::Number(i64::from(slot.0))));
        let mut pairs: Vec<_> = slot_pair.into_iter().collect();
        pairs.push(("generation", Value::Number(i64::from(generation.0))));
        pairs.push(("reason", Value::Display(error)));
        self.server.log.line(Level::Error, "worker.spawn_failed", &pairs);
        let who = match slot {
            Some(slot) => format!("worker {}", slot.0),
            None => format!("the first worker of generation {}", generation.0),
        };
        let cause = format!("{who} could not be started: {error}");
        self.server.record_failure(Failure::observed(who, cause));
    }

    fn revision_of(
        &self,
        generation: Generation,
    ) -> Result<std::rc::Rc<ResolvedRevision>, SpawnError> {
        self.server.generations.of(generation).ok_or(SpawnError::Generation)
    }

    /// The keys that workers need to refuse what is in quarantine.
    fn request_keys(&self, config: &Config) -> Option<RequestKeys> {
        config.quarantine.map(|_| self.sources.quarantine.keys.at(&config.worker.root_path))
    }

    fn try_on_start(&mut self, generation: Generation) -> Result<Pid, SpawnError> {
        let revision = self.revision_of(generation)?;
        let mut own = self.own_descriptors();
        own.extend(self.server.process.as_fd());
        let setup = ChildSetup {
            signals: &self.sources.signals,
            identity: &revision.identity,
            title: on_start_title(revision.config.process_name()),
            own,
        };
        let run = OnStart::start(&*revision.launch, generation, &setup, &self.server.log)?;
        let pid = run.pid();
        self.sources.on_start.begin(run);
        Ok(pid)
    }

    fn try_zygote(&mut self, generation: Generation) -> Result<Pid, SpawnError> {
        let revision = self.revision_of(generation)?;
        let config = &revision.config;
        let name = config.process_name();
        let connection_tables = self.sources.shared_connections.tables();
        let request_keys = self.request_keys(config);
        let area = self.sources.zygotes.free_area(&self.server.scoreboard);
        let inheritance = ZygoteInit {
            series: area.and_then(|index| self.server.scoreboard.area(index)),
            connection_tables: &connection_tables,
            request_keys: request_keys.as_ref(),
            generation,
            name,
            settings: &config.worker,
            tls: revision.tls.as_ref(),
            log: &self.server.log,
            scoreboard: &self.server.scoreboard,
            supervisor: &self.server.process,
        };
        let setup = ChildSetup {
            signals: &self.sources.signals,
            identity: &revision.identity,
            title: zygote_title(name),
            own: self.own_descriptors(),
        };
        adopt_orphans().map_err(SpawnError::Orphans)?;
        let boot = config.patience.boot;
        let zygote = Zygote::start(&*revision.launch, &inheritance, &setup, boot, Instant::now())?;
        let pid = zygote.pid();
        self.sources.zygotes.add(zygote, area);
        Ok(pid)
    }

    /// Forks a worker, or orders it from a zygote. On success [`Event::Started`] follows, now or later.
    fn try_spawn(
        &mut self,
        slot: SlotId,
        side: Side,
        generation: Generation,
    ) -> Result<(), SpawnError> {
        let entry = self.server.scoreboard.entry(slot, side).ok_or(SpawnError::Scoreboard)?;
        let revision = self.revision_of(generation)?;
        let resources = self.open_resources(slot, entry)?;
        let group = match revision.config.worker.keepalive_mode {
            KeepaliveMode::Sticky => None,
            KeepaliveMode::Shared | KeepaliveMode::Auto => {
                let shared = &mut self.sources.shared_connections;
                shared.open(slot, side, entry).map_err(SpawnError::ControlSocket)?
            }
        };
        entry.assign(generation);
        let WorkerResources { socket, control_fd, doorbell, listeners, access_log } = resources;
        let limits = revision.config.limits;
        if revision.config.preload {
            let worker = OrderedWorker { slot, side, socket, limits };
            let order =
                SpawnOrder { slot, side, control_fd, doorbell, listeners, access_log, group };
            let (round, mut reports) = (self.begin_round(Instant::now()), Vec::new());
            self.sources.zygotes.order(generation, worker, order, &round, &mut reports);
            self.handle_reports(reports, round.now);
            return Ok(());
        }
        let init = WorkerInit {
            slot,
            generation,
            entry,
            header: self.server.scoreboard.header(),
            samples: self.server.scoreboard.samples(slot, side).ok_or(SpawnError::Scoreboard)?,
            control_fd,
            supervisor: Arc::clone(&self.server.process),
            doorbell,
            listeners,
            settings: revision.config.worker.clone(),
            log: self.server.log.clone(),
            access_log,
            tls: revision.tls.as_ref().map(TlsConfig::for_child),
            group,
            request_keys: self.request_keys(&revision.config),
            series: self.server.scoreboard.area(Scoreboard::worker_area(slot, side)),
            ticker: None,
        };
        let mut own = self.own_descriptors();
        socket.list_descriptors(&mut own);
        let setup = ChildSetup {
            signals: &self.sources.signals,
            identity: &revision.identity,
            title: worker_title(revision.config.process_name(), slot),
            own,
        };
        let pid = fork::spawn(&*revision.launch, init, &setup)?;
        let now = Instant::now();
        let mut child = Child::new(pid, slot, socket, now);
        child.recycling.limits = limits;
        self.sources.workers.add(child);
        self.supervisor.handle(Event::Started { slot, side, pid }, now);
        Ok(())
    }

    fn open_resources(
        &self,
        slot: SlotId,
        entry: &'static WorkerEntry,
    ) -> Result<WorkerResources, SpawnError> {
        let (socket, control_fd, doorbell) =
            ControlSocket::open(entry).map_err(SpawnError::ControlSocket)?;
        let listeners = match &self.server.listeners {
            Some(listeners) => listeners.for_slot(slot).map_err(SpawnError::Listeners)?,
            None => Vec::new(),
        };
        let access = &self.server.generations.current().config.logging.access;
        let access_log = self.server.access_log.as_ref();
        let access_log = access_log.map(|shared| access_log::for_worker(access, shared));
        let access_log = access_log.transpose().map_err(SpawnError::AccessLog)?;
        Ok(WorkerResources { socket, control_fd, doorbell, listeners, access_log })
    }

    /// Lists the descriptors that this process keeps for itself and that a child closes. Call this right before a fork.
    fn own_descriptors(&self) -> OwnDescriptors {
        let mut own = OwnDescriptors::default();
        for source in self.sources.all() {
            source.list_descriptors(&mut own);
        }
        self.server.list_descriptors(&mut own);
        own
    }
}
