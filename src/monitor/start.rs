//! Builds a [`Monitor`]: every step that can fail before the first fork.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::Scoreboard;
use arctos_worker::shared::scoreboard::ServerState;

use super::admin::AdminSource;
use super::crashes::Crashes;
use super::failure_cause::FailureCause;
use super::generations::{Generations, ResolvedRevision};
use super::metrics::Metrics;
use super::on_start::OnStartProcess;
use super::profiles::Profiles;
use super::quarantine::QuarantineSource;
use super::server::{Server, Service};
use super::shared_connections::SharedConnections;
use super::sources::{OptionalSources, Sources};
use super::upgrade::UpgradeSource;
use super::victims::Victims;
use super::watchdog::WatchdogSource;
use super::watcher::WatcherSource;
use super::workers::Workers;
use super::zygotes::Zygotes;
use super::{Monitor, Surroundings, access_log};
use crate::admin::Admin;
use crate::config::Config;
use crate::emitter::collector::Collector;
use crate::listener::Listeners;
use crate::monitor::fatal::Fatal;
use crate::monitor::revision::{ReadRevision, Revision};
use crate::process::reexec::Handover;
use crate::process::signals::Signals;
use crate::process::threads::thread_names;
use crate::supervisor::{PROBATION, Policy, Preparation, Supervisor};
use crate::system::pid_file::PidFile;
use crate::system::sd_notify::Notifier;
use crate::system::watchdog::Watchdog;

/// Minimum number of slots on the scoreboard, so that TTIN can add workers.
const MINIMUM_SLOTS: u16 = 64;

/// The arguments that a server is started with.
pub(super) struct Start<'a> {
    pub(super) revision: Revision,
    pub(super) read_revision: ReadRevision<'a>,
    pub(super) listeners: Listeners,
    pub(super) log: Log,
    pub(super) surroundings: Surroundings<'a>,
}

impl<'a> Monitor<'a> {
    pub(super) fn start(start: Start<'a>) -> Result<Self, Fatal> {
        let Start { revision, read_revision, listeners, log, surroundings } = start;
        let Surroundings { handover, directory, watcher } = surroundings;
        refuse_threads()?;
        let revision = ResolvedRevision::resolve(revision, &log)?;
        let config = &revision.config;
        let access_log = access_log::open(&config.logging.access)?;
        let pid_file = prepare_pid_file(config, handover.as_ref(), &log)?;
        let slots = config.workers.saturating_mul(2).max(MINIMUM_SLOTS);
        let scoreboard = map_scoreboard(slots, config.metrics_series, &log)?;
        scoreboard.header().set_state(ServerState::Starting);
        let log = log.with_counters(&scoreboard.header().counters);
        let signals = Signals::install().map_err(system("sigaction(2)"))?;
        let now = Instant::now();
        let mut collector = Collector::start(&scoreboard, config.statsd.as_ref(), &log, now);
        let (upgrade, inherited_sockets) = UpgradeSource::begin(handover, now);
        let admin = Admin::inherit(&config.admin_binds, inherited_sockets);
        let mut admin = admin.map_err(|source| Fatal::Admin { source })?;
        let is_owner = upgrade.is_owner();
        if !is_owner {
            scoreboard.header().set_shares_listeners(true);
            collector.suppress_gauges(true);
            admin.close();
        }
        for warning in admin.warnings() {
            log.line(Level::Warning, "admin.warning", &[("warning", Value::Text(warning))]);
        }
        let seed = RandomState::new().build_hasher().finish();
        let table = &scoreboard.header().quarantine;
        let quarantine = QuarantineSource::new(config.quarantine, table, log.clone());
        let supervisor = Supervisor::start(policy(config, slots), seed, now);
        let sources = Sources {
            signals,
            on_start: OnStartProcess::default(),
            zygotes: Zygotes::new(log.clone()),
            workers: Workers::new(log.clone(), quarantine.keys.clone(), seed, now),
            shared_connections: SharedConnections::new(config.workers, now)
                .map_err(system("mapping the table of connections"))?,
            victims: Victims::default(),
            upgrade,
            crashes: Crashes::new(),
            quarantine,
            metrics: Metrics { collector },
            admin: AdminSource::new(admin, now),
            optional: OptionalSources {
                watchdog: WatchdogSource(watchdog(&log, now)),
                watcher: WatcherSource::new(watcher, log.clone(), now),
                profiles: Profiles::default(),
            },
        };
        let notifier = Notifier::from_environment();
        let server = Server {
            log,
            process: Arc::new(SupervisorProcess::this()),
            scoreboard,
            listeners: Some(listeners),
            access_log,
            directory,
            read_revision,
            generations: Generations::first(revision),
            service: Service { notifier, pid_file, is_owner },
            failure: FailureCause::default(),
            started: now,
            cut_off_before_stop: 0,
        };
        Ok(Self { supervisor, sources, server, last_round: now })
    }
}

