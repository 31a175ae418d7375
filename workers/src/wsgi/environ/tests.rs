use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::application::Application;
use crate::body_budget::BodyBudget;
use crate::http::{Forwarded, ForwardedClient, ProxiedAddresses, Scheme};
use crate::settings::Forwarding;
use crate::spool::Spool;
use crate::wsgi::tests::harness::{App, inet, parsed, showing};

#[test]
fn environ_is_exactly_a_dict_that_nothing_else_uses() {
    let mut app = App::new(
        "seen = []
def app(environ, start_response):
    start_response('200 OK', [])
    seen.append((type(environ) is dict, 'mine' in environ))
    environ['mine'] = 1
    return []
",
    );
    app.get().unwrap();
    app.get().unwrap();
    assert_eq!(app.value("seen"), "[(True, False), (True, False)]");
}

#[test]
fn every_cgi_variable_is_a_native_string() {
    let mut app =
        App::showing("sorted(k for k, v in environ.items() if k.isupper() and type(v) is not str)");
    assert_eq!(app.text("/a%20b?c=d", "Content-Type: text/plain\r\nCookie: a=b\r\n"), "[]");
}

#[test]
fn the_wsgi_variables_are_set() {
    let mut app = App::showing(
        "[environ['wsgi.' + name] for name in ('version', 'url_scheme', 'multithread', \
         'multiprocess', 'run_once', 'input_terminated')]",
    );
    assert_eq!(app.text("/", ""), "[(1, 0), 'http', False, True, False, True]");
}

#[test]
fn multiprocess_is_false_with_one_worker() {
    let settings = Settings { multiprocess: false, ..Settings::default() };
    let mut app = App::with(&showing("environ['wsgi.multiprocess']"), &settings);
    assert_eq!(app.text("/", ""), "False");
}

#[test]
fn the_path_is_decoded_once_and_the_query_is_not() {
    let mut app = App::showing(
        "[environ[k] for k in ('PATH_INFO', 'QUERY_STRING', 'RAW_URI', 'REQUEST_URI')]",
    );
    assert_eq!(
        app.text("/caf%C3%A9/%2541/x+y?a=%20&b", ""),
        // As latin-1, the two code points of the str are the UTF-8 bytes from the client.
        "['/caf\u{e9}/%41/x+y', 'a=%20&b', '/caf%C3%A9/%2541/x+y?a=%20&b', \
         '/caf%C3%A9/%2541/x+y?a=%20&b']"
    );
}

#[test]
fn the_query_is_an_empty_string_without_one() {
    let mut app = App::showing("environ['QUERY_STRING']");
    assert_eq!(app.text("/", ""), "''");
    assert_eq!(app.text("/?", ""), "''");
    assert_eq!(app.text("/?x", ""), "'x'");
    assert_eq!(app.text("/", ""), "''");
}

#[test]
fn root_path_becomes_script_name_and_is_removed_from_the_path() {
    let settings = Settings { root_path: "/shop".to_owned(), ..Settings::default() };
    let show = showing("(environ['SCRIPT_NAME'], environ['PATH_INFO'])");
    let mut app = App::with(&show, &settings);
    for (target, path) in [
        ("/shop/cart", "/cart"),
        ("/shop/", "/"),
        ("/shop", ""),
        ("/shopping", "/shopping"),
        ("/cart", "/cart"),
        ("/", "/"),
        ("/sh%6fp/x", "/x"),
    ] {
        assert_eq!(app.text(target, ""), format!("('/shop', '{path}')"), "{target}");
    }
}

#[test]
fn an_options_request_for_the_whole_server_has_an_empty_path() {
    let show = "[environ[k] for k in ('SCRIPT_NAME', 'PATH_INFO', 'RAW_URI', 'REQUEST_URI')]";
    let mut app = App::showing(show);
    let settings = Settings { root_path: "/shop".to_owned(), ..Settings::default() };
    let mut below = App::with(&showing(show), &settings);
    let options = |app: &mut App| {
        let head = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
        String::from_utf8(app.send(head, RequestBody::Empty).unwrap().items.concat()).unwrap()
    };
    assert_eq!(options(&mut app), "['', '', '*', '*']");
    assert_eq!(options(&mut below), "['/shop', '', '*', '*']");
}

