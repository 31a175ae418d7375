//! Why the head of a request is refused, and what answers it.

use crate::http::fields::FieldError;
use crate::http::status::Status;

/// Why a head is refused. One variant a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The request line, or an empty one before it, ends with LF alone.
    #[error("the request line ends with a bare LF")]
    BareLf,
    /// CR without LF behind it in or before the request line.
    #[error("the request line holds a bare CR")]
    BareCr,
    /// NUL, DEL or another control character in the request line.
    #[error("the request line holds a control character")]
    Control,
    /// More empty lines before the request line than are skipped.
    #[error("too many empty lines stand before the request line")]
    EmptyLines,
    /// The method is empty or not a token.
    #[error("the method is not a token")]
    BadMethod,
    /// The method is longer than any sensible one.
    #[error("the method is too long")]
    MethodTooLong,
    /// CONNECT, which is for proxies.
    #[error("CONNECT is not served")]
    Connect,
    /// The target is empty, holds a byte that it must not, or is of no form that fits the method.
    #[error("the request target is malformed")]
    BadTarget,
    /// The authority of an absolute-form target is not `host[:port]`.
    #[error("the authority of the request target is malformed")]
    BadAuthority,
    /// The authority of an absolute-form target has user information (RFC 9110 §4.2.4).
    #[error("the request target carries user information")]
    UserInfo,
    /// A request line of two parts, as HTTP/0.9 had it.
    #[error("the request line has no version")]
    NoVersion,
    /// Not exactly `HTTP/` DIGIT `.` DIGIT, or a major version before 1.
    #[error("the version is malformed")]
    BadVersion,
    /// A major version above 1, the preface of HTTP/2 included.
    #[error("the version is not supported")]
    UnsupportedVersion,
    /// The request line is above its limit.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// What is wrong with the form of a field line, or of all.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A name with `_` where the configuration refuses it.
    #[error("a field name holds an underscore")]
    Underscore,
    /// A field that steers the request, such as Host or Content-Length, came twice.
    #[error("a field that may come only once is repeated")]
    Repeated,
    /// HTTP/1.1 without Host.
    #[error("Host is missing")]
    NoHost,
    /// Host is not `host[:port]`.
    #[error("Host is malformed")]
    BadHost,
    /// Content-Length is not a number in digits, or one beyond counting.
    #[error("Content-Length is malformed")]
    BadContentLength,
    /// Transfer-Encoding is not exactly `chunked`.
    #[error("Transfer-Encoding is malformed")]
    BadTransferEncoding,
    /// Transfer-Encoding names a coding that is not ours.
    #[error("Transfer-Encoding names an unknown coding")]
    UnknownTransferCoding,
    /// Transfer-Encoding in HTTP/1.0, which has none (RFC 9112 §6.1).
    #[error("Transfer-Encoding in HTTP/1.0")]
    TransferEncodingIn10,
    /// Both Content-Length and Transfer-Encoding.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// An expectation other than `100-continue`.
    #[error("an unknown expectation")]
    UnknownExpectation,
}

impl HeadError {
    /// The status that answers it.
    pub fn status(self) -> Status {
        match self {
            Self::Field(error) => error.status(),
            Self::RequestLineTooLong => Status(414),
            Self::UnknownExpectation => Status(417),
            Self::Connect | Self::UnknownTransferCoding => Status(501),
            Self::UnsupportedVersion => Status(505),
            Self::BareLf
            | Self::BareCr
            | Self::Control
            | Self::EmptyLines
            | Self::BadMethod
            | Self::MethodTooLong
            | Self::BadTarget
            | Self::BadAuthority
            | Self::UserInfo
            | Self::NoVersion
            | Self::BadVersion
            | Self::Underscore
            | Self::Repeated
            | Self::NoHost
            | Self::BadHost
            | Self::BadContentLength
            | Self::BadTransferEncoding
            | Self::TransferEncodingIn10
            | Self::TwoFramings => Status(400),
        }
    }
}
