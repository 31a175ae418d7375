//! The state of the screen: keys and samples go in, effects come out.
//!
//! | key | effect |
//! |---|---|
//! | arrows, `j`, `k`, page and end keys | select a worker |
//! | `p`, `P` | samples the worker, or all, for five seconds, and shows the functions that take the time |
//! | `d` | makes the worker write its Python stack to the server's log |
//! | `r` | replaces the worker |
//! | `R`, then `y` | reloads the server |
//! | `t` | shows the routes, or the workers again; there, arrows scroll |
//! | `s` | changes the order of the workers |
//! | `?` | shows help |
//! | `q`, Escape, Ctrl-C | closes help, a question or the routes, or quits |
//!
//! A worker is selected by slot and process, not by its line: a new order of the lines must not make a key act on
//! another worker.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::SlotId;

use super::keys::Key;
use super::pace::Pace;
use super::sample::{Sample, WorkerRow};
use crate::admin::verb::Verb;

/// Number of samples in the history: the width of a wide screen.
const HISTORY: usize = 240;
/// How long a profile takes.
const PROFILE_SECONDS: u16 = 5;
/// Number of lines that a page key moves.
const PAGE: isize = 10;

/// The state of the screen.
pub(super) struct Screen {
    /// The address of the admin socket.
    pub(super) address: String,
    /// The last sample.
    pub(super) sample: Sample,
    /// The rates before the last sample.
    pub(super) pace: Option<Pace>,
    /// Requests per second, the newest last.
    pub(super) history: VecDeque<f64>,
    pub(super) reachability: Reachability,
    pub(super) sort: Sort,
    pub(super) dialog: Dialog,
    /// The response to the last verb.
    pub(super) message: Option<String>,
    /// The lines of the last profile.
    pub(super) profile: Vec<String>,
    selected: Option<Selection>,
}

/// Whether the server responds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reachability {
    Reachable,
    Unreachable { since_last: Duration, text: String },
}

/// The dialog in front of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    Nothing,
    Help,
    /// Asks whether to reload.
    Reload,
    /// Shows the last profile.
    Profile,
    /// Shows the routes from this line on.
    Routes {
        first: usize,
    },
}

/// The order of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Slot,
    /// The most requests per second first.
    Requests,
    /// The largest first.
    Rss,
    /// The longest running request first.
    Running,
}

/// The selected worker, and its line at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Selection {
    slot: u16,
    pid: Option<u64>,
    line: usize,
}

/// An input of the screen.
pub(super) enum Input {
    Key(Key),
    /// A new sample.
    Sample(Box<Sample>),
    /// The sample failed.
    Failure {
        text: String,
        at: Instant,
    },
    /// The response to a verb.
    Response(String),
    /// The text of a profile.
    Profile(String),
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Send a verb to the server.
    Send {
        verb: Verb,
    },
    Suspend,
    Repaint,
    Quit,
}

impl Sort {
    /// The name on the screen.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Requests => "req/s",
            Self::Rss => "rss",
            Self::Running => "request",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Slot => Self::Requests,
            Self::Requests => Self::Rss,
            Self::Rss => Self::Running,
            Self::Running => Self::Slot,
        }
    }
}

impl Screen {
    /// The screen of the first sample.
    pub(super) fn new(address: String, sample: Sample) -> Self {
        let mut screen = Self {
            address,
            sample,
            pace: None,
            history: VecDeque::new(),
            reachability: Reachability::Reachable,
            sort: Sort::Slot,
            dialog: Dialog::Nothing,
            message: None,
            profile: Vec::new(),
            selected: None,
        };
        screen.select(0);
        screen
    }

    /// Handles an input.
    pub(super) fn update(&mut self, input: Input) -> Effect {
        match input {
            Input::Key(key) => return self.press(key),
            Input::Sample(sample) => self.show(*sample),
            Input::Failure { text, at } => {
                let since_last = at.saturating_duration_since(self.sample.at);
                self.reachability = Reachability::Unreachable { since_last, text };
            }
            Input::Response(text) => self.message = Some(text),
            Input::Profile(text) => {
                self.profile = text.lines().map(str::to_owned).collect();
                self.message = None;
                self.dialog = Dialog::Profile;
            }
        }
        Effect::Nothing
    }

    /// The workers in the order of the screen.
    pub(super) fn rows(&self) -> Vec<&WorkerRow> {
        let mut rows: Vec<&WorkerRow> = self.sample.workers.iter().collect();
        rows.sort_by_key(|worker| worker.slot);
        let per_second = |worker: &WorkerRow| {
            let requests = self.pace.as_ref().and_then(|pace| pace.slots.get(&worker.slot));
            requests.map_or(0.0, |requests| requests.per_second)
        };
        let running = |worker: &WorkerRow| worker.request.as_ref().map_or(-1.0, |it| it.age_s);
        // The sort is stable: equal workers stay in the order of their slots.
        match self.sort {
            Sort::Slot => {}
            Sort::Requests => rows.sort_by(|a, b| per_second(b).total_cmp(&per_second(a))),
            Sort::Rss => {
                rows.sort_by_key(|worker| Reverse(worker.memory.rss.unwrap_or(0.0) as u64))
            }
            Sort::Running => rows.sort_by(|a, b| running(b).total_cmp(&running(a))),
        }
        rows
    }

