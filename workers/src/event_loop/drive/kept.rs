//! Keeps what the access log wants of a response and of its environ until the line is written.

use crate::application::{AppBody, Application};
use crate::event_loop::client::Client;
use crate::http::ResponseHead;
use crate::settings::Settings;

/// Keeps the fields of a response that the access log wants. Called before its head is sent.
#[inline]
pub(super) fn response<B: AppBody>(
    client: &mut Client<B>,
    head: &ResponseHead,
    settings: &Settings,
) {
    if let Some(wanted) = settings.access_log.wanted()
        && let Some(record) = client.record_mut()
    {
        record.kept.keep_response(head, wanted);
    }
}

/// Keeps the variables of the environ that the access log wants. Called after the application.
#[inline]
pub(super) fn variables<A: Application>(
    app: &A,
    client: &mut Client<A::Body>,
    settings: &Settings,
) {
    if let Some(wanted) = settings.access_log.wanted()
        && !wanted.variables.is_empty()
        && let Some(record) = client.record_mut()
    {
        app.variables(&mut |value| record.kept.keep_variable(value));
    }
}
