//! Files around a command line: a unit of systemd, a Dockerfile, a Procfile, a script.

use super::words::{CommandLine, assignment, basename, split, split_command, take_apart};
use crate::config::options::peers::Peer;

/// What such a file says about the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deployment {
    /// The command line, with the variables of the file.
    pub(super) command: CommandLine,
    /// The directory that it is started in.
    pub(super) directory: Option<String>,
    /// Whether systemd opens the sockets of the server.
    pub(super) is_socket_activated: bool,
    /// Whether the file is a unit of systemd.
    pub(super) is_unit: bool,
}

/// Reads a file. `name` is its path.
///
/// Errors: no line of it starts the server.
pub(super) fn read(peer: Peer, name: &str, text: &str) -> Result<Deployment, String> {
    let lines = joined(text);
    let is_unit = name.ends_with(".service");
    let mut deployment = Deployment { is_unit, ..Deployment::default() };
    let mut variables = Vec::new();
    let mut command = None;
    for line in lines.iter().map(|line| line.trim()) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(directory) = after(line, &["WorkingDirectory=", "WORKDIR "]) {
            deployment.directory = Some(directory.trim_start_matches('-').to_owned());
        } else if let Some(assignments) = after(line, &["Environment=", "ENV ", "export "]) {
            variables.extend(split(assignments)?.iter().filter_map(|word| assignment(word)));
        } else if after(line, &["Requires=", "Sockets="])
            .is_some_and(|units| units.contains(".socket"))
        {
            deployment.is_socket_activated = true;
        } else if !is_unit || line.starts_with("ExecStart=") {
            let line = line.replacen("ExecStart=-", "ExecStart=", 1);
            if let Some(found) = starts(peer, &line) {
                command = Some(found);
            }
        }
    }
    let mut command = command.ok_or_else(|| {
        format!("{name}: no line starts {}; give the command line itself", peer.word())
    })?;
    variables.append(&mut command.variables);
    command.variables = variables;
    deployment.command = command;
    Ok(deployment)
}

/// Joins lines that end in a backslash.
fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_continued = false;
    for line in text.lines() {
        let (part, continues) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some(last) if is_continued => {
                last.push(' ');
                last.push_str(part.trim_start());
            }
            Some(_) | None => lines.push(part.to_owned()),
        }
        is_continued = continues;
    }
    lines
}

fn after<'a>(line: &'a str, prefixes: &[&str]) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| line.strip_prefix(prefix)).map(str::trim)
}

/// Takes a line apart, if it starts the server.
fn starts(peer: Peer, line: &str) -> Option<CommandLine> {
    if !line.contains(peer.word()) {
        return None;
    }
    let words = split_command(line).ok()?;
    // `pip install gunicorn` names the program, and does not start it.
    let is_other = |word: &String| {
        matches!(
            basename(word),
            "pip" | "pip3" | "apt-get" | "apk" | "install" | "FROM" | "RUN" | "COPY" | "kill"
        )
    };
    if words.iter().any(is_other) {
        return None;
    }
    let command = take_apart(peer, words);
    (!command.program.is_empty()).then_some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_the_command_its_variables_and_its_directory() {
        let unit = "[Unit]\nRequires=shop.socket\n[Service]\nUser=www-data\nWorkingDirectory=/srv/shop\nEnvironment=\"A=b c\" D=e\n\
            ExecStart=/srv/shop/.venv/bin/gunicorn \\\n    --workers 3 \\\n    shop.wsgi\nExecReload=/bin/kill -s HUP $MAINPID\n";
        let deployment = read(Peer::Gunicorn, "/etc/gunicorn.service", unit).unwrap();
        assert!(deployment.is_unit && deployment.is_socket_activated);
        assert_eq!(deployment.directory.as_deref(), Some("/srv/shop"));
        assert_eq!(deployment.command.program, "/srv/shop/.venv/bin/gunicorn");
        assert_eq!(deployment.command.words, ["--workers", "3", "shop.wsgi"]);
        let variables =
            [("A", "b c"), ("D", "e")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(deployment.command.variables, variables);
    }

    #[test]
    fn a_dockerfile_names_the_command_and_not_the_installation() {
        let file = "FROM python:3.12\nENV PORT=8080\nWORKDIR /app\nRUN pip install gunicorn\nCMD exec gunicorn --bind :$PORT main:app\n";
        let deployment = read(Peer::Gunicorn, "Dockerfile", file).unwrap();
        assert_eq!(deployment.command.words, ["--bind", ":$PORT", "main:app"]);
        assert_eq!(deployment.command.variables, [("PORT".to_owned(), "8080".to_owned())]);
        assert!(read(Peer::Granian, "Dockerfile", file).is_err());
    }
}
