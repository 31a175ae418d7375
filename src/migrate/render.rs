//! A draft as `arctos.toml` with comments, and as a command line.

use std::fmt::Write;

use super::draft::{Draft, Note, Planned};
use super::words::quoted;
use crate::config::options::{DefaultValue, OPTIONS, OptionSpec, Setting, Takes};

/// The width of comments.
const WIDTH: usize = 100;

/// What stands around the options.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// The sentences at the top.
    pub(super) header: Vec<String>,
    /// What starts the server, such as `uv run arctos`.
    pub(super) program: String,
}

/// Writes the file.
pub(super) fn toml(draft: &Draft, frame: &Frame) -> String {
    let mut page = String::new();
    for sentence in &frame.header {
        comment(&mut page, "", sentence);
    }
    if !draft.has(Setting::Application) {
        page.push_str(
            "\n# The application is not named there: write its module and callable here.\n",
        );
        page.push_str("# app = \"MODULE:ATTR\"\n");
    }
    for (spec, planned) in options(draft) {
        option(&mut page, spec, planned);
    }
    let missing = "No equivalent: what to do instead";
    let unknown = "Not known";
    let unneeded = "Nothing to set: arctos does this anyway";
    let defaults = "Defaults that differ, where nothing is set";
    for (title, notes) in [
        (missing, &draft.missing),
        (unknown, &draft.unknown),
        (unneeded, &draft.unneeded),
        (defaults, &draft.defaults),
    ] {
        section(&mut page, title, notes);
    }
    for remark in &draft.remarks {
        page.push('\n');
        for line in remark {
            page.push_str(format!("# {line}").trim_end());
            page.push('\n');
        }
    }
    let _ =
        write!(page, "\n# The same as a command line:\n{}", command_line(draft, &frame.program));
    page
}

fn options(draft: &Draft) -> impl Iterator<Item = (&'static OptionSpec, &Planned)> {
    OPTIONS.iter().filter_map(|spec| Some((spec, draft.planned.get(&spec.setting)?)))
}

fn section(page: &mut String, title: &str, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    let _ = write!(page, "\n# --- {title} ---\n");
    for note in notes {
        let end = if note.text.ends_with(['.', '?']) { "" } else { "." };
        comment(page, "  ", &format!("{}: {}{end}", note.what, note.text));
    }
}

