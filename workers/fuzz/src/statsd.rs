//! The configured texts of statsd lines: prefix, tags, zone and DD_EXTERNAL_ENV.

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
        for own in [None, Some(WORKER.to_owned()).filter(|_| format == Format::Dogstatsd)] {
            check_lines(&statsd, own);
        }
    }
}

fn check_lines(statsd: &Statsd, own: Option<String>) {
    let format = LineFormat::new(statsd);
    let suffixes = format.suffixes(own.clone());
    let mut expected: Vec<String> = own.into_iter().collect();
    if statsd.format == Format::Dogstatsd {
        expected.extend(statsd.zone.iter().map(|zone| format!("zone:{zone}")));
        expected.extend(statsd.tags.iter().cloned());
    }
    for counter in Counter::ALL {
        let line = format!("{}17{}", format.prefixes.counter(counter), suffixes.counter(counter));
        let mut expected = expected.clone();
        if statsd.format == Format::Dogstatsd {
            expected.extend(counter.reason().map(|reason| format!("reason:{reason}")));
        }
        check_line(&line, statsd, counter.statsd_name(), "c", &expected);
    }
    for gauge in Gauge::ALL {
        let line = format!("{}17{}", format.prefixes.gauge(gauge), suffixes.gauge());
        check_line(&line, statsd, gauge.statsd_name(), "g", &expected);
    }
    for distribution in Distribution::ALL {
        for bit in [0, 5] {
            let suffix = suffixes.distribution(&format, bit);
            let line = format!("{}17{suffix}", format.prefixes.distribution(distribution));
            check_line(&line, statsd, distribution.statsd_name(), "d", &expected);
        }
    }
}

/// Reads a line as an agent does.
fn check_line(line: &str, statsd: &Statsd, metric: &str, kind: &str, tags: &[String]) {
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(line.len() <= DATAGRAM_BYTES, "{} bytes", line.len());
    let (name, rest) = line.split_once(':').expect("a value");
    let dot = if statsd.prefix.is_empty() { "" } else { "." };
    assert_eq!(name, format!("{}{dot}{metric}", statsd.prefix));
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)));
    let mut fields = rest.split('|');
    assert_eq!((fields.next(), fields.next()), (Some("17"), Some(kind)));
    let mut seen = Vec::new();
    let mut environment = None;
    for field in fields {
        if let Some(found) = field.strip_prefix('#') {
            assert!(seen.is_empty() && environment.is_none(), "{line:?}");
            seen = found.split(',').collect();
        } else if let Some(found) = field.strip_prefix("e:") {
            assert!(environment.replace(found).is_none(), "{line:?}");
        } else {
            assert!(field.starts_with('@') && kind == "d", "{line:?}");
        }
    }
    assert_eq!(seen, tags, "{line:?}");
    let has_environment = statsd.format == Format::Dogstatsd;
    assert_eq!(environment, statsd.external_env.as_deref().filter(|_| has_environment));
}
