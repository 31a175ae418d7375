use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Config, Source};
use super::*;
use crate::system::address::BindAddress;
use crate::system::environment::Environment;

/// A folder with `shop.toml`.
fn folder_of(toml: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.toml"), toml).unwrap();
    folder
}

fn source(folder: &TempDir, options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Source {
    let path = folder.path().join("shop.toml");
    let config = [(Setting::Config, vec![path.into_os_string()])];
    let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
    let environment = variables.iter().copied().collect();
    Source::of_command_line(config.into_iter().chain(given), environment).unwrap()
}

fn config(toml: &str) -> Config {
    let toml = format!("app = \"shop:app\"\n{toml}");
    source(&folder_of(&toml), &[], &[]).read().unwrap_or_else(|error| panic!("{toml}: {error}"))
}

/// Without the folder's name.
fn refusal(toml: impl AsRef<[u8]>) -> (String, i32) {
    let folder = folder_of(toml);
    let error = source(&folder, &[], &[]).resolve().unwrap_err();
    let message = error.to_string().replace(folder.path().to_str().unwrap(), "");
    (message, error.exit_code())
}

#[test]
fn options_stand_under_their_long_names_with_dashes_or_underscores() {
    let config = config(
        r#"
        workers = 3
        graceful_timeout = 20.5     # a float, in seconds
        drain-delay = "500ms"
        limit_request_field_size = "2K"
        reuse-port = true
        server-header = "off"
        statsd_worker_tag = false
        umask = 0o027
        bind = ["127.0.0.1:8000", "unix:@x"]
        pythonpath = "/a,/b"
        "#,
    );
    assert_eq!(config.application.module, "shop");
    assert_eq!(config.workers, 3);
    assert_eq!(config.patience.graceful, Duration::from_millis(20_500));
    assert_eq!(config.patience.drain_delay, Duration::from_millis(500));
    assert_eq!(config.worker.limits.header_field_bytes, 2048);
    assert!(config.reuse_port && !config.worker.server_header);
    assert_eq!(config.privileges.umask.map(|mask| mask.bits()), Some(0o27));
    let tcp = BindAddress::Tcp { host: "127.0.0.1".to_owned(), port: 8000 };
    assert_eq!(config.binds, [tcp, BindAddress::Abstract("x".to_owned())]);
    assert_eq!(config.application.pythonpath, [PathBuf::from("/a"), PathBuf::from("/b")]);
}

#[test]
fn every_option_can_stand_in_the_file_but_the_file_itself() {
    // No number, time or word is this; names, paths and texts are told of as effective.
    for option in OPTIONS.iter().filter(|option| option.setting != Setting::Config) {
        let folder = folder_of(format!("\n{} = '~'", option.long));
        let place = format!("{}:2", folder.path().join("shop.toml").display());
        match source(&folder, &[], &[]).resolve() {
            Ok(resolved) => {
                let page = resolved.print();
                assert!(page.contains(&format!("  file {place}\n")), "{}: {page}", option.long);
            }
            Err(error) => {
                let start = format!("{place}: {}='~': ", option.long);
                assert!(error.to_string().starts_with(&start), "{error}");
            }
        }
    }
}

#[test]
fn variables_of_the_application_are_a_table_or_an_array() {
    let pairs = [("A", "1"), ("B", "x=y")].map(|(name, value)| (name.into(), value.into()));
    for toml in ["env = ['A=1', 'B=x=y']", "env = {A = 1, B = 'x=y'}", "[env]\nA = '1'\nB = 'x=y'"]
    {
        assert_eq!(config(toml).application.env, pairs, "{toml}");
    }
    assert_eq!(config("env = 'A=1'").application.env, pairs[..1]);
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let toml = "app = 'shop:app'\nworkers = 3\nbacklog = 3\nkeep-alive = 3\nenv = ['A=3', 'B=3']";
    let folder = folder_of(toml);
    let options = [(Setting::Workers, "5"), (Setting::Env, "A=5")];
    let variables = [("ARCTOS_WORKERS", "4"), ("ARCTOS_BACKLOG", "4"), ("WEB_CONCURRENCY", "9")];
    let config = source(&folder, &options, &variables).read().unwrap();
    assert_eq!((config.workers, config.backlog), (5, 4));
    assert_eq!(config.worker.timeouts.keep_alive, Duration::from_secs(3));
    assert_eq!(config.application.env, [("A".into(), "5".into())], "a list as a whole");
    let config = source(&folder, &[], &variables[2..]).read().unwrap();
    assert_eq!(config.workers, 3, "no variable of ours");
}

#[test]
fn the_file_can_be_named_by_its_variable_and_starts_in_the_current_folder() {
    let folder = folder_of("app = 'shop:app'\nchdir = '/usr'\npid = 'x.pid'\nworkers = 7");
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let path = format!("{up}{}/shop.toml", folder.path().display());
    let environment = [("ARCTOS_CONFIG", path.as_str())].into_iter().collect();
    let config = Source::of_command_line([], environment).unwrap().read().unwrap();
    assert_eq!(config.workers, 7);
    assert_eq!(config.pid_file, Some("/usr/x.pid".into()), "paths in it start at --chdir");
}

#[test]
fn a_file_is_read_anew_each_time() {
    let folder = folder_of("app = 'shop:app'\nworkers = 3");
    let config = source(&folder, &[], &[]).read().unwrap();
    std::fs::write(folder.path().join("shop.toml"), "app = 'shop:app'\nworkers = 4").unwrap();
    assert_eq!(config.source.read().unwrap().workers, 4);
    std::fs::write(folder.path().join("shop.toml"), "workers = 4").unwrap();
    assert_eq!(config.source.read().unwrap_err().to_string(), "no application to serve");
    std::fs::remove_file(folder.path().join("shop.toml")).unwrap();
    assert_eq!(config.source.read().unwrap_err().exit_code(), 1);
}

#[test]
fn an_unknown_key_is_told_with_what_may_have_been_meant() {
    for (toml, advice) in [
        ("worker = 2", "option 'worker'; did you mean 'workers'?"),
        ("max_request = 2", "option 'max_request'; did you mean 'max-requests'?"),
        ("loglevel = 'info'", "option 'loglevel'; did you mean 'log-level'?"),
        ("raw_env = []", "option 'raw_env'; did you mean 'env'?"),
        (
            "threads = 4",
            "option 'threads': a worker runs one request at a time; raise --workers instead",
        ),
        ("zzzz = 1", "option 'zzzz'"),
        ("[shop]\nworkers = 2", "option 'shop'"),
        ("server.header = true", "option 'server'"),
    ] {
        let (message, exit_code) = refusal(format!("\n{toml}"));
        let start = format!("/shop.toml:2: there is no {advice}");
        assert!(message.starts_with(&start), "{message}");
        assert_eq!(exit_code, 2);
    }
}

#[test]
fn each_name_of_gunicorns_leads_to_an_option() {
    for setting in ["accesslog", "keepalive", "pidfile", "preload_app", "proc_name", "wsgi_app"] {
        let (message, _) = refusal(format!("{setting} = 1"));
        let name = message.split('\'').nth(3).unwrap();
        assert!(OPTIONS.iter().any(|option| option.long == name), "{message}");
    }
}

#[test]
fn a_wrong_value_is_told_with_line_name_value_and_form() {
    for (toml, message) in [
        ("workers = 'many'", "workers='many': expected a whole number from 1 to 512"),
        ("workers = 2.5", "workers='2.5': expected a whole number from 1 to 512"),
        ("workers = -1", "workers='-1': expected a whole number from 1 to 512"),
        ("workers = true", "workers: expected N as a string or a number, not true"),
        ("workers = [2]", "workers: expected N as a string or a number, not an array"),
        (
            "access-logfile = false",
            "access-logfile: expected FILE as a string or a number, not false",
        ),
        (
            "reuse-port = []",
            "reuse-port: expected on|off as a string or a number, or true or false, not an array",
        ),
        (
            "bind = [['8000']]",
            "bind: expected ADDRESS as a string or a number, or an array of these, not an array",
        ),
        (
            "bind = {a = 1}",
            "bind: expected ADDRESS as a string or a number, or an array of these, not a table",
        ),
        ("name = 2026-01-01", "name: expected NAME as a string or a number, not 2026-01-01"),
        (
            "umask = 22",
            "umask='22': expected an octal number with a leading 0 from 0 to 0777, such as 022",
        ),
        (
            "env = [true]",
            "env: expected KEY=VALUE as a string or a number, an array of these, or a table, not true",
        ),
        ("env = ['TOKEN']", "env='TOKEN': expected KEY=VALUE"),
        ("env = {DEBUG = true}", "env.DEBUG: expected a string or a number, not true"),
        ("env = {'' = 'x'}", "env: expected names that are not empty and without =, not ''"),
        ("name = \"a\\u0000\"", "name='a\u{0}': expected a text without NUL"),
        ("app = 'shop.py'", "app='shop.py': expected a module, not a file: write shop"),
        (
            "config = 'other.toml'",
            "config cannot stand in a configuration file; give it on the command line",
        ),
        ("pid = 'a'\npid = 'b'", "the key 'pid' is given a second time"),
        ("umask = 022", "unexpected leading zero, expected nothing"),
    ] {
        let (found, exit_code) = refusal(format!("\n\n{toml}\n"));
        let line = if message.contains("second time") { 4 } else { 3 };
        assert_eq!(found, format!("/shop.toml:{line}: {message}"));
        assert_eq!(exit_code, 2);
    }
    let (message, _) = refusal("keep-alive = 1\nkeep_alive = 2");
    assert_eq!(message, "/shop.toml:2: keep-alive is given a second time");
}

#[test]
fn what_is_no_toml_is_told_with_its_line_and_without_what_stands_there() {
    for toml in ["workers = 2\nenv = {TOKEN = 'hunter2", "workers = 2\nTOKEN hunter2"] {
        let (message, exit_code) = refusal(toml);
        assert!(message.starts_with("/shop.toml:2: "), "{message}");
        assert!(!message.contains("hunter2") && !message.contains('\n'), "{message}");
        assert_eq!(exit_code, 2);
    }
    let (message, exit_code) = refusal(b"workers = 2\nname = '\xff'");
    assert_eq!((message.as_str(), exit_code), ("/shop.toml:2: expected TOML in UTF-8", 2));
}

#[test]
fn a_python_file_is_told_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gunicorn.conf.py");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let options = [(Setting::Config, vec![path.clone().into_os_string()])];
        let source = Source::of_command_line(options, Environment::default());
        source.unwrap().resolve()
    };
    for text in
        ["import multiprocessing\n", "workers = 4\ndef post_fork(server, worker):\n    pass\n"]
    {
        let error = read(text).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(path.to_str().unwrap()), "{message}");
        assert!(message.contains("A configuration file is TOML"), "{message}");
        assert_eq!(error.exit_code(), 2);
    }
    read("workers = 4\nbind = '127.0.0.1:0'\nworker_class = 'sync'\n").unwrap();
}

