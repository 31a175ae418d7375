//! `arctos completions SHELL` and `arctos man`: texts that are generated from the description of the command line.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{Invocation, UsageError, ctl, dashboard, help, init, migrate, top};
use crate::config::options::peers::Peer;
use crate::config::options::{OPTIONS, OptionSpec};

/// The first word of such a command line. A module of this name is served as `completions:app`.
pub(super) const COMPLETIONS: &str = "completions";
/// As above.
pub(super) const MAN: &str = "man";

const SHELLS: [(&str, Shell); 3] =
    [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// Reads what follows `completions`.
pub(super) fn completions(words: &[OsString]) -> Result<Invocation, UsageError> {
    let [word] = words else {
        return usage(words, "completions", "bash|zsh|fish", COMPLETIONS_HELP);
    };
    let Some((_, shell)) = SHELLS.iter().find(|(name, _)| word == name) else {
        return usage(words, "completions", "bash|zsh|fish", COMPLETIONS_HELP);
    };
    let mut script = Vec::new();
    generate(*shell, &mut whole(Detail::Brief), "arctos", &mut script);
    shown(script)
}

/// Reads what follows `man`.
pub(super) fn man(words: &[OsString]) -> Result<Invocation, UsageError> {
    if !words.is_empty() {
        return usage(words, "man", "", MAN_HELP);
    }
    shown(page().expect("writing to memory cannot fail"))
}

const COMPLETIONS_HELP: &str = "Print a script that completes the words and options of arctos in a shell.\n\n  \
    bash   arctos completions bash > ~/.local/share/bash-completion/completions/arctos\n  \
    zsh    arctos completions zsh > DIR/_arctos, where DIR is in $fpath\n  \
    fish   arctos completions fish > ~/.config/fish/completions/arctos.fish";
const MAN_HELP: &str = "Print the man page of arctos, for man(1):\n\n  \
    arctos man > ~/.local/share/man/man1/arctos.1 && man arctos";

/// Answers a request for help, and refuses everything else.
fn usage(
    words: &[OsString],
    word: &str,
    argument: &str,
    help: &str,
) -> Result<Invocation, UsageError> {
    let usage = format!("Usage: arctos {word} {argument}");
    if let [only] = words
        && (only == "--help" || only == "-h")
    {
        let text = format!("{help}\n\n{}\n", usage.trim_end());
        return Ok(Invocation::Show { text, exit_code: 0 });
    }
    let given: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let given = if given.is_empty() { String::new() } else { format!(" '{}'", given.join(" ")) };
    let expected = if argument.is_empty() { "no argument" } else { argument };
    Err(UsageError::Syntax(format!(
        "arctos {word}{given}: expected {expected}\n\n  {}",
        usage.trim_end()
    )))
}

fn shown(text: Vec<u8>) -> Result<Invocation, UsageError> {
    let text = String::from_utf8(text).expect("all texts of the command line are UTF-8");
    Ok(Invocation::Show { text, exit_code: 0 })
}

/// How much of an option's help is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// The first sentence, for a list in a shell.
    Brief,
    /// All of it.
    Full,
}

/// The whole command line, with the words that take the place of an application as subcommands.
fn whole(detail: Detail) -> Command {
    let command = OPTIONS.iter().fold(super::described(), |command, option| {
        command.mut_arg(option.long, |argument| completed(argument, option, detail))
    });
    let topics =
        Command::new(help::WORD).about("Print a page of the guide, or list the pages.").arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .value_parser(PossibleValuesParser::new(help::names())),
        );
    let shells = SHELLS.map(|(name, _)| name);
    let shell = Arg::new("shell").required(true).value_name("SHELL");
    let completions = Command::new(COMPLETIONS)
        .about("Print a script that completes the command line in a shell.")
        .arg(shell.value_parser(PossibleValuesParser::new(shells)));
    let servers = Peer::ALL.map(Peer::word);
    let server = Arg::new("server").required(true).value_name("SERVER");
    let migrate = Command::new(migrate::WORD)
        .about("Print the configuration of another server as arctos.toml.")
        .arg(server.value_parser(PossibleValuesParser::new(servers)))
        .arg(
            Arg::new("configuration")
                .required(true)
                .value_name("CONFIGURATION")
                .num_args(1..)
                .value_hint(ValueHint::FilePath),
        );
    let man = Command::new(MAN).about("Print the man page.");
    command
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND")
        .subcommand(ctl::command().name(ctl::WORD))
        .subcommand(top::command().name(top::WORD))
        .subcommand(init::command().name(init::WORD))
        .subcommand(dashboard::dashboard_command().name(dashboard::DASHBOARD))
        .subcommand(dashboard::alerts_command().name(dashboard::ALERTS))
        .subcommands(
            [migrate, topics, completions, man].map(|command| command.disable_help_flag(true)),
        )
}

/// An option with what a shell can complete: the words or the kind of path that it takes. The man page shows the words
/// as the value's name.
fn completed(argument: Arg, option: &OptionSpec, detail: Detail) -> Arg {
    if detail == Detail::Full {
        return argument;
    }
    let words: Vec<_> = option.value.split('|').collect();
    let is_word = |word: &&str| {
        word.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    let argument = argument.help(option.summary().replace('`', ""));
    if words.len() > 1 && words.iter().all(is_word) {
        return argument.value_parser(PossibleValuesParser::new(words));
    }
    argument.value_hint(match words.last() {
        Some(&"FILE") => ValueHint::FilePath,
        Some(&"DIR") => ValueHint::DirPath,
        Some(&"USER") => ValueHint::Username,
        Some(_) | None => ValueHint::Other,
    })
}

/// The man page, in roff.
fn page() -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(whole(Detail::Full)).title("ARCTOS").manual("arctos manual").render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests;
