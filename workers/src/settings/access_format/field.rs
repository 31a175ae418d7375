//! The values that arctos knows about a request, by the names that the access log has for them.

/// A value that arctos knows about a request: `%(arctos.NAME)s` in a line, `NAME` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`Field::ALL` explains each")]
pub enum Field {
    Time,
    RemoteAddr,
    Method,
    Path,
    Protocol,
    Status,
    BodyBytes,
    Referer,
    UserAgent,
    DurationMs,
    RequestId,
    Reason,
    Target,
    Query,
    User,
    Route,
    TraceId,
    QueueMs,
    ApplicationMs,
    SendMs,
    Worker,
    Generation,
    Pid,
}

impl Field {
    /// The fields of `json`, in their order.
    pub const JSON: [Self; 12] = [
        Self::Time,
        Self::RemoteAddr,
        Self::Method,
        Self::Path,
        Self::Protocol,
        Self::Status,
        Self::BodyBytes,
        Self::Referer,
        Self::UserAgent,
        Self::DurationMs,
        Self::RequestId,
        Self::Reason,
    ];

    /// All fields in the order of the guide, each with its name and meaning.
    pub const ALL: [(Self, &'static str, &'static str); 23] = [
        (Self::Time, "time", "when the response ended, in UTC: `2026-11-22T13:39:57.123Z`"),
        (Self::RemoteAddr, "remote_addr", "the address of the client, as `%(h)s`"),
        (Self::Method, "method", "the method"),
        (Self::Path, "path", "the path as sent, without the query"),
        (Self::Protocol, "protocol", "`HTTP/1.0` or `HTTP/1.1`"),
        (Self::Status, "status", "the status of the response"),
        (Self::BodyBytes, "body_bytes", "the bytes of the response's body, without their framing"),
        (Self::Referer, "referer", "the `Referer` without its query"),
        (Self::UserAgent, "user_agent", "the `User-Agent`"),
        (
            Self::DurationMs,
            "duration_ms",
            "from the call of the application until the kernel has taken the last byte",
        ),
        (Self::RequestId, "request_id", "the ID of the request, as in `arctos.request_id`"),
        (Self::Reason, "reason", "the rule that a refused request broke"),
        (Self::Target, "target", "the path and the query as sent"),
        (Self::Query, "query", "the query as sent, without the `?`"),
        (Self::User, "user", "the user of Basic authentication, as `%(u)s`"),
        (Self::Route, "route", "the route that the application has named in `arctos.route`"),
        (Self::TraceId, "trace_id", "the trace ID of the client's `traceparent`"),
        (Self::QueueMs, "queue_ms", "how long the complete request has waited for the application"),
        (Self::ApplicationMs, "application_ms", "how long the calls of the application took"),
        (Self::SendMs, "send_ms", "the rest of `duration_ms`: sending, and other clients"),
        (Self::Worker, "worker", "the number of the worker's slot"),
        (Self::Generation, "generation", "the generation of the worker"),
        (Self::Pid, "pid", "the process ID of the worker"),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(field, ..)| *field == self);
        found.map_or("", |(_, name, _)| name)
    }

    /// Returns the field of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(field, ..)| *field)
    }
}
