use std::ffi::OsString;
use std::time::Duration;

use nix::unistd::{Uid, User};

use super::origin::Printable;
use super::*;
use crate::config::options::Setting;

fn resolved(
    options: &[(Setting, &str)],
    variables: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let application = [(Setting::Application, vec!["shop:app".into()])];
    let given = options.iter().map(|(setting, value)| (*setting, vec![OsString::from(value)]));
    let environment = variables.iter().copied().collect();
    Source::of_command_line(application.into_iter().chain(given), environment)?.read()
}

fn application(text: &str) -> Result<AppSpec, ConfigError> {
    Ok(resolved(&[(Setting::Application, text)], &[])?.application)
}

#[test]
fn an_application_is_a_module_with_an_optional_attribute_or_call() {
    for (text, module, attribute, is_factory) in [
        ("shop", "shop", None, false),
        ("shop.wsgi:application", "shop.wsgi", Some("application"), false),
        ("shop:site.app", "shop", Some("site.app"), false),
        ("shop:create_app()", "shop", Some("create_app"), true),
        ("_s2:žluť", "_s2", Some("žluť"), false),
    ] {
        let spec = application(text).unwrap();
        assert_eq!(spec.module, module);
        assert_eq!((spec.attribute.as_deref(), spec.is_factory), (attribute, is_factory), "{text}");
    }
}

#[test]
fn a_text_that_names_no_application_is_refused_with_what_to_write() {
    for (text, message) in [
        ("shop.py", "expected a module, not a file: write shop"),
        ("src/shop.py:app", "expected a module, not a file: write --chdir src shop:app"),
        ("a\tb/shop.py:\u{1b}", r"expected a module, not a file: write --chdir a\tb shop:\u{1b}"),
        (
            "shop:create_app(1)",
            "expected a call without arguments, such as shop:create_app(); \
             write a function that passes them",
        ),
        ("shop:", "expected MODULE:ATTR, two dotted names, such as shop.wsgi:application"),
    ] {
        let error = application(text).unwrap_err();
        assert_eq!(error.to_string(), format!("MODULE:ATTR '{}': {message}", Printable(text)));
        assert_eq!(error.exit_code(), 2);
    }
    for text in [":app", "a b", "1a:x", "a:b:c", "a..b", "a:b)", "a:b(", "a:()", "a:1"] {
        assert!(application(text).is_err(), "{text}");
    }
}

#[test]
fn a_factory_needs_a_name() {
    let options = [(Setting::Application, "shop"), (Setting::Factory, "on")];
    let error = resolved(&options, &[]).unwrap_err();
    let reason = "--factory needs the name of a function, such as shop:create_app";
    assert_eq!(error.to_string(), format!("MODULE:ATTR 'shop': {reason}"));
}

#[test]
fn relative_paths_start_at_chdir() {
    let options = [
        (Setting::Chdir, "/usr"),
        (Setting::Pid, "arctos.pid"),
        (Setting::BodyTempDir, "lib"),
        (Setting::Bind, "unix:x.sock"),
        (Setting::AdminBind, "unix:admin.sock"),
        (Setting::AccessLogfile, "access.log"),
    ];
    let config = resolved(&options, &[]).unwrap();
    assert_eq!(config.pid_file, Some("/usr/arctos.pid".into()));
    assert_eq!(config.worker.body_temp_dir, PathBuf::from("/usr/lib"));
    assert_eq!(config.binds, [BindAddress::Unix("/usr/x.sock".into())]);
    assert_eq!(config.admin_binds, [BindAddress::Unix("/usr/admin.sock".into())]);
    assert_eq!(config.logging.access, AccessLog::File("/usr/access.log".into()));
}

#[test]
fn bodies_go_where_tmpdir_says() {
    let config = resolved(&[], &[("TMPDIR", "/usr")]).unwrap();
    assert_eq!(config.worker.body_temp_dir, PathBuf::from("/usr"));
    let error = resolved(&[], &[("TMPDIR", "/no/such")]).unwrap_err();
    assert!(error.to_string().starts_with("TMPDIR='/no/such': "), "{error}");
}

