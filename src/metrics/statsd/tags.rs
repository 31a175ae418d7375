//! Prefixes and tags, sanitized once when they are configured.
//!
//! These texts are written into lines as they are, so that a newline in them would forge another metric. Characters
//! that cannot stay become `_`; nothing is refused.

/// Maximum length of a prefix. It is ASCII once it is sanitized, so this is also its size in bytes.
pub const PREFIX_MAX_CHARS: usize = 200;
/// Maximum of [`tag_bytes`]: a line with its name and value has to fit into a datagram of 1432 bytes.
pub const TAGS_MAX_BYTES: usize = 1000;
/// The length to which Datadog cuts a tag with its key.
const TAG_MAX_CHARS: usize = 200;

/// A list of tags, parsed and sanitized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagList {
    /// The value of the last tag `zone:`, which is not among the tags.
    pub zone: Option<String>,
    /// The other tags in their order, each `key:value` or `key`, without duplicates.
    pub tags: Vec<String>,
}

/// Sanitizes the prefix: it keeps ASCII letters and digits, `_`, `-`, and single dots inside.
pub fn prefix(text: &str) -> String {
    let stays = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let clean: String = text
        .trim()
        .chars()
        .take(PREFIX_MAX_CHARS)
        .map(|letter| if stays(letter) { letter } else { '_' })
        .collect();
    let parts: Vec<_> = clean.split('.').filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

/// Sanitizes the value of the tag `zone`; `None` if it is empty.
pub fn zone(text: &str) -> Option<String> {
    let zone = clean(text, TAG_MAX_CHARS - "zone:".len());
    (!zone.is_empty()).then_some(zone)
}

/// Parses tags that are separated by commas. Empty ones are left out.
pub fn tags(text: &str) -> TagList {
    let mut list = TagList::default();
    for part in text.split(',') {
        // `listed` drops colons at the start of a tag, so they must not hide a zone.
        match part.trim_start_matches(is_edge).split_once(':') {
            Some((key, value)) if key.trim().eq_ignore_ascii_case("zone") => {
                list.zone = zone(value).or(list.zone);
            }
            Some(_) | None => {
                let tag = listed(part);
                if !tag.is_empty() && !list.tags.contains(&tag) {
                    list.tags.push(tag);
                }
            }
        }
    }
    list
}

/// Sanitizes DD_EXTERNAL_ENV for the field `|e:`, which contains commas; `None` if it is empty.
pub fn external_env(text: &str) -> Option<String> {
    let parts: Vec<_> = text.split(',').map(|part| clean(part, TAG_MAX_CHARS)).collect();
    let whole: String = parts.join(",").chars().take(TAG_MAX_CHARS).collect();
    (!whole.is_empty()).then_some(whole)
}

/// The number of bytes of a line for tags and the field `|e:`, without the tag `worker`.
pub fn tag_bytes(zone: Option<&str>, tags: &[String], external_env: Option<&str>) -> usize {
    let zone = zone.map_or(0, |zone| ",zone:".len() + zone.len());
    let tags: usize = tags.iter().map(|tag| ",".len() + tag.len()).sum();
    let external_env = external_env.map_or(0, |text| "|e:".len() + text.len());
    zone + tags + external_env
}

/// Makes a tag from a key that needs no sanitizing; `None` without a value.
pub fn tag(key: &str, value: &str) -> Option<String> {
    let max_chars = TAG_MAX_CHARS.saturating_sub(key.len() + 1);
    let value = clean(value, max_chars);
    (!value.is_empty()).then(|| format!("{key}:{value}"))
}

/// Sanitizes one tag of a list; empty if it has no text, or a colon without a key or value.
fn listed(text: &str) -> String {
    let text = text.trim_matches(is_edge);
    let (key, value) = text.split_once(':').unwrap_or((text, ""));
    let whole = clean(&format!("{}:{}", key.trim(), value.trim()), TAG_MAX_CHARS);
    whole.trim_end_matches(':').to_owned()
}

/// Whether this is dropped at both ends of a tag.
fn is_edge(letter: char) -> bool {
    letter == ':' || letter.is_whitespace()
}

/// Replaces the separators of lines, fields and tags, and cuts the text to `max_chars`.
fn clean(text: &str, max_chars: usize) -> String {
    let separates = |letter: char| {
        letter.is_control() || letter.is_whitespace() || matches!(letter, ',' | '|' | '#')
    };
    let kept = text.trim().chars().take(max_chars);
    kept.map(|letter| if separates(letter) { '_' } else { letter }).collect()
}
