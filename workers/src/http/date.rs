//! The value of the `Date` field (RFC 9110 §6.6.1), rendered once per second.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, since the epoch: the last one that an IMF-fixdate can express.
const LAST_SECOND: u64 = 253_402_300_799;

/// A date such as `Sun, 06 Nov 1994 08:49:37 GMT`, always 29 bytes.
#[derive(Clone, Copy, Debug)]
pub struct HttpDate {
    text: [u8; 29],
}

impl HttpDate {
    /// Renders a time. A time before 1970 or after 9999 becomes the nearest one that the format can express.
    pub fn at(time: SystemTime) -> Self {
        // httpdate panics outside its range, and the clock may be set to anything.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let second = UNIX_EPOCH + Duration::from_secs(since.as_secs().min(LAST_SECOND));
        let mut text = [b' '; 29];
        write!(&mut text[..], "{}", httpdate::HttpDate::from(second))
            .expect("an IMF-fixdate is 29 bytes (RFC 9110 section 5.6.7)");
        Self { text }
    }

    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8; 29] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(seconds: u64) -> String {
        let date = HttpDate::at(UNIX_EPOCH + Duration::from_secs(seconds));
        String::from_utf8(date.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_moment_is_an_imf_fixdate() {
        assert_eq!(render(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(render(1_709_208_000), "Thu, 29 Feb 2024 12:00:00 GMT");
    }

    #[test]
    fn a_clock_beyond_the_format_does_not_panic() {
        let before = HttpDate::at(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before.as_bytes(), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(render(LAST_SECOND + 5), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
