//! `--on-start`: the first workers of a generation are held back until it has been opened.
//!
//! The machine knows nothing of it: to it, these spawns take their time, and fail if the opening does. So a
//! first start ends as it does with a worker that cannot boot, and a reload changes nothing.

use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::Side;

use super::Monitor;
use crate::process::fork::ChildSetup;
use crate::process::on_start::{OnStart, OnStartError};
use crate::process::title::on_start_title;
use crate::supervisor::STACK_DUMP_TIME;
use crate::supervisor::log_event::not_ready_within;
use crate::supervisor::slot::ExitStatus;
use crate::system::duration::shown;
use crate::system::pid::Pid;

/// See the module. There is one at a time: a reload begins when what the one before began is gone.
#[derive(Default)]
pub(super) struct OnStartRuns {
    under_way: Option<UnderWay>,
    /// All up to this one have been opened, or never will be. None at first.
    newest: Option<Generation>,
}

struct UnderWay {
    generation: Generation,
    opening: OnStart,
    /// Who waits for it.
    held: Vec<(SlotId, Side)>,
}

impl OnStartRuns {
    /// When [`Monitor::judge_opening`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|it| it.opening.deadline())
    }

    /// The process at work.
    pub(super) fn opening(&self) -> Option<&OnStart> {
        self.under_way.as_ref().map(|it| &it.opening)
    }
}

impl Monitor<'_> {
    /// Whether this spawn has to wait; it is carried out, or answered, later. Begins the opening if need be.
    ///
    /// Errors: there is no process for it.
    pub(super) fn hold(
        &mut self,
        slot: SlotId,
        side: Side,
        generation: Generation,
    ) -> Result<bool, OnStartError> {
        let Some(loaded) = self.generations.of(generation) else { return Ok(false) };
        let config = &loaded.load.config;
        // A zygote opens its generation itself.
        let needs_none = config.preload || config.application.hooks.on_start.is_empty();
        if needs_none || self.openings.newest.is_some_and(|newest| generation <= newest) {
            return Ok(false);
        }
        if let Some(under_way) = &mut self.openings.under_way
            && under_way.generation == generation
        {
            under_way.held.push((slot, side));
            return Ok(true);
        }
        let mut own = self.own_descriptors();
        own.extend(self.process.as_fd());
        let setup = ChildSetup {
            signals: &self.signals,
            identity: &loaded.identity,
            title: on_start_title(config.process_name()),
            own,
        };
        let (launch, patience) = (&*loaded.load.launch, config.patience.boot);
        let now = Instant::now();
        let opening = OnStart::start(launch, generation, &setup, &self.log, patience, now)?;
        let number = Value::Number(i64::from(generation.0));
        let pairs = [("generation", number), ("pid", Value::Number(i64::from(opening.pid().0)))];
        self.log.line(Level::Info, "generation.opening", &pairs);
        let held = vec![(slot, side)];
        self.openings.under_way = Some(UnderWay { generation, opening, held });
        Ok(true)
    }

    /// Takes in what the process said.
    pub(super) fn hear_opening(&mut self) {
        if let Some(under_way) = &mut self.openings.under_way {
            under_way.opening.receive();
        }
    }

    /// Whether the reaped child was the process at work.
    pub(super) fn bury_opening(&mut self, pid: Pid, status: ExitStatus) -> bool {
        let ours = self.openings.under_way.take_if(|it| it.opening.pid() == pid);
        let Some(UnderWay { generation, opening, held }) = ours else { return false };
        match opening.finish(status) {
            Ok(()) => {
                self.openings.newest = Some(generation);
                for (slot, side) in held {
                    self.spawn_or_refuse(slot, side, generation);
                }
            }
            Err(report) => self.give_up_opening(generation, held, report),
        }
        true
    }

    /// Is its time up?
    pub(super) fn judge_opening(&mut self, now: Instant) {
        let is_late = |it: &mut UnderWay| it.opening.deadline() <= now;
        if let Some(it) = self.openings.under_way.as_mut()
            && is_late(it)
            && let Some(limit) = it.opening.request_stack(now + STACK_DUMP_TIME)
        {
            let pairs = [
                ("generation", Value::Number(i64::from(it.generation.0))),
                ("pid", Value::Number(i64::from(it.opening.pid().0))),
                ("reason", Value::Text(&not_ready_within(limit))),
            ];
            self.log.line(Level::Error, "generation.not_ready", &pairs);
            return;
        }
        let late = self.openings.under_way.take_if(is_late);
        let Some(UnderWay { generation, opening, held }) = late else { return };
        let limit = shown(opening.timeout());
        opening.kill_and_reap();
        let report =
            format!("The hooks of --on-start were not done within --boot-timeout {limit}.\n");
        self.give_up_opening(generation, held, report);
    }

    /// The generation is not wanted any more, or, where none is named, no worker is.
    pub(super) fn end_opening(&mut self, generation: Option<Generation>) {
        let unwanted =
            |it: &mut UnderWay| generation.is_none_or(|given_up| it.generation == given_up);
        let Some(UnderWay { opening, held, .. }) = self.openings.under_way.take_if(unwanted) else {
            return;
        };
        opening.kill_and_reap();
        for (slot, side) in held {
            self.refuse(slot, side);
        }
    }

    fn give_up_opening(
        &mut self,
        generation: Generation,
        held: Vec<(SlotId, Side)>,
        report: String,
    ) {
        let pairs = [("generation", Value::Number(i64::from(generation.0)))];
        self.log.block(Level::Error, "generation.not_opened", &pairs, &report);
        self.blame_by_report("the process of --on-start");
        self.last_report = Some(report);
        for (slot, side) in held {
            self.refuse(slot, side);
        }
    }
}
