//! The command line of `arctos ctl VERB`.

mod profile;

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;

use arctos_worker::shared::identity::SlotId;
use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Invocation, UsageError};
use crate::admin::verb::{StopMode, Verb};
use crate::client::ctl::{CtlCommand, ProfileOutput};
use crate::config::Source;
use crate::config::options::Setting;
use crate::config::value::{Kind, Whole};
use crate::system::address::BindAddress;
use crate::system::environment::Environment;

/// The first word of such a command line. A module of this name is served as `ctl:app`.
pub(super) const WORD: &str = "ctl";
const ADMIN: &str = "admin";
const VARIABLE: &str = "ARCTOS_ADMIN_BIND";
const JSON: &str = "json";
const WAIT: &str = "wait";
const QUICK: &str = "quick";
const WORKERS: &str = "workers";
const SLOT: &str = "slot";
const NUMBER: &str = "number";
const PROFILE: &str = "profile";

/// A verb, its help, and how it is read.
struct VerbSpec {
    text: &'static str,
    meaning: &'static str,
    /// Its arguments.
    arguments: fn() -> Vec<Arg>,
    /// Reads the verb from a command line that clap has parsed.
    ///
    /// Errors: the value of the argument is wrong.
    read: fn(&ArgMatches) -> Result<Verb, UsageError>,
}

/// All verbs, in the order of the help.
const VERBS: [VerbSpec; 11] = [
    VerbSpec {
        text: "status",
        meaning: "Show the server, its workers and the routes of its application",
        arguments: || vec![flag(JSON, "Print the JSON of /status, for programs")],
        read: |_| Ok(Verb::Status),
    },
    VerbSpec {
        text: "ready",
        meaning: "Exit with 0 if the server accepts requests, as /readyz does; else print why not",
        arguments: Vec::new,
        read: |_| Ok(Verb::Readyz),
    },
    VerbSpec {
        text: "reload",
        meaning: "Reload configuration and code, worker by worker, as HUP does",
        arguments: || {
            let help =
                "Wait until the reload is done; if it fails, print the reason and exit with 1";
            vec![flag(WAIT, help)]
        },
        read: |matches| Ok(Verb::Reload { wait: matches.get_flag(WAIT) }),
    },
    VerbSpec {
        text: "stop",
        meaning: "Stop the server gracefully, as TERM does",
        arguments: || {
            let help = "Stop quickly, as INT does: abort requests that run longer than 2 seconds";
            vec![flag(QUICK, help)]
        },
        read: |matches| {
            let is_quick = matches.get_flag(QUICK);
            Ok(Verb::Stop { mode: if is_quick { StopMode::Quick } else { StopMode::Graceful } })
        },
    },
    VerbSpec {
        text: "scale",
        meaning: "Change the number of workers, as TTIN and TTOU do",
        arguments: || {
            let argument = Arg::new(WORKERS).value_name("N").help("Number of workers, at least 1");
            vec![value(argument)]
        },
        read: |matches| Ok(Verb::Scale { workers: number(matches, "scale", WORKERS, 1)? }),
    },
    VerbSpec {
        text: "dump",
        meaning: "Write the Python stack of a worker to the server's log; the worker keeps serving",
        arguments: || vec![slot()],
        read: |matches| Ok(Verb::Dump { slot: SlotId(number(matches, "dump", SLOT, 0)?) }),
    },
    VerbSpec {
        text: "recycle",
        meaning: "Replace a worker, once its replacement is ready",
        arguments: || vec![slot()],
        read: |matches| Ok(Verb::Recycle { slot: SlotId(number(matches, "recycle", SLOT, 0)?) }),
    },
    VerbSpec {
        text: "quarantine",
        meaning: "Show the requests that are refused because they have killed or hung workers",
        arguments: || vec![flag(JSON, "Print the JSON of /quarantine, for programs")],
        read: |_| Ok(Verb::Quarantine),
    },
    VerbSpec {
        text: "release",
        meaning: "End a quarantine, or all of them",
        arguments: || {
            let help =
                "Number of the quarantine, as `arctos ctl quarantine` shows it [default: all]";
            vec![value(Arg::new(NUMBER).value_name("NUMBER").help(help)).required(false)]
        },
        read: |matches| {
            let given = matches.contains_id(NUMBER);
            let number = given.then(|| number(matches, "release", NUMBER, 1)).transpose()?;
            Ok(Verb::Release { number: number.and_then(NonZeroU16::new) })
        },
    },
    VerbSpec {
        text: "metrics",
        meaning: "Show all metrics, in total and for each worker",
        arguments: Vec::new,
        read: |_| Ok(Verb::Metrics),
    },
    VerbSpec {
        text: PROFILE,
        meaning: "Sample the Python code of the workers, and show where its time goes",
        arguments: profile::arguments,
        read: profile::read,
    },
];

