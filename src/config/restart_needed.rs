//! Which settings a reload applies, and which need a restart.
//!
//! A reload applies what a new worker is given, and what the supervisor reads each time it needs it. It leaves what was
//! bound, opened, looked up or handed to every part of the supervisor at the start: a change of half of that would be
//! worse than no change.

use super::options::Setting;
use super::{Config, Logging, Privileges, Watching};
use crate::metrics::statsd::Statsd;

impl Config {
    /// Returns the settings that differ in `new` and that a reload does not apply, in the order of the table.
    ///
    /// Every field is named here, so that nobody can forget a new one. A reload applies those that are `_`.
    pub fn restart_needed(&self, new: &Self) -> Vec<Setting> {
        let Self {
            source: _,
            application: _,
            binds,
            reuse_port,
            listen_mode,
            backlog,
            unix_socket_mode,
            workers: _,
            preload: _,
            limits: _,
            quarantine: _,
            privileges: Privileges { user, group, allow_new_privileges: _, umask },
            name: _,
            pid_file,
            patience: _,
            logging: Logging { level, format, access },
            statsd,
            zone,
            metrics_series,
            admin_binds,
            readiness: _,
            watching,
            tls,
            worker: _,
            effective: _,
        } = self;
        let changes = [
            (*binds != new.binds, Setting::Bind),
            (*reuse_port != new.reuse_port, Setting::ReusePort),
            (*listen_mode != new.listen_mode, Setting::ListenMode),
            (*backlog != new.backlog, Setting::Backlog),
            (*unix_socket_mode != new.unix_socket_mode, Setting::UnixSocketMode),
            (*admin_binds != new.admin_binds, Setting::AdminBind),
            // Old and new workers serve the same sockets: either all of them speak TLS, or none.
            (tls.is_some() != new.tls.is_some(), Setting::Certfile),
            // The sockets belong to them, and the user database was read once.
            (*user != new.privileges.user, Setting::User),
            (*group != new.privileges.group, Setting::Group),
            (*umask != new.privileges.umask, Setting::Umask),
            (*pid_file != new.pid_file, Setting::Pid),
            // Every part of the supervisor has a copy of the log.
            (*level != new.logging.level, Setting::LogLevel),
            (*format != new.logging.format, Setting::LogFormat),
            (*access != new.logging.access, Setting::AccessLogfile),
            (*zone != new.zone, Setting::Zone),
            // The memory of the series was mapped at the start.
            (*metrics_series != new.metrics_series, Setting::MetricsSeries),
        ];
        let changes = changes.into_iter().chain(statsd_changes(statsd.as_ref(), new));
        let changes = changes.chain(watching_changes(watching.as_ref(), new.watching.as_ref()));
        let mut settings: Vec<_> =
            changes.filter(|(is_changed, _)| *is_changed).map(|(_, setting)| setting).collect();
        settings.sort();
        settings
    }
}

fn watching_changes(old: Option<&Watching>, new: Option<&Watching>) -> Vec<(bool, Setting)> {
    let (Some(old), Some(new)) = (old, new) else {
        return vec![(old.is_some() != new.is_some(), Setting::Reload)];
    };
    vec![
        (old.engine != new.engine, Setting::ReloadEngine),
        (old.extra != new.extra, Setting::ReloadExtra),
    ]
}

fn statsd_changes(old: Option<&Statsd>, new: &Config) -> Vec<(bool, Setting)> {
    let (Some(old), Some(new)) = (old, new.statsd.as_ref()) else {
        return vec![(old.is_some() != new.statsd.is_some(), Setting::StatsdHost)];
    };
    let Statsd {
        target,
        prefix,
        interval,
        format,
        worker_tag,
        zone: _, // the zone of the configuration, compared there
        tags,
        external_env,
    } = old;
    vec![
        (*external_env != new.external_env, Setting::Statsd),
        (*target != new.target, Setting::StatsdHost),
        (*prefix != new.prefix, Setting::StatsdPrefix),
        (*interval != new.interval, Setting::StatsdInterval),
        (*format != new.format, Setting::StatsdFormat),
        (*worker_tag != new.worker_tag, Setting::StatsdWorkerTag),
        (*tags != new.tags, Setting::DogstatsdTags),
    ]
}

#[cfg(test)]
mod tests {
    use arctos_worker::settings::{CertificatePair, ClientCertificates, TlsFiles};
    use nix::unistd::{Gid, Uid};

    use super::super::Source;
    use super::*;
    use crate::config::options::{OPTIONS, OptionSpec};
    use crate::system::environment::Environment;

    /// A configuration of these options, on top of one that sends metrics.
    fn config(options: &[(Setting, &str)]) -> Config {
        let ours = [
            (Setting::Application, "shop:app"),
            (Setting::StatsdHost, "a"),
            (Setting::Reload, "on"),
        ];
        let all = ours.iter().chain(options);
        let given = all.map(|(setting, value)| (*setting, vec![(*value).into()]));
        Source::of_command_line(given, Environment::default()).unwrap().read().unwrap()
    }

