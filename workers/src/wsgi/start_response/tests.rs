use crate::application::AppError;
use crate::wsgi::tests::harness::{App, Kind};

/// Returns an application that keeps the exception of a call of start_response with these arguments.
fn app_calling(arguments: &str) -> App {
    App::new(&format!(
        "error = None
def app(environ, start_response):
    global error
    try:
        start_response({arguments})
    except BaseException as raised:
        error = f'{{type(raised).__name__}}: {{raised}}'
        start_response('500 Oops', [])
    return [b'x']
"
    ))
}

fn error_of(arguments: &str) -> String {
    let mut app = app_calling(arguments);
    app.get().unwrap();
    app.value("error")
}

#[test]
fn status_and_headers_reach_the_head_in_order_and_spelling() {
    let mut app = App::new(
        "def app(environ, start_response):
    start_response('404 Nicht da', [('x-B', '1'), ('X-a', '2'), ('x-B', 'caf\\xe9')])
    return []
",
    );
    let head = app.get().unwrap().head;
    assert!(head.starts_with("HTTP/1.1 404 Nicht da\nx-B: 1\nX-a: 2\nx-B: caf"), "{head}");
}

#[test]
fn a_status_that_is_not_a_str_is_a_type_error() {
    for status in ["200", "b'200 OK'", "None"] {
        let error = error_of(&format!("{status}, []"));
        assert!(error.contains("TypeError: Status must be of type str"), "{error}");
    }
}

#[test]
fn headers_that_are_not_a_list_of_pairs_of_str_are_a_type_error() {
    for (headers, words) in [
        ("(('A', 'b'),)", "must be of type list"),
        ("None", "must be of type list"),
        ("{'A': 'b'}", "must be of type list"),
        ("[['A', 'b']]", "must be of type tuple"),
        ("[('A', 'b', 'c')]", "two parts"),
        ("[(b'A', 'b')]", "Header name must be of type str"),
        ("[('A', 1)]", "Header value must be of type str"),
    ] {
        let error = error_of(&format!("'200 OK', {headers}"));
        assert!(error.contains("TypeError") && error.contains(words), "{headers}: {error}");
    }
}

#[test]
fn what_http_does_not_allow_is_a_value_error() {
    for arguments in [
        "'20', []",
        "'abc OK', []",
        "'101 Switching', []",
        "'200 OK\\r\\nX: y', []",
        "'200 OK', [('A\\n', 'b')]",
        "'200 OK', [('A', 'b\\r\\nC: d')]",
        "'200 OK', [('A', '\\u20ac')]",
        "'200 \\u20ac', []",
        "'200 OK', [('Transfer-Encoding', 'chunked')]",
        "'200 OK', [('Content-Length', '-1')]",
    ] {
        let error = error_of(arguments);
        assert!(error.contains("ValueError"), "{arguments}: {error}");
    }
}

#[test]
fn a_value_error_names_the_header() {
    let error = error_of("'200 OK', [('X-Bad', 'b\\n')]");
    assert!(error.contains("X-Bad"), "{error}");
}

#[test]
fn a_failed_call_leaves_nothing_behind() {
    let mut app = app_calling("'200 OK', [('X-Left', '1'), ('A', 'b\\n')]");
    let answer = app.get().unwrap();
    assert_eq!(answer.head.lines().next(), Some("HTTP/1.1 500 Oops"));
    assert!(!answer.head.contains("X-Left"));
}

#[test]
fn a_second_call_without_exc_info_is_an_assertion_error() {
    let mut app = App::new(
        "def app(environ, start_response):
    global error
    start_response('200 OK', [('A', 'b')])
    try:
        start_response('201 Created', [], None)
    except AssertionError as raised:
        error = str(raised)
    return [b'x']
",
    );
    let answer = app.get().unwrap();
    assert!(app.value("error").contains("second time"));
    assert!(answer.head.starts_with("HTTP/1.1 200 OK\nA: b"));
}

