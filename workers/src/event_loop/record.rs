//! What is kept of a request while it is answered: its head, and the times of it.

use std::num::NonZeroU128;
use std::time::{Duration, Instant};

use crate::event_loop::kept_values::KeptValues;
use crate::event_loop::routes::RouteId;
use crate::http::{Head, TraceId, trace_parent};

/// What is kept of a request for those who read about it once it is finished, and for the scoreboard while the
/// application produces further items: its head as it was sent, and its identifier.
///
/// The event loop uses a record again for later requests, so that it is allocated once.
#[derive(Default)]
#[expect(missing_docs, reason = "`head` says what it is")]
pub struct Record {
    /// The bytes that `head` points into.
    head_bytes: Vec<u8>,
    pub head: Head,
    /// The identifier of the request; empty if nobody asks for it.
    id: Vec<u8>,
    /// What the access log wants to know of the response and of the environ.
    pub kept: KeptValues,
}

impl Record {
    /// Copies the head of a request.
    pub fn of(head_bytes: &[u8], head: &Head) -> Self {
        let mut record = Self::default();
        record.replace(head_bytes, head);
        record
    }

    /// Replaces the record by that of another request, whose identifier is not known yet.
    pub fn replace(&mut self, head_bytes: &[u8], head: &Head) {
        self.head_bytes.clear();
        self.head_bytes.extend_from_slice(&head_bytes[..head.len.min(head_bytes.len())]);
        self.head.copy_from(head);
        self.id.clear();
        self.kept.clear();
    }

    /// Names the request.
    pub fn identify(&mut self, id: &[u8]) {
        self.id.clear();
        self.id.extend_from_slice(id);
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        self.head.method.of(&self.head_bytes)
    }

    /// The path as sent, without the query.
    pub fn path(&self) -> &[u8] {
        self.head.path.of(&self.head_bytes)
    }

    /// The request target as sent.
    pub fn target(&self) -> &[u8] {
        self.head.target.of(&self.head_bytes)
    }

    /// What follows the first `?` of the target; empty without one.
    pub fn query(&self) -> &[u8] {
        self.head.query.of(&self.head_bytes)
    }

    /// The value of the first field of this name.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.head.find(&self.head_bytes, name)
    }

    /// The value of the last field of this name.
    pub fn find_last(&self, name: &str) -> Option<&[u8]> {
        self.head.find_last(&self.head_bytes, name)
    }

    /// The values of all fields of this name, in their order.
    pub fn find_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.head.find_all(&self.head_bytes, name)
    }

    /// The identifier of the request, if it is known.
    pub fn id(&self) -> Option<&[u8]> {
        if self.id.is_empty() { None } else { Some(&self.id) }
    }

    /// The trace that the request belongs to, if it names one.
    pub fn trace(&self) -> Option<&TraceId> {
        trace_parent::trace_of(self.find_all("traceparent"))
    }

    /// How much memory the record holds.
    pub fn capacity(&self) -> usize {
        self.head_bytes.capacity() + self.kept.capacity()
    }
}

/// When a request was passed to the application, and how long it has taken so far.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// When the application was called.
    pub called: Instant,
    /// How long the complete request had waited by then, in the kernel and in the loop.
    pub queue: Duration,
    /// The time of all calls of the application so far.
    pub application: Duration,
    /// The route that the application has named.
    pub route: Option<RouteId>,
    /// The trace that the request belongs to, if it is sampled.
    pub trace: Option<NonZeroU128>,
}

impl Timing {
    /// The application is called now.
    pub fn new(called: Instant, queue: Duration) -> Self {
        Self { called, queue, application: Duration::ZERO, route: None, trace: None }
    }

    /// The phases of a request whose response ends now, before the application closes its side.
    pub fn phases(&self, ended: Instant) -> Phases {
        let duration = ended.saturating_duration_since(self.called);
        let application = self.application.min(duration);
        Phases { duration, queue: self.queue, application, send: duration - application }
    }
}

/// How long a request took, and what for.
///
/// | time | from | to |
/// |---|---|---|
/// | `queue` | the complete request has arrived | the application is called |
/// | `duration` | the application is called | the kernel has taken the last byte, or the response was aborted |
/// | `application` | | the calls of the application, to close its iterable as well, which is no part of `duration` |
/// | `send` | | the rest of `duration`: the client, the disk and other clients of the worker |
///
/// The loop reads the clock once a turn and after each call of the application, so a time includes what the loop does
/// in between, and a response that the kernel takes at once was sent in no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says what they are")]
pub struct Phases {
    pub duration: Duration,
    pub queue: Duration,
    pub application: Duration,
    pub send: Duration,
}

impl Phases {
    /// The time from the arrival of the request to the end of everything that it made the worker do.
    pub fn total(&self) -> Duration {
        self.queue + self.application + self.send
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HeaderMap, Limits};

    const MS: Duration = Duration::from_millis(1);

    fn head_of(bytes: &[u8]) -> Head {
        Head::of(bytes, &Limits::default(), HeaderMap::Drop).unwrap().unwrap()
    }

    #[test]
    fn a_record_has_the_head_and_nothing_after_it() {
        let bytes = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\nUser-Agent: me\r\n\r\nthe next request";
        let record = Record::of(bytes, &head_of(bytes));
        assert_eq!(
            (record.method(), record.path(), record.query()),
            (&b"GET"[..], &b"/a"[..], &b"b=1"[..])
        );
        assert_eq!(record.find("user-agent"), Some(&b"me"[..]));
        assert_eq!(record.id(), None);
        assert!(record.head_bytes.ends_with(b"\r\n\r\n"));
    }

    #[test]
    fn a_record_that_is_used_again_keeps_nothing_of_the_former_request() {
        let (long, short) =
            (b"GET /long HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n", b"PUT / HTTP/1.0\r\n\r\n");
        let mut record = Record::of(long, &head_of(long));
        record.identify(b"7f3a");
        assert_eq!(record.id(), Some(&b"7f3a"[..]));
        let capacity = record.capacity();
        record.replace(short, &head_of(short));
        assert_eq!(
            (record.method(), record.path(), record.find("a")),
            (&b"PUT"[..], &b"/"[..], None)
        );
        assert_eq!((record.id(), record.capacity()), (None, capacity));
    }

    #[test]
    fn what_is_not_the_applications_time_is_spent_sending() {
        let called = Instant::now();
        let mut timing = Timing::new(called, 3 * MS);
        timing.application += 10 * MS;
        let phases = timing.phases(called + 15 * MS);
        assert_eq!((phases.duration, phases.send, phases.total()), (15 * MS, 5 * MS, 18 * MS));
    }

    #[test]
    fn a_clock_that_was_read_before_the_call_ended_makes_no_negative_time() {
        let called = Instant::now();
        let timing = Timing { application: 10 * MS, ..Timing::new(called, Duration::ZERO) };
        let phases = timing.phases(called + 4 * MS);
        assert_eq!(
            (phases.duration, phases.application, phases.send),
            (4 * MS, 4 * MS, Duration::ZERO)
        );
    }
}
