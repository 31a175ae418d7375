//! `arctos migrate`: the configuration of gunicorn, uWSGI or Granian as one of arctos.
//!
//! The tables of [`peers`](crate::config::options::peers) say what each setting becomes. Here, values are read and
//! converted. This file and `python_file` read files and start the interpreter; everything else is pure.
//!
//! | file | owns |
//! |---|---|
//! | `words` | a command line: its words, its program, what is in front of it |
//! | `arguments` | the options of a command line |
//! | `deployment` | the command line in a unit, a Dockerfile, a Procfile |
//! | `ini` | uWSGI's configuration files |
//! | `python_file` | gunicorn's configuration files, which a child process executes |
//! | `value` | settings and values of other servers |
//! | `gunicorn`, `uwsgi`, `granian` | the settings of each: [`Draft`] |
//! | `draft` | what the settings became |
//! | `render` | a draft as TOML and as a command line |

mod arguments;
mod deployment;
mod draft;
mod granian;
mod gunicorn;
mod ini;
mod python_file;
mod render;
mod uwsgi;
mod value;
mod words;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use arctos_worker::shared::log::ErrorText;

use crate::config::options::Setting;
use crate::config::options::peers::Peer;
use crate::config::{ConfigError, Printable, Source};
use crate::system::environment::Environment;

use draft::{Draft, Note};
use render::Frame;
use value::PeerLine;
use words::CommandLine;

/// A command of `arctos migrate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrateCommand {
    /// The server whose configuration is given.
    pub peer: Peer,
    /// A file, a command line in one argument, or the words of one.
    pub words: Vec<String>,
}

/// The result of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The text of `arctos.toml`.
    pub text: String,
    /// One sentence that counts the settings.
    pub summary: String,
}

/// Why a configuration cannot be migrated. The message is for standard error, after "error: ".
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", Printable(.path), ErrorText(.error))]
    Unreadable {
        /// The file.
        path: String,
        /// The error of the kernel.
        error: io::Error,
    },
    /// A file or a command line cannot be understood; the message says why.
    #[error("{}", Printable(.0))]
    Wrong(String),
}

/// What a file or a command line holds, before it is read as that of a server.
#[derive(Debug, Default)]
struct Input {
    /// The configuration file that is given itself.
    file: Option<String>,
    command: CommandLine,
    directory: Option<PathBuf>,
    is_unit: bool,
    is_image: bool,
    is_socket_activated: bool,
}

/// The settings of a server, with what the header has to say.
#[derive(Debug, Default)]
struct Found {
    draft: Draft,
    /// The files that were read.
    files: Vec<String>,
    /// Sentences about what was found beside them.
    found: Vec<String>,
    /// The virtual environment of the application.
    environment: Option<String>,
}

/// Reads what the command names and writes it as a configuration of arctos.
///
/// `interpreter` is the Python that executes a configuration file of gunicorn.
pub fn run(
    command: &MigrateCommand,
    environment: &Environment,
    interpreter: Option<&OsStr>,
) -> Result<Migration, MigrateError> {
    let peer = command.peer;
    let input = input(peer, &command.words)?;
    let mut read = match peer {
        Peer::Gunicorn => read_gunicorn(&input, environment, interpreter)?,
        Peer::Uwsgi => read_uwsgi(&input)?,
        Peer::Granian => read_granian(&input, environment),
    };
    let variables: Vec<&(String, String)> =
        input.command.variables.iter().filter(|(name, _)| !is_read(peer, name)).collect();
    if !variables.is_empty() {
        let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
        read.found.push(format!(
            "Keep the environment of that command ({}), or set it with `env`.",
            names.join(", ")
        ));
    }
    check(&mut read.draft);
    let frame = frame(command, &input, &read);
    if input.is_unit {
        read.draft.remarks.push(unit(&frame.program));
    }
    if input.is_image {
        read.draft.remarks.push(image(&frame.program));
    }
    let is_file = input.file.is_some() || input.is_unit || input.is_image;
    if is_file && !read.draft.has(Setting::AdminBind) {
        read.draft.remarks.push(control());
    }
    let summary = summary(peer, &read.draft);
    Ok(Migration { text: render::toml(&read.draft, &frame), summary })
}

