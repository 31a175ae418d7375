//! Measures the cost of a call of the bridge. There is no assertion, so the tests are ignored and run by hand.
//!
//! `cargo test --release -p arctos-worker wsgi::tests::cost -- --ignored --nocapture`

use std::io::Write;
use std::time::{Duration, Instant};

use pyo3::Python;

use super::harness::{App, parsed};
use crate::application::{Application, Content, Request, RequestBody};

const ROUNDS: usize = 20;

const HELLO: &str = "def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '13')])
    return [b'Hello, World!']
";

const BARE: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

const BROWSER: &[u8] = b"GET /shop/cart?item=17 HTTP/1.1\r\n\
Host: shop.example.com\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/124.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: https://shop.example.com/shop/\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7\r\n\
Cookie: session=6f1d2c3b4a59687786950a1b2c3d4e5f60718293; csrftoken=abcdefghijklmnopqrstuvwxyz012345\r\n\
\r\n";

fn measure(name: &str, source: &str, head_bytes: &[u8]) {
    let mut app = App::new(source);
    let head = parsed(head_bytes);
    let conn = app.conn.clone();
    let count: u32 = std::env::var("CALLS").map_or(100_000, |text| text.parse().unwrap());
    let mut sequence = 0;
    let mut call = || {
        sequence += 1;
        let body = RequestBody::Empty;
        let queue_wait = Duration::ZERO;
        let request = Request {
            head_bytes,
            head: &head,
            body,
            conn: &conn,
            forwarded: None,
            sequence,
            queue_wait,
        };
        let reply = app.bridge.call(request, &mut app.wire).unwrap();
        assert!(matches!(reply.content, Content::Whole(_)));
    };
    Python::attach(|_| {
        let round = |_| {
            let started = Instant::now();
            (0..count).for_each(|_| call());
            started.elapsed() / count
        };
        // Whatever else the machine does only adds to it.
        let least = (0..ROUNDS).map(round).min().unwrap();
        writeln!(std::io::stdout(), "{name}: {} ns per call", least.as_nanos()).unwrap();
    });
}

#[test]
#[ignore = "a measurement, not a test"]
fn hello() {
    measure("hello", HELLO, BARE);
}

#[test]
#[ignore = "a measurement, not a test"]
fn browser() {
    measure("browser, 17 fields", HELLO, BROWSER);
}

#[test]
#[ignore = "a measurement, not a test"]
fn route() {
    for key in ["a.key", "arctos.route"] {
        let body = HELLO.split_once('\n').unwrap().1;
        let source = format!(
            "def app(environ, start_response):\n    environ['{key}'] = '/shop/orders/{{id}}'\n{body}"
        );
        measure(&format!("hello with {key}"), &source, BARE);
    }
}
