//! A client of the server that this process belongs to, for the application in a worker.

use std::sync::{Mutex, PoisonError};

use super::ctl::CtlError;
use super::ctl::client::{self, ReadTimeout};
use crate::system::address::BindAddress;

/// The server that this process belongs to. Workers inherit it from the supervisor.
#[derive(Clone)]
enum OwnServer {
    /// This process belongs to no supervisor.
    None,
    /// Its server has no admin socket.
    WithoutAdmin,
    /// The first address of its admin socket.
    WithAdmin(BindAddress),
}

static OWN_SERVER: Mutex<OwnServer> = Mutex::new(OwnServer::None);

/// What [`metrics`] returns.
pub enum OwnMetrics {
    /// This process belongs to no supervisor.
    NoServer,
    /// The server has no admin socket.
    NoAdmin,
    /// The page of all metrics.
    Page(String),
}

/// Remembers the admin socket of the server whose supervisor this process is, by the descriptions for the log.
pub fn remember(admin: &[String]) {
    let first = admin.first().map(|url| url.strip_prefix("http://").unwrap_or(url));
    let first = first.and_then(|address| address.parse().ok());
    *OWN_SERVER.lock().unwrap_or_else(PoisonError::into_inner) =
        first.map_or(OwnServer::WithoutAdmin, OwnServer::WithAdmin);
}

/// Asks the server for all metrics.
///
/// Errors: [`CtlError`], if it does not answer.
pub fn metrics() -> Result<OwnMetrics, CtlError> {
    let server = OWN_SERVER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match server {
        OwnServer::None => Ok(OwnMetrics::NoServer),
        OwnServer::WithoutAdmin => Ok(OwnMetrics::NoAdmin),
        OwnServer::WithAdmin(server) => {
            let response = client::get(&server, "/metrics", ReadTimeout::Short)?;
            response.into_success(&server).map(OwnMetrics::Page)
        }
    }
}
