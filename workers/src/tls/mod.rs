//! TLS by rustls: certificates, session tickets, and one [`Session`] for each connection. No sockets: ciphertext comes
//! in and goes out as bytes.
//!
//! The supervisor loads a [`TlsConfig`] while it is root, and workers get it through fork(2): the private keys are
//! memory of each process, and no worker can read the files. What nginx calls the session ticket key is made with the
//! configuration, too, so that a client may resume its session at any worker (the module `tickets`).
//!
//! Without the cargo feature `tls`, nothing here can be constructed, and [`load`] says why.

mod error;

#[cfg(feature = "tls")]
mod certificates;
#[cfg(feature = "tls")]
mod config;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod peer;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod tickets;

#[cfg(not(feature = "tls"))]
mod absent;

#[cfg(not(feature = "tls"))]
pub use absent::{Session, TlsConfig, load};
#[cfg(feature = "tls")]
pub use config::{TlsConfig, load};
#[cfg(feature = "tls")]
pub use session::Session;

pub use error::TlsError;

use std::path::PathBuf;
use std::time::Duration;

/// Whether this build has TLS: the cargo feature `tls`.
pub const IS_BUILT: bool = cfg!(feature = "tls");

/// The maximum plaintext of one record (RFC 8446 §5.1).
pub const RECORD_BYTES: usize = 16 * 1024;

/// A configuration, and what an operator should know about its files.
#[derive(Debug)]
pub struct Loaded {
    /// For the workers.
    pub config: TlsConfig,
    /// The certificates, in the order of the options.
    pub certificates: Vec<LoadedCertificate>,
}

/// A certificate and its key, as they were loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedCertificate {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The DNS names that it is valid for.
    pub names: Vec<String>,
    /// The end of its validity; `None` if the certificate is too unusual to tell.
    pub expires: Option<Expiry>,
    /// The file of the key if others than its owner may read it, with its permissions.
    pub exposed_key: Option<(PathBuf, u32)>,
}

/// The end of the validity of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The time since 1970.
    pub since_1970: Duration,
    /// The same time as text, such as `2027-01-31T00:00:00Z`.
    pub text: String,
}

/// What became of the bytes given to [`Session::process`].
#[derive(Debug)]
pub struct Processed {
    /// This many bytes of ciphertext are used; the rest has to be given again, with what follows it. All, if the session
    /// has failed.
    pub taken_bytes: usize,
    /// This many bytes of plaintext are in the buffer.
    pub plaintext_bytes: usize,
    /// What has to happen next.
    pub next: Next,
}

/// What a [`Session`] needs after [`Session::process`].
#[derive(Debug)]
pub enum Next {
    /// More ciphertext from the peer.
    Ciphertext,
    /// Another call: there may be more records, but this call has done its share.
    Another,
    /// Nothing: the peer has ended its direction (close_notify).
    Ended,
    /// Nothing: the peer broke the protocol, or refused to go on. The text is for the log. If the peer broke it, the
    /// outgoing bytes end with an alert, unless rustls has none: it sends none for a few rare kinds of misbehavior, such
    /// as five warning alerts in a row or a handshake message of more than 64 KB.
    Failed(String),
}
