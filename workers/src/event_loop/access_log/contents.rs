//! What the atoms of a line stand for: a value of the finished request, not yet written in any format.
//!
//! Text of clients has no encoding that they have to keep to. A line shows it as gunicorn does, byte for byte in
//! latin-1; JSON shows it as UTF-8.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use super::basic_user::basic_user;
use super::values::{version_name, without_query};
use crate::connection::{ClientName, RefusalReason};
use crate::event_loop::finished_request::FinishedRequest;
use crate::event_loop::record::Record;
use crate::settings::{Atom, Field, Letter};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::path_info::{below_root, percent_decoded};

/// The worker that writes a line.
pub(super) struct Origin {
    pub(super) slot: SlotId,
    pub(super) generation: Generation,
    pub(super) pid: u32,
    /// SCRIPT_NAME, which is no part of PATH_INFO.
    pub(super) root_path: Vec<u8>,
}

/// When a request was finished.
pub(super) struct Moment<'a> {
    pub(super) at: SystemTime,
    /// The second in the Common Log Format.
    pub(super) common: &'a [u8],
    /// The second in the format of RFC 3339.
    pub(super) rfc3339: &'a [u8],
}

/// The value of an atom.
pub(super) enum Contents<'a> {
    /// There is none.
    Missing,
    /// Text that a client chose.
    Bytes(Cow<'a, [u8]>),
    /// The values of a repeated header field, which commas join.
    Joined {
        record: &'a Record,
        name: &'static str,
    },
    /// Text of arctos or the application, in UTF-8.
    Text(Cow<'a, str>),
    /// Bytes of the application, in UTF-8.
    Utf8(&'a [u8]),
    Number(u64),
    Milliseconds(Duration),
    /// Seconds with six decimals.
    Seconds(Duration),
    Client(ClientName<'a>),
    Reason(RefusalReason),
    /// The parts of the first line, as far as they could be read.
    RequestLine([Option<&'a [u8]>; 3]),
    /// The time in brackets, as gunicorn writes it.
    CommonTime,
    /// The time to the millisecond.
    Time,
    /// The process in angle brackets.
    Process(u32),
}

/// Finds what an atom stands for.
pub(super) fn of<'a>(
    atom: &Atom,
    finished: &'a FinishedRequest<'_>,
    origin: &'a Origin,
) -> Contents<'a> {
    match atom {
        Atom::Letter(letter) => of_letter(*letter, finished, origin),
        Atom::Field(field) => of_field(*field, finished, origin),
        // gunicorn shows the last one of a repeated field.
        Atom::RequestHeader(name) => {
            bytes(finished.record.and_then(|record| record.find_last(name)))
        }
        Atom::ResponseHeader(index) => {
            bytes(finished.record.and_then(|record| record.kept.response_header(*index)))
        }
        Atom::Variable(index) => {
            let value = finished.record.and_then(|record| record.kept.variable(*index));
            value.map_or(Contents::Missing, Contents::Utf8)
        }
        Atom::Route(index) => {
            let kept = || finished.record.and_then(|record| record.kept.variable(*index));
            let route = finished.labels.route.or_else(kept);
            route.map_or(Contents::Missing, Contents::Utf8)
        }
    }
}

fn of_letter<'a>(
    letter: Letter,
    finished: &'a FinishedRequest<'_>,
    origin: &'a Origin,
) -> Contents<'a> {
    let duration = finished.phases.duration;
    let whole = |count: u128| Contents::Number(u64::try_from(count).unwrap_or(u64::MAX));
    match letter {
        Letter::Host => Contents::Client(finished.client),
        Letter::Dash => Contents::Missing,
        Letter::User => of_field(Field::User, finished, origin),
        Letter::Time => Contents::CommonTime,
        Letter::RequestLine => request_line(finished),
        Letter::Method => of_field(Field::Method, finished, origin),
        Letter::Path => path_info(finished, origin),
        Letter::Query => of_field(Field::Query, finished, origin),
        Letter::Protocol => of_field(Field::Protocol, finished, origin),
        Letter::Status => of_field(Field::Status, finished, origin),
        Letter::BodyBytes => of_field(Field::BodyBytes, finished, origin),
        Letter::Referer => joined(finished, "referer", finished.referer),
        Letter::UserAgent => of_field(Field::UserAgent, finished, origin),
        Letter::Seconds => Contents::Number(duration.as_secs()),
        Letter::Milliseconds => whole(duration.as_millis()),
        Letter::Microseconds => whole(duration.as_micros()),
        Letter::DecimalSeconds => Contents::Seconds(duration),
        Letter::Process => Contents::Process(origin.pid),
    }
}

fn of_field<'a>(
    field: Field,
    finished: &'a FinishedRequest<'_>,
    origin: &'a Origin,
) -> Contents<'a> {
    let line = finished.line.as_ref();
    let answered = |time: Duration| match finished.refused {
        Some(_) => Contents::Missing,
        None => Contents::Milliseconds(time),
    };
    match field {
        Field::Time => Contents::Time,
        Field::RemoteAddr => Contents::Client(finished.client),
        Field::Method => bytes(line.map(|line| line.method)),
        Field::Path => bytes(line.and_then(|line| line.path)),
        Field::Protocol => bytes(line.and_then(|line| line.version).map(version_name)),
        Field::Status => {
            finished.status.map_or(Contents::Missing, |status| Contents::Number(status.0.into()))
        }
        Field::BodyBytes => Contents::Number(finished.body_bytes),
        Field::Referer => bytes(finished.referer.map(without_query)),
        Field::UserAgent => joined(finished, "user-agent", finished.user_agent),
        Field::DurationMs => Contents::Milliseconds(finished.phases.duration),
        Field::RequestId => bytes(finished.labels.request_id),
        Field::Reason => finished.refused.map_or(Contents::Missing, Contents::Reason),
        Field::Target => bytes(finished.record.map(Record::target)),
        Field::Query => bytes(line.and_then(|line| line.query)),
        Field::User => {
            let field = finished.record.and_then(|record| record.find("authorization"));
            let user = field.and_then(basic_user);
            user.map_or(Contents::Missing, |user| Contents::Text(user.into()))
        }
        Field::Route => finished.labels.route.map_or(Contents::Missing, Contents::Utf8),
        Field::TraceId => bytes(finished.labels.trace_id),
        Field::QueueMs => answered(finished.phases.queue),
        Field::ApplicationMs => answered(finished.phases.application),
        Field::SendMs => answered(finished.phases.send),
        Field::Worker => Contents::Number(origin.slot.0.into()),
        Field::Generation => Contents::Number(origin.generation.0.into()),
        Field::Pid => Contents::Number(origin.pid.into()),
    }
}

