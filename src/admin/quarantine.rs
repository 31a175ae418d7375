//! The responses about requests in quarantine: `/quarantine`, `/release`, and their part of `/status`.

use std::time::Duration;

use serde_json::{Value, json};

use super::AdminResponse;
use crate::supervisor::quarantine::{QuarantineLimits, RequestName};
use crate::system::duration::seconds;

/// The values of `/quarantine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineStatus {
    /// The limits of `--quarantine`.
    pub limits: QuarantineLimits,
    /// The number of requests that were refused since the server started.
    pub refused_count: u64,
    /// What is in quarantine, that which ends last first.
    pub requests: Vec<QuarantinedStatus>,
}

/// Requests with the same method and path in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of these fields say it")]
pub struct QuarantinedStatus {
    /// The number by which it is released.
    pub number: u16,
    pub name: RequestName,
    /// The number of workers that died or hung in such a request.
    pub incidents_count: u64,
    /// The time until it ends.
    pub rest: Duration,
    pub refused_count: u64,
}

/// The response to `/quarantine`, as one JSON object; null without `--quarantine`.
pub fn response(status: Option<&QuarantineStatus>) -> AdminResponse {
    let object = status.map(|status| {
        json!({
            "deaths": status.limits.incidents,
            "within_s": seconds(status.limits.within),
            "refused": status.refused_count,
            "requests": status.requests.iter().map(request).collect::<Vec<_>>(),
        })
    });
    let object = json!({ "quarantine": object });
    AdminResponse { status: 200, content_type: "application/json", body: format!("{object:#}\n") }
}

fn request(request: &QuarantinedStatus) -> Value {
    json!({
        "number": request.number,
        "method": request.name.method,
        "path": request.name.path,
        "is_path_cut": request.name.is_cut,
        "deaths": request.incidents_count,
        "ends_in_s": seconds(request.rest),
        "refused": request.refused_count,
    })
}

/// The part of `/status`: how much is in quarantine, and how many requests were refused.
pub fn summary(status: Option<&QuarantineStatus>) -> Value {
    let of = |status: &QuarantineStatus| json!({ "active": status.requests.len(), "refused": status.refused_count });
    status.map_or(Value::Null, of)
}

/// The response to the release of one quarantine, or of all of them, of which so many have ended.
pub fn released(number: Option<u16>, ended: usize) -> AdminResponse {
    match (number, ended) {
        (Some(number), 0) => {
            AdminResponse::plain(404, &format!("refused: there is no quarantine {number}\n"))
        }
        (Some(number), _) => AdminResponse::plain(200, &format!("released quarantine {number}\n")),
        (None, 1) => AdminResponse::plain(200, "released 1 quarantine\n"),
        (None, ended) => AdminResponse::plain(200, &format!("released {ended} quarantines\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> QuarantineStatus {
        let path = "/a\"\u{1b}".to_owned();
        QuarantineStatus {
            limits: QuarantineLimits { incidents: 3, within: Duration::from_secs(60) },
            refused_count: 9,
            requests: vec![QuarantinedStatus {
                number: 2,
                name: RequestName { method: "GET".to_owned(), path, is_cut: false },
                incidents_count: 4,
                rest: Duration::from_millis(59_500),
                refused_count: 7,
            }],
        }
    }

    fn body(status: Option<&QuarantineStatus>) -> Value {
        let answer = response(status);
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        assert!(!answer.body.contains('\u{1b}'), "control characters are escaped");
        serde_json::from_str(&answer.body).unwrap()
    }

    #[test]
    fn requests_in_quarantine_are_described_in_one_object() {
        assert_eq!(
            body(Some(&status())),
            json!({ "quarantine": {
                "deaths": 3, "within_s": 60.0, "refused": 9,
                "requests": [{
                    "number": 2, "method": "GET", "path": "/a\"\u{1b}", "is_path_cut": false,
                    "deaths": 4, "ends_in_s": 59.5, "refused": 7,
                }],
            }})
        );
        assert_eq!(body(None), json!({ "quarantine": null }));
    }

    #[test]
    fn the_status_has_the_numbers_only() {
        assert_eq!(summary(Some(&status())), json!({ "active": 1, "refused": 9 }));
        assert_eq!(summary(None), Value::Null);
    }

    #[test]
    fn a_release_is_answered_with_what_has_ended() {
        let of = |number, ended| {
            let answer = released(number, ended);
            (answer.status, answer.body)
        };
        assert_eq!(of(Some(2), 1), (200, "released quarantine 2\n".into()));
        assert_eq!(of(Some(2), 0), (404, "refused: there is no quarantine 2\n".into()));
        assert_eq!(of(None, 0), (200, "released 0 quarantines\n".into()));
        assert_eq!(of(None, 1), (200, "released 1 quarantine\n".into()));
    }
}
