//! The command line of `arctos help [TOPIC]`: the pages of the guide, which are a part of the binary, so that
//! they describe the version that runs.

use std::ffi::OsString;

use super::{Invocation, UsageError};

/// The first word that asks for the guide. A module of that name is served as `help:app`.
pub(super) const WORD: &str = "help";

/// A page of the guide.
struct Topic {
    name: &'static str,
    answers: &'static str,
    page: &'static str,
}

macro_rules! topics {
    ($($name:literal: $answers:literal,)+) => {
        /// All of them, in the order of README.
        const TOPICS: &[Topic] = &[$(Topic {
            name: $name,
            answers: $answers,
            page: include_str!(concat!("../guide/", $name, ".md")),
        }),+];
    };
}

topics! {
    "install": "wheels and their platforms, from the sources, images",
    "configuration": "command line, environment, file, and defaults that fit the place",
    "options": "every option and its default",
    "development": "--reload and --debug: new code at once, and pages with tracebacks",
    "frameworks": "manage.py runarctos, flask arctos, pserve, live server tests",
    "recipes": "Flask, Django, OpenTelemetry, Celery and others with arctos, each a test to copy",
    "testing": "a real server in your tests: arctos.testing, the pytest fixture",
    "gunicorn": "coming from gunicorn, uWSGI or Granian: arctos migrate",
    "comparison": "what distinguishes arctos from other servers, and what it lacks",
    "workers": "how many workers, --preload, recycling, hangs and crashes",
    "reload": "new code, a new configuration or a new arctos without losing a request",
    "proxies": "HAProxy, nginx, keep-alive, forwarded headers",
    "tls": "HTTPS: certificates, client certificates, what a reload reads",
    "systemd": "the units, socket activation, reload and watchdog",
    "kubernetes": "containers, manifests, probes, a rollout second by second, sizing",
    "admin": "health checks, arctos ctl, arctos top",
    "logs": "the log, the access log, the application's output",
    "metrics": "statsd, DogStatsD, Prometheus, and every metric",
    "application-metrics": "counters, gauges and distributions of the application",
    "observability": "slow, full or crashing: from symptom to command; dashboards and alert rules",
    "profiling": "which Python code the workers spend their time in",
    "prometheus": "application metrics with prometheus_client",
    "troubleshooting": "symptoms, and every warning and error",
    "signals": "signals, what a stop does, exit codes",
    "overload": "too many requests, connections or open files, full disks",
    "security": "privileges, the admin socket, what logs contain",
    "files": "static files, and files that the application names",
    "applications": "the environ, streaming, forks",
    "hooks": "code that runs beside the application",
    "python": "arctos.serve(), and coming from bjoern",
    "scheduling": "which worker serves a request, and how kept connections are shared",
    "http": "which requests are accepted and refused, and the limits",
    "performance": "how to measure, and what to tune",
}

/// Reads what follows `help`.
pub(super) fn parse(words: &[OsString]) -> Result<Invocation, UsageError> {
    let text = match words {
        [] => list(),
        [word] if word == "--help" || word == "-h" => list(),
        [word] => {
            let topic = TOPICS.iter().find(|topic| word == topic.name);
            topic.ok_or_else(|| unknown(words))?.page.to_owned()
        }
        [_, _, ..] => return Err(unknown(words)),
    };
    Ok(Invocation::Show { text, exit_code: 0 })
}

/// The names of all pages.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|topic| topic.name)
}

fn list() -> String {
    let mut text = "Print a page of the guide: arctos help TOPIC\n\nTopics:\n".to_owned();
    for Topic { name, answers, page: _ } in TOPICS {
        text.push_str(&format!("  {name:<19}  {answers}\n"));
    }
    text.push_str("\narctos --help summarizes the options.\n");
    text
}

fn unknown(words: &[OsString]) -> UsageError {
    let given: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let topics: Vec<_> = TOPICS.iter().map(|topic| topic.name).collect();
    UsageError::Topic { given: given.join(" "), topics: topics.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::parse as parse_all;
    use super::*;

    fn shown(line: &str) -> Result<String, UsageError> {
        let words = std::iter::once("arctos").chain(line.split_whitespace()).map(OsString::from);
        match parse_all(words, std::iter::empty::<(&str, &str)>().collect()) {
            Ok(Invocation::Show { text, exit_code: 0 }) => Ok(text),
            Err(error) => Err(error),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_page_opens_with_a_title_and_ends_its_last_line() {
        for topic in TOPICS {
            let page = shown(&format!("help {}", topic.name)).unwrap();
            assert!(page.starts_with("# ") && page.ends_with('\n'), "{}", topic.name);
        }
    }

    #[test]
    fn every_page_of_the_guide_is_a_topic() {
        let guide = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide")).unwrap();
        let mut pages: Vec<_> = guide.map(|page| page.unwrap().file_name()).collect();
        let mut topics: Vec<_> =
            TOPICS.iter().map(|topic| OsString::from(format!("{}.md", topic.name))).collect();
        pages.retain(|page| !page.as_encoded_bytes().ends_with(b".svg"));
        pages.sort();
        topics.sort();
        assert_eq!(pages, topics);
    }

    #[test]
    fn the_list_has_a_line_for_every_topic() {
        let list = shown("help").unwrap();
        assert_eq!(shown("help --help").unwrap(), list);
        for topic in TOPICS {
            assert!(list.contains(&format!("\n  {:<19}  {}\n", topic.name, topic.answers)));
        }
    }

    #[test]
    fn an_unknown_topic_is_refused_with_those_that_exist() {
        for line in ["help optoins", "help options metrics", "help --options"] {
            let error = shown(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            let given = line.strip_prefix("help ").unwrap();
            let text = error.to_string();
            assert!(text.starts_with(&format!("arctos help '{given}': there is no such topic")));
            let names: Vec<_> = names().collect();
            assert!(text.ends_with(&format!("the topics are: {}", names.join(", "))), "{text}");
        }
    }

    #[test]
    fn a_module_named_help_can_be_served() {
        let words = ["arctos", "help:app"].map(OsString::from);
        let parsed = parse_all(words, std::iter::empty::<(&str, &str)>().collect());
        assert!(matches!(parsed, Ok(Invocation::Serve(_))), "{parsed:?}");
    }
}
