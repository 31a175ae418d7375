//! When workers are recycled: `--max-requests` and its jitter, `--max-rss` and `--max-lifetime`.

use std::time::Duration;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::Reader;
use super::value::{Kind, Size, Span, Whole};
use crate::supervisor::health::RecycleLimits;

/// A number of requests; 0 is no limit.
pub(super) const REQUESTS: Whole = Whole { min: 0, max: u32::MAX as u64 };
/// The minimum is below the size of any interpreter, but `512`, meant in megabytes, would recycle every worker at once
/// and again.
const RSS: Size = Size { min_bytes: 1 << 20, max_bytes: 1 << 50, allows_zero: true };
const LIFETIME: Span =
    Span { min: Duration::from_secs(1), max: Duration::from_secs(30 * 86_400), allows_zero: true };
/// The default of the jitter is `--max-requests` divided by this.
const JITTER: u64 = 10;

/// Reads the limits; 0 disables one.
pub(super) fn recycle_limits(reader: &mut Reader<'_>) -> Result<RecycleLimits, ConfigError> {
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
        requests: Some(requests).filter(|max| *max > 0),
        requests_jitter,
        rss_bytes: Some(rss_bytes).filter(|max| *max > 0),
        lifetime: Some(lifetime).filter(|max| !max.is_zero()),
    })
}
