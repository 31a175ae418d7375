//! The file that `arctos init` writes: every option, commented out, under the headings of the help.
//!
//! A line such as `#workers = 4` becomes a setting when its `#` is removed; explanations begin with `# `.

use std::fmt::Write;

use super::options::{DefaultValue, OPTIONS, OptionSpec, Setting, Topic};

/// The application that a file is written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// MODULE:ATTR.
    pub application: String,
    /// The file in which it was found.
    pub file: String,
}

const WIDTH: usize = 100;
const HEAD: &str = "\
# Configuration of arctos, which reads this file in the directory in which it is started.
#
# To set an option, remove the # before its name. The command line and ARCTOS_* variables take
# precedence. A TIME is in seconds or has a unit (500ms, 30s, 2m); a SIZE is in bytes or has a unit
# (64K, 1M, 1G). `arctos --check` checks the file, `arctos --print-config` shows every effective
# value, and `arctos help configuration` explains more.
";

/// Returns the text of the file.
pub fn template(found: Option<&Found>) -> String {
    let mut page = HEAD.to_owned();
    for topic in Topic::ALL {
        push(&mut page, &format!("\n# --- {} ---", topic.title()));
        let listed =
            |option: &&OptionSpec| option.topic == topic && option.setting != Setting::Config;
        for option in OPTIONS.iter().filter(listed) {
            page.push('\n');
            for line in wrapped(&option.summary().replace('`', "")) {
                push(&mut page, &format!("# {line}"));
            }
            match (option.setting, found) {
                (Setting::Application, Some(Found { application, file })) => {
                    push(&mut page, &format!("app = {}  # found in {file}", quoted(application)));
                }
                _ => push(&mut page, &format!("#{}", setting(option))),
            }
        }
    }
    page
}

fn push(page: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{line}");
}

/// The line that sets an option: to its default if that is a value, else to an example.
fn setting(option: &OptionSpec) -> String {
    let long = option.long;
    let example = || example(option.setting);
    match option.default {
        DefaultValue::Switch(is_on) => format!("{long} = {is_on}"),
        DefaultValue::Count(number) => format!("{long} = {number}"),
        DefaultValue::Word(_) | DefaultValue::Size(_) | DefaultValue::Time(_) => {
            format!("{long} = {}", quoted(&option.default.text()))
        }
        DefaultValue::Derived(words) => {
            format!("{long} = {}  # example; default: {}", example(), words.replace('`', ""))
        }
        DefaultValue::None => format!("{long} = {}  # example; no default", example()),
    }
}

/// Values, in TOML, that options without a fixed default accept.
const EXAMPLES: &[(Setting, &str)] = &[
    (Setting::Application, "\"shop.wsgi:application\""),
    (Setting::Chdir, "\".\""),
    (Setting::PythonPath, "[\"lib\"]"),
    (Setting::Env, "{ DJANGO_SETTINGS_MODULE = \"shop.settings\" }"),
    (Setting::Bind, "[\"0.0.0.0:8000\", \"unix:/run/shop.sock\"]"),
    (Setting::AdminBind, "[\"unix:/run/shop-admin.sock\"]"),
    (Setting::Workers, "4"),
    (Setting::MaxRequestsJitter, "100"),
    (Setting::ReloadCheck, "\"/health\""),
    (Setting::ReloadExtra, "[\"templates\"]"),
    (Setting::OnStart, "[\"shop.hooks:on_start\"]"),
    (Setting::PreFork, "[\"shop.hooks:pre_fork\"]"),
    (Setting::PostFork, "[\"shop.hooks:post_fork\"]"),
    (Setting::WorkerReady, "[\"shop.hooks:worker_ready\"]"),
    (Setting::WorkerExit, "[\"shop.hooks:worker_exit\"]"),
    (Setting::User, "\"www-data\""),
    (Setting::Group, "\"www-data\""),
    (Setting::Umask, "\"0027\""),
    (Setting::Name, "\"shop\""),
    (Setting::Zone, "\"shop\""),
    (Setting::Pid, "\"/run/shop.pid\""),
    (Setting::TimeoutFor, "[\"/reports=5m\"]"),
    (Setting::BodyTempDir, "\"/var/tmp\""),
    (Setting::Certfile, "[\"/etc/ssl/shop.pem\"]"),
    (Setting::Keyfile, "[\"/etc/ssl/private/shop.key\"]"),
    (Setting::CaCerts, "\"/etc/ssl/clients.pem\""),
    (Setting::RequestIdHeader, "\"X-Request-Id\""),
    (Setting::RootPath, "\"/shop\""),
    (Setting::ForwardedAllowIps, "[\"10.0.0.0/8\", \"unix\"]"),
    (Setting::ProxyAllowFrom, "[\"10.0.0.0/8\", \"unix\"]"),
    (Setting::ForwardedHeaders, "[\"x-forwarded-for\", \"x-forwarded-proto\"]"),
    (Setting::Static, "[\"/static=static\"]"),
    (Setting::SendfileRoot, "\"/srv/shop/files\""),
    (Setting::AccessLogfile, "\"-\""),
    (Setting::AccessLogformat, "\"combined\""),
    (Setting::AccessLogExclude, "[\"/healthz\"]"),
    (Setting::StatsdHost, "\"127.0.0.1:8125\""),
    (Setting::DogstatsdTags, "\"app:shop\""),
];

