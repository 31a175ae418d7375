//! The iterable of bytes that the application returns (PEP 3333 "Buffering and Streaming"), its `close()`, and shortcuts
//! for the usual types.

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMemoryView, PyString, PyTuple};

use super::asgi;
use super::context::Context;
use super::failure::{CallFailure, Reporter, RequestLabel, is_broken_pipe};
use super::ffi;
use super::file_wrapper::{self, FileWrapper};
use super::interrupt;
use super::start_response::{self, Phase, Responder, type_name};
use crate::application::{AppBody, AppError, Content, FileSpan, Outlet, Stream};

/// An item: the Python bytes themselves.
pub type ReplyChunk = PyBackedBytes;

/// The rest of a reply, which the application produces.
pub struct ReplyBody {
    items: Items,
    /// The object that the application returned, for its `close()`.
    closer: Option<Py<PyAny>>,
    responder: Py<Responder>,
    /// The context that the application was called in and produces items in.
    context: Context,
    label: RequestLabel,
    reporter: Reporter,
}

/// The source of further items.
enum Items {
    /// There are no further items, or none are requested.
    Finished,
    /// An exact list, which is read by index and needs no iterator.
    List(Sequence<PyList>),
    /// An exact tuple, which is read by index, too.
    Tuple(Sequence<PyTuple>),
    /// Anything else.
    Iterator(Py<PyIterator>),
}

/// A sequence and the index of its next item.
struct Sequence<T> {
    items: Py<T>,
    next: usize,
}

/// Turns what the application returned into what the event loop sends. Takes the first non-empty item, after which the
/// head must exist.
///
/// Errors: what the application did wrong. Its iterable has been closed.
pub(super) fn content(
    py: Python<'_>,
    result: Bound<'_, PyAny>,
    responder: &Bound<'_, Responder>,
    label: impl FnOnce() -> RequestLabel,
    context: &Context,
    reporter: &Reporter,
) -> Result<Content<ReplyBody>, CallFailure> {
    if let Some(item) = only_item(&result) {
        let chunk = checked(item)?;
        check_started(responder)?;
        return Ok(chunk.map_or(Content::Empty, Content::Whole));
    }
    if let Some(text) = bad_result(&result) {
        return Err(CallFailure::Invalid(text));
    }
    let mut body = ReplyBody {
        items: Items::Finished,
        closer: None,
        responder: responder.clone().unbind(),
        context: context.share(py),
        label: label(),
        reporter: reporter.clone(),
    };
    match body.begin(py, result) {
        Ok(BodyStart::Empty) => {
            body.end(py);
            Ok(Content::Empty)
        }
        Ok(BodyStart::Whole(chunk)) => Ok(Content::Whole(chunk)),
        Ok(BodyStart::Stream(streams)) => Ok(Content::Stream(Stream {
            first: Some(streams.first),
            rest: body,
            length: streams.length,
        })),
        Ok(BodyStart::File(slice)) => {
            let file_wrapper::FileSlice { file, offset, length } = slice;
            Ok(Content::File(FileSpan { file, offset, length, owner: body }))
        }
        Err(failure) => {
            body.end(py);
            Err(failure)
        }
    }
}

/// What is known about a body after its first item.
enum BodyStart {
    /// The body is empty.
    Empty,
    /// The body is one item, and nothing has to be closed.
    Whole(ReplyChunk),
    /// The body has a first item and may have more.
    Stream(First),
    /// The body is a file.
    File(file_wrapper::FileSlice),
}

/// The first item of a body, and the length of the whole body if the iterable has one item.
struct First {
    first: ReplyChunk,
    length: Option<u64>,
}

impl ReplyBody {
    /// Classifies the iterable and takes its first non-empty item.
    fn begin(
        &mut self,
        py: Python<'_>,
        result: Bound<'_, PyAny>,
    ) -> Result<BodyStart, CallFailure> {
        let mut is_single = false;
        self.items = if let Ok(list) = result.cast_exact::<PyList>() {
            Items::List(Sequence { items: list.clone().unbind(), next: 0 })
        } else if let Ok(tuple) = result.cast_exact::<PyTuple>() {
            Items::Tuple(Sequence { items: tuple.clone().unbind(), next: 0 })
        } else {
            self.closer = Some(result.clone().unbind());
            self.check_connected(py)?;
            if let Ok(wrapper) = result.cast_exact::<FileWrapper>()
                && let Some(slice) = self.file_slice(py, wrapper.get())?
            {
                return Ok(if slice.length == 0 {
                    BodyStart::Empty
                } else {
                    BodyStart::File(slice)
                });
            }
            is_single = ffi::has_length(&result) && self.is_one_item(&result);
            match result.try_iter() {
                Ok(iterator) => Items::Iterator(iterator.unbind()),
                Err(error) => return Err(not_iterable(&result, error)),
            }
        };
        self.check_connected(py)?;
        let first = self.next_chunk(py)?;
        check_started(self.responder.bind(py))?;
        let Some(first) = first else {
            return Ok(BodyStart::Empty);
        };
        if self.is_exhausted(py) {
            return Ok(BodyStart::Whole(first));
        }
        let length = is_single.then(|| first.len() as u64);
        Ok(BodyStart::Stream(First { first, length }))
    }

