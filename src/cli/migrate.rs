//! The command line of `arctos migrate SERVER CONFIGURATION`.

use std::ffi::OsString;

use super::{Invocation, UsageError};
use crate::config::options::peers::Peer;
use crate::migrate::MigrateCommand;

/// The first word of such a command line. A module of this name is served as `migrate:app`.
pub(super) const WORD: &str = "migrate";

const HELP: &str = "\
Print the configuration of another server as arctos.toml.

Usage: arctos migrate gunicorn CONFIG.py | COMMAND LINE
       arctos migrate uwsgi FILE.ini | COMMAND LINE
       arctos migrate granian COMMAND LINE

Each setting becomes an option of arctos, or a comment that says what to do instead. The file ends in the same
options as a command line. A summary goes to standard error.

  arctos migrate gunicorn gunicorn.conf.py > arctos.toml
  arctos migrate gunicorn -c gunicorn.conf.py shop.wsgi -w 4
  arctos migrate uwsgi uwsgi.ini
  arctos migrate granian --interface wsgi shop.wsgi:app --workers 4

The command line may also be one quoted argument, a unit of systemd, a Dockerfile, a Procfile or a script. A
configuration file of gunicorn is executed, in a process of its own, for at most 10 s.

Exit codes: 0 success; 1 the configuration cannot be read; 2 the command line is wrong.";

/// Parses what follows `migrate`.
pub(super) fn parse(words: &[OsString]) -> Result<Invocation, UsageError> {
    let mut words = words.iter().map(|word| word.to_string_lossy().into_owned());
    let first = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let asks_for_help = |word: &str| matches!(word, "-h" | "--help");
    if asks_for_help(&first) || words.first().is_some_and(|word| asks_for_help(word)) {
        return Ok(Invocation::Show { text: HELP.to_owned(), exit_code: 0 });
    }
    let peer = Peer::ALL.into_iter().find(|peer| peer.word() == first);
    match peer {
        Some(peer) if words.iter().any(|word| !word.trim().is_empty()) => {
            Ok(Invocation::Migrate(MigrateCommand { peer, words }))
        }
        Some(_) => Err(UsageError::Migrate {
            given: format!(" {first}"),
            problem: "a configuration is missing",
        }),
        None if first.is_empty() => Err(UsageError::Migrate {
            given: String::new(),
            problem: "the name of a server is missing",
        }),
        None => Err(UsageError::Migrate {
            given: format!(" {first}"),
            problem: "there is no such server",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse as parse_all;
    use super::*;
    use crate::system::environment::Environment;

    fn parsed(line: &str) -> Result<Invocation, UsageError> {
        let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
        parse_all(words, Environment::default())
    }

    #[test]
    fn the_options_of_the_other_server_are_taken_as_they_are() {
        let Ok(Invocation::Migrate(command)) = parsed("migrate gunicorn shop.wsgi -w 4 -k gthread")
        else {
            panic!()
        };
        let words = ["shop.wsgi", "-w", "4", "-k", "gthread"].map(str::to_owned).to_vec();
        assert_eq!(command, MigrateCommand { peer: Peer::Gunicorn, words });
    }

    #[test]
    fn a_wrong_command_is_answered_with_the_servers() {
        for (line, problem) in [
            ("migrate", "arctos migrate: the name of a server is missing"),
            ("migrate apache x", "arctos migrate apache: there is no such server"),
            ("migrate uwsgi", "arctos migrate uwsgi: a configuration is missing"),
        ] {
            let error = parsed(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(
                message.starts_with(problem) && message.contains("gunicorn, uwsgi, granian"),
                "{message}"
            );
        }
    }

    #[test]
    fn there_is_help_also_after_the_server() {
        for line in ["migrate --help", "migrate -h", "migrate uwsgi --help"] {
            assert!(matches!(parsed(line), Ok(Invocation::Show { exit_code: 0, .. })), "{line}");
        }
    }
}
