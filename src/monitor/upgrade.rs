//! The predecessor and the successor of this server in an upgrade (USR2), as a source. `handover` carries out what
//! follows from its reports.
//!
//! From the start of a successor until it owns everything, both servers serve from the same queues. If one of them ends
//! in this time, the other one has lost nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arctos_worker::shared::fd::{self, Message};
use nix::poll::{PollFd, PollFlags};

use super::source::{Reaped, Report, Round, Source};
use super::upgrade_report::UpgradeReport;
use crate::listener::InheritedSockets;
use crate::metrics::CarriedTotals;
use crate::process::reexec::{self, COUNTED, DYING, Handover, KEPT, READY, UNSENT, YOURS};
use crate::supervisor::restart_storm::crash_baseline::{self, CrashBaseline};
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::upgrade::Upgrade;
use crate::supervisor::upgrade::successor::Successor;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// Maximum number of messages of another server that are read at a time.
const MESSAGES_AT_A_TIME: usize = 64;
/// The interval at which totals are sent to the other servers.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The sockets to the other servers, and the progress of an upgrade.
pub(super) struct UpgradeSource {
    /// The state of this server as a successor.
    pub(super) successor: Successor,
    /// The predecessor of this server, until its process is gone.
    pub(super) predecessor: Option<Predecessor>,
    /// The state of this server as a predecessor.
    pub(super) upgrade: Upgrade,
    /// The socket to the successor, if there is one.
    pub(super) line: Option<UnixStream>,
    pub(super) next_report: Instant,
    /// The totals of the successor, and those of them that it could not send. This server adds them to its own if the
    /// successor fails.
    pub(super) carried_totals: Option<CarriedTotals>,
    pub(super) carried_unsent: Option<CarriedTotals>,
    /// The requests in which workers of the predecessor crash, until this server owns everything.
    pub(super) baseline: CrashBaseline,
}

/// The predecessor of this server.
pub(super) struct Predecessor {
    pub(super) pid: Pid,
    pub(super) line: UnixStream,
    pub(super) pid_file: Option<PathBuf>,
}

impl UpgradeSource {
    /// Returns the source for a server with this handover of its predecessor, if it has one, and the inherited
    /// listeners of the admin socket.
    pub(super) fn begin(handover: Option<Handover>, now: Instant) -> (Self, InheritedSockets) {
        let (successor, predecessor, admin) = match handover {
            None => (Successor::without_predecessor(), None, InheritedSockets::default()),
            Some(Handover { predecessor: pid, socket: line, pid_file, admin, .. }) => {
                (Successor::booting(), Some(Predecessor { pid, line, pid_file }), admin)
            }
        };
        let source = Self {
            successor,
            predecessor,
            upgrade: Upgrade::idle(),
            line: None,
            next_report: now,
            carried_totals: None,
            carried_unsent: None,
            baseline: CrashBaseline::new(BTreeMap::new(), now),
        };
        (source, admin)
    }

    /// Whether this server alone owns the listeners, the pid file and the like.
    pub(super) fn is_owner(&self) -> bool {
        self.successor.is_owner()
    }

    /// Whether there is a successor that owns nothing yet.
    pub(super) fn is_pending(&self) -> bool {
        self.upgrade.is_pending()
    }

    /// Sends the totals that no statsd agent received to the server that goes on.
    pub(super) fn send_unsent(&self, unsent: &CarriedTotals) {
        let before = self.predecessor.as_ref().filter(|_| !self.is_owner());
        if let Some(line) = before.map(|before| &before.line).or(self.line.as_ref()) {
            let _ = reexec::send_totals(line, UNSENT, unsent); // If that server is gone, these totals are lost.
        }
    }

    /// Sends the crash rates of this server's workers to the successor, because its workers get the same requests.
    pub(super) fn send_crash_rates(&self, rates: &BTreeMap<String, u64>) {
        if let Some(line) = self.line.as_ref().filter(|_| !rates.is_empty()) {
            // On an error, the successor is gone, or it gets the next rates.
            let _ = reexec::send_text(line, DYING, &crash_baseline::encode(rates));
        }
    }

