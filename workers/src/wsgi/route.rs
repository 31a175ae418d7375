//! The route of a request, which the application names by `environ["arctos.route"]`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// The longest route in bytes. The rest is cut off.
const MAX_BYTES: usize = 200;

/// The route of the latest request.
#[derive(Default)]
pub(super) struct Route {
    text: String,
}

impl Route {
    /// Forgets the route of the former request.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.text.clear();
    }

    /// Reads the route, once the application has returned. What is no text is none.
    #[inline]
    pub(super) fn read(&mut self, environ: &Bound<'_, PyDict>) {
        // The key is interned, so that a lookup without a result takes the time of one comparison of pointers.
        if let Ok(Some(route)) = environ.get_item(pyo3::intern!(environ.py(), "arctos.route"))
            && let Ok(text) = route.cast::<PyString>()
            && let Ok(text) = text.to_str()
        {
            self.text.push_str(start_of(text));
        }
    }

    /// The route; `None` if the application has named none.
    pub(super) fn get(&self) -> Option<&str> {
        if self.text.is_empty() { None } else { Some(&self.text) }
    }
}

/// As much of a text as a route may have.
fn start_of(text: &str) -> &str {
    if text.len() <= MAX_BYTES {
        return text;
    }
    let end = (0..=MAX_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use crate::application::Application;
    use crate::wsgi::tests::harness::App;

    /// The route of a request during which the application runs `statement`.
    fn route_after(statement: &str) -> Option<String> {
        let mut app = App::new(&format!(
            "class Text(str): pass
def app(environ, start_response):
    {statement}
    start_response('200 OK', [])
    return [b'x']
"
        ));
        app.get().unwrap();
        app.bridge.route().map(str::to_owned)
    }

    fn route_of(value: &str) -> Option<String> {
        route_after(&format!("environ['arctos.route'] = {value}"))
    }

    #[test]
    fn a_text_is_the_route() {
        for (value, route) in [
            ("'/orders/{id}'", "/orders/{id}"),
            ("'/stra\\xdfe/\\u65e5\\u672c/\\U0001f600'", "/straße/日本/😀"),
            ("Text('/orders')", "/orders"),
            ("' '", " "),
            ("'other'", "other"),
        ] {
            assert_eq!(route_of(value).as_deref(), Some(route), "{value}");
        }
    }

    #[test]
    fn what_is_no_text_is_no_route() {
        for value in [
            "None",
            "404",
            "b'/orders'",
            "['/orders']",
            "object()",
            "''",
            "'/orders/\\udcff'", // It has no form in UTF-8.
        ] {
            assert_eq!(route_of(value), None, "{value}");
        }
        assert_eq!(route_after("pass"), None);
        assert_eq!(route_after("environ['arctos.routes'] = '/orders'"), None);
    }

    #[test]
    fn a_long_route_is_cut_between_two_characters() {
        for (value, kept) in [
            ("'a' * 200", "a".repeat(200)),
            ("'a' * 201", "a".repeat(200)),
            ("'a' * 1000000", "a".repeat(200)),
            ("'\\xe9' * 101", "é".repeat(100)),
            ("'a' + '\\xe9' * 100", format!("a{}", "é".repeat(99))),
            ("'\\U0001f600' * 51", "😀".repeat(50)),
            ("'aaa' + '\\U0001f600' * 50", format!("aaa{}", "😀".repeat(49))),
        ] {
            assert_eq!(route_of(value), Some(kept), "{value}");
        }
    }

    #[test]
    fn the_last_route_counts_and_the_next_request_has_none() {
        let mut app = App::new(
            "names = iter([['/a', '/b'], [], ['/c', None], ['/d']])
def app(environ, start_response):
    for name in next(names):
        environ['arctos.route'] = name
    if environ.get('arctos.route') == '/d':
        raise ValueError
    start_response('200 OK', [])
    return [b'x']
",
        );
        let mut routes = Vec::new();
        for _ in 0..4 {
            // The last one raises, after it has named its route.
            let _answer = app.get();
            routes.push(app.bridge.route().map(str::to_owned));
        }
        assert_eq!(routes, [Some("/b".to_owned()), None, None, Some("/d".to_owned())]);
    }
}