#[test]
fn exc_info_before_the_head_is_sent_replaces_all_of_it() {
    let mut app = App::new(
        "import sys
def app(environ, start_response):
    start_response('200 OK', [('A', 'b')])
    try:
        raise ValueError
    except ValueError:
        start_response('500 Oops', [('C', 'd')], exc_info=sys.exc_info())
    return [b'sorry']
",
    );
    let answer = app.get().unwrap();
    assert_eq!(answer.head.lines().next(), Some("HTTP/1.1 500 Oops"));
    assert!(answer.head.contains("C: d") && !answer.head.contains("A: b"));
}

#[test]
fn exc_info_may_come_with_the_first_call() {
    let mut app = App::new(
        "import sys
def app(environ, start_response):
    try:
        raise ValueError
    except ValueError:
        start_response('500 Oops', [], sys.exc_info())
    return [b'sorry']
",
    );
    assert!(app.get().unwrap().head.starts_with("HTTP/1.1 500 Oops"));
}

#[test]
fn exc_info_after_the_head_is_sent_raises_it_again() {
    let mut app = App::new(
        "import sys
def app(environ, start_response):
    start_response('200 OK', [])
    yield b'one'
    try:
        raise KeyError('late')
    except KeyError:
        start_response('500 Oops', [], sys.exc_info())
    yield b'two'
",
    );
    let answer = app.get().unwrap();
    assert_eq!(answer.items, [b"one"]);
    assert_eq!(answer.broken, Some(AppError::Raised));
    assert!(app.logged().contains("KeyError: 'late'"));
    assert!(app.logged().contains("line 6, in app"), "{}", app.logged());
}

#[test]
fn exc_info_after_a_write_raises_it_again() {
    let mut app = App::new(
        "import sys
def app(environ, start_response):
    start_response('200 OK', [])(b'out')
    try:
        raise KeyError('late')
    except KeyError:
        start_response('500 Oops', [], sys.exc_info())
    return []
",
    );
    assert_eq!(app.get().unwrap_err(), AppError::Raised);
    assert_eq!(app.wire.status, Some(200));
}

#[test]
fn exc_info_that_is_not_a_triple_is_a_type_error() {
    let mut app = App::new(
        "def app(environ, start_response):
    global error
    write = start_response('200 OK', [])
    write(b'out')
    try:
        start_response('500 Oops', [], ValueError('x'))
    except TypeError as raised:
        error = str(raised)
    return []
",
    );
    app.get().unwrap();
    assert!(app.value("error").contains("tuple of three"));
}

#[test]
fn start_response_may_be_called_when_the_first_item_is_requested() {
    let mut app = App::new(
        "def app(environ, start_response):
    yield b''
    start_response('202 Later', [])
    yield b'body'
",
    );
    let answer = app.get().unwrap();
    assert!(answer.head.starts_with("HTTP/1.1 202 Later"));
    assert_eq!(answer.items, [b"body"]);
}

#[test]
fn an_application_that_never_calls_it_is_refused_and_closed() {
    for result in ["[]", "[b'x']", "[b'x', b'y']", "Closing([b'x'])", "Closing([])"] {
        let mut app = App::new(&format!(
            "closed = 0
class Closing(list):
    def close(self):
        global closed
        closed += 1
def app(environ, start_response):
    return {result}
"
        ));
        assert_eq!(app.get().unwrap_err(), AppError::NotStarted, "{result}");
        assert_eq!(app.value("closed"), if result.starts_with('C') { "1" } else { "0" });
        assert!(app.logged().contains("start_response(status, headers)"));
    }
}

#[test]
fn write_sends_at_once_and_the_iterable_follows() {
    let mut app = App::new(
        "def app(environ, start_response):
    write = start_response('200 OK', [])
    assert write(b'one ') is None
    write(b'')
    write(b'two ')
    return [b'three']
",
    );
    let answer = app.get().unwrap();
    assert_eq!(app.wire.written, b"one two ");
    assert_eq!(app.wire.status, Some(200));
    assert_eq!(answer.items, [b"three"]);
}

