//! The rows about HTTP.

use arctos_worker::settings::{ProxyProtocol, Settings};

use super::super::DefaultValue::{self, Switch, Word};
use super::super::{OptionSpec, Setting as S, Takes, Topic as T};
use super::row;

/// The rows, in the order of the help.
pub(super) const ROWS: &[OptionSpec] = &[
    row(
        S::HeaderMap,
        T::Http,
        "header-map",
        "Drop, or refuse with 400, a header whose name contains `_`, because environ \
         cannot tell it from one with `-`.",
    )
    .once("drop|refuse", Word(Settings::HEADER_MAP.word())),
    row(S::ServerHeader, T::Http, "server-header", "Send `Server: arctos` in responses.")
        .once("on|off", Switch(Settings::SERVER_HEADER)),
    row(
        S::RequestIdHeader,
        T::Http,
        "request-id-header",
        "Send the ID of each request in this response header, such as `X-Request-Id`, unless \
         the application has set it.",
    )
    .optional("NAME"),
    row(
        S::AbandonOnHalfClose,
        T::Http,
        "abandon-on-half-close",
        "Do not call the application for a request whose client has closed its sending \
         direction meanwhile, even if it may go on reading.",
    )
    .switch(),
    row(
        S::KeepaliveMode,
        T::Http,
        "keepalive-mode",
        "Which worker serves the next request of a kept connection: any idle one (`shared`), the one \
         that has accepted it (`sticky`), or `auto`: shared while requests take longer than 300 us \
         on average.",
    )
    .once("shared|sticky|auto", Word(Settings::KEEPALIVE_MODE.word())),
    row(
        S::RootPath,
        T::Http,
        "root-path",
        "SCRIPT_NAME: the path that a proxy serves the application under, such as \
         `/shop`.",
    )
    .optional("PATH"),
    row(
        S::ForwardedAllowIps,
        T::Http,
        "forwarded-allow-ips",
        "Proxies whose `Forwarded` and `X-Forwarded-*` headers are believed: addresses, \
         networks such as `10.0.0.0/8`, `unix` for unix sockets, or `*` for everybody; \
         separated by commas.",
    )
    .takes("PEERS", Takes::Many(','), DefaultValue::None),
    row(
        S::ForwardedHeaders,
        T::Http,
        "forwarded-headers",
        "Headers that are believed from these proxies, separated by commas; name only those \
         that your proxy sets or removes in every request.",
    )
    .takes(
        "HEADERS",
        Takes::Many(','),
        DefaultValue::Derived(
            "all: `forwarded` and `x-forwarded-for`, `-proto`, `-host`, `-port`, `-prefix`",
        ),
    ),
    row(
        S::ProxyProtocol,
        T::Http,
        "proxy-protocol",
        "Version of the PROXY header that every connection begins with: `v1`, `v2` or `auto` \
         (either); connections without one are closed. `off` expects none.",
    )
    .once("off|v1|v2|auto", Word(ProxyProtocol::VERSION.word())),
    row(
        S::ProxyAllowFrom,
        T::Http,
        "proxy-allow-from",
        "Proxies that may connect with `--proxy-protocol`, in the notation of \
         `--forwarded-allow-ips`; connections from others are closed.",
    )
    .takes("PEERS", Takes::Many(','), DefaultValue::None),
    row(
        S::Static,
        T::Http,
        "static",
        "Serve the files below a directory at this path, such as \
         `/static=/srv/shop/static`, without the application. `ARCTOS_STATIC` separates \
         several by commas.",
    )
    .takes("/PATH=DIR", Takes::Many(','), DefaultValue::None),
    row(
        S::SendfileRoot,
        T::Http,
        "sendfile-root",
        "Send the file below this directory that the application names in `X-Sendfile` or \
         `X-Accel-Redirect`, in place of its own body.",
    )
    .optional("DIR"),
];