    /// The line in [`Screen::rows`] of the selected worker, or else of the worker that is now in its slot, or else
    /// the line where it was.
    pub(super) fn selected_line(&self) -> Option<usize> {
        let rows = self.rows();
        let selection = self.selected?;
        let itself = |row: &&WorkerRow| row.slot == selection.slot && row.pid == selection.pid;
        let in_its_slot = |row: &&WorkerRow| row.slot == selection.slot;
        let line = rows.iter().position(itself).or_else(|| rows.iter().position(in_its_slot));
        let last = rows.len().checked_sub(1)?;
        Some(line.unwrap_or(selection.line).min(last))
    }

    fn show(&mut self, sample: Sample) {
        self.pace = Pace::between(&self.sample, &sample);
        match &self.pace {
            Some(pace) => self.history.push_back(pace.all.per_second),
            None => self.history.clear(),
        }
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.sample = sample;
        self.reachability = Reachability::Reachable;
        // If the selected worker is gone, its line keeps the selection.
        if let Some(line) = self.selected_line().or(Some(0)) {
            self.select(line);
        }
    }

    fn select(&mut self, line: usize) {
        let row = self.rows().get(line).map(|row| (row.slot, row.pid));
        self.selected = row.map(|(slot, pid)| Selection { slot, pid, line });
    }

    fn press(&mut self, key: Key) -> Effect {
        match (self.dialog, key) {
            (_, Key::Interrupt) => return Effect::Quit,
            (_, Key::Suspend) => return Effect::Suspend,
            (_, Key::Repaint) => return Effect::Repaint,
            (Dialog::Reload, Key::Letter('y' | 'Y')) => {
                self.dialog = Dialog::Nothing;
                return Effect::Send { verb: Verb::Reload { wait: false } };
            }
            (Dialog::Reload, _) => {
                self.dialog = Dialog::Nothing;
                self.message = Some("not reloaded".to_owned());
                return Effect::Nothing;
            }
            (Dialog::Help | Dialog::Profile, _) => {
                self.dialog = Dialog::Nothing;
                return Effect::Nothing;
            }
            (Dialog::Routes { first }, key) => {
                self.dialog = self.scrolled(first, key);
                return Effect::Nothing;
            }
            (Dialog::Nothing, _) => self.message = None,
        }
        match key {
            Key::Letter('q') | Key::Escape => return Effect::Quit,
            Key::Up | Key::Letter('k') => self.step(-1),
            Key::Down | Key::Letter('j') => self.step(1),
            Key::PageUp => self.step(-PAGE),
            Key::PageDown => self.step(PAGE),
            Key::Home => self.step(isize::MIN),
            Key::End => self.step(isize::MAX),
            Key::Letter('s') => self.sort = self.sort.next(),
            Key::Letter('?' | 'h') => self.dialog = Dialog::Help,
            Key::Letter('R') => self.dialog = Dialog::Reload,
            Key::Letter('t') => self.dialog = Dialog::Routes { first: 0 },
            Key::Letter('d') => return self.send(|slot| Verb::Dump { slot }),
            Key::Letter('r') => return self.send(|slot| Verb::Recycle { slot }),
            Key::Letter('p') => return self.sample_worker(),
            Key::Letter('P') => return self.sample(None),
            Key::Letter(_) | Key::Interrupt | Key::Suspend | Key::Repaint => {}
        }
        Effect::Nothing
    }

    /// What a key makes of the routes. Keys that act on a worker do nothing, because none is visible.
    fn scrolled(&self, first: usize, key: Key) -> Dialog {
        let lines = match key {
            Key::Letter('t' | 'q') | Key::Escape => return Dialog::Nothing,
            Key::Letter('?' | 'h') => return Dialog::Help,
            Key::Up | Key::Letter('k') => -1,
            Key::Down | Key::Letter('j') => 1,
            Key::PageUp => -PAGE,
            Key::PageDown => PAGE,
            Key::Home => isize::MIN,
            Key::End => isize::MAX,
            Key::Letter(_) | Key::Interrupt | Key::Suspend | Key::Repaint => 0,
        };
        let count = self.pace.as_ref().map_or(0, |pace| pace.routes.len());
        let first = first.min(count).saturating_add_signed(lines);
        Dialog::Routes { first: first.min(count.saturating_sub(1)) }
    }

    fn sample_worker(&mut self) -> Effect {
        match self.selected_slot() {
            Some(slot) => self.sample(Some(slot)),
            None => self.say_nothing_is_selected(),
        }
    }

    /// Samples a worker, or all of them.
    fn sample(&mut self, slot: Option<SlotId>) -> Effect {
        let who = slot.map_or("all workers".to_owned(), |slot| format!("worker {}", slot.0));
        self.message = Some(format!("sampling {who} for {PROFILE_SECONDS} s"));
        Effect::Send { verb: Verb::Profile { seconds: PROFILE_SECONDS, slot } }
    }

    fn step(&mut self, lines: isize) {
        let last = self.sample.workers.len().saturating_sub(1);
        let line = self.selected_line().unwrap_or_default().saturating_add_signed(lines);
        self.select(line.min(last));
    }

    /// Sends a verb for the selected worker.
    fn send(&mut self, verb: fn(SlotId) -> Verb) -> Effect {
        match self.selected_slot() {
            Some(slot) => Effect::Send { verb: verb(slot) },
            None => self.say_nothing_is_selected(),
        }
    }

    fn selected_slot(&self) -> Option<SlotId> {
        let line = self.selected_line()?;
        self.rows().get(line).map(|row| SlotId(row.slot))
    }

    fn say_nothing_is_selected(&mut self) -> Effect {
        self.message = Some("no worker is selected".to_owned());
        Effect::Nothing
    }
}

#[cfg(test)]
mod tests;