#[test]
fn a_file_is_not_a_directory() {
    let error = resolved(&[(Setting::BodyTempDir, "/etc/passwd")], &[]).unwrap_err();
    let reason = "cannot use the directory /etc/passwd: not a directory";
    assert_eq!(error.to_string(), format!("--body-temp-dir '/etc/passwd': {reason}"));
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn drain_delay_auto_is_5s_in_kubernetes_and_at_most_half_of_the_stop() {
    let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let delay = |options: &[_]| resolved(options, &kubernetes).unwrap().patience.drain_delay;
    assert_eq!(delay(&[]), Duration::from_secs(5));
    assert_eq!(delay(&[(Setting::GracefulTimeout, "4")]), Duration::from_secs(2));
    assert_eq!(delay(&[(Setting::DrainDelay, "0")]), Duration::ZERO);
    assert_eq!(resolved(&[], &[]).unwrap().patience.drain_delay, Duration::ZERO);
}

#[test]
fn nobody_waits_long_for_requests_under_development() {
    let patience = |options: &[_]| resolved(options, &[]).unwrap().patience;
    let (production, development) = (patience(&[]), patience(&[(Setting::Reload, "on")]));
    assert_eq!(production.quick, Duration::from_secs(2));
    assert_eq!(development.quick, Duration::from_millis(500));
    assert_eq!(development.graceful, Duration::from_secs(3));
    let longer = [(Setting::Reload, "on"), (Setting::GracefulTimeout, "9")];
    assert_eq!(patience(&longer).graceful, Duration::from_secs(9));
}

#[test]
fn the_current_user_is_found_by_name_and_by_number() {
    let me = User::from_uid(Uid::effective()).unwrap().unwrap();
    for text in [me.name.clone(), me.uid.to_string()] {
        let config = resolved(&[(Setting::User, &text)], &[]).unwrap();
        assert_eq!(config.privileges.user, Some(me.uid));
        assert_eq!(config.privileges.group, Some(me.gid), "the user's own group");
    }
}

#[test]
fn only_root_can_choose_another_user() {
    let chosen = resolved(&[(Setting::User, "12345")], &[]);
    if Uid::effective().is_root() {
        assert_eq!(chosen.unwrap().privileges.user, Some(Uid::from_raw(12345)));
    } else {
        let error = chosen.unwrap_err();
        assert!(matches!(error, ConfigError::NotRoot { .. }), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}

#[test]
fn one_worker_is_not_multiprocess() {
    let is_multiprocess =
        |count| resolved(&[(Setting::Workers, count)], &[]).unwrap().worker.multiprocess;
    assert!(!is_multiprocess("1"));
    assert!(is_multiprocess("2"));
}

#[test]
fn the_minimum_body_rate_is_measured_over_the_body_timeout() {
    let options = [(Setting::BodyMinRate, "1000"), (Setting::BodyTimeout, "500ms")];
    assert_eq!(resolved(&options, &[]).unwrap().worker.timeouts.body_rate_bytes, 500);
}

#[test]
fn admin_bind_and_bind_must_differ() {
    let expected = "expected an address that is not also in --bind";
    for (bind, admin_bind) in
        [("127.0.0.1:80", "80"), ("unix:/run/x", "unix:///run/x"), ("unix:x", "unix:x")]
    {
        let options = [(Setting::Bind, bind), (Setting::AdminBind, admin_bind)];
        let error = resolved(&options, &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("--admin-bind '{admin_bind}': {expected}"));
        assert_eq!(error.exit_code(), 2);
    }
    let error = resolved(&[(Setting::AdminBind, "8000")], &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("--admin-bind '8000': {expected}"), "the default");
    let free = [(Setting::Bind, "127.0.0.1:0"), (Setting::AdminBind, "127.0.0.1:0")];
    assert_eq!(resolved(&free, &[]).unwrap().admin_binds.len(), 1);
}
