//! The files of TLS. They are read when a generation is loaded, not here.

use std::path::PathBuf;

use arctos_worker::settings::{CertificatePair, ClientCertificates, TlsFiles};
use arctos_worker::tls;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::{Reader, wrong};
use super::value::{Choice, Kind};

/// The words of `--cert-reqs`, and the values of `ssl.CERT_NONE` and so on, which gunicorn takes.
const WORDS: Choice<ClientCertificates> = Choice(&[
    ("none", ClientCertificates::None),
    ("optional", ClientCertificates::Optional),
    ("required", ClientCertificates::Required),
    ("0", ClientCertificates::None),
    ("1", ClientCertificates::Optional),
    ("2", ClientCertificates::Required),
]);

/// [`WORDS`] with an error message that names the words only.
struct CertReqs;

impl Kind for CertReqs {
    type Value = ClientCertificates;

    fn read(&self, text: &str) -> Option<ClientCertificates> {
        WORDS.read(text)
    }

    fn expected(&self) -> String {
        "none, optional or required (or 0, 1 or 2)".to_owned()
    }

    fn show(&self, value: &ClientCertificates) -> String {
        WORDS.show(value)
    }
}

/// Reads the options of TLS; `None` if no certificate is given.
pub(super) fn tls(reader: &mut Reader<'_>) -> Result<Option<TlsFiles>, ConfigError> {
    for setting in [Setting::Certfile, Setting::Keyfile, Setting::CaCerts] {
        refuse_unless_built(reader, setting)?;
    }
    let certificates = files(reader, Setting::Certfile)?;
    let keys = files(reader, Setting::Keyfile)?;
    let ca_certs = reader.path(Setting::CaCerts)?;
    let client_certificates = reader.one(Setting::CertReqs, CertReqs)?;
    if certificates.is_empty() {
        for setting in [Setting::Keyfile, Setting::CaCerts] {
            let expected = "--certfile with it, which turns TLS on";
            refuse_if_given(reader, setting, expected)?;
        }
    }
    let count = certificates.len();
    if !keys.is_empty() && keys.len() != count {
        let files = if count == 1 { "1 file" } else { &format!("{count} files") };
        let expected = format!("{files}, one for each --certfile, in the same order");
        refuse_if_given(reader, Setting::Keyfile, &expected)?;
    }
    match client_certificates {
        ClientCertificates::None if reader.given(Setting::CertReqs).is_none() => {
            let expected = "--cert-reqs with it: no client is asked for a certificate by default";
            refuse_if_given(reader, Setting::CaCerts, expected)?;
        }
        ClientCertificates::Optional | ClientCertificates::Required if ca_certs.is_none() => {
            let expected = "--ca-certs with it, which client certificates are checked against";
            refuse_if_given(reader, Setting::CertReqs, expected)?;
        }
        ClientCertificates::None | ClientCertificates::Optional | ClientCertificates::Required => {}
    }
    if certificates.is_empty() {
        return Ok(None);
    }
    let keys = if keys.is_empty() { certificates.clone() } else { keys };
    let pairs = certificates.into_iter().zip(keys);
    let pairs = pairs.map(|(certificate, key)| CertificatePair { certificate, key }).collect();
    Ok(Some(TlsFiles { pairs, ca_certs, client_certificates }))
}

/// Reads the paths of a setting, makes them absolute and records them.
fn files(reader: &mut Reader<'_>, setting: Setting) -> Result<Vec<PathBuf>, ConfigError> {
    let base = reader.base().to_owned();
    let paths = reader.many(setting, |text| match text {
        "" => Err("a path".to_owned()),
        path => Ok(base.join(path)),
    })?;
    let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let origin = reader.given(setting).map_or(Origin::Default, |given| given.origin.clone());
    reader.note(setting, shown.join(", "), origin);
    Ok(paths)
}

fn refuse_if_given(
    reader: &Reader<'_>,
    setting: Setting,
    expected: &str,
) -> Result<(), ConfigError> {
    match reader.last(setting) {
        Some((text, origin)) => Err(wrong(setting, origin, text, expected.to_owned())),
        None => Ok(()),
    }
}

