//! The formats of arctos: the Combined Log Format followed by the duration, and the same as a JSON object.
//!
//! Secrets stay out of them: they have no query string, neither of the request nor of the referer, and no user of an
//! Authorization field (the third column is always `-`).

use std::io::Write;
use std::time::SystemTime;

use super::values::{
    address, json_text, milliseconds, number, since_epoch, thousandths, value, version_name,
    without_query,
};
use crate::event_loop::finished_request::{FinishedRequest, LoggedRequestLine};
use crate::shared::log::escape::Style;

/// Writes `ADDRESS - - [DATE] "METHOD PATH VERSION" STATUS BYTES "REFERER" "USER-AGENT" MILLISECONDS`, followed by
/// `"REASON"` if the request was refused.
pub(super) fn combined(out: &mut Vec<u8>, finished: &FinishedRequest<'_>, date: &[u8]) {
    let start = out.len();
    address(out, finished.client, Style::Quoted);
    if out.len() == start {
        out.push(b'-');
    }
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(date);
    out.extend_from_slice(b"] \"");
    match finished.line {
        Some(LoggedRequestLine { method, path, version, .. }) => {
            value(out, method, Style::Quoted);
            for part in [path, version.map(version_name)].into_iter().flatten() {
                out.push(b' ');
                value(out, part, Style::Quoted);
            }
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    number(out, finished.status.map_or(0, |status| status.0).into());
    out.push(b' ');
    number(out, finished.body_bytes);
    for field in [finished.referer.map(without_query), finished.user_agent] {
        out.extend_from_slice(b" \"");
        value(out, field.unwrap_or(b"-"), Style::Quoted);
        out.push(b'"');
    }
    out.push(b' ');
    milliseconds(out, finished.phases.duration);
    if let Some(reason) = finished.refused {
        // Ignored, here and below: writing to a vector cannot fail.
        let _ = write!(out, " \"{reason}\"");
    }
    out.push(b'\n');
}

/// The same as a JSON object, without what is missing.
pub(super) fn json(out: &mut Vec<u8>, finished: &FinishedRequest<'_>, at: SystemTime, date: &[u8]) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(date);
    thousandths(out, since_epoch(at).subsec_millis());
    out.extend_from_slice(b"Z\",\"remote_addr\":\"");
    address(out, finished.client, Style::Json);
    out.push(b'"');
    if let Some(LoggedRequestLine { method, path, version, .. }) = finished.line {
        json_text(out, "method", method);
        if let Some(path) = path {
            json_text(out, "path", path);
        }
        if let Some(version) = version {
            json_text(out, "protocol", version_name(version));
        }
    }
    out.extend_from_slice(b",\"status\":");
    number(out, finished.status.map_or(0, |status| status.0).into());
    out.extend_from_slice(b",\"body_bytes\":");
    number(out, finished.body_bytes);
    if let Some(referer) = finished.referer {
        json_text(out, "referer", without_query(referer));
    }
    if let Some(user_agent) = finished.user_agent {
        json_text(out, "user_agent", user_agent);
    }
    out.extend_from_slice(b",\"duration_ms\":");
    milliseconds(out, finished.phases.duration);
    if let Some(request_id) = finished.labels.request_id {
        json_text(out, "request_id", request_id);
    }
    if let Some(reason) = finished.refused {
        let _ = write!(out, ",\"reason\":\"{reason}\"");
    }
    out.extend_from_slice(b"}\n");
}
