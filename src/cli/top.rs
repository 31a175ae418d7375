//! The command line of `arctos top`.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command};

use super::{Invocation, UsageError, ctl};
use crate::client::top::Watch;
use crate::config::value::{Kind, Span};
use crate::system::environment::Environment;

/// The first word of such a command line. A module of this name is served as `top:app`.
pub(super) const WORD: &str = "top";
const INTERVAL: &str = "interval";
const ONCE: &str = "once";
/// The default of `--interval`, in seconds.
const DEFAULT_INTERVAL: &str = "1";
const INTERVALS: Span =
    Span { min: Duration::from_millis(100), max: Duration::from_secs(3600), allows_zero: false };

const NOTES: &str = "All data comes from the admin socket of the server. Press ? for the list of keys.\n\
     Exit codes: 0 success; 1 the server cannot be reached at the start; 2 the command line is wrong.";

/// Parses what follows `top`.
pub(super) fn parse(
    words: &[OsString],
    environment: &Environment,
) -> Result<Invocation, UsageError> {
    let words = std::iter::once(OsString::from("arctos top")).chain(words.iter().cloned());
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return super::help_or_mistake(&error),
    };
    let given = matches.get_one::<OsString>(INTERVAL).map(|given| given.to_string_lossy());
    let given = given.as_deref().unwrap_or(DEFAULT_INTERVAL);
    let interval = INTERVALS.read(given).ok_or_else(|| {
        UsageError::Syntax(format!("--interval '{given}': expected {}", INTERVALS.expected()))
    })?;
    let server = ctl::server(&matches, environment)?;
    Ok(Invocation::Top(Watch { server, interval, is_once: matches.get_flag(ONCE) }))
}

/// The command line.
pub(super) fn command() -> Command {
    let interval = Arg::new(INTERVAL)
        .long(INTERVAL)
        .value_name("SECONDS")
        .help(format!("Interval between two updates, in seconds [default: {DEFAULT_INTERVAL}]"))
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true);
    let once = Arg::new(ONCE)
        .long(ONCE)
        .action(ArgAction::SetTrue)
        .help("Print one screen after one interval and exit; a pipe has the same effect");
    let help = Arg::new("help").long("help").short('h').action(ArgAction::Help);
    Command::new("arctos top")
        .about("Show a running server and its workers live.")
        .after_help(NOTES)
        .arg(ctl::admin())
        .args([interval, once])
        .arg(help.help("Print this help"))
        .args_override_self(true)
        .disable_help_flag(true)
}

#[cfg(test)]
mod tests {
    use super::super::parse as parse_all;
    use super::*;

    fn parsed(line: &str, admin_bind: &str) -> Result<Invocation, UsageError> {
        let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
        parse_all(words, [("ARCTOS_ADMIN_BIND", admin_bind)].into_iter().collect())
    }

    fn refusal(line: &str, admin_bind: &str) -> String {
        let error = parsed(line, admin_bind).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_server_and_the_interval_are_read() {
        let watch = |line: &str, admin_bind: &str| match parsed(line, admin_bind) {
            Ok(Invocation::Top(watch)) => watch,
            other => panic!("{line}: {other:?}"),
        };
        let expected = |server: &str, ms: u64, is_once| Watch {
            server: server.parse().unwrap(),
            interval: Duration::from_millis(ms),
            is_once,
        };
        assert_eq!(watch("top", "unix:/run/a,1"), expected("unix:/run/a", 1000, false));
        assert_eq!(
            watch("top --admin 9 --interval 0.5 --once", "unix:/run/a"),
            expected("127.0.0.1:9", 500, true)
        );
        assert_eq!(watch("top --interval 200ms", "1").interval, Duration::from_millis(200));
    }

    #[test]
    fn wrong_arguments_are_named() {
        assert!(refusal("top", "").starts_with("no server to connect to"));
        for interval in ["0", "-1", "0.01", "2h", "x"] {
            let message = refusal(&format!("top --interval {interval}"), "1");
            let expected = format!("--interval '{interval}': expected a time from 100ms to 1h");
            assert!(message.starts_with(&expected), "{message}");
        }
        assert!(refusal("top --loud", "1").contains("--loud"));
        assert!(refusal("top 1", "1").contains("'1'"));
    }

    #[test]
    fn help_names_the_options() {
        let Ok(Invocation::Show { text, exit_code: 0 }) = parsed("top --help", "") else {
            panic!("no help")
        };
        for word in ["--admin <ADDRESS>", "--interval <SECONDS>", "--once", "Usage: arctos top"] {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }

    #[test]
    fn a_module_named_top_is_still_served() {
        for line in ["top:app", "--workers 2 top", "-- top"] {
            let Ok(Invocation::Serve(config)) = parsed(line, "") else { panic!("{line}") };
            assert_eq!(config.application.module, "top");
        }
    }
}
