//! Reads the certificates and private keys of a generation, and logs what an operator should know about them.

use std::time::{Duration, SystemTime};

use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::tls::{self, LoadedCertificate, TlsConfig, TlsError};

use crate::config::Config;

/// Reads the certificates and keys; `None` if connections are not encrypted.
pub(crate) fn load(config: &Config, log: &Log) -> Result<Option<TlsConfig>, TlsError> {
    let Some(files) = &config.tls else { return Ok(None) };
    let loaded = tls::load(files)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for certificate in &loaded.certificates {
        report(certificate, now, log);
    }
    Ok(Some(loaded.config))
}

fn report(certificate: &LoadedCertificate, now: Duration, log: &Log) {
    let names = certificate.names.join(",");
    let expires = certificate.expires.as_ref();
    let is_expired = expires.is_some_and(|expires| expires.since_1970 <= now);
    let (level, event) = match is_expired {
        true => (Level::Warning, "certificate.expired"),
        false => (Level::Info, "certificate.loaded"),
    };
    let file = certificate.certificate.display();
    let pairs = [
        ("file", Value::Display(&file)),
        ("names", Value::Text(&names)),
        ("expires", Value::Text(expires.map_or("", |expires| &expires.text))),
    ];
    log.line(level, event, &pairs);
    if let Some((file, mode)) = &certificate.exposed_key {
        let (file, mode) = (file.display(), format!("{mode:04o}"));
        let advice = "only its owner should be able to read it: chmod 600";
        let pairs = [
            ("file", Value::Display(&file)),
            ("mode", Value::Text(&mode)),
            ("hint", Value::Text(advice)),
        ];
        log.line(Level::Warning, "keyfile.exposed", &pairs);
    }
}
