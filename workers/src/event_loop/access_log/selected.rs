//! Lines of text and atoms, and JSON objects of selected fields.
//!
//! What clients send is escaped in both, so that no value ends the line, the quotes or the string that it stands in.

use std::io::Write;

use super::contents::{self, Contents, Moment, Origin};
use super::layout;
use super::values::{address, milliseconds, number, since_epoch, thousandths, value_up_to};
use crate::event_loop::finished_request::FinishedRequest;
use crate::settings::{AccessLine, AccessObject, Layout, Member, Piece};
use crate::shared::log::escape::{Style, escape_latin1};

/// The maximum length of a value before escaping. It is more than gunicorn accepts as a request line.
const VALUE_BYTES: usize = 4096;

/// Writes a line of text and atoms.
pub(super) fn line(
    out: &mut Vec<u8>,
    format: &AccessLine,
    finished: &FinishedRequest<'_>,
    moment: &Moment<'_>,
    origin: &Origin,
) {
    for piece in &format.pieces {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Atom { atom, layout } => {
                let start = out.len();
                write(out, contents::of(atom, finished, origin), moment, Target::Line);
                if *layout != Layout::default() {
                    layout::fit(out, start, layout);
                }
            }
        }
    }
    out.push(b'\n');
}

/// Writes a JSON object of the selected fields, without those that are missing.
pub(super) fn object(
    out: &mut Vec<u8>,
    format: &AccessObject,
    finished: &FinishedRequest<'_>,
    moment: &Moment<'_>,
    origin: &Origin,
) {
    out.push(b'{');
    let start = out.len();
    for Member { key, atom } in &format.members {
        let contents = contents::of(atom, finished, origin);
        let quotes: &[u8] = match contents {
            Contents::Missing => continue,
            Contents::Number(_) | Contents::Milliseconds(_) => b"",
            Contents::Bytes(_)
            | Contents::Joined { .. }
            | Contents::Text(_)
            | Contents::Utf8(_)
            | Contents::Seconds(_)
            | Contents::Client(_)
            | Contents::Reason(_)
            | Contents::RequestLine(_)
            | Contents::CommonTime
            | Contents::Time
            | Contents::Process(_) => b"\"",
        };
        let comma = if out.len() > start { "," } else { "" };
        // Ignored, here and below: writing to a vector cannot fail.
        let _ = write!(out, "{comma}\"{key}\":");
        out.extend_from_slice(quotes);
        write(out, contents, moment, Target::Json);
        out.extend_from_slice(quotes);
    }
    out.extend_from_slice(b"}\n");
}

/// How text is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Into a line, as gunicorn does.
    Line,
    /// Into a JSON string.
    Json,
}

/// Writes a value; what is missing as `-`.
fn write(out: &mut Vec<u8>, contents: Contents<'_>, moment: &Moment<'_>, target: Target) {
    match contents {
        Contents::Missing => out.push(b'-'),
        Contents::Bytes(bytes) => of_client(out, &bytes, target),
        Contents::Joined { record, name } => {
            for (index, part) in record.find_all(name).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                of_client(out, part, target);
            }
        }
        Contents::Text(text) => utf8(out, text.as_bytes(), target),
        Contents::Utf8(bytes) => utf8(out, bytes, target),
        Contents::Number(count) => number(out, count),
        Contents::Milliseconds(time) => milliseconds(out, time),
        Contents::Seconds(time) => {
            let _ = write!(out, "{}.{:06}", time.as_secs(), time.subsec_micros());
        }
        Contents::Client(client) => {
            let start = out.len();
            address(out, client, style(target));
            if out.len() == start && target == Target::Line {
                out.push(b'-');
            }
        }
        Contents::Reason(reason) => {
            let _ = write!(out, "{reason}");
        }
        Contents::RequestLine(parts) => {
            for (index, part) in parts.into_iter().flatten().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                of_client(out, part, target);
            }
        }
        Contents::CommonTime => {
            out.push(b'[');
            out.extend_from_slice(moment.common);
            out.push(b']');
        }
        Contents::Time => {
            out.extend_from_slice(moment.rfc3339);
            thousandths(out, since_epoch(moment.at).subsec_millis());
            out.push(b'Z');
        }
        Contents::Process(pid) => {
            let _ = write!(out, "<{pid}>");
        }
    }
}

fn style(target: Target) -> Style {
    match target {
        Target::Line => Style::Quoted,
        Target::Json => Style::Json,
    }
}

fn utf8(out: &mut Vec<u8>, bytes: &[u8], target: Target) {
    value_up_to(out, bytes, VALUE_BYTES, style(target));
}

/// Writes text that a client has sent in an encoding of its choice.
fn of_client(out: &mut Vec<u8>, bytes: &[u8], target: Target) {
    match target {
        Target::Json => utf8(out, bytes, target),
        Target::Line => {
            let kept = &bytes[..bytes.len().min(VALUE_BYTES)];
            escape_latin1(out, kept);
            if kept.len() < bytes.len() {
                out.extend_from_slice(b"[cut]");
            }
        }
    }
}

#[cfg(test)]
mod tests;
