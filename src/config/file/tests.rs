use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Config, Source};
use super::*;
use crate::system::address::BindAddress;
use crate::system::environment::Environment;

/// A temporary directory that holds `shop.toml`.
fn directory_of(toml: impl AsRef<[u8]>) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("shop.toml"), toml).unwrap();
    directory
}

fn source(directory: &TempDir, options: &[(Setting, &str)], variables: &[(&str, &str)]) -> Source {
    let path = directory.path().join("shop.toml");
    let config = [(Setting::Config, vec![path.into_os_string()])];
    let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
    let environment = variables.iter().copied().collect();
    Source::of_command_line(config.into_iter().chain(given), environment).unwrap()
}

fn config(toml: &str) -> Config {
    let toml = format!("app = \"shop:app\"\n{toml}");
    source(&directory_of(&toml), &[], &[]).read().unwrap_or_else(|error| panic!("{toml}: {error}"))
}

/// The message without the name of the directory, and the exit code.
fn refusal(toml: impl AsRef<[u8]>) -> (String, i32) {
    let directory = directory_of(toml);
    let error = source(&directory, &[], &[]).resolve().unwrap_err();
    let message = error.to_string().replace(directory.path().to_str().unwrap(), "");
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
fn every_option_except_config_can_stand_in_the_file() {
    // This is not a number, a time or a word; as a name, a path or a text it is in the effective configuration.
    for option in OPTIONS.iter().filter(|option| option.setting != Setting::Config) {
        let directory = directory_of(format!("\n{} = '~'", option.long));
        let place = format!("{}:2", directory.path().join("shop.toml").display());
        match source(&directory, &[], &[]).resolve() {
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
    let directory = directory_of(toml);
    let options = [(Setting::Workers, "5"), (Setting::Env, "A=5")];
    let variables = [("ARCTOS_WORKERS", "4"), ("ARCTOS_BACKLOG", "4"), ("WEB_CONCURRENCY", "9")];
    let config = source(&directory, &options, &variables).read().unwrap();
    assert_eq!((config.workers, config.backlog), (5, 4));
    assert_eq!(config.worker.timeouts.keep_alive, Duration::from_secs(3));
    assert_eq!(config.application.env, [("A".into(), "5".into())], "a list as a whole");
    let config = source(&directory, &[], &variables[2..]).read().unwrap();
    assert_eq!(config.workers, 3, "WEB_CONCURRENCY is not a variable of arctos");
}

#[test]
fn the_variable_names_the_file_relative_to_the_current_directory() {
    let directory = directory_of("app = 'shop:app'\nchdir = '/usr'\npid = 'x.pid'\nworkers = 7");
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let path = format!("{up}{}/shop.toml", directory.path().display());
    let environment = [("ARCTOS_CONFIG", path.as_str())].into_iter().collect();
    let config = Source::of_command_line([], environment).unwrap().read().unwrap();
    assert_eq!(config.workers, 7);
    assert_eq!(config.pid_file, Some("/usr/x.pid".into()), "paths in it start at --chdir");
}

#[test]
fn the_file_is_read_again_each_time() {
    let directory = directory_of("app = 'shop:app'\nworkers = 3");
    let config = source(&directory, &[], &[]).read().unwrap();
    std::fs::write(directory.path().join("shop.toml"), "app = 'shop:app'\nworkers = 4").unwrap();
    assert_eq!(config.source.read().unwrap().workers, 4);
    std::fs::write(directory.path().join("shop.toml"), "workers = 4").unwrap();
    assert_eq!(config.source.read().unwrap_err().to_string(), "no application to serve");
    std::fs::remove_file(directory.path().join("shop.toml")).unwrap();
    assert_eq!(config.source.read().unwrap_err().exit_code(), 1);
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
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
fn each_setting_of_gunicorn_leads_to_an_option() {
    for setting in ["accesslog", "keepalive", "pidfile", "preload_app", "proc_name", "wsgi_app"] {
        let (message, _) = refusal(format!("{setting} = 1"));
        let name = message.split('\'').nth(3).unwrap();
        assert!(OPTIONS.iter().any(|option| option.long == name), "{message}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_line_name_and_form() {
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
        ("name = \"a\\u0000\"", "name='a\\u{0}': expected text without NUL"),
        ("app = 'shop.py'", "app='shop.py': expected a module, not a file: write shop"),
        (
            "config = 'other.toml'",
            "config cannot be set in a configuration file; give --config on the command line",
        ),
        ("pid = 'a'\npid = 'b'", "the key 'pid' is given twice"),
        ("umask = 022", "unexpected leading zero, expected nothing"),
    ] {
        let (found, exit_code) = refusal(format!("\n\n{toml}\n"));
        let line = if message.contains("twice") { 4 } else { 3 };
        assert_eq!(found, format!("/shop.toml:{line}: {message}"));
        assert_eq!(exit_code, 2);
    }
    let (message, _) = refusal("keep-alive = 1\nkeep_alive = 2");
    assert_eq!(message, "/shop.toml:2: keep-alive is given twice");
}

#[test]
fn a_message_shows_control_characters_escaped() {
    for (toml, shown) in [
        ("\"\\u001b[31m\" = 1", "there is no option '\\u{1b}[31m'"),
        ("workers = \"\\n1\"", "workers='\\n1'"),
        ("bind = \"\\u0000\"", "bind='\\u{0}'"),
        ("[env]\n\"A\\u0007\" = true", "env.A\\u{7}"),
    ] {
        let (message, _) = refusal(toml);
        assert!(message.contains(shown), "{message:?}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn a_syntax_error_names_the_line_and_does_not_quote_it() {
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
fn a_python_file_is_refused_with_what_to_write_instead() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gunicorn.conf.py");
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
fn a_byte_order_mark_is_not_a_key() {
    assert_eq!(refusal("\u{feff}worker = 2").0, refusal("worker = 2").0);
}

#[test]
fn an_empty_array_is_the_same_as_none() {
    let config = config("bind = []");
    assert_eq!(config.binds, ["127.0.0.1:8000".parse().unwrap()]);
}

#[test]
fn a_file_that_cannot_be_read_exits_with_one_and_is_named() {
    let directory = directory_of("");
    let named = |path: &str| {
        let options = [(Setting::Config, vec![path.into()])];
        let source = Source::of_command_line(options, Environment::default());
        let error = source.unwrap().resolve().unwrap_err();
        (error.to_string(), error.exit_code())
    };
    let missing = "--config '/no/such': cannot read /no/such: No such file or directory";
    assert_eq!(named("/no/such"), (missing.to_owned(), 1));
    let path = directory.path().to_str().unwrap();
    assert_eq!(named(path), (format!("--config '{path}': {path} is not a regular file"), 1));
    assert_eq!(named(""), ("--config '': expected a path".to_owned(), 2));
}

#[test]
fn a_pipe_without_a_writer_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.toml");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = source(&directory, &[], &[]).resolve().unwrap_err();
    assert!(error.to_string().ends_with("is not a regular file"), "{error}");
}

#[test]
fn a_log_that_is_named_by_mistake_is_not_read_to_its_end() {
    let (message, exit_code) = refusal("#".repeat(MAX_BYTES + 1));
    assert_eq!(message, "/shop.toml: expected at most 1048576 bytes of TOML");
    assert_eq!(exit_code, 2);
}
