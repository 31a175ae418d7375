//! The Datadog agent and its tags, as `DD_*` variables name them. They are read with `--statsd auto` only.

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::wrong;
use super::value::{Kind, Whole, bounded};
use crate::metrics::statsd::{self, PORT, TagList, Target, tag, tags};
use crate::system::environment::Environment;

const URL: &str = "DD_DOGSTATSD_URL";
const HOST: &str = "DD_AGENT_HOST";
const PORT_OF_HOST: &str = "DD_DOGSTATSD_PORT";
const TAGS: &str = "DD_TAGS";
const EXTERNAL_ENV: &str = "DD_EXTERNAL_ENV";
/// Variables that hold the value of one tag, with the key of that tag.
const TAG_VARIABLES: [(&str, &str); 4] = [
    ("DD_ENV", "env"),
    ("DD_SERVICE", "service"),
    ("DD_VERSION", "version"),
    ("DD_ENTITY_ID", "dd.internal.entity_id"),
];

/// Returns the address of the agent, if the environment names one.
pub(super) fn target(environment: &Environment) -> Result<Option<(Target, Origin)>, ConfigError> {
    if let Some(url) = text(environment, Setting::StatsdHost, URL)? {
        let target = target_of_url(url).ok_or_else(|| {
            let expected = "udp://HOST:PORT or unix:///path, such as udp://127.0.0.1:8125";
            refused(Setting::StatsdHost, URL, url, expected)
        })?;
        return Ok(Some((target, origin(URL))));
    }
    let host = text(environment, Setting::StatsdHost, HOST)?;
    let digits = text(environment, Setting::StatsdHost, PORT_OF_HOST)?;
    let port = match digits {
        Some(digits) => {
            let ports = Whole { min: 1, max: u64::from(u16::MAX) };
            let refused = || refused(Setting::StatsdHost, PORT_OF_HOST, digits, &ports.expected());
            bounded(ports.read(digits).ok_or_else(refused)?)
        }
        None => PORT,
    };
    match (host, digits) {
        (Some(host), _) => {
            let target = target_of_host(host, port).ok_or_else(|| {
                let expected =
                    "the host name or address of the agent; its port is set in DD_DOGSTATSD_PORT";
                refused(Setting::StatsdHost, HOST, host, expected)
            })?;
            let names = if digits.is_some() { vec![HOST, PORT_OF_HOST] } else { vec![HOST] };
            Ok(Some((target, Origin::Environment(names.join(", ")))))
        }
        // Datadog's own clients then assume that the agent is local.
        (None, Some(_)) => {
            let target = Target::Udp { host: "127.0.0.1".to_owned(), port };
            Ok(Some((target, origin(PORT_OF_HOST))))
        }
        (None, None) => Ok(None),
    }
}

fn target_of_url(url: &str) -> Option<Target> {
    match url.strip_prefix("udp://") {
        Some(address) => address.parse().ok().filter(|target| matches!(target, Target::Udp { .. })),
        None => url.parse().ok().filter(|_| url.starts_with("unix:")),
    }
}

fn target_of_host(host: &str, port: u16) -> Option<Target> {
    let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let host = if is_bare_ipv6 { format!("[{host}]") } else { host.to_owned() };
    format!("{host}:{port}").parse().ok()
}

/// Returns the tags of each variable, in the order of precedence: the first tag of a key wins.
pub(super) fn tag_lists(environment: &Environment) -> Result<Vec<(TagList, Origin)>, ConfigError> {
    let mut lists = Vec::new();
    for (variable, key) in TAG_VARIABLES {
        if let Some(text) = text(environment, Setting::DogstatsdTags, variable)? {
            let tags = tag(key, text).into_iter().collect();
            lists.push((TagList { zone: None, tags }, origin(variable)));
        }
    }
    if let Some(text) = text(environment, Setting::DogstatsdTags, TAGS)? {
        // Datadog allows both notations. In a text with commas, a space is a part of a tag.
        let is_spaced = !text.contains(',');
        let spaced = || text.split_whitespace().collect::<Vec<_>>().join(",");
        let list = if is_spaced { tags(&spaced()) } else { tags(text) };
        lists.push((list, origin(TAGS)));
    }
    Ok(lists)
}

/// Returns what the agent's admission controller says about this container.
pub(super) fn external_env(environment: &Environment) -> Result<Option<String>, ConfigError> {
    Ok(text(environment, Setting::Statsd, EXTERNAL_ENV)?.and_then(statsd::external_env))
}

fn text<'a>(
    environment: &'a Environment,
    setting: Setting,
    variable: &str,
) -> Result<Option<&'a str>, ConfigError> {
    let Some(value) = environment.value(variable) else { return Ok(None) };
    let text = value.to_str();
    let refused = || wrong(setting, &origin(variable), value, "text in UTF-8".to_owned());
    Ok(Some(text.ok_or_else(refused)?))
}

fn origin(variable: &str) -> Origin {
    Origin::Environment(variable.to_owned())
}

fn refused(setting: Setting, variable: &str, text: &str, expected: &str) -> ConfigError {
    wrong(setting, &origin(variable), text.as_ref(), expected.to_owned())
}
