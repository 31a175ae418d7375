//! The access log (`--access-logfile` and the options about its lines).

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;

use arctos_worker::settings::{AccessFormat, AccessLogSettings, Facility, Share, SyslogSettings};

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::file_in_directory;
use super::reader::{Reader, wrong};
use super::value::{Kind, Whole};
use crate::system::address::BindAddress;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// There is none.
    Off,
    /// Standard output (`-`).
    Stdout,
    /// A file, appended to.
    File(PathBuf),
    /// An inherited descriptor (`fd://N`).
    Fd(RawFd),
    /// A daemon that collects logs.
    Syslog(SyslogAddress),
}

/// The address of a syslog daemon, which receives datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum SyslogAddress {
    Unix(PathBuf),
    Udp { host: String, port: u16 },
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "syslog://{}", path.display()),
            Self::Udp { host, port } if host.contains(':') => write!(f, "syslog://[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "syslog://{host}:{port}"),
        }
    }
}

const SYSLOG: &str = "syslog://";
/// RFC 5426 §3.3.
const SYSLOG_PORT: u16 = 514;
/// RFC 5424 §6.2.5.
const TAG_BYTES: usize = 48;
const DESCRIPTOR: &str = "the number of an inherited descriptor, such as fd://3";
const SYSLOG_FORM: &str = "syslog:///PATH or syslog://HOST:PORT, such as syslog:///dev/log, and \
                           ?facility=NAME&tag=NAME where needed";
const TAG_FORM: &str = "a tag of letters, digits, `_`, `-` and `.`, at most 48";
const EXCLUDED: &str =
    "a path such as /healthz: below the root, without `.`, `..`, `?` or `%` in it";

/// Reads where the access log goes, and what its lines are. `name` is that of the processes.
pub(super) fn access_log(
    reader: &mut Reader<'_>,
    name: Option<&str>,
) -> Result<(AccessLog, AccessLogSettings), ConfigError> {
    let (target, syslog) = target(reader, name)?;
    let format = format(reader)?;
    let sample = reader.one(Setting::AccessLogSample, Shares)?;
    let excluded = excluded(reader)?;
    Ok((target, AccessLogSettings { format, sample, excluded, syslog }))
}

fn target(
    reader: &mut Reader<'_>,
    name: Option<&str>,
) -> Result<(AccessLog, SyslogSettings), ConfigError> {
    let tag = name.filter(|name| is_tag(name));
    let default = SyslogSettings::default();
    let usual = SyslogSettings { tag: tag.map_or(default.tag, str::to_owned), ..default };
    let Some((text, origin)) = reader.last(Setting::AccessLogfile) else {
        reader.note(Setting::AccessLogfile, String::new(), Origin::Default);
        return Ok((AccessLog::Off, usual));
    };
    let refused = |expected: String| wrong(Setting::AccessLogfile, origin, text, expected);
    let known = text.to_str().unwrap_or_default();
    let (target, syslog, shown) = if known == "-" {
        (AccessLog::Stdout, usual, "- (standard output)".to_owned())
    } else if let Some(number) = known.strip_prefix("fd://") {
        let number = number.parse::<u16>().ok().map(RawFd::from).filter(|number| *number > 0);
        let number = number.ok_or_else(|| refused(DESCRIPTOR.to_owned()))?;
        (AccessLog::Fd(number), usual, known.to_owned())
    } else if let Some(address) = known.strip_prefix(SYSLOG) {
        let (address, syslog) = syslog(address, usual).map_err(refused)?;
        (AccessLog::Syslog(address), syslog, known.to_owned())
    } else {
        let path = file_in_directory(reader, Setting::AccessLogfile)?;
        return Ok((path.map_or(AccessLog::Off, AccessLog::File), usual));
    };
    reader.note(Setting::AccessLogfile, shown, origin.clone());
    Ok((target, syslog))
}

/// Reads what follows `syslog://`.
fn syslog(text: &str, usual: SyslogSettings) -> Result<(SyslogAddress, SyslogSettings), String> {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let mut syslog = usual;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("facility", word)) => {
                let words = || Facility::ALL.map(|(word, _)| word).join(", ");
                let expected = || format!("a facility of {}", words());
                syslog.facility = Facility::of(word).ok_or_else(expected)?;
            }
            Some(("tag", tag)) if is_tag(tag) => tag.clone_into(&mut syslog.tag),
            Some(("tag", _)) => return Err(TAG_FORM.to_owned()),
            Some(_) | None => return Err(SYSLOG_FORM.to_owned()),
        }
    }
    if address.starts_with('/') && !address.ends_with('/') {
        return Ok((SyslogAddress::Unix(PathBuf::from(address)), syslog));
    }
    // The notation of --bind, but with a port of its own where there is none.
    let has_port = address.rsplit_once(':').is_some_and(|(host, _)| {
        !host.contains(':') || (host.starts_with('[') && host.ends_with(']'))
    });
    let whole = if has_port { address.to_owned() } else { format!("{address}:{SYSLOG_PORT}") };
    match whole.parse() {
        Ok(BindAddress::Tcp { host, port }) if !host.is_empty() && port > 0 => {
            Ok((SyslogAddress::Udp { host, port }, syslog))
        }
        Ok(_) | Err(_) => Err(SYSLOG_FORM.to_owned()),
    }
}

