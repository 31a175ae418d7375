//! The command lines of `arctos dashboard` and `arctos alerts`, which print what monitoring systems import.

use std::ffi::OsString;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, Command};

use super::{Invocation, UsageError};
use crate::dashboard;
use crate::metrics::statsd;

/// The first word of such a command line. A module of this name is served as `dashboard:app`.
pub(super) const DASHBOARD: &str = "dashboard";
/// As above.
pub(super) const ALERTS: &str = "alerts";
const SYSTEM: &str = "system";
const PREFIX: &str = "statsd-prefix";
const GRAFANA: &str = "grafana";
const DATADOG: &str = "datadog";
const PROMETHEUS: &str = "prometheus";
const DEFAULT_PREFIX: &str = "arctos";

/// Parses what follows `dashboard`.
pub(super) fn dashboard(words: &[OsString]) -> Result<Invocation, UsageError> {
    let command = dashboard_command();
    let matches = match command.try_get_matches_from(given("arctos dashboard", words)) {
        Ok(matches) => matches,
        Err(error) => return super::help_or_mistake(&error),
    };
    let prefix = matches.get_one::<OsString>(PREFIX);
    let prefix = prefix.map_or(DEFAULT_PREFIX.into(), |prefix| prefix.to_string_lossy());
    let is_datadog = matches.get_one::<String>(SYSTEM).is_some_and(|system| system == DATADOG);
    let text = if is_datadog {
        dashboard::datadog(&statsd::prefix(&prefix))
    } else {
        dashboard::grafana()
    };
    Ok(Invocation::Show { text, exit_code: 0 })
}

/// Parses what follows `alerts`.
pub(super) fn alerts(words: &[OsString]) -> Result<Invocation, UsageError> {
    match alerts_command().try_get_matches_from(given("arctos alerts", words)) {
        Ok(_) => Ok(Invocation::Show { text: dashboard::rules(), exit_code: 0 }),
        Err(error) => super::help_or_mistake(&error),
    }
}

fn given(name: &str, words: &[OsString]) -> impl Iterator<Item = OsString> {
    std::iter::once(OsString::from(name)).chain(words.iter().cloned())
}

/// The command line of `arctos dashboard`.
pub(super) fn dashboard_command() -> Command {
    let prefix = Arg::new(PREFIX)
        .long(PREFIX)
        .value_name("PREFIX")
        .help(format!("For datadog: the server's --statsd-prefix [default: {DEFAULT_PREFIX}]"))
        .value_parser(ValueParser::os_string());
    let notes = "grafana reads what Prometheus scrapes from --admin-bind; datadog reads what --statsd-host sends.\n\n  \
         arctos dashboard grafana > arctos.json   then: Dashboards, New, Import";
    command("arctos dashboard", [GRAFANA, DATADOG].as_slice())
        .about("Print a dashboard of all metrics, to be imported.")
        .after_help(notes)
        .arg(prefix)
}

/// The command line of `arctos alerts`.
pub(super) fn alerts_command() -> Command {
    let notes =
        "  arctos alerts prometheus > arctos.rules.yml   then: rule_files of prometheus.yml";
    command("arctos alerts", [PROMETHEUS].as_slice())
        .about("Print alert rules for the metrics, to be adapted.")
        .after_help(notes)
}

fn command(name: &'static str, systems: &'static [&'static str]) -> Command {
    let system = Arg::new(SYSTEM)
        .value_name(systems.join("|"))
        .required(true)
        .help("The system that imports it")
        .value_parser(PossibleValuesParser::new(systems));
    let help = Arg::new("help").long("help").short('h').action(ArgAction::Help);
    Command::new(name).arg(system).arg(help.help("Print this help")).disable_help_flag(true)
}

#[cfg(test)]
mod tests {
    use super::super::parse as parse_all;
    use super::*;
    use crate::system::environment::Environment;

    fn shown(line: &str) -> Result<String, UsageError> {
        let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
        match parse_all(words, Environment::default()) {
            Ok(Invocation::Show { text, exit_code: 0 }) => Ok(text),
            Err(error) => Err(error),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_prefix_of_datadog_is_cleaned_as_that_of_the_server() {
        assert!(shown("dashboard datadog").unwrap().contains("sum:arctos.bytes.in{"));
        let text = shown("dashboard datadog --statsd-prefix shop:web.").unwrap();
        assert!(text.contains("sum:shop_web.bytes.in{") && !text.contains(":arctos."));
        assert!(shown("dashboard datadog --statsd-prefix=").unwrap().contains("sum:bytes.in{"));
    }

    #[test]
    fn a_system_has_to_be_known() {
        for (line, systems) in [
            ("dashboard", "<grafana|datadog>"),
            ("dashboard zabbix", "grafana, datadog"),
            ("dashboard grafana datadog", "datadog"),
            ("alerts", "prometheus"),
            ("alerts datadog", "prometheus"),
        ] {
            let error = shown(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(systems), "{error}");
        }
        assert!(shown("dashboard --help").unwrap().contains("Usage: arctos dashboard"));
        assert!(shown("alerts -h").unwrap().contains("Usage: arctos alerts"));
    }
}
