//! gunicorn's settings: those whose values or combinations need code, and gunicorn's defaults.

use super::draft::{Draft, Note, has_variable, is_variable, set_concurrency};
use super::value::{PeerFunction, PeerLine, PeerValue};
use crate::config::options::peers::{Answer, Peer, PeerSetting, Unit};
use crate::config::options::{OptionSpec, Setting};

/// What gunicorn is given.
#[derive(Clone, Debug, Default)]
pub(super) struct GunicornInput {
    /// The settings; a later one replaces an earlier one of the same name.
    pub(super) lines: Vec<PeerLine>,
    /// The application on the command line.
    pub(super) application: Option<String>,
    /// The environment variable `FORWARDED_ALLOW_IPS`.
    pub(super) forwarded_allow_ips: Option<String>,
    /// Whether systemd opens the sockets, so that neither server opens those of `bind`.
    pub(super) is_socket_activated: bool,
    /// The configuration file, for messages.
    pub(super) file: String,
}

/// The names of proxies on the same machine, which gunicorn trusts by default.
const LOCAL: &str = "127.0.0.1,::1";
const MODULE: &str = "MODULE";
/// The concurrency of a worker class that is not known from the configuration.
const GREEN: [&str; 5] = ["gevent", "eventlet", "geventwebsocket", "meinheld", "tornado"];

/// Converts the settings.
pub(super) fn draft(input: &GunicornInput) -> Draft {
    let mut gunicorn = Gunicorn { draft: Draft::default(), input, lines: merged(&input.lines) };
    if let Some(application) = &input.application {
        gunicorn.application(application);
    }
    for line in gunicorn.lines.clone() {
        match Peer::Gunicorn.setting(&line.name) {
            Some(row) if row.unit == Unit::Special => gunicorn.special(row, &line),
            Some(row) => gunicorn.draft.convert(row, &line),
            None => gunicorn.draft.unknown.push(unknown(&line.name)),
        }
    }
    gunicorn.concurrency();
    gunicorn.proxies();
    gunicorn.defaults();
    gunicorn.draft
}

/// A name that gunicorn does not know.
pub(super) fn unknown(name: &str) -> Note {
    const LIKENESS: f64 = 0.85;
    let names = Peer::Gunicorn.settings().map(PeerSetting::name);
    let near = names.map(|known| (strsim::jaro(name, known), known));
    let nearest = near.max_by(|(one, _), (other, _)| one.total_cmp(other));
    let hint = match nearest {
        Some((likeness, known)) if likeness > LIKENESS => format!("; did you mean {known}?"),
        Some(_) | None => String::new(),
    };
    Note {
        what: name.to_owned(),
        text: format!("gunicorn has no such setting and ignores it{hint}"),
    }
}

/// Keeps the last line of each name, at the place of the first.
fn merged(lines: &[PeerLine]) -> Vec<PeerLine> {
    let mut merged: Vec<PeerLine> = Vec::new();
    for line in lines {
        match merged.iter_mut().find(|earlier| earlier.name == line.name) {
            Some(earlier) => *earlier = line.clone(),
            None => merged.push(line.clone()),
        }
    }
    merged
}

struct Gunicorn<'a> {
    draft: Draft,
    input: &'a GunicornInput,
    lines: Vec<PeerLine>,
}

