//! The samples of a running profile: equal stacks are counted, so that its size depends on the application's code and
//! not on its time.
//!
//! The route of a request is known once its call has ended. Until then, the samples of each worker's running request are
//! counted apart.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::samples::Message;
use arctos_worker::shared::samples::message::{Code, SampledFrame, UNKNOWN_OFFSET};
use arctos_worker::shared::series::OTHER;

use super::lines::line_at;
use super::numbered::Numbered;
use super::report::{Frame, NO_ROUTE, Profile, Stack, UNFINISHED, WorkerTally};

/// The maximum number of different stacks. Others count as one, which says so.
const MAX_STACKS: usize = 20_000;
/// The maximum number of different lines, and of code objects.
const MAX_FRAMES: usize = 50_000;
/// The maximum number of different routes. Others count as one, as they do in the metrics.
const MAX_ROUTES: usize = 1000;
/// The maximum number of processes whose running requests are kept. There are never as many workers.
const MAX_RUNNING: usize = 10_000;

/// What the server, and not the application, was doing.
pub const SERVER_FRAME: &str = "[server]";
/// The worker did not take the sample: it was stopped, or waited in the kernel where no signal reaches it.
pub const UNANSWERED_FRAME: &str = "[no answer]";
/// Stacks above the maximum.
const OTHER_FRAME: &str = "[other stacks]";
/// A frame whose function could not be read.
const UNKNOWN_FRAME: &str = "[unknown]";

/// The number of a frame in the report.
type FrameId = u32;
/// The number of a stack, whoever ran it.
type PathId = u32;

/// The samples so far.
#[derive(Default)]
pub struct Recording {
    frames: Numbered<Frame, MAX_FRAMES>,
    codes: HashMap<(u32, u32), Rc<Code>>,
    /// Instructions that were resolved, by process.
    resolved: HashMap<(u32, SampledFrame), FrameId>,
    paths: Numbered<Vec<FrameId>, MAX_STACKS>,
    routes: Numbered<String, MAX_ROUTES>,
    stacks: HashMap<StackKey, u64>,
    /// By process.
    running: HashMap<u32, RunningRequest>,
    workers: HashMap<SlotId, WorkerTally>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct StackKey {
    slot: SlotId,
    route: Route,
    path: PathId,
}

/// What is known of the route of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Route {
    /// No request ran.
    Inapplicable,
    /// The application has named none.
    Unnamed,
    /// The request did not end.
    Unfinished,
    /// Its number.
    Named(u32),
}

/// A request whose call had not ended when it was sampled.
struct RunningRequest {
    request: u64,
    stacks: HashMap<StackKey, u64>,
}

impl Recording {
    /// A worker was idle for this many ticks: it waited for requests.
    pub fn add_idle(&mut self, slot: SlotId, ticks: u64) {
        self.tally(slot).idle_count += ticks;
    }

    /// The server's own code was running, or nothing was known of a sample.
    pub fn add_server(&mut self, slot: SlotId, ticks: u64) {
        self.add_named(slot, SERVER_FRAME, ticks);
    }

    /// A worker took no sample in this many ticks.
    pub fn add_unanswered(&mut self, slot: SlotId, ticks: u64) {
        self.add_named(slot, UNANSWERED_FRAME, ticks);
    }

    /// Samples were lost because they had no room, or could not be read.
    pub fn add_lost(&mut self, slot: SlotId, samples: u64) {
        self.tally(slot).lost_count += samples;
    }

    /// A message of a worker in this slot; `weight` is the number of ticks that a sample stands for.
    pub fn add_message(&mut self, slot: SlotId, message: Message, weight: u64) {
        match message {
            Message::Code { pid, code } => {
                if self.codes.len() < MAX_FRAMES {
                    self.codes.insert((pid, code.number), Rc::new(code));
                }
            }
            Message::Sample { pid, request, frames } => {
                let mut stack: Vec<_> =
                    frames.iter().map(|frame| self.resolve(pid, *frame)).collect();
                stack.reverse();
                if stack.is_empty() {
                    return self.add_server(slot, weight);
                }
                self.tally(slot).busy_count += weight;
                let path = self.path(stack);
                match request {
                    0 => self.count(StackKey { slot, route: Route::Inapplicable, path }, weight),
                    _ => {
                        let key = StackKey { slot, route: Route::Unfinished, path };
                        self.add_running(pid, request, key, weight);
                    }
                }
            }
            Message::Route { pid, request, route } => self.end_call(pid, request, route),
        }
    }

    /// A worker has ended, or the profile does. Its request did not.
    pub fn end_process(&mut self, pid: u32) {
        if let Some(running) = self.running.remove(&pid) {
            self.settle(running, Route::Unfinished);
        }
    }

