use super::*;
use crate::system::address::BindAddress;

fn source(options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Source {
    let application = [(Setting::Application, vec!["shop:app".into()])];
    let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
    let environment = variables.iter().copied().collect();
    Source::of_command_line(application.into_iter().chain(given), environment).unwrap()
}

/// A source that was started in another directory than the current one of this process.
fn started_in(directory: &Path, options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Source {
    source(options, variables).starting_in(directory)
}

#[test]
fn a_configuration_can_be_read_again_from_its_own_source() {
    let options = [(Setting::Workers, "3"), (Setting::Backlog, "9")];
    let first = source(&options, &[("ARCTOS_NAME", "shop")]).read().unwrap();
    let second = first.source.read().unwrap();
    assert_eq!((second.workers, second.backlog), (3, 9));
    assert_eq!(second.name.as_deref(), Some("shop"));
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

#[test]
fn relative_paths_start_in_the_directory_of_the_start() {
    let options = [(Setting::Pid, "x.pid"), (Setting::Bind, "unix:x"), (Setting::PythonPath, "p")];
    let config = started_in(Path::new("/usr"), &options, &[]).read().unwrap();
    assert_eq!(config.pid_file, Some("/usr/x.pid".into()));
    assert_eq!(config.binds, [BindAddress::Unix("/usr/x".into())]);
    assert_eq!(config.application.pythonpath, [PathBuf::from("/usr/p")]);
    let options = [(Setting::Chdir, "lib"), (Setting::Pid, "x.pid")];
    let config = started_in(Path::new("/usr"), &options, &[]).read().unwrap();
    assert_eq!(config.application.chdir, Some("/usr/lib".into()));
    assert_eq!(config.pid_file, Some("/usr/lib/x.pid".into()));
}

#[test]
fn without_chdir_workers_run_in_the_directory_of_the_start() {
    assert_eq!(source(&[], &[]).read().unwrap().application.chdir, None);
    let elsewhere = started_in(Path::new("/usr"), &[], &[]).read().unwrap();
    assert_eq!(elsewhere.application.chdir, Some("/usr".into()));
}

#[test]
fn a_file_of_gunicorn_is_a_hint_unless_config_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let hints = |options: &[(Setting, &str)], variables: &[(&str, &str)]| {
        let hints = started_in(directory.path(), options, variables).hints();
        hints.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(hints(&[], &[]), [""; 0]);
    std::fs::write(directory.path().join("gunicorn.conf.py"), "workers = 4").unwrap();
    let [hint] = &hints(&[], &[("GUNICORN_CMD_ARGS", "--preload")])[..] else { panic!() };
    assert!(hint.starts_with("./gunicorn.conf.py and GUNICORN_CMD_ARGS found"), "{hint}");
    assert_eq!(hints(&[(Setting::Config, "shop.toml")], &[]), [""; 0]);
    assert_eq!(hints(&[], &[("ARCTOS_CONFIG", "shop.toml")]), [""; 0]);
}

#[test]
fn sockets_from_systemd_are_found_at_a_second_reading_too() {
    let pid = std::process::id().to_string();
    let source = source(&[], &[("LISTEN_PID", &pid), ("LISTEN_FDS", "1")]);
    for _ in 0..2 {
        assert_eq!(source.read().unwrap().binds, [BindAddress::Fd(3)]);
    }
}

#[test]
fn a_directory_is_looked_up_at_each_reading() {
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("bodies");
    std::fs::create_dir(&temporary).unwrap();
    let source = source(&[(Setting::BodyTempDir, temporary.to_str().unwrap())], &[]);
    source.read().unwrap();
    std::fs::remove_dir(&temporary).unwrap();
    let error = source.read().unwrap_err().to_string();
    assert!(error.contains("cannot use the directory"), "{error}");
}

#[test]
fn without_an_application_there_is_no_configuration() {
    let source = Source::of_command_line([], Environment::default()).unwrap();
    assert!(source.resolve().unwrap().config.is_none());
    let error = source.read().unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("no application to serve", 2));
}
