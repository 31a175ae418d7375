//! The configured texts of statsd lines: prefix, tags, zone and DD_EXTERNAL_ENV.

use std::collections::BTreeMap;

use arctos::emitter::format::LineFormat;
use arctos::metrics::names::{Distribution, Gauge};
use arctos::metrics::statsd::{
    Format, INTERVAL, Statsd, TAGS_MAX_BYTES, TagList, Target, external_env, prefix, tag_bytes,
    tags, zone,
};
use arctos_worker::shared::scoreboard::Counter;

/// The tag of a worker.
const WORKER: &str = "worker:7";
/// The size of a datagram that every network passes on.
const DATAGRAM_BYTES: usize = 1432;

/// Reads prefix, tags, zone and DD_EXTERNAL_ENV, which NUL separates, and writes lines with them. A reader of the
/// lines finds exactly these texts: none of them begins another line, field or tag.
pub fn statsd(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut texts = text.split('\0');
    let mut next = || texts.next().unwrap_or_default();
    let name = prefix(next());
    assert_eq!(prefix(&name), name, "a prefix stays as it is");
    let list = tags(next());
    assert!(!list.tags.iter().any(|tag| tag.starts_with("zone:")), "{list:?}");
    let again = TagList { zone: None, tags: list.tags.clone() };
    assert_eq!(tags(&list.tags.join(",")), again, "tags stay as they are");
    let zone = zone(next()).or(list.zone);
    let external_env = external_env(next());
    if tag_bytes(zone.as_deref(), &list.tags, external_env.as_deref()) > TAGS_MAX_BYTES {
        return; // The configuration refuses that.
    }
    for format in [Format::Dogstatsd, Format::Plain] {
        let statsd = Statsd {
            target: Target::Udp { host: "localhost".to_owned(), port: 8125 },
            prefix: name.clone(),
            interval: INTERVAL,
            format,
            worker_tag: true,
            zone: zone.clone(),
            tags: list.tags.clone(),
            external_env: external_env.clone(),
        };
        let lines = LineFormat::new(&statsd);
        check_lines(&statsd, &lines, None);
        if format == Format::Dogstatsd {
            check_lines(&statsd, &lines, Some(WORKER.to_owned()));
        }
    }
}

fn check_lines(statsd: &Statsd, format: &LineFormat, own: Option<String>) {
    let mut reader = Reader { statsd, known: BTreeMap::new() };
    let suffixes = format.suffixes(own.clone());
    let mut expected: Vec<String> = own.into_iter().collect();
    if statsd.format == Format::Dogstatsd {
        expected.extend(statsd.zone.iter().map(|zone| format!("zone:{zone}")));
        expected.extend(statsd.tags.iter().cloned());
    }
    for counter in Counter::ALL {
        let mut expected = expected.clone();
        if statsd.format == Format::Dogstatsd {
            expected.extend(counter.tag().map(|(name, value)| format!("{name}:{value}")));
        }
        let (prefix, suffix) = (format.prefixes.counter(counter), suffixes.counter(counter));
        reader.read(prefix, suffix, counter.statsd_name(), "c", &expected);
    }
    for gauge in Gauge::ALL {
        let (prefix, suffix) = (format.prefixes.gauge(gauge), suffixes.gauge());
        reader.read(prefix, suffix, gauge.statsd_name(), "g", &expected);
    }
    for distribution in Distribution::ALL {
        for bit in [0, 5] {
            let mut expected = expected.clone();
            if statsd.format == Format::Dogstatsd {
                expected.extend(distribution.tag().map(|(name, value)| format!("{name}:{value}")));
            }
            let prefix = format.prefixes.distribution(distribution);
            let suffix = suffixes.distribution(distribution, format, bit);
            reader.read(prefix, suffix, distribution.statsd_name(), "d", &expected);
        }
    }
}

/// Reads lines as an agent does.
struct Reader<'a> {
    statsd: &'a Statsd,
    /// What follows the value, with the tags in it. Most lines have the same, and it is read once.
    known: BTreeMap<String, Vec<String>>,
}

impl Reader<'_> {
    fn read(&mut self, prefix: &str, suffix: &str, metric: &str, kind: &str, tags: &[String]) {
        assert!(prefix.len() + "17".len() + suffix.len() <= DATAGRAM_BYTES);
        let name = prefix.strip_suffix(':').expect("a value follows");
        let configured = &self.statsd.prefix;
        let dot = if configured.is_empty() { "" } else { "." };
        assert_eq!(name, format!("{configured}{dot}{metric}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)));
        match self.known.get(suffix) {
            Some(known) => {
                assert!(suffix[1..].starts_with(kind));
                assert_eq!(known, tags);
            }
            None => {
                self.read_suffix(suffix, kind, tags);
                self.known.insert(suffix.to_owned(), tags.to_vec());
            }
        }
    }

    fn read_suffix(&self, suffix: &str, kind: &str, tags: &[String]) {
        assert!(!suffix.chars().any(char::is_control), "{suffix:?}");
        let mut fields = suffix.split('|');
        assert_eq!((fields.next(), fields.next()), (Some(""), Some(kind)));
        let mut seen = Vec::new();
        let mut environment = None;
        for field in fields {
            if let Some(found) = field.strip_prefix('#') {
                assert!(seen.is_empty() && environment.is_none(), "{suffix:?}");
                seen = found.split(',').collect();
            } else if let Some(found) = field.strip_prefix("e:") {
                assert!(environment.replace(found).is_none(), "{suffix:?}");
            } else {
                assert!(field.starts_with('@') && kind == "d", "{suffix:?}");
            }
        }
        assert_eq!(seen, tags, "{suffix:?}");
        let has_environment = self.statsd.format == Format::Dogstatsd;
        assert_eq!(environment, self.statsd.external_env.as_deref().filter(|_| has_environment));
    }
}
