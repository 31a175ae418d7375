use crate::application::RequestBody;
use crate::body_budget::BodyBudget;
use crate::body_memory::BodyMemory;
use crate::spool::Spool;
use crate::wsgi::ffi::BytesMemory;
use crate::wsgi::tests::harness::{App, showing};

const BODY: &[u8] = b"first line\n\nthird\r\nno end";

/// Creates a body in a file.
fn filed(bytes: &[u8]) -> RequestBody<'static> {
    let mut spool =
        Spool::new(Box::new(Vec::new()), &BodyBudget::new(0, 0), None, &std::env::temp_dir());
    spool.append(bytes).unwrap();
    spool.rewind().unwrap();
    assert!(spool.in_memory().is_none());
    RequestBody::Spooled(spool)
}

/// Creates a spooled body that fits into memory.
fn gathered(bytes: &[u8]) -> RequestBody<'static> {
    spooled_in(Box::new(BytesMemory::default()), None, bytes)
}

/// Creates a spooled body in this memory.
fn spooled_in(
    memory: Box<dyn BodyMemory>,
    announced: Option<u64>,
    bytes: &[u8],
) -> RequestBody<'static> {
    let budget = BodyBudget::new(bytes.len(), bytes.len());
    let mut spool = Spool::new(memory, &budget, announced, &std::env::temp_dir());
    for piece in bytes.chunks(5) {
        spool.append(piece).unwrap();
    }
    spool.rewind().unwrap();
    RequestBody::Spooled(spool)
}

/// Evaluates an expression over `file`, which must be the same for all kinds of body and for `io.BytesIO`.
fn same_for_all(setup: &str, expression: &str, body: &[u8]) {
    let source = format!(
        "import io
def look(file):
    {setup}
    return {expression}
def app(environ, start_response):
    start_response('200 OK', [])
    return [repr(look(environ['wsgi.input'])).encode()]
"
    );
    let literal: String = body.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let expected = App::new(&format!("{source}expected = look(io.BytesIO(b'{literal}'))"));
    let expected = expected.value("expected");
    let mut app = App::new(&source);
    let bodies = [RequestBody::Slice(body), gathered(body), filed(body)];
    for sent in bodies {
        let answer = app.post(sent).unwrap();
        assert_eq!(String::from_utf8(answer.items.concat()).unwrap(), expected, "{expression}");
    }
}

#[test]
fn read_behaves_like_bytes_io() {
    for expression in [
        "file.read()",
        "(file.read(), file.read(), file.read(1))",
        "(file.read(3), file.read(0), file.read(-1), file.read(5))",
        "(file.read(None), file.read(None))",
        "(file.read(100), file.read(100))",
        "[file.read(n) for n in (1, 2, 3, 4, 5, 6, 7, 8)]",
        "(file.read1(4), file.read1(-1))",
    ] {
        same_for_all("pass", expression, BODY);
    }
}

#[test]
fn readline_behaves_like_bytes_io() {
    for expression in [
        "[file.readline() for _ in range(6)]",
        "[file.readline(4) for _ in range(12)]",
        "[file.readline(n) for n in (0, 11, -1, None, 100, 5)]",
        "file.readlines()",
        "(file.readlines(1), file.readlines(12), file.readlines(0))",
        "(file.readlines(-1), file.readlines(None))",
        "list(file)",
        "(next(file), file.read(2), file.readline(), list(file), file.read())",
        "(file.readline(3), file.read(4), file.readlines(5), file.read())",
    ] {
        same_for_all("pass", expression, BODY);
    }
}

#[test]
fn readinto_behaves_like_bytes_io() {
    same_for_all(
        "buffers = [bytearray(7), bytearray(0), memoryview(bytearray(50))]",
        "[(file.readinto(buffer), bytes(buffer)) for buffer in buffers]",
        BODY,
    );
}

#[test]
fn a_line_longer_than_the_read_ahead_stays_one_line() {
    let mut body = vec![b'x'; 200_000];
    body[150_000] = b'\n';
    same_for_all("pass", "[len(line) for line in file]", &body);
    same_for_all(
        "pass",
        "(file.readline(70000)[-1:], len(file.read(100)), len(file.readline()), len(file.read()))",
        &body,
    );
}

#[test]
fn the_input_can_be_wrapped_by_io() {
    same_for_all("import io", "io.TextIOWrapper(io.BufferedReader(file)).read()", BODY);
    same_for_all("import io", "io.BufferedReader(file, 4).readlines()", BODY);
}

#[test]
fn a_request_without_a_body_reads_nothing_each_time() {
    let mut app = App::new(&showing(
        "[f(environ['wsgi.input']) for f in (lambda f: f.read(), lambda f: f.read(9), lambda f: \
         f.readline(), lambda f: f.readlines(), list, lambda f: f.close())]",
    ));
    for _ in 0..2 {
        let answer = app.post(RequestBody::Empty).unwrap();
        assert_eq!(answer.items.concat(), b"[b'', b'', b'', [], [], None]");
    }
}

#[test]
fn a_kept_input_can_be_read_after_its_request() {
    let mut app = App::new(
        "kept = []
def app(environ, start_response):
    start_response('200 OK', [])
    kept.append(environ['wsgi.input'])
    return []
class Shown:
    def __repr__(self):
        return repr([file.read() for file in kept])
shown = Shown()
",
    );
    let mut buffer = b"lent".to_vec();
    app.post(RequestBody::Slice(&buffer)).unwrap();
    buffer.fill(b'?');
    app.post(filed(b"filed")).unwrap();
    assert_eq!(app.value("shown"), "[b'lent', b'filed']");
}

#[test]
fn a_read_only_buffer_is_refused() {
    let mut app = App::new(
        "def app(environ, start_response):
    start_response('200 OK', [])
    try:
        environ['wsgi.input'].readinto(b'xx')
    except ValueError as error:
        return [str(error).encode()]
",
    );
    let answer = app.post(RequestBody::Slice(b"abc")).unwrap();
    assert_eq!(answer.items.concat(), b"readinto() needs a writable buffer");
}

#[test]
fn a_body_in_memory_is_the_same_whatever_was_announced_and_whose_memory_it_is() {
    let mut app = App::new(&showing("environ['wsgi.input'].read()"));
    let announced = [None, Some(BODY.len() as u64), Some(2 * BODY.len() as u64)];
    for length in announced {
        let memories: [Box<dyn BodyMemory>; 2] =
            [Box::new(BytesMemory::default()), Box::new(Vec::new())];
        for memory in memories {
            let answer = app.post(spooled_in(memory, length, BODY)).unwrap();
            assert_eq!(answer.items.concat(), br"b'first line\n\nthird\r\nno end'");
        }
    }
}