/// An example of a value; a test finds an option without one.
fn example(setting: Setting) -> &'static str {
    let found = EXAMPLES.iter().find(|(example, _)| *example == setting);
    found.map_or("\"\"", |(_, value)| value)
}

/// A TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Breaks a text at spaces into lines that fit behind `# `.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= WIDTH - 2 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{ConfigError, Source};
    use super::*;
    use crate::system::environment::Environment;

    /// Reads a file with this text; a value that only this machine cannot use is accepted.
    fn accepts(text: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("arctos.toml");
        std::fs::write(&path, text).unwrap();
        let given = [(Setting::Config, vec![OsString::from(path)])];
        let source = Source::of_command_line(given, Environment::default()).unwrap();
        match source.resolve() {
            Err(ConfigError::NoTls { .. }) if !cfg!(feature = "tls") => Ok(()),
            Err(error) if error.exit_code() != 1 => Err(error.to_string()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn settings() -> Vec<String> {
        let page = template(None);
        let commented = page.lines().filter_map(|line| line.strip_prefix('#'));
        let is_setting = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
        commented.filter(is_setting).map(str::to_owned).collect()
    }

    #[test]
    fn each_option_stands_in_the_file_once_and_its_line_is_accepted() {
        let settings = settings();
        let names: Vec<_> = settings.iter().map(|line| line.split(' ').next().unwrap()).collect();
        let options = OPTIONS.iter().filter(|option| option.setting != Setting::Config);
        assert_eq!(names, options.map(|option| option.long).collect::<Vec<_>>());
        for line in &settings {
            // These are accepted only beside another option.
            let beside = match line.split(' ').next().unwrap() {
                "pre-fork" => "preload = true",
                "keyfile" => "certfile = '/etc/ssl/shop.pem'",
                "ca-certs" => "certfile = '/etc/ssl/shop.pem'\ncert-reqs = 'required'",
                "cert-reqs" => "certfile = '/etc/ssl/shop.pem'\nca-certs = '/etc/ssl/clients.pem'",
                _ => "",
            };
            assert_eq!(accepts(&format!("{line}\n{beside}\n")), Ok(()), "{line}");
            assert!(!line.contains("= \"\"  # example"), "{line}: needs an example");
        }
    }

    #[test]
    fn a_line_states_the_default_of_its_option() {
        let settings = settings().join("\n") + "\n";
        for line in [
            "timeout = \"30s\"\n",
            "backlog = 2048\n",
            "reuse-port = false\n",
            "log-level = \"info\"\n",
            "name = \"shop\"  # example; no default\n",
            "group = \"www-data\"  # example; default: the user's group\n",
        ] {
            assert!(settings.contains(line), "{line}");
        }
    }

    #[test]
    fn the_file_as_written_sets_nothing_but_the_application() {
        assert_eq!(accepts(&template(None)), Ok(()));
        let found = Found { application: "a.b:c".to_owned(), file: "a/b.py".to_owned() };
        let page = template(Some(&found));
        let set: Vec<_> =
            page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(set, ["app = \"a.b:c\"  # found in a/b.py"]);
        assert!(page.lines().filter(|line| line.starts_with("# ")).all(|line| line.len() <= WIDTH));
    }
}
