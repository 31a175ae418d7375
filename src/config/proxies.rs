//! Which proxies are trusted, and with what.

use arctos_worker::settings::{
    ForwardedHeader, ForwardedHeaders, Forwarding, ProxyProtocol, ProxyVersion, TrustedPeers,
};

use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::Reader;
use super::value::Choice;

/// Reads `--forwarded-allow-ips` and `--forwarded-headers`.
pub(super) fn forwarding(reader: &mut Reader<'_>) -> Result<Forwarding, ConfigError> {
    let proxies = trusted_peers(reader, Setting::ForwardedAllowIps)?;
    Ok(Forwarding { proxies, headers: headers(reader)? })
}

/// Reads `--proxy-protocol` and `--proxy-allow-from`.
pub(super) fn proxy_protocol(reader: &mut Reader<'_>) -> Result<ProxyProtocol, ConfigError> {
    const VERSIONS: [(&str, ProxyVersion); 4] = [
        (ProxyVersion::Off.word(), ProxyVersion::Off),
        (ProxyVersion::V1.word(), ProxyVersion::V1),
        (ProxyVersion::V2.word(), ProxyVersion::V2),
        (ProxyVersion::Auto.word(), ProxyVersion::Auto),
    ];
    let version = reader.one(Setting::ProxyProtocol, Choice(&VERSIONS))?;
    let senders = trusted_peers(reader, Setting::ProxyAllowFrom)?;
    if version != ProxyVersion::Off
        && senders.is_empty()
        && let Some((text, origin)) = reader.last(Setting::ProxyProtocol)
    {
        let text = text.to_string_lossy().into_owned();
        return Err(ConfigError::NeedsSenders { origin: origin.clone(), text });
    }
    Ok(ProxyProtocol { version, senders })
}

/// Reads a list of peers. Commas separate them, as in gunicorn.
fn trusted_peers(reader: &mut Reader<'_>, setting: Setting) -> Result<TrustedPeers, ConfigError> {
    let read = |list: &str| {
        let peers = words(list).map(|word| word.parse().map_err(|expected| format!("{expected}")));
        peers.collect::<Result<Vec<_>, _>>()
    };
    let peers: TrustedPeers = reader.many(setting, read)?.into_iter().flatten().collect();
    note(reader, setting, peers.to_string());
    Ok(peers)
}

fn headers(reader: &mut Reader<'_>) -> Result<ForwardedHeaders, ConfigError> {
    const SETTING: Setting = Setting::ForwardedHeaders;
    let named = |word: &str| {
        let is_it = |header: &ForwardedHeader| header.lower().eq_ignore_ascii_case(word);
        ForwardedHeader::ALL.into_iter().find(is_it)
    };
    let read = |list: &str| {
        let headers: Option<Vec<_>> = words(list).map(named).collect();
        let headers = headers.filter(|headers| !headers.is_empty());
        headers.ok_or_else(|| format!("some of {}", ForwardedHeaders::ALL))
    };
    let given = reader.many(SETTING, read)?;
    let headers = match &given[..] {
        [] => ForwardedHeaders::ALL,
        lists => lists.iter().flatten().copied().collect(),
    };
    note(reader, SETTING, headers.to_string());
    Ok(headers)
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn note(reader: &mut Reader<'_>, setting: Setting, value: String) {
    let origin = reader.given(setting).map_or(Origin::Default, |given| given.origin.clone());
    reader.note(setting, value, origin);
}
