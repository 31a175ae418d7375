//! An application that returns the request in its response, so that the client can compare them.

use arctos_worker::application::{
    AppBody, AppError, Application, Content, Outlet, Reply, Request, RequestBody, Stream,
};
use arctos_worker::http::{ResponseHead, Version};

use super::corpus::Body;
use super::stated::announced;

/// Answers with a line `METHOD TARGET VERSION`, a line `body LENGTH FNV`, what trusted proxies state and a line
/// `NAME: VALUE` for each field. It raises for the target `/raise`, and after its first item for the target `/break`.
#[derive(Default)]
pub(crate) struct Echo {
    head: ResponseHead,
}

/// The iterator of `/break`, which fails after the first item.
pub(crate) struct Broken;

impl AppBody for Broken {
    type Chunk = Vec<u8>;

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
        Err(AppError::Raised)
    }

    fn close(self) {}
}

impl Application for Echo {
    type Body = Broken;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Broken>, AppError> {
        let (head, bytes) = (request.head, request.head_bytes);
        let version = match head.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        let body = Body::of(&whole(request.body)?);
        let (method, target) = (head.method.of(bytes), head.target.of(bytes));
        let mut text = first_lines(method, target, version, body);
        text.extend(stated_line(&announced(request.conn.proxied.as_deref(), request.forwarded)));
        for field in &head.fields {
            text.extend(field_line(field.name.of(bytes), field.value.of(bytes)));
        }
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        self.head.add(b"Content-Type", b"text/plain").map_err(|_| AppError::Invalid)?;
        let content = match head.target.of(bytes) {
            b"/raise" => return Err(AppError::Raised),
            b"/break" => Content::Stream(Stream { first: Some(text), rest: Broken, length: None }),
            _ => Content::Whole(text),
        };
        Ok(Reply { head: &self.head, content })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

/// The lines of the response that precede the fields.
pub(crate) fn first_lines(method: &[u8], target: &[u8], version: &str, body: Body) -> Vec<u8> {
    let mut text = [method, b" ", target, b" ", version.as_bytes(), b"\n"].concat();
    text.extend_from_slice(format!("body {} {:016x}\n", body.length, body.fnv).as_bytes());
    text
}

/// The line of what trusted proxies state, if they do.
pub(crate) fn stated_line(stated: &str) -> Vec<u8> {
    if stated.is_empty() { Vec::new() } else { format!("stated {stated}\n").into_bytes() }
}

/// The line for one field.
pub(crate) fn field_line(name: &[u8], value: &[u8]) -> Vec<u8> {
    [name, b": ", value, b"\n"].concat()
}

fn whole(body: RequestBody<'_>) -> Result<Vec<u8>, AppError> {
    match body {
        RequestBody::Empty => Ok(Vec::new()),
        RequestBody::Slice(bytes) => Ok(bytes.to_vec()),
        RequestBody::Spooled(mut spool) => {
            let length = usize::try_from(spool.len()).expect("the body of a test fits into memory");
            let mut bytes = vec![0; length];
            let mut count = 0;
            loop {
                match spool.read(&mut bytes[count..]).map_err(|_| AppError::BodyLost)? {
                    0 => break,
                    read => count += read,
                }
            }
            bytes.truncate(count);
            Ok(bytes)
        }
    }
}
