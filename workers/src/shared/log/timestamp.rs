//! A moment of the wall clock in the formats of logs, always in UTC.
//!
//! httpdate knows only the format of HTTP, and chrono or time would bring time zones and parsers for the twenty lines
//! that are needed here.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Year to millisecond in UTC. A moment before 1970 becomes the first one of 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    ms: u32,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl From<SystemTime> for Timestamp {
    fn from(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        let (year, month, day) = civil_date(seconds / 86400);
        Self {
            year,
            month,
            day,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            ms: since.subsec_millis(),
        }
    }
}

impl Timestamp {
    /// `2026-11-22T13:39:57.123Z` (RFC 3339).
    pub(crate) fn rfc3339(self, out: &mut Vec<u8>) {
        self.rfc3339_second(out);
        // Ignored, here and below: writing to a vector cannot fail.
        let _ = write!(out, ".{:03}Z", self.ms);
    }

    /// `2026-11-22T13:39:57`: the same up to the second, for the caller to complete.
    pub(crate) fn rfc3339_second(self, out: &mut Vec<u8>) {
        let Self { year, month, day, hour, minute, second, ms: _ } = self;
        let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    }

    /// `22/Nov/2026:13:39:57 +0000` (Common Log Format).
    pub(crate) fn common_log(self, out: &mut Vec<u8>) {
        let Self { year, month, day, hour, minute, second, ms: _ } = self;
        let month = MONTHS[month as usize - 1];
        let _ = write!(out, "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000");
    }
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, `civil_from_days`, without the
/// part for earlier days. Years start in March, so that the leap day is the last of its year.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn rfc3339(moment: SystemTime) -> String {
        let mut out = Vec::new();
        Timestamp::from(moment).rfc3339(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn common_log(moment: SystemTime) -> String {
        let mut out = Vec::new();
        Timestamp::from(moment).common_log(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments_are_written_as_date_writes_them() {
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(at(951_827_696_007)), "2000-02-29T12:34:56.007Z");
        assert_eq!(rfc3339(at(4_107_542_399_999)), "2100-02-28T23:59:59.999Z");
        assert_eq!(common_log(at(971_186_136_000)), "10/Oct/2000:13:55:36 +0000");
    }

    #[test]
    fn a_moment_before_1970_is_its_first_one() {
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn dates_are_those_of_httpdate(seconds in 0..253_402_300_800u64) {
            // `Tue, 10 Oct 2000 13:55:36 GMT`
            let http = httpdate::fmt_http_date(at(1000 * seconds));
            let expected = format!(
                "{}/{}/{}:{} +0000", &http[5..7], &http[8..11], &http[12..16], &http[17..25]
            );
            prop_assert_eq!(common_log(at(1000 * seconds)), expected);
        }
    }
}
