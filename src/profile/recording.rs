//! The samples of a running profile: equal stacks are counted, so that its size depends on the application's code and
//! not on its time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::samples::Message;
use arctos_worker::shared::samples::message::{Code, SampledFrame, UNKNOWN_OFFSET};

use super::lines::line_at;
use super::report::{Frame, Profile, Stack, WorkerTally};

/// The maximum number of different stacks. Others count as one, which says so.
const MAX_STACKS: usize = 20_000;
/// The maximum number of different lines, and of code objects.
const MAX_FRAMES: usize = 50_000;

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

/// The samples so far.
#[derive(Default)]
pub struct Recording {
    frames: Vec<Frame>,
    ids: HashMap<Frame, FrameId>,
    codes: HashMap<(u32, u32), Rc<Code>>,
    /// Instructions that were resolved, by process.
    resolved: HashMap<(u32, SampledFrame), FrameId>,
    stacks: HashMap<StackKey, u64>,
    workers: HashMap<SlotId, WorkerTally>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StackKey {
    slot: SlotId,
    frames: Vec<FrameId>,
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
            Message::Sample { pid, frames, .. } => {
                let mut stack: Vec<_> =
                    frames.iter().map(|frame| self.resolve(pid, *frame)).collect();
                stack.reverse();
                if stack.is_empty() {
                    return self.add_server(slot, weight);
                }
                self.add_stack(slot, stack, weight);
            }
        }
    }

    /// Ends the profile, which took this long.
    pub fn finish(self, elapsed: std::time::Duration) -> Profile {
        let mut stacks: Vec<_> = self.stacks.into_iter().collect();
        stacks.sort_unstable_by(|(a, a_count), (b, b_count)| {
            (a.slot.0, b_count, &a.frames).cmp(&(b.slot.0, a_count, &b.frames))
        });
        let stacks = stacks.into_iter().map(|(key, count)| Stack {
            slot: key.slot.0,
            route: None,
            frames: key.frames,
            count,
        });
        let mut workers: Vec<_> = self.workers.into_values().collect();
        workers.sort_unstable_by_key(|worker| worker.slot);
        Profile {
            seconds: elapsed.as_secs_f64(),
            interval_ms: super::INTERVAL.as_millis().try_into().unwrap_or(0),
            workers,
            frames: self.frames,
            stacks: stacks.collect(),
        }
    }

    fn add_named(&mut self, slot: SlotId, name: &str, ticks: u64) {
        if ticks > 0 {
            let frame = self.intern(Frame { function: name.to_owned(), ..Frame::default() });
            self.add_stack(slot, vec![frame], ticks);
        }
    }

    fn add_stack(&mut self, slot: SlotId, frames: Vec<FrameId>, ticks: u64) {
        self.tally(slot).busy_count += ticks;
        let is_full = self.stacks.len() >= MAX_STACKS;
        match self.stacks.entry(StackKey { slot, frames }) {
            Entry::Occupied(mut known) => *known.get_mut() += ticks,
            Entry::Vacant(new) if !is_full => {
                new.insert(ticks);
            }
            Entry::Vacant(_) => {
                let other = Frame { function: OTHER_FRAME.to_owned(), ..Frame::default() };
                let frames = vec![self.intern(other)];
                *self.stacks.entry(StackKey { slot, frames }).or_insert(0) += ticks;
            }
        }
    }

    fn tally(&mut self, slot: SlotId) -> &mut WorkerTally {
        let new = || WorkerTally { slot: slot.0, ..WorkerTally::default() };
        self.workers.entry(slot).or_insert_with(new)
    }

    fn resolve(&mut self, pid: u32, frame: SampledFrame) -> FrameId {
        if let Some(id) = self.resolved.get(&(pid, frame)) {
            return *id;
        }
        let named = match self.codes.get(&(pid, frame.code)).cloned() {
            Some(code) => Frame {
                line: match frame.offset {
                    UNKNOWN_OFFSET => code.first_line,
                    offset => line_at(code.format, &code.lines, code.first_line, offset),
                },
                first_line: code.first_line,
                function: code.name.clone(),
                file: code.file.clone(),
            },
            None => Frame { function: UNKNOWN_FRAME.to_owned(), ..Frame::default() },
        };
        let id = self.intern(named);
        if self.resolved.len() < MAX_FRAMES {
            self.resolved.insert((pid, frame), id);
        }
        id
    }

    fn intern(&mut self, frame: Frame) -> FrameId {
        let next = self.frames.len();
        if let Some(id) = self.ids.get(&frame) {
            return *id;
        }
        // The last place is for all frames above the maximum.
        let frame = match next {
            0..MAX_FRAMES => frame,
            MAX_FRAMES => Frame { function: UNKNOWN_FRAME.to_owned(), ..Frame::default() },
            _ => return MAX_FRAMES as FrameId,
        };
        let id = FrameId::try_from(next).unwrap_or(FrameId::MAX);
        self.ids.insert(frame.clone(), id);
        self.frames.push(frame);
        id
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arctos_worker::shared::samples::message::{LineFormat, UNKNOWN_CODE};

    use super::*;

    const SLOT: SlotId = SlotId(0);

    fn code(number: u32, name: &str) -> Message {
        let code = Code {
            number,
            first_line: 10,
            name: name.to_owned(),
            file: "/app/views.py".to_owned(),
            format: LineFormat::Pairs,
            lines: vec![4, 1, 4, 1],
        };
        Message::Code { pid: 7, code }
    }

    fn sample(pid: u32, frames: &[(u32, u32)]) -> Message {
        let frames = frames.iter().map(|&(code, offset)| SampledFrame { code, offset });
        Message::Sample { pid, request: 1, frames: frames.collect() }
    }

    fn shown(profile: &Profile) -> Vec<(String, u64)> {
        let name = |id: &u32| {
            let frame = &profile.frames[*id as usize];
            format!("{}:{}", frame.function, frame.line)
        };
        let stacks = profile.stacks.iter();
        let text = |stack: &Stack| stack.frames.iter().map(name).collect::<Vec<_>>().join(" ");
        stacks.map(|stack| (text(stack), stack.count)).collect()
    }

    #[test]
    fn equal_stacks_are_counted_with_their_lines() {
        let mut recording = Recording::default();
        recording.add_message(SLOT, code(0, "inner"), 1);
        recording.add_message(SLOT, code(1, "outer"), 1);
        for _ in 0..3 {
            recording.add_message(SLOT, sample(7, &[(0, 0), (1, 4)]), 1);
        }
        recording.add_message(SLOT, sample(7, &[(0, 4), (1, 4)]), 2);
        recording.add_message(SLOT, sample(7, &[(0, UNKNOWN_OFFSET)]), 1);
        let profile = recording.finish(Duration::from_secs(1));
        let expected = [("outer:12 inner:11", 3), ("outer:12 inner:12", 2), ("inner:10", 1)];
        assert_eq!(shown(&profile), expected.map(|(text, count)| (text.to_owned(), count)));
        assert_eq!(profile.workers[0].busy_count, 6);
    }

    #[test]
    fn idle_time_is_no_stack_and_the_rest_is() {
        let mut recording = Recording::default();
        recording.add_idle(SLOT, 50);
        recording.add_server(SLOT, 3);
        recording.add_message(SLOT, sample(7, &[]), 2);
        recording.add_unanswered(SLOT, 4);
        recording.add_unanswered(SLOT, 0);
        recording.add_lost(SLOT, 1);
        let profile = recording.finish(Duration::from_secs(1));
        let expected = [("[server]:0".to_owned(), 5), ("[no answer]:0".to_owned(), 4)];
        assert_eq!(shown(&profile), expected);
        let expected = WorkerTally { slot: 0, busy_count: 9, idle_count: 50, lost_count: 1 };
        assert_eq!(profile.workers, [expected]);
    }

    #[test]
    fn code_of_another_process_is_another_function() {
        let mut recording = Recording::default();
        recording.add_message(SLOT, code(0, "old"), 1);
        recording.add_message(SLOT, sample(8, &[(0, 0)]), 1);
        recording.add_message(SLOT, sample(7, &[(UNKNOWN_CODE, 0)]), 1);
        let profile = recording.finish(Duration::from_secs(1));
        assert_eq!(shown(&profile), [("[unknown]:0".to_owned(), 2)]);
    }

    #[test]
    fn the_number_of_stacks_and_frames_is_bounded() {
        let mut recording = Recording::default();
        let many = MAX_FRAMES as u32 + 1000;
        for number in 0..many {
            recording.add_message(SLOT, code(number, &format!("f{number}")), 1);
            recording.add_message(SLOT, sample(7, &[(number, 0)]), 1);
        }
        let profile = recording.finish(Duration::from_secs(1));
        assert!(profile.frames.len() <= MAX_FRAMES + 1, "{}", profile.frames.len());
        assert!(profile.stacks.len() <= MAX_STACKS + 1, "{}", profile.stacks.len());
        assert_eq!(profile.stacks.iter().map(|stack| stack.count).sum::<u64>(), u64::from(many));
        assert!(shown(&profile)[0].0.starts_with("[other stacks]"));
    }
}