fn bytes(value: Option<&[u8]>) -> Contents<'_> {
    value.map_or(Contents::Missing, |value| Contents::Bytes(Cow::Borrowed(value)))
}

/// The values of a field as the environ has them. `first` is that of the first one, also of a refused request.
fn joined<'a>(
    finished: &FinishedRequest<'a>,
    name: &'static str,
    first: Option<&'a [u8]>,
) -> Contents<'a> {
    match (finished.record, first) {
        (Some(record), Some(_)) => Contents::Joined { record, name },
        (Some(_) | None, first) => bytes(first),
    }
}

/// Method, target and protocol.
fn request_line<'a>(finished: &'a FinishedRequest<'_>) -> Contents<'a> {
    let Some(line) = &finished.line else { return Contents::Missing };
    let target = finished.record.map(Record::target).or(line.path);
    Contents::RequestLine([Some(line.method), target, line.version.map(version_name)])
}

/// The path as the application sees it.
fn path_info<'a>(finished: &'a FinishedRequest<'_>, origin: &'a Origin) -> Contents<'a> {
    let Some(path) = finished.line.as_ref().and_then(|line| line.path) else {
        return Contents::Missing;
    };
    if path == b"*" {
        return Contents::Bytes(Cow::Borrowed(b""));
    }
    let root_path = origin.root_path.as_slice();
    Contents::Bytes(match percent_decoded(path) {
        Cow::Borrowed(path) => Cow::Borrowed(below_root(path, root_path)),
        Cow::Owned(path) => Cow::Owned(below_root(&path, root_path).to_vec()),
    })
}
