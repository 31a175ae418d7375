//! The command line: `arctos [OPTIONS] [MODULE:ATTR]`, or a word such as `ctl`, `migrate` or `help` in its place, parsed to
//! an [`Invocation`].
//!
//! clap checks the syntax; [`crate::config`] reads the values, so that a wrong value is refused in the same words
//! whether it came from an option or from a variable. Nothing here prints or exits.

mod ctl;
mod dashboard;
mod generated;
mod help;
mod init;
mod migrate;
mod top;

use std::ffi::OsString;

use clap::builder::{OsStr as ArgName, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::client::ctl::CtlCommand;
use crate::client::top::Watch;
use crate::config::options::peers::{self, gunicorn};
use crate::config::options::{OPTIONS, OptionSpec, Setting, Takes};
use crate::config::{Config, ConfigError, Resolved, Source};
use crate::migrate::MigrateCommand;
use crate::system::environment::Environment;

pub use crate::config::options::markdown as options_markdown;
pub use init::InitCommand;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Serve until asked to stop.
    Serve(Box<Config>),
    /// Load the application, say whether that works, and exit.
    Check(Box<Config>),
    /// Print this effective configuration and exit with 0.
    PrintConfig(String),
    /// Send a command to a running server.
    Ctl(CtlCommand),
    /// Show a running server live.
    Top(Watch),
    /// Print the configuration of another server as one of arctos.
    Migrate(MigrateCommand),
    /// Write a configuration file.
    Init(InitCommand),
    /// Print this text (help, version) and leave.
    Show {
        /// The text, for standard output.
        text: String,
        /// The exit code.
        exit_code: i32,
    },
}

/// Why nothing was started. The message goes to standard error, after "error: ".
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The syntax of the command line is wrong; the message is clap's.
    #[error("{0}")]
    Syntax(String),
    /// An option of another server, which arctos does not have.
    #[error("{option}: {hint}")]
    Unsupported {
        /// The option as written.
        option: String,
        /// What to do instead.
        hint: String,
    },
    /// MODULE:ATTR is missing.
    #[error(
        "no application to serve\n\n  Usage: arctos [OPTIONS] [MODULE:ATTR]\n\n  \
         arctos shop.wsgi:application   serves `application` of the module shop.wsgi\n  \
         arctos 'shop:create_app()'     serves what the function returns\n\n\
         It can also be given as app in arctos.toml, or in ARCTOS_APP. For more, try --help."
    )]
    NoApplication,
    /// `arctos ctl` has no verb, or an unknown one.
    #[error("arctos ctl{given}: {}; the verbs are: {verbs}",
        if .given.is_empty() { "a verb is missing" } else { "there is no such verb" })]
    Verb {
        /// The given verb, after a space; empty if there is none.
        given: String,
        /// All verbs.
        verbs: String,
    },
    /// `arctos migrate` does not name a server that is known, or no configuration.
    #[error(
        "arctos migrate{given}: {problem}\n\n  Usage: arctos migrate SERVER CONFIGURATION\n\n\
        The servers are: gunicorn, uwsgi, granian. For more, try arctos migrate --help."
    )]
    Migrate {
        /// The given server, after a space; empty if there is none.
        given: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// `arctos help` with a topic that has no page.
    #[error("arctos help '{given}': there is no such topic; the topics are: {topics}")]
    Topic {
        /// What was given.
        given: String,
        /// Those that have a page.
        topics: String,
    },
    /// `arctos ctl` or `arctos top` is not told which server to connect to.
    #[error(
        "no server to connect to: give --admin ADDRESS with the address of the server's --admin-bind, \
         set ARCTOS_ADMIN_BIND, or run this where an arctos.toml has admin-bind\n\n  \
         arctos ctl status --admin unix:/run/shop-admin.sock"
    )]
    NoAdmin,
    /// The address of the server for `arctos ctl` or `arctos top` is wrong.
    #[error("{origin} '{value}': expected {expected}")]
    AdminAddress {
        /// The option, the variable or the line of the file.
        origin: String,
        /// Its value.
        value: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A value is wrong, or cannot be used on this machine.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl UsageError {
    /// The exit code: 2, or 1 if only this machine cannot use a value.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Syntax(_)
            | Self::Unsupported { .. }
            | Self::NoApplication
            | Self::Verb { .. }
            | Self::Migrate { .. }
            | Self::Topic { .. }
            | Self::NoAdmin
            | Self::AdminAddress { .. } => 2,
            Self::Config(error) => error.exit_code(),
        }
    }
}

