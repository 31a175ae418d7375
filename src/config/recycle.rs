//! When workers are recycled: `--max-requests` and its jitter, `--max-rss` and `--max-lifetime`.

use std::time::Duration;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::place::{Reason, memory_for_workers};
use super::reader::Reader;
use super::value::{Kind, Size, Span, Whole};
use crate::supervisor::recycling::{MemoryLimit, MemorySize, RecycleLimits};

/// A number of requests; 0 is no limit.
pub(super) const REQUESTS: Whole = Whole { min: 0, max: u32::MAX as u64 };
/// The minimum is below the size of any interpreter, but `512`, meant in megabytes, would recycle every worker at once
/// and again.
const RSS: Size = Size { min_bytes: 1 << 20, max_bytes: 1 << 50, allows_zero: true };
const LIFETIME: Span =
    Span { min: Duration::from_secs(1), max: Duration::from_secs(30 * 86_400), allows_zero: true };
/// The default of the jitter is `--max-requests` divided by this.
const JITTER: u64 = 10;

/// What the limit of a worker's memory depends on.
pub(super) struct Memory {
    /// Finds the limit of the cgroup.
    pub(super) limit_bytes: fn() -> Option<u64>,
    /// The number of workers.
    pub(super) workers: u16,
    /// Whether the workers share memory.
    pub(super) is_shared: bool,
}

/// A value of `--max-rss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MaxRss {
    Auto,
    Bytes(u64),
}

struct AutoOrSize;

impl Kind for AutoOrSize {
    type Value = MaxRss;

    fn read(&self, text: &str) -> Option<MaxRss> {
        match text.eq_ignore_ascii_case(AUTO) {
            true => Some(MaxRss::Auto),
            false => RSS.read(text).map(MaxRss::Bytes),
        }
    }

    fn expected(&self) -> String {
        format!("{AUTO}, {}", RSS.expected())
    }

    fn show(&self, value: &MaxRss) -> String {
        match value {
            MaxRss::Auto => AUTO.to_owned(),
            MaxRss::Bytes(bytes) => RSS.show(bytes),
        }
    }
}

const AUTO: &str = "auto";

/// Reads `--max-rss`. The value of `auto` that is shown is that for the number of workers at the start.
fn memory(reader: &mut Reader<'_>, memory: &Memory) -> Result<Option<MemoryLimit>, ConfigError> {
    let (value, origin) = reader.look_or_default(Setting::MaxRss, &AutoOrSize)?;
    let size = match value {
        MaxRss::Bytes(bytes) => {
            reader.note(Setting::MaxRss, RSS.show(&bytes), origin);
            (bytes > 0).then_some(MemorySize::Fixed(bytes))
        }
        MaxRss::Auto => {
            let limit_bytes = (memory.limit_bytes)();
            let all_bytes = limit_bytes.map(memory_for_workers);
            let size = all_bytes.map(|all_bytes| MemorySize::Part { all_bytes });
            let workers = memory.workers;
            let reason = match limit_bytes {
                Some(limit_bytes) => Reason::MemoryPart { limit_bytes, workers },
                None => Reason::NoMemoryLimit,
            };
            let bytes = size.map_or(0, |size| size.bytes(workers));
            let origin = Origin::Auto { given: Box::new(origin), reason };
            reader.note(Setting::MaxRss, RSS.show(&bytes), origin);
            size
        }
    };
    Ok(size.map(|size| MemoryLimit { size, is_shared: memory.is_shared }))
}

/// Reads the limits; 0 disables one.
pub(super) fn recycle_limits(
    reader: &mut Reader<'_>,
    of_memory: Memory,
) -> Result<RecycleLimits, ConfigError> {
    let requests = reader.one(Setting::MaxRequests, REQUESTS)?;
    let requests_jitter = match reader.given_as(Setting::MaxRequestsJitter, REQUESTS)? {
        Some(jitter) => jitter,
        None => {
            let jitter = requests / JITTER;
            let origin = match requests {
                0 => Origin::Default,
                _ => Origin::Because(Setting::MaxRequests),
            };
            reader.note(Setting::MaxRequestsJitter, REQUESTS.show(&jitter), origin);
            jitter
        }
    };
    let memory = memory(reader, &of_memory)?;
    let lifetime = reader.one(Setting::MaxLifetime, LIFETIME)?;
    Ok(RecycleLimits {
        requests: Some(requests).filter(|max| *max > 0),
        requests_jitter,
        memory,
        lifetime: Some(lifetime).filter(|max| !max.is_zero()),
    })
}
