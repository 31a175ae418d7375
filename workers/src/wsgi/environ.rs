//! The environ of a request (PEP 3333 "environ Variables", RFC 3875 §4.1): a copy of a template with what all requests
//! of a listener have in common, plus what the request changes.
//!
//! The template has every key that all requests have, with its most common value. The copy therefore has its final
//! order and size, and a request only sets what differs. Text from the client is latin-1 in native strings.

mod forwarded;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU128;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::errors::ErrorStream;
use super::ffi;
use super::file_wrapper::FileWrapper;
use super::input::Input;
use super::names::{Keys, KnownFields, Treatment, key_text};
use super::request_id::RequestIds;
use super::timeout::Timeout;
use crate::application::{Request, RequestBody};
use crate::connection::{ConnInfo, TlsInfo};
use crate::http::{Framing, TraceId, Version, trace_parent};
use crate::settings::Settings;
use crate::shared::path_info::{below_root, percent_decoded};
use crate::shared::socket_name::SocketName;

/// Maximum bytes of a field value that is cached for the next request with the same value.
const CACHED_VALUE_BYTES: usize = 512;
/// The number of peers whose address is cached as str; a power of two.
const PEER_COUNT: usize = 256;
/// The value of SERVER_SOFTWARE.
const SOFTWARE: &str = concat!("arctos/", env!("CARGO_PKG_VERSION"));

/// Builds environs.
pub(super) struct Environs {
    keys: Keys,
    fields: KnownFields,
    /// The template's part that all listeners share.
    base: Py<PyDict>,
    /// `base` plus the listener's name and port, by the listener's index.
    templates: Vec<Option<Py<PyDict>>>,
    peers: Peers,
    root_path: Vec<u8>,
    /// Whether REMOTE_ADDR may differ from the address of the socket's peer.
    shows_socket_peer: bool,
    http10: Py<PyString>,
}

impl Environs {
    /// Creates the common part of the templates. `worker` is the slot's number.
    pub(super) fn new(
        py: Python<'_>,
        settings: &Settings,
        worker: u16,
        errors: Py<ErrorStream>,
        timeout: Py<Timeout>,
    ) -> PyResult<Self> {
        let keys = Keys::new(py);
        let base = PyDict::new(py);
        let empty = PyString::intern(py, "");
        let root = PyString::intern(py, "/");
        base.set_item(&keys.request_method, PyString::intern(py, "GET"))?;
        base.set_item(&keys.script_name, ffi::latin1(py, settings.root_path.as_bytes())?)?;
        base.set_item(&keys.path_info, &root)?;
        base.set_item(&keys.query_string, &empty)?;
        base.set_item(&keys.request_uri, &root)?;
        base.set_item(&keys.raw_uri, &root)?;
        base.set_item(&keys.remote_addr, &empty)?;
        base.set_item(&keys.server_name, &empty)?;
        base.set_item(&keys.server_port, &empty)?;
        base.set_item(&keys.server_protocol, PyString::intern(py, "HTTP/1.1"))?;
        base.set_item(&keys.server_software, SOFTWARE)?;
        base.set_item(&keys.wsgi_version, (1, 0))?;
        base.set_item(&keys.wsgi_url_scheme, PyString::intern(py, "http"))?;
        base.set_item(&keys.wsgi_input, Py::new(py, Input::empty())?)?;
        base.set_item(&keys.wsgi_errors, errors)?;
        base.set_item(&keys.wsgi_multithread, false)?;
        base.set_item(&keys.wsgi_multiprocess, settings.multiprocess)?;
        base.set_item(&keys.wsgi_run_once, false)?;
        base.set_item(&keys.wsgi_input_terminated, true)?;
        base.set_item(&keys.wsgi_file_wrapper, py.get_type::<FileWrapper>())?;
        base.set_item(&keys.worker, worker)?;
        base.set_item(&keys.request_id, &empty)?;
        base.set_item(&keys.queue_time_ms, 0.0)?;
        base.set_item(&keys.timeout, timeout)?;
        Ok(Self {
            keys,
            fields: KnownFields::new(py),
            base: base.unbind(),
            templates: Vec::new(),
            peers: Peers::new(),
            root_path: settings.root_path.as_bytes().to_vec(),
            shows_socket_peer: !settings.forwarding.is_off() || !settings.proxy_protocol.is_off(),
            http10: PyString::intern(py, "HTTP/1.0").unbind(),
        })
    }