impl Gunicorn<'_> {
    fn value(&self, name: &str) -> Option<&PeerValue> {
        let line = self.lines.iter().find(|line| line.name == name)?;
        Some(&line.value).filter(|value| !value.is_off())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.as_text().map(str::to_owned)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn special(&mut self, row: &PeerSetting, line: &PeerLine) {
        let text = line.value.as_text().unwrap_or_default().to_owned();
        match (row.name(), row.answer) {
            (_, _) if line.value == PeerValue::Absent => {}
            ("wsgi_app", _) => {
                if self.input.application.is_none() {
                    self.application(&text);
                }
            }
            ("bind", _) => self.bind(line),
            ("workers", _) => self.workers(line, &text),
            ("worker_class", Answer::No { instead }) => self.worker_class(line, &text, instead),
            ("threads", Answer::No { instead }) => {
                if text != "1" {
                    self.draft.missing(line.shown(), format!("{instead} (see workers above)"));
                }
            }
            ("keepalive", _) => self.keepalive(row, line, &text),
            ("secure_scheme_headers", Answer::No { instead }) => {
                self.scheme_headers(line, instead);
            }
            ("timeout", _) => self.timeout(row, line),
            ("limit_request_line" | "limit_request_field_size", Answer::Near { setting, .. }) => {
                self.size_limit(setting, line, &text);
            }
            ("user" | "group", Answer::Same { setting }) => {
                self.draft.set(setting, vec![text]);
                self.draft.same += 1;
            }
            ("umask", _) => self.umask(&text),
            ("forwarded_allow_ips" | "proxy_allow_ips" | "proxy_protocol", _) => {} // in `proxies`
            ("errorlog", Answer::No { instead }) => match text.as_str() {
                "-" => self.draft.unneeded(line.shown(), "arctos logs to standard error"),
                _ => self.draft.missing(line.shown(), instead.replace("FILE", &text)),
            },
            ("loglevel", _) => self.log_level(&text),
            ("protocol", Answer::No { instead }) => {
                if text != "http" {
                    self.draft.missing(line.shown(), instead);
                }
            }
            ("cert_reqs", _) => self.cert_reqs(&text),
            ("http_protocols", Answer::No { instead }) => {
                if text != "h1" {
                    self.draft.missing(line.shown(), instead);
                }
            }
            ("header_map", _) => self.header_map(line, &text),
            (_, answer) => self.hook(line, answer),
        }
        if let Answer::Same { setting } | Answer::Near { setting, .. } = row.answer
            && !matches!(
                setting,
                Setting::Workers | Setting::Bind | Setting::Timeout | Setting::KeepAlive
            )
            && self.draft.has(setting)
        {
            self.draft.explain_computed(setting, line);
        }
    }

    fn keepalive(&mut self, row: &PeerSetting, line: &PeerLine, text: &str) {
        if text == "0" {
            let planned = self.draft.set(Setting::MaxRequestsPerConnection, vec!["1".to_owned()]);
            planned.comments.push("keepalive = 0 turns keep-alive off.".to_owned());
            self.draft.same += 1;
            return;
        }
        let mut plain = *row;
        plain.unit = Unit::Same;
        if self.is_threaded() {
            plain.answer = Answer::Same { setting: Setting::KeepAlive };
        }
        self.draft.convert(&plain, line);
    }

    /// The usual header needs no setting, because a trusted proxy's X-Forwarded-Proto is always read.
    fn scheme_headers(&mut self, line: &PeerLine, instead: &'static str) {
        let PeerValue::Table(table) = &line.value else { return };
        let is_usual = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("X-Forwarded-Proto") && value == "https"
        };
        match table.iter().all(is_usual) {
            true => {
                let why = "X-Forwarded-Proto of proxies in forwarded-allow-ips is always read";
                self.draft.unneeded(line.shown(), why);
            }
            false => self.draft.missing(line.shown(), instead),
        }
    }

    fn application(&mut self, name: &str) {
        // gunicorn looks for `application` in a module.
        let name = match name.contains(':') {
            true => name.to_owned(),
            false => format!("{name}:application"),
        };
        self.draft.set(Setting::Application, vec![name]);
        self.draft.same += 1;
    }

    fn bind(&mut self, line: &PeerLine) {
        let addresses = line.value.texts();
        let takes_port = |address: &String| {
            address.rsplit_once(':').is_some_and(|(_, port)| is_variable(port, "PORT"))
        };
        if let [only] = addresses.as_slice()
            && takes_port(only)
        {
            let what =
                "arctos listens at 0.0.0.0:$PORT whenever PORT is set and no address is given";
            self.draft.unneeded(line.shown(), what);
            return;
        }
        if self.input.is_socket_activated {
            let why = "systemd passes the socket of the unit's .socket file, which arctos serves if no address is given";
            self.draft.unneeded(line.shown(), why);
            return;
        }
        for address in &addresses {
            let converted = self::address(address);
            if has_variable(&converted) {
                let comment = "The shell fills this in: write the value here, or give --bind on the command line.";
                self.draft.propose(Setting::Bind, vec![converted], comment.to_owned());
            } else {
                self.draft.add(Setting::Bind, converted);
            }
        }
        if !addresses.is_empty() {
            self.draft.explain_computed(Setting::Bind, line);
            self.draft.same += 1;
        }
    }

    fn workers(&mut self, line: &PeerLine, text: &str) {
        if is_variable(text, "WEB_CONCURRENCY") {
            let why = "arctos reads WEB_CONCURRENCY, too, if --workers is not given";
            self.draft.unneeded(line.shown(), why);
            return;
        }
        self.draft.set(Setting::Workers, vec![text.to_owned()]);
        self.draft.same += 1;
        self.draft.explain_computed(Setting::Workers, line);
        if line.computed.is_some() && !self.is_threaded() {
            let planned = self.draft.planned.entry(Setting::Workers).or_default();
            planned.comments.push(
                "Without this line, arctos starts as many workers as there are CPUs, at least 2, as far as the memory allows."
                    .to_owned(),
            );
        }
    }

    fn worker_class(&mut self, line: &PeerLine, class: &str, instead: &'static str) {
        let lower = class.to_ascii_lowercase();
        if class == "sync" || class.ends_with(".SyncWorker") {
            self.draft.unneeded(line.shown(), "it is the only kind of worker");
        } else if lower.contains("uvicorn") || lower.contains("asgi") || lower.contains("uvloop") {
            self.draft.missing(
                line.shown(),
                "this worker serves an ASGI application, and arctos serves WSGI only: wrap it in \
                 `a2wsgi.ASGIMiddleware(app)`, or keep that server for it",
            );
        } else {
            self.draft.missing(line.shown(), instead);
        }
    }

    fn timeout(&mut self, row: &PeerSetting, line: &PeerLine) {
        let mut plain = *row;
        if self.is_threaded() {
            plain.answer = Answer::Near {
                setting: Setting::Timeout,
                difference: "it limits each request; in gunicorn, with this kind of worker, only the worker itself \
                    has to answer in time",
            };
        }
        plain.unit = Unit::Same;
        self.draft.convert(&plain, line);
    }

    /// Whether `--timeout` of gunicorn limits no request.
    fn is_threaded(&self) -> bool {
        let class = self.text("worker_class").unwrap_or_else(|| "sync".to_owned());
        class != "sync" || self.number("threads").is_some_and(|threads| threads > 1)
    }

    fn size_limit(&mut self, setting: Setting, line: &PeerLine, text: &str) {
        if text == "0" {
            let planned = self.draft.set(setting, vec!["1M".to_owned()]);
            planned.comments.push(format!("{}: no limit; 1M is the maximum.", line.shown()));
            self.draft.near += 1;
        } else {
            self.draft.set(setting, vec![text.to_owned()]);
            self.draft.same += 1;
        }
    }

    fn umask(&mut self, text: &str) {
        let octal =
            text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|it| !it.is_empty()));
        let bits = match octal {
            Some(digits) => u32::from_str_radix(digits, 8),
            None => text.parse(),
        };
        let mask = bits.map_or_else(|_| text.to_owned(), |bits| format!("{bits:04o}"));
        self.draft.set(Setting::Umask, vec![mask]);
        self.draft.same += 1;
    }

    /// Whether gunicorn's umask, which is 0 by default, leaves the permission to write to others.
    fn opens_sockets_to_all(&self) -> bool {
        let mask = self.draft.planned.get(&Setting::Umask).and_then(|mask| mask.values.first());
        let mask = mask.and_then(|mask| u32::from_str_radix(mask, 8).ok());
        mask.unwrap_or(0) & 0o002 == 0
    }

    fn log_level(&mut self, text: &str) {
        let level = match text.to_ascii_lowercase().as_str() {
            "warn" => "warning".to_owned(),
            "fatal" => "critical".to_owned(),
            level => level.to_owned(),
        };
        self.draft.set(Setting::LogLevel, vec![level]);
        self.draft.same += 1;
    }

    fn cert_reqs(&mut self, text: &str) {
        let word = match text {
            "0" => "none",
            "1" => "optional",
            "2" => "required",
            other => other,
        };
        self.draft.set(Setting::CertReqs, vec![word.to_owned()]);
        self.draft.same += 1;
    }

    fn header_map(&mut self, line: &PeerLine, text: &str) {
        match text {
            "dangerous" => self.draft.missing(
                line.shown(),
                "a client could forge any header that a proxy sets; rename headers with `_`, or use `drop`",
            ),
            _ => {
                self.draft.set(Setting::HeaderMap, vec![text.to_owned()]);
                self.draft.same += 1;
            }
        }
    }

    fn hook(&mut self, line: &PeerLine, answer: Answer) {
        let (Answer::Near { setting, .. }, PeerValue::Function(function)) = (answer, &line.value)
        else {
            if let Answer::No { instead } = answer {
                self.draft.missing(line.shown(), instead);
            }
            return;
        };
        let argument =
            if setting == Setting::OnStart { "arctos.Generation" } else { "arctos.Worker" };
        let PeerFunction { module, name, takes_one } = function;
        let option = OptionSpec::of(setting).flag();
        let needs_preload = setting == Setting::PreFork && self.value("preload_app").is_none();
        let path = format!("{}:{name}", module.as_deref().unwrap_or(MODULE));
        let comment = match module {
            None => format!(
                "`{}` is defined in {}: move the function into a module of the application. arctos calls it with one \
                 argument, an `{argument}`.",
                line.name, self.input.file
            ),
            Some(module) if !takes_one => format!(
                "`{module}.{name}` cannot be called with one argument, an `{argument}`, as {option} does: adapt it."
            ),
            Some(_) if needs_preload => {
                format!("{option} requires preload: without it, use post-fork.")
            }
            Some(_) => {
                let planned = self.draft.set(setting, vec![path]);
                planned
                    .comments
                    .push(format!("Difference: it gets one argument, an `{argument}`."));
                self.draft.near += 1;
                return;
            }
        };
        self.draft.propose(setting, vec![path], comment);
        self.draft.near += 1;
    }

    fn concurrency(&mut self) {
        let threads = self.number("threads").filter(|threads| *threads > 1);
        let class = self.text("worker_class").unwrap_or_default();
        if GREEN.iter().any(|green| class.contains(green)) {
            let comment = "Green threads let a worker wait for many requests at once. In arctos, slow clients occupy no \
                worker, but each running request does. Estimate the number from the load: requests per second * \
                seconds per request, and a reserve.";
            match self.draft.planned.get_mut(&Setting::Workers) {
                Some(planned) => planned.comments.push(comment.to_owned()),
                None => self.draft.differs("workers", comment),
            }
        } else if let Some(threads) = threads {
            let workers = self.number("workers");
            set_concurrency(&mut self.draft, Peer::Gunicorn, workers, threads);
        }
    }

    /// Whom gunicorn trusts, and what it reads from them: the scheme, and nothing else that arctos could take.
    fn proxies(&mut self) {
        let list = |value: &PeerValue| value.texts().join(",");
        if let Some(version) = self.value("proxy_protocol").cloned() {
            let version = version.as_text().unwrap_or("auto").to_ascii_lowercase();
            if version != "off" && version != "false" {
                let allowed = self.value("proxy_allow_ips").map_or_else(|| LOCAL.to_owned(), list);
                self.draft.set(Setting::ProxyProtocol, vec![version]).comments.push(
                    "Difference: every connection has to begin with the header; other peers are closed.".to_owned(),
                );
                self.peers(Setting::ProxyAllowFrom, &allowed);
                self.draft.near += 1;
            }
        }
        let given = self.lines.iter().find(|line| line.name == "forwarded_allow_ips").cloned();
        let set =
            given.map(|line| list(&line.value)).or_else(|| self.input.forwarded_allow_ips.clone());
        let addresses = self.value("bind").map(PeerValue::texts).unwrap_or_default();
        let is_unix = addresses.iter().any(|address| address.starts_with("unix:"));
        let local = ["unix:", "127.", "localhost", "[::1]"];
        let is_local = addresses.is_empty()
            || addresses.iter().any(|it| local.iter().any(|prefix| it.starts_with(prefix)));
        let comment = match &set {
            Some(_) => {
                self.draft.near += 1;
                "gunicorn reads only the scheme from these proxies. arctos can also take the client's address, host and \
                 prefix: remove forwarded-headers if your proxy sets or removes all of these headers."
            }
            None if is_local => {
                "gunicorn trusts proxies on this machine by default, and reads only the scheme from them; arctos trusts \
                 nobody. It can also take the client's address, host and prefix: remove forwarded-headers if your proxy \
                 sets or removes all of these headers."
            }
            None => {
                self.draft.differs(
                    "forwarded_allow_ips",
                    "gunicorn trusts 127.0.0.1 and ::1, arctos nobody; behind a proxy, write its addresses or networks: \
                     forwarded-allow-ips = [\"10.0.0.0/8\"]",
                );
                return;
            }
        };
        let mut peers = set.unwrap_or_else(|| LOCAL.to_owned());
        if is_unix && !peers.split(',').any(|peer| peer.trim() == "*") {
            peers.push_str(",unix");
        }
        self.peers(Setting::ForwardedAllowIps, &peers);
        if let Some(planned) = self.draft.planned.get_mut(&Setting::ForwardedAllowIps) {
            planned.comments.push(comment.to_owned());
            self.draft.add(Setting::ForwardedHeaders, "x-forwarded-proto".to_owned());
        }
    }

    fn peers(&mut self, setting: Setting, text: &str) {
        for peer in text.split(',').map(str::trim).filter(|peer| !peer.is_empty()) {
            self.draft.add(setting, peer.to_owned());
        }
    }

    fn defaults(&mut self) {
        if !self.draft.has(Setting::Workers)
            && !self.draft.unneeded.iter().any(|note| note.what.starts_with("workers"))
        {
            self.draft.differs(
                "workers",
                "gunicorn starts 1, arctos as many as there are CPUs, at least 2, as far as the memory allows",
            );
        }
        if !self.draft.has(Setting::KeepAlive) {
            self.draft.differs(
                "keepalive",
                "gunicorn closes a connection after 2 idle seconds, arctos after 75, which has to be longer than the \
                 proxy keeps it",
            );
        }
        if !self.draft.has(Setting::GracefulTimeout) {
            self.draft.differs(
                "graceful_timeout",
                "30 s in gunicorn, 25 s in arctos, which fits into the 30 s that Kubernetes waits",
            );
        }
        if !self.draft.has(Setting::Timeout) && self.is_threaded() {
            self.draft.differs(
                "timeout",
                "gunicorn does not limit requests with this kind of worker, arctos limits each to 30 s: write timeout = 0 \
                 for no limit, or timeout-for for some paths",
            );
        }
        if self.draft.binds_unix_path() && self.opens_sockets_to_all() {
            self.draft.differs(
                "umask",
                "gunicorn lets everybody connect to a unix socket, unless its umask forbids it; unix-socket-mode is 0660, \
                 so the proxy has to be in the socket's group, or set it to \"0666\"",
            );
        }
        if self.draft.has(Setting::MaxRequests) && !self.draft.has(Setting::MaxRequestsJitter) {
            self.draft.differs(
                "max_requests_jitter",
                "0 in gunicorn; arctos adds up to a tenth of max-requests, so that workers are not recycled together",
            );
        }
        if self.draft.has(Setting::StatsdHost) && !self.draft.has(Setting::StatsdPrefix) {
            self.draft.differs(
                "statsd_prefix",
                "empty in gunicorn, `arctos` in arctos; the metrics have other names than gunicorn's: see arctos help metrics",
            );
        }
    }
}

/// Converts an address to the notation of arctos.
fn address(text: &str) -> String {
    const PORT: &str = "8000";
    let text = text.strip_prefix("tcp://").unwrap_or(text);
    if let Some(path) = text.strip_prefix("unix:") {
        return format!("unix:{}", path.strip_prefix("//").unwrap_or(path));
    }
    if text.starts_with("fd://") {
        return text.to_owned();
    }
    match text.rsplit_once(':') {
        None if text.is_empty() => format!("0.0.0.0:{PORT}"),
        None => format!("{text}:{PORT}"),
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some(_) if text.ends_with(']') => format!("{text}:{PORT}"),
        Some(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
