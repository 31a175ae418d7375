//! Where metrics are sent and in which format: `--statsd*`, `--dogstatsd-tags`, `--zone` and, with `--statsd auto`,
//! the `DD_*` variables, which the options override.
//!
//! Nothing that was given is ignored silently: options that contradict each other are refused, and the effective
//! configuration shows what was sanitized or decided here.

use std::ffi::OsStr;
use std::time::Duration;

use super::datadog;
use super::error::ConfigError;
use super::options::{OptionSpec, Setting};
use super::origin::Origin;
use super::reader::{Reader, wrong};
use super::value::{Choice, Kind, Span, Switch, Whole};
use crate::metrics::statsd::{
    self, Format, PREFIX_MAX_CHARS, Statsd, TAGS_MAX_BYTES, TagList, Target, tag_bytes,
};
use crate::system::environment::Environment;

/// The options of metrics.
pub(super) struct Metrics {
    pub(super) statsd: Option<Statsd>,
    pub(super) zone: Option<String>,
    pub(super) series: u64,
}

/// `--metrics-series`. Each worker has an area for as many: at the maximum, 24 GB of addresses for 100 workers. Only series
/// that exist take memory.
const SERIES: Whole = Whole { min: 1, max: 100_000 };

/// `--statsd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    On,
    Off,
    Auto,
}

const SENDING: Choice<Sending> =
    Choice(&[("on", Sending::On), ("off", Sending::Off), ("auto", Sending::Auto)]);
/// `None` is `auto`.
const FORMAT: Choice<Option<Format>> = Choice(&[
    ("dogstatsd", Some(Format::Dogstatsd)),
    ("plain", Some(Format::Plain)),
    ("auto", None),
]);
const INTERVAL: Span =
    Span { min: Duration::from_millis(100), max: Duration::from_secs(3600), allows_zero: false };
/// The key of the tag that `--statsd-worker-tag` adds.
const WORKER: &str = "worker";

/// The tags of all lines, and the zone that was among them.
struct Tags {
    tags: Vec<String>,
    origin: Origin,
    zone: Option<(String, Origin)>,
}

/// Reads the options of metrics. With an admin socket (`has_admin`), a zone is of use even if no tag is sent.
pub(super) fn metrics(
    reader: &mut Reader<'_>,
    environment: &Environment,
    has_admin: bool,
) -> Result<Metrics, ConfigError> {
    let sending = reader.one(Setting::Statsd, SENDING)?;
    // Without `auto`, these variables can neither be wrong nor change anything.
    let silence = Environment::default();
    let datadog = match sending {
        Sending::Auto => environment,
        Sending::On | Sending::Off => &silence,
    };
    let given = given_target(reader)?;
    let found = if given.is_none() { datadog::target(datadog)? } else { None };
    let external_env = datadog::external_env(datadog)?;
    let is_datadog = found.is_some() || external_env.is_some();
    let target = noted_target(reader, given.or(found));
    let prefix = reader.one(Setting::StatsdPrefix, Prefix)?;
    let interval = reader.one(Setting::StatsdInterval, INTERVAL)?;

    let (asked, format_origin) = reader.look_or_default(Setting::StatsdFormat, &FORMAT)?;
    let is_plain = asked == Some(Format::Plain);
    if is_plain {
        nothing_to_tag(reader, has_admin)?;
    }
    let worker_tag = worker_tag(reader, is_plain)?;
    let Tags { tags, origin, zone } = tags(reader, datadog, worker_tag)?;
    let zone = noted_zone(reader, zone)?;
    let automatic = || statsd::format(worker_tag, zone.as_deref(), &tags);
    let datadogs = is_datadog.then_some(Format::Dogstatsd);
    let format = asked.or(datadogs).unwrap_or_else(automatic);
    let origin = match format {
        Format::Plain if !tags.is_empty() => Origin::Because(Setting::StatsdFormat),
        Format::Plain | Format::Dogstatsd => origin,
    };
    let (tags, tag_zone, external_env) = match format {
        Format::Dogstatsd => (tags, zone.clone(), external_env),
        Format::Plain => (Vec::new(), None, None),
    };
    // Name and value need the rest of a datagram.
    let bytes = tag_bytes(tag_zone.as_deref(), &tags, external_env.as_deref());
    if bytes > TAGS_MAX_BYTES {
        return Err(ConfigError::LongTags { origin, bytes, max_bytes: TAGS_MAX_BYTES });
    }
    let shown = FORMAT.show(&Some(format));
    let shown = if asked.is_none() { format!("auto ({shown})") } else { shown };
    reader.note(Setting::StatsdFormat, shown, format_origin);
    reader.note(Setting::DogstatsdTags, tags.join(","), origin);
    let target = target.filter(|_| sending != Sending::Off);
    let statsd = target.map(|target| Statsd {
        target,
        prefix,
        interval,
        format,
        worker_tag,
        zone: tag_zone,
        tags,
        external_env,
    });
    let series = reader.one(Setting::MetricsSeries, SERIES)?;
    Ok(Metrics { statsd, zone, series })
}

fn given_target(reader: &Reader<'_>) -> Result<Option<(Target, Origin)>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::StatsdHost) else { return Ok(None) };
    let target = text.to_str().unwrap_or_default().parse::<Target>();
    let target =
        target.map_err(|error| wrong(Setting::StatsdHost, origin, text, error.to_string()))?;
    Ok(Some((target, origin.clone())))
}