/// Parses a command line, which starts with the name of the program, and the environment.
///
/// Errors: [`UsageError`]. Its message neither starts with "error: " nor ends in a newline.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment,
) -> Result<Invocation, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let [_, word, rest @ ..] = arguments.as_slice() {
        match word.to_str() {
            Some(ctl::WORD) => return ctl::parse(rest, &environment),
            Some(top::WORD) => return top::parse(rest, &environment),
            Some(help::WORD) => return help::parse(rest),
            Some(init::WORD) => return init::parse(rest),
            Some(migrate::WORD) => return migrate::parse(rest),
            Some(dashboard::DASHBOARD) => return dashboard::dashboard(rest),
            Some(dashboard::ALERTS) => return dashboard::alerts(rest),
            Some(generated::COMPLETIONS) => return generated::completions(rest),
            Some(generated::MAN) => return generated::man(rest),
            Some(_) | None => {}
        }
    }
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return interpret(&error),
    };
    if let Some(class) = matches.get_one::<OsString>(gunicorn::WORKER_CLASS)
        && class != gunicorn::ONLY_WORKER_CLASS
    {
        let option = format!("--{}", gunicorn::WORKER_CLASS);
        let hint = peers::hint(&option).unwrap_or_default();
        let option = format!("{option} '{}'", class.to_string_lossy());
        return Err(UsageError::Unsupported { option, hint });
    }
    let source = Source::of_command_line(given(&matches), environment)?;
    let resolved = source.resolve()?;
    if matches.get_flag(PRINT_CONFIG) {
        return Ok(Invocation::PrintConfig(print(&resolved, &source)));
    }
    let config = Box::new(resolved.config.ok_or(UsageError::NoApplication)?);
    Ok(if matches.get_flag(CHECK) { Invocation::Check(config) } else { Invocation::Serve(config) })
}

/// Returns the options that the command line, the environment or the configuration file gives. A command that starts
/// arctos can so have defaults of its own.
///
/// Errors: those of [`parse`], for the syntax and the file.
pub fn given_settings(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment,
) -> Result<Vec<Setting>, UsageError> {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return Err(syntax(&error.render().to_string())),
    };
    let source = Source::of_command_line(given(&matches), environment)?;
    Ok(source.given()?.into_keys().collect())
}

const CHECK: &str = "check";
const PRINT_CONFIG: &str = "print-config";
const ABOUT: &str = "Serve a WSGI application with prefork workers.";
const VARIABLES: &str = "Every option except those under 'Instead of serving' can also be set in \
    the environment, --graceful-timeout as ARCTOS_GRACEFUL_TIMEOUT and MODULE:ATTR as ARCTOS_APP, and \
    in arctos.toml, as graceful-timeout and app. The command line takes precedence over the environment, \
    and the environment over the file. \
    A TIME is in seconds or has a unit (500ms, 30s, 2m); a SIZE is in bytes or has a unit (64K, 1M, 1G).\n\n\
    arctos help lists the topics of the guide.";

/// The words that take the place of an application; a module of such a name is served as `ctl:app`.
#[cfg(test)]
const WORDS: [&str; 9] = [
    ctl::WORD,
    top::WORD,
    init::WORD,
    migrate::WORD,
    help::WORD,
    dashboard::DASHBOARD,
    dashboard::ALERTS,
    generated::COMPLETIONS,
    generated::MAN,
];

/// The command line, with what is accepted for the sake of scripts that were written for gunicorn.
fn command() -> Command {
    described().arg(
        Arg::new(gunicorn::WORKER_CLASS)
            .long(gunicorn::WORKER_CLASS)
            .short('k')
            .value_name("CLASS")
            .value_parser(ValueParser::os_string())
            .hide(true),
    )
}

