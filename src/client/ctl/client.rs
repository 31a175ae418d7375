//! One HTTP request to an admin socket, over its own connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::CtlError;
use super::units::printable;
use crate::system::address::BindAddress;

/// Time limit for connecting, and for each read of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response: some thousand workers.
const MAX_RESPONSE_BYTES: u64 = 64 << 20;

/// Time limit for each read of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadTimeout {
    /// [`TIMEOUT`].
    Short,
    /// No limit, as long as the server exists.
    Unlimited,
}

/// Sends a GET request.
pub(crate) fn get(
    server: &BindAddress,
    target: &str,
    timeout: ReadTimeout,
) -> Result<CtlResponse, CtlError> {
    send(server, "GET", target, "", timeout)
}

/// Sends a POST request.
pub(crate) fn post(
    server: &BindAddress,
    target: &str,
    timeout: ReadTimeout,
) -> Result<CtlResponse, CtlError> {
    send(server, "POST", target, "Content-Length: 0\r\n", timeout)
}

fn send(
    server: &BindAddress,
    method: &str,
    target: &str,
    field: &str,
    timeout: ReadTimeout,
) -> Result<CtlResponse, CtlError> {
    let server = || server.clone();
    let mut socket = connect(&server())
        .map_err(|source| CtlError::Unreachable { server: server(), source: explained(source) })?;
    let mut response = Vec::new();
    let host = host(&server());
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{field}Connection: close\r\n\r\n");
    let limit = match timeout {
        ReadTimeout::Short => Some(TIMEOUT),
        ReadTimeout::Unlimited => None,
    };
    socket
        .set_read_timeout(limit)
        .and_then(|()| socket.write_all(request.as_bytes()))
        .and_then(|()| socket.take(MAX_RESPONSE_BYTES).read_to_end(&mut response))
        .map_err(|source| CtlError::Unanswered { server: server(), source: explained(source) })?;
    if response.is_empty() {
        return Err(CtlError::Closed { server: server() });
    }
    CtlResponse::read(&response).ok_or_else(|| CtlError::Unknown { server: server() })
}

fn connect(server: &BindAddress) -> io::Result<Socket> {
    let socket = match server {
        BindAddress::Tcp { host, port } => over_tcp(host, *port)?,
        BindAddress::Unix(path) => over_unix(&SockAddr::unix(path)?)?,
        BindAddress::Abstract(name) => over_unix(&SockAddr::unix(format!("\0{name}"))?)?,
        BindAddress::Fd(_) => return Err(ErrorKind::Unsupported.into()),
    };
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// Connects to the first reachable address of a name. The wildcard address stands for this machine.
fn over_tcp(host: &str, port: u16) -> io::Result<Socket> {
    let host = if host.is_empty() { "localhost" } else { host };
    let mut outcome = Err(ErrorKind::NotFound.into());
    for address in (host, port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, TIMEOUT).map(Socket::from);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn over_unix(address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // SO_SNDTIMEO also limits how long connect(2) waits for room in the accept queue.
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.connect(address)?;
    Ok(socket)
}

fn host(server: &BindAddress) -> String {
    match server {
        BindAddress::Tcp { host, .. } if host.is_empty() || host.contains('%') => {
            "localhost".into()
        }
        BindAddress::Tcp { .. } => server.to_string(),
        BindAddress::Unix(_) | BindAddress::Abstract(_) | BindAddress::Fd(_) => "localhost".into(),
    }
}

/// Explains the timeout of a socket, which the kernel reports as EAGAIN.
fn explained(error: io::Error) -> io::Error {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        let text = format!("nothing within {} s", TIMEOUT.as_secs());
        return io::Error::new(ErrorKind::TimedOut, text);
    }
    error
}

/// A complete response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CtlResponse {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl CtlResponse {
    /// Reads a response; `None` if it is incomplete or something else.
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let (line, fields) = head.split_once("\r\n")?;
        let status = line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
        let length = fields.split("\r\n").find_map(|field| {
            let (name, value) = field.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())
        })??;
        (body.len() == length).then(|| Self { status, body: body.to_owned() })
    }

    /// The body of a successful response.
    ///
    /// Errors: [`CtlError::Refused`] for any other status.
    pub(crate) fn into_success(self, server: &BindAddress) -> Result<String, CtlError> {
        match self.status {
            200 | 202 => Ok(self.body),
            status => {
                let text = printable(self.body.lines().next().unwrap_or_default());
                Err(CtlError::Refused { server: server.clone(), status, text })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_response_is_read_once_it_is_complete() {
        let whole = b"HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length: 2\r\n\r\nab";
        let response = CtlResponse { status: 200, body: "ab".into() };
        assert_eq!(CtlResponse::read(whole), Some(response));
        for length in 0..whole.len() {
            assert_eq!(CtlResponse::read(&whole[..length]), None, "{length} bytes");
        }
        for strange in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            "HTTP/1.1 x\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(CtlResponse::read(strange.as_bytes()), None, "{strange:?}");
        }
    }

    /// The outcome of a request to a server that sends this response.
    fn outcome_of(response: &'static str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let shown = format!("unix:{}", path.display());
        let server_address = BindAddress::Unix(path);
        let outcome = post(&server_address, "/stop", ReadTimeout::Unlimited)
            .and_then(|response| response.into_success(&server_address));
        let request = server.join().unwrap();
        assert_eq!(
            request,
            "POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        outcome.map_err(|error| error.to_string().replace(&shown, "unix:x.sock"))
    }

    #[test]
    fn the_body_of_a_successful_response_is_returned() {
        assert_eq!(outcome_of("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Ok("abc".into()));
        assert_eq!(
            outcome_of("HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\na"),
            Ok("a".into())
        );
    }

    #[test]
    fn another_status_is_an_error_with_its_text() {
        let text = "HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\nthere is /metrics\n";
        let message = "the server at unix:x.sock answers 404: there is /metrics";
        assert_eq!(outcome_of(text), Err(message.into()));
    }

    #[test]
    fn a_server_that_closes_without_a_response_is_reported_as_such() {
        let message = "the server at unix:x.sock has closed the connection without an answer";
        assert_eq!(outcome_of(""), Err(message.into()));
    }

    #[test]
    fn a_server_that_is_no_admin_socket_is_reported_as_such() {
        let message = outcome_of("SSH-2.0-OpenSSH\r\n").unwrap_err();
        assert!(
            message.starts_with("unix:x.sock does not answer as the admin socket"),
            "{message}"
        );
    }

    #[test]
    fn an_unreachable_server_is_named_with_the_reason() {
        let path = tempfile::tempdir().unwrap().path().join("x.sock");
        let message = get(&BindAddress::Unix(path.clone()), "/x", ReadTimeout::Short)
            .unwrap_err()
            .to_string();
        let reason = "No such file or directory";
        let expected = format!("cannot reach the server at unix:{}: {reason}", path.display());
        assert_eq!(message, expected);
    }
}