/// Writes a comment, wrapped; `indentation` is that of all lines but the first.
fn comment(page: &mut String, indentation: &str, text: &str) {
    let mut line = String::from("#");
    // A comment of TOML must not contain them.
    let text: String =
        text.chars().map(|c| if c.is_control() && !c.is_whitespace() { '?' } else { c }).collect();
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line.len() > 1 + indentation.len() {
            let _ = writeln!(page, "{line}");
            line = format!("#{indentation}");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(page, "{line}");
}

fn option(page: &mut String, spec: &OptionSpec, planned: &Planned) {
    const CONTINUED: [Setting; 4] = [
        Setting::ForwardedHeaders,
        Setting::MaxRequestsJitter,
        Setting::Keyfile,
        Setting::ProxyAllowFrom,
    ];
    if !planned.comments.is_empty() {
        page.push('\n');
    } else if CONTINUED.contains(&spec.setting) {
        // It belongs to the option before it.
    } else if !page.ends_with("\n\n") && previous_has_comment(page) {
        page.push('\n');
    }
    for text in &planned.comments {
        comment(page, "", text);
    }
    let mark = if planned.is_proposal { "# " } else { "" };
    for line in format!("{} = {}", spec.long, value(spec, &planned.values)).lines() {
        let _ = writeln!(page, "{mark}{line}");
    }
}

/// Whether the last line of the page belongs to a paragraph with a comment.
fn previous_has_comment(page: &str) -> bool {
    page.lines().rev().take_while(|line| !line.is_empty()).any(|line| line.starts_with('#'))
}

/// A value in TOML.
fn value(spec: &OptionSpec, values: &[String]) -> String {
    let one = |value: &String| match (spec.takes, spec.default, value.as_str()) {
        (Takes::Switch, _, "on") => "true".to_owned(),
        (Takes::Switch, _, "off") => "false".to_owned(),
        (_, DefaultValue::Count(_) | DefaultValue::Derived(_), number) if is_whole(number) => {
            number.to_owned()
        }
        (_, _, text) => string(text),
    };
    match (spec.takes, values) {
        (Takes::Many(_), [only]) if spec.setting != Setting::Bind => format!("[{}]", one(only)),
        (Takes::Many(_), [_, _, ..]) => {
            let items: Vec<String> = values.iter().map(one).collect();
            let line = format!("[{}]", items.join(", "));
            match line.len() > WIDTH - 20 {
                true => format!("[\n    {},\n]", items.join(",\n    ")),
                false => line,
            }
        }
        _ => values.first().map(one).unwrap_or_else(|| string("")),
    }
}

/// TOML has no numbers with a leading zero.
fn is_whole(text: &str) -> bool {
    text.parse::<u64>().is_ok_and(|number| number.to_string() == text)
}

/// A basic string of TOML.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// The options as words of a command line, without proposals.
pub(super) fn words(draft: &Draft) -> Vec<(Setting, Vec<String>)> {
    let active = options(draft).filter(|(_, planned)| !planned.is_proposal);
    active.map(|(spec, planned)| (spec.setting, planned.values.clone())).collect()
}

fn command_line(draft: &Draft, program: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut application = None;
    for (setting, values) in words(draft) {
        let spec = OptionSpec::of(setting);
        for value in &values {
            match (spec.takes, value.as_str()) {
                (Takes::Positional, _) => application = Some(quoted(value)),
                (Takes::Switch, "on") => parts.push(spec.flag()),
                (Takes::Switch, _) => parts.push(format!("{}={value}", spec.flag())),
                _ => parts.push(format!("{} {}", spec.flag(), quoted(value))),
            }
        }
    }
    parts.push(application.unwrap_or_else(|| "MODULE:ATTR".to_owned()));
    let mut lines = format!("#   {program}");
    let mut width = lines.len();
    for part in parts {
        if width + 1 + part.len() > WIDTH {
            lines.push_str(" \\\n#    ");
            width = 6;
        }
        let _ = write!(lines, " {part}");
        width += 1 + part.len();
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_and_no_comment_ends_its_line_or_contains_what_toml_forbids() {
        let mut draft = Draft::default();
        draft.set(Setting::Name, vec!["x\nworkers = 9\x1b".to_owned()]);
        draft.missing("spew = \x1b[1m\nworkers = 9", "use a\x07 debugger\u{9b}");
        let frame = Frame { header: vec!["Of 'a\nb'.".to_owned()], program: "arctos".to_owned() };
        let page = toml(&draft, &frame);
        let table = toml::de::DeTable::parse(&page).unwrap();
        let names: Vec<_> = table.get_ref().iter().map(|(key, _)| key.get_ref().as_ref()).collect();
        assert_eq!(names, ["name"]);
        assert!(!page.contains(|c: char| c.is_control() && c != '\n'), "{page:?}");
    }

    #[test]
    fn a_draft_is_written_in_the_order_of_the_options() {
        let mut draft = Draft::default();
        draft
            .set(Setting::Workers, vec!["4".to_owned()])
            .comments
            .push("Two for each CPU.".to_owned());
        draft.set(Setting::Application, vec!["shop.wsgi:application".to_owned()]);
        draft.add(Setting::Bind, "unix:/run/a b".to_owned());
        draft.add(Setting::Env, "A=\"1\"".to_owned());
        draft.set(Setting::Preload, vec!["on".to_owned()]);
        draft.set(Setting::Umask, vec!["0022".to_owned()]);
        draft.propose(Setting::KeepAlive, vec!["2s".to_owned()], "Shorter.".to_owned());
        draft.missing("spew = true", "use a debugger");
        let frame = Frame { header: vec!["From there.".to_owned()], program: "arctos".to_owned() };
        assert_eq!(
            toml(&draft, &frame),
            "# From there.\n\napp = \"shop.wsgi:application\"\nenv = [\"A=\\\"1\\\"\"]\nbind = \"unix:/run/a b\"\n\n\
             # Two for each CPU.\nworkers = 4\n\npreload = true\numask = \"0022\"\n\n# Shorter.\n# keep-alive = \"2s\"\n\n\
             # --- No equivalent: what to do instead ---\n# spew = true: use a debugger.\n\n\
             # The same as a command line:\n#   arctos --env 'A=\"1\"' --bind 'unix:/run/a b' --workers 4 --preload --umask 0022 \\\n\
             #     shop.wsgi:application\n"
        );
    }
}
