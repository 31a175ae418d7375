//! `start_response` and the `write` it returns (PEP 3333 "The start_response() Callable").
//!
//! Each request has one [`Responder`]. `start_response` is a bound method of it, which CPython calls by vectorcall. It
//! returns the responder itself, and calling that is `write()`. [`Responders`] reuses a responder for the next request if
//! nothing else has kept a reference to it or its method.
//!
//! Everything that may run Python code, such as the `repr()` or the drop of an object of the application, may also let
//! another thread run, which finds the same responder. So no borrow of a responder is held during such a call, and no
//! borrow can fail.
//!
//! | phase     | start_response         | write                  | reply passed to the loop |
//! |-----------|------------------------|------------------------|--------------------------|
//! | Unstarted | Started                | AssertionError         | (refused: `NotStarted`)  |
//! | Started   | with exc_info: Started | Sent, or Gone          | Sent                     |
//! | Sent      | with exc_info: raises it | Sent, or Gone        | Sent                     |
//! | Gone      | with exc_info: raises it | BrokenPipeError      | (refused: `ClientGone`)  |

use pyo3::exceptions::{
    PyAssertionError, PyBaseException, PyBrokenPipeError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::ffi;
use crate::application::ClientGone;
use crate::http::ResponseHead;

/// The progress of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no valid head yet.
    Unstarted,
    /// There is a head, which can still be replaced.
    Started,
    /// The head has been passed to the event loop.
    Sent,
    /// The client disconnected while the application was writing.
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
    /// Starts the reply: `start_response(status, headers, exc_info=None) -> write`.
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let exc_info = match exc_info {
            Some(exc_info) if exc_info.is_truthy()? => Some(triple(exc_info)?),
            Some(_) | None => None,
        };
        let exc_info = exc_info.as_ref();
        let before = check_may_start(slf, exc_info)?;
        // The head is filled outside the responder, because error messages call repr() on objects of the application,
        // which may let another thread run.
        let mut head = match before {
            Phase::Unstarted => std::mem::take(&mut slf.borrow_mut().head),
            Phase::Started | Phase::Sent | Phase::Gone => ResponseHead::default(),
        };
        let filled = fill_head(&mut head, status, headers);
        let may_start = check_may_start(slf, exc_info);
        let mut responder = slf.borrow_mut();
        match (filled, may_start) {
            (Ok(()), Ok(_)) => {
                responder.head = head;
                responder.phase = Phase::Started;
            }
            (Ok(()), Err(late)) => return Err(late),
            (Err(error), may_start) => {
                match (before, responder.phase) {
                    (_, Phase::Unstarted) => responder.head = head, // for its memory
                    (Phase::Started, Phase::Started) => responder.phase = Phase::Unstarted,
                    (_, Phase::Started | Phase::Sent | Phase::Gone) => {}
                }
                drop(responder);
                drop(may_start);
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
                return Err(PyAssertionError::new_err(
                    "write() was called before start_response()",
                ));
            }
            Phase::Gone => return Err(client_gone()),
            Phase::Started | Phase::Sent => {}
        }
        let bytes = data.as_bytes();
        let sent = ffi::with_outlet(owner(slf), |outlet| {
            // An empty write sends no chunk, and the head can still be replaced.
            if bytes.is_empty() {
                return Ok(());
            }
            // The outlet may drop items that were sent earlier, and with them objects of the application.
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

/// Checks that `start_response` may be called now, and returns the phase of the reply. A call that comes too late with
/// an exception raises it again.
#[inline]
fn check_may_start(slf: &Bound<'_, Responder>, exc_info: Option<&ExcInfo<'_>>) -> PyResult<Phase> {
    match (phase(slf), exc_info) {
        (phase @ Phase::Unstarted, _) | (phase @ Phase::Started, Some(_)) => Ok(phase),
        (Phase::Started | Phase::Sent | Phase::Gone, None) => Err(PyAssertionError::new_err(
            "start_response() was called a second time without exc_info",
        )),
        (Phase::Sent | Phase::Gone, Some(exc_info)) => Err(reraised(exc_info)?),
    }
}

/// Returns the key under which the outlet of a request is lent.
pub(super) fn owner(responder: &Bound<'_, Responder>) -> usize {
    responder.as_ptr().addr()
}

/// Returns the phase of a request's reply.
pub(super) fn phase(responder: &Bound<'_, Responder>) -> Phase {
    responder.borrow().phase
}

/// Returns the application's Content-Length.
pub(super) fn content_length(responder: &Bound<'_, Responder>) -> Option<u64> {
    responder.borrow().head.content_length()
}

fn client_gone() -> PyErr {
    PyBrokenPipeError::new_err((nix::errno::Errno::EPIPE as i32, "the client has disconnected"))
}

/// The value and the traceback of an exc_info triple. Both are None outside of an `except` block.
struct ExcInfo<'py> {
    value: Bound<'py, PyAny>,
    traceback: Bound<'py, PyAny>,
}

/// Checks an exc_info.
fn triple<'py>(exc_info: &Bound<'py, PyAny>) -> PyResult<ExcInfo<'py>> {
    if let Ok(triple) = exc_info.cast::<PyTuple>()
        && triple.len() == 3
    {
        let (value, traceback) = (triple.get_item(1)?, triple.get_item(2)?);
        if value.is_none() || value.is_instance_of::<PyBaseException>() {
            return Ok(ExcInfo { value, traceback });
        }
    }
    Err(PyTypeError::new_err(format!(
        "exc_info must be a tuple of three as returned by sys.exc_info(), not {}",
        repr(exc_info)
    )))
}

