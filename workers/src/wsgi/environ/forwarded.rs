//! What trusted proxies change in the environ, with forwarded headers or with a PROXY header.
//!
//! | stated | sets |
//! |---|---|
//! | the client | REMOTE_ADDR, and REMOTE_PORT, which is missing if the port is unknown |
//! | the scheme | `wsgi.url_scheme`, and HTTPS, which is missing if it is http |
//! | the host | HTTP_HOST, SERVER_NAME |
//! | the port | SERVER_PORT |
//! | the prefix | SCRIPT_NAME, which is the prefix followed by `--root-path` |
//!
//! The headers themselves are in the environ as sent, and the peer of the socket is `arctos.peer_addr` and
//! `arctos.peer_port`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{Environs, server_name, split_host};
use crate::application::Request;
use crate::connection::ConnInfo;
use crate::http::{Forwarded, ForwardedClient, Scheme};
use crate::shared::socket_name::SocketName;
use crate::wsgi::ffi;

impl Environs {
    /// Sets what the proxies state.
    pub(super) fn set_forwarded(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        stated: &Forwarded,
    ) -> PyResult<()> {
        if let Some(client) = stated.client {
            self.set_client(py, environ, client)?;
        }
        if let Some(scheme) = stated.scheme {
            self.set_scheme(py, environ, scheme)?;
        }
        if let Some(host) = &stated.host {
            let (name, _port) = split_host(host);
            environ.set_item(&self.keys.http_host, ffi::latin1(py, host)?)?;
            environ.set_item(&self.keys.server_name, ffi::latin1(py, name)?)?;
        }
        if let Some(port) = stated.port {
            let mut digits = itoa::Buffer::new();
            environ.set_item(&self.keys.server_port, PyString::new(py, digits.format(port)))?;
        }
        if let Some(prefix) = stated.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            let script_name = [prefix, &self.root_path].concat();
            environ.set_item(&self.keys.script_name, ffi::latin1(py, &script_name)?)?;
        }
        Ok(())
    }

    /// Sets the scheme in both places where frameworks look for it. What else is known of TLS stays: it is that of the
    /// proxy's own connection.
    fn set_scheme(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        scheme: Scheme,
    ) -> PyResult<()> {
        match scheme {
            Scheme::Http => {
                if environ.contains(&self.keys.https)? {
                    environ.del_item(&self.keys.https)?;
                }
                environ.set_item(&self.keys.wsgi_url_scheme, PyString::intern(py, "http"))
            }
            Scheme::Https => {
                environ.set_item(&self.keys.https, PyString::intern(py, "on"))?;
                environ.set_item(&self.keys.wsgi_url_scheme, PyString::intern(py, "https"))
            }
        }
    }

    /// Sets what a PROXY header announced beside REMOTE_ADDR: the address and port that the client connected to.
    pub(super) fn set_proxied(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        conn: &ConnInfo,
    ) -> PyResult<()> {
        if let SocketName::Inet(address) = conn.destination() {
            let mut digits = itoa::Buffer::new();
            environ.set_item(&self.keys.server_name, server_name(address.ip()))?;
            let port = PyString::new(py, digits.format(address.port()));
            environ.set_item(&self.keys.server_port, port)?;
        }
        match conn.source() {
            SocketName::Unix(_) if environ.contains(&self.keys.remote_port)? => {
                environ.del_item(&self.keys.remote_port)
            }
            SocketName::Unix(_) | SocketName::Inet(_) => Ok(()),
        }
    }

    fn set_client(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        client: ForwardedClient,
    ) -> PyResult<()> {
        let ForwardedClient { ip, port } = client;
        environ.set_item(&self.keys.remote_addr, PyString::new(py, &ip.to_string()))?;
        match port {
            Some(port) => {
                let mut digits = itoa::Buffer::new();
                environ.set_item(&self.keys.remote_port, PyString::new(py, digits.format(port)))
            }
            None if environ.contains(&self.keys.remote_port)? => {
                environ.del_item(&self.keys.remote_port)
            }
            None => Ok(()),
        }
    }

    /// Sets the address of the socket's peer, which REMOTE_ADDR may not have. Only for servers with an option that
    /// makes this possible.
    pub(super) fn set_socket_peer(
        &mut self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        request: &Request<'_>,
    ) -> PyResult<()> {
        match &request.conn.peer {
            SocketName::Inet(address) => {
                let peer = self.peers.find(py, address)?;
                environ.set_item(&self.keys.peer_addr, &peer.host)?;
                environ.set_item(&self.keys.peer_port, &peer.port)
            }
            // It has no address and no port, as REMOTE_ADDR and REMOTE_PORT say without a proxy.
            SocketName::Unix(_) => environ.set_item(&self.keys.peer_addr, ""),
        }
    }
}
