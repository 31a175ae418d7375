//! The addresses to listen on, for clients (`--bind`) and for operators (`--admin-bind`).

use std::path::Path;

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::place::Reason;
use super::reader::{Reader, wrong};
use super::value::{Kind, Whole, bounded};
use crate::system::address::{AddressError, BindAddress};
use crate::system::environment::Environment;
use crate::system::listen_fds;

/// Returns the given addresses, else the sockets that systemd bound, else the port that a platform names in `$PORT`,
/// as gunicorn does.
pub(super) fn binds(
    reader: &mut Reader<'_>,
    environment: &Environment,
) -> Result<Vec<BindAddress>, ConfigError> {
    let given = reader.many(Setting::Bind, |text| {
        text.parse::<BindAddress>().map_err(|error| error.to_string())
    })?;
    let (binds, origin) = if let Some(origin) = reader.given(Setting::Bind) {
        (given, origin.origin.clone())
    } else {
        let inherited = listen_fds::inherited(environment, std::process::id())?;
        if !inherited.is_empty() {
            (inherited.into_iter().map(BindAddress::Fd).collect(), Origin::Place(Reason::Systemd))
        } else if let Some(text) = environment.value("PORT") {
            let origin = Origin::Environment("PORT".to_owned());
            let ports = Whole { min: 0, max: u64::from(u16::MAX) };
            let port = text.to_str().and_then(|text| ports.read(text));
            let port = port.ok_or_else(|| wrong(Setting::Bind, &origin, text, ports.expected()))?;
            let host = "0.0.0.0".to_owned();
            (vec![BindAddress::Tcp { host, port: bounded(port) }], Origin::Place(Reason::Port))
        } else {
            let host = "127.0.0.1".to_owned();
            (vec![BindAddress::Tcp { host, port: 8000 }], Origin::Default)
        }
    };
    let base = reader.base();
    let binds: Vec<_> = binds.into_iter().map(|bind| absolute(base, bind)).collect();
    reader.note(Setting::Bind, shown(&binds), origin);
    Ok(binds)
}

/// Reads the addresses of the admin socket. It has none unless one is given, and none where the application is served.
pub(super) fn admin_binds(
    reader: &mut Reader<'_>,
    binds: &[BindAddress],
) -> Result<Vec<BindAddress>, ConfigError> {
    let base = reader.base();
    let admin_binds = reader.many(Setting::AdminBind, |text| {
        let bind = absolute(base, admin_bind(text)?);
        // Port 0 is a different port each time.
        let is_free = matches!(bind, BindAddress::Tcp { port: 0, .. }) || !binds.contains(&bind);
        if is_free { Ok(bind) } else { Err("an address that is not also in --bind".to_owned()) }
    })?;
    let origin = reader.given(Setting::AdminBind).map(|given| given.origin.clone());
    reader.note(Setting::AdminBind, shown(&admin_binds), origin.unwrap_or(Origin::Default));
    Ok(admin_binds)
}

/// Reads one address. An abstract name is refused, because it has no permissions: everybody on the machine could connect.
fn admin_bind(text: &str) -> Result<BindAddress, String> {
    let form =
        "HOST:PORT, [IPv6]:PORT, :PORT, PORT or unix:/path, such as unix:/run/arctos-admin.sock";
    match text.parse() {
        Ok(bind @ (BindAddress::Tcp { .. } | BindAddress::Unix(_))) => Ok(bind),
        Ok(BindAddress::Abstract(_) | BindAddress::Fd(_))
        | Err(AddressError::Form | AddressError::Descriptor) => Err(form.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes the path of a unix socket absolute.
fn absolute(base: &Path, bind: BindAddress) -> BindAddress {
    match bind {
        BindAddress::Unix(path) => BindAddress::Unix(base.join(path)),
        BindAddress::Tcp { .. } | BindAddress::Abstract(_) | BindAddress::Fd(_) => bind,
    }
}

fn shown(binds: &[BindAddress]) -> String {
    let shown: Vec<_> = binds.iter().map(BindAddress::to_string).collect();
    shown.join(", ")
}