    /// Whether the iterable has one item. A `__len__` that raises is ignored, because PEP 3333 does not require one.
    fn is_one_item(&self, result: &Bound<'_, PyAny>) -> bool {
        match result.len() {
            Ok(count) => count == 1,
            Err(error) => {
                self.reporter.note_if_of_handler(result.py(), &error);
                false
            }
        }
    }

    /// Fails if the client has disconnected: an application may have caught what `write()` raised.
    fn check_connected(&self, py: Python<'_>) -> Result<(), CallFailure> {
        match start_response::phase(self.responder.bind(py)) {
            Phase::Gone => Err(CallFailure::ClientGone),
            Phase::Unstarted | Phase::Started | Phase::Sent => Ok(()),
        }
    }

    /// Returns the wrapped file, up to the application's Content-Length.
    fn file_slice(
        &self,
        py: Python<'_>,
        wrapper: &FileWrapper,
    ) -> Result<Option<file_wrapper::FileSlice>, CallFailure> {
        let responder = self.responder.bind(py);
        check_started(responder)?;
        let Some(mut slice) = wrapper.slice(py)? else {
            return Ok(None);
        };
        if let Some(limit) = start_response::content_length(responder) {
            slice.length = slice.length.min(limit);
        }
        Ok(Some(slice))
    }

    /// Whether no item is left, as far as that is known without running the application.
    fn is_exhausted(&self, py: Python<'_>) -> bool {
        match &self.items {
            Items::Finished => true,
            Items::List(list) => list.next >= list.items.bind(py).len(),
            Items::Tuple(tuple) => tuple.next >= tuple.items.bind(py).len(),
            Items::Iterator(_) => false,
        }
    }

    /// Returns the next item; `None` at the end.
    fn next_item<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &mut self.items {
            Items::Finished => Ok(None),
            Items::List(list) => {
                // The application may change the list meanwhile, so its length is read each time.
                let items = list.items.bind(py);
                if list.next >= items.len() {
                    return Ok(None);
                }
                list.next += 1;
                items.get_item(list.next - 1).map(Some)
            }
            Items::Tuple(tuple) => {
                let items = tuple.items.bind(py);
                if tuple.next >= items.len() {
                    return Ok(None);
                }
                tuple.next += 1;
                items.get_item(tuple.next - 1).map(Some)
            }
            Items::Iterator(iterator) => iterator.bind(py).clone().next().transpose(),
        }
    }

    /// Returns the next non-empty item; `None` at the end.
    fn next_chunk(&mut self, py: Python<'_>) -> Result<Option<ReplyChunk>, CallFailure> {
        loop {
            let item = self.next_item(py);
            self.reporter.leave_if_forked(py, || self.label.clone(), item.as_ref().err());
            match item {
                Ok(Some(item)) => {
                    if let Some(chunk) = checked(item)? {
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(raised(self.responder.bind(py), error)),
            }
        }
    }

    /// Calls the iterable's `close()`, if it has one. `write()` does not work there, even if the call of the
    /// application has not returned yet: the body is complete, or has failed.
    fn end(self, py: Python<'_>) {
        let Some(closer) = &self.closer else {
            return;
        };
        let closed = match closer.bind(py).getattr_opt(pyo3::intern!(py, "close")) {
            Ok(Some(close)) => ffi::without_outlet(|| close.call0()).map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.reporter.leave_if_forked(py, || self.label.clone(), closed.as_ref().err());
        if let Err(error) = closed {
            self.reporter.close_failed(py, &self.label, &error);
        }
    }
}

impl AppBody for ReplyBody {
    type Chunk = ReplyChunk;

    fn pull(&mut self, outlet: &mut dyn Outlet) -> Result<Option<ReplyChunk>, AppError> {
        Python::attach(|py| {
            let owner = start_response::owner(self.responder.bind(py));
            let context = self.context.share(py);
            self.reporter.begin_call(self.label.request_id(), self.label.trace());
            let next = || interrupt::allowed(|| self.next_chunk(py));
            let chunk = context.run(py, || ffi::lend_outlet(outlet, owner, next));
            self.reporter.end_call();
            chunk.map_err(|failure| self.reporter.report(py, &self.label, failure))
        })
    }

    fn close(self) {
        Python::attach(|py| {
            let context = self.context.share(py);
            let reporter = self.reporter.clone();
            self.reporter.begin_call(self.label.request_id(), self.label.trace());
            context.run(py, || interrupt::allowed(|| self.end(py)));
            reporter.end_call();
        });
    }
}

/// Classifies an exception of the application.
pub(super) fn raised(responder: &Bound<'_, Responder>, error: PyErr) -> CallFailure {
    match start_response::phase(responder) {
        Phase::Gone if is_broken_pipe(responder.py(), &error) => CallFailure::ClientGone,
        Phase::Gone | Phase::Unstarted | Phase::Started | Phase::Sent => CallFailure::Raised(error),
    }
}

/// Wraps a result that is exactly bytes into a tuple; returns any other result as it is.
pub(super) fn bytes_as_one_item(result: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if result.is_exact_instance_of::<PyBytes>() {
        return Ok(PyTuple::new(result.py(), [&result])?.into_any());
    }
    Ok(result)
}

/// Returns the item of an exact list or tuple with one item.
fn only_item<'py>(result: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if let Ok(list) = result.cast_exact::<PyList>() {
        return if list.len() == 1 { list.get_item(0).ok() } else { None };
    }
    let tuple = result.cast_exact::<PyTuple>().ok()?;
    if tuple.len() == 1 { tuple.get_item(0).ok() } else { None }
}

