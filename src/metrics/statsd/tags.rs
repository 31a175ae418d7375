//! Names and tags that can stand in a line: sanitised once, when they are configured.
//!
//! Whoever writes lines puts these texts into them as they are, so a newline that came through here
//! would be a metric of somebody else's making. What cannot stay becomes `_`; nothing is refused.

/// Longest prefix that an option may give. Sanitised it is ASCII: as many bytes.
pub const PREFIX_MAX_CHARS: usize = 200;
/// Most bytes that [`tag_bytes`] may count: name, value and this have to fit a datagram of 1432 bytes.
pub const TAGS_MAX_BYTES: usize = 1000;
/// Datadog cuts a tag, its key included, to this.
const TAG_MAX_CHARS: usize = 200;

/// A list of tags, read and sanitised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagList {
    /// The value of `zone:`, which is not among the tags; the last one, if there were more.
    pub zone: Option<String>,
    /// The others in their order, each `key:value` or `key`, none twice.
    pub tags: Vec<String>,
}

/// What every name begins with: letters and digits of ASCII, `_`, `-`, and single dots inside.
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

/// The value of the tag `zone`; `None` for nothing.
pub fn zone(text: &str) -> Option<String> {
    let zone = clean(text, TAG_MAX_CHARS - "zone:".len());
    (!zone.is_empty()).then_some(zone)
}

/// Tags separated by commas. An empty one is left out.
pub fn tags(text: &str) -> TagList {
    let mut list = TagList::default();
    for part in text.split(',') {
        match part.split_once(':') {
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

/// DD_EXTERNAL_ENV, the field `|e:`: it has commas of its own. `None` for nothing.
pub fn external_env(text: &str) -> Option<String> {
    let parts: Vec<_> = text.split(',').map(|part| clean(part, TAG_MAX_CHARS)).collect();
    let whole: String = parts.join(",").chars().take(TAG_MAX_CHARS).collect();
    (!whole.is_empty()).then_some(whole)
}

/// What a line spends on tags and on the field `|e:`, the tag `worker` aside.
pub fn tag_bytes(zone: Option<&str>, tags: &[String], external_env: Option<&str>) -> usize {
    let zone = zone.map_or(0, |zone| ",zone:".len() + zone.len());
    let tags: usize = tags.iter().map(|tag| ",".len() + tag.len()).sum();
    let external_env = external_env.map_or(0, |text| "|e:".len() + text.len());
    zone + tags + external_env
}

/// One tag, of a key that needs no sanitising; `None` where there is no value.
pub fn tag(key: &str, value: &str) -> Option<String> {
    let most_chars = TAG_MAX_CHARS.saturating_sub(key.len() + 1);
    let value = clean(value, most_chars);
    (!value.is_empty()).then(|| format!("{key}:{value}"))
}

/// One tag; empty for nothing. A colon without a key or without a value is none.
fn listed(text: &str) -> String {
    let text = text.trim_matches(|letter: char| letter == ':' || letter.is_whitespace());
    let (key, value) = text.split_once(':').unwrap_or((text, ""));
    let whole = clean(&format!("{}:{}", key.trim(), value.trim()), TAG_MAX_CHARS);
    whole.trim_end_matches(':').to_owned()
}

/// What can stand in a tag: all but what separates lines, fields and tags. Cut to `most_chars`.
fn clean(text: &str, most_chars: usize) -> String {
    let separates = |letter: char| {
        letter.is_control() || letter.is_whitespace() || matches!(letter, ',' | '|' | '#')
    };
    let kept = text.trim().chars().take(most_chars);
    kept.map(|letter| if separates(letter) { '_' } else { letter }).collect()
}
