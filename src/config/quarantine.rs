//! When requests are refused because they have killed or hung workers (`--quarantine`).

use std::time::Duration;

use super::value::{Kind, Span, Whole, bounded};
use crate::supervisor::quarantine::QuarantineLimits;

/// `off`, or a number of incidents and a time: `3/60s`.
pub(super) struct Limits;

const OFF: &str = "off";
const INCIDENTS: Whole = Whole { min: 1, max: 100 };
const WITHIN: Span =
    Span { min: Duration::from_secs(1), max: Duration::from_secs(86_400), allows_zero: false };

impl Kind for Limits {
    type Value = Option<QuarantineLimits>;

    fn read(&self, text: &str) -> Option<Self::Value> {
        if text.eq_ignore_ascii_case(OFF) {
            return Some(None);
        }
        let (incidents, within) = text.split_once('/')?;
        let incidents = bounded(INCIDENTS.read(incidents)?);
        Some(Some(QuarantineLimits { incidents, within: WITHIN.read(within)? }))
    }

    fn expected(&self) -> String {
        let (number, time) = (INCIDENTS.expected(), WITHIN.expected());
        format!("off, or N/TIME such as 3/60s: {number}, and {time}")
    }

    fn show(&self, value: &Self::Value) -> String {
        match value {
            Some(QuarantineLimits { incidents, within }) => {
                format!("{incidents}/{}", WITHIN.show(within))
            }
            None => OFF.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Setting;
    use crate::config::{Config, ConfigError, Source};
    use crate::system::environment::Environment;

    fn read(value: &str) -> Result<Config, ConfigError> {
        let given = [
            (Setting::Application, vec!["shop:app".into()]),
            (Setting::Quarantine, vec![value.into()]),
        ];
        Source::of_command_line(given, Environment::default())?.read()
    }

    #[test]
    fn limits_are_a_number_and_a_time() {
        let limits = |text| read(text).unwrap().quarantine;
        let of =
            |incidents, s| Some(QuarantineLimits { incidents, within: Duration::from_secs(s) });
        assert_eq!(limits("3/60s"), of(3, 60));
        assert_eq!(limits("1/2m"), of(1, 120));
        assert_eq!(limits("100/30"), of(100, 30));
        assert_eq!((limits("off"), limits("OFF")), (None, None));
    }

    #[test]
    fn a_shown_value_reads_as_the_same_value() {
        for text in ["off", "3/60s", "1/90s", "5/1.5s"] {
            let value = Limits.read(text).unwrap();
            assert_eq!(Limits.read(&Limits.show(&value)), Some(value), "{text}");
        }
    }

    #[test]
    fn another_text_is_refused_with_what_is_accepted() {
        for text in [
            "on", "3", "3/", "/60s", "0/60s", "101/60s", "+3/60s", "3/0", "3/500ms", "3/25h",
            "3/1/2",
        ] {
            let error = read(text).unwrap_err();
            let expected = format!("--quarantine '{text}': expected {}", Limits.expected());
            assert_eq!((error.to_string(), error.exit_code()), (expected, 2));
        }
    }
}
