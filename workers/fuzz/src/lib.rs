//! What the fuzz targets check. Each target is a function that takes any bytes, and panics if a property does
//! not hold for them.
//!
//! The functions are called in two ways. `scripts/fuzz` builds the targets in `targets/` with cargo-fuzz, and
//! searches for bytes that make one panic. `tests/fuzz_corpus.rs` calls the same functions with every file of
//! `corpus/` and of `tests/wire`, in the ordinary test run; it compiles this file as one of its modules.
//!
//! Wherever possible, a target takes its bytes as a peer would send them, without a prefix that steers it: an
//! input of `connection` is a wire file, and the other way around. What a target needs beside them, such as
//! where to cut, it derives from the bytes themselves.
//!
//! | target | bytes | properties |
//! |---|---|---|
//! | `head` | the head of a request, and what follows it | cuts change nothing; the head is what its lines say |
//! | `framing` | header lines behind `POST / HTTP/1.1`, and 1.0 | the framing is what the lines say, or a refusal |
//! | `chunks` | a chunked body, and what follows it | cuts change nothing; a second decoder agrees |
//! | `proxy` | a header of the PROXY protocol | it is decided with one byte; written again, it says the same |
//! | `forwarded` | header lines that proxies have written | what a client forged changes nothing; a second reader agrees |
//! | `static_files` | a request for a file, behind `GET /` | only files of the mount are sent; head and body agree |
//! | `admin` | a request to the admin socket | cuts change nothing; one response; only the owner changes something |
//! | `statsd` | prefix, tags, zone, DD_EXTERNAL_ENV | a reader of the lines finds exactly these texts |
//! | `access_log` | a format of the access log, NUL, the head of a request | one line; nothing in it ends it, a string or a name |
//! | `config` | the file of `--config` | all options have values, or one line says why not |
//! | `tls` | the records of a client, or what it encrypts | cuts change nothing; only what was sent is read; alerts |
//! | `connection` | everything that a client sends | cuts and short writes change nothing; each request has its response |

mod access_log;
mod admin;
mod chunks;
mod config;
mod connection;
mod forwarded;
mod framing;
mod head;
mod pieces;
mod proxy;
mod responses;
mod static_files;
mod statsd;
#[cfg(feature = "tls")]
mod tls;

pub use access_log::access_log;
pub use admin::admin;
pub use chunks::chunks;
pub use config::config;
pub use connection::connection;
pub use forwarded::forwarded;
pub use framing::framing;
pub use head::head;
pub use proxy::proxy;
pub use static_files::static_files;
pub use statsd::statsd;
#[cfg(feature = "tls")]
pub use tls::tls;
