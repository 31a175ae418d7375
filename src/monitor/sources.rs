//! All sources that the loop waits for.

use super::admin::AdminSource;
use super::crashes::Crashes;
use super::metrics::Metrics;
use super::on_start::OnStartProcess;
use super::profiles::Profiles;
use super::quarantine::QuarantineSource;
use super::shared_connections::SharedConnections;
use super::source::Source;
use super::upgrade::UpgradeSource;
use super::victims::Victims;
use super::watchdog::WatchdogSource;
use super::watcher::WatcherSource;
use super::workers::Workers;
use super::zygotes::Zygotes;
use crate::process::signals::Signals;

/// One field for each source.
pub(super) struct Sources<'a> {
    pub(super) signals: Signals,
    pub(super) on_start: OnStartProcess,
    pub(super) zygotes: Zygotes,
    pub(super) workers: Workers,
    pub(super) shared_connections: SharedConnections,
    pub(super) victims: Victims,
    pub(super) upgrade: UpgradeSource,
    pub(super) crashes: Crashes,
    pub(super) quarantine: QuarantineSource,
    pub(super) metrics: Metrics,
    pub(super) admin: AdminSource,
    pub(super) optional: OptionalSources<'a>,
}

/// The sources that not every server has, or not all the time.
pub(super) struct OptionalSources<'a> {
    pub(super) watchdog: WatchdogSource,
    pub(super) watcher: WatcherSource<'a>,
    pub(super) profiles: Profiles,
}

/// The number of sources.
const COUNT: usize = 14;

impl Sources<'_> {
    /// Returns the sources in the order in which the loop handles them. Signals come first, so that a command is
    /// handled before its consequences. Zygotes come before workers, because they report new workers. The requests of
    /// operators come last, so that responses include everything that happened in this round.
    pub(super) fn all(&self) -> [&dyn Source; COUNT] {
        [
            &self.signals,
            &self.on_start,
            &self.zygotes,
            &self.workers,
            &self.shared_connections,
            &self.victims,
            &self.upgrade,
            &self.optional.watchdog,
            &self.optional.watcher,
            &self.crashes,
            &self.quarantine,
            &self.optional.profiles,
            &self.metrics,
            &self.admin,
        ]
    }

    /// Returns the source with this index in the order of [`Self::all`].
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut dyn Source> {
        let all: [&mut dyn Source; COUNT] = [
            &mut self.signals,
            &mut self.on_start,
            &mut self.zygotes,
            &mut self.workers,
            &mut self.shared_connections,
            &mut self.victims,
            &mut self.upgrade,
            &mut self.optional.watchdog,
            &mut self.optional.watcher,
            &mut self.crashes,
            &mut self.quarantine,
            &mut self.optional.profiles,
            &mut self.metrics,
            &mut self.admin,
        ];
        all.into_iter().nth(index)
    }
}
