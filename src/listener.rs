//! Placeholder: written in its own step.
use std::io;
use std::net::TcpListener;

use arctos_worker::connection::SocketName;
use arctos_worker::identity::SlotId;
use arctos_worker::worker::Listener;

/// Stub.
pub struct Listeners(pub TcpListener);

impl Listeners {
    /// Stub.
    pub fn for_slot(&self, _slot: SlotId) -> io::Result<Vec<Listener>> {
        let name = SocketName::Inet(self.0.local_addr()?);
        Ok(vec![Listener { socket: self.0.try_clone()?.into(), name }])
    }
    /// Stub.
    pub fn close_door(&self) {}
    /// Stub.
    pub fn descriptions(&self) -> Vec<String> {
        vec!["stub".into()]
    }
}
