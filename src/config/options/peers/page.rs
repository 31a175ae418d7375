//! The tables of the guide.

use std::fmt::Write;

use super::super::OptionSpec;
use super::{Answer, Peer, PeerSetting};

/// The table of a server as Markdown. Settings that follow each other and have the same answer share a row.
pub fn markdown(peer: Peer) -> String {
    let mut page = format!("| {} | arctos |\n|---|---|\n", peer.title());
    let rows: Vec<&PeerSetting> = peer.settings().collect();
    let mut rest = rows.as_slice();
    while let Some(first) = rest.first() {
        let is_same = |row: &&&PeerSetting| match (row.answer, first.answer) {
            (Answer::Always { why }, Answer::Always { why: other }) => why == other,
            (Answer::No { instead }, Answer::No { instead: other }) => instead == other,
            _ => false,
        };
        let count = rest.iter().take_while(is_same).count().max(1);
        let (shared, others) = rest.split_at(count);
        let names: Vec<String> = shared.iter().map(|row| names(peer, row)).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {} |", names.join(", "), cell(first.answer));
        rest = others;
    }
    page
}

/// The names of a setting: in a configuration file, and its option where that is another word.
fn names(peer: Peer, row: &PeerSetting) -> String {
    let quoted = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let long = |flag: &&str| flag.starts_with("--");
    match peer {
        Peer::Uwsgi => quoted(&mut row.names()),
        Peer::Granian if row.flags().count() > 0 => quoted(&mut row.flags()),
        Peer::Gunicorn => {
            let option = row.flags().find(long).unwrap_or_default();
            match option.trim_start_matches('-').replace('-', "_") == row.name()
                || option.is_empty()
            {
                true => format!("`{}`", row.name()),
                false => format!("`{}` (`{option}`)", row.name()),
            }
        }
        Peer::Granian => "`APP`".to_owned(),
    }
}

fn cell(answer: Answer) -> String {
    let text = match answer {
        Answer::Same { setting } => format!("`{}`", OptionSpec::of(setting).flag()),
        Answer::Near { setting, difference } => {
            format!("`{}`: {difference}", OptionSpec::of(setting).flag())
        }
        Answer::Always { why } => format!("Nothing to set: {why}."),
        Answer::No { instead } => format!("None: {instead}."),
    };
    text.replace('|', "\\|")
}
