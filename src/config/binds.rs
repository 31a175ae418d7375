//! Where to listen.

use super::reader::{Reader, wrong};
use super::resolve::bounded;
use super::{ConfigError, Origin, RawOptions};
use crate::address::BindAddress;
use crate::options::Setting;
use crate::systemd;
use crate::value::{Kind, Whole};

/// Given; else what systemd has bound; else what a platform says with `$PORT`, as gunicorn does.
pub(super) fn binds(
    reader: &mut Reader<'_>,
    raw: &RawOptions,
) -> Result<Vec<BindAddress>, ConfigError> {
    let given = reader.many(Setting::Bind, |text| {
        text.parse::<BindAddress>().map_err(|error| error.to_string())
    })?;
    let (binds, origin) = if let Some(origin) = reader.given(Setting::Bind) {
        (given, origin.origin.clone())
    } else {
        let inherited = systemd::inherited(&raw.environment, std::process::id())?;
        if !inherited.is_empty() {
            (inherited.into_iter().map(BindAddress::Fd).collect(), Origin::Systemd)
        } else if let Some(text) = raw.environment.value("PORT") {
            let origin = Origin::Environment("PORT".to_owned());
            let ports = Whole { least: 0, most: u64::from(u16::MAX) };
            let port = text.to_str().and_then(|text| ports.read(text));
            let port = port.ok_or_else(|| wrong(Setting::Bind, &origin, text, ports.expected()))?;
            let host = "0.0.0.0".to_owned();
            (vec![BindAddress::Tcp { host, port: bounded(port) }], origin)
        } else {
            let host = "127.0.0.1".to_owned();
            (vec![BindAddress::Tcp { host, port: 8000 }], Origin::Default)
        }
    };
    let base = reader.base();
    let absolute = |bind| match bind {
        BindAddress::Unix(path) => BindAddress::Unix(base.join(path)),
        BindAddress::Tcp { .. } | BindAddress::Abstract(_) | BindAddress::Fd(_) => bind,
    };
    let binds: Vec<_> = binds.into_iter().map(absolute).collect();
    let shown: Vec<_> = binds.iter().map(BindAddress::to_string).collect();
    reader.note(Setting::Bind, shown.join(", "), origin);
    Ok(binds)
}
