//! The PROXY header, which precedes everything else on a connection, a TLS handshake included.
//!
//! It is looked at before it is read, so that no byte behind it leaves the socket: what follows belongs to the next
//! layer. Without `--proxy-protocol`, no client awaits one.

use std::sync::Arc;

use super::{Wait, WorkerContext};
use crate::application::AppBody;
use crate::connection::ClientName;
use crate::event_loop::client::Client;
use crate::http::proxy_protocol::{self, MAX_BYTES};
use crate::http::{ParsedProxy, ProxyError};
use crate::shared::fd::{self, Io};
use crate::shared::log::{Level, Value};
use crate::shared::scoreboard::Counter;

/// Reads the header as far as it has arrived. Returns what the client waits for, or `None` if the connection goes on
/// with its first request or with its end.
pub(super) fn receive<B: AppBody>(
    context: &mut WorkerContext,
    client: &mut Client<B>,
) -> Option<Wait> {
    let mut buffer = [0; MAX_BYTES];
    loop {
        let header = client.proxy_header()?;
        let known = header.len();
        // There is room: a header of this length is complete or refused.
        let room = &mut buffer[known..];
        let count = match fd::peek(client.socket(), room) {
            Io::Bytes(count) => count,
            Io::Blocked => {
                client.await_peer();
                return Some(Wait::Readable);
            }
            Io::Ended => {
                client.conn_mut().ended(&context.entry.counters);
                return None;
            }
            Io::Failed => {
                client.conn_mut().failed(&context.entry.counters);
                return None;
            }
        };
        let header = client.proxy_header()?;
        header.extend_from_slice(&room[..count]);
        let parsed = proxy_protocol::parse(header, context.settings.proxy_protocol.version);
        let used = match &parsed {
            Ok(ParsedProxy::Complete { len, .. }) => len - known,
            Ok(ParsedProxy::Incomplete) | Err(_) => count,
        };
        // The bytes are there, so this takes them.
        let _ = fd::receive(client.socket(), &mut room[..used]);
        context.entry.counters.add(Counter::BytesIn, used as u64);
        match parsed {
            Ok(ParsedProxy::Incomplete) => {}
            Ok(ParsedProxy::Complete { addresses, .. }) => {
                client.end_proxy_header();
                client.conn_mut().set_proxied(addresses.map(Arc::new));
                client.expect_request(context);
                return None;
            }
            Err(error) => {
                refuse(context, client, error);
                return None;
            }
        }
    }
}

/// Closes a connection before its first request, and logs that unless there were too many. There is no response:
/// the peer does not speak HTTP, or not yet.
pub(in crate::event_loop) fn refuse<B: AppBody>(
    context: &mut WorkerContext,
    client: &mut Client<B>,
    reason: ProxyError,
) {
    client.end_proxy_header();
    client.conn_mut().refuse_connection(&context.entry.counters);
    if !context.log.is_enabled(Level::Info) {
        return;
    }
    let Some(suppressed) = context.limited.refusals.pass(context.clock.now()) else { return };
    let address = match ClientName::of(&client.conn().info().peer) {
        ClientName::Inet(address) => address.to_string(),
        ClientName::Unix(path) => path.to_owned(),
    };
    let mut pairs = vec![("reason", Value::Display(&reason))];
    if !address.is_empty() {
        pairs.push(("remote_addr", Value::Text(&address)));
    }
    if suppressed > 0 {
        pairs.push(("not_logged", Value::Number(i64::try_from(suppressed).unwrap_or(i64::MAX))));
    }
    context.log.line(Level::Info, "connection.refused", &pairs);
}
