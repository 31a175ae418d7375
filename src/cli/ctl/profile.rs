//! The arguments of `arctos ctl profile`.

use std::ffi::OsString;
use std::path::PathBuf;

use arctos_worker::shared::identity::SlotId;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgMatches};

use super::super::UsageError;
use super::SLOT;
use crate::admin::verb::Verb;
use crate::client::ctl::{ProfileFormat, ProfileOutput};
use crate::config::value::{Kind, Whole};
use crate::profile::{DEFAULT_SECONDS, MAX_SECONDS};

const SECONDS: &str = "seconds";
const FORMAT: &str = "format";
const OUTPUT: &str = "output";

pub(super) fn arguments() -> Vec<Arg> {
    let number = |name: &'static str, value_name: &'static str, help: &'static str| {
        let argument = Arg::new(name).long(name).value_name(value_name).help(help);
        argument.value_parser(ValueParser::os_string()).allow_negative_numbers(true)
    };
    vec![
        number(SECONDS, "N", "How long to sample, from 1 to 600 seconds [default: 10]"),
        number(SLOT, "SLOT", "Sample only the worker in this slot [default: all]"),
        Arg::new(FORMAT)
            .long(FORMAT)
            .value_name("FORMAT")
            .help(
                "An SVG picture, lines for other tools, a file for speedscope.app, or tables of functions and routes",
            )
            .default_value(ProfileFormat::default().name())
            .value_parser(PossibleValuesParser::new(ProfileFormat::ALL.map(ProfileFormat::name))),
        Arg::new(OUTPUT)
            .long(OUTPUT)
            .short('o')
            .value_name("FILE")
            .help("Write to a file, and print only a summary [default: standard output]")
            .value_parser(ValueParser::os_string()),
    ]
}

pub(super) fn read(matches: &ArgMatches) -> Result<Verb, UsageError> {
    let seconds = number(matches, SECONDS, 1, MAX_SECONDS)?.unwrap_or(DEFAULT_SECONDS);
    let slot = number(matches, SLOT, 0, u16::MAX)?.map(SlotId);
    Ok(Verb::Profile { seconds, slot })
}

pub(super) fn output(matches: &ArgMatches) -> Result<ProfileOutput, UsageError> {
    let name = matches.get_one::<String>(FORMAT);
    let format = ProfileFormat::ALL
        .into_iter()
        .find(|format| Some(format.name()) == name.map(String::as_str));
    let file = matches.get_one::<OsString>(OUTPUT).map(PathBuf::from);
    Ok(ProfileOutput { format: format.unwrap_or_default(), file })
}

fn number(matches: &ArgMatches, name: &str, min: u64, max: u16) -> Result<Option<u16>, UsageError> {
    let Some(given) = matches.get_one::<OsString>(name) else { return Ok(None) };
    let (given, kind) = (given.to_string_lossy(), Whole { min, max: u64::from(max) });
    let number = kind.read(&given).and_then(|number| u16::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        let expected = kind.expected();
        UsageError::Syntax(format!("arctos ctl profile --{name} '{given}': expected {expected}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{Invocation, parse};
    use super::*;

    fn parsed(line: &str) -> Result<(Verb, ProfileOutput), String> {
        let words = format!("arctos ctl profile --admin unix:@x {line}");
        let words = words.split_whitespace().map(OsString::from);
        match parse(words, [("", "")].into_iter().collect()) {
            Ok(Invocation::Ctl(command)) => Ok((command.verb, command.profile)),
            Ok(other) => panic!("{line}: {other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_profile_has_a_time_a_slot_a_format_and_a_file() {
        let usual = Verb::Profile { seconds: 10, slot: None };
        assert_eq!(parsed(""), Ok((usual, ProfileOutput::default())));
        let own = Verb::Profile { seconds: 600, slot: Some(SlotId(3)) };
        let output = ProfileOutput { format: ProfileFormat::Top, file: Some("a.svg".into()) };
        let line = "--seconds 600 --slot=3 --format top -o a.svg";
        assert_eq!(parsed(line), Ok((own, output)));
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_is_expected() {
        for (line, words) in [
            ("--seconds 0", "--seconds '0': expected"),
            ("--seconds 601", "--seconds '601': expected"),
            ("--seconds -1", "--seconds '-1': expected"),
            ("--slot x", "--slot 'x': expected"),
            ("--format png", "flamegraph"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(words), "{line}: {message}");
        }
    }
}
