//! Which requests have a line.

use crate::http::Status;
use crate::settings::AccessLogSettings;

/// The status from which on a response is a failure of the server, and always has a line.
const FAILURES: u16 = 500;

/// Decides which requests have a line: none with an excluded path, a share of the others, and all that the server has
/// failed to answer.
pub(super) struct Filter {
    settings: AccessLogSettings,
    /// The number of requests that were subject to the share.
    number: u64,
}

impl Filter {
    pub(super) fn new(settings: &AccessLogSettings) -> Self {
        Self { settings: settings.clone(), number: 0 }
    }

    /// Whether a request with this path, as it was sent, has a line.
    pub(super) fn passes(&mut self, status: Status, path: Option<&[u8]>) -> bool {
        if path.is_some_and(|path| self.settings.excludes(path)) {
            return false;
        }
        let number = self.number;
        self.number = number.wrapping_add(1);
        self.settings.sample.has(number) || status.0 >= FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Share;

    fn filter(billionths: u32, excluded: &[&str]) -> Filter {
        let excluded = excluded.iter().map(|path| (*path).to_owned()).collect();
        let sample = Share::of_billionths(billionths).unwrap();
        Filter::new(&AccessLogSettings { sample, excluded, ..AccessLogSettings::default() })
    }

    #[test]
    fn a_sample_has_all_failures() {
        let mut filter = filter(0, &[]);
        for (status, passes) in [(200, false), (404, false), (499, false), (500, true), (503, true)]
        {
            assert_eq!(filter.passes(Status(status), Some(b"/")), passes, "{status}");
        }
    }

    #[test]
    fn an_excluded_path_has_no_line_whatever_its_status() {
        let mut filter = filter(1_000_000_000, &["/healthz"]);
        assert!(!filter.passes(Status(200), Some(b"/healthz")));
        assert!(!filter.passes(Status(503), Some(b"/healthz")));
        assert!(filter.passes(Status(200), Some(b"/")));
        assert!(filter.passes(Status(400), None));
    }

    #[test]
    fn two_workers_keep_the_same_ones_of_their_requests() {
        let kept = |mut filter: Filter| -> Vec<bool> {
            (0..1000).map(|_| filter.passes(Status(200), Some(b"/"))).collect()
        };
        let first = kept(filter(100_000_000, &[]));
        assert_eq!(first, kept(filter(100_000_000, &[])));
        assert!((50..150).contains(&first.iter().filter(|kept| **kept).count()));
    }
}
