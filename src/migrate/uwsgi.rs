//! uWSGI's settings: those whose values or combinations need code, and uWSGI's defaults.

use super::draft::{Draft, Note, has_variable, is_variable, set_concurrency};
use super::value::PeerLine;
use super::words::module_name;
use crate::config::options::Setting;
use crate::config::options::peers::{Answer, Peer, PeerSetting, Unit, family, uwsgi_options};

/// What became of the settings, and what the command has to know.
#[derive(Debug, Default)]
pub(super) struct UwsgiDraft {
    /// The options.
    pub(super) draft: Draft,
    /// The virtual environment, whose arctos has to be started.
    pub(super) environment: Option<String>,
}

/// The head of arctos is this large by default, so a smaller buffer needs no setting.
const HEAD_BYTES: u64 = 64 << 10;

/// Converts the settings.
pub(super) fn draft(lines: &[PeerLine]) -> UwsgiDraft {
    let mut uwsgi = Uwsgi { draft: Draft::default(), lines, environment: None, proxied: None };
    for line in lines {
        match Peer::Uwsgi.setting(&line.name) {
            Some(row) if row.unit == Unit::Special => uwsgi.special(row, line),
            Some(row) => uwsgi.general(row, line),
            None => uwsgi.other(line),
        }
    }
    uwsgi.application();
    uwsgi.concurrency();
    uwsgi.proxy();
    uwsgi.defaults();
    UwsgiDraft { draft: uwsgi.draft, environment: uwsgi.environment }
}

struct Uwsgi<'a> {
    draft: Draft,
    lines: &'a [PeerLine],
    environment: Option<String>,
    /// The address that a proxy reaches with the uwsgi protocol.
    proxied: Option<String>,
}

