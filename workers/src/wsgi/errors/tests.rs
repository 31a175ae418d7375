use crate::application::{AppBody, Application, Content, RequestBody};
use crate::wsgi::errors::Pieces;
use crate::wsgi::tests::harness::App;

/// Returns the log lines, without their times, of an application whose call runs this source.
fn logged(source: &str) -> Vec<String> {
    let source = source.trim().replace('\n', "\n    ");
    let mut app = App::new(&format!(
        "import logging, sys, threading, traceback
def app(environ, start_response):
    errors = environ['wsgi.errors']
    start_response('200 OK', [])
    {source}
    return []
"
    ));
    app.get().unwrap();
    lines_of(&app)
}

fn lines_of(app: &App) -> Vec<String> {
    let log = app.logged();
    let without_time = |line: &str| match line.split_once("Z ") {
        Some((_, rest)) if line.starts_with("20") => rest.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    log.lines().map(without_time).collect()
}

#[test]
fn a_write_of_one_line_is_one_log_line_with_its_own_level() {
    assert_eq!(logged("errors.write('one line\\n')"), ["NOTICE wsgi.errors text=\"one line\""]);
}

#[test]
fn a_write_of_several_lines_is_one_block() {
    let lines = logged("errors.write('one\\ntwo\\n')\nerrors.write('three\\n')");
    assert_eq!(
        lines,
        ["NOTICE wsgi.errors", "    one", "    two", "NOTICE wsgi.errors text=three"]
    );
}

#[test]
fn a_line_in_several_writes_is_one_line() {
    let lines = logged("errors.writelines(['a', ' b\\n'])\nprint('c', 1, file=errors)");
    assert_eq!(lines, ["NOTICE wsgi.errors text=\"a b\"", "NOTICE wsgi.errors text=\"c 1\""]);
}

#[test]
fn an_unfinished_line_is_logged_on_flush_or_after_the_call() {
    let lines =
        logged("errors.write('flushed')\nerrors.flush()\nerrors.flush()\nerrors.write('left')");
    assert_eq!(lines, ["NOTICE wsgi.errors text=flushed", "NOTICE wsgi.errors text=left"]);
}

#[test]
fn an_empty_line_is_not_logged() {
    assert_eq!(logged("print(file=errors)\nerrors.write('')"), [""; 0]);
}

#[test]
fn a_record_of_logging_with_its_traceback_is_one_block() {
    let lines = logged(
        "
log = logging.getLogger('shop')
log.addHandler(logging.StreamHandler(errors))
try:
    1 / 0
except ZeroDivisionError:
    log.warning('low on stock', exc_info=True)
log.warning('again')",
    );
    assert_eq!(
        lines[..3],
        ["NOTICE wsgi.errors", "    low on stock", "    Traceback (most recent call last):"]
    );
    let end = lines.len() - 2;
    assert!(lines[3..end].iter().all(|line| line.starts_with("      ")), "{lines:?}");
    assert_eq!(
        lines[end..],
        ["    ZeroDivisionError: division by zero", "NOTICE wsgi.errors text=again"]
    );
}

#[test]
fn a_traceback_that_is_printed_line_by_line_is_one_block() {
    let lines = logged(
        "
try:
    compile('1 +', 'shop.py', 'exec')
except SyntaxError:
    traceback.print_exc(file=errors)
errors.write('behind\\n')",
    );
    assert_eq!(lines[..2], ["NOTICE wsgi.errors", "    Traceback (most recent call last):"]);
    let end = lines.len() - 2;
    assert!(lines[2..end].iter().all(|line| line.starts_with("      ")), "{lines:?}");
    assert_eq!(lines[end..], ["    SyntaxError: invalid syntax", "NOTICE wsgi.errors text=behind"]);
}

#[test]
fn chained_exceptions_printed_line_by_line_are_a_block_each() {
    let lines = logged(
        "
try:
    try:
        raise KeyError('first')
    finally:
        raise ValueError('second')
except ValueError:
    traceback.print_exc(file=errors)",
    );
    let blocks: Vec<_> = lines.iter().filter(|line| line.starts_with("NOTICE")).collect();
    assert_eq!(blocks, ["NOTICE wsgi.errors", "NOTICE wsgi.errors"]);
    let chain = "    During handling of the above exception, another exception occurred:";
    let second = lines.iter().position(|line| line == chain).unwrap();
    assert_eq!(lines[second - 2..second], ["    KeyError: 'first'", "NOTICE wsgi.errors"]);
    assert_eq!(lines.last().unwrap(), "    ValueError: second");
}

#[test]
fn threads_do_not_write_into_each_others_lines() {
    let lines = logged(
        "
errors.write('Traceback (most recent call last):\\n')
thread = threading.Thread(target=lambda: print('in', 'between', file=errors))
thread.start()
thread.join()
errors.write('  File\\n')
errors.write('Error: x\\n')",
    );
    assert_eq!(
        lines,
        [
            "NOTICE wsgi.errors text=\"in between\"",
            "NOTICE wsgi.errors",
            "    Traceback (most recent call last):",
            "      File",
            "    Error: x",
        ]
    );
}

#[test]
fn what_an_item_or_a_close_leaves_unfinished_is_logged_after_it() {
    let mut app = App::new(
        "class Items:
    count = 0
    def __init__(self, errors): self.errors = errors
    def __iter__(self): return self
    def __next__(self):
        self.count += 1
        self.errors.write(f'item {self.count}')
        if self.count == 3: raise StopIteration
        return b'x'
    def close(self): self.errors.write('closed')
def app(environ, start_response):
    start_response('200 OK', [])
    return Items(environ['wsgi.errors'])
",
    );
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let parsed = crate::wsgi::tests::harness::parsed(head);
    let request = crate::application::Request {
        head_bytes: head,
        head: &parsed,
        body: RequestBody::Empty,
        conn: &app.conn,
        sequence: 1,
        forwarded: None,
        queue_wait: std::time::Duration::ZERO,
    };
    let reply = app.bridge.call(request, &mut app.wire).unwrap();
    let Content::Stream(mut stream) = reply.content else { panic!("it is no stream") };
    assert_eq!(lines_of(&app), ["NOTICE wsgi.errors text=\"item 1\""]);
    stream.rest.pull(&mut app.wire).unwrap();
    assert_eq!(lines_of(&app).last().unwrap(), "NOTICE wsgi.errors text=\"item 2\"");
    stream.rest.pull(&mut app.wire).unwrap();
    assert_eq!(lines_of(&app).last().unwrap(), "NOTICE wsgi.errors text=\"item 3\"");
    stream.rest.close();
    assert_eq!(lines_of(&app).last().unwrap(), "NOTICE wsgi.errors text=closed");
}

#[test]
fn a_line_without_an_end_is_not_held_forever() {
    let lines = logged("for _ in range(70): errors.write('q' * 1000)\nerrors.write('end\\n')");
    assert_eq!(lines.join("").matches('q').count(), 70_000);
    assert!(lines.last().unwrap().ends_with("qend"));
}

#[test]
fn a_text_longer_than_a_block_is_split_at_line_ends_without_loss() {
    let line = format!("{}\n", "caf\u{e9}".repeat(200));
    let text = line.repeat(100);
    let pieces: Vec<_> = Pieces(&text).collect();
    assert_eq!(pieces.concat(), text);
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.ends_with('\n')));
    let text = "\u{20ac}".repeat(20_000);
    let pieces: Vec<_> = Pieces(&text).collect();
    assert_eq!(pieces.concat(), text);
    assert!(pieces.len() == 4, "{}", pieces.len());
}
