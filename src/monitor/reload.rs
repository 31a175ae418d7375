//! Reload: reads the configuration of the next generation, and reports how a reload ended.

use std::time::Instant;

use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::Counter;

use super::Monitor;
use super::admin::EndedReload;
use super::clock::monotonic;
use super::generations::ResolvedRevision;
use super::start::policy;
use crate::admin;
use crate::config::Config;
use crate::config::options::OptionSpec;
use crate::supervisor::restart_storm::crash_baseline::CrashBaseline;
use crate::supervisor::{Event, ReloadOutcome};
use crate::system::rlimit::warn_of_connections;

impl Monitor<'_> {
    /// Reads the configuration, and reports the result to the state machine.
    pub(super) fn configure(&mut self, generation: Generation) {
        let now = Instant::now();
        let rates = self.sources.crashes.storm.rates(self.supervisor.generation(), now);
        self.sources.crashes.baseline = Some(CrashBaseline::new(rates, now));
        self.server.failure.set_report(None);
        self.sources.admin.waiters.begin();
        let usec = monotonic().unwrap_or_default().as_micros();
        self.server.notify(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=Reloading"));
        let revision = (self.server.read_revision)().and_then(|revision| {
            let log = &self.server.log;
            ResolvedRevision::resolve(revision, log).map_err(|fatal| fatal.chain())
        });
        let policy = match revision {
            Ok(mut revision) => {
                self.log_restart_needed(&revision.config);
                self.server.generations.current().keep_tls(&mut revision);
                warn_of_connections(&revision.config.worker.limits, &self.server.log);
                let policy = policy(&revision.config, self.server.scoreboard.slot_count());
                self.server.generations.propose(generation, revision);
                Some(policy)
            }
            Err(reason) => {
                let pairs = [("reason", Value::Text(&reason))];
                self.server.log.line(Level::Error, "reload.refused", &pairs);
                self.server.failure.set_report(Some(reason));
                None
            }
        };
        self.supervisor.handle(Event::Configured { policy }, Instant::now());
    }

    /// Logs the changed options that a reload cannot apply.
    fn log_restart_needed(&self, new: &Config) {
        let current = self.server.generations.current();
        for setting in current.config.restart_needed(new) {
            let option = OptionSpec::of(setting).flag();
            let pairs = [("option", Value::Text(&option))];
            self.server.log.line(Level::Warning, "reload.needs_restart", &pairs);
        }
    }

    /// Reports the outcome of a reload to every client that waits for it.
    pub(super) fn end_reload(&mut self, outcome: ReloadOutcome) {
        self.server.generations.settle();
        if outcome == ReloadOutcome::Done {
            let limits = self.server.generations.current().config.quarantine;
            self.sources.quarantine.reload(limits, Instant::now());
        }
        let counters = &self.server.scoreboard.header().counters;
        let (level, event) = match outcome {
            ReloadOutcome::Done => {
                counters.inc(Counter::ReloadOk);
                (Level::Info, "reload.done")
            }
            ReloadOutcome::Misconfigured | ReloadOutcome::CanaryFailed | ReloadOutcome::Halted => {
                counters.inc(Counter::ReloadFailed);
                (Level::Error, "reload.failed")
            }
            ReloadOutcome::Abandoned => (Level::Warning, "reload.abandoned"),
        };
        let generation = Value::Number(i64::from(self.server.generations.number().0));
        let mut pairs = vec![("generation_in_service", generation)];
        if outcome != ReloadOutcome::Done {
            pairs.push(("reason", Value::Text(outcome.meaning())));
        }
        self.server.log.line(level, event, &pairs);
        self.server.notify(&format!("READY=1\nSTATUS={}", outcome.service_status()));
        let report = self.server.failure.take_report().filter(|_| outcome.is_failure());
        let source = &mut self.sources.admin;
        for id in source.waiters.end(outcome) {
            source.admin.respond(id, &admin::reload::response(outcome, report.as_deref()));
        }
        source.last_reload = Some(EndedReload { outcome, at: Instant::now(), report });
    }
}