impl Uwsgi<'_> {
    fn text(&self, names: &[&str]) -> Option<&str> {
        let line = self.lines.iter().rev().find(|line| names.contains(&line.name.as_str()))?;
        line.value.as_text().filter(|text| !text.is_empty())
    }

    fn is_on(&self, names: &[&str]) -> bool {
        let line = self.lines.iter().rev().find(|line| names.contains(&line.name.as_str()));
        line.is_some_and(|line| !line.value.is_off())
    }

    /// Converts a line whose values need no code, except that a smaller buffer than that of arctos is none.
    fn general(&mut self, row: &PeerSetting, line: &PeerLine) {
        let number = line.value.as_text().and_then(|text| text.parse::<u64>().ok());
        let is_buffer = matches!(line.name.as_str(), "buffer-size" | "http-buffer-size");
        if is_buffer && number.is_some_and(|bytes| bytes <= HEAD_BYTES) {
            self.draft.unneeded(line.shown(), "the head of a request may have 64K");
            return;
        }
        self.draft.convert(row, line);
    }

    fn other(&mut self, line: &PeerLine) {
        if let Some(answer) = family(&line.name) {
            if !line.value.is_off() {
                self.draft.missing(line.shown(), answer);
            }
            return;
        }
        let is_known = uwsgi_options().any(|option| option.name == line.name);
        let text = match is_known {
            true => "arctos has no such setting; uWSGI's documentation says what it does",
            false => "uWSGI has no such option and ignores it, unless it is strict",
        };
        self.draft.unknown.push(Note { what: line.shown(), text: text.to_owned() });
    }

    fn special(&mut self, row: &PeerSetting, line: &PeerLine) {
        let text = line.value.as_text().unwrap_or_default();
        let is_off = line.value.is_off();
        match (row.name(), row.answer) {
            ("module" | "wsgi-file" | "callable" | "mount", _) => {} // in `application`
            ("pythonpath", _) => {
                self.draft.add(Setting::PythonPath, text.to_owned());
                self.draft.same += 1;
            }
            ("virtualenv", _) => self.environment = Some(text.trim_end_matches('/').to_owned()),
            ("env", _) => {
                self.draft.add(Setting::Env, text.to_owned());
                self.draft.same += 1;
            }
            ("processes", _) => {
                self.draft.set(Setting::Workers, vec![text.to_owned()]);
                self.draft.same += 1;
            }
            ("threads", Answer::No { instead }) if text != "1" => {
                self.draft.missing(line.shown(), format!("{instead} (see workers above)"));
            }
            ("lazy-apps", _) if !is_off => {
                self.draft.unneeded(
                    line.shown(),
                    "each worker loads the application, unless preload is set",
                );
            }
            ("umask", _) => {
                self.draft.set(Setting::Umask, vec![format!("0{}", text.trim_start_matches('0'))]);
                self.draft.same += 1;
            }
            ("procname-prefix", _) => {
                self.draft.set(Setting::Name, vec![text.trim().to_owned()]);
                self.draft.near += 1;
            }
            ("http-keepalive", _) => match text.parse::<u64>() {
                Ok(seconds @ 1..) => {
                    self.draft.set(Setting::KeepAlive, vec![format!("{seconds}s")]);
                    self.draft.same += 1;
                }
                _ => self
                    .draft
                    .unneeded(line.shown(), "connections are kept open for 75 s between requests"),
            },
            ("disable-logging", _) => {
                self.draft
                    .unneeded(line.shown(), "requests are not logged unless access-logfile is set");
            }
            ("py-auto-reload", _) if text != "0" => {
                let planned = self.draft.set(Setting::Reload, vec!["on".to_owned()]);
                planned.comments.push(
                    "Difference: for development, with one worker unless workers is set."
                        .to_owned(),
                );
                self.draft.near += 1;
            }
            ("req-logger", _) => self.request_log(line, text),
            ("stats", _) => {
                let comment = "Difference: it is HTTP, with /status and /metrics, and also serves `arctos ctl`, \
                    `arctos top` (in place of uwsgitop) and the probes: keep it private.";
                self.draft
                    .set(Setting::AdminBind, vec![address(text)])
                    .comments
                    .push(comment.to_owned());
                self.draft.near += 1;
            }
            ("static-map", _) => self.static_map(line, text),
            _ => self.special_socket(row, line, text),
        }
    }

    fn special_socket(&mut self, row: &PeerSetting, line: &PeerLine, text: &str) {
        let is_off = line.value.is_off();
        match (row.name(), row.answer) {
            ("http-socket" | "http", _) => {
                self.bind(line, text, "Difference: connections are kept open between requests.")
            }
            ("socket", _) => {
                let protocol = self.text(&["protocol", "socket-protocol"]).unwrap_or("uwsgi");
                if protocol != "http" {
                    self.proxied = Some(address(text));
                }
                self.bind(line, text, "");
            }
            ("shared-socket" | "abstract-socket", _) => self.bind(line, text, ""),
            ("https", _) => self.https(line, text),
            ("protocol", Answer::No { instead }) => match text {
                "http" | "uwsgi" => {}
                _ => self.draft.missing(line.shown(), instead),
            },
            ("chmod-socket", _) => self.socket_mode(text),
            ("enable-proxy-protocol", _) if !is_off => {
                let comment = "Every connection has to begin with the PROXY header: name the proxies that send it.";
                self.draft.propose(
                    Setting::ProxyProtocol,
                    vec!["v1".to_owned()],
                    comment.to_owned(),
                );
                let peers = vec!["127.0.0.1".to_owned()];
                self.draft.propose(
                    Setting::ProxyAllowFrom,
                    peers,
                    "Addresses or networks of these proxies.".to_owned(),
                );
                self.draft.near += 1;
            }
            _ => {}
        }
    }

    fn bind(&mut self, line: &PeerLine, text: &str, comment: &str) {
        let address = match line.name.as_str() {
            "abstract-socket" => format!("unix:@{}", text.trim_start_matches('@')),
            _ => address(text),
        };
        if address.rsplit_once(':').is_some_and(|(_, port)| is_variable(port, "PORT")) {
            let what =
                "arctos listens at 0.0.0.0:$PORT whenever PORT is set and no address is given";
            self.draft.unneeded(line.shown(), what);
            return;
        }
        if has_variable(&address) {
            let comment = "uWSGI takes this from the environment: write the value here.";
            self.draft.propose(Setting::Bind, vec![address], comment.to_owned());
            return;
        }
        let planned = self.draft.add(Setting::Bind, address);
        if !comment.is_empty() && planned.comments.is_empty() {
            planned.comments.push(comment.to_owned());
        }
        self.draft.near += 1;
    }

    /// `ADDRESS,CERTIFICATE,KEY[,CIPHERS[,CA]]`; a CA with an exclamation mark is required.
    fn https(&mut self, line: &PeerLine, text: &str) {
        let mut parts = text.split(',').map(str::trim);
        let bind = address(parts.next().unwrap_or_default());
        self.draft.add(Setting::Bind, bind);
        if let (Some(certificate), Some(key)) = (parts.next(), parts.next()) {
            self.draft.add(Setting::Certfile, certificate.to_owned());
            self.draft.add(Setting::Keyfile, key.to_owned());
        }
        if parts.next().is_some_and(|ciphers| !ciphers.is_empty()) {
            self.draft.unneeded(
                line.shown(),
                "arctos offers TLS 1.2 and 1.3 with secure cipher suites only",
            );
        }
        if let Some(authority) = parts.next() {
            let word = if authority.starts_with('!') { "required" } else { "optional" };
            self.draft.set(Setting::CaCerts, vec![authority.trim_start_matches('!').to_owned()]);
            self.draft.set(Setting::CertReqs, vec![word.to_owned()]);
        }
        self.draft.near += 1;
    }

    fn socket_mode(&mut self, text: &str) {
        let mode = match text.trim_start_matches('0') {
            "" => "666",
            digits => digits,
        };
        self.draft.set(Setting::UnixSocketMode, vec![format!("0{mode}")]);
        self.draft.same += 1;
    }

    fn request_log(&mut self, line: &PeerLine, text: &str) {
        match text.strip_prefix("file:") {
            Some(file) => {
                let planned = self.draft.set(Setting::AccessLogfile, vec![file.to_owned()]);
                planned.comments.push(
                    "Difference: its lines have no query strings; access-logformat sets another format."
                        .to_owned(),
                );
                self.draft.near += 1;
            }
            None => {
                let instead = "the access log goes to a file, to standard output or to syslog: access-logfile = \"-\"";
                self.draft.missing(line.shown(), instead);
            }
        }
    }

    fn static_map(&mut self, line: &PeerLine, text: &str) {
        let (path, directory) = text.split_once('=').unwrap_or((text, ""));
        let last = directory.rsplit('/').next().unwrap_or_default();
        if directory.is_empty() || last.contains('.') {
            let instead = "--static serves directories, not single files: serve this one from a directory or the application";
            self.draft.missing(line.shown(), instead);
            return;
        }
        let directory = match directory.trim_end_matches('/') {
            "" => "/",
            directory => directory,
        };
        self.draft.add(Setting::Static, format!("/{}={directory}", path.trim_matches('/')));
        self.draft.same += 1;
    }

    /// The module of `module` or `wsgi-file`, with the name of `callable`.
    fn application(&mut self) {
        let callable = self.text(&["callable"]).unwrap_or("application").to_owned();
        let directory = self
            .text(&["chdir", "chdir2"])
            .map(|directory| directory.trim_end_matches('/').to_owned());
        let mounts: Vec<String> = self
            .lines
            .iter()
            .filter(|line| line.name == "mount")
            .filter_map(|line| line.value.as_text().map(str::to_owned))
            .collect();
        let mut file = self.text(&["wsgi-file", "file"]).map(str::to_owned);
        let mut module = self.text(&["module", "wsgi"]).map(str::to_owned);
        if let (None, None, Some(mount)) = (&file, &module, mounts.first()) {
            let (path, target) = mount.split_once('=').unwrap_or(("", mount));
            let root = format!("/{}", path.trim_matches('/'));
            if root != "/" {
                self.draft.set(Setting::RootPath, vec![root]);
            }
            match target.ends_with(".py") {
                true => file = Some(target.to_owned()),
                false => module = Some(target.to_owned()),
            }
            if mounts.len() > 1 {
                self.draft.missing(format!("mount = {:?}", mounts[1]), "a server has one application: run a server for each, or mount them in a WSGI middleware");
            }
        }
        if let Some(module) = module {
            let name = match module.contains(':') {
                true => module,
                false => format!("{module}:{callable}"),
            };
            self.draft.set(Setting::Application, vec![name]);
            self.draft.same += 1;
        } else if let Some(file) = file {
            self.file(&file, &callable, directory.as_deref());
        }
    }

    fn file(&mut self, file: &str, callable: &str, directory: Option<&str>) {
        let below = directory.and_then(|directory| file.strip_prefix(directory)?.strip_prefix('/'));
        let relative = match below {
            Some(below) => below.to_owned(),
            None if !file.starts_with('/') => file.to_owned(),
            None => {
                let (parent, name) = file.rsplit_once('/').unwrap_or(("", file));
                match directory {
                    None => {
                        self.draft.set(Setting::Chdir, vec![parent.to_owned()]);
                    }
                    Some(_) => {
                        self.draft.add(Setting::PythonPath, parent.to_owned());
                    }
                }
                name.to_owned()
            }
        };
        let name = format!("{}:{callable}", module_name(&relative));
        let planned = self.draft.set(Setting::Application, vec![name]);
        planned
            .comments
            .push(format!("uWSGI loads the file {file}; arctos imports it as a module."));
        self.draft.near += 1;
    }

    fn concurrency(&mut self) {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
        let workers = number(self.text(&["processes", "workers"]));
        if let Some(threads @ 2..) = number(self.text(&["threads"])) {
            set_concurrency(&mut self.draft, Peer::Uwsgi, workers, threads);
        }
        if let Some(environment) = &self.environment {
            self.draft.near += 1;
            self.draft.remarks.push(vec![
                "Install arctos into the virtual environment of the application:".to_owned(),
                format!("  {environment}/bin/pip install arctos"),
            ]);
        }
    }

    /// A proxy that spoke the uwsgi protocol has sent the client's address and the scheme; over HTTP, headers do.
    fn proxy(&mut self) {
        let Some(address) = self.proxied.clone() else { return };
        let is_unix = address.starts_with("unix:");
        let peers = if is_unix { vec!["unix"] } else { vec!["127.0.0.1", "::1"] };
        let peers = peers.into_iter().map(str::to_owned).collect();
        self.draft.set(Setting::ForwardedAllowIps, peers).comments.push(
            "The proxy sends the client's address and the scheme in headers, in place of uwsgi_params: see the end."
                .to_owned(),
        );
        let headers = vec!["x-forwarded-for".to_owned(), "x-forwarded-proto".to_owned()];
        self.draft.set(Setting::ForwardedHeaders, headers);
        let upstream = match is_unix {
            true => address,
            false => address.replace("0.0.0.0", "127.0.0.1"),
        };
        self.draft.remarks.push(vec![
            "arctos speaks HTTP, not the uwsgi protocol. In nginx, replace uwsgi_pass and uwsgi_params by:".to_owned(),
            format!("  proxy_pass http://{upstream};"),
            "  proxy_http_version 1.1;".to_owned(),
            "  proxy_set_header Connection \"\";".to_owned(),
            "  proxy_set_header Host $http_host;".to_owned(),
            "  proxy_set_header X-Forwarded-For $remote_addr;".to_owned(),
            "  proxy_set_header X-Forwarded-Proto $scheme;".to_owned(),
        ]);
    }

    fn defaults(&mut self) {
        if !self.draft.has(Setting::Timeout) {
            self.draft.differs(
                "harakiri",
                "uWSGI does not limit requests, arctos limits each to 30 s: write timeout = 0 for no limit, or timeout-for \
                 for some paths",
            );
        }
        if !self.draft.has(Setting::Workers) {
            self.draft.differs(
                "processes",
                "uWSGI starts 1, arctos as many as there are CPUs, at least 2, as far as the memory allows",
            );
        }
        if !self.is_on(&["lazy-apps", "lazy"]) {
            self.draft.differs(
                "lazy-apps",
                "uWSGI loads the application once and forks the workers, so that they share memory; for that, write \
                 preload = true",
            );
        }
        let logs = ["disable-logging", "req-logger", "logger-req"];
        if !self.is_on(&logs) {
            self.draft.differs(
                "disable-logging",
                "uWSGI logs every request unless told otherwise; for that, write access-logfile = \"-\"",
            );
        }
        if !self.draft.has(Setting::LimitRequestBody) {
            self.draft.differs(
                "limit-post",
                "uWSGI accepts any size, arctos 1G: write limit-request-body = 0 for no limit",
            );
        }
        if !self.draft.has(Setting::GracefulTimeout) {
            self.draft.differs("reload-mercy", "60 s in uWSGI; graceful-timeout is 25 s");
        }
        if self.draft.binds_unix_path() && !self.draft.has(Setting::UnixSocketMode) {
            self.draft.differs(
                "chmod-socket",
                "uWSGI leaves the mode to the umask; unix-socket-mode is 0660, so the proxy has to be in the socket's group",
            );
        }
    }
}