#[test]
fn a_byte_order_mark_is_no_key() {
    assert_eq!(refusal("\u{feff}worker = 2").0, refusal("worker = 2").0);
}

#[test]
fn an_empty_array_is_as_if_it_was_not_there() {
    let config = config("bind = []");
    assert_eq!(config.binds, ["127.0.0.1:8000".parse().unwrap()]);
}

#[test]
fn a_file_that_cannot_be_read_exits_with_one_and_is_named() {
    let folder = folder_of("");
    let named = |path: &str| {
        let options = [(Setting::Config, vec![path.into()])];
        let source = Source::of_command_line(options, Environment::default());
        let error = source.unwrap().resolve().unwrap_err();
        (error.to_string(), error.exit_code())
    };
    let missing = "--config '/no/such': /no/such cannot be read: No such file or directory";
    assert_eq!(named("/no/such"), (missing.to_owned(), 1));
    let path = folder.path().to_str().unwrap();
    assert_eq!(named(path), (format!("--config '{path}': {path} is no regular file"), 1));
    assert_eq!(named(""), ("--config '': expected a path".to_owned(), 2));
}

#[test]
fn a_pipe_that_nobody_writes_to_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.toml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = source(&folder, &[], &[]).resolve().unwrap_err();
    assert!(error.to_string().ends_with("is no regular file"), "{error}");
}

#[test]
fn a_log_that_is_named_by_mistake_is_not_read_to_its_end() {
    let (message, exit_code) = refusal("#".repeat(MOST_BYTES + 1));
    assert_eq!(message, "/shop.toml: expected at most 1048576 bytes of TOML");
    assert_eq!(exit_code, 2);
}
