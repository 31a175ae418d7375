//! Why a TLS configuration cannot be used. Each message names the option and the file, and never a byte of a key.
#![expect(missing_docs, reason = "the fields are the names of files, and causes")]

use std::io;
use std::path::PathBuf;

use crate::shared::log::ErrorText;

/// Why a TLS configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{option} {}: {}", .file.display(), ErrorText(.error))]
    Unreadable { option: &'static str, file: PathBuf, error: io::Error },
    /// The file is not PEM, or a block in it is damaged.
    #[error("{option} {}: {reason}", .file.display())]
    Pem { option: &'static str, file: PathBuf, reason: String },
    /// There is no certificate in the file.
    #[error("{option} {}: expected a certificate in PEM format (-----BEGIN CERTIFICATE-----)", .file.display())]
    NoCertificate { option: &'static str, file: PathBuf },
    /// There is no private key in the file.
    #[error(
        "--keyfile {}: expected an unencrypted private key in PEM format (-----BEGIN PRIVATE KEY-----)",
        .file.display()
    )]
    NoKey { file: PathBuf },
    /// The private key is encrypted.
    #[error(
        "--keyfile {}: the private key is encrypted; decrypt it (openssl pkey -in FILE -out NEW) and let only root \
         read it",
        .file.display()
    )]
    EncryptedKey { file: PathBuf },
    /// The key is of a kind that is not supported.
    #[error(
        "--keyfile {}: expected an RSA key of 2048 to 8192 bits, or an ECDSA P-256, ECDSA P-384 or Ed25519 key",
        .file.display()
    )]
    UnsupportedKey { file: PathBuf },
    /// The certificate is malformed.
    #[error("--certfile {}: the certificate cannot be used: {reason}", .file.display())]
    Certificate { file: PathBuf, reason: String },
    /// The key belongs to another certificate.
    #[error("--keyfile {}: this is not the key of the certificate in {}", .key.display(), .certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    /// A certificate of an authority cannot be used.
    #[error("--ca-certs {}: a certificate cannot be used: {reason}", .file.display())]
    Authority { file: PathBuf, reason: String },
    /// rustls refused the configuration.
    #[error("cannot configure TLS: {0}")]
    Refused(String),
    /// This build has no TLS.
    #[error("this build of arctos has no TLS: it was compiled without the cargo feature tls")]
    NotBuilt,
}