/// Whether a daemon can tell the tag from what follows it.
fn is_tag(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=TAG_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

fn format(reader: &mut Reader<'_>) -> Result<Option<AccessFormat>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::AccessLogformat) else {
        reader.note(Setting::AccessLogformat, String::new(), Origin::Default);
        return Ok(None);
    };
    let refused = |expected: String| wrong(Setting::AccessLogformat, origin, text, expected);
    let known = text.to_str().ok_or_else(|| refused("text in UTF-8".to_owned()))?;
    let format: AccessFormat = known.parse().map_err(|error| refused(format!("{error}")))?;
    reader.note(Setting::AccessLogformat, known.to_owned(), origin.clone());
    Ok(Some(format))
}

fn excluded(reader: &mut Reader<'_>) -> Result<Vec<String>, ConfigError> {
    let excluded: Vec<String> = reader.many(Setting::AccessLogExclude, |text| {
        let path = text.strip_suffix('/').unwrap_or(text);
        if is_path(path) { Ok(path.to_owned()) } else { Err(EXCLUDED.to_owned()) }
    })?;
    let given = reader.given(Setting::AccessLogExclude);
    let origin = given.map_or(Origin::Default, |given| given.origin.clone());
    reader.note(Setting::AccessLogExclude, excluded.join(", "), origin);
    Ok(excluded)
}

/// Whether this can be the start of the decoded path of a request.
fn is_path(path: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let is_plain = |c: char| !c.is_control() && !"?#\\%".contains(c);
    let below = path.strip_prefix('/').unwrap_or_default();
    below.split('/').all(is_part) && path.chars().all(is_plain)
}

/// A share of the requests: `0.01`, or `1%`.
struct Shares;

impl Shares {
    const BILLION: Whole = Whole { min: 0, max: 1_000_000_000 };
}

impl Kind for Shares {
    type Value = Share;

