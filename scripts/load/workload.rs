//! The requests to send, which are prepared before the first connection is opened.

use clap::ValueEnum;

/// Predefined requests by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A request with only a Host field.
    Hello,
    /// A request of a browser: 17 fields, 1 KB.
    Browser,
    /// Requests of 64 browsers: cookie, agent, referer and path differ from request to request.
    Varying,
    /// 16 times `hello` in one write.
    Pipelined,
    /// A form of 4 KB.
    Post4k,
    /// An upload of 1 MB.
    Post1m,
    /// `hello` with `Connection: close`, each on its own connection.
    NewConnections,
    /// A small static file.
    StaticSmall,
    /// A large static file.
    StaticLarge,
}

/// The requests that each connection repeats.
pub(crate) struct Workload {
    /// The writes, sent in turn. All have the same length.
    pub writes: Vec<Vec<u8>>,
    /// Number of requests in one write, whose responses come before the next write.
    pub requests_per_write: usize,
    /// Whether the server closes the connection after each response, so that a new one follows.
    pub closes: bool,
}

const HELLO: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const CLOSING: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
const SMALL: &str = "GET /static/small.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const LARGE: &str = "GET /static/large.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
const DEPTH: usize = 16;
const CLIENTS: usize = 64;

impl Workload {
    /// The predefined requests of this name.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Hello => Self::repeated(HELLO.into()),
            Kind::Browser => Self::repeated(browser(0)),
            Kind::Varying => {
                let writes = (0..CLIENTS).map(browser).collect();
                Self { writes, requests_per_write: 1, closes: false }
            }
            Kind::Pipelined => {
                let writes = vec![HELLO.repeat(DEPTH).into_bytes()];
                Self { writes, requests_per_write: DEPTH, closes: false }
            }
            Kind::Post4k => Self::repeated(post("application/x-www-form-urlencoded", 4096)),
            Kind::Post1m => Self::repeated(post("application/octet-stream", 1024 * 1024)),
            Kind::StaticSmall => Self::repeated(SMALL.into()),
            Kind::StaticLarge => Self::repeated(LARGE.into()),
            Kind::NewConnections => Self { closes: true, ..Self::repeated(CLOSING.into()) },
        }
    }

    /// The same request repeated.
    pub(crate) fn repeated(request: Vec<u8>) -> Self {
        Self { writes: vec![request], requests_per_write: 1, closes: false }
    }

    /// Size of a request.
    pub(crate) fn request_bytes(&self) -> usize {
        self.writes[0].len() / self.requests_per_write
    }

    /// A single request, from which the size of the response is learned.
    pub(crate) fn first_request(&self) -> &[u8] {
        &self.writes[0][..self.request_bytes()]
    }
}

/// The request of a browser behind a proxy, for client number `client` of 64.
fn browser(client: usize) -> Vec<u8> {
    // All numbers have two digits, so that all requests have the same length.
    let client = client + 10;
    let token: String =
        (0..8).map(|part| format!("{:08x}", (client + part) * 0x0123_4567)).collect();
    let fields = [
        ("Host", "shop.example.com".to_owned()),
        ("Connection", "keep-alive".to_owned()),
        ("Cache-Control", "max-age=0".to_owned()),
        ("sec-ch-ua", r#""Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140""#.to_owned()),
        ("sec-ch-ua-mobile", "?0".to_owned()),
        ("sec-ch-ua-platform", r#""Linux""#.to_owned()),
        ("Upgrade-Insecure-Requests", "1".to_owned()),
        (
            "User-Agent",
            format!(
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/140.0.0.{client} Safari/537.36"
            ),
        ),
        (
            "Accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,\
             */*;q=0.8,application/signed-exchange;v=b3;q=0.7"
                .to_owned(),
        ),
        ("Sec-Fetch-Site", "same-origin".to_owned()),
        ("Sec-Fetch-Mode", "navigate".to_owned()),
        ("Sec-Fetch-Dest", "document".to_owned()),
        ("Referer", format!("https://shop.example.com/catalogue/shoes?page={client}")),
        ("Accept-Encoding", "gzip, deflate, br, zstd".to_owned()),
        ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8".to_owned()),
        ("Cookie", format!("csrftoken={token}; sessionid={token}; theme=dark; consent=all")),
        ("X-Forwarded-For", format!("203.0.113.{client}")),
    ];
    let fields: String = fields.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    format!("GET /catalogue/shoes/item-{client}?size=42&colour=blue HTTP/1.1\r\n{fields}\r\n")
        .into()
}

fn post(content_type: &str, body_bytes: usize) -> Vec<u8> {
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n\
         Content-Length: {body_bytes}\r\n\r\n"
    )
    .into_bytes();
    request.resize(request.len() + body_bytes, b'x');
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_writes_of_a_workload_are_of_one_length() {
        for kind in Kind::value_variants() {
            let workload = Workload::of(*kind);
            let first = workload.writes[0].len();
            assert!(workload.writes.iter().all(|write| write.len() == first), "{kind:?}");
        }
    }

    #[test]
    fn what_varies_is_no_two_times_the_same() {
        let mut writes = Workload::of(Kind::Varying).writes;
        writes.sort();
        writes.dedup();
        assert_eq!(writes.len(), CLIENTS);
    }

    #[test]
    fn a_browser_sends_a_kilobyte_in_17_fields() {
        let request = browser(0);
        assert!((950..=1150).contains(&request.len()), "{}", request.len());
        assert_eq!(request.iter().filter(|byte| **byte == b'\n').count(), 17 + 2);
    }

    #[test]
    fn the_first_request_of_a_pipeline_is_one_request() {
        assert_eq!(Workload::of(Kind::Pipelined).first_request(), HELLO.as_bytes());
    }
}
