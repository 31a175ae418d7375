//! The statsd configuration: checked, sanitized and resolved.
//!
//! Its texts can be written into a line as they are: they contain no separators of lines, fields or tags.
//! [`crate::config`] makes it from options, and the extension module from bjoern's `statsd={...}`.

mod tags;
mod target;

use std::path::PathBuf;
use std::time::Duration;

pub use tags::{
    PREFIX_MAX_CHARS, TAGS_MAX_BYTES, TagList, external_env, prefix, tag, tag_bytes, tags, zone,
};
pub use target::TargetError;

/// How metrics are sent to a statsd agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    /// The address of the agent.
    pub target: Target,
    /// The prefix of every name, without its final dot; possibly empty.
    pub prefix: String,
    /// The time between two flushes.
    pub interval: Duration,
    /// The format of lines.
    pub format: Format,
    /// Whether the lines of a worker have the tag `worker`. Only with [`Format::Dogstatsd`].
    pub worker_tag: bool,
    /// The value of the tag `zone`.
    pub zone: Option<String>,
    /// Further tags, each `key:value` or `key`.
    pub tags: Vec<String>,
    /// The field `|e:` of each line, from DD_EXTERNAL_ENV.
    pub external_env: Option<String>,
}

/// The address of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A UDP address.
    Udp {
        /// A name, or an IP address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a unix datagram socket.
    Unix(PathBuf),
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// DogStatsD: tags, and distributions with packed values.
    Dogstatsd,
    /// Plain statsd: only counters and gauges, summed over all workers.
    Plain,
}

/// The default port of statsd and its descendants.
pub const PORT: u16 = 8125;
/// The default time between two flushes.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// The default format: DogStatsD if there is any tag, else plain.
pub fn format(worker_tag: bool, zone: Option<&str>, tags: &[String]) -> Format {
    if worker_tag || zone.is_some() || !tags.is_empty() { Format::Dogstatsd } else { Format::Plain }
}

#[cfg(test)]
mod tests;
