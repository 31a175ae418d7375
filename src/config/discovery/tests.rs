use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::super::Source;
use super::super::options::Setting;
use super::*;
use crate::system::environment::Environment;

/// A directory with files of these names and contents.
fn directory_of(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn started_in(directory: &TempDir, options: &[(Setting, &str)]) -> Source {
    let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
    let source = Source::of_command_line(given, Environment::default()).unwrap();
    source.starting_in(directory.path())
}

/// The number of workers and the name of the file that was read.
fn read(directory: &TempDir, options: &[(Setting, &str)]) -> (u16, String) {
    let config = started_in(directory, options).read().unwrap();
    let file = config.file().map(|(path, _)| path.to_owned()).unwrap_or_default();
    let directory = format!("{}/", directory.path().display());
    (config.workers, file.replace(&directory, ""))
}

fn refusal(directory: &TempDir) -> (String, i32) {
    let error = started_in(directory, &[]).resolve().unwrap_err();
    let path = format!("{}/", directory.path().display());
    (error.to_string().replace(&path, ""), error.exit_code())
}

const OURS: (&str, &str) = ("arctos.toml", "app = 'shop:app'\nworkers = 5\n");
const PROJECT: (&str, &str) =
    ("pyproject.toml", "[project]\nname = 'x'\n\n[tool.arctos]\napp = 'shop:app'\nworkers = 6\n");

#[test]
fn arctos_toml_is_read_before_pyproject_toml() {
    assert_eq!(read(&directory_of(&[OURS]), &[]), (5, "arctos.toml".to_owned()));
    assert_eq!(read(&directory_of(&[PROJECT]), &[]), (6, "pyproject.toml".to_owned()));
    let both = directory_of(&[OURS, PROJECT]);
    assert_eq!(read(&both, &[]), (5, "arctos.toml".to_owned()));
    let [hint] = &started_in(&both, &[]).hints()[..] else { panic!() };
    assert_eq!(hint.event(), "config.file_ignored");
    let text = format!(
        "the settings in [tool.arctos] of {}/pyproject.toml are ignored, because there is an arctos.toml beside it",
        both.path().display()
    );
    assert_eq!(hint.to_string(), text);
    for files in [&[OURS][..], &[PROJECT], &[OURS, ("pyproject.toml", "[tool.ruff]\n")]] {
        assert_eq!(started_in(&directory_of(files), &[]).hints(), []);
    }
}

#[test]
fn the_command_line_names_another_file_or_none() {
    let other = ("other.toml", "app = 'shop:app'\nworkers = 7\n");
    let directory = directory_of(&[OURS, PROJECT, other]);
    let named = |name| read(&directory, &[(Setting::Config, name), (Setting::Workers, "9")]);
    assert_eq!(read(&directory, &[(Setting::Config, "other.toml")]).0, 7);
    assert_eq!(read(&directory, &[(Setting::Config, "pyproject.toml")]).0, 6);
    assert_eq!(named("other.toml"), (9, "other.toml".to_owned()));
    let options = [(Setting::Config, "off"), (Setting::Application, "x"), (Setting::Workers, "3")];
    assert_eq!(read(&directory, &options), (3, String::new()));
    assert_eq!(started_in(&directory, &options).hints(), []);
    let shown = started_in(&directory, &options).resolve().unwrap().print();
    assert!(shown.lines().any(|line| line.starts_with("--config ") && line.contains("  off ")));
}

#[test]
fn a_call_of_serve_finds_no_file() {
    let keywords = [(Setting::Application, vec![OsString::from("x")])];
    let source = Source::of_keywords(keywords, Environment::default()).unwrap();
    let config = source.starting_in(directory_of(&[OURS]).path()).read().unwrap();
    assert_eq!(config.file(), None);
}

#[test]
fn each_reading_looks_for_the_file_again() {
    let directory = directory_of(&[OURS]);
    let options = [(Setting::Application, "shop:app")];
    let config = started_in(&directory, &options).read().unwrap();
    std::fs::remove_file(directory.path().join("arctos.toml")).unwrap();
    assert_eq!(config.source.read().unwrap().file(), None);
    std::fs::write(directory.path().join("arctos.toml"), "workers = 8").unwrap();
    assert_eq!(config.source.read().unwrap().workers, 8);
}

#[test]
fn the_effective_configuration_names_the_file_and_the_line() {
    let directory = directory_of(&[PROJECT]);
    let page = started_in(&directory, &[]).resolve().unwrap().print();
    let path = directory.path().join("pyproject.toml");
    let path = path.display();
    let has = |start: &str, end: &str| {
        page.lines().any(|line| line.starts_with(start) && line.ends_with(end))
    };
    assert!(has("--config ", "  default: found in the current directory"), "{page}");
    assert!(has("--workers ", &format!("  file {path}:6")), "{page}");
}

#[test]
fn other_tools_files_are_left_alone() {
    for text in ["", "[tool.ruff]\n", "not toml", "[tool.arctos]\n", "# arctos\n[tool]\nx = 1\n"] {
        let directory = directory_of(&[("pyproject.toml", text)]);
        assert!(find(directory.path()).unwrap().is_none(), "{text}");
        assert_eq!(started_in(&directory, &[]).hints(), []);
    }
    assert!(find(Path::new("/no/such")).unwrap().is_none());
}

#[test]
fn a_mistake_in_a_file_that_was_found_is_named_with_its_line() {
    for (name, text, message, code) in [
        ("arctos.toml", "\nworkers = 'x'", "arctos.toml:2: workers='x': expected a whole", 2),
        ("arctos.toml", "worker = 3", "arctos.toml:1: there is no option 'worker'; did you", 2),
        ("arctos.toml", "config = 'x'", "arctos.toml:1: config cannot be set in a", 2),
        ("pyproject.toml", "[tool.arctos]\nworker = 3", "pyproject.toml:2: there is no option", 2),
        ("pyproject.toml", "[tool.arctos]\nx", "pyproject.toml:2: ", 2),
        (
            "pyproject.toml",
            "[tool]\narctos = 3",
            "pyproject.toml:2: tool.arctos: expected a table, not a number",
            2,
        ),
    ] {
        let refused = refusal(&directory_of(&[(name, text)]));
        assert!(refused.0.starts_with(message) && refused.1 == code, "{refused:?}");
    }
    let directory = directory_of(&[]);
    std::fs::create_dir(directory.path().join("arctos.toml")).unwrap();
    let message = "arctos.toml in the current directory: arctos.toml is not a regular file";
    assert_eq!(refusal(&directory), (message.to_owned(), 1));
}

#[test]
fn a_pyproject_toml_that_is_named_needs_the_table() {
    let directory = directory_of(&[("pyproject.toml", "[tool.ruff]\n")]);
    let error = started_in(&directory, &[(Setting::Config, "pyproject.toml")]).resolve();
    let error = error.unwrap_err();
    assert!(error.to_string().ends_with("/pyproject.toml: there is no table [tool.arctos]"));
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn in_a_directory_for_everybody_only_own_files_are_read() {
    let directory = directory_of(&[OURS]);
    let open_to_all = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(directory.path(), open_to_all).unwrap();
    assert_eq!(read(&directory, &[]).0, 5);
    if !geteuid().is_root() {
        return; // Only root can give a file away.
    }
    let path = directory.path().join("arctos.toml");
    nix::unistd::chown(&path, Some(12345.into()), None).unwrap();
    let (message, code) = refusal(&directory);
    assert!(message.starts_with("arctos.toml belongs to user 12345 and is in a directory that"));
    assert_eq!(code, 1);
    assert_eq!(read(&directory, &[(Setting::Config, "arctos.toml")]).0, 5, "it is named");
    let closed = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), closed).unwrap();
    assert_eq!(read(&directory, &[]).0, 5);
}
