//! Conditional requests (RFC 9110 §13): whether a request is carried out, given what is known of the representation.
//!
//! The fields are evaluated in the order of §13.2.2, each as §13.1 says. A date that is not one is ignored.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::entity_tag::{EntityTag, list_has};
use crate::http::head::Head;

/// What identifies the current state of a representation.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// The value of `ETag`, if there is one.
    pub etag: Option<EntityTag<'a>>,
    /// The value of `Last-Modified` in seconds since 1970, if there is one.
    pub modified: Option<u64>,
}

/// The outcome of all preconditions of a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The request is carried out.
    Met {
        /// Whether `Range` counts: If-Range is absent, or names the current state.
        range: RangeUse,
    },
    /// 304: the client has this representation already.
    NotModified,
    /// 412.
    Failed,
}

/// Whether `Range` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeUse {
    /// It does.
    Honored,
    /// It does not: the representation has changed.
    Ignored,
}

impl Precondition {
    /// Evaluates the preconditions of a GET or HEAD. `now` is the time in seconds since 1970.
    pub fn of(head: &Head, bytes: &[u8], validators: Validators<'_>, now: u64) -> Self {
        let Validators { etag, modified } = validators;
        if head.has(bytes, "if-match") {
            let is_same = |tag: EntityTag<'_>| etag.is_some_and(|etag| etag.is_strongly(tag));
            if !head.find_all(bytes, "if-match").any(|value| list_has(value, is_same)) {
                return Self::Failed;
            }
        } else if let (Some(date), Some(modified)) =
            (date(head, bytes, "if-unmodified-since"), modified)
            && modified > date
        {
            return Self::Failed;
        }
        if head.has(bytes, "if-none-match") {
            let is_same = |tag: EntityTag<'_>| etag.is_some_and(|etag| etag.is_weakly(tag));
            if head.find_all(bytes, "if-none-match").any(|value| list_has(value, is_same)) {
                return Self::NotModified;
            }
        } else if let (Some(date), Some(modified)) =
            (date(head, bytes, "if-modified-since"), modified)
            && modified <= date
        {
            return Self::NotModified;
        }
        Self::Met { range: if_range(head, bytes, validators, now) }
    }
}

/// Evaluates If-Range (§13.1.5).
fn if_range(head: &Head, bytes: &[u8], validators: Validators<'_>, now: u64) -> RangeUse {
    let mut values = head.find_all(bytes, "if-range");
    let is_current = match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) => match EntityTag::of(value) {
            Some(tag) => validators.etag.is_some_and(|etag| etag.is_strongly(tag)),
            // A date is a strong validator only if the file has not changed within this second (§8.8.2.2).
            None => validators
                .modified
                .is_some_and(|modified| parse_date(value) == Some(modified) && modified < now),
        },
        (Some(_), Some(_)) => false,
    };
    if is_current { RangeUse::Honored } else { RangeUse::Ignored }
}

/// The date of a field. One that is not a date, or is there more than once, is ignored.
fn date(head: &Head, bytes: &[u8], name: &str) -> Option<u64> {
    let mut values = head.find_all(bytes, name);
    let value = values.next()?;
    if values.next().is_some() { None } else { parse_date(value) }
}

/// Reads a date in any of the three forms (§5.6.7), as seconds since 1970.
pub fn parse_date(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    Some(seconds(date))
}