    fn lines(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let before = self.predecessor.iter().map(|before| before.line.as_fd());
        before.chain(self.line.iter().map(UnixStream::as_fd))
    }

    fn read_predecessor(&mut self, reports: &mut Vec<Report>) {
        let mut report = |report| reports.push(Report::Upgrade(report));
        for _ in 0..MESSAGES_AT_A_TIME {
            let Some(before) = &self.predecessor else { return };
            match fd::receive_message(before.line.as_fd()) {
                Message::Nothing => return,
                Message::Received { word: DYING, descriptor } => {
                    let text = descriptor.and_then(reexec::read_text).unwrap_or_default();
                    self.baseline.extend(crash_baseline::decode(&text));
                }
                Message::Received { word: UNSENT, descriptor } => {
                    if let Some(unsent) = descriptor.and_then(reexec::read_totals) {
                        report(UpgradeReport::PredecessorUnsent(Box::new(unsent)));
                    }
                }
                Message::Received { word: KEPT, descriptor } => {
                    // Without a descriptor (EMFILE), the predecessor closes these connections.
                    descriptor.into_iter().for_each(|socket| {
                        report(UpgradeReport::PredecessorConnections(socket));
                    });
                }
                Message::Received { word, descriptor } => {
                    let totals = descriptor.and_then(reexec::read_totals);
                    report(UpgradeReport::PredecessorTotals(totals.map(Box::new)));
                    if word == YOURS {
                        report(UpgradeReport::TakeOver);
                    }
                }
                Message::Ended => {
                    report(UpgradeReport::TakeOver);
                    report(UpgradeReport::PredecessorEnded);
                    return;
                }
            }
        }
    }

    fn read_successor(&mut self, reports: &mut Vec<Report>) {
        for _ in 0..MESSAGES_AT_A_TIME {
            let Some(line) = &self.line else { return };
            match fd::receive_message(line.as_fd()) {
                Message::Nothing => return,
                Message::Received { word: READY, .. } => {
                    let action = self.upgrade.ready().map(UpgradeReport::Act);
                    reports.extend(action.map(Report::Upgrade));
                }
                Message::Received { word: COUNTED, descriptor } => {
                    let totals = descriptor.and_then(reexec::read_totals);
                    self.carried_totals = totals.or(self.carried_totals.take());
                }
                Message::Received { word: UNSENT, descriptor } => {
                    self.carried_unsent = descriptor.and_then(reexec::read_totals);
                }
                Message::Received { .. } => {} // A message of a later version is not needed here.
                Message::Ended => self.line = None,
            }
        }
    }
}

impl Source for UpgradeSource {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        fds.extend(self.lines().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        let before = self.predecessor.as_ref().filter(|_| !self.is_owner());
        let reports = self.line.is_some() || before.is_some();
        let report = reports.then_some(self.next_report);
        [self.successor.next_deadline(), self.upgrade.next_deadline(), report]
            .into_iter()
            .flatten()
            .min()
    }

    fn pids(&self) -> Vec<Pid> {
        self.upgrade.pid().into_iter().collect()
    }

    fn read(&mut self, _round: &Round, reports: &mut Vec<Report>) {
        self.read_predecessor(reports);
        self.read_successor(reports);
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        let now = round.now;
        let action = self.upgrade.check_deadlines(round.patience().graceful, now);
        reports.extend(action.map(UpgradeReport::Act).map(Report::Upgrade));
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            reports.push(Report::Upgrade(UpgradeReport::TotalsDue));
        }
        if self.successor.check_probation(now) {
            reports.push(Report::Upgrade(UpgradeReport::Proved));
        }
    }

    fn reap(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        _round: &Round,
        reports: &mut Vec<Report>,
    ) -> Option<Reaped> {
        if self.upgrade.pid() != Some(pid) {
            return None;
        }
        self.read_successor(reports);
        self.line = None;
        reports.push(Report::Upgrade(UpgradeReport::SuccessorExited { pid, status }));
        Some(Reaped::Unmanaged)
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend(self.lines());
    }
}
