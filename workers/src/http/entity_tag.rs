//! Entity tags and lists of them (RFC 9110 §8.8.3, §13.1).

/// An entity tag, as it was sent: `"abc"` or `W/"abc"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// What stands between the quotes.
    opaque: &'a [u8],
    strength: Strength,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strength {
    Strong,
    Weak,
}

impl<'a> EntityTag<'a> {
    /// Reads a whole value, which has to be one tag.
    pub fn of(value: &'a [u8]) -> Option<Self> {
        match Self::split(value)? {
            (tag, []) => Some(tag),
            (_, _) => None,
        }
    }

    /// Reads a tag at the start of a value. Returns it and the rest.
    fn split(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (strength, rest) = match value.strip_prefix(b"W/") {
            Some(rest) => (Strength::Weak, rest),
            None => (Strength::Strong, value),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', rest)?;
        let opaque = &rest[..end];
        // etagc = %x21 / %x23-7E / obs-text
        let is_valid = opaque.iter().all(|&byte| byte > b' ' && byte != 0x7f);
        is_valid.then_some((Self { opaque, strength }, &rest[end + 1..]))
    }

    /// The strong comparison: both are the same, and neither is weak.
    pub fn is_strongly(self, other: Self) -> bool {
        self == other && self.strength == Strength::Strong
    }

    /// The weak comparison: both are the same, whether they are weak or not.
    pub fn is_weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

/// Whether a list of tags is `*`, or contains one that `matches`. A malformed list contains the tags before the
/// place where it goes wrong.
pub(super) fn list_has(value: &[u8], matches: impl Fn(EntityTag<'_>) -> bool) -> bool {
    if value == b"*" {
        return true;
    }
    let mut rest = value;
    loop {
        rest = match rest {
            [b' ' | b'\t' | b',', rest @ ..] => rest,
            [] => return false,
            [_, ..] => match EntityTag::split(rest) {
                Some((tag, _)) if matches(tag) => return true,
                // Only white space or a comma may follow.
                Some((_, rest @ ([] | [b' ' | b'\t' | b',', ..]))) => rest,
                Some(_) | None => return false,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> EntityTag<'_> {
        EntityTag::of(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_tag_is_quoted_and_may_be_weak() {
        assert!(tag("\"a\"").is_strongly(tag("\"a\"")));
        assert!(!tag("W/\"a\"").is_strongly(tag("W/\"a\"")));
        assert!(tag("W/\"a\"").is_weakly(tag("\"a\"")));
        assert!(!tag("\"a\"").is_weakly(tag("\"b\"")));
        assert!(tag("\"\"").is_strongly(tag("\"\"")));
        for bad in ["", "a", "\"a", "a\"", "w/\"a\"", "\"a\"b", "\"a b\"", "\"a\x7f\"", "W/a"] {
            assert_eq!(EntityTag::of(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_has_tags_with_commas_and_white_space_between_them() {
        let has =
            |value: &str, text: &str| list_has(value.as_bytes(), |it| it.is_weakly(tag(text)));
        assert!(has("*", "\"a\""));
        assert!(has("\"a\"", "\"a\""));
        assert!(has("\"x\" , W/\"a\"", "\"a\""));
        assert!(has(",\"x\",,\"a,b\",", "\"a,b\""));
        assert!(!has("\"x\", \"y\"", "\"a\""));
        assert!(!has("", "\"a\""));
        assert!(!has("a", "\"a\""));
        assert!(!has("**", "\"a\""));
        assert!(!has("\"x\"\"a\"", "\"a\""), "nothing separates the tags");
        assert!(!has("x, \"a\"", "\"a\""), "the list is malformed before the tag");
    }
}