const EXIT_CODES: &str = "Exit codes: 0 success; 1 the server cannot be reached, refuses or is not ready, \
     or the reload failed; 2 the command line is wrong.";

/// Parses what follows `ctl`.
pub(super) fn parse(
    words: &[OsString],
    environment: &Environment,
) -> Result<Invocation, UsageError> {
    let words = std::iter::once(OsString::from("arctos ctl")).chain(words.iter().cloned());
    let matches = match command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return interpret(&error),
    };
    let (text, own) = matches.subcommand().ok_or_else(|| no_verb(""))?;
    let spec = VERBS.iter().find(|spec| spec.text == text).ok_or_else(|| no_verb(text))?;
    let verb = (spec.read)(own)?;
    let server = server(&matches, environment)?;
    let is_json = matches!(verb, Verb::Status | Verb::Quarantine) && own.get_flag(JSON);
    let profile = if text == PROFILE { profile::output(own)? } else { ProfileOutput::default() };
    Ok(Invocation::Ctl(CtlCommand { verb, is_json, profile, server }))
}

/// Returns the address of the server: that of `--admin`, else the first of `ARCTOS_ADMIN_BIND`, else the first that the
/// configuration file has, which is found as by the server.
pub(super) fn server(
    matches: &ArgMatches,
    environment: &Environment,
) -> Result<BindAddress, UsageError> {
    if let Some(given) = matches.get_one::<OsString>(ADMIN) {
        return address("--admin", &given.to_string_lossy());
    }
    let binds = environment.text(VARIABLE).unwrap_or_default();
    match binds.split(',').map(str::trim).find(|bind| !bind.is_empty()) {
        Some(first) => address(VARIABLE, first),
        None => in_file(&Source::of_command_line([], environment.clone())?),
    }
}

/// Returns the first address of the admin socket in the configuration file.
fn in_file(source: &Source) -> Result<BindAddress, UsageError> {
    let given = source.given()?;
    let binds = given.get(&Setting::AdminBind).ok_or(UsageError::NoAdmin)?;
    let first = binds.values.first().ok_or(UsageError::NoAdmin)?.to_string_lossy();
    let found = address(&format!("{}: admin-bind", binds.origin), &first)?;
    let BindAddress::Unix(path) = found else { return Ok(found) };
    // The server is in this directory when it opens the socket.
    let directory = given.get(&Setting::Chdir).and_then(|chdir| chdir.values.last());
    let directory = directory.map_or_else(Default::default, PathBuf::from);
    Ok(BindAddress::Unix(directory.join(path)))
}

/// The option that names the server.
pub(super) fn admin() -> Arg {
    Arg::new(ADMIN)
        .long(ADMIN)
        .value_name("ADDRESS")
        .help(
            "Address of the server's admin socket, as in its --admin-bind: HOST:PORT or unix:/path \
             [default: the first of $ARCTOS_ADMIN_BIND, or of admin-bind in arctos.toml]",
        )
        .value_parser(ValueParser::os_string())
}

