//! Granian's settings: those whose values or combinations need code, and Granian's defaults.

use super::draft::{Draft, has_variable, is_variable, set_concurrency};
use super::value::{PeerLine, PeerValue};
use super::words::module_name;
use crate::config::options::Setting;
use crate::config::options::peers::{Answer, Peer, PeerArgument, PeerSetting, Unit};

/// Converts the settings. `application` is the target on the command line.
pub(super) fn draft(lines: &[PeerLine], application: Option<&str>) -> Draft {
    let mut granian = Granian { draft: Draft::default(), lines };
    if let Some(application) = application {
        granian.application(application);
    }
    for line in lines {
        match Peer::Granian.setting(&line.name) {
            Some(row) if row.unit == Unit::Special => granian.special(row, line),
            Some(row) => granian.draft.convert(row, line),
            None => {}
        }
    }
    granian.address();
    granian.concurrency();
    granian.files();
    granian.metrics();
    granian.defaults();
    granian.draft
}

struct Granian<'a> {
    draft: Draft,
    lines: &'a [PeerLine],
}

impl Granian<'_> {
    /// The last value of a setting.
    fn text(&self, name: &str) -> Option<&str> {
        self.lines.iter().rev().find(|line| line.name == name)?.value.as_text()
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| line.name == name);
        lines.filter_map(|line| line.value.as_text()).collect()
    }

    fn is_on(&self, name: &str) -> bool {
        let last = self.lines.iter().rev().find(|line| line.name == name);
        last.is_some_and(|line| line.value == PeerValue::Switch(true))
    }

    fn application(&mut self, target: &str) {
        let (module, attribute) = target.split_once(':').unwrap_or((target, "app"));
        let name = format!("{}:{attribute}", module_name(module));
        self.draft.set(Setting::Application, vec![name]);
        self.draft.same += 1;
    }

    fn special(&mut self, row: &PeerSetting, line: &PeerLine) {
        let text = line.value.as_text().unwrap_or_default();
        let is_on = line.value == PeerValue::Switch(true);
        let is_off = line.value == PeerValue::Switch(false);
        match (row.name(), row.answer) {
            ("host" | "port" | "uds" | "metrics" | "metrics-address" | "metrics-port", _) => {}
            ("static-path-route" | "static-path-mount", _) => {}
            ("uds-permissions", _) => {
                let digits = text.trim_start_matches("0o").trim_start_matches('0');
                self.draft.set(Setting::UnixSocketMode, vec![format!("0{digits}")]);
                self.draft.same += 1;
            }
            ("interface", Answer::No { instead }) => match text {
                "wsgi" => self.draft.unneeded(line.shown(), "arctos serves WSGI only"),
                _ => self.draft.missing(line.shown(), instead),
            },
            ("http", Answer::No { instead }) => match text {
                "2" => self.draft.missing(line.shown(), instead),
                _ => self.draft.unneeded(line.shown(), "arctos speaks HTTP/1.1"),
            },
            ("workers", _) => self.workers(line, text),
            ("blocking-threads", Answer::No { instead }) => {
                if text != "1" {
                    self.draft.missing(line.shown(), format!("{instead} (see workers above)"));
                }
            }
            ("http1-keep-alive", _) if is_off => {
                self.draft.set(Setting::MaxRequestsPerConnection, vec!["1".to_owned()]);
                self.draft.same += 1;
            }
            ("log", _) if is_off => {
                let planned = self.draft.set(Setting::LogLevel, vec!["critical".to_owned()]);
                planned.comments.push(
                    "The log cannot be turned off; `critical` is the quietest level.".to_owned(),
                );
                self.draft.near += 1;
            }
            ("log-level", _) => {
                let level = match text {
                    "warn" => "warning",
                    "notset" => "debug",
                    level => level,
                };
                self.draft.set(Setting::LogLevel, vec![level.to_owned()]);
                self.draft.same += 1;
            }
            ("access-log", _) if is_on => {
                let planned = self.draft.set(Setting::AccessLogfile, vec!["-".to_owned()]);
                planned.comments.push(
                    "Difference: its lines have no query strings; access-logformat sets another format."
                        .to_owned(),
                );
                self.draft.near += 1;
            }
            ("ssl-client-verify", _) if is_on => {
                self.draft.set(Setting::CertReqs, vec!["required".to_owned()]);
                self.draft.same += 1;
            }
            ("http1-keep-alive" | "log" | "access-log" | "ssl-client-verify", _) => {}
            (_, Answer::Near { setting, .. } | Answer::Same { setting }) => {
                let is_path = setting == Setting::RootPath;
                let value =
                    if is_path { text.trim_end_matches('/').to_owned() } else { duration(text) };
                let mut plain = *row;
                plain.unit = Unit::Same;
                self.draft.convert(&plain, &PeerLine::text(&line.name, value));
            }
            (_, Answer::Always { .. } | Answer::No { .. }) => {}
        }
    }

    fn workers(&mut self, line: &PeerLine, text: &str) {
        if is_variable(text, "WEB_CONCURRENCY") {
            let why = "arctos reads WEB_CONCURRENCY if --workers is not given";
            self.draft.unneeded(line.shown(), why);
        } else {
            self.draft.set(Setting::Workers, vec![text.to_owned()]);
            self.draft.same += 1;
        }
    }

    fn address(&mut self) {
        if let Some(path) = self.text("uds") {
            let path = format!("unix:{path}");
            self.draft.set(Setting::Bind, vec![path]);
            self.draft.same += 1;
            return;
        }
        let (host, port) = (self.text("host"), self.text("port"));
        if let Some(port) = port
            && is_variable(port, "PORT")
        {
            let what =
                format!("host = {host:?}, port = {port:?}").replace("Some(", "").replace(')', "");
            let why =
                "arctos listens at 0.0.0.0:$PORT whenever PORT is set and no address is given";
            self.draft.unneeded(what, why);
            return;
        }
        if host.is_none() && port.is_none() {
            return; // The default is the same: 127.0.0.1:8000.
        }
        let host = match host.unwrap_or("127.0.0.1") {
            v6 if v6.contains(':') => format!("[{v6}]"),
            host => host.to_owned(),
        };
        let address = format!("{host}:{}", port.unwrap_or("8000"));
        if has_variable(&address) {
            let comment = "The shell fills this in: write the value here, or give --bind on the command line.";
            self.draft.propose(Setting::Bind, vec![address], comment.to_owned());
        } else {
            self.draft.set(Setting::Bind, vec![address]);
        }
        self.draft.same += 1;
    }

    fn concurrency(&mut self) {
        let threads = self.text("blocking-threads").and_then(|threads| threads.parse().ok());
        if let Some(threads @ 2..) = threads {
            let workers = self.text("workers").and_then(|workers| workers.parse().ok());
            set_concurrency(&mut self.draft, Peer::Granian, workers, threads);
        }
    }

    /// Granian pairs routes and directories by their positions.
    fn files(&mut self) {
        let directories: Vec<String> =
            self.texts("static-path-mount").iter().map(|it| (*it).to_owned()).collect();
        let routes: Vec<String> =
            self.texts("static-path-route").iter().map(|it| (*it).to_owned()).collect();
        for (index, directory) in directories.iter().enumerate() {
            let route = routes.get(index).map_or("/static", String::as_str);
            let route = format!("/{}", route.trim_matches('/'));
            self.draft.add(Setting::Static, format!("{route}={directory}"));
        }
        if !directories.is_empty() {
            self.draft.same += 1;
        }
    }

    fn metrics(&mut self) {
        if !self.is_on("metrics") {
            return;
        }
        let address = self.text("metrics-address").unwrap_or("127.0.0.1");
        let address = format!("{address}:{}", self.text("metrics-port").unwrap_or("9090"));
        let comment = "Difference: this address serves /metrics, and also `arctos ctl` and the probes /livez and /readyz: \
            keep it private. The metrics have other names: see arctos help metrics.";
        self.draft.set(Setting::AdminBind, vec![address]).comments.push(comment.to_owned());
        self.draft.near += 1;
    }

    fn defaults(&mut self) {
        if self.text("interface").is_none() {
            self.draft.differs(
                "interface",
                "Granian's is rsgi: arctos serves WSGI applications only. Check what the application is; a Granian \
                 command line for WSGI has --interface wsgi",
            );
        }
        if !self.draft.has(Setting::Workers) {
            self.draft.differs(
                "workers",
                "Granian starts 1, arctos as many as there are CPUs, at least 2, as far as the memory allows",
            );
        }
        if self.text("blocking-threads").is_none() {
            self.draft.differs(
                "blocking-threads",
                "without it, Granian starts up to hundreds of threads for a WSGI application; arctos runs one request in \
                 each worker. Estimate the workers from the load: requests per second * seconds per request, and a \
                 reserve",
            );
        }
        self.draft.differs(
            "timeout",
            "Granian does not limit requests, arctos limits each to 30 s: write timeout = 0 for no limit, or timeout-for \
             for some paths",
        );
        self.draft.differs(
            "limit-request-body",
            "Granian accepts any size, arctos 1G: write limit-request-body = 0 for no limit",
        );
        if !self.draft.has(Setting::Backlog) {
            self.draft.differs("backlog", "1024 in Granian, 2048 in arctos");
        }
    }
}

