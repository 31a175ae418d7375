use std::collections::BTreeSet;

use super::families::uwsgi_options;
use super::*;

/// The names of all settings of gunicorn 27.0.1, as `gunicorn.config.KNOWN_SETTINGS` has them.
const GUNICORN: &str = include_str!("gunicorn-27.0.1.txt");
/// The names of all options of Granian 2.8.9, as `granian --help` has them.
const GRANIAN: &str = include_str!("granian-2.8.9.txt");

fn flags(peer: Peer) -> Vec<&'static str> {
    peer.settings().flat_map(PeerSetting::flags).collect()
}

#[test]
fn every_setting_of_gunicorn_has_a_row_with_its_options() {
    let listed: Vec<(&str, BTreeSet<&str>)> = GUNICORN
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap(), words.collect())
        })
        .collect();
    assert!(listed.len() > 100);
    for (name, options) in &listed {
        let row = Peer::Gunicorn.setting(name).unwrap_or_else(|| panic!("{name} has no row"));
        let known: BTreeSet<&str> = row.flags().collect();
        assert!(known.is_superset(options), "{name}: {options:?}");
    }
    let names: BTreeSet<&str> = listed.iter().map(|(name, _)| *name).collect();
    for row in Peer::Gunicorn.settings() {
        assert!(names.contains(row.name()), "gunicorn has no {}", row.name());
    }
}

#[test]
fn every_option_of_granian_has_a_row() {
    let listed: BTreeSet<&str> = GRANIAN.lines().collect();
    assert!(listed.len() > 80);
    let known: BTreeSet<&str> = flags(Peer::Granian).into_iter().collect();
    assert_eq!(known, listed);
}

#[test]
fn every_row_of_uwsgi_names_options_that_uwsgi_has() {
    let listed: BTreeSet<&str> = uwsgi_options().map(|option| option.name).collect();
    assert!(listed.len() > 900);
    for row in Peer::Uwsgi.settings() {
        for name in row.names() {
            assert!(listed.contains(name), "uWSGI has no {name}");
        }
    }
}

#[test]
fn most_options_of_uwsgi_have_an_answer() {
    let open: Vec<&str> = uwsgi_options()
        .map(|option| option.name)
        .filter(|name| Peer::Uwsgi.setting(name).is_none() && family(name).is_none())
        .collect();
    assert!(open.len() < 160, "{} {open:?}", open.len());
}

#[test]
fn a_name_stands_in_one_row() {
    for peer in Peer::ALL {
        let names: Vec<&str> = peer.settings().flat_map(PeerSetting::names).collect();
        let once: BTreeSet<&str> = names.iter().copied().collect();
        for name in &once {
            assert_eq!(names.iter().filter(|other| other == &name).count(), 1, "{name}");
        }
        let flags = flags(peer);
        assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
    }
}

#[test]
fn an_option_that_an_answer_names_exists() {
    let known: BTreeSet<String> = OPTIONS.iter().map(OptionSpec::flag).collect();
    let theirs: BTreeSet<&str> = Peer::ALL.into_iter().flat_map(flags).collect();
    let texts = Peer::ALL.iter().flat_map(|peer| peer.settings()).map(|row| match row.answer {
        Answer::Same { .. } => "",
        Answer::Near { difference: text, .. }
        | Answer::Always { why: text }
        | Answer::No { instead: text } => text,
    });
    let families = uwsgi_options()
        .filter(|option| Peer::Uwsgi.setting(option.name).is_none())
        .filter_map(|option| family(option.name));
    for text in texts.chain(families) {
        let ours = ["--check", "--print-config", "--wait"];
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
            let is_option = word.starts_with("--") && word.len() > 2;
            assert!(
                !is_option || known.contains(word) || ours.contains(&word) || theirs.contains(word),
                "{word} in: {text}"
            );
        }
        assert!(!text.ends_with('.'), "{text}");
    }
}

#[test]
fn an_option_of_another_server_is_answered() {
    for (option, answer) in [
        ("--threads=4", "a worker runs one request at a time; raise --workers instead"),
        ("--harakiri", "use --timeout; the request first gets an exception"),
        ("--processes", "use --workers"),
        (
            "--capture-output",
            "workers already write to the standard output and error of arctos; leave",
        ),
        ("--uds", "use --bind"),
        ("--when-ready", "arctos tells systemd"),
        ("-D", "arctos stays in the foreground"),
    ] {
        let hint = hint(option).unwrap_or_else(|| panic!("{option}"));
        assert!(hint.starts_with(answer), "{hint}");
    }
    assert_eq!(hint("--http2"), None);
    assert_eq!(hint("--workers"), None);
}

/// `ARCTOS_BLESS=1 cargo test -p arctos --lib --no-default-features the_guide_holds` rewrites the tables.
#[test]
fn the_guide_holds_the_tables_of_other_servers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/gunicorn.md");
    let mut page = std::fs::read_to_string(path).unwrap();
    for peer in Peer::ALL {
        let begin = format!("<!-- {}:begin -->\n", peer.word());
        let end = format!("<!-- {}:end -->", peer.word());
        let (before, rest) = page.split_once(&begin).unwrap();
        let (table, after) = rest.split_once(&end).unwrap();
        let expected = format!("\n{}\n", markdown(peer));
        if std::env::var_os("ARCTOS_BLESS").is_none() {
            assert_eq!(table, expected, "run this test with ARCTOS_BLESS=1");
        }
        page = format!("{before}{begin}{expected}{end}{after}");
    }
    if std::env::var_os("ARCTOS_BLESS").is_some() {
        std::fs::write(path, page).unwrap();
    }
}
