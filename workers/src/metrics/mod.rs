//! Counting: one line, one add in memory.
pub mod board;
pub mod shared;

pub use board::{Block, Board, Command, Header, Histogram, Row, Side};

/// Everything that is counted. Its statsd name and meaning stand here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Counter {
    /// `conn.accept.success`
    ConnAcceptSuccess,
    /// `conn.accept.error`
    ConnAcceptError,
    /// `req.success.read`
    ReqSuccessRead,
    /// `req.done`
    ReqDone,
    /// `req.active`
    ReqActive,
    /// `req.error.parse`
    ReqErrorParse,
    /// `req.error.internal`
    ReqErrorInternal,
    /// `req.error.read`
    ReqErrorRead,
    /// `req.error.client_disconnected`
    ReqErrorClientDisconnected,
    /// `req.aborted`
    ReqAborted,
    /// `resp.active`
    RespActive,
    /// `resp.done`
    RespDone,
    /// `resp.done.keepalive`
    RespDoneKeepalive,
    /// `resp.conn.close`
    RespConnClose,
    /// `resp.aborted`
    RespAborted,
    /// `conn.close.idle`
    ConnCloseIdle,
    /// `req.abandoned`
    ReqAbandoned,
    /// `req.killed`
    ReqKilled,
    /// `req.header.dropped`
    ReqHeaderDropped,
    /// `resp.status.1xx`
    RespStatus1xx,
    /// `resp.status.2xx`
    RespStatus2xx,
    /// `resp.status.3xx`
    RespStatus3xx,
    /// `resp.status.4xx`
    RespStatus4xx,
    /// `resp.status.5xx`
    RespStatus5xx,
    /// `resp.sendfile.bytes`
    RespSendfileBytes,
    /// `bytes.in`
    BytesIn,
    /// `bytes.out`
    BytesOut,
    /// `log.dropped`
    LogDropped,
}
