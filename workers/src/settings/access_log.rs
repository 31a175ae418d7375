//! What the access log has a line for, and how that line looks. Where it goes is not known here.

use super::access_format::{AccessFormat, Wanted};
use super::call_limits::decoded;

/// What configures the access log of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogSettings {
    /// `--access-logformat`; `None` is text or JSON, as the log is.
    pub format: Option<AccessFormat>,
    /// `--access-log-sample`.
    pub sample: Share,
    /// `--access-log-exclude`: paths that start with a slash and do not end in one.
    pub excluded: Vec<String>,
    /// The head of each message, if the access log goes to syslog.
    pub syslog: SyslogSettings,
}

impl AccessLogSettings {
    /// What has to be kept of responses and of the environ; `None` if nothing has to be.
    pub fn wanted(&self) -> Option<&Wanted> {
        self.format.as_ref()?.wanted()
    }

    /// Whether requests with this path, as it was sent, have no line: it is an excluded one, or below one.
    pub fn excludes(&self, path: &[u8]) -> bool {
        if self.excluded.is_empty() {
            return false;
        }
        let path = decoded(path);
        // The application may find another path in it.
        if path.split(|byte| *byte == b'/').any(|part| part == b"." || part == b"..") {
            return false;
        }
        self.excluded.iter().any(|excluded| {
            path.strip_prefix(excluded.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }
}

/// A share of all requests, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// Every request.
    pub const ALL: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 1_000_000_000;

    /// A number of billionths, at most all.
    pub fn of_billionths(billionths: u32) -> Option<Self> {
        (billionths <= Self::WHOLE).then_some(Self(billionths))
    }

    /// How many billionths it is.
    pub fn billionths(self) -> u32 {
        self.0
    }

    /// Whether the request with this number is in the share. Its number alone decides, so that no client can, and
    /// numbers that follow each other are as good as random, so that no pattern in the requests meets one in the
    /// choice.
    pub fn has(self, number: u64) -> bool {
        if self == Self::ALL {
            return true;
        }
        let [.., a, b, c, d] = mixed(number).to_le_bytes();
        let random = u64::from(u32::from_le_bytes([a, b, c, d]));
        (random * u64::from(Self::WHOLE)) >> 32 < u64::from(self.0)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

/// Spreads a number over all of 64 bits: the finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The head of a message to syslog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogSettings {
    /// What kind of program logs.
    pub facility: Facility,
    /// The name of the program: visible ASCII, at most 48 bytes.
    pub tag: String,
}

impl Default for SyslogSettings {
    fn default() -> Self {
        Self { facility: Facility::DEFAULT, tag: "arctos".to_owned() }
    }
}

/// The facility of a message to syslog (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// The words for facilities, as in syslog.conf(5).
    pub const ALL: [(&'static str, Self); 20] = [
        ("kern", Self(0)),
        ("user", Self(1)),
        ("mail", Self(2)),
        ("daemon", Self(3)),
        ("auth", Self(4)),
        ("syslog", Self(5)),
        ("lpr", Self(6)),
        ("news", Self(7)),
        ("uucp", Self(8)),
        ("cron", Self(9)),
        ("authpriv", Self(10)),
        ("ftp", Self(11)),
        ("local0", Self(16)),
        ("local1", Self(17)),
        ("local2", Self(18)),
        ("local3", Self(19)),
        ("local4", Self(20)),
        ("local5", Self(21)),
        ("local6", Self(22)),
        ("local7", Self(23)),
    ];
    /// `user`, as in gunicorn.
    pub const DEFAULT: Self = Self(1);

    /// Returns the facility of this name.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, facility)| *facility)
    }

    /// The priority of a message of this facility with the severity "informational".
    pub fn informational(self) -> u8 {
        self.0 * 8 + 6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluding(paths: &[&str]) -> AccessLogSettings {
        let excluded = paths.iter().map(|path| (*path).to_owned()).collect();
        AccessLogSettings { excluded, ..AccessLogSettings::default() }
    }

    #[test]
    fn a_path_is_excluded_with_everything_below_it() {
        let settings = excluding(&["/healthz", "/static/css"]);
        for (path, is_excluded) in [
            ("/healthz", true),
            ("/healthz/", true),
            ("/healthz/ping", true),
            ("/healthz/../admin", false),
            ("/healthz/%2e%2e/admin", false),
            ("/%68ealthz", true),
            ("/healthz2", false),
            ("/", false),
            ("/static", false),
            ("/static/css/a.css", true),
            ("/a/healthz", false),
            ("*", false),
        ] {
            assert_eq!(settings.excludes(path.as_bytes()), is_excluded, "{path}");
        }
        assert!(!excluding(&[]).excludes(b"/healthz"));
    }

    #[test]
    fn a_sample_has_its_share_of_the_requests_and_always_the_same_ones() {
        for (billionths, of_100_000) in
            [(1_000_000_000, 100_000), (500_000_000, 50_000), (10_000_000, 1000), (0, 0)]
        {
            let share = Share::of_billionths(billionths).unwrap();
            let kept = |from: u64| (from..from + 100_000).filter(|number| share.has(*number));
            let count = kept(0).count();
            assert!(count.abs_diff(of_100_000) <= of_100_000 / 10, "{count} of {of_100_000}");
            assert!(kept(0).eq(kept(0)));
        }
        assert_eq!(Share::of_billionths(1_000_000_001), None);
    }

    #[test]
    fn a_pattern_in_the_requests_meets_none_in_the_sample() {
        let share = Share::of_billionths(100_000_000).unwrap();
        for step in [2, 3, 7, 10, 64] {
            let count = (0..20_000).map(|number| number * step).filter(|it| share.has(*it)).count();
            assert!((1700..2300).contains(&count), "{count} of every {step}th");
        }
    }

    #[test]
    fn a_facility_has_a_word() {
        assert_eq!(Facility::of("user"), Some(Facility::DEFAULT));
        assert_eq!(Facility::of("local7").map(Facility::informational), Some(190));
        assert_eq!(Facility::of("local8"), None);
    }
}