#[test]
fn method_and_version_are_the_requests() {
    let mut app = App::showing("(environ['REQUEST_METHOD'], environ['SERVER_PROTOCOL'])");
    let mut show = |head: &[u8]| {
        let answer = app.send(head, RequestBody::Empty).unwrap();
        String::from_utf8(answer.items.concat()).unwrap()
    };
    assert_eq!(show(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "('GET', 'HTTP/1.1')");
    assert_eq!(show(b"PURGE / HTTP/1.0\r\n\r\n"), "('PURGE', 'HTTP/1.0')");
    assert_eq!(show(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "('GET', 'HTTP/1.1')");
}

#[test]
fn content_type_and_length_exist_only_without_http_prefix() {
    let mut app = App::showing("sorted((k, v) for k, v in environ.items() if 'CONTENT' in k)");
    assert_eq!(
        app.text("/", "Content-Type: text/plain\r\ncontent-length: 0\r\n"),
        "[('CONTENT_LENGTH', '0'), ('CONTENT_TYPE', 'text/plain')]"
    );
    assert_eq!(app.text("/", ""), "[]");
}

#[test]
fn a_chunked_body_has_a_content_length_and_no_transfer_encoding() {
    let mut app = App::showing(
        "[environ.get(k) for k in ('CONTENT_LENGTH', 'HTTP_TRANSFER_ENCODING', \
         'wsgi.input_terminated')] + [environ['wsgi.input'].read()]",
    );
    let head = b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-ENCODING: Chunked\r\n\r\n";
    let mut show = |body: RequestBody<'_>| {
        String::from_utf8(app.send(head, body).unwrap().items.concat()).unwrap()
    };
    assert_eq!(show(RequestBody::Empty), "['0', None, True, b'']");
    assert_eq!(show(RequestBody::Slice(b"a=1&b=2")), "['7', None, True, b'a=1&b=2']");
    let mut spool =
        Spool::new(Box::new(Vec::new()), &BodyBudget::new(0, 0), None, &std::env::temp_dir());
    spool.append(b"spooled").unwrap();
    spool.rewind().unwrap();
    assert_eq!(show(RequestBody::Spooled(spool)), "['7', None, True, b'spooled']");
}

#[test]
fn known_and_unknown_header_fields_become_http_variables() {
    let mut app = App::showing("(environ['HTTP_USER_AGENT'], environ['HTTP_X_ODD_ONE'])");
    assert_eq!(app.text("/", "user-AGENT: me\r\nx-oDD-one: 1\r\n"), "('me', '1')");
}

#[test]
fn a_value_that_changes_between_requests_is_current() {
    let mut app = App::showing("environ.get('HTTP_ACCEPT')");
    for value in ["text/html", "text/html", "text/htmm", "text", "*/*"] {
        assert_eq!(app.text("/", &format!("Accept: {value}\r\n")), format!("'{value}'"));
    }
    assert_eq!(app.text("/", ""), "None");
}

#[test]
fn repeated_fields_are_joined_with_commas_and_cookies_with_semicolons() {
    let mut app = App::showing("[environ[k] for k in ('HTTP_VIA', 'HTTP_X_ODD', 'HTTP_COOKIE')]");
    let lines =
        "Via: a\r\nX-Odd: 1\r\nCookie: a=1\r\nvia: b\r\nX-ODD: 2\r\ncookie: b=2\r\nVia: c\r\n";
    assert_eq!(app.text("/", lines), "['a,b,c', '1,2', 'a=1; b=2']");
}

#[test]
fn repeated_fields_that_are_not_lists_are_also_joined_with_commas() {
    let mut app = App::showing("[environ[k] for k in ('HTTP_USER_AGENT', 'HTTP_REFERER')]");
    let lines = "User-Agent: a/1\r\nReferer: /x\r\nuser-agent: b/2\r\nReferer: /y\r\n";
    assert_eq!(app.text("/", lines), "['a/1,b/2', '/x,/y']");
}

#[test]
fn bytes_above_ascii_are_latin_1() {
    let mut app = App::showing("environ['HTTP_REFERER']");
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nReferer: caf\xc3\xa9\r\n\r\n";
    let answer = app.send(head, RequestBody::Empty).unwrap();
    assert_eq!(answer.items.concat(), b"'caf\xc3\xa9'");
}

#[test]
fn a_proxy_field_never_becomes_http_proxy() {
    let mut app = App::showing("[k for k in environ if k.startswith('HTTP_PROXY')]");
    assert_eq!(app.text("/", "Proxy: evil\r\nproxy: evil\r\n"), "[]");
}

#[test]
fn authorization_reaches_the_environ_but_process_environment_does_not() {
    let mut app = App::showing("(environ['HTTP_AUTHORIZATION'], 'PATH' in environ)");
    assert_eq!(app.text("/", "Authorization: Basic eA==\r\n"), "('Basic eA==', False)");
}

#[test]
fn the_authority_of_an_absolute_target_replaces_host() {
    let mut app = App::showing("(environ['HTTP_HOST'], environ['PATH_INFO'], environ['RAW_URI'])");
    assert_eq!(
        app.text("http://other.example:81/x", ""),
        "('other.example:81', '/x', 'http://other.example:81/x')"
    );
    assert_eq!(app.text("/x", ""), "('example.org', '/x', '/x')");
}

#[test]
fn peer_and_server_are_named_by_the_connection() {
    let keys =
        "[environ.get(k) for k in ('REMOTE_ADDR', 'REMOTE_PORT', 'SERVER_NAME', 'SERVER_PORT')]";
    let mut app = App::showing(keys);
    assert_eq!(app.text("/", ""), "['192.0.2.7', '40000', '192.0.2.1', '8000']");
    app.conn.peer = inet("192.0.2.7:40256");
    assert_eq!(app.text("/", ""), "['192.0.2.7', '40256', '192.0.2.1', '8000']");
    app.conn.peer = inet("192.0.2.7:40000");
    assert_eq!(app.text("/", ""), "['192.0.2.7', '40000', '192.0.2.1', '8000']");
    app.conn.peer = inet("[2001:db8::7]:1");
    app.conn.local = inet("[2001:db8::1]:443");
    app.conn.listener = 2;
    assert_eq!(app.text("/", ""), "['2001:db8::7', '1', '[2001:db8::1]', '443']");
}

#[test]
fn behind_a_unix_socket_the_server_is_named_by_host() {
    let keys =
        "[environ.get(k) for k in ('REMOTE_ADDR', 'REMOTE_PORT', 'SERVER_NAME', 'SERVER_PORT')]";
    let mut app = App::showing(keys);
    app.conn.peer = SocketName::Unix(String::new());
    app.conn.local = SocketName::Unix("/run/arctos.sock".to_owned());
    assert_eq!(app.text("/", ""), "['', None, 'example.org', '80']");
    let mut show = |head: &[u8]| {
        let answer = app.send(head, RequestBody::Empty).unwrap();
        String::from_utf8(answer.items.concat()).unwrap()
    };
    assert_eq!(show(b"GET / HTTP/1.1\r\nHost: a:81\r\n\r\n"), "['', None, 'a', '81']");
    assert_eq!(show(b"GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n"), "['', None, '[::1]', '81']");
    assert_eq!(show(b"GET / HTTP/1.0\r\n\r\n"), "['', None, 'localhost', '80']");
}

#[test]
fn a_valid_request_id_of_a_trusted_proxy_is_kept_and_a_new_one_is_made_otherwise() {
    let id = showing("environ['arctos.request_id']");
    let settings = Settings { forwarding: trusting_all(), ..Settings::default() };
    let mut app = App::with(&id, &settings);
    assert_eq!(app.text("/", "X-Request-Id: abc-1\r\n"), "'abc-1'");
    let made = app.text("/", "X-Request-Id: a b\r\n");
    assert_eq!(made.len(), 26);
    assert_ne!(app.text("/", ""), made);
    assert_eq!(App::new(&id).text("/", "X-Request-Id: abc-1\r\n").len(), 26);
}

#[test]
fn cached_fields_make_the_same_environ_as_new_ones() {
    // Shows everything except what differs between requests, in order, and then modifies it.
    let source = "def app(environ, start_response):
    start_response('200 OK', [])
    shown = [(k, v) for k, v in environ.items() if type(v) is str and k != 'arctos.request_id']
    environ['HTTP_ACCEPT'] = environ.pop('HTTP_HOST', None)
    environ.pop('PATH_INFO')
    return [repr(shown).encode('latin-1')]
";
    let fields = [
        "Host: a\r\n",
        "Host: b\r\n",
        "Host: b\r\nAccept: x\r\nX-Own: 1\r\nCookie: a=b\r\nX-Own: 2\r\nCookie: c=d\r\n",
        "Host: b\r\nX_Own: 1\r\nAccept: x\r\n",
        "X_Own: 1\r\nHost: b\r\nAccept: x\r\n",
        "Host: b\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n",
        "Host: b\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n",
        "Host: b\r\nProxy: x\r\nX-Request-Id: one\r\n",
    ];
    let lines = [
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "POST /caf%C3%A9?x=y HTTP/1.1",
        "GET http://other.example/ HTTP/1.1",
        "GET http://another.example/ HTTP/1.1",
    ];
    let mut app = App::new(source);
    let mut unix = App::new(source);
    unix.conn.local = SocketName::Unix("/run/arctos".to_owned());
    let mut count = 0;
    for fields in fields.iter().cycle().take(2 * fields.len()) {
        for line in lines.iter().cycle().take(3 * lines.len()) {
            count += 1;
            for known in [&mut app, &mut unix] {
                known.conn.peer = inet(&format!("192.0.2.{}:{}", count % 7, 40000 + count % 2));
                let mut fresh = App::new(source);
                fresh.conn = known.conn.clone();
                let head = format!("{line}\r\n{fields}\r\n");
                let show = |app: &mut App| {
                    let answer = app.send(head.as_bytes(), RequestBody::Empty).unwrap();
                    String::from_utf8_lossy(&answer.items.concat()).into_owned()
                };
                assert_eq!(show(known), show(&mut fresh), "{head}");
            }
        }
    }
}

#[test]
fn worker_and_queue_time_are_in_the_environ() {
    let mut app = App::showing("(environ['arctos.worker'], environ['arctos.queue_time_ms'])");
    assert_eq!(app.text("/", ""), "(3, 0.0)");
    let head_bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parsed(head_bytes);
    let request = Request {
        head_bytes,
        head: &head,
        body: RequestBody::Empty,
        conn: &app.conn,
        sequence: 9,
        forwarded: None,
        queue_wait: Duration::from_micros(1500),
    };
    let reply = app.bridge.call(request, &mut app.wire).unwrap();
    let crate::application::Content::Whole(chunk) = reply.content else { panic!("not whole") };
    assert_eq!(&chunk[..], b"(3, 1.5)");
}

#[test]
fn a_host_is_split_from_its_port() {
    assert_eq!(split_host(b"a.example"), (&b"a.example"[..], &b""[..]));
    assert_eq!(split_host(b"a.example:8080"), (&b"a.example"[..], &b"8080"[..]));
    assert_eq!(split_host(b"[::1]"), (&b"[::1]"[..], &b""[..]));
    assert_eq!(split_host(b"[::1]:80"), (&b"[::1]"[..], &b"80"[..]));
}

/// What an application sees of a request that proxies have passed on.
const PROXIED: &str = "[environ.get(k) for k in ('REMOTE_ADDR', 'REMOTE_PORT', 'wsgi.url_scheme', 'HTTP_HOST', \
     'SERVER_NAME', 'SERVER_PORT', 'SCRIPT_NAME', 'arctos.peer_addr', 'arctos.peer_port')]";

fn trusting_all() -> Forwarding {
    Forwarding { proxies: ["*".parse().unwrap()].into_iter().collect(), ..Forwarding::default() }
}

fn behind_proxies(root_path: &str) -> App {
    let settings = Settings {
        forwarding: trusting_all(),
        root_path: root_path.to_owned(),
        ..Settings::default()
    };
    App::with(&showing(PROXIED), &settings)
}

#[test]
fn what_proxies_state_replaces_what_the_connection_says() {
    let mut app = behind_proxies("/app");
    assert_eq!(
        app.text("/", ""),
        "['192.0.2.7', '40000', 'http', 'example.org', '192.0.2.1', '8000', '/app', '192.0.2.7', '40000']"
    );
    app.forwarded = Some(Forwarded {
        client: Some(ForwardedClient { ip: "2001:db8::9".parse().unwrap(), port: None }),
        scheme: Some(Scheme::Https),
        host: Some((*b"shop.example:8443").into()),
        port: Some(443),
        prefix: Some((*b"/shop").into()),
    });
    assert_eq!(
        app.text("/", ""),
        "['2001:db8::9', None, 'https', 'shop.example:8443', 'shop.example', '443', '/shop/app', '192.0.2.7', '40000']"
    );
    let client = ForwardedClient { ip: "192.0.2.99".parse().unwrap(), port: Some(7) };
    app.forwarded = Some(Forwarded { client: Some(client), ..Forwarded::default() });
    assert_eq!(
        app.text("/", ""),
        "['192.0.2.99', '7', 'http', 'example.org', '192.0.2.1', '8000', '/app', '192.0.2.7', '40000']"
    );
}

#[test]
fn behind_a_unix_socket_the_stated_host_names_the_server() {
    let mut app = behind_proxies("");
    app.conn.peer = SocketName::Unix(String::new());
    app.conn.local = SocketName::Unix("/run/arctos.sock".to_owned());
    assert_eq!(
        app.text("/", ""),
        "['', None, 'http', 'example.org', 'example.org', '80', '', '', None]"
    );
    let client = ForwardedClient { ip: "192.0.2.99".parse().unwrap(), port: None };
    app.forwarded = Some(Forwarded {
        client: Some(client),
        scheme: Some(Scheme::Https),
        host: Some((*b"[::1]:81").into()),
        port: Some(444),
        prefix: Some(Box::default()),
    });
    assert_eq!(
        app.text("/", ""),
        "['192.0.2.99', None, 'https', '[::1]:81', '[::1]', '444', '', '', None]"
    );
}

#[test]
fn without_trusted_proxies_the_environ_has_no_keys_for_them() {
    let mut app = App::showing("[key for key in environ if key.startswith('arctos.peer')]");
    assert_eq!(app.text("/", "X-Forwarded-For: 192.0.2.9\r\n"), "[]");
}

#[test]
fn a_proxy_header_names_client_and_server() {
    let mut app = behind_proxies("");
    let unix = || SocketName::Unix(String::new());
    let proxied = |source, destination| Some(Arc::new(ProxiedAddresses { source, destination }));
    app.conn.proxied = proxied(inet("198.51.100.1:4711"), inet("[2001:db8::2]:443"));
    assert_eq!(
        app.text("/", ""),
        "['198.51.100.1', '4711', 'http', 'example.org', '[2001:db8::2]', '443', '', '192.0.2.7', '40000']"
    );
    app.conn.proxied = proxied(unix(), unix());
    assert_eq!(
        app.text("/", ""),
        "['', None, 'http', 'example.org', 'example.org', '80', '', '192.0.2.7', '40000']"
    );
    app.conn.peer = unix();
    app.conn.local = unix();
    app.conn.listener = 1;
    app.conn.proxied = proxied(inet("198.51.100.1:4711"), inet("192.0.2.2:80"));
    assert_eq!(
        app.text("/", ""),
        "['198.51.100.1', '4711', 'http', 'example.org', '192.0.2.2', '80', '', '', None]"
    );
}
