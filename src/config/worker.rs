//! The settings of a worker: limits, timeouts, and how it speaks HTTP.

use arctos_worker::http::ResponseHead;
use arctos_worker::settings::{
    AccessLogSettings, CallLimits, FileSettings, HeaderMap, KeepaliveMode, Limits, Settings,
};

use super::Privileges;
use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::body_temp_dir;
use super::proxies::{forwarding, proxy_protocol};
use super::reader::{Reader, wrong};
use super::recycle::REQUESTS;
use super::static_mounts::{sendfile_root, static_mounts};
use super::times::timeouts;
use super::value::{Choice, Size, Whole, bounded};
use crate::system::environment::Environment;

/// A head is kept in memory, and its fields as offsets of 32 bits.
const HEAD: Size = Size { min_bytes: 64, max_bytes: 16 << 20, allows_zero: false };
const LINE: Size = Size { max_bytes: 1 << 20, ..HEAD };
/// The maximum is gunicorn's.
const FIELDS: Whole = Whole { min: 1, max: 32_768 };
const BODY: Size = Size { min_bytes: 1, max_bytes: 1 << 50, allows_zero: true };
const BODY_MEMORY: Size = Size { min_bytes: 0, max_bytes: 1 << 30, allows_zero: false };
const BODY_MEMORY_TOTAL: Size = Size { max_bytes: 1 << 40, ..BODY_MEMORY };
const CONNECTIONS: Whole = Whole { min: 1, max: 1_000_000 };

/// Settings of a worker that stand earlier in the table, so that they have been read before.
pub(super) struct Earlier {
    pub(super) connections: usize,
    pub(super) reload_check: Option<String>,
    pub(super) is_multiprocess: bool,
    pub(super) call_limits: CallLimits,
    pub(super) debug: bool,
}

/// Reads what only workers need, from `--keep-alive` to `--proxy-allow-from`.
pub(super) fn worker(
    reader: &mut Reader<'_>,
    environment: &Environment,
    privileges: &Privileges,
    earlier: Earlier,
) -> Result<Settings, ConfigError> {
    let Earlier { connections, reload_check, is_multiprocess, call_limits, debug } = earlier;
    let timeouts = timeouts(reader, environment)?;
    let limits = Limits {
        request_line_bytes: bounded(reader.one(Setting::LimitRequestLine, LINE)?),
        header_count: bounded(reader.one(Setting::LimitRequestFields, FIELDS)?),
        header_field_bytes: bounded(reader.one(Setting::LimitRequestFieldSize, LINE)?),
        head_bytes: bounded(reader.one(Setting::LimitRequestHead, HEAD)?),
        body_bytes: reader.one(Setting::LimitRequestBody, BODY)?,
        body_memory_bytes: bounded(reader.one(Setting::BodyMemory, BODY_MEMORY)?),
        body_memory_total_bytes: bounded(reader.one(Setting::BodyMemoryTotal, BODY_MEMORY_TOTAL)?),
        connections,
        ..Limits::DEFAULT
    };
    let body_temp_dir = body_temp_dir(reader, environment, privileges)?;
    let requests_per_connection = bounded(reader.one(Setting::MaxRequestsPerConnection, REQUESTS)?);
    const MAPS: [(&str, HeaderMap); 2] =
        [(HeaderMap::Drop.word(), HeaderMap::Drop), (HeaderMap::Refuse.word(), HeaderMap::Refuse)];
    const MODES: [(&str, KeepaliveMode); 3] = [
        (KeepaliveMode::Shared.word(), KeepaliveMode::Shared),
        (KeepaliveMode::Sticky.word(), KeepaliveMode::Sticky),
        (KeepaliveMode::Auto.word(), KeepaliveMode::Auto),
    ];
    Ok(Settings {
        limits: Limits { requests_per_connection, ..limits },
        timeouts,
        call_limits,
        header_map: reader.one(Setting::HeaderMap, Choice(&MAPS))?,
        server_header: reader.switch(Setting::ServerHeader)?,
        request_id_header: request_id_header(reader)?,
        abandon_on_half_close: reader.switch(Setting::AbandonOnHalfClose)?,
        keepalive_mode: reader.one(Setting::KeepaliveMode, Choice(&MODES))?,
        root_path: root_path(reader)?,
        forwarding: forwarding(reader)?,
        proxy_protocol: proxy_protocol(reader)?,
        files: FileSettings {
            mounts: static_mounts(reader, privileges)?,
            sendfile_root: sendfile_root(reader, privileges)?,
        },
        body_temp_dir,
        multiprocess: is_multiprocess,
        reload_check,
        debug,
        access_log: AccessLogSettings::default(), // It stands later in the table.
    })
}

pub(super) fn max_connections(reader: &mut Reader<'_>) -> Result<usize, ConfigError> {
    Ok(bounded(reader.one(Setting::MaxConnections, CONNECTIONS)?))
}

/// A name that neither the framing of a response nor the server itself uses.
fn request_id_header(reader: &mut Reader<'_>) -> Result<Option<String>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::RequestIdHeader) else {
        reader.note(Setting::RequestIdHeader, String::new(), Origin::Default);
        return Ok(None);
    };
    let Some(name) = text.to_str().filter(|name| ResponseHead::is_free_name(name.as_bytes()))
    else {
        let expected =
            "the name of a response header that arctos does not set itself, such as X-Request-Id";
        return Err(wrong(Setting::RequestIdHeader, origin, text, expected.to_owned()));
    };
    reader.note(Setting::RequestIdHeader, name.to_owned(), origin.clone());
    Ok(Some(name.to_owned()))
}

fn root_path(reader: &mut Reader<'_>) -> Result<String, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::RootPath) else {
        reader.note(Setting::RootPath, String::new(), Origin::Default);
        return Ok(String::new());
    };
    let is_path = |path: &&str| {
        let is_plain =
            path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"%".contains(&byte));
        let starts_once = path.starts_with('/') && !path.contains("//");
        path.is_empty() || (is_plain && starts_once && !path.ends_with('/'))
    };
    let Some(path) = text.to_str().filter(is_path) else {
        let expected = "a path such as /shop, which starts with a slash and does not end in one; leave the option out for the root";
        return Err(wrong(Setting::RootPath, origin, text, expected.to_owned()));
    };
    reader.note(Setting::RootPath, path.to_owned(), origin.clone());
    Ok(path.to_owned())
}

/// Reads a request target in origin-form (RFC 9112 §3.2.1), of visible ASCII. A fragment is refused, because it is
/// never sent.
pub(super) fn reload_check(reader: &mut Reader<'_>) -> Result<Option<String>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::ReloadCheck) else {
        reader.note(Setting::ReloadCheck, String::new(), Origin::Default);
        return Ok(None);
    };
    let is_target = |path: &&str| {
        path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
    };
    let Some(path) = text.to_str().filter(is_target) else {
        let expected =
            "a path in ASCII that starts with a slash, such as /health or /health?deep=1";
        return Err(wrong(Setting::ReloadCheck, origin, text, expected.to_owned()));
    };
    reader.note(Setting::ReloadCheck, path.to_owned(), origin.clone());
    Ok(Some(path.to_owned()))
}
