//! The options of another server's command line.

use super::value::{PeerLine, PeerValue};
use crate::config::options::peers::{Peer, PeerArgument, UwsgiOption, uwsgi_options};

/// What a command line holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// The options, in their order; values of options that repeat are one list.
    pub(super) lines: Vec<PeerLine>,
    /// The arguments that belong to no option.
    pub(super) positional: Vec<String>,
    /// The options that the server does not have.
    pub(super) unknown: Vec<String>,
}

/// An option that was recognized.
struct Found {
    name: &'static str,
    argument: PeerArgument,
    /// The value of an option without an argument.
    is_on: bool,
}

/// Reads the words that follow the name of the program.
pub(super) fn read(peer: Peer, words: &[String]) -> Arguments {
    let mut arguments = Arguments::default();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if word == "--" {
            arguments.positional.extend(words.map(str::to_owned));
            break;
        }
        if !word.starts_with('-') || word == "-" {
            arguments.positional.push(word.to_owned());
            continue;
        }
        let (flag, attached) = cut(word);
        let Some(found) = find(peer, flag) else {
            arguments.unknown.push(word.to_owned());
            continue;
        };
        let value = match (found.argument, attached) {
            (PeerArgument::None, _) => PeerValue::Switch(found.is_on),
            (_, Some(value)) => PeerValue::Text(value.to_owned()),
            (PeerArgument::Optional, None) => {
                let is_value = |next: &&str| !next.starts_with('-') && peer == Peer::Gunicorn;
                match words.next_if(is_value) {
                    Some(value) => PeerValue::Text(value.to_owned()),
                    None => PeerValue::Switch(true),
                }
            }
            (PeerArgument::Required, None) => match words.next() {
                Some(value) => PeerValue::Text(value.to_owned()),
                None => PeerValue::Absent,
            },
        };
        arguments.lines.push(PeerLine::new(found.name, value));
    }
    arguments
}

/// Separates an option from a value that is attached to it: `--bind=:80`, `-w4`.
fn cut(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
    }
    match word.char_indices().nth(2) {
        Some((end, _)) => (&word[..end], Some(word[end..].trim_start_matches('='))),
        None => (word, None),
    }
}

fn find(peer: Peer, flag: &str) -> Option<Found> {
    match peer {
        Peer::Uwsgi => {
            let is_it = |option: &UwsgiOption| match flag.strip_prefix("--") {
                Some(name) => option.name == name,
                None => option.letter == flag.strip_prefix('-'),
            };
            let option = uwsgi_options().find(is_it)?;
            Some(Found { name: option.name, argument: option.argument, is_on: true })
        }
        Peer::Gunicorn | Peer::Granian => {
            let row = peer.option(flag).or_else(|| abbreviated(peer, flag))?;
            let is_on = !flag.starts_with("--no-") || row.name().starts_with("no");
            // gunicorn's `--no-control-socket` sets `control_socket_disable`.
            let is_on = is_on || row.name().ends_with("_disable");
            Some(Found { name: row.name(), argument: row.argument, is_on })
        }
    }
}

/// gunicorn accepts the beginning of an option, if only one option begins so.
fn abbreviated(
    peer: Peer,
    flag: &str,
) -> Option<&'static crate::config::options::peers::PeerSetting> {
    if peer != Peer::Gunicorn || !flag.starts_with("--") || flag.len() < 4 {
        return None;
    }
    let mut matching =
        peer.settings().filter(|row| row.flags().any(|known| known.starts_with(flag)));
    let only = matching.next()?;
    matching.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(peer: Peer, line: &str) -> Arguments {
        read(peer, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn shown(arguments: &Arguments) -> Vec<String> {
        arguments.lines.iter().map(PeerLine::shown).collect()
    }

    #[test]
    fn values_follow_their_options_or_are_attached() {
        let arguments = read_line(
            Peer::Gunicorn,
            "-w4 -b :80 --bind=unix:/x shop:app --preload --access-logfi - --proxy-protocol v2 --frob=1",
        );
        assert_eq!(
            shown(&arguments),
            [
                "workers = 4",
                "bind = \":80\"",
                "bind = \"unix:/x\"",
                "preload_app = true",
                "accesslog = \"-\"",
                "proxy_protocol = \"v2\"",
            ]
        );
        assert_eq!(
            (arguments.positional, arguments.unknown),
            (vec!["shop:app".into()], vec!["--frob=1".into()])
        );
    }

    #[test]
    fn switches_of_granian_can_be_off() {
        let arguments = read_line(Peer::Granian, "--no-ws --access-log --interface wsgi shop:app");
        assert_eq!(shown(&arguments), ["ws = false", "access-log = true", "interface = \"wsgi\""]);
    }

    #[test]
    fn options_of_uwsgi_have_the_arguments_of_its_sources() {
        let arguments = read_line(Peer::Uwsgi, "--master -p 4 --chmod-socket=666 --http :80 x.ini");
        assert_eq!(
            shown(&arguments),
            ["master = true", "processes = 4", "chmod-socket = 666", "http = \":80\""]
        );
        assert_eq!(arguments.positional, ["x.ini"]);
    }
}
