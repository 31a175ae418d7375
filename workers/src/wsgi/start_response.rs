//! `start_response` and the `write` it returns (PEP 3333 "The start_response() Callable").
//!
//! One [`Responder`] belongs to one request. `start_response` is a bound method of it, so that CPython
//! calls it by vectorcall; the responder itself is what `start_response` returns, and calling it is
//! `write()`. [`Responders`] gives the same responder to the next request when nobody else has kept a
//! reference to either.
//!
//! Whatever may run Python code, be it the `repr()` of a foreign object or the drop of one, may also let
//! another thread of the application in, which finds the same responder. So no borrow of a responder is
//! held over such a call, and none can be refused.
//!
//! | phase     | start_response         | write                  | reply handed to the loop |
//! |-----------|------------------------|------------------------|--------------------------|
//! | Unstarted | Started                | AssertionError         | (refused: `NotStarted`)  |
//! | Started   | with exc_info: Started | Sent, or Gone          | Sent                     |
//! | Sent      | with exc_info: raises it | Sent, or Gone        | Sent                     |
//! | Gone      | with exc_info: raises it | BrokenPipeError      | (refused: `ClientGone`)  |

use pyo3::exceptions::{
    PyAssertionError, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::ffi;
use crate::application::ClientGone;
use crate::http::ResponseHead;

/// How far a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no valid head yet.
    Unstarted,
    /// There is a head, and it may still be replaced.
    Started,
    /// The head is out, or as good as.
    Sent,
    /// The client went away while the application wrote.
    Gone,
}

/// The server's end of one request, as the application sees it: the `write` callable.
#[pyclass(module = "arctos.arctos", name = "write")]
pub(super) struct Responder {
    phase: Phase,
    head: ResponseHead,
}

#[pymethods]
impl Responder {
    /// Begins the reply: `start_response(status, headers, exc_info=None) -> write`.
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let exc_info = match exc_info {
            Some(exc_info) if exc_info.is_truthy()? => Some(exc_info),
            Some(_) | None => None,
        };
        let before = admit(slf, exc_info)?;
        // The head is filled outside of the responder: error messages take the repr() of foreign objects,
        // which may let another thread in.
        let mut head = match before {
            Phase::Unstarted => std::mem::take(&mut slf.borrow_mut().head),
            Phase::Started | Phase::Sent | Phase::Gone => ResponseHead::default(),
        };
        let filled = fill_head(&mut head, status, headers);
        let admitted = admit(slf, exc_info);
        let mut responder = slf.borrow_mut();
        match (filled, admitted) {
            (Ok(()), Ok(_)) => {
                responder.head = head;
                responder.phase = Phase::Started;
            }
            (Ok(()), Err(late)) => return Err(late),
            (Err(error), admitted) => {
                match (before, responder.phase) {
                    (_, Phase::Unstarted) => responder.head = head, // for its memory
                    (Phase::Started, Phase::Started) => responder.phase = Phase::Unstarted,
                    (_, Phase::Started | Phase::Sent | Phase::Gone) => {}
                }
                drop(responder);
                drop(admitted);
                return Err(error);
            }
        }
        drop(responder);
        Ok(slf.clone())
    }

    /// Sends `data` at once: `write(data)`.
    fn __call__(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data.cast::<PyBytes>().map_err(|_| {
            PyTypeError::new_err(format!("write() takes bytes, not {}", type_name(data)))
        })?;
        match phase(slf) {
            Phase::Unstarted => {
                return Err(PyAssertionError::new_err("write() before start_response()"));
            }
            Phase::Gone => return Err(client_gone()),
            Phase::Started | Phase::Sent => {}
        }
        let bytes = data.as_bytes();
        let sent = ffi::with_outlet(owner(slf), |outlet| {
            // Nothing to send is not a chunk, and does not fix the head.
            if bytes.is_empty() {
                return Ok(());
            }
            // The outlet may drop items that were sent before, and with them objects of the application.
            let head = {
                let mut responder = slf.borrow_mut();
                responder.phase = Phase::Sent;
                std::mem::take(&mut responder.head)
            };
            let sent = outlet.write(&head, bytes);
            let mut responder = slf.borrow_mut();
            responder.head = head;
            if sent.is_err() {
                responder.phase = Phase::Gone;
            }
            sent
        });
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(ClientGone)) => Err(client_gone()),
            None => Err(PyRuntimeError::new_err(
                "write() works only while the server runs this request's application or asks its \
                 iterable for an item, and only in that thread",
            )),
        }
    }
}

/// Whether `start_response` may be called now, and how far the reply is; a call that comes too late and
/// brings an exception raises that again.
fn admit(slf: &Bound<'_, Responder>, exc_info: Option<&Bound<'_, PyAny>>) -> PyResult<Phase> {
    match (phase(slf), exc_info) {
        (phase @ Phase::Unstarted, _) | (phase @ Phase::Started, Some(_)) => Ok(phase),
        (Phase::Started | Phase::Sent | Phase::Gone, None) => Err(PyAssertionError::new_err(
            "start_response() was called a second time without exc_info",
        )),
        (Phase::Sent | Phase::Gone, Some(exc_info)) => Err(reraised(exc_info)?),
    }
}

/// What the outlet of a request is lent under.
pub(super) fn owner(responder: &Bound<'_, Responder>) -> usize {
    responder.as_ptr().addr()
}

