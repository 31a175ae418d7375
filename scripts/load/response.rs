//! The size of a response on the wire, learned from the first one. The bytes of the others are only counted.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The start of every successful response.
pub(crate) const GOOD: &[u8] = b"HTTP/1.1 200";

/// The size of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Size of head and body on the wire, including chunk framing.
    pub wire_bytes: usize,
    /// Size of the body that the application returned.
    pub body_bytes: usize,
    /// Whether the server closes the connection afterwards.
    pub closes: bool,
}

/// The progress of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Incomplete,
    Whole(Size),
    /// Its end is unknown, or it is not HTTP.
    Endless,
}

/// Sends `request` over its own connection and reads the response.
pub(crate) fn learn(server: SocketAddr, request: &[u8]) -> io::Result<Size> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut input = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        input.extend_from_slice(&buffer[..count]);
        if input.len() >= GOOD.len() && !input.starts_with(GOOD) {
            let line = input.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            return Err(io::Error::other(format!("the server answers: {line}")));
        }
        match progress(&input) {
            Progress::Whole(size) => return Ok(size),
            Progress::Incomplete if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Progress::Incomplete => {}
            Progress::Endless => {
                return Err(io::Error::other("a response without Content-Length and chunks"));
            }
        }
    }
}

fn progress(input: &[u8]) -> Progress {
    let Some(end) = find(input, b"\r\n\r\n") else { return Progress::Incomplete };
    let (head, body) = (&input[..end], &input[end + 4..]);
    let closes =
        field(head, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    if let Some(value) = field(head, b"content-length") {
        let length = std::str::from_utf8(value).ok().and_then(|value| value.parse::<usize>().ok());
        return match length {
            None => Progress::Endless,
            Some(length) if body.len() < length => Progress::Incomplete,
            Some(length) => {
                Progress::Whole(Size { wire_bytes: end + 4 + length, body_bytes: length, closes })
            }
        };
    }
    match field(head, b"transfer-encoding") {
        Some(value) if value.eq_ignore_ascii_case(b"chunked") => chunked(end + 4, body, closes),
        Some(_) | None => Progress::Endless,
    }
}

/// Reads chunks up to the last one, without trailer fields.
fn chunked(head_bytes: usize, body: &[u8], closes: bool) -> Progress {
    let (mut at, mut body_bytes) = (0, 0);
    loop {
        let Some(line) = find(&body[at..], b"\r\n") else { return Progress::Incomplete };
        let size = std::str::from_utf8(&body[at..at + line]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return Progress::Endless;
        };
        at += line + 2 + size + 2;
        body_bytes += size;
        if body.len() < at {
            return Progress::Incomplete;
        }
        if size == 0 {
            return Progress::Whole(Size { wire_bytes: head_bytes + at, body_bytes, closes });
        }
    }
}

fn field<'head>(head: &'head [u8], name: &[u8]) -> Option<&'head [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let found = line[..colon].eq_ignore_ascii_case(name);
        found.then(|| line[colon + 1..].trim_ascii())
    })
}

fn find(input: &[u8], wanted: &[u8]) -> Option<usize> {
    input.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The [`Progress`] of `response`, after checking that no part of it is complete.
    fn only_whole_at_its_end(response: &str) -> Progress {
        let response = response.as_bytes();
        for end in 0..response.len() {
            assert_eq!(progress(&response[..end]), Progress::Incomplete, "{end} bytes");
        }
        progress(response)
    }

    #[test]
    fn a_length_tells_where_the_body_ends() {
        let response = "HTTP/1.1 200 OK\r\nDate: x\r\ncontent-LENGTH:  5 \r\n\r\nhello";
        let size = Size { wire_bytes: response.len(), body_bytes: 5, closes: false };
        assert_eq!(only_whole_at_its_end(response), Progress::Whole(size));
    }

    #[test]
    fn the_chunk_of_size_0_ends_the_body() {
        let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        let size = Size { wire_bytes: response.len(), body_bytes: 13, closes: false };
        assert_eq!(only_whole_at_its_end(response), Progress::Whole(size));
    }

    #[test]
    fn what_comes_behind_a_response_is_not_part_of_it() {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let size = Size { wire_bytes: response.len(), body_bytes: 2, closes: false };
        assert_eq!(progress(format!("{response}{response}").as_bytes()), Progress::Whole(size));
    }

    #[test]
    fn a_server_says_that_it_closes_the_connection() {
        let response = "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nhi";
        let size = Size { wire_bytes: response.len(), body_bytes: 2, closes: true };
        assert_eq!(only_whole_at_its_end(response), Progress::Whole(size));
    }

    #[test]
    fn a_body_that_ends_with_the_connection_cannot_be_counted() {
        assert_eq!(progress(b"HTTP/1.1 200 OK\r\n\r\nhello"), Progress::Endless);
    }
}
