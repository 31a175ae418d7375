//! uWSGI's configuration in an ini file: sections, included files, placeholders and variables of the file.

use std::collections::BTreeMap;

use super::value::{PeerLine, PeerValue};
use super::words::basename;
use crate::config::options::peers::{PeerArgument, uwsgi_options};

/// The settings of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IniSettings {
    /// The settings, in their order, without those that only other settings refer to.
    pub(super) lines: Vec<PeerLine>,
    /// Conditions and loops, which are not evaluated.
    pub(super) logic: Vec<String>,
    /// The files that were read.
    pub(super) files: Vec<String>,
}

/// Reads the content of a file by its path, which is absolute or starts where the process does.
pub(super) type ReadFile<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// How many files may include each other.
const MAX_FILES: usize = 32;
const SECTION: &str = "uwsgi";

/// Reads a configuration. `path` may end in the name of a section: `uwsgi.ini:production`.
///
/// Errors: a file cannot be read, or has no such section.
pub(super) fn read(
    path: &str,
    directory: &str,
    read_file: &mut ReadFile<'_>,
) -> Result<IniSettings, String> {
    let mut settings = IniSettings::default();
    let mut raw = Vec::new();
    collect(path, directory, read_file, &mut settings, &mut raw)?;
    let known: BTreeMap<&str, PeerArgument> =
        uwsgi_options().map(|option| (option.name, option.argument)).collect();
    let values: BTreeMap<String, String> = raw.iter().cloned().collect();
    let is_used = |name: &str| raw.iter().any(|(_, value)| value.contains(&format!("%({name})")));
    for (name, value) in &raw {
        if is_logic(name) {
            settings.logic.push(format!("{name} = {value}"));
            continue;
        }
        if !known.contains_key(name.as_str()) && is_used(name) {
            continue;
        }
        let value = replaced(value, &values, 0);
        let is_switch = known.get(name.as_str()) == Some(&PeerArgument::None)
            || (known.get(name.as_str()) == Some(&PeerArgument::Optional) && value == "true");
        let value = if is_switch {
            let is_off =
                ["false", "off", "no", "0"].iter().any(|off| value.eq_ignore_ascii_case(off));
            PeerValue::Switch(!is_off)
        } else {
            PeerValue::Text(value)
        };
        settings.lines.push(PeerLine::new(name, value));
    }
    Ok(settings)
}

fn is_logic(name: &str) -> bool {
    name.starts_with("if-")
        || matches!(
            name,
            "for"
                | "for-glob"
                | "for-times"
                | "for-readline"
                | "endfor"
                | "end-for"
                | "ifenv"
                | "ifexists"
                | "ifplugin"
                | "ifdir"
                | "endif"
                | "end-if"
        )
}

/// Collects the lines of a file and of those that it includes.
fn collect(
    path: &str,
    directory: &str,
    read_file: &mut ReadFile<'_>,
    settings: &mut IniSettings,
    raw: &mut Vec<(String, String)>,
) -> Result<(), String> {
    let (file, section) = match path.rsplit_once(':') {
        Some((file, section)) if !section.contains('/') => (file, section),
        _ => (path, SECTION),
    };
    // `:section` is another section of the same file.
    let file = match (file, settings.files.last()) {
        ("", Some(last)) => last.clone(),
        _ => joined(directory, file),
    };
    let named = format!("{file}:{section}");
    if settings.files.len() >= MAX_FILES {
        return Err(format!("{named}: more than {MAX_FILES} files include each other"));
    }
    let text = read_file(&file)?;
    settings.files.push(file.clone());
    let variables = file_variables(&file, section);
    let mut current = String::new();
    let mut has_section = false;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            current = name.trim_end_matches(']').to_owned();
            has_section |= current == section;
            continue;
        }
        if current != section {
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, "true"));
        let (name, value) = (name.trim(), with_variables(value.trim(), &variables));
        match name {
            "ini" | "include" | "inherit" => {
                collect(&value, &parent(&file), read_file, settings, raw)?
            }
            "set" | "set-placeholder" | "set-ph" => raw.extend(
                value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            _ => raw.push((name.to_owned(), value)),
        }
    }
    match has_section {
        true => Ok(()),
        false => Err(format!("{file}: there is no section [{section}]")),
    }
}

