//! A command line as it stands in a script, a unit or a Dockerfile: its words, and the parts before the options.

use crate::config::options::peers::{Peer, PeerArgument, uwsgi_options};

/// A command line, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// The variables that are set in front of it, or by the unit or the Dockerfile around it.
    pub(super) variables: Vec<(String, String)>,
    /// What starts the server: `uv run`, `ddtrace-run`.
    pub(super) launcher: Vec<String>,
    /// The program; empty if only its options are given.
    pub(super) program: String,
    /// The options and arguments.
    pub(super) words: Vec<String>,
}

/// Splits a text as a shell does. A backslash at the end of a line joins two lines.
///
/// Errors: a quotation mark is not closed.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => match rest.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(quoted) => word.push(quoted),
                        None => return Err(format!("a quotation mark is not closed in: {text}")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('"') => break,
                        Some('\\') => match rest.next() {
                            Some('\n') | None => {}
                            Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                            Some(plain) => word.extend(['\\', plain]),
                        },
                        Some(quoted) => word.push(quoted),
                        None => return Err(format!("a quotation mark is not closed in: {text}")),
                    }
                }
            }
            character if character.is_whitespace() => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Splits one argument that holds a whole command line: quoted words, a JSON array as in a Dockerfile, or either with
/// `CMD`, `ENTRYPOINT`, `ExecStart=` or a process type such as `web:` before it.
pub(super) fn split_command(text: &str) -> Result<Vec<String>, String> {
    let mut text = text.trim();
    for prefix in ["CMD ", "ENTRYPOINT ", "ExecStart=", "web:", "command:", "exec "] {
        text = text.strip_prefix(prefix).unwrap_or(text).trim_start();
    }
    if text.starts_with('[')
        && let Ok(words) = serde_json::from_str::<Vec<serde_json::Value>>(text)
    {
        let word = |value: &serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        let words: Vec<String> = words.iter().map(word).collect();
        // `["sh", "-c", "exec gunicorn ..."]` runs a shell.
        return match words.as_slice() {
            [shell, option, command] if is_shell(shell) && option == "-c" => split_command(command),
            _ => Ok(words),
        };
    }
    split(text)
}

fn is_shell(word: &str) -> bool {
    matches!(basename(word), "sh" | "bash" | "dash" | "ash")
}

/// The name of a program, without its directory.
pub(super) fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The dotted name of a module, given that or the path of its file.
pub(super) fn module_name(path: &str) -> String {
    let Some(stem) = path.strip_suffix(".py") else { return path.to_owned() };
    let stem = stem.strip_suffix("/__init__").unwrap_or(stem);
    stem.trim_start_matches("./").trim_matches('/').replace('/', ".")
}

/// Takes a command line apart. Without the program, all words are its options.
pub(super) fn take_apart(peer: Peer, words: Vec<String>) -> CommandLine {
    let mut line = CommandLine::default();
    let mut words: Vec<String> = words;
    // What follows an operator of the shell is not for the server.
    if let Some(end) = words.iter().position(|word| is_operator(word)) {
        words.truncate(end);
    }
    let assignments = words
        .iter()
        .take_while(|word| matches!(word.as_str(), "env" | "exec") || assignment(word).is_some())
        .count();
    for word in words.drain(..assignments) {
        line.variables.extend(assignment(&word));
    }
    let Some(program) = program(peer, &words) else {
        line.words = words;
        return line;
    };
    line.words = words.split_off(program + 1);
    line.program = words.pop().unwrap_or_default();
    line.launcher = words;
    line
}

/// Returns the position of the server's program.
fn program(peer: Peer, words: &[String]) -> Option<usize> {
    if words.first()?.starts_with('-') {
        return None;
    }
    let is_program = |word: &String| {
        let name = basename(word);
        name == peer.word() || (peer == Peer::Uwsgi && name.starts_with("uwsgi-"))
    };
    let found = words.iter().position(is_program)?;
    let before = found.checked_sub(1).map(|index| words[index].as_str());
    let is_module = before == Some("-m") && words[..found].iter().any(|word| is_python(word));
    // `--chdir /srv/gunicorn`: a value, not the program.
    let is_value = before.is_some_and(|flag| !is_module && takes_value(peer, flag));
    // `gunicorn` and everything that starts it come before the application and the options.
    let follows_application = words[..found].iter().any(|word| word.contains(':'));
    (!is_value && !follows_application).then_some(found)
}

