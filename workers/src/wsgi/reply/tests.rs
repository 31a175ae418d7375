use crate::application::AppError;
use crate::wsgi::tests::harness::{App, Kind};

/// Returns an application that returns the value of an expression.
fn returning(expression: &str) -> App {
    App::new(&format!(
        "import array, io, tempfile
closed = 0
class Items:
    def __init__(self, *items):
        self.items = items
    def __iter__(self):
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item
    def close(self):
        global closed
        closed += 1
class Sized(Items):
    def __len__(self):
        return len(self.items)
class OldStyle:
    def __getitem__(self, index):
        return [b'old', b'style'][index]
class Bytes(bytes):
    pass
def app(environ, start_response):
    start_response('200 OK', [])
    return {expression}
"
    ))
}

#[test]
fn a_list_or_tuple_with_one_item_is_the_whole_body() {
    for result in ["[b'x']", "(b'x',)", "[Bytes(b'x')]", "[b'', b'x']", "(b'', b'', b'x')"] {
        let answer = returning(result).get().unwrap();
        assert_eq!((answer.kind, answer.items), (Kind::Whole, vec![b"x".to_vec()]), "{result}");
    }
}

#[test]
fn nothing_to_send_is_an_empty_reply() {
    for result in ["[]", "()", "[b'']", "[b'', b'']", "iter([])", "iter([b''])", "Items()", "{}"] {
        assert_eq!(returning(result).get().unwrap().kind, Kind::Empty, "{result}");
    }
}

#[test]
fn any_iterable_is_read_item_by_item_without_the_empty_ones() {
    for result in [
        "[b'old', b'', b'style']",
        "(b'old', b'style', b'')",
        "OldStyle()",
        "Items(b'', b'old', b'', b'style')",
        "(item for item in (b'old', b'style'))",
        "map(bytes, ([111, 108, 100], [], [115, 116, 121, 108, 101]))",
    ] {
        let answer = returning(result).get().unwrap();
        assert_eq!(answer.items, [b"old".to_vec(), b"style".to_vec()], "{result}");
        assert_eq!((answer.kind, answer.length), (Kind::Stream, None), "{result}");
    }
}

#[test]
fn an_item_is_requested_only_when_it_is_pulled() {
    let mut app = App::new(
        "asked = []
def app(environ, start_response):
    start_response('200 OK', [])
    for number in range(3):
        asked.append(len(asked))
        yield b'x'
    asked.append('end')
",
    );
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = crate::wsgi::tests::harness::parsed(request);
    let conn = app.conn.clone();
    let reply = crate::application::Application::call(
        &mut app.bridge,
        crate::application::Request {
            head_bytes: request,
            head: &head,
            body: crate::application::RequestBody::Empty,
            conn: &conn,
            sequence: 1,
            forwarded: None,
            queue_wait: std::time::Duration::ZERO,
        },
        &mut app.wire,
    );
    let crate::application::Content::Stream(stream) = reply.unwrap().content else {
        panic!("not a stream");
    };
    assert_eq!(app.value("asked"), "[0]");
    crate::application::AppBody::close(stream.rest);
    assert_eq!(app.value("asked"), "[0]");
}

#[test]
fn an_iterable_with_a_length_of_one_has_a_known_body_length() {
    let answer = returning("Sized(b'four')").get().unwrap();
    assert_eq!((answer.kind, answer.length), (Kind::Stream, Some(4)));
    assert_eq!(returning("Sized(b'a', b'b')").get().unwrap().length, None);
    assert_eq!(returning("Items(b'a')").get().unwrap().length, None);
}

#[test]
fn close_is_called_once_after_the_last_item() {
    let mut app = returning("Items(b'x', b'y')");
    assert_eq!(app.get().unwrap().broken, None);
    assert_eq!(app.value("closed"), "1");
}

#[test]
fn close_is_called_once_when_there_is_nothing_to_send() {
    let mut app = returning("Items()");
    app.get().unwrap();
    assert_eq!(app.value("closed"), "1");
}

#[test]
fn close_is_called_once_when_the_first_item_raises() {
    let mut app = returning("Items(ValueError('first'))");
    assert_eq!(app.get().unwrap_err(), AppError::Raised);
    assert_eq!(app.value("closed"), "1");
    assert!(app.logged().contains("ValueError: first"));
}

#[test]
fn close_is_called_once_when_a_later_item_raises() {
    let mut app = returning("Items(b'x', ValueError('later'))");
    assert_eq!(app.get().unwrap().broken, Some(AppError::Raised));
    assert_eq!(app.value("closed"), "1");
}

