//! HTTP/1.1 as bytes and values: no socket, no clock, no Python (RFC 9110, RFC 9112).
//!
//! Whether two readers could disagree about where a request ends is decided here, and such a request
//! is refused.
//!
//! A request goes through [`head`] (`request_line`, `target`, `host`, `fields`, `facts`, and `scan`
//! for one that comes in pieces), [`framing`] and [`body`]; the answer through [`response`].
pub mod body;
pub mod body_error;
mod byte_class;
mod chunk_extension;
pub mod chunked;
pub mod date;
mod facts;
pub mod fields;
pub mod framing;
pub mod head;
pub mod head_error;
mod host;
pub mod partial_head;
mod request_line;
pub mod response;
mod scan;
pub mod span;
pub mod status;
mod target;
pub mod version;

pub use body::BodyDecoder;
pub use body_error::{BodyError, Decoded};
pub use date::HttpDate;
pub use fields::FieldError;
pub use framing::Framing;
pub use head::{Head, HeadError, HeadScan, Parsed};
pub use partial_head::PartialHead;
pub use response::{Persistence, ReplyFraming, ResponseError, ResponseHead};
pub use span::Span;
pub use status::Status;
pub use version::Version;
