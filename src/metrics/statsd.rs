//! Where metrics are sent, and how they are written: checked, sanitised, resolved.
//!
//! A value here can be written into a line as it is: nothing in it separates lines, fields or tags.
//! [`crate::config`] makes one of the options, the extension module one of bjoern's `statsd={...}`.

mod tags;
mod target;

use std::path::PathBuf;
use std::time::Duration;

pub use tags::{
    PREFIX_MAX_CHARS, TAGS_MAX_BYTES, TagList, external_env, prefix, tag, tag_bytes, tags, zone,
};
pub use target::TargetError;

/// Metrics are sent, and so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// Whom to.
    pub target: Target,
    /// What every name begins with, its final dot left out; empty for nothing.
    pub prefix: String,
    /// From one flush to the next.
    pub interval: Duration,
    /// How lines are written.
    pub format: Format,
    /// The tag `worker` on each line that is of one worker. Only with [`Format::Dogstatsd`].
    pub worker_tag: bool,
    /// The value of the tag `zone`.
    pub zone: Option<String>,
    /// Further tags, each `key:value` or `key`.
    pub tags: Vec<String>,
    /// DD_EXTERNAL_ENV: the field `|e:` of each line.
    pub external_env: Option<String>,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// UDP.
    Udp {
        /// A name, or an address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix datagram socket at a path.
    Unix(PathBuf),
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With tags and distributions, packed values.
    Dogstatsd,
    /// Counters and gauges only, summed over workers.
    Plain,
}

/// The port that statsd and its descendants listen on.
pub const PORT: u16 = 8125;
/// From one flush to the next, where nothing else is asked for.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// How lines are written where nobody says: with tags as soon as there is one.
pub fn format(worker_tag: bool, zone: Option<&str>, tags: &[String]) -> Format {
    if worker_tag || zone.is_some() || !tags.is_empty() { Format::Dogstatsd } else { Format::Plain }
}

#[cfg(test)]
mod tests;