#[test]
fn close_is_called_once_when_iter_raises() {
    let mut app = App::new(
        "closed = 0
class Items:
    def __iter__(self):
        raise ValueError('iter')
    def close(self):
        global closed
        closed += 1
def app(environ, start_response):
    start_response('200 OK', [])
    return Items()
",
    );
    assert_eq!(app.get().unwrap_err(), AppError::Raised);
    assert_eq!(app.value("closed"), "1");
}

#[test]
fn an_abandoned_generator_runs_its_finally() {
    let mut app = App::new(
        "closed = 0
def app(environ, start_response):
    global closed
    start_response('200 OK', [])
    try:
        yield b'x'
        yield 7
    finally:
        closed += 1
",
    );
    assert_eq!(app.get().unwrap().broken, Some(AppError::Invalid));
    assert_eq!(app.value("closed"), "1");
}

#[test]
fn a_close_that_raises_is_logged_and_changes_nothing() {
    let mut app = App::new(
        "class Items(list):
    def close(self):
        raise ValueError('in close')
def app(environ, start_response):
    start_response('200 OK', [])
    return Items([b'x'])
",
    );
    let answer = app.get().unwrap();
    assert_eq!((answer.items, answer.broken), (vec![b"x".to_vec()], None));
    assert!(app.logged().contains("ValueError: in close"));
}

#[test]
fn str_bytes_and_none_are_refused_with_advice() {
    for (result, words) in [
        ("'text'", "returned str, not an iterable of bytes; return [text.encode"),
        ("b'text'", "returned bytes, which iterates over numbers; return [body]"),
        ("bytearray(b'text')", "returned bytearray, which iterates"),
        ("None", "returned None"),
        ("[u'text']", "yielded str, not bytes; encode it"),
        ("iter(['text'])", "yielded str, not bytes; encode it"),
        ("[bytearray(b'x')]", "yielded bytearray, not bytes; mutable buffers are refused"),
        ("[memoryview(b'x')]", "yielded memoryview, not bytes; mutable buffers are refused"),
        ("[7]", "yielded int, not bytes"),
        ("{'a': 1}", "yielded str"),
    ] {
        let mut app = returning(result);
        assert_eq!(app.get().unwrap_err(), AppError::Invalid, "{result}");
        assert!(app.logged().contains(words), "{result}: {}", app.logged());
    }
}

#[test]
fn what_is_not_iterable_is_refused() {
    let mut app = returning("7");
    assert_eq!(app.get().unwrap_err(), AppError::Invalid);
    assert!(app.logged().contains("the application returned int, not an iterable of bytes"));
}

#[test]
fn an_exception_is_logged_with_traceback_and_request_without_query() {
    let mut app = App::new(
        "def app(environ, start_response):
    start_response('200 OK', [])
    raise LookupError('here')
",
    );
    let head = b"PUT /a%20b?secret=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: id-7\r\n\r\n";
    assert_eq!(
        app.send(head, crate::application::RequestBody::Empty).unwrap_err(),
        AppError::Raised
    );
    let log = app.logged();
    for words in ["PUT", "/a%20b", "request_id=", "Traceback", "LookupError: here", "in app"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains("secret"));
    assert!(!log.contains("id-7"), "an ID of a client that is no trusted proxy: {log}");
}

#[test]
fn an_exception_that_ends_programs_ends_only_the_request() {
    for error in ["SystemExit(3)", "KeyboardInterrupt()", "GeneratorExit()"] {
        let mut app = App::new(&format!(
            "first = True
def app(environ, start_response):
    global first
    if first:
        first = False
        raise {error}
    start_response('200 OK', [])
    return [b'x']
"
        ));
        assert_eq!(app.get().unwrap_err(), AppError::Raised, "{error}");
        assert_eq!(app.get().unwrap().items, [b"x"], "{error}");
    }
}

#[test]
fn a_list_that_grows_while_it_is_sent_is_sent_with_its_new_items() {
    let mut app = App::new(
        "items = [b'a', b'b']
def app(environ, start_response):
    start_response('200 OK', [])
    return items
",
    );
    assert_eq!(app.get().unwrap().items.concat(), b"ab");
}

