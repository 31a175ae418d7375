//! What a certificate says, and the variables of environ that describe a TLS connection, named as in Apache's mod_ssl.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the registries of IANA and X.509 are longer than what arctos uses"
)]

use std::borrow::Cow;
use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::der::pem::{LineEnding, encode_string};
use x509_cert::der::{Any, Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use super::Expiry;
use crate::connection::TlsInfo;

/// A parsed certificate.
pub(super) struct Certificate(CertificateInner<Raw>);

impl Certificate {
    /// `None` if it is too unusual. Whether it is valid is not checked here: rustls does that.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        CertificateInner::from_der(der).ok().map(Self)
    }

    /// The DNS names of the subject.
    pub(super) fn dns_names(&self) -> Vec<String> {
        let alternatives = self.alternative_names();
        alternatives
            .iter()
            .filter_map(|name| match name {
                GeneralName::DnsName(name) => Some(name.to_string()),
                _other => None,
            })
            .collect()
    }

    /// The end of the validity.
    pub(super) fn expires(&self) -> Expiry {
        let end = self.0.tbs_certificate().validity().not_after;
        Expiry { since_1970: end.to_unix_duration(), text: end.to_string() }
    }

    fn alternative_names(&self) -> Vec<GeneralName> {
        match self.0.tbs_certificate().get_extension::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names,
            Ok(None) | Err(_) => Vec::new(),
        }
    }

    fn put_variables(&self, variables: &mut Variables) {
        let certificate = self.0.tbs_certificate();
        variables.put("SSL_CLIENT_S_DN", certificate.subject().to_string());
        variables.put("SSL_CLIENT_I_DN", certificate.issuer().to_string());
        let common_names = certificate.subject().iter_rdn().flat_map(|names| names.iter());
        // mod_ssl names the first one without a number.
        let name = common_names.into_iter().find(|name| name.oid == CN);
        if let Some(name) = name.and_then(|name| text_of(&name.value)) {
            variables.put("SSL_CLIENT_S_DN_CN", name);
        }
        variables.put("SSL_CLIENT_M_SERIAL", hex(certificate.serial_number().as_bytes()));
        variables.put("SSL_CLIENT_V_START", shown(certificate.validity().not_before));
        variables.put("SSL_CLIENT_V_END", shown(certificate.validity().not_after));
        let (mut dns_count, mut email_count) = (0, 0);
        for name in self.alternative_names() {
            match name {
                GeneralName::DnsName(name) => {
                    let key = format!("SSL_CLIENT_SAN_DNS_{dns_count}");
                    variables.0.push((key.into(), name.to_string()));
                    dns_count += 1;
                }
                GeneralName::Rfc822Name(name) => {
                    let key = format!("SSL_CLIENT_SAN_Email_{email_count}");
                    variables.0.push((key.into(), name.to_string()));
                    email_count += 1;
                }
                _other => {}
            }
        }
    }
}

struct Variables(Vec<(Cow<'static, str>, String)>);

impl Variables {
    fn put(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }
}

/// Describes a connection whose handshake is complete.
pub(super) fn info(state: &CommonState) -> TlsInfo {
    let mut variables = Variables(Vec::new());
    variables.put("HTTPS", "on");
    variables.put("SSL_PROTOCOL", state.protocol_version().map_or("", protocol));
    let suite = state.negotiated_cipher_suite();
    variables.put("SSL_CIPHER", suite.map_or("", |suite| cipher(suite.suite())));
    let is_resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    variables.put("SSL_SESSION_RESUMED", if is_resumed { "Resumed" } else { "Initial" });
    let Some(certificate) = state.peer_certificates().and_then(<[_]>::first) else {
        variables.put("SSL_CLIENT_VERIFY", "NONE");
        return TlsInfo { variables: variables.0 };
    };
    variables.put("SSL_CLIENT_VERIFY", "SUCCESS");
    if let Ok(pem) = encode_string("CERTIFICATE", LineEnding::LF, certificate) {
        variables.put("SSL_CLIENT_CERT", pem);
    }
    if let Some(certificate) = Certificate::parse(certificate) {
        certificate.put_variables(&mut variables);
    }
    TlsInfo { variables: variables.0 }
}

fn protocol(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _other => "",
    }
}

/// The name that OpenSSL, and so mod_ssl, gives to a cipher suite.
fn cipher(suite: CipherSuite) -> &'static str {
    use CipherSuite as C;
    match suite {
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _other => "",
    }
}

/// A string of a distinguished name; `None` if it is of an unusual type or has control characters, which applications
/// may pass on to logs and headers.
fn text_of(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::PrintableString | Tag::Utf8String | Tag::Ia5String | Tag::TeletexString => {}
        _other => return None,
    }
    let text = std::str::from_utf8(value.value()).ok()?;
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    // DER puts a zero in front of a number whose first bit is set.
    let bytes = bytes.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(bytes);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// Writes a time as OpenSSL does: `Nov  3 02:54:52 2026 GMT`.
fn shown(time: Time) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = time.to_date_time();
    let month = MONTHS.get(usize::from(date.month()).saturating_sub(1)).copied().unwrap_or("");
    let (day, hour, minutes, seconds) = (date.day(), date.hour(), date.minutes(), date.seconds());
    format!("{month} {day:>2} {hour:02}:{minutes:02}:{seconds:02} {} GMT", date.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_text_of_a_usual_type_is_a_common_name() {
        let text = |tag, bytes: &[u8]| text_of(&Any::new(tag, bytes).unwrap());
        assert_eq!(text(Tag::Utf8String, "Zoë".as_bytes()).as_deref(), Some("Zoë"));
        assert_eq!(text(Tag::PrintableString, b"ops").as_deref(), Some("ops"));
        assert_eq!(text(Tag::BmpString, b"\0o\0p"), None);
        assert_eq!(text(Tag::Utf8String, b"ops\r\nX-User: root"), None);
        assert_eq!(text(Tag::Utf8String, b"ops\0"), None);
        assert_eq!(text(Tag::Utf8String, b"\xff"), None);
    }
}
