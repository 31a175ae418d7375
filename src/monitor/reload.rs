//! Reload: the configuration and the code of the next generation.

use std::time::Instant;

use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::Counter;

use super::generations::Loaded;
use super::{Monitor, monotonic, policy};
use crate::admin;
use crate::config::Config;
use crate::config::options::OptionSpec;
use crate::supervisor::restart_storm::crash_baseline::CrashBaseline;
use crate::supervisor::{Event, ReloadOutcome};
use crate::system::rlimit::warn_of_connections;

/// How a reload ended.
pub(super) struct EndedReload {
    pub(super) outcome: ReloadOutcome,
    pub(super) at: Instant,
    /// In a worker's own words, where it has said any.
    pub(super) report: Option<String>,
}

impl Monitor<'_> {
    /// Reads the configuration anew, and answers the machine.
    pub(super) fn configure(&mut self, generation: Generation) {
        let now = Instant::now();
        let rates = self.deaths.rates(self.supervisor.generation(), now);
        self.excuses = Some(CrashBaseline::new(rates, now));
        self.last_report = None;
        self.waiting.begin();
        let usec = monotonic().unwrap_or_default().as_micros();
        self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=Reloading"));
        let loaded =
            (self.reread)().and_then(|load| Loaded::resolve(load).map_err(|fatal| fatal.chain()));
        let policy = match loaded {
            Ok(loaded) => {
                self.tell_restart_needed(&loaded.load.config);
                warn_of_connections(&loaded.load.config.worker.limits, &self.log);
                let policy = policy(&loaded.load.config, self.scoreboard.slot_count());
                self.generations.propose(generation, loaded);
                Some(policy)
            }
            Err(reason) => {
                self.log.line(Level::Error, "reload.refused", &[("reason", Value::Text(&reason))]);
                self.last_report = Some(reason);
                None
            }
        };
        self.supervisor.handle(Event::Configured { policy }, Instant::now());
    }

    /// Names the options that have changed and that a reload cannot apply.
    fn tell_restart_needed(&self, new: &Config) {
        let current = self.generations.current();
        for setting in current.load.config.restart_needed(new) {
            let option = OptionSpec::of(setting).flag();
            let pairs = [("option", Value::Text(&option))];
            self.log.line(Level::Warning, "reload.needs_restart", &pairs);
        }
    }

    /// A generation has proved itself, or is gone back to.
    pub(super) fn adopt(&mut self, generation: Generation) {
        self.generations.adopt(generation);
        self.scoreboard.header().set_generation(generation);
    }

    /// Says how a reload has ended.
    pub(super) fn report_reload(&mut self, outcome: ReloadOutcome) {
        self.generations.settle();
        let current = self.generations.number();
        self.end_zygotes(|generation| generation != current);
        let counters = &self.scoreboard.header().counters;
        let (counter, level, event) = match outcome {
            ReloadOutcome::Done => (Some(Counter::ReloadOk), Level::Info, "reload.done"),
            ReloadOutcome::Misconfigured | ReloadOutcome::CanaryFailed | ReloadOutcome::Halted => {
                (Some(Counter::ReloadFailed), Level::Error, "reload.failed")
            }
            ReloadOutcome::Abandoned => (None, Level::Warning, "reload.abandoned"),
        };
        if let Some(counter) = counter {
            counters.inc(counter);
        }
        let why = match outcome {
            ReloadOutcome::Done => None,
            ReloadOutcome::Misconfigured => Some("the configuration cannot be used"),
            ReloadOutcome::CanaryFailed => Some("its first worker did not boot, or did not live"),
            ReloadOutcome::Halted => Some("its workers died; the old generation serves again"),
            ReloadOutcome::Abandoned => Some("the server stops or rests"),
        };
        let generation = Value::Number(i64::from(self.generations.number().0));
        let mut pairs = vec![("generation_in_service", generation)];
        pairs.extend(why.map(|why| ("reason", Value::Text(why))));
        self.log.line(level, event, &pairs);
        let status = match outcome {
            ReloadOutcome::Done => "Serving",
            ReloadOutcome::Abandoned => "Serving; the reload was given up",
            ReloadOutcome::Misconfigured | ReloadOutcome::CanaryFailed | ReloadOutcome::Halted => {
                "Serving; the reload failed, and what was there before goes on"
            }
        };
        self.notify(&format!("READY=1\nSTATUS={status}"));
        let report = match outcome {
            ReloadOutcome::Done | ReloadOutcome::Abandoned => None,
            ReloadOutcome::Misconfigured | ReloadOutcome::CanaryFailed | ReloadOutcome::Halted => {
                self.last_report.take()
            }
        };
        for id in self.waiting.end(outcome) {
            self.admin.respond(id, &admin::reload::response(outcome, report.as_deref()));
        }
        self.last_reload = Some(EndedReload { outcome, at: Instant::now(), report });
    }
}