fn refuse_unless_built(reader: &Reader<'_>, setting: Setting) -> Result<(), ConfigError> {
    match reader.last(setting) {
        Some((text, origin)) if !tls::IS_BUILT => Err(ConfigError::NoTls {
            setting,
            origin: origin.clone(),
            text: text.to_string_lossy().into_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::system::environment::Environment;

    fn read(options: &[(Setting, &[&str])]) -> Result<Option<TlsFiles>, String> {
        let ours = [(Setting::Application, vec!["shop:app".into()])];
        let given = options.iter().map(|(setting, values)| {
            (*setting, values.iter().map(|value| (*value).into()).collect())
        });
        let source = Source::of_command_line(ours.into_iter().chain(given), Environment::default());
        source.unwrap().read().map(|config| config.tls).map_err(|error| error.to_string())
    }

    fn pairs(files: Option<TlsFiles>) -> Vec<(String, String)> {
        let text = |path: &PathBuf| path.display().to_string();
        let pairs = files.unwrap().pairs;
        pairs.iter().map(|pair| (text(&pair.certificate), text(&pair.key))).collect()
    }

    #[test]
    fn without_a_certificate_there_is_no_tls() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(Setting::CertReqs, &["0"])]), Ok(None));
    }

    #[test]
    fn a_build_without_tls_refuses_its_options() {
        if tls::IS_BUILT {
            return;
        }
        for setting in [Setting::Certfile, Setting::Keyfile, Setting::CaCerts] {
            let error = read(&[(setting, &["/a"])]).unwrap_err();
            assert!(error.contains("this build of arctos has no TLS"), "{error}");
        }
    }

    #[test]
    fn certificates_and_keys_are_paired_in_their_order() {
        if !tls::IS_BUILT {
            return;
        }
        let (certificates, keys): (&[&str], &[&str]) =
            (&["/a.pem", "/b.pem"], &["/a.key", "/b.key"]);
        let files = read(&[(Setting::Certfile, certificates), (Setting::Keyfile, keys)]).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(pairs(files), [pair("/a.pem", "/a.key"), pair("/b.pem", "/b.key")]);
        let files = read(&[(Setting::Certfile, certificates)]).unwrap();
        assert_eq!(pairs(files), [pair("/a.pem", "/a.pem"), pair("/b.pem", "/b.pem")]);
        let error = read(&[(Setting::Certfile, certificates), (Setting::Keyfile, &["/a.key"])]);
        assert_eq!(
            error.unwrap_err(),
            "--keyfile '/a.key': expected 2 files, one for each --certfile, in the same order"
        );
    }

    #[test]
    fn options_that_make_no_sense_without_another_name_it() {
        if !tls::IS_BUILT {
            return;
        }
        let certificate: (Setting, &[&str]) = (Setting::Certfile, &["/a.pem"]);
        let authority: (Setting, &[&str]) = (Setting::CaCerts, &["/ca.pem"]);
        for (options, other) in [
            (vec![(Setting::Keyfile, &["/a.key"][..])], "--certfile"),
            (vec![authority], "--certfile"),
            (vec![certificate, authority], "--cert-reqs"),
            (vec![certificate, (Setting::CertReqs, &["required"][..])], "--ca-certs"),
            (vec![(Setting::CertReqs, &["1"][..])], "--ca-certs"),
        ] {
            let error = read(&options).unwrap_err();
            assert!(error.contains(&format!("expected {other} with it")), "{error}");
        }
        let error = read(&[certificate, (Setting::CertReqs, &["maybe"])]).unwrap_err();
        assert!(error.contains("none, optional or required"), "{error}");
    }

    #[test]
    fn cert_reqs_takes_pythons_numbers() {
        if !tls::IS_BUILT {
            return;
        }
        for (text, expected) in [
            ("0", ClientCertificates::None),
            ("1", ClientCertificates::Optional),
            ("Required", ClientCertificates::Required),
        ] {
            let files = read(&[
                (Setting::Certfile, &["/a.pem"]),
                (Setting::CaCerts, &["/ca.pem"]),
                (Setting::CertReqs, &[text]),
            ]);
            assert_eq!(files.unwrap().unwrap().client_certificates, expected, "{text}");
        }
    }
}
