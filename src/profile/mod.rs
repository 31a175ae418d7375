//! Profiles: what the supervisor makes of the samples that workers take, and how `arctos ctl profile` shows it.
//!
//! | file | owns |
//! |---|---|
//! | `lines` | the line of an instruction, from CPython's line tables |
//! | `recording` | the samples of a running profile, in the supervisor |
//! | `numbered` | equal values with one number |
//! | `report` | a finished profile as JSON, which the admin socket answers, and back |
//! | `names` | short names of functions and files |
//! | `collapsed`, `speedscope`, `top`, `flamegraph` | the formats |
//!
//! There is no I/O and no clock here. The frames of a stack are in the order from the outermost to the innermost one
//! everywhere but in a sample, which comes the other way round.

pub mod collapsed;
pub mod flamegraph;
pub mod lines;
mod names;
mod numbered;
pub mod recording;
pub mod report;
pub mod speedscope;
pub mod top;

use std::time::Duration;

pub use recording::Recording;
pub use report::Profile;

/// The interval between two samples of a worker: 100 Hz.
pub const INTERVAL: Duration = Duration::from_millis(10);
/// How long a profile takes by default, and at most, in seconds.
pub const DEFAULT_SECONDS: u16 = 10;
/// The maximum.
pub const MAX_SECONDS: u16 = 600;