/// How far a request's reply is.
pub(super) fn phase(responder: &Bound<'_, Responder>) -> Phase {
    responder.borrow().phase
}

/// The application's Content-Length.
pub(super) fn content_length(responder: &Bound<'_, Responder>) -> Option<u64> {
    responder.borrow().head.content_length()
}

fn client_gone() -> PyErr {
    PyBrokenPipeError::new_err((nix::errno::Errno::EPIPE as i32, "the client is gone"))
}

/// The exception of an exc_info triple, with its traceback; an error if it is no such triple.
fn reraised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let triple = exc_info.cast::<PyTuple>().ok().filter(|triple| triple.len() == 3);
    let Some(triple) = triple else {
        return Err(PyTypeError::new_err(format!(
            "exc_info must be a tuple of three as sys.exc_info() gives it, not {}",
            type_name(exc_info)
        )));
    };
    let value = triple.get_item(1)?;
    value.call_method1("with_traceback", (triple.get_item(2)?,))?;
    Ok(PyErr::from_value(value))
}

/// Checks status and headers as wsgiref.validate does, and encodes them.
fn fill_head(
    head: &mut ResponseHead,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let status = native_string(status, "Status")?;
    head.start(latin1_of(status, "Status")?)
        .map_err(|error| PyValueError::new_err(format!("{error}: {}", repr(status))))?;
    let Ok(headers) = headers.cast_exact::<PyList>() else {
        return Err(PyTypeError::new_err(format!(
            "Headers ({}) must be of type list: {}",
            repr(headers),
            type_name(headers)
        )));
    };
    for item in headers.iter() {
        let Ok(pair) = item.cast::<PyTuple>() else {
            return Err(PyTypeError::new_err(format!(
                "Individual headers ({}) must be of type tuple: {}",
                repr(&item),
                type_name(&item)
            )));
        };
        let Some((name, value)) = ffi::pair(pair) else {
            return Err(PyTypeError::new_err(format!(
                "Individual headers ({}) must have two parts: name and value",
                repr(&item)
            )));
        };
        let name = native_string(&name, "Header name")?;
        let value = native_string(&value, "Header value")?;
        head.add(latin1_of(name, "Header name")?, latin1_of(value, "Header value")?)
            .map_err(|error| PyValueError::new_err(format!("{error}: {}", repr(name))))?;
    }
    Ok(())
}

/// A str, or a subclass of it.
fn native_string<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    title: &str,
) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("{title} must be of type str (got {})", repr(value)))
    })
}

/// The latin-1 bytes of a str.
fn latin1_of<'a>(text: &'a Bound<'_, PyString>, title: &str) -> PyResult<&'a [u8]> {
    ffi::latin1_bytes(text).ok_or_else(|| {
        PyValueError::new_err(format!("{title} has characters outside latin-1: {}", repr(text)))
    })
}

/// repr(), for messages; an object whose repr() fails is named by its type.
pub(super) fn repr(object: &Bound<'_, PyAny>) -> String {
    match object.repr() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("<{} object>", type_name(object)),
    }
}

/// The name of an object's type, for messages.
pub(super) fn type_name(object: &Bound<'_, PyAny>) -> String {
    match object.get_type().name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "object".to_owned(),
    }
}

/// A responder together with its `start_response`.
pub(super) struct Starter {
    /// The responder.
    pub(super) responder: Py<Responder>,
    /// Its bound method.
    pub(super) start_response: Py<PyAny>,
}

/// Whether a responder may go to the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing of the reply is left to the application.
    Over,
    /// The reply goes on: its items may call `write` or `start_response`.
    GoesOn,
}

/// Where responders come from.
pub(super) struct Responders {
    spare: Option<Starter>,
}

impl Responders {
    /// With none made yet.
    pub(super) fn new() -> Self {
        Self { spare: None }
    }

    /// One for a new request.
    pub(super) fn take(&mut self, py: Python<'_>) -> PyResult<Starter> {
        if let Some(spare) = self.spare.take() {
            return Ok(spare);
        }
        let fresh = Responder { phase: Phase::Unstarted, head: ResponseHead::default() };
        let responder = Bound::new(py, fresh)?;
        let start_response = responder.getattr("start_response")?.unbind();
        Ok(Starter { responder: responder.unbind(), start_response })
    }

    /// Takes the head out of a request's responder into `head`, and keeps the responder for the next
    /// request if the application has kept nothing of it.
    pub(super) fn give_back(
        &mut self,
        py: Python<'_>,
        starter: Starter,
        head: &mut ResponseHead,
        usage: Use,
    ) {
        let responder = starter.responder.bind(py);
        // One reference is the starter's, one the bound method's. (A borrow holds one of its own.)
        let is_ours = usage == Use::Over
            && ffi::reference_count(starter.start_response.bind(py)) == 1
            && ffi::reference_count(responder) == 2;
        let mut inner = responder.borrow_mut();
        if is_ours {
            // Swapped, so that both heads keep the memory they have.
            std::mem::swap(&mut inner.head, head);
            inner.phase = Phase::Unstarted;
            drop(inner);
            self.spare = Some(starter);
        } else {
            *head = std::mem::take(&mut inner.head);
            match inner.phase {
                Phase::Unstarted | Phase::Started | Phase::Sent => inner.phase = Phase::Sent,
                Phase::Gone => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
