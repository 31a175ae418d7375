//! One request over a connection of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::CtlError;
use super::units::printable;
use crate::system::address::BindAddress;

/// To connect, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer: some thousand workers.
const ANSWER_BYTES: u64 = 64 << 20;

/// How long each piece of an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`PATIENCE`].
    Short,
    /// As long as the server is there.
    Endless,
}

/// Looks.
pub(crate) fn get(
    server: &BindAddress,
    target: &str,
    patience: Patience,
) -> Result<Answer, CtlError> {
    ask(server, "GET", target, "", patience)
}

/// Does.
pub(crate) fn post(
    server: &BindAddress,
    target: &str,
    patience: Patience,
) -> Result<Answer, CtlError> {
    ask(server, "POST", target, "Content-Length: 0\r\n", patience)
}

fn ask(
    server: &BindAddress,
    method: &str,
    target: &str,
    field: &str,
    patience: Patience,
) -> Result<Answer, CtlError> {
    let server = || server.clone();
    let mut socket = connect(&server())
        .map_err(|source| CtlError::Unreachable { server: server(), source: in_time(source) })?;
    let mut answer = Vec::new();
    let host = host(&server());
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{field}Connection: close\r\n\r\n");
    let limit = match patience {
        Patience::Short => Some(PATIENCE),
        Patience::Endless => None,
    };
    socket
        .set_read_timeout(limit)
        .and_then(|()| socket.write_all(request.as_bytes()))
        .and_then(|()| socket.take(ANSWER_BYTES).read_to_end(&mut answer))
        .map_err(|source| CtlError::Unanswered { server: server(), source: in_time(source) })?;
    if answer.is_empty() {
        return Err(CtlError::Closed { server: server() });
    }
    Answer::read(&answer).ok_or_else(|| CtlError::Strange { server: server() })
}

fn connect(server: &BindAddress) -> io::Result<Socket> {
    let socket = match server {
        BindAddress::Tcp { host, port } => over_tcp(host, *port)?,
        BindAddress::Unix(path) => over_unix(&SockAddr::unix(path)?)?,
        BindAddress::Abstract(name) => over_unix(&SockAddr::unix(format!("\0{name}"))?)?,
        BindAddress::Fd(_) => return Err(ErrorKind::Unsupported.into()),
    };
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The first address of a name that answers. To connect to all addresses is to connect to this machine.
fn over_tcp(host: &str, port: u16) -> io::Result<Socket> {
    let host = if host.is_empty() { "localhost" } else { host };
    let mut outcome = Err(ErrorKind::NotFound.into());
    for address in (host, port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, PATIENCE).map(Socket::from);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn over_unix(address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // connect(2) waits for room in the queue of the listener, and only so long (SO_SNDTIMEO).
    socket.set_write_timeout(Some(PATIENCE))?;
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

/// A timeout of a socket is EAGAIN, which says nothing to a person.
fn in_time(error: io::Error) -> io::Error {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        let words = format!("nothing within {} s", PATIENCE.as_secs());
        return io::Error::new(ErrorKind::TimedOut, words);
    }
    error
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// Reads a whole answer; `None` for anything else, or a part of one.
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

    /// The body, if this is a yes.
    pub(crate) fn of_success(self, server: &BindAddress) -> Result<String, CtlError> {
        match self.status {
            200 | 202 => Ok(self.body),
            status => {
                let words = printable(self.body.lines().next().unwrap_or_default());
                Err(CtlError::Refused { server: server.clone(), status, words })
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
    fn an_answer_is_read_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length: 2\r\n\r\nab";
        let answer = Answer { status: 200, body: "ab".into() };
        assert_eq!(Answer::read(whole), Some(answer));
        for length in 0..whole.len() {
            assert_eq!(Answer::read(&whole[..length]), None, "{length} bytes");
        }
        for strange in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            "HTTP/1.1 x\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(Answer::read(strange.as_bytes()), None, "{strange:?}");
        }
    }

    /// What is said to a server that answers so.
    fn said(answer: &'static str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let shown = format!("unix:{}", path.display());
        let server_address = BindAddress::Unix(path);
        let outcome = post(&server_address, "/stop", Patience::Endless)
            .and_then(|answer| answer.of_success(&server_address));
        let request = server.join().unwrap();
        assert_eq!(
            request,
            "POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        outcome.map_err(|error| error.to_string().replace(&shown, "unix:x.sock"))
    }

    #[test]
    fn the_body_of_a_yes_is_the_answer() {
        assert_eq!(said("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Ok("abc".into()));
        assert_eq!(said("HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\na"), Ok("a".into()));
    }

    #[test]
    fn another_status_is_told_with_its_words() {
        let text = "HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\nthere is /metrics\n";
        let message = "the server at unix:x.sock answers 404: there is /metrics";
        assert_eq!(said(text), Err(message.into()));
    }

    #[test]
    fn who_closes_without_a_word_is_told_apart() {
        let message = "the server at unix:x.sock has closed the connection without an answer";
        assert_eq!(said(""), Err(message.into()));
    }

    #[test]
    fn who_is_no_admin_socket_is_told_apart() {
        let message = said("SSH-2.0-OpenSSH\r\n").unwrap_err();
        assert!(
            message.starts_with("unix:x.sock does not answer as the admin socket"),
            "{message}"
        );
    }

    #[test]
    fn who_is_not_there_is_named_with_the_reason() {
        let path = tempfile::tempdir().unwrap().path().join("x.sock");
        let message =
            get(&BindAddress::Unix(path.clone()), "/x", Patience::Short).unwrap_err().to_string();
        let reason = "No such file or directory";
        let expected = format!("cannot reach the server at unix:{}: {reason}", path.display());
        assert_eq!(message, expected);
    }
}
