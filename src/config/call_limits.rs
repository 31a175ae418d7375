//! The time limits of calls (`--timeout`, `--timeout-for`).

use std::ffi::OsStr;

use arctos_worker::settings::{CallLimits, RouteLimit};

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::{Reader, wrong};
use super::times::TIME_OR_ZERO;
use super::value::Kind;

const FORM: &str = "/PATH=TIME, such as /reports=5m: a path without `.` or `..` in it, and";

/// The supervisor sees the first 200 bytes of method and path.
const MAX_PREFIX_BYTES: usize = 150;

/// Reads the limits. Each path has one.
pub(super) fn call_limits(reader: &mut Reader<'_>) -> Result<CallLimits, ConfigError> {
    let usual = Some(reader.one(Setting::Timeout, TIME_OR_ZERO)?).filter(|time| !time.is_zero());
    let routes: Vec<RouteLimit> = reader.many(Setting::TimeoutFor, |text| {
        let form = || format!("{FORM} {}", TIME_OR_ZERO.expected());
        let (prefix, time) = text.rsplit_once('=').ok_or_else(form)?;
        if prefix.len() > MAX_PREFIX_BYTES {
            return Err(format!("a path of at most {MAX_PREFIX_BYTES} bytes"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let limit = TIME_OR_ZERO.read(time).filter(|_| is_prefix(prefix, text)).ok_or_else(form)?;
        let limit = Some(limit).filter(|limit| !limit.is_zero());
        Ok(RouteLimit { prefix: prefix.to_owned(), limit })
    })?;
    let origin =
        reader.given(Setting::TimeoutFor).map_or(Origin::Default, |given| given.origin.clone());
    for (index, route) in routes.iter().enumerate() {
        if routes[..index].iter().any(|earlier| earlier.prefix == route.prefix) {
            let text = shown(route);
            let expected = "each path once".to_owned();
            return Err(wrong(Setting::TimeoutFor, &origin, OsStr::new(&text), expected));
        }
    }
    let all: Vec<_> = routes.iter().map(shown).collect();
    reader.note(Setting::TimeoutFor, all.join(", "), origin);
    Ok(CallLimits { usual, routes })
}

fn shown(route: &RouteLimit) -> String {
    let path = if route.prefix.is_empty() { "/" } else { &route.prefix };
    format!("{path}={}", TIME_OR_ZERO.show(&route.limit.unwrap_or_default()))
}

/// Whether a path, without its last slash, can be the start of the decoded path of a request. The root is empty then.
fn is_prefix(prefix: &str, text: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let is_plain = |c: char| !c.is_control() && !"?#\\%".contains(c);
    let below = prefix.strip_prefix('/').unwrap_or_default();
    let is_root = prefix.is_empty() && text.starts_with("/=");
    is_root || (below.split('/').all(is_part) && prefix.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Source;
    use crate::system::environment::Environment;

    fn read(values: &[&str]) -> Result<CallLimits, ConfigError> {
        let given = [
            (Setting::Application, vec!["shop:app".into()]),
            (Setting::TimeoutFor, values.iter().map(Into::into).collect()),
        ];
        let source = Source::of_command_line(given, Environment::default())?;
        Ok(source.read()?.worker.call_limits)
    }

    #[test]
    fn a_route_is_a_path_and_a_time() {
        let limits = read(&["/=10", "/reports/=5m", "/a=b=500ms", "/stream=0"]).unwrap();
        let shown: Vec<_> = limits.routes.iter().map(|it| (it.prefix.as_str(), it.limit)).collect();
        let s = |s| Some(Duration::from_secs(s));
        let half = Some(Duration::from_millis(500));
        assert_eq!(shown, [("", s(10)), ("/reports", s(300)), ("/a=b", half), ("/stream", None)]);
        assert_eq!(limits.usual, s(30));
    }

    #[test]
    fn a_text_that_is_no_route_is_refused_with_an_example() {
        let texts = [
            "/api",
            "api=1",
            "=1",
            "/api=",
            "/api=x",
            "//=1",
            "//a=1",
            "/a//=1",
            "/a/../b=1",
            "/a?=1",
            "/%61=1",
            "/a=-1",
            "/a=25h",
        ];
        for text in texts {
            let error = read(&[text]).unwrap_err();
            let expected =
                format!("--timeout-for '{text}': expected {FORM} {}", TIME_OR_ZERO.expected());
            assert_eq!((error.to_string(), error.exit_code()), (expected, 2));
        }
        let long = format!("/{}=1", "a".repeat(150));
        let error = read(&[&long]).unwrap_err().to_string();
        assert!(error.ends_with("expected a path of at most 150 bytes"), "{error}");
    }

    #[test]
    fn a_path_has_one_time() {
        let error = read(&["/a=1", "/a/=2"]).unwrap_err();
        assert_eq!(error.to_string(), "--timeout-for '/a=2s': expected each path once");
        let error = read(&["/=1", "/=2"]).unwrap_err();
        assert_eq!(error.to_string(), "--timeout-for '/=2s': expected each path once");
    }
}