/// Reads one of the environment variables that Granian reads.
pub(super) fn variable((name, value): &(String, String)) -> Option<PeerLine> {
    let name = match name.strip_prefix("GRANIAN_")? {
        "WEBSOCKETS" => "ws".to_owned(),
        "LOG_ENABLED" => "log".to_owned(),
        "LOG_ACCESS_ENABLED" => "access-log".to_owned(),
        "LOG_ACCESS_FMT" => "access-log-fmt".to_owned(),
        "METRICS_ENABLED" => "metrics".to_owned(),
        name => name.to_ascii_lowercase().replace('_', "-"),
    };
    let row = Peer::Granian.setting(&name)?;
    let value = match row.argument {
        PeerArgument::None => {
            let is_on = ["1", "true", "t", "yes", "y", "on"]
                .iter()
                .any(|on| value.eq_ignore_ascii_case(on));
            PeerValue::Switch(is_on)
        }
        PeerArgument::Required | PeerArgument::Optional => PeerValue::Text(value.clone()),
    };
    Some(PeerLine::new(row.name(), value))
}

/// Converts a duration of Granian, such as `1d2h`, to seconds.
fn duration(text: &str) -> String {
    let mut seconds = 0_u64;
    let mut number = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return text.to_owned(),
        };
        let Ok(count) = number.parse::<u64>() else { return text.to_owned() };
        seconds = seconds.saturating_add(count.saturating_mul(unit));
        number.clear();
    }
    match number.parse::<u64>() {
        Ok(rest) => seconds.saturating_add(rest).to_string(),
        Err(_) if text.is_empty() => String::new(),
        Err(_) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments;
    use super::*;

    fn drafted(line: &str) -> Draft {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let arguments = arguments::read(Peer::Granian, &words);
        assert_eq!(arguments.unknown, [""; 0]);
        draft(&arguments.lines, arguments.positional.first().map(String::as_str))
    }

    fn values(draft: &Draft, setting: Setting) -> Vec<&str> {
        draft.planned[&setting].values.iter().map(String::as_str).collect()
    }

    #[test]
    fn settings_that_belong_together_become_one() {
        let draft = drafted(
            "--interface wsgi --host 0.0.0.0 --port 80 --static-path-mount /srv/static --static-path-route media \
             --metrics --metrics-port 9999 --uds-permissions 660 shop/wsgi.py",
        );
        assert_eq!(values(&draft, Setting::Bind), ["0.0.0.0:80"]);
        assert_eq!(values(&draft, Setting::Static), ["/media=/srv/static"]);
        assert_eq!(values(&draft, Setting::AdminBind), ["127.0.0.1:9999"]);
        assert_eq!(values(&draft, Setting::UnixSocketMode), ["0660"]);
        assert_eq!(values(&draft, Setting::Application), ["shop.wsgi:app"]);
    }

    #[test]
    fn durations_and_sizes_are_converted() {
        let draft = drafted(
            "--workers-lifetime 1d2h --workers-max-rss 512 --workers-kill-timeout 30s shop:app",
        );
        assert_eq!(values(&draft, Setting::MaxLifetime), ["93600s"]);
        assert_eq!(values(&draft, Setting::MaxRss), ["512M"]);
        assert_eq!(values(&draft, Setting::GracefulTimeout), ["30s"]);
    }

    #[test]
    fn variables_of_the_environment_are_read() {
        let line = |name: &str, value: &str| variable(&(name.to_owned(), value.to_owned()));
        assert_eq!(line("GRANIAN_WORKERS", "3"), Some(PeerLine::text("workers", "3")));
        let access_log = PeerLine::new("access-log", PeerValue::Switch(true));
        assert_eq!(line("GRANIAN_LOG_ACCESS_ENABLED", "true"), Some(access_log));
        assert_eq!(line("GRANIAN_COLOUR", "red"), None);
    }

    #[test]
    fn threads_become_workers() {
        let draft = drafted("--workers 2 --blocking-threads 4 shop:app");
        assert_eq!(values(&draft, Setting::Workers), ["8"]);
    }

    #[test]
    fn an_interface_that_is_not_wsgi_is_said() {
        assert_eq!(drafted("--interface asgi shop:app").missing.len(), 1);
        assert!(drafted("shop:app").defaults.iter().any(|note| note.what == "interface"));
    }
}
