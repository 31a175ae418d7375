//! A request that is finished, as one value: everybody who writes about requests gets it.

use crate::connection::{ClientName, RefusalReason, Refused};
use crate::event_loop::record::{Phases, Record};
use crate::http::{PartialHead, Status, Version};

/// A request and its response.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the other fields are those of the request")]
pub struct FinishedRequest<'a> {
    /// Who sent the request: the peer, or the client that a trusted proxy names.
    pub client: ClientName<'a>,
    /// The first line of the request; `None` if it could not be read, or was not kept.
    pub line: Option<LoggedRequestLine<'a>>,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// The whole head, if it was kept: see [`WorkerContext::keeps_heads`].
    ///
    /// [`WorkerContext::keeps_heads`]: crate::event_loop::drive::WorkerContext::keeps_heads
    pub record: Option<&'a Record>,
    /// The status that was sent; `None` if the client had left before there was one.
    pub status: Option<Status>,
    /// The number of body bytes sent, without their framing.
    pub body_bytes: u64,
    /// How long the request took; nothing if it was refused.
    pub phases: Phases,
    pub labels: RequestLabels<'a>,
    /// The rule that the request broke, if it was refused.
    pub refused: Option<RefusalReason>,
}

impl<'a> FinishedRequest<'a> {
    /// A request that was answered with the application or a file. `record` is there if it was kept.
    pub fn answered(
        client: ClientName<'a>,
        record: Option<&'a Record>,
        reply: Option<(Status, u64)>,
        phases: Phases,
    ) -> Self {
        Self {
            client,
            line: record.map(LoggedRequestLine::from),
            referer: record.and_then(|record| record.find("referer")),
            user_agent: record.and_then(|record| record.find("user-agent")),
            record,
            status: reply.map(|(status, _)| status),
            body_bytes: reply.map_or(0, |(_, body_bytes)| body_bytes),
            phases,
            labels: RequestLabels {
                request_id: record.and_then(Record::id),
                trace_id: record.and_then(Record::trace).map(|trace| trace.as_slice()),
                ..RequestLabels::default()
            },
            refused: None,
        }
    }

    /// The same with the route that the application has named.
    pub fn on_route<'b>(self, route: Option<&'b [u8]>) -> FinishedRequest<'b>
    where
        'a: 'b,
    {
        FinishedRequest { labels: RequestLabels { route, ..self.labels }, ..self }
    }

    /// A request that was refused without the application.
    pub fn refused(client: ClientName<'a>, refused: &'a Refused) -> Self {
        let Refused { reason, request: part, request_id } = refused;
        Self {
            client,
            line: LoggedRequestLine::of(part),
            referer: part.referer.as_deref(),
            user_agent: part.user_agent.as_deref(),
            record: None,
            status: Some(reason.status()),
            body_bytes: 0,
            phases: Phases::default(),
            labels: RequestLabels {
                request_id: request_id.as_deref(),
                trace_id: part.trace.as_ref().map(|trace| trace.as_slice()),
                route: None,
            },
            refused: Some(*reason),
        }
    }
}

/// What names a request, as far as it is known.
#[derive(Clone, Copy, Default)]
pub struct RequestLabels<'a> {
    /// The application's own identifier of the request, if somebody has asked for it.
    pub request_id: Option<&'a [u8]>,
    /// The trace that the request belongs to, as its client says.
    pub trace_id: Option<&'a [u8]>,
    /// The route that the application has chosen for the request.
    pub route: Option<&'a [u8]>,
}

/// The first line of a request, as far as it could be read.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of the request")]
pub struct LoggedRequestLine<'a> {
    pub method: &'a [u8],
    /// The path as sent, without the query: [`crate::http::Head::path`].
    pub path: Option<&'a [u8]>,
    /// Unknown for a refused request.
    pub query: Option<&'a [u8]>,
    pub version: Option<Version>,
}

impl<'a> LoggedRequestLine<'a> {
    /// The first line of a refused request; `None` if its method could not be read.
    pub fn of(part: &'a PartialHead) -> Option<Self> {
        let method = part.method.as_deref()?;
        Some(Self { method, path: part.path.as_deref(), query: None, version: part.version })
    }
}

impl<'a> From<&'a Record> for LoggedRequestLine<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            method: record.method(),
            path: Some(record.path()),
            query: Some(record.query()),
            version: Some(record.head.version),
        }
    }
}