fn is_python(word: &str) -> bool {
    basename(word).starts_with("python")
}

fn takes_value(peer: Peer, flag: &str) -> bool {
    match peer {
        Peer::Uwsgi => uwsgi_options().any(|option| {
            flag.strip_prefix("--") == Some(option.name)
                && option.argument == PeerArgument::Required
        }),
        Peer::Gunicorn | Peer::Granian => {
            peer.option(flag).is_some_and(|row| row.argument == PeerArgument::Required)
        }
    }
}

fn is_operator(word: &str) -> bool {
    matches!(word, "&&" | "||" | "|" | ";" | "&" | ">" | ">>" | "2>" | "2>>" | "<" | "2>&1")
        || word.starts_with(">>")
        || word.starts_with("2>")
}

/// Reads `NAME=VALUE`.
pub(super) fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    is_name(name).then(|| (name.to_owned(), value.to_owned()))
}

/// Quotes a word for a shell, if it needs that. The result is one line, which a terminal shows as it is.
pub(super) fn quoted(word: &str) -> String {
    if word.chars().any(char::is_control) {
        return ansi_quoted(word);
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match word.chars().all(is_plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Quotes a word with control characters as bash, zsh and others read it: `$'a\nb'`.
fn ansi_quoted(word: &str) -> String {
    let escaped = |c: char| match c {
        '\n' => r"\n".to_owned(),
        '\t' => r"\t".to_owned(),
        '\'' | '\\' => format!(r"\{c}"),
        c if c.is_ascii_control() => format!(r"\x{:02x}", u32::from(c)),
        c if c.is_control() => format!(r"\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("$'{}'", word.chars().map(escaped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> CommandLine {
        take_apart(Peer::Gunicorn, split_command(text).unwrap())
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let text = "gunicorn 'shop:create_app()' --env \"A=b c\" \\\n -w\\ 4 ''";
        let expected = ["gunicorn", "shop:create_app()", "--env", "A=b c", "-w 4", ""];
        assert_eq!(split(text).unwrap(), expected);
        assert!(split("gunicorn 'x").is_err());
    }

    #[test]
    fn a_quoted_word_is_one_line() {
        for (word, expected) in [
            ("a-b.c", "a-b.c"),
            ("it's", r"'it'\''s'"),
            ("a\nb = 'c'\\", r"$'a\nb = \'c\'\\'"),
            ("\x1b[31m", r"$'\x1b[31m'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn commands_of_a_dockerfile_or_a_unit_are_read() {
        for text in [
            r#"CMD ["gunicorn", "-w", "4", "shop:app"]"#,
            r#"["sh", "-c", "exec gunicorn -w 4 shop:app"]"#,
            "ExecStart=gunicorn -w 4 shop:app",
            "web: gunicorn -w 4 shop:app && echo done",
        ] {
            let line = parts(text);
            assert_eq!(
                (line.program.as_str(), line.words.join(" ").as_str()),
                ("gunicorn", "-w 4 shop:app"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_starts_the_server_is_kept_apart() {
        let line = parts("PORT=80 uv run /srv/shop/bin/gunicorn shop:app");
        assert_eq!(line.variables, [("PORT".to_owned(), "80".to_owned())]);
        assert_eq!(line.launcher, ["uv", "run"]);
        assert_eq!(line.program, "/srv/shop/bin/gunicorn");
        let line = parts("python3 -m gunicorn shop:app");
        assert_eq!(
            (line.launcher.join(" ").as_str(), line.words),
            ("python3 -m", vec!["shop:app".to_owned()])
        );
    }

    #[test]
    fn a_directory_with_the_name_of_the_server_is_no_program() {
        for text in ["shop.wsgi --chdir /srv/gunicorn", "--chdir /srv/gunicorn shop.wsgi"] {
            assert_eq!(parts(text).words, split(text).unwrap());
        }
    }
}
