//! HTTP/1.1 as bytes and values: no socket, no clock, no Python (RFC 9110, RFC 9112).
//!
//! Whether two readers could disagree about where a request ends is decided here, and such a request
//! is refused.
pub mod body;
pub mod chunked;
pub mod date;
pub mod framing;
pub mod head;
pub mod response;
pub mod status;

pub use body::{BodyDecoder, BodyError, Decoded};
pub use date::HttpDate;
pub use framing::Framing;
pub use head::{Head, HeadError, HeadScan, Parsed, Span, Version};
pub use response::{Persistence, ReplyFraming, ResponseError, ResponseHead};
pub use status::Status;
