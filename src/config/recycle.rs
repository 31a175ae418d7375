//! When a worker is worn out: `--max-requests` and its jitter, `--max-rss`, `--max-lifetime`.

use std::time::Duration;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::Reader;
use super::value::{Kind, Size, Span, Whole};
use crate::supervisor::health::RecycleLimits;

/// A number of requests; 0 is no limit.
pub(super) const REQUESTS: Whole = Whole { least: 0, most: u32::MAX as u64 };
/// An interpreter alone is larger: `512`, meant in megabytes, would replace every worker for ever.
const RSS: Size = Size { least_bytes: 1 << 20, most_bytes: 1 << 50, takes_zero: true };
const LIFETIME: Span = Span {
    least: Duration::from_secs(1),
    most: Duration::from_secs(30 * 86_400),
    takes_zero: true,
};
/// Which part of `--max-requests` its jitter is where nobody says.
const JITTER: u64 = 10;

/// Reads the limits; 0 is none.
pub(super) fn wear(reader: &mut Reader<'_>) -> Result<RecycleLimits, ConfigError> {
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
    let rss_bytes = reader.one(Setting::MaxRss, RSS)?;
    let lifetime = reader.one(Setting::MaxLifetime, LIFETIME)?;
    Ok(RecycleLimits {
        requests: Some(requests).filter(|most| *most > 0),
        requests_jitter,
        rss_bytes: Some(rss_bytes).filter(|most| *most > 0),
        lifetime: Some(lifetime).filter(|longest| !longest.is_zero()),
    })
}
