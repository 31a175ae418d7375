//! sd_notify(3): datagrams to the service manager that started this process as a `Type=notify` service.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::system::{listen_fds, watchdog};

/// The variable that names the socket. It is meant for the supervisor only: workers are started without it.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// All variables that a service manager sets for this process alone. The supervisor starts workers without them.
pub fn own_variables() -> impl Iterator<Item = &'static str> {
    listen_fds::VARIABLES.into_iter().chain(watchdog::VARIABLES).chain([NOTIFY_SOCKET])
}

/// The service manager, if there is one.
pub struct Notifier(Option<OsString>);

impl Notifier {
    /// Reads the name of the socket from the environment.
    pub fn from_environment() -> Self {
        Self(std::env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty()))
    }

    /// A notifier that sends nothing, because another process notifies the service manager.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Sends a state, such as `READY=1`. Without a service manager, this does nothing.
    pub fn notify(&self, state: &str) -> io::Result<()> {
        let Some(name) = &self.0 else { return Ok(()) };
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        Notifier(Some(path.into())).notify("READY=1").unwrap();
        let mut bytes = [0; 32];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");
    }

    #[test]
    fn a_state_arrives_at_an_abstract_name() {
        let name = format!("arctos-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notifier(Some(format!("@{name}").into())).notify("STOPPING=1").unwrap();
        let mut bytes = [0; 32];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"STOPPING=1");
    }

    #[test]
    fn without_a_service_manager_nothing_is_sent() {
        Notifier(None).notify("READY=1").unwrap();
    }

    #[test]
    fn a_service_manager_that_is_gone_is_an_error() {
        assert!(Notifier(Some("/nonexistent/notify".into())).notify("READY=1").is_err());
    }
}