    /// Builds the environ of a request, and returns it with the identifiers of the request. The body moves into
    /// `wsgi.input`.
    pub(super) fn build<'py>(
        &mut self,
        py: Python<'py>,
        request: &mut Request<'_>,
        ids: &mut RequestIds,
    ) -> PyResult<(Bound<'py, PyDict>, Identifiers<'py>)> {
        let environ = self.copy_template(py, request.conn)?;
        self.set_request_line(py, &environ, request)?;
        self.set_peer(py, &environ, request.conn.source())?;
        if request.conn.proxied.is_some() {
            self.set_proxied(py, &environ, request.conn)?;
        }
        let sent = self.set_fields(py, &environ, request, ids)?;
        let id = match sent.request {
            Some(sent) => sent,
            None => ids.make(py, request.sequence)?,
        };
        environ.set_item(&self.keys.request_id, &id)?;
        if let Some(tls) = &request.conn.tls {
            self.set_tls(py, &environ, tls)?;
        }
        if let Some(stated) = request.forwarded {
            self.set_forwarded(py, &environ, stated)?;
        }
        if matches!(request.conn.destination(), SocketName::Unix(_)) {
            let stated_port = request.forwarded.and_then(|stated| stated.port);
            self.set_server_from_host(py, &environ, stated_port.is_some())?;
        }
        if self.shows_socket_peer {
            self.set_socket_peer(py, &environ, request)?;
        }
        if !request.queue_wait.is_zero() {
            let wait_ms = request.queue_wait.as_secs_f64() * 1e3;
            environ.set_item(&self.keys.queue_time_ms, wait_ms)?;
        }
        if request.head.framing == Framing::Chunked {
            self.set_length(py, &environ, &request.body)?;
        }
        match std::mem::replace(&mut request.body, RequestBody::Empty) {
            RequestBody::Empty => {}
            RequestBody::Slice(bytes) => {
                environ.set_item(&self.keys.wsgi_input, Py::new(py, Input::copied(py, bytes)?)?)?;
            }
            RequestBody::Spooled(spool) => {
                environ
                    .set_item(&self.keys.wsgi_input, Py::new(py, Input::spooled(py, spool)?)?)?;
            }
        }
        Ok((environ, Identifiers { request: id, trace: sent.trace, sampled: sent.sampled }))
    }

    /// Sets CONTENT_LENGTH for a body that was chunked. The body is complete, so its length is known, and most
    /// frameworks read no body without this variable.
    fn set_length(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        body: &RequestBody<'_>,
    ) -> PyResult<()> {
        let length = match body {
            RequestBody::Empty => 0,
            RequestBody::Slice(bytes) => bytes.len() as u64,
            RequestBody::Spooled(spool) => spool.len(),
        };
        let mut digits = itoa::Buffer::new();
        environ.set_item(&self.keys.content_length, PyString::new(py, digits.format(length)))
    }

    /// Returns a copy of the template of the request's listener, which its first request creates.
    fn copy_template<'py>(
        &mut self,
        py: Python<'py>,
        conn: &ConnInfo,
    ) -> PyResult<Bound<'py, PyDict>> {
        if conn.listener == ConnInfo::UNKNOWN_LISTENER {
            return self.new_template(py, &conn.local);
        }
        let index = usize::from(conn.listener);
        if index >= self.templates.len() {
            self.templates.resize_with(index + 1, || None);
        }
        if let Some(template) = &self.templates[index] {
            return template.bind(py).copy();
        }
        let template = self.new_template(py, &conn.local)?;
        self.templates[index] = Some(template.clone().unbind());
        template.copy()
    }

    /// Creates the template of a listener with this name.
    fn new_template<'py>(
        &self,
        py: Python<'py>,
        local: &SocketName,
    ) -> PyResult<Bound<'py, PyDict>> {
        let template = self.base.bind(py).copy()?;
        if let SocketName::Inet(address) = local {
            template.set_item(&self.keys.server_name, server_name(address.ip()))?;
            template.set_item(&self.keys.server_port, address.port().to_string())?;
            template.set_item(&self.keys.remote_port, "")?;
        }
        Ok(template)
    }

    /// Sets method, the forms of the target, and version, where they differ from the template.
    fn set_request_line(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        request: &Request<'_>,
    ) -> PyResult<()> {
        let Request { head, head_bytes, .. } = request;
        let method = head.method.of(head_bytes);
        if method != b"GET" {
            environ.set_item(&self.keys.request_method, ffi::latin1(py, method)?)?;
        }
        match head.version {
            Version::Http10 => environ.set_item(&self.keys.server_protocol, &self.http10)?,
            Version::Http11 => {}
        }
        let target = head.target.of(head_bytes);
        if target == b"/" && self.root_path.is_empty() {
            return Ok(());
        }
        let target_text = ffi::latin1(py, target)?;
        environ.set_item(&self.keys.raw_uri, &target_text)?;
        environ.set_item(&self.keys.request_uri, &target_text)?;
        let path = head.path.of(head_bytes);
        if path == b"*" {
            // PATH_INFO is empty or starts with a slash (RFC 3875 §4.1.5), and `*` is not a path.
            return environ.set_item(&self.keys.path_info, "");
        }
        if self.root_path.is_empty() && path.len() == target.len() && !path.contains(&b'%') {
            return environ.set_item(&self.keys.path_info, target_text);
        }
        let decoded = percent_decoded(path);
        let path_info = below_root(&decoded, &self.root_path);
        environ.set_item(&self.keys.path_info, ffi::latin1(py, path_info)?)?;
        let query = head.query.of(head_bytes);
        if !query.is_empty() {
            environ.set_item(&self.keys.query_string, ffi::latin1(py, query)?)?;
        }
        Ok(())
    }

    /// Sets REMOTE_ADDR and REMOTE_PORT. The peer of a unix socket has an empty address and no port.
    fn set_peer(
        &mut self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        peer: &SocketName,
    ) -> PyResult<()> {
        let SocketName::Inet(address) = peer else {
            return Ok(());
        };
        let peer = self.peers.find(py, address)?;
        environ.set_item(&self.keys.remote_addr, &peer.host)?;
        environ.set_item(&self.keys.remote_port, &peer.port)
    }

    /// Sets the scheme and the variables of mod_ssl, after those of the listener and before the client's fields, none of
    /// which can have such a name.
    fn set_tls(&self, py: Python<'_>, environ: &Bound<'_, PyDict>, tls: &TlsInfo) -> PyResult<()> {
        environ.set_item(&self.keys.wsgi_url_scheme, PyString::intern(py, "https"))?;
        for (name, value) in &tls.variables {
            environ.set_item(PyString::intern(py, name), ffi::latin1(py, value.as_bytes())?)?;
        }
        Ok(())
    }

    /// Sets the header fields. Returns the identifiers that came with the request, as far as they are kept.
    fn set_fields<'py>(
        &mut self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        request: &Request<'_>,
        ids: &RequestIds,
    ) -> PyResult<SentIdentifiers<'py>> {
        let Request { head, head_bytes, .. } = request;
        let mut seen = 0_u128;
        let mut sent = SentIdentifiers { request: None, trace: None, sampled: None };
        for field in &head.fields {
            let name = field.name.of(head_bytes);
            let value = field.value.of(head_bytes);
            let Some(index) = self.fields.find(name) else {
                let key = PyString::new(py, &key_text(name));
                add_unknown(py, environ, &key, value)?;
                continue;
            };
            let known = self.fields.get_mut(index);
            let is_repeated = seen & (1 << index) != 0;
            seen |= 1 << index;
            if is_repeated {
                let separator: &[u8] = match known.treatment {
                    Treatment::Cookie => b"; ",
                    Treatment::Plain
                    | Treatment::Uncached
                    | Treatment::Host
                    | Treatment::RequestId => b",",
                    Treatment::TraceParent => {
                        (sent.trace, sent.sampled) = (None, None); // Nobody knows which one is meant.
                        b","
                    }
                    Treatment::Dropped => continue,
                };
                join(py, environ, known.key.bind(py), separator, value)?;
                continue;
            }
            match known.treatment {
                Treatment::Plain => {
                    let text = cached_value(py, &mut known.last, value)?;
                    environ.set_item(&known.key, text)?;
                }
                Treatment::Uncached | Treatment::Cookie => {
                    environ.set_item(&known.key, ffi::latin1(py, value)?)?;
                }
                Treatment::Host => {
                    if head.authority.is_none() {
                        let text = cached_value(py, &mut known.last, value)?;
                        environ.set_item(&known.key, text)?;
                    }
                }
                Treatment::RequestId => {
                    let text = ffi::latin1(py, value)?;
                    environ.set_item(&known.key, &text)?;
                    sent.request = ids.keeps(request, value).then_some(text);
                }
                Treatment::TraceParent => {
                    environ.set_item(&known.key, ffi::latin1(py, value)?)?;
                    let trace = trace_parent::read(value);
                    sent.trace = trace.map(|trace| *trace.id);
                    sent.sampled = trace.and_then(|trace| trace.sampled());
                }
                Treatment::Dropped => {}
            }
        }
        if let Some(authority) = head.authority {
            environ.set_item(&self.keys.http_host, ffi::latin1(py, authority.of(head_bytes))?)?;
        }
        Ok(sent)
    }

    /// Sets SERVER_NAME and SERVER_PORT for a unix socket, which has neither: from the client's Host, or else
    /// `localhost` and 80, because PEP 3333 forbids empty values.
    fn set_server_from_host(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        has_port: bool,
    ) -> PyResult<()> {
        let host = environ.get_item(&self.keys.http_host)?;
        let host = host.and_then(|host| host.cast_into::<PyString>().ok());
        let host = host.as_ref().and_then(ffi::latin1_bytes).unwrap_or(b"");
        let (name, port) = split_host(host);
        let name: &[u8] = if name.is_empty() { b"localhost" } else { name };
        let port: &[u8] = if port.is_empty() { b"80" } else { port };
        environ.set_item(&self.keys.server_name, ffi::latin1(py, name)?)?;
        if has_port {
            return Ok(());
        }
        environ.set_item(&self.keys.server_port, ffi::latin1(py, port)?)
    }
}

