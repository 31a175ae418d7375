//! What a person in a terminal sees once the server is ready: where it serves, what, and why with these settings.

use std::fmt::Write;

use crate::config::options::Setting;
use crate::config::{Config, Origin, Printable};
use crate::system::cgroup::MemoryLimit;

/// What the table shows besides the configuration.
pub(super) struct Facts {
    /// The version of the interpreter; empty without one.
    pub(super) runtime: String,
    /// The URLs of the server.
    pub(super) addresses: Vec<String>,
    /// The URLs of the admin socket.
    pub(super) admin: Vec<String>,
    /// How long the first worker took from its start until it was ready, in seconds.
    pub(super) boot_s: f64,
    /// The limit of the cgroup.
    pub(super) memory: Option<MemoryLimit>,
    /// Whether there are colors.
    pub(super) is_colored: bool,
}

/// Formats the table.
pub(super) fn table(config: &Config, facts: &Facts) -> String {
    let (bold, dim, reset) =
        if facts.is_colored { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for address in &facts.addresses {
        rows.push(("Address", address.clone(), reason(config, Setting::Bind)));
    }
    let application = config.effective(Setting::Application).value.clone();
    rows.push(("Application", application, format!("ready after {:.2} s", facts.boot_s)));
    let workers = config.effective(Setting::Workers).value.clone();
    rows.push(("Workers", workers, reason(config, Setting::Workers)));
    let memory = match &facts.memory {
        Some(limit) => (format!("{} MB", limit.bytes >> 20), limit.file.display().to_string()),
        None => ("no limit".to_owned(), String::new()),
    };
    rows.push(("Memory", memory.0, memory.1));
    let max_rss = config.effective(Setting::MaxRss);
    if max_rss.origin != Origin::Default {
        let value = if max_rss.value == "0" { "no limit" } else { &max_rss.value };
        rows.push(("Per worker", value.to_owned(), format!("--max-rss: {}", max_rss.origin)));
    }
    let keep_alive = config.effective(Setting::KeepAlive).value.clone();
    rows.push(("Keep-alive", keep_alive, reason(config, Setting::KeepAlive)));
    if let Some((path, origin)) = config.file() {
        rows.push(("Configuration", path.to_owned(), origin.to_string()));
    }
    for address in &facts.admin {
        rows.push(("Admin", address.clone(), reason(config, Setting::AdminBind)));
    }
    if config.watching.is_some() {
        let engine = format!("--reload-engine {}", config.effective(Setting::ReloadEngine).value);
        rows.push(("Reload", "when a file changes".to_owned(), engine));
    }
    for (_, value, reason) in &mut rows {
        // A path may contain sequences that a terminal obeys.
        (*value, *reason) = (Printable(value).to_string(), Printable(reason).to_string());
    }
    let width = |of: fn(&(&str, String, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, values) = (width(|row| row.0.len()), width(|row| row.1.chars().count()).min(40));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n  {bold}arctos {}{reset}  {}\n",
        env!("CARGO_PKG_VERSION"),
        facts.runtime
    );
    for (name, value, reason) in &rows {
        let line = format!("  {dim}{name:names$}{reset}  {value:values$}  {dim}{reason}{reset}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("\n  Press Ctrl-C to stop.\n\n");
    text
}

/// Why a setting has its value; empty for an ordinary default.
fn reason(config: &Config, setting: Setting) -> String {
    let origin = &config.effective(setting).origin;
    if *origin == Origin::Default { String::new() } else { origin.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::system::environment::Environment;

    #[test]
    fn each_value_has_its_reason() {
        let options = [(Setting::Application, "shop:app"), (Setting::Reload, "on")];
        let given = options.map(|(setting, value)| (setting, vec![value.into()]));
        let config =
            Source::of_command_line(given, Environment::default()).unwrap().read().unwrap();
        let facts = Facts {
            runtime: "CPython 3.13.1".to_owned(),
            addresses: vec!["http://127.0.0.1:8000".to_owned()],
            admin: Vec::new(),
            boot_s: 0.214,
            memory: Some(MemoryLimit {
                bytes: 512 << 20,
                file: "/sys/fs/cgroup/memory.max".into(),
            }),
            is_colored: false,
        };
        let text = table(&config, &facts);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[0], format!("arctos {}  CPython 3.13.1", env!("CARGO_PKG_VERSION")));
        assert_eq!(lines[1], "Address      http://127.0.0.1:8000");
        assert_eq!(lines[2], "Application  shop:app               ready after 0.21 s");
        assert_eq!(lines[3], "Workers      1                      because of --reload");
        assert_eq!(lines[4], "Memory       512 MB                 /sys/fs/cgroup/memory.max");
        assert!(!text.contains('\x1b'));
        assert!(table(&config, &Facts { is_colored: true, ..facts }).contains("\x1b[1marctos"));
    }

    #[test]
    fn the_limit_of_a_worker_is_shown_with_its_reason() {
        let options = [(Setting::Application, "shop:app"), (Setting::MaxRss, "300M")];
        let given = options.map(|(setting, value)| (setting, vec![value.into()]));
        let config =
            Source::of_command_line(given, Environment::default()).unwrap().read().unwrap();
        let facts = Facts {
            runtime: String::new(),
            addresses: Vec::new(),
            admin: Vec::new(),
            boot_s: 0.0,
            memory: None,
            is_colored: false,
        };
        let text = table(&config, &facts);
        assert!(text.contains("\n  Memory       no limit\n"), "{text}");
        assert!(text.contains("\n  Per worker   300M      --max-rss: command line\n"), "{text}");
    }

    #[test]
    fn a_path_cannot_command_the_terminal() {
        let options = [(Setting::Application, "shop:app"), (Setting::Workers, "1")];
        let given = options.map(|(setting, value)| (setting, vec![value.into()]));
        let config =
            Source::of_command_line(given, Environment::default()).unwrap().read().unwrap();
        for is_colored in [true, false] {
            let facts = Facts {
                runtime: String::new(),
                addresses: vec!["unix:/run/\x1b]0;title\x07\n".to_owned()],
                admin: Vec::new(),
                boot_s: 0.0,
                memory: None,
                is_colored,
            };
            assert!(table(&config, &facts).contains(r"  unix:/run/\u{1b}]0;title\u{7}\n"));
        }
    }
}