#[test]
fn a_wrapped_file_is_sent_as_a_file_from_its_position() {
    let mut app = App::new(
        "import tempfile
file = tempfile.TemporaryFile()
file.write(b'0123456789')
file.seek(4)
def app(environ, start_response):
    start_response('200 OK', [])
    return environ['wsgi.file_wrapper'](file)
",
    );
    let answer = app.get().unwrap();
    assert_eq!((answer.kind, answer.length), (Kind::File, Some(6)));
    assert_eq!(answer.items, [b"456789"]);
}

#[test]
fn a_wrapped_file_is_closed_and_never_longer_than_its_content_length() {
    let mut app = App::new(
        "import tempfile
opened = []
class Shown:
    def __repr__(self):
        return str(opened[0].closed)
is_closed = Shown()
def app(environ, start_response):
    file = tempfile.NamedTemporaryFile()
    file.write(b'0123456789')
    file.seek(0)
    opened.append(file)
    start_response('200 OK', [('Content-Length', '3')])
    return environ['wsgi.file_wrapper'](file, 4)
",
    );
    let answer = app.get().unwrap();
    assert_eq!((answer.kind, answer.items), (Kind::File, vec![b"012".to_vec()]));
    assert_eq!(app.value("is_closed"), "True");
}

#[test]
fn what_is_not_a_plain_file_is_read_in_blocks() {
    for (file, items) in [
        ("io.BytesIO(b'0123456789')", vec![&b"0123"[..], b"4567", b"89"]),
        ("gzipped()", vec![&b"0123"[..], b"4567", b"89"]),
        ("Upper(opened())", vec![&b"ABCD"[..], b"EF"]),
    ] {
        let mut app = App::new(&format!(
            "import gzip, io, tempfile
def opened(data=b'abcdef'):
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    return file
def gzipped():
    return gzip.GzipFile(fileobj=opened(gzip.compress(b'0123456789')))
class Upper:
    def __init__(self, file):
        self.file = file
        self.fileno = file.fileno
        self.tell = file.tell
    def read(self, size):
        return self.file.read(size).upper()
def app(environ, start_response):
    start_response('200 OK', [])
    return environ['wsgi.file_wrapper']({file}, 4)
"
        ));
        let answer = app.get().unwrap();
        assert_eq!(
            (answer.kind, answer.items),
            (Kind::Stream, items.iter().map(|item| item.to_vec()).collect()),
            "{file}"
        );
    }
}

#[test]
fn a_pipe_is_read() {
    let mut app = App::new(
        "import os
def app(environ, start_response):
    reader, writer = os.pipe()
    os.write(writer, b'piped')
    os.close(writer)
    start_response('200 OK', [])
    return environ['wsgi.file_wrapper'](open(reader, 'rb', 0))
",
    );
    let answer = app.get().unwrap();
    assert_eq!((answer.kind, answer.items), (Kind::Stream, vec![b"piped".to_vec()]));
}

#[test]
fn a_wrapper_inside_another_iterable_is_read_and_closed() {
    let mut app = App::new(
        "import io
closed = 0
class Wrapping:
    def __init__(self, inner):
        self.inner = inner
        self.items = iter(inner)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.items)
    def close(self):
        global closed
        self.inner.close()
        closed += 1
class Closable:
    def __init__(self, data):
        self.read = io.BytesIO(data).read
    def close(self):
        global closed
        closed += 10
def app(environ, start_response):
    start_response('200 OK', [])
    return Wrapping(environ['wsgi.file_wrapper'](Closable(b'abcdef'), 4))
",
    );
    assert_eq!(app.get().unwrap().items, [b"abcd".to_vec(), b"ef".to_vec()]);
    assert_eq!(app.value("closed"), "11");
}

#[test]
fn an_empty_file_is_an_empty_reply_and_is_closed() {
    let mut app = App::new(
        "import tempfile
files = []
def app(environ, start_response):
    files.append(tempfile.TemporaryFile())
    start_response('200 OK', [])
    return environ['wsgi.file_wrapper'](files[0])
class Shown:
    def __repr__(self):
        return str(files[0].closed)
is_closed = Shown()
",
    );
    assert_eq!(app.get().unwrap().kind, Kind::Empty);
    assert_eq!(app.value("is_closed"), "True");
}

#[test]
fn a_coroutine_as_a_result_is_refused_with_a_hint_and_closed() {
    let mut app = App::new(
        "async def other(): pass
def app(environ, start_response):
    start_response('200 OK', [])
    return other()
",
    );
    assert_eq!(app.get().unwrap_err(), AppError::Invalid);
    let log = app.logged();
    assert!(log.contains("returned coroutine, not an iterable of bytes"), "{log}");
    assert!(log.contains("a2wsgi"), "{log}");
}
