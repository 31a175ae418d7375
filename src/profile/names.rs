//! Short names of functions, files and routes, for people.

use super::report::{Frame, NO_ROUTE, UNFINISHED};

/// What the name of a file begins with before what matters to a reader.
const PREFIXES: [&str; 2] = ["/site-packages/", "/dist-packages/"];
/// How many directories of another path are shown.
const DIRECTORIES: usize = 2;

/// The path of a file as its package knows it, or its last parts.
pub(super) fn short_file(file: &str) -> &str {
    for prefix in PREFIXES {
        if let Some((_, rest)) = file.rsplit_once(prefix) {
            return rest;
        }
    }
    // The standard library: `/usr/lib/python3.12/json/decoder.py`.
    if let Some((_, rest)) = file.split_once("/lib/python3.")
        && let Some((_, rest)) = rest.split_once('/')
    {
        return rest;
    }
    match file.rmatch_indices('/').nth(DIRECTORIES) {
        Some((slash, _)) => file.get(slash + 1..).unwrap_or(file),
        None => file,
    }
}

/// A route, as a frame that calls the functions of its requests.
pub(super) fn route_label(route: &str) -> String {
    match route {
        NO_ROUTE | UNFINISHED => route.to_owned(),
        _ => format!("route {route}"),
    }
}

/// The function with the line that was running.
pub(super) fn label(frame: &Frame) -> String {
    if frame.file.is_empty() {
        return frame.function.clone();
    }
    format!("{} ({}:{})", frame.function, short_file(&frame.file), frame.line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shown_as_their_packages_know_them() {
        for (file, short) in [
            ("/v/lib/python3.12/site-packages/django/views.py", "django/views.py"),
            ("/usr/lib/python3/dist-packages/six.py", "six.py"),
            ("/usr/lib/python3.12/json/decoder.py", "json/decoder.py"),
            ("/srv/app/shop/orders/views.py", "shop/orders/views.py"),
            ("/app/views.py", "/app/views.py"),
            ("views.py", "views.py"),
            ("<string>", "<string>"),
            ("", ""),
        ] {
            assert_eq!(short_file(file), short);
        }
    }

    #[test]
    fn what_stands_for_a_route_is_none() {
        let labels = ["/orders/{id}", NO_ROUTE, UNFINISHED].map(route_label);
        assert_eq!(labels, ["route /orders/{id}", "[no route]", "[unfinished]"]);
    }

    #[test]
    fn a_label_has_the_line_if_there_is_one() {
        let file = "/srv/a/b/c.py".to_owned();
        let frame = Frame { function: "f".to_owned(), file, line: 3, first_line: 1 };
        assert_eq!(label(&frame), "f (a/b/c.py:3)");
        assert_eq!(
            label(&Frame { function: "[server]".to_owned(), ..Frame::default() }),
            "[server]"
        );
    }
}
