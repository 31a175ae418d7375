use super::super::parse as parse_all;
use super::*;
use crate::config::Source;
use crate::config::options::{Setting, Takes, markdown};
use crate::config::template::template;
use crate::system::environment::Environment;

fn shown(line: &str) -> String {
    let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
    match parse_all(words, Environment::default()) {
        Ok(Invocation::Show { text, exit_code: 0 }) => text,
        other => panic!("{line}: {other:?}"),
    }
}

/// Whether a text has this word, and not only a longer one that begins or ends with it.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |letter: Option<char>| {
        letter.is_some_and(|it| it.is_alphanumeric() || it == '-' || it == '_')
    };
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !is_part(before) && !is_part(after)
    })
}

/// The row of the table in its three spellings: a flag, a key of the file, a variable.
fn spellings(option: &OptionSpec) -> (String, &'static str, String) {
    (option.flag(), option.long, option.variable())
}

#[test]
fn every_option_is_in_help_man_completions_template_and_guide() {
    let scripts =
        ["bash", "zsh", "fish"].map(|shell| (shell, shown(&format!("completions {shell}"))));
    let help = shown("--help");
    // roff writes `\fB\-\-bind\fR`.
    let man =
        ["\\fB", "\\fI", "\\fR", "\\"].iter().fold(shown("man"), |man, it| man.replace(it, ""));
    let (guide, file) = (markdown(), template(None));
    for option in OPTIONS {
        let (flag, long, _) = spellings(option);
        let is_there = |text: &str| has_word(text, &flag);
        assert!(is_there(&help), "--help: {flag}");
        assert!(is_there(&man), "man: {flag}");
        assert!(is_there(&guide), "guide: {flag}");
        let in_file = file.contains(&format!("\n#{long} = "));
        assert_eq!(in_file, option.setting != Setting::Config, "init: {long}");
        if option.takes == Takes::Positional {
            continue; // Shells complete what begins with a dash, and files.
        }
        for (shell, script) in &scripts {
            let in_script = match *shell {
                "fish" => script.contains(&format!(" -l {long} ")),
                _ => is_there(script),
            };
            assert!(in_script, "{shell}: {flag}");
        }
        let Some(letter) = option.short else { continue };
        for text in [&help, &man, &guide, &scripts[0].1, &scripts[1].1] {
            assert!(
                has_word(text, &format!("-{letter}")) || text.contains(&format!("-{letter}+[")),
                "-{letter}"
            );
        }
    }
}

#[test]
fn every_option_is_read_from_command_line_environment_and_file() {
    // Whatever is wrong with the value, the message begins with the place; what is not wrong names its origin.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("arctos.toml");
    for option in OPTIONS {
        let (flag, long, variable) = spellings(option);
        let text = "\u{1}";
        let reads = |source: Source, place: &str, origin: &str| match source.resolve() {
            Ok(resolved) => {
                let line = resolved.effective.iter().find(|line| line.setting == option.setting);
                assert_eq!(line.unwrap().origin.to_string(), origin);
            }
            Err(error) => assert!(error.to_string().starts_with(place), "{error}"),
        };
        let given = [(option.setting, vec![OsString::from(text)])];
        let source = Source::of_command_line(given, Environment::default()).unwrap();
        reads(source, &format!("{flag} '"), "command line");
        let environment = [(variable.as_str(), text)].into_iter().collect();
        let source = Source::of_command_line([], environment).unwrap();
        reads(source, &format!("{variable}='"), &format!("environment {variable}"));
        std::fs::write(&path, format!("{long} = \"\\u0001\"\n")).unwrap();
        let given = [(Setting::Config, vec![path.clone().into_os_string()])];
        let source = Source::of_command_line(given, Environment::default()).unwrap();
        let place = format!("{}:1", path.display());
        reads(source, &format!("{place}: {long}"), &format!("file {place}"));
    }
}

#[test]
fn every_word_that_takes_the_place_of_an_application_is_described() {
    let names: Vec<_> =
        whole(Detail::Brief).get_subcommands().map(|it| it.get_name().to_owned()).collect();
    for word in super::super::WORDS {
        assert!(names.iter().any(|name| name == word), "{word}");
        let (help, man) = (shown("--help"), shown("man"));
        assert!(has_word(&man, &format!("arctos\\-{word}(1)")) || has_word(&man, word), "{word}");
        assert!(help.contains(&format!("arctos {word}")), "{word}");
    }
    assert_eq!(names.len(), super::super::WORDS.len());
}

#[test]
fn what_is_hidden_is_not_completed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(!shown(&format!("completions {shell}")).contains("worker-class"), "{shell}");
    }
}

#[test]
fn a_shell_has_to_be_one_of_three() {
    for (line, message) in [
        ("completions", "arctos completions: expected bash|zsh|fish"),
        ("completions tcsh", "arctos completions 'tcsh': expected bash|zsh|fish"),
        ("completions bash zsh", "arctos completions 'bash zsh': expected bash|zsh|fish"),
        ("man 1", "arctos man '1': expected no argument"),
    ] {
        let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
        let error = parse_all(words, Environment::default()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(error.to_string().lines().next(), Some(message));
    }
    assert!(shown("completions --help").contains("Usage: arctos completions bash|zsh|fish"));
    assert!(shown("man -h").ends_with("Usage: arctos man\n"));
}