/// Returns the exception of an exc_info with its traceback.
fn reraised(exc_info: &ExcInfo<'_>) -> PyResult<PyErr> {
    if exc_info.value.is_none() {
        return Err(PyAssertionError::new_err(
            "start_response() was called after the response had begun, and its exc_info is empty, \
             because the application handles no exception",
        ));
    }
    exc_info.value.call_method1("with_traceback", (&exc_info.traceback,))?;
    Ok(PyErr::from_value(exc_info.value.clone()))
}

/// Checks status and headers as wsgiref.validate does, and encodes them.
fn fill_head(
    head: &mut ResponseHead,
    status: &Bound<'_, PyAny>,
    headers: &Bound<'_, PyAny>,
) -> PyResult<()> {
    head.start(text_of(status, "Status")?)
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
        head.add(text_of(&name, "Header name")?, text_of(&value, "Header value")?)
            .map_err(|error| PyValueError::new_err(format!("{error}: {}", repr(&name))))?;
    }
    Ok(())
}

/// Returns the latin-1 bytes of a value that is a str, or an instance of a subclass.
#[inline]
fn text_of<'a>(value: &'a Bound<'_, PyAny>, title: &str) -> PyResult<&'a [u8]> {
    let text = value.cast::<PyString>().ok();
    text.and_then(ffi::latin1_bytes).ok_or_else(|| not_native(value, title))
}

/// Returns why a value is no native string.
#[cold]
fn not_native(value: &Bound<'_, PyAny>, title: &str) -> PyErr {
    if value.is_instance_of::<PyString>() {
        let shown = repr(value);
        PyValueError::new_err(format!("{title} has characters outside latin-1: {shown}"))
    } else {
        PyTypeError::new_err(format!("{title} must be of type str (got {})", repr(value)))
    }
}

/// Returns repr() for messages, or the type of an object whose repr() fails.
pub(super) fn repr(object: &Bound<'_, PyAny>) -> String {
    match object.repr() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("<{} object>", type_name(object)),
    }
}

/// Returns the name of an object's type for messages.
pub(super) fn type_name(object: &Bound<'_, PyAny>) -> String {
    match object.get_type().name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "object".to_owned(),
    }
}

/// A responder together with its `start_response`.
pub(super) struct Starter {
    /// The responder of the request.
    pub(super) responder: Py<Responder>,
    /// The bound method of the responder.
    pub(super) start_response: Py<PyAny>,
}

/// Whether a responder may be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponderUse {
    /// The application has nothing left to do for the reply.
    Finished,
    /// The reply continues, and its items may call `write` or `start_response`.
    Continues,
}

/// Provides responders and reuses them.
pub(super) struct Responders {
    spare: Option<Starter>,
}

impl Responders {
    /// Creates the pool without a responder.
    pub(super) fn new() -> Self {
        Self { spare: None }
    }

    /// Returns a responder for a new request.
    pub(super) fn take(&mut self, py: Python<'_>) -> PyResult<Starter> {
        if let Some(spare) = self.spare.take() {
            return Ok(spare);
        }
        let fresh = Responder { phase: Phase::Unstarted, head: ResponseHead::default() };
        let responder = Bound::new(py, fresh)?;
        let start_response = responder.getattr("start_response")?.unbind();
        Ok(Starter { responder: responder.unbind(), start_response })
    }

    /// Moves the head of a request's responder into `head`, and keeps the responder for the next request if the
    /// application has kept no reference to it.
    pub(super) fn give_back(
        &mut self,
        py: Python<'_>,
        starter: Starter,
        head: &mut ResponseHead,
        usage: ResponderUse,
    ) {
        let responder = starter.responder.bind(py);
        // The starter and the bound method have one reference each. (A borrow would have another.)
        let is_ours = usage == ResponderUse::Finished
            && ffi::reference_count(starter.start_response.bind(py)) == 1
            && ffi::reference_count(responder) == 2;
        let mut inner = responder.borrow_mut();
        if is_ours {
            // Swapping lets both heads keep their memory.
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
