//! The running profile as a source: asks workers for samples at each tick, reads what they wrote, and answers the client
//! at the end.
//!
//! The supervisor sends one signal for each sample, so there is nothing to stop in a worker. It knows which processes
//! still exist, because it reaps them itself, and never signals another one. It asks only workers that are in a call of
//! the application, and none that has not answered yet: signals would pile up.
//!
//! | state of a worker at a tick | what is counted |
//! |---|---|
//! | its loop sleeps | idle time |
//! | no call of the application runs | `[server]` |
//! | a call runs | a signal, and at the next tick the sample that it has made |
//! | it has not answered the last signal | the ticks are added to the sample that comes at last, or to `[no answer]` |
//! | it boots | nothing |
//!
//! Ticks that the supervisor missed are added to the next ones, so that the numbers stay shares of time. A client that
//! does not wait any longer ends its profile.

use std::time::{Duration, Instant};

use arctos_worker::process::stack_sampler;
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::samples::SampleArea;
use arctos_worker::shared::samples::message::{self, Message};
use arctos_worker::shared::scoreboard::{Scoreboard, Side};

use super::Monitor;
use super::children::Child;
use super::source::{Report, Round, Source};
use crate::admin::{AdminResponse, RequestId};
use crate::profile::{INTERVAL, Recording};
use crate::system::pid::Pid;

/// The profile that runs, if one does.
#[derive(Default)]
pub(super) struct Profiles {
    running: Option<Running>,
    /// The number of the last one.
    session: u32,
}

/// What a client wants to have sampled.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) seconds: u16,
    /// `None` for all slots.
    pub(super) slot: Option<SlotId>,
}

struct Running {
    id: RequestId,
    scope: Scope,
    session: u32,
    started: Instant,
    end: Instant,
    /// The number of ticks so far.
    ticks: u64,
    recording: Recording,
    workers: Vec<SampledWorker>,
}

/// A worker that takes part.
struct SampledWorker {
    pid: Pid,
    slot: SlotId,
    side: Side,
    area: &'static SampleArea,
    lost_before: u64,
    /// The ticks since the signal that was not answered yet; 0 if there is none.
    unanswered: u64,
}

impl Profiles {
    /// How long the running profile still takes.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.running.as_ref().map(|running| running.end.saturating_duration_since(now))
    }

    /// Begins a profile, whose client waits for the response to this request. None must be running.
    pub(super) fn begin(
        &mut self,
        id: RequestId,
        scope: Scope,
        scoreboard: &Scoreboard,
        now: Instant,
    ) {
        // 0 stands for none.
        self.session = self.session.checked_add(1).unwrap_or(1);
        for area in areas(scoreboard, scope) {
            area.begin(self.session);
        }
        self.running = Some(Running {
            id,
            scope,
            session: self.session,
            started: now,
            end: now + Duration::from_secs(scope.seconds.into()),
            ticks: 0,
            recording: Recording::default(),
            workers: Vec::new(),
        });
    }
}

impl Source for Profiles {
    fn next_deadline(&self) -> Option<Instant> {
        self.running.as_ref().map(Running::next_tick)
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        if self.running.as_ref().is_some_and(|running| round.now >= running.next_tick()) {
            reports.push(Report::ProfileDue);
        }
    }
}

impl Monitor<'_> {
    /// Takes the samples of a tick, and ends the profile if it is over.
    pub(super) fn sample_workers(&mut self, now: Instant) {
        let Self { sources, server, .. } = self;
        let profiles = &mut sources.optional.profiles;
        let Some(running) = &mut profiles.running else { return };
        running.tick(sources.workers.all(), &server.scoreboard, now);
        let is_awaited = sources.admin.admin.is_waiting(running.id);
        if now < running.end && is_awaited {
            return;
        }
        let Some(running) = profiles.running.take() else { return };
        let id = running.id;
        let report = running.finish(&server.scoreboard, now);
        let body = if is_awaited { report } else { String::new() };
        let response = AdminResponse { status: 200, content_type: "application/json", body };
        sources.admin.admin.respond(id, &response);
    }
}

impl Running {
    fn next_tick(&self) -> Instant {
        let ticks = u32::try_from(self.ticks).unwrap_or(u32::MAX).saturating_add(1);
        (self.started + INTERVAL * ticks).min(self.end)
    }

