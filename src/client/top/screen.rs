//! What there is to see, and what keys and news make of it: values in, an effect out.
//!
//! | key | effect |
//! |---|---|
//! | arrows, `j`, `k`, page and end keys | select a worker |
//! | `d` | it writes its Python stack to the server's log |
//! | `r` | it is replaced |
//! | `R`, then `y` | reload |
//! | `s` | the next order of the workers |
//! | `?` | help |
//! | `q`, Escape, Ctrl-C | the end; of help and of a question first |
//!
//! A worker is selected by slot and process, not by its line: an order that changes between two looks must
//! not put another one under the key.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::SlotId;

use super::keys::Key;
use super::pace::Pace;
use super::sample::{Sample, Worker};
use crate::client::ctl::Verb;

/// Looks that the history goes back to: the width of a wide screen.
const HISTORY: usize = 240;
/// Lines of a page key.
const PAGE: isize = 10;

/// See the module.
pub(super) struct Screen {
    /// Where the server is asked.
    pub(super) address: String,
    /// The last look, and what happened before it.
    pub(super) sample: Sample,
    pub(super) pace: Option<Pace>,
    /// Requests a second, the newest last.
    pub(super) history: VecDeque<f64>,
    pub(super) reach: Reach,
    pub(super) sort: Sort,
    pub(super) dialog: Dialog,
    /// What came of the last order.
    pub(super) message: Option<String>,
    selected: Option<Choice>,
}

/// Whether the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Answers,
    Gone { since_last: Duration, words: String },
}

/// What is in front of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    Nothing,
    Help,
    /// Reload: yes or no?
    Reload,
}

/// The order of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Slot,
    /// Most requests a second first.
    Requests,
    /// Largest first.
    Rss,
    /// Longest first.
    Running,
}

/// A worker that was selected, and on which line it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    slot: u16,
    pid: Option<u64>,
    line: usize,
}

/// What has happened.
pub(super) enum Input {
    Key(Key),
    /// The server was looked at.
    Sample(Box<Sample>),
    /// It could not be.
    Failure {
        words: String,
        at: Instant,
    },
    /// What came of an order.
    Answer(String),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Tell the server.
    Order(Verb),
    Suspend,
    Repaint,
    Quit,
}

impl Sort {
    /// How it is written.
    pub(super) const fn word(self) -> &'static str {
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
    /// After the first look.
    pub(super) fn new(address: String, sample: Sample) -> Self {
        let mut screen = Self {
            address,
            sample,
            pace: None,
            history: VecDeque::new(),
            reach: Reach::Answers,
            sort: Sort::Slot,
            dialog: Dialog::Nothing,
            message: None,
            selected: None,
        };
        screen.select(0);
        screen
    }

    /// Takes one thing in.
    pub(super) fn update(&mut self, input: Input) -> Effect {
        match input {
            Input::Key(key) => return self.press(key),
            Input::Sample(sample) => self.see(*sample),
            Input::Failure { words, at } => {
                let since_last = at.saturating_duration_since(self.sample.at);
                self.reach = Reach::Gone { since_last, words };
            }
            Input::Answer(words) => self.message = Some(words),
        }
        Effect::Nothing
    }

    /// The workers in the order that they are shown in.
    pub(super) fn rows(&self) -> Vec<&Worker> {
        let mut rows: Vec<&Worker> = self.sample.workers.iter().collect();
        rows.sort_by_key(|worker| worker.slot);
        let per_second = |worker: &Worker| {
            let requests = self.pace.as_ref().and_then(|pace| pace.slots.get(&worker.slot));
            requests.map_or(0.0, |requests| requests.per_second)
        };
        let running = |worker: &Worker| worker.request.as_ref().map_or(-1.0, |it| it.age_s);
        // Stable: who is alike stands in the order of the slots.
        match self.sort {
            Sort::Slot => {}
            Sort::Requests => rows.sort_by(|a, b| per_second(b).total_cmp(&per_second(a))),
            Sort::Rss => rows.sort_by_key(|worker| Reverse(worker.rss_bytes.unwrap_or(0.0) as u64)),
            Sort::Running => rows.sort_by(|a, b| running(b).total_cmp(&running(a))),
        }
        rows
    }

    /// The line of the selected worker in [`Screen::rows`]: itself, else who is in its slot now, else who
    /// stands where it was.
    pub(super) fn selected_line(&self) -> Option<usize> {
        let rows = self.rows();
        let choice = self.selected?;
        let itself = |row: &&Worker| row.slot == choice.slot && row.pid == choice.pid;
        let in_its_slot = |row: &&Worker| row.slot == choice.slot;
        let line = rows.iter().position(itself).or_else(|| rows.iter().position(in_its_slot));
        let last = rows.len().checked_sub(1)?;
        Some(line.unwrap_or(choice.line).min(last))
    }

    fn see(&mut self, sample: Sample) {
        self.pace = Pace::between(&self.sample, &sample);
        match &self.pace {
            Some(pace) => self.history.push_back(pace.all.per_second),
            None => self.history.clear(),
        }
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.sample = sample;
        self.reach = Reach::Answers;
        // From now on it is the one that stands there, if the old one has gone.
        if let Some(line) = self.selected_line().or(Some(0)) {
            self.select(line);
        }
    }

    fn select(&mut self, line: usize) {
        let choice = self.rows().get(line).map(|row| (row.slot, row.pid));
        self.selected = choice.map(|(slot, pid)| Choice { slot, pid, line });
    }

    fn press(&mut self, key: Key) -> Effect {
        match (self.dialog, key) {
            (_, Key::Interrupt) => return Effect::Quit,
            (_, Key::Suspend) => return Effect::Suspend,
            (_, Key::Repaint) => return Effect::Repaint,
            (Dialog::Reload, Key::Letter('y' | 'Y')) => {
                self.dialog = Dialog::Nothing;
                return Effect::Order(Verb::Reload { wait: false });
            }
            (Dialog::Reload, _) => {
                self.dialog = Dialog::Nothing;
                self.message = Some("not reloaded".to_owned());
                return Effect::Nothing;
            }
            (Dialog::Help, _) => {
                self.dialog = Dialog::Nothing;
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
            Key::Letter('d') => return self.order(|slot| Verb::Dump { slot }),
            Key::Letter('r') => return self.order(|slot| Verb::Recycle { slot }),
            Key::Letter(_) | Key::Interrupt | Key::Suspend | Key::Repaint => {}
        }
        Effect::Nothing
    }

    fn step(&mut self, lines: isize) {
        let last = self.sample.workers.len().saturating_sub(1);
        let line = self.selected_line().unwrap_or_default().saturating_add_signed(lines);
        self.select(line.min(last));
    }

    /// For the selected worker.
    fn order(&mut self, verb: fn(SlotId) -> Verb) -> Effect {
        let slot = self.selected_line().and_then(|line| self.rows().get(line).map(|row| row.slot));
        match slot {
            Some(slot) => Effect::Order(verb(SlotId(slot))),
            None => {
                self.message = Some("no worker is selected".to_owned());
                Effect::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests;
