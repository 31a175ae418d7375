use std::time::Duration;

use arctos_worker::settings::{HeaderMap, Settings};
use arctos_worker::shared::log::{Level, LogFormat};

use super::*;
use crate::config::{AccessLog, ListenMode, Readiness};
use crate::supervisor::recycling::{MemoryLimit, MemorySize, RecycleLimits};
use crate::system::address::BindAddress;

/// Parses words separated by spaces, with these environment variables.
fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Invocation, UsageError> {
    let words = std::iter::once("arctos").chain(line.split(' ').filter(|word| !word.is_empty()));
    parse(words.map(OsString::from), variables.iter().copied().collect())
}

fn config(line: &str) -> Config {
    config_with(line, &[])
}

fn config_with(line: &str, variables: &[(&str, &str)]) -> Config {
    match parsed(&format!("{line} shop:app"), variables) {
        Ok(Invocation::Serve(config)) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

/// The message and the exit code of a refused command line, to which an application is added.
fn refusal(line: &str) -> (String, i32) {
    refusal_with(line, &[])
}

fn refusal_with(line: &str, variables: &[(&str, &str)]) -> (String, i32) {
    let error = parsed(&format!("{line} shop:app"), variables).unwrap_err();
    (error.to_string(), error.exit_code())
}

fn printed(line: &str, variables: &[(&str, &str)]) -> String {
    match parsed(&format!("--print-config {line}"), variables) {
        Ok(Invocation::PrintConfig(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

/// The line of one option in an effective configuration, without its columns.
fn line_of(page: &str, flag: &str) -> String {
    let line = page.lines().find(|line| line.starts_with(&format!("{flag} "))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn without_options_the_defaults_are_those_of_settings() {
    let config = config("");
    let plain = Settings::default();
    assert_eq!(format!("{:?}", config.worker.limits), format!("{:?}", plain.limits));
    assert_eq!(format!("{:?}", config.worker.timeouts), format!("{:?}", plain.timeouts));
    assert_eq!(config.worker.header_map, plain.header_map);
    assert_eq!(config.worker.server_header, plain.server_header);
    assert_eq!(config.worker.root_path, plain.root_path);
    assert_eq!(config.worker.reload_check, plain.reload_check);
    assert_eq!((config.limits, config.preload), (RecycleLimits::default(), false));
    assert_eq!(config.backlog, 2048);
    assert_eq!(config.worker.call_limits.usual, Some(Duration::from_secs(30)));
    assert_eq!(config.patience.graceful, Duration::from_secs(25));
    assert_eq!(config.patience.boot, Duration::from_secs(60));
    assert_eq!(config.patience.drain_delay, Duration::ZERO);
    assert_eq!(config.logging.level, Level::Info);
    assert_eq!(config.logging.access, AccessLog::Off);
    assert_eq!(config.unix_socket_mode.bits(), 0o660);
    assert_eq!(config.binds, ["127.0.0.1:8000".parse().unwrap()]);
    assert!(config.workers >= 2);
}

#[test]
fn every_option_is_applied() {
    let config = config(
        "-b :80 --bind unix:@x --reuse-port --listen-mode per-slot --backlog 10 -w 3 -t 0.5 \
         --timeout-for /reports=5m --timeout-for /api=1 --timeout-grace 3 --graceful-timeout 1m --boot-timeout 5s --drain-delay 2 --keep-alive 3 \
         --limit-request-line 1000 --limit-request-fields 7 --limit-request-field_size 2K \
         --limit-request-head 32K --limit-request-body 1M --body-memory 0 --body-memory-total 9K --body-temp-dir / \
         --header-timeout 4 --body-timeout 5 --body-min-rate 100 --write-timeout 6 \
         --max-queue-time 7 --ready-max-backlog 11 --ready-min-workers 2 \
         --max-connections 8 --max-requests-per-connection 9 --header-map refuse \
         --server-header off --abandon-on-half-close --root-path /shop --log-level DEBUG --log-format json \
         --access-logfile - -p /arctos.pid -m 027 -n shop -e A=1 --env B=2=3 \
         --max-requests 1000 --max-requests-jitter 50 --max-rss 512M --max-lifetime 24h \
         --reload-check /health?deep=1 --preload \
         --unix-socket-mode 0666 --chdir / --pythonpath lib,/opt/lib --pythonpath more",
    );
    let tcp = BindAddress::Tcp { host: String::new(), port: 80 };
    assert_eq!(config.binds, [tcp, BindAddress::Abstract("x".to_owned())]);
    assert!(config.reuse_port);
    assert_eq!((config.listen_mode, config.backlog), (ListenMode::PerSlot, 10));
    assert_eq!(config.workers, 3);
    assert_eq!(config.readiness, Readiness { max_backlog: Some(11), min_workers: 2 });
    let patience = config.patience;
    assert_eq!(config.worker.call_limits.usual, Some(Duration::from_millis(500)));
    assert_eq!(config.worker.call_limits.routes.len(), 2);
    assert_eq!(patience.reaction, Duration::from_secs(3));
    assert_eq!(patience.graceful, Duration::from_secs(60));
    assert_eq!(patience.boot, Duration::from_secs(5));
    assert_eq!(patience.drain_delay, Duration::from_secs(2));
    let limits = config.worker.limits;
    assert_eq!((limits.request_line_bytes, limits.header_count), (1000, 7));
    assert_eq!((limits.header_field_bytes, limits.head_bytes), (2048, 32_768));
    assert_eq!((limits.body_bytes, limits.body_memory_bytes), (1 << 20, 0));
    assert_eq!(limits.body_memory_total_bytes, 9 << 10);
    assert_eq!((limits.connections, limits.requests_per_connection), (8, 9));
    let timeouts = config.worker.timeouts;
    assert_eq!(timeouts.keep_alive, Duration::from_secs(3));
    assert_eq!(timeouts.head, Duration::from_secs(4));
    assert_eq!((timeouts.body, timeouts.body_rate_bytes), (Duration::from_secs(5), 500));
    assert_eq!(timeouts.write, Duration::from_secs(6));
    assert_eq!(timeouts.queue, Some(Duration::from_secs(7)));
    assert_eq!(config.worker.header_map, HeaderMap::Refuse);
    assert!(!config.worker.server_header && config.worker.multiprocess);
    assert!(config.worker.abandon_on_half_close);
    assert_eq!(config.worker.root_path, "/shop");
    assert_eq!((config.logging.level, config.logging.format), (Level::Debug, LogFormat::Json));
    assert_eq!(config.logging.access, AccessLog::Stdout);
    assert_eq!(config.pid_file, Some("/arctos.pid".into()));
    assert_eq!(config.privileges.umask.map(|mask| mask.bits()), Some(0o27));
    assert_eq!(config.unix_socket_mode.bits(), 0o666);
    assert_eq!(config.name.as_deref(), Some("shop"));
    let limits = RecycleLimits {
        requests: Some(1000),
        requests_jitter: 50,
        memory: Some(MemoryLimit { size: MemorySize::Fixed(512 << 20), is_shared: true }),
        lifetime: Some(Duration::from_secs(86_400)),
    };
    assert_eq!((config.limits, config.preload), (limits, true));
    assert_eq!(config.worker.reload_check.as_deref(), Some("/health?deep=1"));
    let application = config.application;
    assert_eq!(application.env, [("A".into(), "1".into()), ("B".into(), "2=3".into())]);
    assert_eq!(application.chdir, Some("/".into()));
    let directories = ["/lib", "/opt/lib", "/more"].map(std::path::PathBuf::from);
    assert_eq!(application.pythonpath, directories);
}

#[test]
fn every_option_is_also_read_from_its_variable() {
    // This is not a number, a time or a word; as a name, a path or a text it is in the effective configuration.
    let strange = "\u{1}";
    for option in OPTIONS {
        let variable = option.variable();
        match parsed("--print-config", &[(&variable, strange)]) {
            Ok(Invocation::PrintConfig(page)) => {
                assert!(page.contains(&format!("  environment {variable}\n")), "{page}");
            }
            Ok(other) => panic!("{variable}: {other:?}"),
            Err(error) => {
                let message = error.to_string();
                let shown = strange.escape_debug();
                assert!(message.starts_with(&format!("{variable}='{shown}': ")), "{message}");
            }
        }
    }
}

#[test]
fn the_command_line_overrides_the_environment() {
    let variables = [("ARCTOS_WORKERS", "5"), ("WEB_CONCURRENCY", "7")];
    assert_eq!(config_with("-w 3", &variables).workers, 3);
    assert_eq!(config_with("", &variables).workers, 5);
    assert_eq!(config_with("", &variables[1..]).workers, 7);
}

#[test]
fn the_last_of_two_options_counts() {
    assert_eq!(config("--workers 3 -w 4").workers, 4);
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(config_with("", &[("ARCTOS_BACKLOG", "")]).backlog, 2048);
}

#[test]
fn a_switch_on_the_command_line_overrides_its_variable() {
    assert!(config_with("", &[("ARCTOS_REUSE_PORT", "1")]).reuse_port);
    assert!(!config_with("--reuse-port=off", &[("ARCTOS_REUSE_PORT", "1")]).reuse_port);
}

#[test]
fn a_switch_does_not_take_the_application_for_its_value() {
    assert!(config("--reuse-port").reuse_port);
}

#[test]
fn binds_in_a_variable_are_separated_by_commas() {
    let config = config_with("", &[("ARCTOS_BIND", "[::1]:80, unix:@x")]);
    assert_eq!(config.binds, ["[::1]:80".parse().unwrap(), "unix:@x".parse().unwrap()]);
}

#[test]
fn there_is_no_admin_socket_unless_an_address_is_given() {
    assert!(config("").admin_binds.is_empty());
    let both = ["9000".parse().unwrap(), "unix:/run/x".parse().unwrap()];
    assert_eq!(config("--admin-bind 9000 --admin-bind unix:/run/x").admin_binds, both);
    let variables = [("ARCTOS_ADMIN_BIND", "9000, unix:/run/x")];
    assert_eq!(config_with("", &variables).admin_binds, both);
    let shown = "--admin-bind 127.0.0.1:9000, unix:/run/x environment ARCTOS_ADMIN_BIND";
    assert_eq!(line_of(&printed("", &variables), "--admin-bind"), shown);
}

#[test]
fn arctos_env_has_one_variable_per_line() {
    let config = config_with("", &[("ARCTOS_ENV", "A=1,2\nB=3")]);
    assert_eq!(config.application.env, [("A".into(), "1,2".into()), ("B".into(), "3".into())]);
}

#[test]
fn port_is_served_on_all_ipv4_addresses() {
    let port = [("PORT", "5000")];
    assert_eq!(config_with("", &port).binds, ["0.0.0.0:5000".parse().unwrap()]);
    assert_eq!(config_with("-b :80", &port).binds, [":80".parse().unwrap()]);
}

#[test]
fn sockets_from_systemd_take_precedence_over_port() {
    let pid = std::process::id().to_string();
    let variables = [("LISTEN_PID", pid.as_str()), ("LISTEN_FDS", "2"), ("PORT", "5000")];
    let binds = [BindAddress::Fd(3), BindAddress::Fd(4)];
    assert_eq!(config_with("", &variables).binds, binds);
    assert_eq!(config_with("-b :80", &variables).binds, [":80".parse().unwrap()]);
}

#[test]
fn wrong_values_are_refused_with_option_value_and_form() {
    for (line, message) in [
        ("--workers many", "--workers 'many': expected a whole number from 1 to 512"),
        ("--workers=-1", "--workers '-1': expected a whole number from 1 to 512"),
        ("-w -1", "--workers '-1': expected a whole number from 1 to 512"),
        (
            "-t soon",
            "--timeout 'soon': expected 0, or a time from 1ms to 24h, in seconds or with a unit: \
             30, 0.5, 500ms, 30s, 2m",
        ),
        (
            "--limit-request-line 1T",
            "--limit-request-line '1T': expected a size from 64 to 1M in bytes, or with a unit: \
             512, 64K, 1M, 1G",
        ),
        (
            "--log-level loud",
            "--log-level 'loud': expected debug, info, warning, error or critical",
        ),
        ("--header-map dangerous", "--header-map 'dangerous': expected drop or refuse"),
        (
            "-m 22",
            "--umask '22': expected an octal number with a leading 0 from 0 to 0777, such as 022",
        ),
        (
            "--max-rss 512",
            "--max-rss '512': expected auto, 0, or a size from 1M to 1048576G in bytes, or with a unit: \
             512, 64K, 1M, 1G",
        ),
        (
            "--max-lifetime 0.5",
            "--max-lifetime '0.5': expected 0, or a time from 1s to 720h, in seconds or with a \
             unit: 30, 0.5, 500ms, 30s, 2m",
        ),
        (
            "--reload-check http://shop/health",
            "--reload-check 'http://shop/health': expected a path in ASCII that starts with a \
             slash, such as /health or /health?deep=1",
        ),
        ("-e PATH", "--env 'PATH': expected KEY=VALUE"),
        (
            "--admin-bind unix:@admin",
            "--admin-bind 'unix:@admin': expected HOST:PORT, [IPv6]:PORT, :PORT, PORT or unix:/path, \
             such as unix:/run/arctos-admin.sock",
        ),
        (
            "--admin-bind fd://3",
            "--admin-bind 'fd://3': expected HOST:PORT, [IPv6]:PORT, :PORT, PORT or unix:/path, \
             such as unix:/run/arctos-admin.sock",
        ),
        (
            "--admin-bind ::1",
            "--admin-bind '::1': expected brackets around an IPv6 address, such as [::1]:8000",
        ),
        ("-b ::1", "--bind '::1': expected brackets around an IPv6 address, such as [::1]:8000"),
        (
            "--drain-delay 25",
            "--drain-delay '25': expected less than --graceful-timeout (25s), which includes it",
        ),
        (
            "--root-path shop/",
            "--root-path 'shop/': expected a path such as /shop, which starts with a slash and does \
             not end in one; leave the option out for the root",
        ),
    ] {
        assert_eq!(refusal(line), (message.to_owned(), 2), "{line}");
    }
}

#[test]
fn a_wrong_value_of_a_variable_names_the_variable() {
    let expected = "a whole number from 1 to 512";
    for variable in ["ARCTOS_WORKERS", "WEB_CONCURRENCY"] {
        let message = format!("{variable}='many': expected {expected}");
        assert_eq!(refusal_with("", &[(variable, "many")]), (message, 2));
    }
    let message = "PORT='tcp://10.0.0.1:80': expected a whole number from 0 to 65535".to_owned();
    assert_eq!(refusal_with("", &[("PORT", "tcp://10.0.0.1:80")]), (message, 2));
}

#[test]
fn a_value_that_this_machine_cannot_use_exits_with_one() {
    let missing = "cannot use the directory /no/such: No such file or directory";
    for (line, message) in [
        ("--chdir /no/such", format!("--chdir '/no/such': {missing}")),
        ("--body-temp-dir /no/such", format!("--body-temp-dir '/no/such': {missing}")),
        ("--pid /no/such/x", format!("--pid '/no/such/x': {missing}")),
        (
            "-u nobody-of-this-name",
            "--user 'nobody-of-this-name': there is no such user on this machine".to_owned(),
        ),
        (
            "-g nobody-of-this-name",
            "--group 'nobody-of-this-name': there is no such group on this machine".to_owned(),
        ),
    ] {
        assert_eq!(refusal(line), (message, 1), "{line}");
    }
}

#[test]
fn jitter_of_requests_is_a_tenth_unless_it_is_given() {
    for (line, limits, shown) in [
        ("--max-requests 1000", (Some(1000), 100), "100 because of --max-requests"),
        ("--max-requests 1000 --max-requests-jitter 0", (Some(1000), 0), "0 command line"),
        ("", (None, 0), "0 default"),
    ] {
        let limits_of = |config: Config| (config.limits.requests, config.limits.requests_jitter);
        assert_eq!(limits_of(config(line)), limits, "{line}");
        let page = printed(line, &[]);
        let flag = "--max-requests-jitter";
        assert_eq!(line_of(&page, flag), format!("{flag} {shown}"), "{line}");
    }
}

#[test]
fn a_missing_application_is_answered_with_an_example() {
    let error = parsed("-w 2", &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("arctos shop.wsgi:application"));
}

#[test]
fn the_application_can_come_from_its_variable() {
    let variables = [("ARCTOS_APP", "shop:create()")];
    let Ok(Invocation::Serve(config)) = parsed("", &variables) else { panic!() };
    assert_eq!(config.application.module, "shop");
    assert!(config.application.is_factory);
}

#[test]
fn an_unknown_option_is_answered_with_a_similar_one() {
    let (message, exit_code) = refusal("--worker 2");
    assert_eq!(exit_code, 2);
    assert!(message.starts_with("unexpected argument '--worker' found"), "{message}");
    assert!(message.contains("'--workers'"), "{message}");
}

#[test]
fn options_of_gunicorn_are_answered_with_advice() {
    for option in [
        "-k",
        "--worker-class=gevent",
        "--threads",
        "--daemon",
        "-D",
        "--enable-backlog-metric",
        "--ciphers",
        "-R",
        "--log-file",
    ] {
        let error = parsed(&format!("{option} x:y"), &[]).unwrap_err();
        assert!(matches!(error, UsageError::Unsupported { .. }), "{option}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
    let (message, _) = refusal("--threads 4");
    assert_eq!(message, "--threads: a worker runs one request at a time; raise --workers instead");
}

#[test]
fn the_only_worker_class_may_be_named() {
    for line in ["-k sync", "-ksync", "--worker-class sync", "--worker-class=sync -w 2"] {
        config(line);
    }
    let (message, exit_code) = refusal("-k gthread");
    assert!(
        message.starts_with("--worker-class 'gthread': there is one worker class"),
        "{message}"
    );
    assert_eq!(exit_code, 2);
}

#[test]
fn an_unknown_option_is_never_suggested_as_an_application() {
    for line in ["--http2", "ctl status --http2", "top --http2"] {
        let message = parsed(line, &[("ARCTOS_ADMIN_BIND", "1")]).unwrap_err().to_string();
        assert!(message.starts_with("unexpected argument '--http2' found\n\nUsage"), "{message}");
    }
}

#[test]
fn metrics_options_of_other_servers_are_answered_with_ours() {
    for (option, ours) in [
        ("--stats", "--admin-bind"),
        ("--stats-http", "--admin-bind"),
        ("--stats-push", "--statsd-host"),
        ("--metrics", "--admin-bind"),
        ("--metrics-port", "--admin-bind"),
        ("--carbon", "--statsd-host"),
        ("--control-socket", "arctos ctl"),
    ] {
        let (message, exit_code) = refusal(option);
        assert!(message.starts_with(&format!("{option}: ")), "{message}");
        assert!(message.contains(ours), "{message}");
        assert_eq!(exit_code, 2);
    }
}

#[test]
fn metrics_options_of_gunicorn_have_the_same_meaning() {
    let line = "--statsd-host localhost:9125 --statsd-prefix shop. --dogstatsd-tags a:1,b:2";
    let statsd = config(line).statsd.unwrap();
    assert_eq!(statsd.target.to_string(), "localhost:9125");
    assert_eq!(statsd.prefix, "shop");
    assert_eq!(statsd.tags, ["a:1", "b:2"]);
}

#[test]
fn a_prefix_can_be_emptied_on_the_command_line() {
    assert_eq!(line_of(&printed("", &[]), "--statsd-prefix"), "--statsd-prefix arctos default");
    for words in [["--statsd-prefix="].as_slice(), &["--statsd-prefix", ""]] {
        let words = ["arctos", "--print-config"].iter().chain(words).map(OsString::from);
        let Ok(Invocation::PrintConfig(page)) = parse(words, Environment::default()) else {
            panic!()
        };
        assert_eq!(line_of(&page, "--statsd-prefix"), "--statsd-prefix - command line");
    }
}

#[test]
fn an_option_that_exists_has_no_advice() {
    for option in OPTIONS {
        assert_eq!(peers::hint(&option.flag()), None);
        let letter = option.short.map(|letter| format!("-{letter}"));
        assert_eq!(letter.as_deref().and_then(peers::hint), None);
    }
}

#[test]
fn help_and_version_are_shown_with_zero() {
    for (line, part) in [
        ("--help", "--graceful-timeout <TIME>"),
        ("-h", "Usage: arctos [OPTIONS] [MODULE:ATTR]"),
        ("--version", concat!("arctos ", env!("CARGO_PKG_VERSION"))),
        ("-v", "arctos "),
    ] {
        let Ok(Invocation::Show { text, exit_code: 0 }) = parsed(line, &[]) else {
            panic!("{line}")
        };
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn check_needs_an_application_under_both_of_its_names() {
    assert!(matches!(parsed("--check a:b", &[]), Ok(Invocation::Check(_))));
    assert!(matches!(parsed("--check-config a:b", &[]), Ok(Invocation::Check(_))));
    assert!(matches!(parsed("--check", &[]), Err(UsageError::NoApplication)));
}

#[test]
fn the_effective_configuration_names_each_origin() {
    let page = printed("-w 3 -t 500ms", &[("ARCTOS_BACKLOG", "9"), ("PORT", "80")]);
    let line = |flag: &str| line_of(&page, flag);
    assert_eq!(line("--workers"), "--workers 3 command line");
    assert_eq!(line("--timeout"), "--timeout 500ms command line");
    assert_eq!(line("--backlog"), "--backlog 9 environment ARCTOS_BACKLOG");
    assert_eq!(
        line("--bind"),
        "--bind 0.0.0.0:80 default: PORT is set, and its platform connects from outside"
    );
    assert_eq!(line("--keep-alive"), "--keep-alive 75s default");
    assert_eq!(line("MODULE:ATTR"), "MODULE:ATTR - default");
}

#[test]
fn a_default_that_fits_the_place_gives_way_to_every_given_value() {
    let shown = |options: &str, variables: &[(&str, &str)]| {
        let page = printed(options, variables);
        line_of(&page, "--keep-alive")
    };
    let (dyno, cloud_run) = (("DYNO", "web.1"), ("K_SERVICE", "shop"));
    assert_eq!(
        shown("", &[dyno]),
        "--keep-alive 95s default: DYNO is set, and Heroku's router keeps idle connections for 90s"
    );
    assert_eq!(
        shown("", &[cloud_run]),
        "--keep-alive 620s default: K_SERVICE is set, and Google's front ends keep idle connections for 600s"
    );
    assert_eq!(shown("--keep-alive 5", &[dyno]), "--keep-alive 5s command line");
    let variable = ("ARCTOS_KEEP_ALIVE", "5");
    assert_eq!(shown("", &[dyno, variable]), "--keep-alive 5s environment ARCTOS_KEEP_ALIVE");
}

#[test]
fn a_configuration_knows_the_reasons_of_its_defaults() {
    let config =
        config_with("", &[("PORT", "80"), ("K_SERVICE", "shop"), ("WEB_CONCURRENCY", "3")]);
    let chosen: Vec<_> =
        config.chosen_defaults().map(|(chosen, _)| OptionSpec::of(chosen.setting).long).collect();
    assert_eq!(chosen, ["bind", "keep-alive"]);
    for option in OPTIONS {
        assert_eq!(config.effective(option.setting).setting, option.setting);
    }
    assert_eq!(config.effective(Setting::Workers).value, "3");
}

#[test]
fn the_effective_configuration_names_the_file_and_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.toml");
    std::fs::write(&path, "app = 'shop:app'\nworkers = 3\nenv = {TOKEN = 'hunter2'}\n").unwrap();
    let path = path.to_str().unwrap();
    for line in [format!("-c {path}"), format!("--config {path}")] {
        let page = printed(&line, &[("ARCTOS_BACKLOG", "9")]);
        let line = |flag: &str| line_of(&page, flag);
        assert_eq!(line("--config"), format!("--config {path} command line"));
        assert_eq!(line("MODULE:ATTR"), format!("MODULE:ATTR shop:app file {path}:1"));
        assert_eq!(line("--workers"), format!("--workers 3 file {path}:2"));
        assert_eq!(line("--env"), format!("--env TOKEN=... file {path}:3"));
        assert_eq!(line("--backlog"), "--backlog 9 environment ARCTOS_BACKLOG");
    }
    let Ok(Invocation::Serve(config)) = parsed(&format!("-c {path}"), &[]) else { panic!() };
    assert_eq!(config.workers, 3);
}

#[test]
fn the_effective_configuration_lists_each_option_once_in_table_order() {
    let page = printed("", &[]);
    let flags: Vec<_> = page.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let table: Vec<_> = OPTIONS.iter().map(OptionSpec::flag).collect();
    assert_eq!(flags, table);
}

#[test]
fn an_access_log_on_standard_output_is_shown_in_words() {
    let page = printed("--access-logfile -", &[]);
    assert!(
        page.contains("--access-logfile") && page.contains("  - (standard output)  "),
        "{page}"
    );
}

#[test]
fn the_effective_configuration_keeps_secrets_to_itself() {
    let page = printed("-e TOKEN=hunter2", &[]);
    assert!(page.contains("TOKEN=...") && !page.contains("hunter2"), "{page}");
}

#[test]
fn a_misspelled_variable_is_listed_and_one_of_kubernetes_is_not() {
    let variables = [("ARCTOS_WORKER", "3"), ("ARCTOS_PORT", "x"), ("ARCTOS_SERVICE_HOST", "x")];
    let page = printed("", &variables);
    let notes: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        notes,
        ["# ARCTOS_WORKER is set, but no option has this variable; did you mean ARCTOS_WORKERS?"]
    );
}