fn noted_target(reader: &mut Reader<'_>, target: Option<(Target, Origin)>) -> Option<Target> {
    let (target, origin) = target.unzip();
    let shown = target.as_ref().map(Target::to_string).unwrap_or_default();
    reader.note(Setting::StatsdHost, shown, origin.unwrap_or(Origin::Default));
    target
}

/// Refuses `plain` if a tag was asked for: that format has none, so the tag would be lost.
fn nothing_to_tag(reader: &Reader<'_>, has_admin: bool) -> Result<(), ConfigError> {
    let list = reader.look(Setting::DogstatsdTags, &List)?.map(|(list, _)| list);
    let list = list.unwrap_or_default();
    let zone = reader.look(Setting::Zone, &Zone)?.and_then(|(zone, _)| zone);
    let worker_tag = reader.look(Setting::StatsdWorkerTag, &Switch)?;
    let lost = if !list.tags.is_empty() || (list.zone.is_some() && !has_admin) {
        Setting::DogstatsdTags
    } else if zone.is_some() && !has_admin {
        Setting::Zone
    } else if matches!(worker_tag, Some((true, _))) {
        Setting::StatsdWorkerTag
    } else {
        return Ok(());
    };
    let expected = format!("dogstatsd or auto: {} adds tags", OptionSpec::of(lost).flag());
    let plain = (OsStr::new("plain"), &Origin::Default);
    let (text, origin) = reader.last(Setting::StatsdFormat).unwrap_or(plain);
    Err(wrong(Setting::StatsdFormat, origin, text, expected))
}

fn worker_tag(reader: &mut Reader<'_>, is_plain: bool) -> Result<bool, ConfigError> {
    if is_plain && reader.given(Setting::StatsdWorkerTag).is_none() {
        let origin = Origin::Because(Setting::StatsdFormat);
        reader.note(Setting::StatsdWorkerTag, Switch.show(&false), origin);
        return Ok(false);
    }
    reader.switch(Setting::StatsdWorkerTag)
}

/// Returns the given tags and those of `DD_*`. Of two tags with the same key, the given one stays.
fn tags(reader: &Reader<'_>, datadog: &Environment, worker_tag: bool) -> Result<Tags, ConfigError> {
    let is_ours = |tag: &String| worker_tag && has_key(tag, WORKER);
    let given = reader.look(Setting::DogstatsdTags, &List)?;
    if let (Some((text, origin)), Some((list, _))) = (reader.last(Setting::DogstatsdTags), &given)
        && list.tags.iter().any(is_ours)
    {
        let expected = "tags without the key worker, which --statsd-worker-tag on adds";
        return Err(wrong(Setting::DogstatsdTags, origin, text, expected.to_owned()));
    }
    let (mut tags, mut zone) = (Vec::<String>::new(), None);
    let mut origins: Vec<_> = given.iter().map(|(_, origin)| origin.clone()).collect();
    for (list, origin) in given.into_iter().chain(datadog::tag_lists(datadog)?) {
        zone = zone.or(list.zone.map(|zone| (zone, origin.clone())));
        let is_taken = |tag: &String| tags.iter().any(|other| has_key(other, key(tag)));
        let more = list.tags.into_iter().filter(|tag| !is_ours(tag) && !is_taken(tag));
        let more: Vec<_> = more.collect();
        if !more.is_empty() && !origins.contains(&origin) {
            origins.push(origin);
        }
        tags.extend(more);
    }
    let origin = match origins.len() {
        0 => Origin::Default,
        1 => origins.remove(0),
        _ => Origin::Several(origins),
    };
    Ok(Tags { tags, origin, zone })
}

/// Whether a tag has this key, in upper or lower case: Datadog converts all keys to lower case.
fn has_key(tag: &str, wanted: &str) -> bool {
    key(tag).eq_ignore_ascii_case(wanted)
}

fn key(tag: &str) -> &str {
    tag.split_once(':').map_or(tag, |(key, _)| key)
}

/// Returns the zone. `--zone`, even an empty one, overrides the zone among the tags, which may come from a shared file.
fn noted_zone(
    reader: &mut Reader<'_>,
    of_tags: Option<(String, Origin)>,
) -> Result<Option<String>, ConfigError> {
    if let Some(zone) = reader.given_as(Setting::Zone, Zone)? {
        return Ok(zone);
    }
    let (zone, origin) = of_tags.unzip();
    reader.note(Setting::Zone, zone.clone().unwrap_or_default(), origin.unwrap_or(Origin::Default));
    Ok(zone)
}

/// `--statsd-prefix`.
struct Prefix;

impl Kind for Prefix {
    type Value = String;

    fn read(&self, text: &str) -> Option<String> {
        (text.chars().count() <= PREFIX_MAX_CHARS).then(|| statsd::prefix(text))
    }

    fn expected(&self) -> String {
        format!("text in UTF-8 of at most {PREFIX_MAX_CHARS} characters")
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }
}

/// `--dogstatsd-tags`.
struct List;

impl Kind for List {
    type Value = TagList;

    fn read(&self, text: &str) -> Option<TagList> {
        Some(statsd::tags(text))
    }

    fn expected(&self) -> String {
        "KEY:VALUE,KEY:VALUE in UTF-8".to_owned()
    }

    fn show(&self, value: &TagList) -> String {
        value.tags.join(",")
    }
}

/// `--zone`.
struct Zone;

impl Kind for Zone {
    type Value = Option<String>;

    fn read(&self, text: &str) -> Option<Option<String>> {
        Some(statsd::zone(text))
    }

    fn expected(&self) -> String {
        "text in UTF-8".to_owned()
    }

    fn show(&self, value: &Option<String>) -> String {
        value.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
