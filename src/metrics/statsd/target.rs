//! The address of the agent, as `--statsd-host` writes it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{PORT, Target};
use crate::system::address::{AddressError, BindAddress};

/// `sizeof(sun_path)` less its closing NUL (unix(7)).
const PATH_MAX_BYTES: usize = 107;

/// Why a text is not a target. The message follows "expected".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The text has none of the forms.
    #[error("HOST, HOST:PORT, [IPv6]:PORT or unix:///path, such as 127.0.0.1:8125")]
    Form,
    /// The text after the last colon is not a port number.
    #[error("a port from 1 to 65535 after the last colon, such as 127.0.0.1:8125")]
    Port,
    /// The last colon could belong to the address, or precede a port.
    #[error("brackets around an IPv6 address, such as [::1]:8125")]
    Brackets,
    /// The path is not absolute, or cannot be that of a socket.
    #[error("an absolute path after unix:, such as unix:///run/datadog/dsd.socket")]
    Path,
    /// The path is longer than the kernel accepts.
    #[error("a path of at most {PATH_MAX_BYTES} bytes after unix:")]
    LongPath,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.strip_prefix("unix:") {
            Some(path) => unix(path),
            None => udp(text),
        }
    }
}

fn unix(path: &str) -> Result<Target, TargetError> {
    let slash_count = path.bytes().take_while(|&byte| byte == b'/').count();
    // After two slashes the path would be ambiguous.
    if matches!(slash_count, 0 | 2) || path.ends_with('/') || path.contains('\0') {
        return Err(TargetError::Path);
    }
    let path = &path[slash_count - 1..];
    if path.len() > PATH_MAX_BYTES {
        return Err(TargetError::LongPath);
    }
    Ok(Target::Unix(PathBuf::from(path)))
}

fn udp(text: &str) -> Result<Target, TargetError> {
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if let Some((host, digits)) = text.rsplit_once(':')
        && (is_ipv6(text) || is_ipv6(host))
    {
        // `::1:8125` is a valid address, but certainly not the intended one.
        let could_be_port = is_ipv6(host) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if could_be_port || !is_ipv6(text) {
            return Err(TargetError::Brackets);
        }
        return Ok(Target::Udp { host: text.to_owned(), port: PORT });
    }
    // inet_aton(3) would take a port alone for an address.
    if text.contains('/') || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TargetError::Form);
    }
    let is_host_alone = text.ends_with(']') || !text.contains(':');
    let whole = if is_host_alone { format!("{text}:{PORT}") } else { text.to_owned() };
    match whole.parse() {
        Ok(BindAddress::Tcp { port: 0, .. }) => Err(TargetError::Port),
        Ok(BindAddress::Tcp { host, port }) if !host.is_empty() => Ok(Target::Udp { host, port }),
        Err(AddressError::Port) => Err(TargetError::Port),
        Ok(_) | Err(_) => Err(TargetError::Form),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Udp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