/// A time in seconds since 1970; 0 for one before.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HeaderMap, Limits};

    const MET: Precondition = Precondition::Met { range: RangeUse::Honored };
    const MET_WHOLE: Precondition = Precondition::Met { range: RangeUse::Ignored };
    /// Sun, 06 Nov 1994 08:49:37 GMT
    const MODIFIED: u64 = 784_111_777;

    fn evaluate(fields: &[&str]) -> Precondition {
        evaluate_at(fields, MODIFIED + 10)
    }

    fn evaluate_at(fields: &[&str], now: u64) -> Precondition {
        let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let head = Head::of(text.as_bytes(), &Limits::DEFAULT, HeaderMap::Drop).unwrap().unwrap();
        let validators = Validators { etag: EntityTag::of(b"\"now\""), modified: Some(MODIFIED) };
        Precondition::of(&head, text.as_bytes(), validators, now)
    }

    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    #[test]
    fn a_request_without_conditions_is_carried_out() {
        assert_eq!(evaluate(&[]), MET);
    }

    #[test]
    fn if_match_compares_strongly() {
        assert_eq!(evaluate(&["If-Match: \"now\""]), MET);
        assert_eq!(evaluate(&["If-Match: *"]), MET);
        assert_eq!(evaluate(&["If-Match: \"old\"", "if-match: \"now\""]), MET);
        for other in ["W/\"now\"", "\"old\"", "now", ""] {
            assert_eq!(
                evaluate(&[&format!("If-Match: {other}")]),
                Precondition::Failed,
                "{other:?}"
            );
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for same in ["\"now\"", "W/\"now\"", "*", "\"old\", \"now\""] {
            let outcome = evaluate(&[&format!("If-None-Match: {same}")]);
            assert_eq!(outcome, Precondition::NotModified, "{same:?}");
        }
        assert_eq!(evaluate(&["If-None-Match: \"old\""]), MET);
        assert_eq!(
            evaluate(&["If-None-Match: \"old\"", "If-None-Match: \"now\""]),
            Precondition::NotModified
        );
    }

    #[test]
    fn dates_compare_by_second_and_are_ignored_if_they_are_none() {
        let outcome = |name: &str, date: &str| evaluate(&[&format!("{name}: {date}")]);
        assert_eq!(outcome("If-Modified-Since", SAME), Precondition::NotModified);
        assert_eq!(outcome("If-Modified-Since", LATER), Precondition::NotModified);
        assert_eq!(outcome("If-Modified-Since", EARLIER), MET);
        assert_eq!(outcome("If-Modified-Since", "yesterday"), MET);
        assert_eq!(outcome("If-Unmodified-Since", SAME), MET);
        assert_eq!(outcome("If-Unmodified-Since", EARLIER), Precondition::Failed);
        assert_eq!(outcome("If-Unmodified-Since", "yesterday"), MET);
        let twice =
            ["If-Modified-Since: ", "If-Modified-Since: "].map(|name| format!("{name}{SAME}"));
        assert_eq!(evaluate(&[&twice[0], &twice[1]]), MET);
    }

    #[test]
    fn tags_take_precedence_over_dates() {
        let since = format!("If-Modified-Since: {SAME}");
        assert_eq!(evaluate(&["If-None-Match: \"old\"", &since]), MET);
        let unmodified = format!("If-Unmodified-Since: {EARLIER}");
        assert_eq!(evaluate(&["If-Match: \"now\"", &unmodified]), MET);
    }

    #[test]
    fn a_failed_precondition_comes_before_not_modified() {
        assert_eq!(
            evaluate(&["If-Match: \"old\"", "If-None-Match: \"now\""]),
            Precondition::Failed
        );
    }

    #[test]
    fn if_range_names_the_current_state_or_the_range_is_ignored() {
        assert_eq!(evaluate(&["If-Range: \"now\""]), MET);
        assert_eq!(evaluate(&[&format!("If-Range: {SAME}")]), MET);
        for other in ["W/\"now\"", "\"old\"", "*", EARLIER, LATER, "soon"] {
            assert_eq!(evaluate(&[&format!("If-Range: {other}")]), MET_WHOLE, "{other:?}");
        }
        assert_eq!(evaluate(&["If-Range: \"now\"", "If-Range: \"now\""]), MET_WHOLE);
    }

    #[test]
    fn a_date_of_this_second_is_no_strong_validator() {
        assert_eq!(evaluate_at(&[&format!("If-Range: {SAME}")], MODIFIED), MET_WHOLE);
    }
}