/// Checks an item; `None` for an empty one.
fn checked(item: Bound<'_, PyAny>) -> Result<Option<ReplyChunk>, CallFailure> {
    match item.cast_into::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(PyBackedBytes::from(bytes))),
        Err(error) => Err(CallFailure::Invalid(bad_item(&error.into_inner()))),
    }
}

/// Describes an item that is not bytes, and what to do.
fn bad_item(item: &Bound<'_, PyAny>) -> String {
    let advice = if item.is_instance_of::<PyString>() {
        "; encode it with text.encode(\"utf-8\")"
    } else if item.is_instance_of::<PyByteArray>() || item.is_instance_of::<PyMemoryView>() {
        "; mutable buffers are refused, because they could change while they are sent; use bytes(item)"
    } else {
        ""
    };
    format!("TypeError: the application's iterable yielded {}, not bytes{advice}", type_name(item))
}

/// Describes a result that is not an iterable of bytes although it may iterate, and what to do.
fn bad_result(result: &Bound<'_, PyAny>) -> Option<String> {
    if result.is_instance_of::<PyString>() {
        return Some(
            "TypeError: the application returned str, not an iterable of bytes; return \
             [text.encode(\"utf-8\")]"
                .to_owned(),
        );
    }
    if result.is_instance_of::<PyBytes>()
        || result.is_instance_of::<PyByteArray>()
        || result.is_instance_of::<PyMemoryView>()
    {
        return Some(format!(
            "TypeError: the application returned {}, which iterates over numbers; return [body]",
            type_name(result)
        ));
    }
    if result.is_none() {
        return Some(
            "TypeError: the application returned None, not an iterable of bytes; return [] for an \
             empty body"
                .to_owned(),
        );
    }
    None
}

/// Classifies a result that does not iterate. A coroutine comes from an ASGI application.
fn not_iterable(result: &Bound<'_, PyAny>, error: PyErr) -> CallFailure {
    let has_any = |names: [&str; 2]| {
        let kind = result.get_type();
        names.iter().any(|name| kind.getattr(*name).is_ok_and(|method| !method.is_none()))
    };
    let advice = if has_any(["__await__", "__aiter__"]) {
        asgi::advice(result)
    } else if has_any(["__iter__", "__getitem__"]) {
        return CallFailure::Raised(error);
    } else {
        "Return a list with the body in it"
    };
    CallFailure::Invalid(format!(
        "TypeError: the application returned {}, not an iterable of bytes. {advice}",
        type_name(result),
    ))
}

/// Fails if there is no head to send.
fn check_started(responder: &Bound<'_, Responder>) -> Result<(), CallFailure> {
    match start_response::phase(responder) {
        Phase::Started | Phase::Sent => Ok(()),
        Phase::Unstarted => Err(CallFailure::NotStarted),
        Phase::Gone => Err(CallFailure::ClientGone),
    }
}

#[cfg(test)]
mod tests;
