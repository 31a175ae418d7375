use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::types::PyDict;

use super::*;
use crate::application::ClientGone;
use crate::http::ResponseHead;

/// Evaluates an expression, after these statements.
fn evaluated<'py>(py: Python<'py>, statements: &str, expression: &str) -> Bound<'py, PyAny> {
    let names = PyDict::new(py);
    py.run(&CString::new(statements).unwrap(), Some(&names), None).unwrap();
    py.eval(&CString::new(expression).unwrap(), Some(&names), None).unwrap()
}

fn attached(run: impl FnOnce(Python<'_>)) {
    Python::initialize();
    Python::attach(run);
}

#[test]
fn bytes_become_the_code_points_of_a_str_and_come_back() {
    attached(|py| {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&b""[..], b"a", b"\xe9", b"plain text", &all, &all.repeat(40)] {
            let text = latin1(py, bytes).unwrap();
            let expected: String = bytes.iter().copied().map(char::from).collect();
            assert_eq!(text.to_str().unwrap(), expected);
            assert_eq!(latin1_bytes(&text), Some(bytes));
        }
    });
}

/// The kinds of str that CPython stores differently, including those of a subclass, which are not compact.
#[test]
fn every_kind_of_str_gives_its_bytes_or_none() {
    attached(|py| {
        for (expression, expected) in [
            ("''", Some(&b""[..])),
            ("'ascii'", Some(b"ascii")),
            ("'caf\\xe9'", Some(b"caf\xe9")),
            ("'\\xff\\u0100'", None),
            ("'\\U0001f600'", None),
            ("'\\ud800'", None),
            ("Text('ascii')", Some(b"ascii")),
            ("Text('caf\\xe9')", Some(b"caf\xe9")),
            ("Text('\\u0100')", None),
            ("Text()", Some(b"")),
            ("'\\u0100\\xe9'[1:]", Some(b"\xe9")),
            ("'x' * 100_000", Some(&[b'x'; 100_000])),
        ] {
            let text = evaluated(py, "class Text(str): pass", expression);
            let text = text.cast::<PyString>().unwrap();
            assert_eq!(latin1_bytes(text), expected, "{expression}");
        }
    });
}

#[test]
fn only_a_tuple_of_two_is_a_pair() {
    attached(|py| {
        for (expression, is_pair) in
            [("()", false), ("(1,)", false), ("('a', 'b')", true), ("(1, 2, 3)", false)]
        {
            let tuple = evaluated(py, "", expression);
            let tuple = tuple.cast::<PyTuple>().unwrap();
            let items = pair(tuple).map(|(first, second)| (first.to_string(), second.to_string()));
            assert_eq!(items, is_pair.then(|| ("a".to_owned(), "b".to_owned())), "{expression}");
        }
    });
}

#[test]
fn references_are_counted() {
    attached(|py| {
        let object = evaluated(py, "", "object()");
        assert_eq!(reference_count(&object), 1);
        let _second = object.clone();
        assert_eq!(reference_count(&object), 2);
    });
}

#[test]
fn only_types_that_define_a_length_have_one() {
    const TYPES: &str = "class Sized:
    def __len__(self): return 0
class Unsized: pass
class Late: pass
Late.__len__ = lambda self: 0";
    attached(|py| {
        for (expression, expected) in [
            ("[]", true),
            ("{}", true),
            ("b''", true),
            ("Sized()", true),
            ("Late()", true),
            ("Unsized()", false),
            ("iter([])", false),
            ("None", false),
            ("(_ for _ in ())", false),
        ] {
            let object = evaluated(py, TYPES, expression);
            assert_eq!(has_length(&object), expected, "{expression}");
        }
    });
}

#[test]
fn a_context_is_left_after_a_panic_and_may_be_entered_again() {
    attached(|py| {
        let variable = evaluated(py, "import contextvars", "contextvars.ContextVar('x')");
        let set = |value: i32| drop(variable.call_method1("set", (value,)).unwrap());
        let value = || variable.call_method1("get", (0,)).unwrap().extract::<i32>().unwrap();
        let context = copy_context(py).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            in_context(&context, || {
                set(1);
                panic!("the code in the context failed");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(value(), 0);
        assert_eq!(in_context(&context, value), 1);
        // It is entered already, so it is current.
        assert_eq!(in_context(&context, || in_context(&context, value)), 1);
    });
}

#[test]
fn what_is_no_context_is_not_entered() {
    attached(|py| {
        assert_eq!(in_context(py.None().bind(py), || 1), 1);
        assert!(PyErr::take(py).is_none());
    });
}

/// Counts what it sends.
struct Counting(usize);

impl Outlet for Counting {
    fn write(&mut self, _head: &ResponseHead, data: &[u8]) -> Result<(), ClientGone> {
        self.0 += data.len();
        Ok(())
    }
}

fn send(owner: usize, data: &[u8]) -> Option<Result<(), ClientGone>> {
    let head = ResponseHead::default();
    with_outlet(owner, |outlet| outlet.write(&head, data))
}

#[test]
fn an_outlet_is_found_by_its_owner_while_it_is_lent_and_never_twice() {
    let (mut first, mut second) = (Counting(0), Counting(0));
    assert_eq!(send(1, b"before"), None);
    lend_outlet(&mut first, 1, || {
        assert_eq!(send(1, b"abc"), Some(Ok(())));
        assert_eq!(send(2, b"another owner's"), None);
        assert_eq!(std::thread::scope(|scope| scope.spawn(|| send(1, b"x")).join()).unwrap(), None);
        // While it is in use, nobody else gets it.
        assert_eq!(with_outlet(1, |_| send(1, b"again")), Some(None));
        lend_outlet(&mut second, 2, || {
            assert_eq!(send(2, b"de"), Some(Ok(())));
            assert_eq!(send(1, b"hidden"), None);
        });
        assert_eq!(send(1, b"f"), Some(Ok(())));
    });
    assert_eq!(send(1, b"after"), None);
    assert_eq!((first.0, second.0), (4, 2));
}

#[test]
fn an_outlet_is_taken_back_after_a_panic() {
    let mut outlet = Counting(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        lend_outlet(&mut outlet, 1, || panic!("the application's side failed"));
    }));
    assert!(panicked.is_err());
    assert_eq!(send(1, b"after"), None);
}
