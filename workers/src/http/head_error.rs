//! Why the head of a request is refused, and with which status.

use crate::http::fields::FieldError;
use crate::http::forwarded_error::ForwardedError;
use crate::http::status::Status;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The request line, or an empty line before it, ends with LF only.
    #[error("the request line ends with a bare LF")]
    BareLf,
    /// A CR in or before the request line is not followed by LF.
    #[error("the request line contains a bare CR")]
    BareCr,
    /// The request line has NUL, DEL or another control character.
    #[error("the request line contains a control character")]
    Control,
    /// More empty lines precede the request line than are skipped.
    #[error("too many empty lines precede the request line")]
    EmptyLines,
    /// The method is empty or not a token.
    #[error("the method is not a token")]
    BadMethod,
    /// The method is longer than any real one (RFC 9112 §3).
    #[error("the method is too long")]
    MethodTooLong,
    /// The method is CONNECT, which is for proxies.
    #[error("the method CONNECT is not supported")]
    Connect,
    /// The target is empty, has a forbidden byte, or has a form that does not fit the method.
    #[error("the request target is malformed")]
    BadTarget,
    /// The authority of an absolute-form target is not `host[:port]`.
    #[error("the authority of the request target is malformed")]
    BadAuthority,
    /// The authority of an absolute-form target has user information (RFC 9110 §4.2.4).
    #[error("the request target contains user information")]
    UserInfo,
    /// The request line has two parts, as in HTTP/0.9.
    #[error("the request line has no version")]
    NoVersion,
    /// The version is not exactly `HTTP/` DIGIT `.` DIGIT, or its major version is 0.
    #[error("the version is malformed")]
    BadVersion,
    /// The major version is above 1. The preface of HTTP/2 is such a request line.
    #[error("the version is not supported")]
    UnsupportedVersion,
    /// The request line exceeds its limit.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// A field line, or the section as a whole, is malformed or too long.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A field name has an underscore, and the configuration refuses that.
    #[error("a field name contains an underscore")]
    Underscore,
    /// A field that may come only once, such as Host or Content-Length, is repeated.
    #[error("a field that may come only once is repeated")]
    Repeated,
    /// An HTTP/1.1 request has no Host.
    #[error("Host is missing")]
    NoHost,
    /// Host is not `host[:port]`.
    #[error("Host is malformed")]
    BadHost,
    /// Content-Length is not a decimal number of at most 64 bits.
    #[error("Content-Length is malformed")]
    BadContentLength,
    /// Transfer-Encoding is not exactly `chunked`.
    #[error("Transfer-Encoding is malformed")]
    BadTransferEncoding,
    /// Transfer-Encoding names a coding that the server does not know.
    #[error("Transfer-Encoding names an unknown coding")]
    UnknownTransferCoding,
    /// An HTTP/1.0 request has Transfer-Encoding (RFC 9112 §6.1).
    #[error("an HTTP/1.0 request has Transfer-Encoding")]
    TransferEncodingIn10,
    /// The request has both Content-Length and Transfer-Encoding.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// Expect names an expectation other than `100-continue`.
    #[error("Expect names an unknown expectation")]
    UnknownExpectation,
    /// What a trusted proxy says about the request is malformed or contradictory.
    #[error(transparent)]
    Forwarded(#[from] ForwardedError),
}

impl HeadError {
    /// The status of the response.
    pub fn status(self) -> Status {
        match self {
            Self::Field(error) => error.status(),
            Self::Forwarded(error) => error.status(),
            Self::RequestLineTooLong => Status(414),
            Self::UnknownExpectation => Status(417),
            Self::MethodTooLong | Self::Connect | Self::UnknownTransferCoding => Status(501),
            Self::UnsupportedVersion => Status(505),
            Self::BareLf
            | Self::BareCr
            | Self::Control
            | Self::EmptyLines
            | Self::BadMethod
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
