//! The identifier of a request in its response (`--request-id-header`).

use super::WorkerContext;
use crate::application::AppBody;
use crate::connection::{ConnInfo, Rules};
use crate::event_loop::client::Client;
use crate::http::response::IdField;

/// A copy of an identifier, which outlives the record of its request.
pub(super) struct RequestId {
    bytes: [u8; Self::MAX_BYTES],
    len: usize,
}

impl RequestId {
    /// Identifiers of clients that are longer are not kept.
    const MAX_BYTES: usize = 128;

    pub(super) fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { bytes, len: id.len() })
    }
}

/// The identifier that the response is to have.
#[inline]
pub(super) fn of<B: AppBody>(context: &WorkerContext, client: &Client<B>) -> Option<RequestId> {
    context.settings.request_id_header.as_ref()?;
    RequestId::new(client.record()?.id()?)
}

/// The rules for a response with this identifier.
#[inline]
pub(super) fn rules<'r>(
    context: &'r WorkerContext,
    info: &ConnInfo,
    id: &'r Option<RequestId>,
) -> Rules<'r> {
    let rules = context.reply_rules(info);
    match (&context.settings.request_id_header, id) {
        (Some(name), Some(id)) => {
            Rules { request_id: Some(IdField { name, id: &id.bytes[..id.len] }), ..rules }
        }
        (Some(_) | None, Some(_) | None) => rules,
    }
}