    fn read(&self, text: &str) -> Option<Share> {
        let (number, places) = match text.strip_suffix('%') {
            Some(number) => (number, 7),
            None => (text, 9),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if fraction.is_empty() || fraction.len() > places {
            return None;
        }
        // The digits of the number in billionths, in integers, so that no float rounds it.
        let digits = format!("{whole}{fraction:0<places$}");
        let billionths = (!whole.is_empty()).then(|| Self::BILLION.read(&digits)).flatten()?;
        Share::of_billionths(u32::try_from(billionths).ok()?)
    }

    fn expected(&self) -> String {
        "a share from 0 to 1, or from 0% to 100%, such as 0.01 or 1%".to_owned()
    }

    fn show(&self, value: &Share) -> String {
        let text = format!("{:010}", value.billionths());
        let (whole, fraction) = text.split_at(1);
        format!("{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::settings::Field;

    use super::*;
    use crate::config::{Config, Source};
    use crate::system::environment::Environment;

    fn read(options: &[(Setting, &str)]) -> Result<Config, ConfigError> {
        let all = [(Setting::Application, "shop:app")].into_iter().chain(options.iter().copied());
        let given = all.map(|(setting, value)| (setting, vec![value.into()]));
        Source::of_command_line(given, Environment::default())?.read()
    }

    fn target_of(text: &str) -> AccessLog {
        read(&[(Setting::AccessLogfile, text)]).unwrap().logging.access
    }

    fn refusal(setting: Setting, text: &str) -> String {
        let error = read(&[(setting, text)]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn the_access_log_goes_to_a_file_a_descriptor_or_a_daemon() {
        assert_eq!(read(&[]).unwrap().logging.access, AccessLog::Off);
        assert_eq!(target_of("-"), AccessLog::Stdout);
        assert_eq!(target_of("/tmp/access.log"), AccessLog::File("/tmp/access.log".into()));
        assert_eq!(target_of("fd://3"), AccessLog::Fd(3));
        for (text, shown) in [
            ("syslog:///dev/log", "syslog:///dev/log"),
            ("syslog://127.0.0.1:5140", "syslog://127.0.0.1:5140"),
            ("syslog://logs", "syslog://logs:514"),
            ("syslog://[::1]", "syslog://[::1]:514"),
            ("syslog://[::1]:515", "syslog://[::1]:515"),
            ("syslog://logs:515?facility=local0", "syslog://logs:515"),
        ] {
            let AccessLog::Syslog(address) = target_of(text) else { panic!("{text}") };
            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn a_message_to_syslog_has_a_facility_and_a_tag() {
        let syslog = |options: &[(Setting, &str)]| read(options).unwrap().worker.access_log.syslog;
        let (file, to) = (Setting::AccessLogfile, "syslog:///dev/log?facility=local3&tag=web-1.a");
        let given = syslog(&[(file, to)]);
        assert_eq!(
            (given.facility, given.tag.as_str()),
            (Facility::of("local3").unwrap(), "web-1.a")
        );
        assert_eq!(syslog(&[(file, "syslog:///dev/log")]), SyslogSettings::default());
        assert_eq!(syslog(&[(file, "syslog:///dev/log"), (Setting::Name, "shop")]).tag, "shop");
        assert_eq!(
            syslog(&[(file, "syslog:///dev/log"), (Setting::Name, "my shop")]).tag,
            "arctos"
        );
    }

    #[test]
    fn a_target_that_cannot_be_is_refused() {
        let file = Setting::AccessLogfile;
        for (text, expected) in [
            ("fd://", DESCRIPTOR),
            ("fd://0", DESCRIPTOR),
            ("fd://x", DESCRIPTOR),
            ("syslog://", SYSLOG_FORM),
            ("syslog:///", SYSLOG_FORM),
            ("syslog://:514", SYSLOG_FORM),
            ("syslog://a:0", SYSLOG_FORM),
            ("syslog://::1", SYSLOG_FORM),
            ("syslog://a:b", SYSLOG_FORM),
            ("syslog:///dev/log?severity=info", SYSLOG_FORM),
            ("syslog:///dev/log?tag=a b", TAG_FORM),
            ("syslog:///dev/log?tag=", TAG_FORM),
            ("syslog:///dev/log?facility=local8", "a facility of kern, user, mail"),
        ] {
            let error = refusal(file, text);
            let start = format!("--access-logfile '{text}': expected {expected}");
            assert!(error.starts_with(&start), "{error}");
        }
    }

    #[test]
    fn a_format_that_is_none_is_refused_with_the_place() {
        let error = refusal(Setting::AccessLogformat, "%(h)s %(x)s");
        assert!(error.starts_with("--access-logformat '%(h)s %(x)s': expected an atom"), "{error}");
        assert!(error.ends_with(", not \"%(x)s\" at character 7"), "{error}");
    }

    #[test]
    fn the_guide_explains_every_field() {
        let guide = include_str!("../guide/logs.md");
        let rows: Vec<_> =
            Field::ALL.iter().map(|(_, n, is)| format!("| `{n}` | {is} |")).collect();
        assert!(guide.contains(&rows.join("\n")), "it should have:\n{}", rows.join("\n"));
        assert_eq!(Field::ALL.map(|(field, ..)| field)[..Field::JSON.len()], Field::JSON);
    }

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        for (text, shown) in [
            ("1", "1"),
            ("0", "0"),
            ("0.01", "0.01"),
            ("1%", "0.01"),
            ("100%", "1"),
            ("12.5%", "0.125"),
            ("0.000000001", "0.000000001"),
            ("1.0", "1"),
        ] {
            let share = Shares.read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(Shares.show(&share), shown);
        }
        for text in ["", "%", "2", "1.1", "101%", "-1", ".5", "1.", "0.0000000001", "a", "1e-2"] {
            let error = refusal(Setting::AccessLogSample, text);
            assert!(error.contains("expected a share from 0 to 1"), "{error}");
        }
    }

    #[test]
    fn excluded_paths_are_below_the_root() {
        let given = |text: &str| read(&[(Setting::AccessLogExclude, text)]);
        assert_eq!(given("/healthz/").unwrap().worker.access_log.excluded, ["/healthz"]);
        for text in ["/", "healthz", "", "/a//b", "/a/../b", "/a?b", "/%61"] {
            let error = refusal(Setting::AccessLogExclude, text);
            assert!(error.ends_with(EXCLUDED), "{error}");
        }
    }

    #[test]
    fn a_reload_applies_what_the_lines_are_but_not_where_they_go() {
        let old = read(&[(Setting::AccessLogfile, "-")]).unwrap();
        let new = read(&[
            (Setting::AccessLogfile, "-"),
            (Setting::AccessLogformat, "combined"),
            (Setting::AccessLogSample, "1%"),
            (Setting::AccessLogExclude, "/healthz"),
        ]);
        assert_eq!(old.restart_needed(&new.unwrap()), []);
        let other = read(&[(Setting::AccessLogfile, "syslog:///dev/log")]).unwrap();
        assert_eq!(old.restart_needed(&other), [Setting::AccessLogfile]);
    }
}