/// What names a request.
pub(super) struct Identifiers<'py> {
    /// `arctos.request_id`.
    pub(super) request: Bound<'py, PyString>,
    /// The trace that it belongs to.
    pub(super) trace: Option<TraceId>,
    /// The same as a number, if it is sampled.
    pub(super) sampled: Option<NonZeroU128>,
}

/// The identifiers that came with a request, as far as they are kept.
struct SentIdentifiers<'py> {
    request: Option<Bound<'py, PyString>>,
    trace: Option<TraceId>,
    sampled: Option<NonZeroU128>,
}

/// Returns the value as str: the last one of this field if the bytes are the same.
fn cached_value<'py>(
    py: Python<'py>,
    last: &mut Option<Py<PyString>>,
    value: &[u8],
) -> PyResult<Bound<'py, PyString>> {
    if let Some(kept) = last {
        let kept = kept.bind(py);
        if ffi::latin1_bytes(kept) == Some(value) {
            return Ok(kept.clone());
        }
    }
    let text = ffi::latin1(py, value)?;
    if value.len() <= CACHED_VALUE_BYTES {
        *last = Some(text.clone().unbind());
    }
    Ok(text)
}

/// Sets a field whose name is not in the table, so that only the environ shows whether it is repeated.
fn add_unknown(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    key: &Bound<'_, PyString>,
    value: &[u8],
) -> PyResult<()> {
    if environ.contains(key)? {
        return join(py, environ, key, b",", value);
    }
    environ.set_item(key, ffi::latin1(py, value)?)
}