/// The command line.
pub(super) fn command() -> Command {
    let help = Arg::new("help").long("help").short('h').action(ArgAction::Help).global(true);
    let verbs = VERBS.map(|spec| {
        let command = Command::new(spec.text).about(spec.meaning).disable_help_flag(true);
        command.args((spec.arguments)()).args_override_self(true)
    });
    Command::new("arctos ctl")
        .about("Control a running server through its admin socket.")
        .after_help(EXIT_CODES)
        .arg(admin().global(true))
        .arg(help.help("Print this help"))
        .subcommands(verbs)
        .subcommand_required(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn slot() -> Arg {
    let argument = Arg::new(SLOT)
        .value_name("SLOT")
        .help("Slot of the worker, as `arctos ctl status` shows it");
    value(argument)
}

/// An argument that [`number`] reads, because clap describes a wrong one in the words of a programmer: `0 is not in
/// 1..=65535`.
fn value(argument: Arg) -> Arg {
    let argument = argument.required(true).value_parser(ValueParser::os_string());
    argument.allow_negative_numbers(true)
}

fn number(matches: &ArgMatches, verb: &str, name: &str, min: u64) -> Result<u16, UsageError> {
    let kind = Whole { min, max: u64::from(u16::MAX) };
    let given = matches.get_one::<OsString>(name).map(|text| text.to_string_lossy());
    let given = given.as_deref().unwrap_or_default();
    let number = kind.read(given).and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| {
        let value_name = match name {
            SLOT => "SLOT",
            NUMBER => "[NUMBER]",
            _ => "N",
        };
        let words = format!("arctos ctl {verb} '{given}': expected {}", kind.expected());
        UsageError::Syntax(format!(
            "{words}\n\n  Usage: arctos ctl {verb} {value_name} --admin ADDRESS"
        ))
    })
}

fn address(origin: &str, text: &str) -> Result<BindAddress, UsageError> {
    let wrong = |expected: String| {
        let (origin, value) = (origin.to_owned(), text.to_owned());
        UsageError::AdminAddress { origin, value, expected }
    };
    match text.parse() {
        Ok(BindAddress::Fd(_)) => Err(wrong("HOST:PORT or unix:/path".to_owned())),
        Ok(address) => Ok(address),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Interprets what clap stopped at: help, a wrong verb, or another mistake.
fn interpret(error: &clap::Error) -> Result<Invocation, UsageError> {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => Err(no_verb(word)),
        (ErrorKind::MissingSubcommand, _) => Err(no_verb("")),
        _ => super::help_or_mistake(error),
    }
}

fn no_verb(word: &str) -> UsageError {
    let given = if word.is_empty() { String::new() } else { format!(" {word}") };
    UsageError::Verb { given, verbs: VERBS.map(|spec| spec.text).join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::parse as parse_all;
    use super::*;

    fn parsed(line: &str, admin_bind: &str) -> Result<Invocation, UsageError> {
        let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
        parse_all(words, [(VARIABLE, admin_bind)].into_iter().collect())
    }

    fn order(line: &str, admin_bind: &str) -> CtlCommand {
        match parsed(line, admin_bind) {
            Ok(Invocation::Ctl(order)) => order,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refusal(line: &str, admin_bind: &str) -> String {
        let error = parsed(line, admin_bind).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_server_is_that_of_admin_or_of_the_environment() {
        let at = |text: &str| CtlCommand {
            verb: Verb::Metrics,
            is_json: false,
            profile: ProfileOutput::default(),
            server: text.parse().unwrap(),
        };
        let variable = "unix:/run/a.sock , 127.0.0.1:9000";
        assert_eq!(order("ctl metrics", variable), at("unix:/run/a.sock"));
        assert_eq!(order("ctl metrics --admin [::1]:9", variable), at("[::1]:9"));
        assert_eq!(order("ctl --admin=unix:@x metrics", ""), at("unix:@x"));
        assert_eq!(order("ctl metrics --admin 1 --admin 2", ""), at("127.0.0.1:2"));
    }

    #[test]
    fn without_a_server_the_error_says_what_to_give() {
        for nothing in ["", " , "] {
            let message = refusal("ctl metrics", nothing);
            assert!(message.starts_with("no server to connect to"), "{message}");
            assert!(message.contains("--admin ") && message.contains(VARIABLE), "{message}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_its_option_or_variable() {
        assert!(
            refusal("ctl metrics --admin x", "").starts_with("--admin 'x': expected HOST:PORT,")
        );
        let message = refusal("ctl metrics", "::1");
        assert!(message.starts_with("ARCTOS_ADMIN_BIND '::1': expected brackets"), "{message}");
        assert_eq!(
            refusal("ctl metrics --admin fd://3", ""),
            "--admin 'fd://3': expected HOST:PORT or unix:/path"
        );
    }

    #[test]
    fn a_wrong_verb_is_answered_with_all_verbs() {
        assert_eq!(
            refusal("ctl dance --admin 1", ""),
            "arctos ctl dance: there is no such verb; the verbs are: status, ready, reload, stop, scale, dump, recycle, quarantine, release, metrics, profile"
        );
        assert_eq!(
            refusal("ctl", "unix:@x"),
            "arctos ctl: a verb is missing; the verbs are: status, ready, reload, stop, scale, dump, recycle, quarantine, release, metrics, profile"
        );
        assert!(refusal("ctl metrics --loud", "unix:@x").contains("--loud"));
    }

    #[test]
    fn each_verb_has_its_own_arguments() {
        let verb = |line: &str| order(line, "unix:@x").verb;
        for (line, expected) in [
            ("ctl status", Verb::Status),
            ("ctl status --json", Verb::Status),
            ("ctl ready", Verb::Readyz),
            ("ctl reload", Verb::Reload { wait: false }),
            ("ctl reload --wait --admin 1 --wait", Verb::Reload { wait: true }),
            ("ctl stop", Verb::Stop { mode: StopMode::Graceful }),
            ("ctl stop --quick", Verb::Stop { mode: StopMode::Quick }),
            ("ctl scale 4", Verb::Scale { workers: 4 }),
            ("ctl --admin 1 scale 1", Verb::Scale { workers: 1 }),
            ("ctl dump 0", Verb::Dump { slot: SlotId(0) }),
            ("ctl recycle 3", Verb::Recycle { slot: SlotId(3) }),
            ("ctl quarantine", Verb::Quarantine),
            ("ctl quarantine --json", Verb::Quarantine),
            ("ctl release", Verb::Release { number: None }),
            ("ctl release 7", Verb::Release { number: NonZeroU16::new(7) }),
        ] {
            assert_eq!(verb(line), expected, "{line}");
            assert_eq!(order(line, "unix:@x").is_json, line.ends_with("--json"), "{line}");
        }
        for (line, named) in [
            ("ctl scale", "<N>"),
            ("ctl scale 0", "'0'"),
            ("ctl scale -1", "-1"),
            ("ctl scale 65536", "'65536'"),
            ("ctl scale x", "'x'"),
            ("ctl scale 1 2", "'2'"),
            ("ctl dump", "<SLOT>"),
            ("ctl recycle", "<SLOT>"),
            ("ctl release 0", "'0'"),
            ("ctl release 1 2", "'2'"),
            ("ctl reload --json", "--json"),
        ] {
            let message = refusal(line, "unix:@x");
            assert!(message.contains(named), "{line}: {message}");
        }
    }

    #[test]
    fn a_wrong_number_is_refused_with_the_range() {
        for (line, expected) in [
            ("ctl scale 0", "arctos ctl scale '0': expected a whole number from 1 to 65535"),
            ("ctl dump x", "arctos ctl dump 'x': expected a whole number from 0 to 65535"),
        ] {
            let message = refusal(line, "unix:@x");
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn there_is_help_for_all_verbs_and_for_each() {
        for (line, words) in [
            ("ctl --help", ["metrics", "--admin <ADDRESS>", "Usage: arctos ctl"]),
            ("ctl -h", ["metrics", "--admin <ADDRESS>", "ARCTOS_ADMIN_BIND"]),
            ("ctl --help", ["reload", "scale", "Exit codes: 0 success; 1 "]),
            ("ctl scale --help", ["<N>", "at least 1", "--admin <ADDRESS>"]),
            ("ctl reload --help", ["--wait", "as HUP does", "--admin <ADDRESS>"]),
            (
                "ctl metrics --help",
                ["Show all metrics", "--admin <ADDRESS>", "Usage: arctos ctl metrics"],
            ),
        ] {
            let Ok(Invocation::Show { text, exit_code: 0 }) = parsed(line, "") else {
                panic!("{line}")
            };
            for word in words {
                assert!(text.contains(word), "{line}: {word}\n{text}");
            }
        }
    }

    #[test]
    fn a_module_named_ctl_is_still_served() {
        for line in ["ctl:app", "--workers 2 ctl", "-- ctl"] {
            let Ok(Invocation::Serve(config)) = parsed(line, "") else { panic!("{line}") };
            assert_eq!(config.application.module, "ctl");
        }
    }
}
