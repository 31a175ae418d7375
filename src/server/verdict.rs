//! The verdict of `arctos --check` for people: what would be served, by which Python, with how many workers, and why.

use std::fmt::Write;
use std::time::Duration;

use crate::config::options::Setting;
use crate::config::{Config, Origin};

/// Returns the verdict on an application that was loaded in `load_time`.
pub(super) fn verdict(
    application: &str,
    config: &Config,
    python: &str,
    load_time: Duration,
) -> String {
    let mut text = format!("{application} can be served\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    line("import", &format!("{:.2} s, with Python {python}", load_time.as_secs_f64()));
    line("workers", &with_reason(config, Setting::Workers));
    line("bind", &with_reason(config, Setting::Bind));
    if config.file().is_some() {
        line("file", &with_reason(config, Setting::Config));
    }
    text
}

/// A value, and why it is the default if it fits the place.
fn with_reason(config: &Config, setting: Setting) -> String {
    let effective = config.effective(setting);
    if let Origin::Place(reason) = &effective.origin {
        return format!("{} ({reason})", effective.value);
    }
    format!("{} ({})", effective.value, effective.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn a_verdict_names_python_and_the_reasons() {
        let given = [(Setting::Application, "shop:app"), (Setting::Workers, "3")]
            .map(|(setting, value)| (setting, vec![value.into()]));
        let environment = [("PORT", "5000")].into_iter().collect();
        let config = Source::of_command_line(given, environment).unwrap().read().unwrap();
        assert_eq!(
            verdict("shop:app", &config, "3.14.0", Duration::from_millis(1234)),
            "shop:app can be served\n  \
             import     1.23 s, with Python 3.14.0\n  \
             workers    3 (command line)\n  \
             bind       0.0.0.0:5000 (PORT is set, and its platform connects from outside)\n"
        );
    }
}