#[test]
fn an_empty_write_does_not_fix_the_head() {
    let mut app = App::new(
        "import sys
def app(environ, start_response):
    start_response('200 OK', [])(b'')
    try:
        1 / 0
    except ZeroDivisionError:
        start_response('500 Oops', [], sys.exc_info())
    return []
",
    );
    assert!(app.get().unwrap().head.starts_with("HTTP/1.1 500"));
    assert_eq!(app.wire.status, None);
}

#[test]
fn write_works_while_an_item_is_requested() {
    let mut app = App::new(
        "def app(environ, start_response):
    write = start_response('200 OK', [])
    yield b'one'
    write(b'two')
    yield b'three'
",
    );
    let answer = app.get().unwrap();
    assert_eq!(answer.items, [b"one".to_vec(), b"three".to_vec()]);
    assert_eq!(app.wire.written, b"two");
}

#[test]
fn write_takes_only_bytes() {
    let mut app = App::new(
        "errors = []
def app(environ, start_response):
    write = start_response('200 OK', [])
    for data in ('text', bytearray(b'x'), None):
        try:
            write(data)
        except TypeError as raised:
            errors.append(str(raised))
    return []
",
    );
    app.get().unwrap();
    assert_eq!(
        app.value("errors"),
        "['write() takes bytes, not str', 'write() takes bytes, not bytearray', 'write() takes \
         bytes, not NoneType']"
    );
}

#[test]
fn write_outside_of_its_request_is_a_runtime_error() {
    let mut app = App::new(
        "kept = []
errors = []
def app(environ, start_response):
    for write in kept:
        try:
            write(b'stray')
        except RuntimeError as raised:
            errors.append(str(raised))
    kept.append(start_response('200 OK', []))
    return [b'x']
",
    );
    app.get().unwrap();
    app.get().unwrap();
    assert!(app.value("errors").contains("write() works only while"));
    assert_eq!(app.wire.written, b"");
}

#[test]
fn write_in_another_thread_is_a_runtime_error() {
    let mut app = App::new(
        "import threading
errors = []
def app(environ, start_response):
    write = start_response('200 OK', [])
    def run():
        try:
            write(b'stray')
        except RuntimeError as raised:
            errors.append(str(raised))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return [b'x']
",
    );
    app.get().unwrap();
    assert!(app.value("errors").contains("only in that thread"));
}

#[test]
fn write_to_a_disconnected_client_raises_and_is_no_failure() {
    let mut app = App::new(
        "closed = False
def app(environ, start_response):
    global closed
    write = start_response('200 OK', [])
    try:
        write(b'x')
    finally:
        closed = True
    return [b'never']
",
    );
    app.wire.is_gone = true;
    assert_eq!(app.get().unwrap_err(), AppError::ClientGone);
    assert_eq!(app.value("closed"), "True");
    assert_eq!(app.logged(), "");
}

#[test]
fn an_application_that_ignores_a_disconnect_is_not_asked_for_items() {
    let mut app = App::new(
        "closed = asked = 0
class Items:
    def __iter__(self):
        return self
    def __next__(self):
        global asked
        asked += 1
        return b'x'
    def close(self):
        global closed
        closed += 1
def app(environ, start_response):
    try:
        start_response('200 OK', [])(b'x')
    except OSError:
        pass
    return Items()
",
    );
    app.wire.is_gone = true;
    assert_eq!(app.get().unwrap_err(), AppError::ClientGone);
    assert_eq!((app.value("asked"), app.value("closed")), ("0".into(), "1".into()));
}

