//! The requests in quarantine as a table, from `/quarantine` as far as this version knows it.

use serde_json::Value;

use super::columns;
use super::overview::{cut, one_line};
use super::units::{cell, duration};

const HEADINGS: [&str; 5] = ["number", "deaths", "ends in", "refused", "request"];

type Row = [String; HEADINGS.len()];

/// Draws the response of `/quarantine`; `None` if it is something else. `width` is the width of the terminal, if the
/// output is one.
pub(super) fn draw(text: &str, width: Option<usize>) -> Option<String> {
    let response: Value = serde_json::from_str(text).ok()?;
    let quarantine = response.get("quarantine")?;
    if quarantine.is_null() {
        return Some("The server has no --quarantine.\n".to_owned());
    }
    let requests = quarantine.get("requests")?.as_array()?;
    let within = quarantine["within_s"].as_f64().map(duration).unwrap_or_default();
    let (deaths, refused) = (one_line(&quarantine["deaths"]), one_line(&quarantine["refused"]));
    let mut page =
        format!("limit    {deaths} deaths within {within}\nrefused  {refused} requests\n\n");
    if requests.is_empty() {
        page.push_str("No requests are in quarantine.\n");
        return Some(page);
    }
    let rows: Vec<Row> =
        std::iter::once(HEADINGS.map(str::to_owned)).chain(requests.iter().map(row)).collect();
    for line in columns::lines(&rows, 0) {
        page.push_str(&cut(&line, width));
        page.push('\n');
    }
    Some(page)
}

fn row(request: &Value) -> Row {
    let text = |key: &str| request[key].as_str().map(cell).unwrap_or_default();
    let rest = if request["is_path_cut"] == true { "…" } else { "" };
    [
        one_line(&request["number"]),
        one_line(&request["deaths"]),
        request["ends_in_s"].as_f64().map(duration).unwrap_or_default(),
        one_line(&request["refused"]),
        format!("{} {}{rest}", text("method"), text("path")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str = r#"{"quarantine": {
        "deaths": 3, "within_s": 60.0, "refused": 1207, "unknown": "value",
        "requests": [
            {"number": 12, "method": "POST", "path": "/import", "is_path_cut": false, "deaths": 4,
             "ends_in_s": 59.5, "refused": 7},
            {"number": 3, "method": "GET", "path": "/a\u001b[2J", "is_path_cut": true, "deaths": 3,
             "ends_in_s": 3.25, "refused": 1200}
        ]
    }}"#;

    #[test]
    fn each_request_has_a_line() {
        let page = "\
limit    3 deaths within 60.0s
refused  1207 requests

number  deaths  ends in  refused  request
    12       4    59.5s        7  POST /import
     3       3    3.25s     1200  GET /a\u{fffd}[2J…
";
        assert_eq!(draw(RESPONSE, None).unwrap(), page);
        assert!(draw(RESPONSE, Some(40)).unwrap().contains("  7  POST …\n"));
    }

    #[test]
    fn an_empty_quarantine_and_none_at_all_are_told_apart() {
        let empty =
            r#"{"quarantine": {"deaths": 3, "within_s": 60, "refused": 0, "requests": []}}"#;
        assert!(draw(empty, None).unwrap().ends_with("\n\nNo requests are in quarantine.\n"));
        let off = draw(r#"{"quarantine": null}"#, None);
        assert_eq!(off.unwrap(), "The server has no --quarantine.\n");
    }

    #[test]
    fn another_response_is_not_shown() {
        for text in ["", "<html>", "[]", "{}", r#"{"quarantine": 3}"#, r#"{"quarantine": {}}"#] {
            assert_eq!(draw(text, None), None, "{text:?}");
        }
    }
}