/// Converts an address to the notation of arctos.
fn address(text: &str) -> String {
    let text = text.trim();
    let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit_once(':') {
        _ if text.starts_with("fd://") || is_port => text.to_owned(),
        _ if text.starts_with('/') || text.starts_with("unix:") => {
            format!("unix:{}", text.trim_start_matches("unix:"))
        }
        _ if text.starts_with('@') => format!("unix:{text}"),
        Some(("" | "*", port)) => format!("0.0.0.0:{port}"),
        Some(_) => text.to_owned(),
        None => format!("unix:{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::PeerValue;
    use super::*;

    fn drafted(lines: &[(&str, &str)]) -> Draft {
        let lines: Vec<PeerLine> = lines
            .iter()
            .map(|(name, value)| match *value {
                "true" => PeerLine::new(name, PeerValue::Switch(true)),
                value => PeerLine::text(name, value),
            })
            .collect();
        draft(&lines).draft
    }

    fn values(draft: &Draft, setting: Setting) -> Vec<&str> {
        draft.planned[&setting].values.iter().map(String::as_str).collect()
    }

    #[test]
    fn addresses_get_the_notation_of_arctos() {
        for (uwsgi, arctos) in [
            (":8000", "0.0.0.0:8000"),
            ("127.0.0.1:3031", "127.0.0.1:3031"),
            ("/run/shop.sock", "unix:/run/shop.sock"),
            ("shop.sock", "unix:shop.sock"),
            ("@shop", "unix:@shop"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(address(uwsgi), arctos);
        }
    }

    #[test]
    fn the_application_comes_from_a_module_or_a_file() {
        let application = |lines: &[(&str, &str)]| {
            let draft = drafted(lines);
            let chdir = draft.planned.get(&Setting::Chdir).map(|it| it.values[0].clone());
            (values(&draft, Setting::Application)[0].to_owned(), chdir.unwrap_or_default())
        };
        for (lines, name, chdir) in [
            (&[("module", "shop.wsgi")][..], "shop.wsgi:application", ""),
            (&[("module", "shop.wsgi:app")], "shop.wsgi:app", ""),
            (&[("module", "wsgi"), ("callable", "app")], "wsgi:app", ""),
            (&[("wsgi-file", "shop/wsgi.py")], "shop.wsgi:application", ""),
            (
                &[("chdir", "/srv/shop/"), ("wsgi-file", "/srv/shop/shop/wsgi.py")],
                "shop.wsgi:application",
                "/srv/shop/",
            ),
            (&[("wsgi-file", "/srv/shop/wsgi.py"), ("callable", "app")], "wsgi:app", "/srv/shop"),
            (&[("mount", "/shop=app.py"), ("callable", "app")], "app:app", ""),
        ] {
            assert_eq!(application(lines), (name.to_owned(), chdir.to_owned()));
        }
    }

    #[test]
    fn a_proxy_needs_another_protocol() {
        let draft = drafted(&[("socket", "/run/shop.sock"), ("chmod-socket", "664")]);
        assert_eq!(values(&draft, Setting::Bind), ["unix:/run/shop.sock"]);
        assert_eq!(values(&draft, Setting::UnixSocketMode), ["0664"]);
        assert_eq!(values(&draft, Setting::ForwardedAllowIps), ["unix"]);
        assert!(
            draft.remarks[0]
                .iter()
                .any(|line| line.contains("proxy_pass http://unix:/run/shop.sock;"))
        );
        let http = drafted(&[("socket", ":80"), ("protocol", "http")]);
        assert!(http.remarks.is_empty() && !http.has(Setting::ForwardedAllowIps));
    }

    #[test]
    fn every_kind_of_line_gets_an_answer() {
        let draft = drafted(&[
            ("master", "true"),
            ("emperor", "/etc/uwsgi"),
            ("harakiri", "20"),
            ("static-map", "/static=/srv/static/"),
            ("static-map", "/favicon.ico=/srv/favicon.ico"),
            ("https", ":443,shop.crt,shop.key"),
            ("backtrace-depth", "5"),
            ("colour", "red"),
            ("buffer-size", "32768"),
        ]);
        assert_eq!(values(&draft, Setting::Timeout), ["20s"]);
        assert_eq!(values(&draft, Setting::Static), ["/static=/srv/static"]);
        assert_eq!(values(&draft, Setting::Keyfile), ["shop.key"]);
        assert_eq!((draft.missing.len(), draft.unknown.len(), draft.unneeded.len()), (2, 2, 2));
    }
}