#[test]
fn a_responder_without_references_is_reused_without_a_trace() {
    let mut app = App::new(
        "count = 0
def app(environ, start_response):
    global count
    count += 1
    start_response('200 OK', [('X-First', '1')] if count == 1 else [])(b'')
    return [b'x']
",
    );
    let spare = |app: &App| app.bridge.responders.spare.as_ref().unwrap().responder.as_ptr();
    assert!(app.get().unwrap().head.contains("X-First"));
    let first = spare(&app);
    assert!(!app.get().unwrap().head.contains("X-First"));
    assert_eq!(spare(&app), first);
}

#[test]
fn a_responder_with_a_reference_is_not_reused() {
    let mut app = App::new(
        "import sys
kept = []
def app(environ, start_response):
    assert start_response not in kept
    if kept:
        try:
            kept[-1]('500 Stolen', [], None)
        except AssertionError:
            pass
    kept.append(start_response)
    start_response('200 OK', [('X-Number', str(len(kept)))])
    return [b'x']
",
    );
    for number in 1..=3 {
        let head = app.get().unwrap().head;
        assert!(head.contains(&format!("X-Number: {number}")), "{head}");
    }
}

#[test]
fn two_concurrent_streams_do_not_share_a_responder() {
    let mut app = App::new(
        "def app(environ, start_response):
    write = start_response('200 OK', [])
    yield b'one'
    write(b'!')
",
    );
    assert_eq!(app.get().unwrap().kind, Kind::Stream);
    assert_eq!(app.get().unwrap().kind, Kind::Stream);
    assert_eq!(app.wire.written, b"!!");
}

/// Returns an application that calls `start_response` with these arguments in another thread, and continues
/// with `rest` while that thread is in the repr() of `Slow()`.
fn app_beside_a_slow_repr(before: &str, arguments: &str, rest: &str) -> App {
    App::new(&format!(
        "import sys, threading
inside, leave = threading.Event(), threading.Event()
errors = []
class Slow:
    def __repr__(self):
        inside.set()
        assert leave.wait(60)
        return 'slow'
def app(environ, start_response):
    def other():
        try:
            raise KeyError('other')
        except KeyError:
            exc_info = sys.exc_info()
        try:
            start_response({arguments})
        except Exception as raised:
            errors.append(f'{{type(raised).__name__}}: {{raised}}')
    {before}
    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    try:
        {rest}
    finally:
        leave.set()
        thread.join()
    return [b'x']
"
    ))
}

#[test]
fn a_reply_is_made_while_another_thread_is_in_a_repr_of_start_response() {
    let mut app = App::new(
        "import sys, threading
inside, leave = threading.Event(), threading.Event()
class Slow:
    def __repr__(self):
        inside.set()
        assert leave.wait(60)
        return 'slow'
def app(environ, start_response):
    global thread
    start_response('200 OK', [('A', 'b')])
    def other():
        try:
            start_response(Slow(), [], (KeyError, KeyError(), None))
        except Exception:
            pass
    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    return [b'x']
class End:
    def __repr__(self):
        leave.set()
        thread.join()
        return ''
end = End()
",
    );
    let answer = app.get();
    app.value("end");
    assert!(answer.unwrap().head.starts_with("HTTP/1.1 200 OK\nA: b"));
}

#[test]
fn start_response_works_while_another_thread_is_in_a_repr_of_it() {
    let mut app =
        app_beside_a_slow_repr("", "Slow(), []", "start_response('200 OK', [('A', 'b')])");
    assert!(app.get().unwrap().head.starts_with("HTTP/1.1 200 OK\nA: b"));
    assert_eq!(app.value("errors"), "['TypeError: Status must be of type str (got slow)']");
}

#[test]
fn write_works_while_another_thread_is_in_a_repr_of_start_response() {
    let mut app = app_beside_a_slow_repr(
        "write = start_response('200 OK', [])",
        "Slow(), [], exc_info",
        "write(b'one ')",
    );
    app.get().unwrap();
    assert_eq!(app.wire.written, b"one ");
    assert_eq!(app.value("errors"), "['TypeError: Status must be of type str (got slow)']");
}
