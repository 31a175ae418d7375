//! What each worker is given: limits, timeouts, and how it speaks HTTP.

use arctos_worker::settings::{HeaderMap, Limits, Settings};

use super::Privileges;
use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::paths::body_temp_dir;
use super::reader::{Reader, wrong};
use super::recycle::REQUESTS;
use super::times::timeouts;
use super::value::{Choice, Size, Whole, bounded};
use crate::system::environment::Environment;

/// A head is kept in offsets of 32 bits, and in memory.
const HEAD: Size = Size { least_bytes: 64, most_bytes: 16 << 20, takes_zero: false };
const LINE: Size = Size { most_bytes: 1 << 20, ..HEAD };
/// As many as gunicorn takes.
const FIELDS: Whole = Whole { least: 1, most: 32_768 };
const BODY: Size = Size { least_bytes: 1, most_bytes: 1 << 50, takes_zero: true };
const BODY_MEMORY: Size = Size { least_bytes: 0, most_bytes: 1 << 30, takes_zero: false };
const CONNECTIONS: Whole = Whole { least: 1, most: 1_000_000 };

/// What was read before the settings of a worker, as the order of the table has it.
pub(super) struct Earlier {
    pub(super) connections: usize,
    pub(super) reload_check: Option<String>,
    pub(super) is_multiprocess: bool,
}

/// Reads what only workers need, from `--keep-alive` to `--root-path`.
pub(super) fn worker(
    reader: &mut Reader<'_>,
    environment: &Environment,
    privileges: &Privileges,
    earlier: Earlier,
) -> Result<Settings, ConfigError> {
    let Earlier { connections, reload_check, is_multiprocess } = earlier;
    let timeouts = timeouts(reader)?;
    let limits = Limits {
        request_line_bytes: bounded(reader.one(Setting::LimitRequestLine, LINE)?),
        header_count: bounded(reader.one(Setting::LimitRequestFields, FIELDS)?),
        header_field_bytes: bounded(reader.one(Setting::LimitRequestFieldSize, LINE)?),
        head_bytes: bounded(reader.one(Setting::LimitRequestHead, HEAD)?),
        body_bytes: reader.one(Setting::LimitRequestBody, BODY)?,
        body_memory_bytes: bounded(reader.one(Setting::BodyMemory, BODY_MEMORY)?),
        connections,
        ..Limits::DEFAULT
    };
    let body_temp_dir = body_temp_dir(reader, environment, privileges)?;
    let requests_per_connection = bounded(reader.one(Setting::MaxRequestsPerConnection, REQUESTS)?);
    const MAPS: [(&str, HeaderMap); 2] =
        [(HeaderMap::Drop.word(), HeaderMap::Drop), (HeaderMap::Refuse.word(), HeaderMap::Refuse)];
    Ok(Settings {
        limits: Limits { requests_per_connection, ..limits },
        timeouts,
        header_map: reader.one(Setting::HeaderMap, Choice(&MAPS))?,
        server_header: reader.switch(Setting::ServerHeader)?,
        root_path: root_path(reader)?,
        body_temp_dir,
        multiprocess: is_multiprocess,
        reload_check,
    })
}

pub(super) fn max_connections(reader: &mut Reader<'_>) -> Result<usize, ConfigError> {
    Ok(bounded(reader.one(Setting::MaxConnections, CONNECTIONS)?))
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
        let expected = "a path such as /shop, with a slash in front and none at its end; \
                        leave the option out for the root";
        return Err(wrong(Setting::RootPath, origin, text, expected.to_owned()));
    };
    reader.note(Setting::RootPath, path.to_owned(), origin.clone());
    Ok(path.to_owned())
}

/// Origin-form (RFC 9112 §3.2.1) of visible ASCII; a fragment is never sent.
pub(super) fn reload_check(reader: &mut Reader<'_>) -> Result<Option<String>, ConfigError> {
    let Some((text, origin)) = reader.last(Setting::ReloadCheck) else {
        reader.note(Setting::ReloadCheck, String::new(), Origin::Default);
        return Ok(None);
    };
    let is_target = |path: &&str| {
        path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
    };
    let Some(path) = text.to_str().filter(is_target) else {
        let expected = "a path with a slash in front, such as /health or /health?deep=1, in ASCII";
        return Err(wrong(Setting::ReloadCheck, origin, text, expected.to_owned()));
    };
    reader.note(Setting::ReloadCheck, path.to_owned(), origin.clone());
    Ok(Some(path.to_owned()))
}
