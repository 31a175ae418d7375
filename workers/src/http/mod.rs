//! HTTP/1.1 as bytes and values (RFC 9110, RFC 9112): no socket, no clock, no Python.
//!
//! This directory refuses every request about whose end two implementations could disagree.
//!
//! A request passes through [`head`] (with `request_line`, `target`, `host`, `fields` and `facts`, and with
//! `scan` when it arrives in pieces), then [`forwarded`] if a trusted proxy sent it, then [`framing`] and [`body`].
//! A response passes through [`response`].
pub mod body;
pub mod body_error;
mod byte_class;
pub mod byte_range;
mod chunk_extension;
pub mod chunked;
pub mod content_coding;
pub mod date;
pub mod entity_tag;
mod facts;
pub mod fields;
pub mod forwarded;
mod forwarded_error;
pub mod framing;
pub mod head;
pub mod head_error;
mod host;
pub mod multipart;
pub mod partial_head;
pub mod precondition;
pub mod proxy_protocol;
mod request_line;
pub mod response;
mod scan;
pub mod span;
pub mod status;
mod target;
pub mod trace_parent;
pub mod version;

pub use body::BodyDecoder;
pub use body_error::{BodyError, Decoded};
pub use byte_range::{ByteRange, Selection};
pub use content_coding::{AcceptedCodings, ContentCoding};
pub use date::HttpDate;
pub use entity_tag::EntityTag;
pub use fields::FieldError;
pub use forwarded::{Forwarded, ForwardedClient, ForwardedError, Scheme};
pub use framing::Framing;
pub use head::{Head, HeadError, HeadScan, Parsed};
pub use multipart::{Multipart, Piece};
pub use partial_head::PartialHead;
pub use precondition::{Precondition, RangeUse, Validators};
pub use proxy_protocol::{ParsedProxy, ProxiedAddresses, ProxyError};
pub use response::{Persistence, ReplyFraming, ResponseError, ResponseHead};
pub use span::Span;
pub use status::Status;
pub use trace_parent::TraceId;
pub use version::Version;