/// Whether a variable is a part of the configuration.
fn is_read(peer: Peer, name: &str) -> bool {
    match peer {
        Peer::Gunicorn => name == GUNICORN_ARGUMENTS || name == FORWARDED,
        Peer::Granian => name.starts_with(GRANIAN_PREFIX),
        Peer::Uwsgi => name.starts_with("UWSGI_"),
    }
}

const GUNICORN_ARGUMENTS: &str = "GUNICORN_CMD_ARGS";
const FORWARDED: &str = "FORWARDED_ALLOW_IPS";
const GRANIAN_PREFIX: &str = "GRANIAN_";
/// The file that gunicorn reads from the current directory without being asked to.
const GUNICORN_FILE: &str = "gunicorn.conf.py";
/// No configuration is longer, but a log that is named by mistake is.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Finds out what is given: a file, a command line as one argument, or the words of one.
fn input(peer: Peer, given: &[String]) -> Result<Input, MigrateError> {
    let (first, rest) = match given {
        [first, rest @ ..] => (first.as_str(), rest),
        [] => ("", given),
    };
    let name = words::basename(first);
    let is_configuration = match peer {
        Peer::Gunicorn => {
            name.ends_with(".py") || first.starts_with("python:") || first.starts_with("file:")
        }
        Peer::Uwsgi => {
            let name = name.split(':').next().unwrap_or(name);
            [".ini", ".yml", ".yaml", ".xml", ".json"].iter().any(|end| name.ends_with(end))
        }
        Peer::Granian => false,
    };
    if is_configuration && !first.contains(char::is_whitespace) {
        let command = CommandLine { words: rest.to_vec(), ..CommandLine::default() };
        return Ok(Input { file: Some(first.to_owned()), command, ..Input::default() });
    }
    let is_deployment = rest.is_empty()
        && (name.ends_with(".service")
            || name.ends_with(".sh")
            || name == "Procfile"
            || name.contains("Dockerfile")
            || (first.contains('/') && Path::new(first).is_file()));
    if is_deployment {
        let text = read_file(first)?;
        let found = deployment::read(peer, first, &text).map_err(MigrateError::Wrong)?;
        // The directory is that of another machine, unless it is here.
        let directory = found.directory.map(PathBuf::from).filter(|directory| directory.is_dir());
        return Ok(Input {
            file: None,
            command: found.command,
            directory,
            is_unit: found.is_unit,
            is_image: name.contains("Dockerfile"),
            is_socket_activated: found.is_socket_activated,
        });
    }
    let words = match rest {
        [] => words::split_command(first).map_err(MigrateError::Wrong)?,
        [_, ..] => given.to_vec(),
    };
    let is_unit = first.starts_with("ExecStart=");
    Ok(Input { command: words::take_apart(peer, words), is_unit, ..Input::default() })
}