    /// A value that differs from the default of an option; `None` for options that need root or another option.
    fn other(option: &OptionSpec) -> Option<&'static str> {
        use Setting as S;
        Some(match option.setting {
            S::User | S::Group | S::Config | S::PreFork | S::ProxyProtocol => return None,
            // They need each other.
            S::Certfile | S::Keyfile | S::CaCerts | S::CertReqs => return None,
            S::Application | S::Name | S::StatsdPrefix | S::Zone => "other",
            S::DogstatsdTags | S::OnStart | S::PostFork | S::WorkerReady | S::WorkerExit => "a:b",
            S::Env => "A=1",
            S::Chdir | S::PythonPath | S::ReloadCheck | S::SendfileRoot | S::ReloadExtra => "/",
            S::BodyTempDir => ".",
            S::Static => "/s=/",
            S::AccessLogformat => "combined",
            S::RequestIdHeader => "X-Request-Id",
            S::AccessLogSample => "0.5",
            S::AccessLogExclude => "/s",
            S::TimeoutFor => "/s=1",
            S::Quarantine => "3/60s",
            S::RootPath | S::Pid | S::AccessLogfile => "/other",
            S::Bind | S::AdminBind => "127.0.0.1:0",
            S::ListenMode => "per-slot",
            S::ReloadEngine => "poll",
            S::UnixSocketMode | S::Umask => "0600",
            S::Factory | S::Statsd | S::ServerHeader | S::StatsdWorkerTag | S::Reload => "off",
            S::ReusePort
            | S::Debug
            | S::Preload
            | S::AllowNewPrivileges
            | S::AbandonOnHalfClose => "on",
            S::HeaderMap => "refuse",
            S::KeepaliveMode => "shared",
            S::ForwardedAllowIps | S::ProxyAllowFrom => "unix",
            S::ForwardedHeaders => "x-forwarded-for",
            S::LogLevel => "error",
            S::LogFormat => "json",
            S::StatsdFormat => "plain",
            S::StatsdHost => "b",
            S::MaxRss | S::LimitRequestLine => "1M",
            S::Backlog
            | S::ReadyMaxBacklog
            | S::ReadyMinWorkers
            | S::MaxConnections
            | S::Workers
            | S::MaxRequests
            | S::MaxRequestsJitter
            | S::MaxLifetime
            | S::Timeout
            | S::TimeoutGrace
            | S::GracefulTimeout
            | S::DrainDelay
            | S::BootTimeout
            | S::KeepAlive
            | S::HeaderTimeout
            | S::BodyTimeout
            | S::BodyMinRate
            | S::WriteTimeout
            | S::MaxQueueTime
            | S::SlowRequest
            | S::LimitRequestFields
            | S::LimitRequestFieldSize
            | S::LimitRequestHead
            | S::LimitRequestBody
            | S::BodyMemory
            | S::BodyMemoryTotal
            | S::MaxRequestsPerConnection
            | S::MetricsSeries
            | S::StatsdInterval => "66",
        })
    }

    #[test]
    fn each_option_is_applied_by_a_reload_or_named() {
        let old = config(&[(Setting::GracefulTimeout, "70")]);
        assert_eq!(old.restart_needed(&old.source.read().unwrap()), []);
        let mut named = Vec::new();
        for option in OPTIONS {
            let Some(value) = other(option) else { continue };
            let new = config(&[(Setting::GracefulTimeout, "70"), (option.setting, value)]);
            let settings = old.restart_needed(&new);
            assert_eq!(settings, new.restart_needed(&old), "{}", option.long);
            named.extend(settings.into_iter().map(|setting| OptionSpec::of(setting).long));
        }
        named.sort_unstable();
        named.dedup();
        assert_eq!(
            named,
            [
                "access-logfile",
                "admin-bind",
                "backlog",
                "bind",
                "dogstatsd-tags",
                "listen-mode",
                "log-format",
                "log-level",
                "metrics-series",
                "pid",
                "reload",
                "reload-engine",
                "reload-extra",
                "reuse-port",
                "statsd-format",
                "statsd-host",
                "statsd-interval",
                "statsd-prefix",
                "statsd-worker-tag",
                "umask",
                "unix-socket-mode",
                "zone",
            ]
        );
    }

    #[test]
    fn a_change_of_user_or_group_needs_a_restart() {
        let old = config(&[]);
        let mut new = old.clone();
        new.privileges.user = Some(Uid::from_raw(12345));
        new.privileges.group = Some(Gid::from_raw(12345));
        assert_eq!(old.restart_needed(&new), [Setting::User, Setting::Group]);
    }

    #[test]
    fn tls_is_turned_on_or_off_by_a_restart_only_but_a_reload_reads_other_files() {
        let pair = |name: &str| CertificatePair { certificate: name.into(), key: name.into() };
        let files = |name| TlsFiles {
            pairs: vec![pair(name)],
            ca_certs: None,
            client_certificates: ClientCertificates::None,
        };
        let with = |files| Config { tls: files, ..config(&[]) };
        let (plain, old, new) = (with(None), with(Some(files("a"))), with(Some(files("b"))));
        assert_eq!(plain.restart_needed(&old), [Setting::Certfile]);
        assert_eq!(old.restart_needed(&plain), [Setting::Certfile]);
        assert_eq!(old.restart_needed(&new), []);
    }

    #[test]
    fn settings_that_need_a_restart_are_in_the_order_of_the_table() {
        let (old, new) = (config(&[]), config(&[(Setting::Zone, "z"), (Setting::Backlog, "9")]));
        assert_eq!(old.restart_needed(&new), [Setting::Backlog, Setting::Zone]);
    }

    #[test]
    fn starting_or_stopping_metrics_is_named_statsd_host() {
        let (old, new) = (config(&[]), config(&[(Setting::Statsd, "off")]));
        assert_eq!(old.restart_needed(&new), [Setting::StatsdHost]);
        assert_eq!(new.restart_needed(&old), [Setting::StatsdHost]);
        assert_eq!(new.restart_needed(&new), []);
    }
}
