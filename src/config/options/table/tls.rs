//! The rows about TLS.

use super::super::DefaultValue::{Derived, None, Word};
use super::super::{OptionSpec, Setting as S, Takes, Topic as T};
use super::row;

/// The rows, in the order of the help.
pub(super) const ROWS: &[OptionSpec] = &[
    row(
        S::Certfile,
        T::Tls,
        "certfile",
        "Serve HTTPS on all TCP addresses with the certificate in this PEM file, followed by \
         its chain. Give several for several host names (SNI); the first one is for clients \
         that name none of them. A reload reads the files again.",
    )
    .takes("FILE", Takes::Many(','), None),
    row(
        S::Keyfile,
        T::Tls,
        "keyfile",
        "Unencrypted private key of the certificate, in PEM format: one for each `--certfile`, \
         in the same order. The supervisor reads it before the workers change to `--user`.",
    )
    .takes("FILE", Takes::Many(','), Derived("the key in the file of `--certfile`")),
    row(
        S::CaCerts,
        T::Tls,
        "ca-certs",
        "Certificates of the authorities that may sign client certificates, in PEM format.",
    )
    .optional("FILE"),
    row(
        S::CertReqs,
        T::Tls,
        "cert-reqs",
        "Do not ask clients for a certificate (`none`), check it if they have one (`optional`), \
         or refuse clients without a valid one (`required`). Python's numbers 0, 1 and 2 mean \
         the same.",
    )
    .once("none|optional|required", Word("none")),
];
