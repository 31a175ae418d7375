//! How long a complete request has waited for its worker.
//!
//! | request | measured from |
//! |---|---|
//! | the first of a TCP connection that waited in the accept queue | its last bytes there, or the connection if they came later |
//! | any other over TCP that arrived while the loop was busy | its last bytes |
//! | any other | the moment when the loop looked for events |
//!
//! Only the second row takes a system call of its own, and only after a turn that took [`CHECK_AFTER`].

use std::time::Duration;

use super::{CHECK_AFTER, WorkerContext};
use crate::application::AppBody;
use crate::event_loop::client::Client;
use crate::shared::fd;
use crate::shared::socket_name::SocketName;

/// How long the request has waited that is about to be passed to the application.
#[inline]
pub(super) fn wait_of<B: AppBody>(context: &WorkerContext, client: &mut Client<B>) -> Duration {
    if let Some(in_kernel) = client.take_queue_wait() {
        let accepted = client.conn().info().accepted;
        return in_kernel + context.clock.now().saturating_duration_since(accepted);
    }
    let turn = context.clock.monotonic().saturating_sub(context.woke);
    if context.unwatched < CHECK_AFTER {
        return turn;
    }
    match client.conn().info().peer {
        // The loop looked for events in between: what arrived earlier than that waits for its own client, for example
        // until that has read the previous response.
        SocketName::Inet(_) => fd::last_received(client.socket())
            .map_or(turn, |ago| ago.clamp(turn, turn + context.unwatched)),
        SocketName::Unix(_) => turn,
    }
}
