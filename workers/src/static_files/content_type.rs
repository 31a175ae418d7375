//! The media type of a file, by the ending of its name.

use std::borrow::Cow;

/// The type of a file whose ending is unknown.
const UNKNOWN: &str = "application/octet-stream";

/// The media type of a file of this name. Text is UTF-8, as it is almost everywhere.
pub(super) fn content_type(name: &str) -> Cow<'static, str> {
    let Some(guess) = mime_guess::from_path(name).first_raw() else { return UNKNOWN.into() };
    match guess {
        "text/css" => "text/css; charset=utf-8".into(),
        "text/html" => "text/html; charset=utf-8".into(),
        // RFC 9239 has replaced the other name.
        "text/javascript" | "application/javascript" => "text/javascript; charset=utf-8".into(),
        "text/plain" => "text/plain; charset=utf-8".into(),
        // RFC 8081.
        "application/font-woff" => "font/woff".into(),
        _ if guess.starts_with("text/") => format!("{guess}; charset=utf-8").into(),
        _ => guess.into(),
    }
}

/// Whether files of this type are worth compressing, so that there may be a compressed one beside the file. Pictures,
/// sound, films, archives and web fonts are compressed already.
pub(super) fn is_compressible(content_type: &str) -> bool {
    const COMPRESSED: [&str; 9] = [
        "application/gzip",
        "application/java-archive",
        "application/pdf",
        "application/vnd.openxmlformats",
        "application/x-7z-compressed",
        "application/x-bzip2",
        "application/x-xz",
        "application/zip",
        "font/woff",
    ];
    const PICTURES: [&str; 3] = ["image/svg+xml", "image/bmp", "image/x-icon"];
    let is_one_of =
        |prefixes: &[&str]| prefixes.iter().any(|prefix| content_type.starts_with(prefix));
    let is_picture = is_one_of(&["image/"]) && !is_one_of(&PICTURES);
    !is_picture && !is_one_of(&["video/", "audio/"]) && !is_one_of(&COMPRESSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_name_decides_and_text_is_utf_8() {
        for (name, expected) in [
            ("a.css", "text/css; charset=utf-8"),
            ("a/b.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("A.HTML", "text/html; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.webp", "image/webp"),
            ("a.avif", "image/avif"),
            ("a.woff2", "font/woff2"),
            ("a.wasm", "application/wasm"),
            ("a.ico", "image/x-icon"),
            ("a.pdf", "application/pdf"),
            ("a.mp4", "video/mp4"),
            ("a.css.gz", "application/gzip"),
            ("a.unheardof", "application/octet-stream"),
            ("a", "application/octet-stream"),
            ("css", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }

    #[test]
    fn only_what_compression_shrinks_is_compressible() {
        let is = |name: &str| is_compressible(&content_type(name));
        for name in
            ["a.css", "a.js", "a.json", "a.svg", "a.wasm", "a.ico", "a.ttf", "a", "a.map", "a.xml"]
        {
            assert!(is(name), "{name}");
        }
        for name in
            ["a.png", "a.jpg", "a.webp", "a.mp4", "a.woff2", "a.woff", "a.zip", "a.gz", "a.pdf"]
        {
            assert!(!is(name), "{name}");
        }
    }
}
