//! How long one call of the application may take (`--timeout`, `--timeout-for`).

use std::borrow::Cow;
use std::time::Duration;

/// The limits of calls; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// The limit of every path that no route names.
    pub usual: Option<Duration>,
    /// The limits of routes.
    pub routes: Vec<RouteLimit>,
}

/// The limit of the requests whose path is a prefix or below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLimit {
    /// Starts with a slash and does not end in one. The root has the empty prefix.
    pub prefix: String,
    /// `None` is unlimited.
    pub limit: Option<Duration>,
}

impl CallLimits {
    /// Returns the limit of a request, from its method and path with a space in between. The route with the longest
    /// prefix counts.
    pub fn of_request(&self, line: &str) -> Option<Duration> {
        if self.routes.is_empty() {
            return self.usual;
        }
        let path = line.split_once(' ').map_or("", |(_, path)| path);
        let path = decoded(path.as_bytes());
        let matching = self.routes.iter().filter(|route| route.has(&path));
        matching.max_by_key(|route| route.prefix.len()).map_or(self.usual, |route| route.limit)
    }
}

impl RouteLimit {
    /// Whether the decoded path of a request is this route's prefix, or below it.
    fn has(&self, path: &[u8]) -> bool {
        path.strip_prefix(self.prefix.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

/// Decodes `%XX` once, as the application does. A `%` without two hex digits after it stays as it is.
pub(super) fn decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match (byte, digit(path.get(at + 1)), digit(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    fn limits(routes: &[(&str, Option<Duration>)]) -> CallLimits {
        let route = |(prefix, limit): &(&str, Option<Duration>)| RouteLimit {
            prefix: (*prefix).to_owned(),
            limit: *limit,
        };
        CallLimits { usual: s(30), routes: routes.iter().map(route).collect() }
    }

    #[test]
    fn a_server_without_routes_has_one_limit() {
        for line in ["GET /", "GET /a/b", "", "OPTIONS *"] {
            assert_eq!(limits(&[]).of_request(line), s(30));
        }
        assert_eq!(CallLimits::default().of_request("GET /"), None);
    }

    #[test]
    fn the_longest_prefix_that_ends_at_a_segment_counts() {
        let limits = limits(&[("/api", s(2)), ("/api/report", s(300)), ("/api/report/raw", None)]);
        for (path, limit) in [
            ("/", s(30)),
            ("/api", s(2)),
            ("/api/", s(2)),
            ("/apis", s(30)),
            ("/api/reports", s(2)),
            ("/api/report", s(300)),
            ("/api/report/1", s(300)),
            ("/api/report/raw/1", None),
            ("/x/api", s(30)),
            ("*", s(30)),
        ] {
            assert_eq!(limits.of_request(&format!("POST {path}")), limit, "{path}");
        }
    }

    #[test]
    fn the_root_is_a_prefix_of_every_path() {
        let limits = limits(&[("", s(5)), ("/a", s(7))]);
        assert_eq!(limits.of_request("GET /"), s(5));
        assert_eq!(limits.of_request("GET /b"), s(5));
        assert_eq!(limits.of_request("GET /a"), s(7));
        assert_eq!(limits.of_request("OPTIONS *"), s(30));
    }

    #[test]
    fn a_path_is_compared_as_the_application_sees_it() {
        let limits = limits(&[("/api", s(2)), ("/caf\u{e9}", s(3))]);
        assert_eq!(limits.of_request("GET /%61pi/x"), s(2));
        assert_eq!(limits.of_request("GET /api%2Fx"), s(2));
        assert_eq!(limits.of_request("GET /caf%C3%A9"), s(3));
        for path in ["/%61p", "/api%", "/%zzapi", "/api%2"] {
            assert_eq!(limits.of_request(&format!("GET {path}")), s(30), "{path}");
        }
    }
}