fn read_file(path: &str) -> Result<String, MigrateError> {
    let unreadable = |error| MigrateError::Unreadable { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads gunicorn's file, GUNICORN_CMD_ARGS and command line, each of which overrides those before it.
fn read_gunicorn(
    input: &Input,
    environment: &Environment,
    interpreter: Option<&OsStr>,
) -> Result<Found, MigrateError> {
    let mut read = Found::default();
    let variable = |name: &str| {
        let given = input.command.variables.iter().rev().find(|(given, _)| given == name);
        given.map(|(_, value)| value.clone()).or_else(|| environment.text(name).map(str::to_owned))
    };
    let line = arguments::read(Peer::Gunicorn, &input.command.words);
    let from_variable = match variable(GUNICORN_ARGUMENTS) {
        Some(text) => {
            read.found.push(format!("{GUNICORN_ARGUMENTS} is set: its options are included."));
            arguments::read(Peer::Gunicorn, &words::split(&text).map_err(MigrateError::Wrong)?)
        }
        None => arguments::Arguments::default(),
    };
    let named = |lines: &[PeerLine]| {
        let line = lines.iter().rev().find(|line| line.name == "config")?;
        line.value.as_text().map(str::to_owned)
    };
    let file =
        input.file.clone().or_else(|| named(&line.lines)).or_else(|| named(&from_variable.lines));
    let default = input.directory.clone().unwrap_or_default().join(GUNICORN_FILE);
    let file = file.or_else(|| default.is_file().then(|| GUNICORN_FILE.to_owned()));
    let mut lines = Vec::new();
    let mut ignored = Vec::new();
    if let Some(file) = &file {
        let settings = gunicorn_file(file, input, interpreter)?;
        lines.extend(settings.lines);
        ignored = settings.ignored;
        read.files.push(file.clone());
    }
    lines.extend(repeated(from_variable.lines));
    lines.extend(repeated(line.lines));
    lines.retain(|line| line.name != "config");
    read.draft = gunicorn::draft(&gunicorn::GunicornInput {
        lines,
        application: line.positional.first().cloned(),
        forwarded_allow_ips: variable(FORWARDED),
        is_socket_activated: input.is_socket_activated,
        file: file.unwrap_or_default(),
    });
    read.draft.unknown.extend(ignored.iter().map(|name| gunicorn::unknown(name)));
    for option in line.unknown.iter().chain(&from_variable.unknown) {
        let text = format!("gunicorn {} has no such option", Peer::Gunicorn.version());
        read.draft.unknown.push(Note { what: option.clone(), text });
    }
    Ok(read)
}

fn gunicorn_file(
    file: &str,
    input: &Input,
    interpreter: Option<&OsStr>,
) -> Result<python_file::PythonSettings, MigrateError> {
    let interpreter = interpreter.ok_or_else(|| {
        MigrateError::Wrong(format!("{file}: there is no Python interpreter to execute it"))
    })?;
    let path = file.strip_prefix("file:").unwrap_or(file);
    if !file.starts_with("python:") {
        let place = input.directory.clone().unwrap_or_default().join(path);
        read_file(&place.to_string_lossy())?;
    }
    python_file::read(interpreter, file, input.directory.as_deref(), &input.command.variables)
        .map_err(MigrateError::Wrong)
}

/// Joins the values of options that repeat on gunicorn's command line.
fn repeated(lines: Vec<PeerLine>) -> Vec<PeerLine> {
    const REPEATED: [&str; 5] =
        ["bind", "raw_env", "reload_extra_files", "raw_paste_global_conf", "dirty_apps"];
    let mut joined: Vec<PeerLine> = Vec::new();
    for line in lines {
        let text = line.value.as_text().map(str::to_owned);
        let (Some(text), true) = (text, REPEATED.contains(&line.name.as_str())) else {
            joined.push(line);
            continue;
        };
        match joined.iter_mut().find(|earlier| earlier.name == line.name) {
            Some(PeerLine { value: value::PeerValue::List(list), .. }) => list.push(text),
            Some(_) | None => {
                joined.push(PeerLine::new(&line.name, value::PeerValue::List(vec![text])))
            }
        }
    }
    joined
}

/// Reads uWSGI's files and command line. Each file is read where it is named.
fn read_uwsgi(input: &Input) -> Result<Found, MigrateError> {
    let mut read = Found::default();
    let line = arguments::read(Peer::Uwsgi, &input.command.words);
    let current = std::env::current_dir().unwrap_or_default();
    let directory = input.directory.clone().unwrap_or(current).to_string_lossy().into_owned();
    let is_file = |text: &&String| text.contains(".ini");
    let mut lines = Vec::new();
    let mut logic = Vec::new();
    let positional = line.positional.iter().find(is_file).cloned();
    for file in input.file.iter().chain(&positional) {
        add_ini(file, &directory, &mut read, &mut lines, &mut logic)?;
    }
    for option in line.lines {
        match (option.name.as_str(), option.value.as_text()) {
            ("ini", Some(file)) => add_ini(file, &directory, &mut read, &mut lines, &mut logic)?,
            (name @ ("yaml" | "yml" | "xml" | "xmlconfig" | "json" | "config"), Some(file)) => {
                return Err(not_ini(&format!("--{name} {file}")));
            }
            _ => lines.push(option),
        }
    }
    let result = uwsgi::draft(&lines);
    (read.draft, read.environment) = (result.draft, result.environment);
    for option in line.unknown {
        let text = format!("uWSGI {} has no such option", Peer::Uwsgi.version());
        read.draft.unknown.push(Note { what: option, text });
    }
    for condition in logic {
        let text =
            "conditions and loops are not evaluated; the settings in them are included".to_owned();
        read.draft.unknown.push(Note { what: condition, text });
    }
    Ok(read)
}

fn add_ini(
    file: &str,
    directory: &str,
    read: &mut Found,
    lines: &mut Vec<PeerLine>,
    logic: &mut Vec<String>,
) -> Result<(), MigrateError> {
    let name = file.rsplit_once(':').map_or(file, |(name, _)| name);
    if !name.ends_with(".ini") && file.contains('.') && !file.contains(".ini") {
        return Err(not_ini(file));
    }
    let mut error = None;
    let mut read_one = |path: &str| {
        read_file(path).map_err(|reason| {
            let text = reason.to_string();
            error = Some(reason);
            text
        })
    };
    let settings = ini::read(file, directory, &mut read_one);
    let settings = settings.map_err(|text| error.unwrap_or(MigrateError::Wrong(text)))?;
    lines.extend(settings.lines);
    logic.extend(settings.logic);
    read.files.extend(settings.files);
    Ok(())
}

fn not_ini(what: &str) -> MigrateError {
    MigrateError::Wrong(format!(
        "{what}: only ini files are read; write its settings into one (`name = value` below `[uwsgi]`)"
    ))
}

/// Reads Granian's command line, and the variables that it reads.
fn read_granian(input: &Input, environment: &Environment) -> Found {
    let mut read = Found::default();
    let mut variables = input.command.variables.clone();
    let names = environment.names().filter(|name| name.starts_with(GRANIAN_PREFIX));
    let found: Vec<String> = names.map(str::to_owned).collect();
    if !found.is_empty() {
        read.found
            .push(format!("{} is set in the environment, and is included.", found.join(", ")));
    }
    let value = |name: &String| Some((name.clone(), environment.text(name)?.to_owned()));
    variables.extend(found.iter().filter_map(value));
    let line = arguments::read(Peer::Granian, &input.command.words);
    let mut lines: Vec<PeerLine> = variables.iter().filter_map(granian::variable).collect();
    lines.retain(|variable| !line.lines.iter().any(|given| given.name == variable.name));
    lines.extend(line.lines);
    read.draft = granian::draft(&lines, line.positional.first().map(String::as_str));
    for option in line.unknown {
        let text = format!("Granian {} has no such option", Peer::Granian.version());
        read.draft.unknown.push(Note { what: option, text });
    }
    read
}

/// Turns options whose value arctos would refuse into proposals, with the reason.
fn check(draft: &mut Draft) {
    // Options that require others, which have checks of their own.
    let context = [
        // No file of this directory is read, least of all the one that the output is written to.
        (Setting::Config, "off"),
        (Setting::Preload, "on"),
        (Setting::ProxyAllowFrom, "*"),
        (Setting::Application, "a:b"),
    ];
    for (setting, planned) in &mut draft.planned {
        let values = planned.values.iter().map(OsString::from).collect();
        let others = context.iter().filter(|(other, _)| other != setting);
        let others = others.map(|(other, value)| (*other, vec![OsString::from(value)]));
        let given = others.chain([(*setting, values)]);
        let checked = Source::of_command_line(given, Environment::default())
            .and_then(|source| source.resolve().map(drop));
        if let Err(error) = checked
            && error.exit_code() == WRONG_EVERYWHERE
            && !planned.is_proposal
        {
            planned.is_proposal = true;
            planned.comments.push(format!("arctos refuses this: {}.", reason(&error)));
        }
    }
}

/// The exit code of an error that does not depend on the machine.
const WRONG_EVERYWHERE: i32 = 2;

fn reason(error: &ConfigError) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}

fn frame(command: &MigrateCommand, input: &Input, read: &Found) -> Frame {
    let peer = command.peer;
    let given: Vec<String> = command.words.iter().map(|word| words::quoted(word)).collect();
    let files = match read.files.as_slice() {
        [] => String::new(),
        files => format!(" It includes {}.", files.join(", ")),
    };
    let is_named = command.words.first().is_some_and(|first| {
        read.files.iter().all(|file| file == first || file.ends_with(&format!("/{first}")))
    });
    let files = if is_named { String::new() } else { files };
    let mut header = vec![
        format!(
            "arctos.toml, written by `arctos migrate {} {}`.{files}",
            peer.word(),
            given.join(" ")
        ),
        summary(peer, &read.draft),
    ];
    header.extend(read.found.iter().cloned());
    let program = match (&read.environment, input.command.program.rsplit_once('/')) {
        (_, Some((directory, _))) => format!("{directory}/arctos"),
        (Some(environment), None) => format!("{environment}/bin/arctos"),
        (None, None) => "arctos".to_owned(),
    };
    let launcher: Vec<String> =
        input.command.launcher.iter().map(|word| words::quoted(word)).collect();
    let program = [launcher.join(" "), program].join(" ");
    Frame { header, program: program.trim().to_owned() }
}

/// Counts the settings.
fn summary(peer: Peer, draft: &Draft) -> String {
    let parts = [
        (draft.same, "equivalent"),
        (draft.near, "near equivalent"),
        (draft.unneeded.len(), "not needed"),
        (draft.missing.len(), "without an equivalent"),
        (draft.unknown.len(), "not known"),
    ];
    let total: usize = parts.iter().map(|(count, _)| count).sum();
    let counted = parts.iter().filter(|(count, _)| *count > 0);
    let counted: Vec<String> = counted.map(|(count, what)| format!("{count} {what}")).collect();
    let settings = if total == 1 { "setting" } else { "settings" };
    match counted.is_empty() {
        true => format!("No settings of {} are given.", peer.title()),
        false => format!("{total} {settings} of {}: {}.", peer.title(), counted.join(", ")),
    }
}

/// What to change in a unit of systemd.
fn unit(program: &str) -> Vec<String> {
    vec![
        "In the unit (see arctos help systemd):".to_owned(),
        "  Type=notify".to_owned(),
        "  NotifyAccess=main".to_owned(),
        format!("  ExecStart={program} --config arctos.toml"),
        "  ExecReload=/bin/kill -HUP $MAINPID".to_owned(),
        "  KillMode=mixed".to_owned(),
        "With admin-bind set, a reload can also report whether the new code serves:".to_owned(),
        format!("  ExecReload={program} ctl reload --wait"),
    ]
}

/// What to change in a Dockerfile.
fn image(program: &str) -> Vec<String> {
    let words = program.split_whitespace().chain(["--config", "arctos.toml"]);
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    vec![
        "In the image (see arctos help install), install arctos in place of the other server, and:"
            .to_owned(),
        format!("  CMD [{}]", words.join(", ")),
        "Docker waits 10 s for a stop; docker run --stop-timeout 30 gives requests time to finish."
            .to_owned(),
    ]
}

/// How to watch and control the server, if the settings of the other server say nothing about it.
fn control() -> Vec<String> {
    vec![
        "To use arctos ctl and arctos top, and to scrape /metrics, add to arctos.toml:".to_owned(),
        "  admin-bind = \"unix:/run/shop/admin.sock\"   # in a directory of the server's user"
            .to_owned(),
    ]
}