fn system(call: &'static str) -> impl Fn(std::io::Error) -> Fatal {
    move |source| Fatal::System { call, source }
}

/// Maps the scoreboard. Without memory for application metrics, the server does without them.
fn map_scoreboard(slots: u16, series: u32, log: &Log) -> Result<Scoreboard, Fatal> {
    let mut scoreboard = Scoreboard::create(slots).map_err(system("mapping the scoreboard"))?;
    if let Err(error) = scoreboard.add_series(series) {
        let pairs = [("reason", Value::Display(&error))];
        log.line(Level::Error, "metrics.not_available", &pairs);
    }
    Ok(scoreboard)
}

fn refuse_threads() -> Result<(), Fatal> {
    let names = thread_names().map_err(system("reading /proc/self/task"))?;
    if names.len() == 1 { Ok(()) } else { Err(Fatal::Threads { names }) }
}

fn prepare_pid_file(
    config: &Config,
    handover: Option<&Handover>,
    log: &Log,
) -> Result<Option<PidFile>, Fatal> {
    let Some(path) = &config.pid_file else { return Ok(None) };
    let before = handover.and_then(|it| u32::try_from(it.predecessor.0).ok());
    warn_of_running_owner(path, before, log);
    let prepared = PidFile::prepare(path, std::process::id());
    Ok(Some(prepared.map_err(|source| Fatal::PidFile { path: path.clone(), source })?))
}

/// Warns about a pid file that names another running process. The file is replaced anyway, because pids are reused; in
/// a container, after each restart. `before` is the server that this one replaces.
fn warn_of_running_owner(path: &Path, before: Option<u32>, log: &Log) {
    let owner = PidFile::running_owner(path, std::process::id());
    if let Some(pid) = owner.filter(|pid| Some(*pid) != before) {
        let pairs =
            [("path", Value::Display(&path.display())), ("names", Value::Number(i64::from(pid)))];
        log.line(Level::Warning, "pid_file.names_another", &pairs);
    }
}

fn watchdog(log: &Log, now: Instant) -> Option<Watchdog> {
    let environment = std::env::vars_os().collect();
    Watchdog::of(&environment, std::process::id(), now).unwrap_or_else(|bad| {
        log.line(Level::Warning, "watchdog.not_kept", &[("reason", Value::Display(&bad))]);
        None
    })
}

pub(super) fn policy(config: &Config, ceiling: u16) -> Policy {
    let preparation = if config.preload {
        Preparation::Zygote // The zygote runs the hooks of --on-start itself.
    } else if config.application.hooks.on_start.is_empty() {
        Preparation::None
    } else {
        Preparation::OnStart
    };
    Policy {
        workers: config.workers,
        ceiling,
        boot: config.patience.boot,
        graceful: config.patience.graceful,
        quick: config.patience.quick,
        drain_delay: config.patience.drain_delay,
        probation: if config.watching.is_some() { Duration::ZERO } else { PROBATION },
        preparation,
    }
}