    /// Ends the profile, which took this long.
    pub fn finish(mut self, elapsed: std::time::Duration) -> Profile {
        for running in std::mem::take(&mut self.running).into_values() {
            self.settle(running, Route::Unfinished);
        }
        if self.routes.is_empty() {
            self.forget_routes();
        }
        let (paths, routes) = (self.paths.into_values(), self.routes.into_values());
        let route_of = |route| match route {
            Route::Inapplicable => None,
            Route::Unnamed => Some(NO_ROUTE.to_owned()),
            Route::Unfinished => Some(UNFINISHED.to_owned()),
            Route::Named(number) => routes.get(number as usize).cloned(),
        };
        let path_of = |path: PathId| paths.get(path as usize).cloned().unwrap_or_default();
        let mut stacks: Vec<_> = self.stacks.into_iter().collect();
        stacks.sort_unstable_by_key(|(key, count)| (key.slot.0, u64::MAX - count, *key));
        let stacks = stacks.into_iter().map(|(key, count)| Stack {
            slot: key.slot.0,
            route: route_of(key.route),
            frames: path_of(key.path),
            count,
        });
        let mut workers: Vec<_> = self.workers.into_values().collect();
        workers.sort_unstable_by_key(|worker| worker.slot);
        Profile {
            seconds: elapsed.as_secs_f64(),
            interval_ms: super::INTERVAL.as_millis().try_into().unwrap_or(0),
            workers,
            frames: self.frames.into_values(),
            stacks: stacks.collect(),
        }
    }

    /// A sample of a request that is still running.
    fn add_running(&mut self, pid: u32, request: u64, key: StackKey, ticks: u64) {
        if self.running.get(&pid).is_some_and(|running| running.request != request) {
            self.end_process(pid); // Without a route, which no worker leaves out.
        }
        let is_full = self.running.len() >= MAX_RUNNING;
        match self.running.entry(pid) {
            Entry::Occupied(mut running) => {
                *running.get_mut().stacks.entry(key).or_insert(0) += ticks;
            }
            Entry::Vacant(new) if !is_full => {
                new.insert(RunningRequest { request, stacks: [(key, ticks)].into() });
            }
            Entry::Vacant(_) => self.count(key, ticks),
        }
    }

    /// The call of a request has ended.
    fn end_call(&mut self, pid: u32, request: u64, route: Option<String>) {
        let Entry::Occupied(running) = self.running.entry(pid) else { return };
        if running.get().request != request {
            return; // An earlier profile has sampled it.
        }
        let running = running.remove();
        let route = match route {
            Some(route) => Route::Named(self.routes.number(route, || OTHER.to_owned())),
            None => Route::Unnamed,
        };
        self.settle(running, route);
    }

    fn settle(&mut self, running: RunningRequest, route: Route) {
        for (key, ticks) in running.stacks {
            self.count(StackKey { route, ..key }, ticks);
        }
    }

    /// Nothing is said about routes where there are none.
    fn forget_routes(&mut self) {
        for (key, count) in std::mem::take(&mut self.stacks) {
            let key = StackKey { route: Route::Inapplicable, ..key };
            *self.stacks.entry(key).or_insert(0) += count;
        }
    }

    fn add_named(&mut self, slot: SlotId, name: &str, ticks: u64) {
        if ticks > 0 {
            let frame = self.frame(named(name));
            self.tally(slot).busy_count += ticks;
            let path = self.path(vec![frame]);
            self.count(StackKey { slot, route: Route::Inapplicable, path }, ticks);
        }
    }

    fn path(&mut self, frames: Vec<FrameId>) -> PathId {
        let all = &mut self.frames;
        self.paths.number(frames, || vec![all.number(named(OTHER_FRAME), || named(UNKNOWN_FRAME))])
    }

    fn other_path(&mut self) -> PathId {
        let frames = vec![self.frame(named(OTHER_FRAME))];
        self.paths.number(frames.clone(), || frames)
    }

    fn count(&mut self, key: StackKey, ticks: u64) {
        let has_room = self.stacks.len() < MAX_STACKS || self.stacks.contains_key(&key);
        let key = if has_room { key } else { StackKey { path: self.other_path(), ..key } };
        *self.stacks.entry(key).or_insert(0) += ticks;
    }

    fn tally(&mut self, slot: SlotId) -> &mut WorkerTally {
        let new = || WorkerTally { slot: slot.0, ..WorkerTally::default() };
        self.workers.entry(slot).or_insert_with(new)
    }

    fn resolve(&mut self, pid: u32, frame: SampledFrame) -> FrameId {
        if let Some(id) = self.resolved.get(&(pid, frame)) {
            return *id;
        }
        let found = match self.codes.get(&(pid, frame.code)).cloned() {
            Some(code) => Frame {
                line: match frame.offset {
                    UNKNOWN_OFFSET => code.first_line,
                    offset => line_at(code.format, &code.lines, code.first_line, offset),
                },
                first_line: code.first_line,
                function: code.name.clone(),
                file: code.file.clone(),
            },
            None => named(UNKNOWN_FRAME),
        };
        let id = self.frame(found);
        if self.resolved.len() < MAX_FRAMES {
            self.resolved.insert((pid, frame), id);
        }
        id
    }

    fn frame(&mut self, frame: Frame) -> FrameId {
        self.frames.number(frame, || named(UNKNOWN_FRAME))
    }
}

/// A frame that stands for something else than Python code.
fn named(function: &str) -> Frame {
    Frame { function: function.to_owned(), ..Frame::default() }
}

#[cfg(test)]
mod tests;