    fn tick(&mut self, children: &[Child], scoreboard: &Scoreboard, now: Instant) {
        let elapsed =
            now.saturating_duration_since(self.started).as_millis() / INTERVAL.as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let ticks = elapsed.saturating_sub(self.ticks);
        self.ticks = elapsed;
        let recording = &mut self.recording;
        for worker in &mut self.workers {
            worker.drain(recording);
        }
        let session = self.session;
        self.workers.retain(|worker| {
            // A worker that was reaped has written everything that it could.
            let is_there = children.iter().any(|child| child.pid == worker.pid);
            if !is_there {
                worker.conclude(recording);
            }
            is_there
        });
        if now >= self.end {
            return; // Nobody would read the answers.
        }
        let is_meant = |child: &&Child| self.scope.slot.is_none_or(|slot| slot == child.slot);
        for child in children.iter().filter(is_meant) {
            let known = self.workers.iter_mut().find(|worker| worker.pid == child.pid);
            if let Some(worker) = known {
                worker.ask(child, recording, ticks);
            } else if let Some(mut worker) = SampledWorker::of(child, scoreboard) {
                if worker.area.session() != Some(session) {
                    worker.area.begin(session);
                }
                worker.ask(child, recording, ticks);
                self.workers.push(worker);
            }
        }
    }

    fn finish(mut self, scoreboard: &Scoreboard, now: Instant) -> String {
        for worker in &mut self.workers {
            worker.drain(&mut self.recording);
            worker.conclude(&mut self.recording);
        }
        for area in areas(scoreboard, self.scope) {
            area.end();
        }
        for worker in &self.workers {
            // This fails only on file systems without holes; the memory is then used again by the next profile.
            let _ = scoreboard.release_samples(worker.slot, worker.side);
        }
        self.recording.finish(now.saturating_duration_since(self.started)).to_json()
    }
}

/// The areas of all workers that a profile is about, now or later.
fn areas(scoreboard: &Scoreboard, scope: Scope) -> impl Iterator<Item = &'static SampleArea> {
    let is_meant = move |slot: &SlotId| scope.slot.is_none_or(|only| only == *slot);
    let slots = (0..scoreboard.slot_count()).map(SlotId).filter(is_meant);
    slots.flat_map(|slot| Side::BOTH.map(|side| scoreboard.samples(slot, side))).flatten()
}

impl SampledWorker {
    /// A worker that can take samples; `None` while it boots.
    fn of(child: &Child, scoreboard: &Scoreboard) -> Option<Self> {
        let is_here = |side: &Side| {
            let entry = scoreboard.entry(child.slot, *side);
            entry.is_some_and(|entry| std::ptr::eq(entry, child.entry))
        };
        let side = Side::BOTH.into_iter().find(is_here)?;
        let area = scoreboard.samples(child.slot, side)?;
        if !area.is_installed(u32::try_from(child.pid.0).ok()?) {
            return None;
        }
        let (pid, slot, lost_before) = (child.pid, child.slot, area.lost());
        Some(Self { pid, slot, side, area, lost_before, unanswered: 0 })
    }

    /// Reads what the worker has written since the last tick.
    fn drain(&mut self, recording: &mut Recording) {
        let (slot, pid) = (self.slot, u32::try_from(self.pid.0).unwrap_or(0));
        let unanswered = &mut self.unanswered;
        self.area.drain(|words| match message::read(words) {
            Some(message @ (Message::Code { .. } | Message::Route { .. })) => {
                recording.add_message(slot, message, 0);
            }
            Some(message @ Message::Sample { pid: from, .. }) => {
                // Another worker had this area before, and its last samples count, too.
                let weight = if from == pid { std::mem::take(unanswered).max(1) } else { 1 };
                recording.add_message(slot, message, weight);
            }
            None => {}
        });
        let lost = self.area.lost().saturating_sub(self.lost_before);
        if lost > 0 {
            // It has answered, but there was nothing to read.
            recording.add_lost(slot, lost);
            self.lost_before += lost;
            recording.add_server(slot, std::mem::take(unanswered));
        }
    }

    /// Accounts for the time since the last tick, and asks for a sample if a call of the application runs.
    fn ask(&mut self, child: &Child, recording: &mut Recording, ticks: u64) {
        if self.unanswered > 0 {
            self.unanswered += ticks;
        } else if child.entry.is_asleep() {
            recording.add_idle(self.slot, ticks);
        } else if child.entry.call_start().is_none() {
            recording.add_server(self.slot, ticks);
        } else if stack_sampler::ask(self.pid.0).is_ok() {
            self.unanswered = ticks;
        }
    }

    /// The profile ends, or the worker has ended.
    fn conclude(&self, recording: &mut Recording) {
        recording.add_unanswered(self.slot, self.unanswered);
        recording.end_process(u32::try_from(self.pid.0).unwrap_or(0));
    }
}
