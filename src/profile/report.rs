//! A finished profile, as the JSON that the admin socket answers and that its clients read.
//!
//! `frames` has every line of code once, and a stack refers to them by their numbers, the outermost frame first.

use serde_json::{Value, json};

/// The route of requests whose application has named none.
pub const NO_ROUTE: &str = "[no route]";
/// The route of requests that had not ended with the profile, or died with their worker.
pub const UNFINISHED: &str = "[unfinished]";

/// A finished profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// How long it took.
    pub seconds: f64,
    /// The interval between two samples of a worker.
    pub interval_ms: u64,
    /// The workers that were sampled, by slot.
    pub workers: Vec<WorkerTally>,
    /// Everything that stacks refer to.
    pub frames: Vec<Frame>,
    /// The stacks with the most samples first, worker by worker.
    pub stacks: Vec<Stack>,
}

/// What the workers of a slot did. The numbers count intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WorkerTally {
    pub slot: u16,
    pub busy_count: u64,
    pub idle_count: u64,
    pub lost_count: u64,
}

/// A line of code that was running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The qualified name of the function; of 3.10, its name.
    pub function: String,
    /// Empty if the frame stands for something else than Python code.
    pub file: String,
    /// The line that was running.
    pub line: u32,
    /// The line where the function begins.
    pub first_line: u32,
}

/// A stack, and how often it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Stack {
    pub slot: u16,
    /// The route of the request that ran. `None` if none ran, or if no request of the profile has named a route.
    pub route: Option<String>,
    pub frames: Vec<u32>,
    pub count: u64,
}

impl Profile {
    /// The number of samples in stacks.
    pub fn busy_count(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.count).sum()
    }

    /// The frames of a stack, the outermost first.
    pub fn frames_of<'a>(&'a self, stack: &'a Stack) -> impl DoubleEndedIterator<Item = &'a Frame> {
        stack.frames.iter().filter_map(|id| self.frames.get(*id as usize))
    }

    /// The JSON.
    pub fn to_json(&self) -> String {
        let worker = |worker: &WorkerTally| {
            json!({
                "slot": worker.slot, "busy": worker.busy_count, "idle": worker.idle_count,
                "lost": worker.lost_count,
            })
        };
        let frame = |frame: &Frame| {
            json!({
                "function": frame.function, "file": frame.file, "line": frame.line,
                "first_line": frame.first_line,
            })
        };
        let stack = |stack: &Stack| {
            json!({
                "slot": stack.slot, "route": stack.route, "frames": stack.frames,
                "count": stack.count,
            })
        };
        let whole = json!({
            "seconds": self.seconds,
            "interval_ms": self.interval_ms,
            "workers": self.workers.iter().map(worker).collect::<Vec<_>>(),
            "frames": self.frames.iter().map(frame).collect::<Vec<_>>(),
            "stacks": self.stacks.iter().map(stack).collect::<Vec<_>>(),
        });
        format!("{whole}\n")
    }

    /// Reads the JSON; `None` if it is something else.
    pub fn from_json(text: &str) -> Option<Self> {
        let whole: Value = serde_json::from_str(text).ok()?;
        let list = |name: &str| whole.get(name).and_then(Value::as_array);
        let worker = |worker: &Value| {
            Some(WorkerTally {
                slot: number(worker, "slot")?,
                busy_count: number(worker, "busy")?,
                idle_count: number(worker, "idle")?,
                lost_count: number(worker, "lost")?,
            })
        };
        let frame = |frame: &Value| {
            Some(Frame {
                function: text_of(frame, "function")?,
                file: text_of(frame, "file")?,
                line: number(frame, "line")?,
                first_line: number(frame, "first_line")?,
            })
        };
        let stack = |stack: &Value| {
            let id = |id: &Value| u32::try_from(id.as_u64()?).ok();
            Some(Stack {
                slot: number(stack, "slot")?,
                route: text_of(stack, "route"),
                frames: stack.get("frames")?.as_array()?.iter().map(id).collect::<Option<_>>()?,
                count: number(stack, "count")?,
            })
        };
        Some(Self {
            seconds: whole.get("seconds")?.as_f64()?,
            interval_ms: number(&whole, "interval_ms")?,
            workers: list("workers")?.iter().map(worker).collect::<Option<_>>()?,
            frames: list("frames")?.iter().map(frame).collect::<Option<_>>()?,
            stacks: list("stacks")?.iter().map(stack).collect::<Option<_>>()?,
        })
    }
}

fn number<T: TryFrom<u64>>(value: &Value, name: &str) -> Option<T> {
    T::try_from(value.get(name)?.as_u64()?).ok()
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod stage {
    use super::*;

    /// A profile of two workers: `main` calls `slow` and `fast`.
    pub(crate) fn profile() -> Profile {
        let frame = |function: &str, line| Frame {
            function: function.to_owned(),
            file: "/srv/venv/lib/python3.12/site-packages/shop/views.py".to_owned(),
            line,
            first_line: 3,
        };
        let stack = |slot, frames: &[u32], count| Stack {
            slot,
            route: None,
            frames: frames.to_vec(),
            count,
        };
        Profile {
            seconds: 2.0,
            interval_ms: 10,
            workers: vec![
                WorkerTally { slot: 0, busy_count: 90, idle_count: 110, lost_count: 0 },
                WorkerTally { slot: 1, busy_count: 10, idle_count: 190, lost_count: 1 },
            ],
            frames: vec![frame("main", 5), frame("slow", 42), frame("fast<T>", 50)],
            stacks: vec![stack(0, &[0, 1], 80), stack(0, &[0, 2], 10), stack(1, &[0, 1], 10)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut profile = stage::profile();
        profile.stacks[0].route = Some("/orders/{id}".to_owned());
        assert_eq!(Profile::from_json(&profile.to_json()), Some(profile));
        for nonsense in ["", "{}", "[]", "{\"seconds\": 1}", "{\"seconds\": \"x\"}"] {
            assert_eq!(Profile::from_json(nonsense), None);
        }
    }

    #[test]
    fn a_frame_that_does_not_exist_is_left_out() {
        let mut profile = stage::profile();
        profile.stacks[0].frames.push(99);
        assert_eq!(profile.frames_of(&profile.stacks[0]).count(), 2);
    }
}
