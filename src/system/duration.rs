//! Durations as options and log lines write them.

use std::time::Duration;

/// Writes a duration as an option accepts it.
pub fn shown(value: Duration) -> String {
    match (value.as_secs(), value.subsec_nanos()) {
        (0, 0) => "0".to_owned(),
        (seconds, 0) if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        (seconds, 0) => format!("{seconds}s"),
        (_, nanos) if nanos.is_multiple_of(1_000_000) => format!("{}ms", value.as_millis()),
        (_, _) => {
            let decimal = format!("{}.{:09}", value.as_secs(), value.subsec_nanos());
            format!("{}s", decimal.trim_end_matches('0'))
        }
    }
}

/// Returns seconds, rounded to milliseconds: more digits would be noise.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