/// The command line as the help, the man page and the completions describe it.
fn described() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .help(help)
            .action(ArgAction::SetTrue)
            .help_heading("Instead of serving")
    };
    Command::new("arctos")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(VARIABLES)
        .override_usage(
            "arctos [OPTIONS] [MODULE:ATTR]\n       arctos ctl VERB [--admin ADDRESS]\n       \
             arctos top [--admin ADDRESS]\n       arctos init [PATH]\n       \
             arctos migrate SERVER CONFIGURATION\n       arctos help [TOPIC]\n       \
             arctos dashboard SYSTEM\n       arctos alerts SYSTEM\n       \
             arctos completions SHELL\n       arctos man",
        )
        // The last of two counts, so that a script can end in "$@".
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(OPTIONS.iter().map(argument))
        .arg(
            flag(
                CHECK,
                "Check the configuration, load the application, and report whether both work",
            )
            .alias("check-config"),
        )
        .arg(flag(PRINT_CONFIG, "Print the effective value of each option and where it comes from"))
        .arg(flag("help", "Print this help").short('h').action(ArgAction::Help))
        .arg(flag("version", "Print the version").short('v').action(ArgAction::Version))
}

/// How gunicorn spells an option.
const OTHER_SPELLINGS: [(Setting, &str); 2] = [
    (Setting::LimitRequestFieldSize, "limit-request-field_size"),
    (Setting::ReloadExtra, "reload-extra-file"),
];

fn argument(option: &OptionSpec) -> Arg {
    let argument = Arg::new(option.long)
        .value_name(option.value)
        .help(option.help())
        .help_heading(option.topic.title())
        .value_parser(ValueParser::os_string())
        // `-1` then reaches our own reader as a value, and is not an unknown option to clap.
        .allow_negative_numbers(true);
    let argument = match option.takes {
        Takes::Positional => return argument.index(1),
        Takes::Once => argument.action(ArgAction::Set),
        Takes::Many(_) => argument.action(ArgAction::Append),
        Takes::Switch => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(ArgName::from("on")),
    };
    let argument = match OTHER_SPELLINGS.iter().find(|(setting, _)| *setting == option.setting) {
        Some((_, name)) => argument.alias(*name),
        None => argument,
    };
    let argument = argument.long(option.long);
    match option.short {
        Some(letter) => argument.short(letter),
        None => argument,
    }
}

/// Returns the given values of each option.
fn given(matches: &ArgMatches) -> impl Iterator<Item = (Setting, Vec<OsString>)> {
    OPTIONS.iter().filter_map(|option| {
        let values = matches.get_many::<OsString>(option.long)?;
        Some((option.setting, values.cloned().collect()))
    })
}

/// Interprets what clap stopped at: help, version, an option of another server, or a mistake.
fn interpret(error: &clap::Error) -> Result<Invocation, UsageError> {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && let Some(hint) = peers::hint(option)
    {
        return Err(UsageError::Unsupported { option: option.clone(), hint });
    }
    help_or_mistake(error)
}

/// Interprets what clap stopped at in any command line: help, version, or a mistake.
fn help_or_mistake(error: &clap::Error) -> Result<Invocation, UsageError> {
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Ok(Invocation::Show { text, exit_code: 0 });
    }
    Err(syntax(&text))
}

/// Returns clap's message without the advice to pass an unknown option as a value: no application is called `--http2`.
fn syntax(text: &str) -> UsageError {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("  tip: to pass '")) {
        // The empty line before the advice is also the one after the message.
        if !(line.is_empty() && kept.last().is_some_and(|last| last.is_empty())) {
            kept.push(line);
        }
    }
    UsageError::Syntax(kept.join("\n").trim_end().to_owned())
}

fn print(resolved: &Resolved, source: &Source) -> String {
    let mut page = resolved.print();
    for hint in source.hints() {
        page.push_str(&format!("# {hint}\n"));
    }
    page
}

#[cfg(test)]
mod tests;