/// Appends the value of a repeated field to the value of its key, or sets it if there is none.
fn join(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    key: &Bound<'_, PyString>,
    separator: &[u8],
    value: &[u8],
) -> PyResult<()> {
    let before = environ.get_item(key)?.and_then(|text| text.cast_into::<PyString>().ok());
    let joined = match before.as_ref().and_then(ffi::latin1_bytes) {
        Some(before) => [before, separator, value].concat(),
        None => value.to_vec(),
    };
    environ.set_item(key, ffi::latin1(py, &joined)?)
}

/// Returns SERVER_NAME for an address. IPv6 has brackets (RFC 3875 §4.1.14), as in a URL.
fn server_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Splits `host[:port]`; the brackets of IPv6 stay with the name.
fn split_host(host: &[u8]) -> (&[u8], &[u8]) {
    let after_brackets = host.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    match host[after_brackets..].iter().position(|&byte| byte == b':') {
        Some(colon) => (&host[..after_brackets + colon], &host[after_brackets + colon + 1..]),
        None => (host, b""),
    }
}

/// A cache of recent peers, each in the entry that its address hashes to. It bounds the memory, and connections need
/// no Python objects of their own.
struct Peers {
    entries: Vec<Option<Peer>>,
}

/// The address of a peer, as the environ has it.
struct Peer {
    address: SocketAddr,
    host: Py<PyString>,
    port: Py<PyString>,
}

impl Peers {
    fn new() -> Self {
        Self { entries: std::iter::repeat_with(|| None).take(PEER_COUNT).collect() }
    }

    fn find(&mut self, py: Python<'_>, address: &SocketAddr) -> PyResult<&Peer> {
        let last_octet = match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        let index = (usize::from(address.port()) + usize::from(last_octet) * 37) % PEER_COUNT;
        let entry = &mut self.entries[index];
        let peer = match entry.take() {
            Some(peer) if peer.address == *address => peer,
            former => {
                let host = match former {
                    Some(former) if former.address.ip() == address.ip() => former.host,
                    Some(_) | None => PyString::new(py, &address.ip().to_string()).unbind(),
                };
                let mut digits = itoa::Buffer::new();
                let port = PyString::new(py, digits.format(address.port())).unbind();
                Peer { address: *address, host, port }
            }
        };
        Ok(entry.insert(peer))
    }
}

#[cfg(test)]
mod tests;