fn joined(directory: &str, file: &str) -> String {
    match file.starts_with('/') || directory.is_empty() {
        true => file.to_owned(),
        false => format!("{}/{file}", directory.trim_end_matches('/')),
    }
}

fn parent(file: &str) -> String {
    match file.rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((directory, _)) => directory.to_owned(),
        None => String::new(),
    }
}

/// The variables of a file: `%d` its directory, `%n` its name without the extension, and so on.
fn file_variables(file: &str, section: &str) -> BTreeMap<char, String> {
    let name = basename(file);
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let directory = parent(file);
    BTreeMap::from([
        ('p', file.to_owned()),
        ('o', file.to_owned()),
        ('s', name.to_owned()),
        ('n', stem.to_owned()),
        ('e', extension.to_owned()),
        ('d', format!("{}/", directory.trim_end_matches('/'))),
        ('c', basename(&directory).to_owned()),
        ('x', section.to_owned()),
        ('%', "%".to_owned()),
    ])
}

fn with_variables(value: &str, variables: &BTreeMap<char, String>) -> String {
    let mut text = String::new();
    let mut rest = value.chars().peekable();
    while let Some(character) = rest.next() {
        match rest.peek().and_then(|next| variables.get(&next.to_ascii_lowercase())) {
            Some(value) if character == '%' => {
                text.push_str(value);
                rest.next();
            }
            Some(_) | None => text.push(character),
        }
    }
    text
}

/// Replaces each `%(name)` by the value of that setting.
fn replaced(value: &str, values: &BTreeMap<String, String>, depth: usize) -> String {
    const MAX_DEPTH: usize = 8;
    let mut text = String::new();
    let mut rest = value;
    while let Some(start) = rest.find("%(") {
        let Some(end) = rest[start..].find(')').map(|end| start + end) else { break };
        text.push_str(&rest[..start]);
        let name = &rest[start + 2..end];
        match values.get(name) {
            Some(value) if depth < MAX_DEPTH => text.push_str(&replaced(value, values, depth + 1)),
            Some(_) | None => text.push_str(&rest[start..=end]),
        }
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &str, files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut read_file = |path: &str| {
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| (*text).to_owned()).ok_or(format!("{path}: no such file"))
        };
        let read = read(path, "/srv/shop", &mut read_file)?;
        Ok(read.lines.iter().map(PeerLine::shown).collect())
    }

    #[test]
    fn placeholders_and_variables_of_the_file_are_replaced() {
        let text = "[other]\nhttp = :1\n[uwsgi]\n; a comment\nproject = shop\nbase = /srv/%(project)\n\
             chdir = %(base)/src\nhome = %dvenv\npidfile = /run/%n.pid\nmaster = 1\nvacuum = false\nenv = A=1\nenv = B=%%2\n";
        assert_eq!(
            settings("shop.ini", &[("/srv/shop/shop.ini", text)]).unwrap(),
            [
                "chdir = \"/srv/shop/src\"",
                "home = \"/srv/shop/venv\"",
                "pidfile = \"/run/shop.pid\"",
                "master = true",
                "vacuum = false",
                "env = \"A=1\"",
                "env = \"B=%2\"",
            ]
        );
    }

    #[test]
    fn other_files_and_sections_are_included() {
        let files = [
            (
                "/srv/shop/a.ini",
                "[uwsgi]\nini = :base\ninclude = conf/b.ini\n[base]\nprocesses = 4\n",
            ),
            ("/srv/shop/conf/b.ini", "[uwsgi]\nharakiri = 30\n"),
        ];
        assert_eq!(settings("a.ini", &files).unwrap(), ["processes = 4", "harakiri = 30"]);
        assert_eq!(settings("a.ini:base", &files).unwrap(), ["processes = 4"]);
        assert!(settings("a.ini:none", &files).unwrap_err().contains("no section [none]"));
        let circle = [("/srv/shop/a.ini", "[uwsgi]\nini = a.ini\n")];
        assert!(settings("a.ini", &circle).unwrap_err().contains("include each other"));
    }
}
