"""What PEP 3333 demands of an application, every way to get it wrong, and what becomes of that request.

Each row is the code of an application. Its outcome is one of these:

| outcome | the client gets | the log has, with method and path of the request |
|---|---|---|
| `refused` | a complete 500 | the rule that was broken |
| `cut` | the head and what was sent before, without a proper end | the rule, or the exception |
| `answered` | what the application sent | nothing, or what went wrong without changing the response |
"""

from typing import NamedTuple

RAISED, REJECTED = "application.raised", "application.response_rejected"
NOT_STARTED, CLOSE_RAISED = "application.response_not_started", "application.close_raised"
LONGER, SHORTER = "response.longer_than_content_length", "response.shorter_than_content_length"
TRUNCATED = "response.file_truncated"
COMPLAINTS = (RAISED, REJECTED, NOT_STARTED, CLOSE_RAISED, LONGER, SHORTER, TRUNCATED)


class Outcome(NamedTuple):
    """What a row ends in: the status, the body that the client gets, whether it is complete, and the log."""

    status: int
    body: bytes | None
    is_whole: bool
    event: str | None
    words: str


def refused(words, event=RAISED):
    return Outcome(500, None, True, event, words)


def cut(body, words="", event=RAISED):
    return Outcome(200, body, False, event, words)


def answered(body=b"ok", event=None, words="", status=200):
    return Outcome(status, body, True, event, words)


def head(arguments):
    """Code that starts the response with these arguments, and would send a body."""
    return f"start_response({arguments})\nreturn [b'ok']"


def result(expression):
    """Code that returns this as its body."""
    return f"start_response('200 OK', [])\nreturn {expression}"


def items(code):
    """Code of a generator that starts the response and yields `one`."""
    return f"start_response('200 OK', [])\nyield b'one'\n{code}"


def length(number, code):
    """Code with this Content-Length."""
    return f"write = start_response('200 OK', [('Content-Length', '{number}')])\n{code}"


FORM, RANGE = "the status must be three digits, a space and a reason", "the status code must be from 200 to 599"
CONTROL = "the status must not contain CR, LF or other control characters"
NAME, VALUE = "a header name must be a token", "a header value must not contain CR, LF or other control characters"
DIGITS, HOP = "Content-Length must be a number of digits only", "must not send hop-by-hop headers"
SECOND = "start_response() was called a second time without exc_info"
TRIPLE = "exc_info must be a tuple of three as returned by sys.exc_info()"
ONLY_MEANWHILE = "write() works only while the server runs this request's application"
FAIL = "try: raise KeyError('first')\nexcept KeyError: "

# "status is a string of the form '999 Message here'", a native string without control characters.
STATUS = {
    "status-int": (head("200, []"), refused("Status must be of type str (got 200)")),
    "status-bytes": (head("b'200 OK', []"), refused("Status must be of type str (got b'200 OK')")),
    "status-none": (head("None, []"), refused("Status must be of type str")),
    "status-enum": ("import http\n" + head("http.HTTPStatus.OK, []"), refused("Status must be of type str")),
    "status-only-digits": (head("'200', []"), refused(FORM)),
    "status-without-space": (head("'200OK', []"), refused(FORM)),
    "status-empty": (head("'', []"), refused(FORM)),
    "status-two-digits": (head("'20 OK', []"), refused(FORM)),
    "status-four-digits": (head("'2000 OK', []"), refused(FORM)),
    "status-after-space": (head("' 200 OK', []"), refused(FORM)),
    "status-signed": (head("'+20 OK', []"), refused(FORM)),
    "status-with-version": (head("'HTTP/1.1 200 OK', []"), refused(FORM)),
    "status-superscript-digits": (head("'\\xb2\\xb9\\xb9 OK', []"), refused(FORM)),
    "status-0": (head("'000 Zero', []"), refused(RANGE)),
    "status-100": (head("'100 Continue', []"), refused(RANGE)),
    "status-101": (head("'101 Switching Protocols', []"), refused(RANGE)),
    "status-600": (head("'600 More', []"), refused(RANGE)),
    "status-newline": (head("'200 OK\\r\\nX-Injected: 1', []"), refused(CONTROL)),
    "status-ending-in-newline": (head("'200 OK\\n', []"), refused(CONTROL)),
    "status-nul": (head("'200 O\\0K', []"), refused(CONTROL)),
    "status-tab": (head("'200 O\\tK', []"), refused(CONTROL)),
    "status-delete": (head("'200 O\\x7fK', []"), refused(CONTROL)),
    "status-wide": (head("'200 \\u20ac', []"), refused("Status has characters outside latin-1")),
    "status-surrogate": (head("'200 \\udcff', []"), refused("Status has characters outside latin-1")),
    "status-without-repr": (head("Text('20'), []"), refused(FORM + ", such as '200 OK': <Text object>")),
    "status-without-reason": (head("'200 ', []"), answered()),
    "status-subclass": (head("Text('200 OK'), []"), answered()),
}

# "response_headers is a list of (header_name, header_value) tuples ... type(response_headers) is ListType."
FIELDS = {
    "headers-none": (head("'200 OK', None"), refused("must be of type list: NoneType")),
    "headers-missing": (head("'200 OK'"), refused("missing 1 required positional argument: 'headers'")),
    "headers-tuple": (head("'200 OK', (('A', 'b'),)"), refused("must be of type list: tuple")),
    "headers-dict": (head("'200 OK', {'A': 'b'}"), refused("must be of type list: dict")),
    "headers-items": (head("'200 OK', {'A': 'b'}.items()"), refused("must be of type list: dict_items")),
    "headers-str": (head("'200 OK', 'A: b'"), refused("must be of type list: str")),
    "headers-generator": (head("'200 OK', (x for x in ())"), refused("must be of type list: generator")),
    "headers-list-subclass": ("class L(list): pass\n" + head("'200 OK', L()"), refused("must be of type list: L")),
    "header-list": (head("'200 OK', [['A', 'b']]"), refused("must be of type tuple: list")),
    "header-str": (head("'200 OK', ['A: b']"), refused("must be of type tuple: str")),
    "header-none": (head("'200 OK', [None]"), refused("must be of type tuple: NoneType")),
    "header-of-one": (head("'200 OK', [('A',)]"), refused("must have two parts")),
    "header-of-three": (head("'200 OK', [('A', 'b', 'c')]"), refused("must have two parts")),
    "header-empty": (head("'200 OK', [()]"), refused("must have two parts")),
    "header-named-tuple": (
        "import collections\nH = collections.namedtuple('H', 'name value')\n" + head("'200 OK', [H('A', 'b')]"),
        answered(),
    ),
    "headers-shared": (
        # The same list object in each request, as a module that never copies its defaults has it.
        "headers = KEPT.setdefault('headers', [('A', 'b')])\n" + head("'200 OK', headers"),
        answered(),
    ),
    "headers-changed-afterwards": (
        "headers = [('Content-Length', '2')]\nstart_response('200 OK', headers)\n"
        "headers[0] = ('Content-Length', '200')\nheaders.append(('X', 1))\nreturn [b'ok']",
        answered(),
    ),
    "headers-changed-by-repr": (
        "headers = []\nclass Changing:\n    def __repr__(self):\n        headers.clear()\n        return 'changing'\n"
        "headers.extend([Changing(), ('A', 'b')])\n" + head("'200 OK', headers"),
        refused("Individual headers (changing) must be of type tuple"),
    ),
}

# Header names and values: native strings in latin-1, "must not include any control characters".
FIELD = {
    "name-bytes": (head("'200 OK', [(b'A', 'b')]"), refused("Header name must be of type str (got b'A')")),
    "name-int": (head("'200 OK', [(1, 'b')]"), refused("Header name must be of type str (got 1)")),
    "name-none": (head("'200 OK', [(None, 'b')]"), refused("Header name must be of type str")),
    "name-empty": (head("'200 OK', [('', 'b')]"), refused(NAME)),
    "name-colon": (head("'200 OK', [('A:', 'b')]"), refused(NAME)),
    "name-space": (head("'200 OK', [('A b', 'c')]"), refused(NAME)),
    "name-space-behind": (head("'200 OK', [('A ', 'b')]"), refused(NAME)),
    "name-newline": (head("'200 OK', [('A\\r\\nB', 'c')]"), refused(NAME)),
    "name-nul": (head("'200 OK', [('A\\0', 'b')]"), refused(NAME)),
    "name-above-ascii": (head("'200 OK', [('\\xc4', 'b')]"), refused(NAME)),
    "name-wide": (head("'200 OK', [('\\u20ac', 'b')]"), refused("Header name has characters outside latin-1")),
    "value-bytes": (head("'200 OK', [('A', b'b')]"), refused("Header value must be of type str (got b'b')")),
    "value-int": (head("'200 OK', [('Content-Length', 2)]"), refused("Header value must be of type str (got 2)")),
    "value-none": (head("'200 OK', [('A', None)]"), refused("Header value must be of type str")),
    "value-crlf": (head("'200 OK', [('A', 'b\\r\\nX-Injected: 1')]"), refused(VALUE)),
    "value-lf": (head("'200 OK', [('A', 'b\\nX-Injected: 1')]"), refused(VALUE)),
    "value-cr": (head("'200 OK', [('A', 'b\\rX-Injected: 1')]"), refused(VALUE)),
    "value-ending-in-newline": (head("'200 OK', [('A', 'b\\n')]"), refused(VALUE)),
    "value-folded": (head("'200 OK', [('A', 'b\\r\\n c')]"), refused(VALUE)),
    "value-nul": (head("'200 OK', [('A', 'b\\0')]"), refused(VALUE)),
    "value-escape": (head("'200 OK', [('A', '\\x1b[1m')]"), refused(VALUE)),
    "value-delete": (head("'200 OK', [('A', '\\x7f')]"), refused(VALUE)),
    "value-wide": (head("'200 OK', [('A', '\\u20ac')]"), refused("Header value has characters outside latin-1")),
    "value-of-bad-name": (head("'200 OK', [('X-Bad', 'b\\n')]"), refused("'X-Bad'")),
    "value-empty": (head("'200 OK', [('A', '')]"), answered()),
    "value-latin-1": (head("'200 OK', [('A', 'caf\\xe9')]"), answered()),
    "value-of-a-megabyte": (head("'200 OK', [('A', 'b' * (1 << 20))]"), answered()),
    "fields-by-the-thousand": (head("'200 OK', [('A', 'b')] * 10_000"), answered()),
}

# "It is a fatal error for an application to attempt ... hop-by-hop features or headers."
FRAMING = {
    **{
        f"hop-by-hop-{name.lower()}": (head(f"'200 OK', [('{name}', '{value}')]"), refused(HOP))
        for name, value in {
            "Transfer-Encoding": "chunked", "Connection": "keep-alive", "Keep-Alive": "5", "Upgrade": "h2c", "TE": "trailers",
            "Trailer": "A", "Trailers": "A", "Proxy-Authenticate": "Basic", "Proxy-Authorization": "Basic",
            "Proxy-Connection": "close",
        }.items()
    },
    "hop-by-hop-in-capitals": (head("'200 OK', [('TRANSFER-ENCODING', 'identity')]"), refused(HOP)),
    "connection-close-and-more": (head("'200 OK', [('Connection', 'close, upgrade')]"), refused(HOP)),
    "connection-close": (head("'200 OK', [('Connection', 'close')]"), answered()),
    "length-words": (head("'200 OK', [('Content-Length', 'two')]"), refused(DIGITS)),
    "length-negative": (head("'200 OK', [('Content-Length', '-2')]"), refused(DIGITS)),
    "length-signed": (head("'200 OK', [('Content-Length', '+2')]"), refused(DIGITS)),
    "length-padded": (head("'200 OK', [('Content-Length', ' 2')]"), refused(DIGITS)),
    "length-empty": (head("'200 OK', [('Content-Length', '')]"), refused(DIGITS)),
    "length-list": (head("'200 OK', [('Content-Length', '2, 2')]"), refused(DIGITS)),
    "length-float": (head("'200 OK', [('Content-Length', '2.0')]"), refused(DIGITS)),
    "length-overflowing": (head(f"'200 OK', [('Content-Length', '{1 << 64}')]"), refused(DIGITS)),
    "length-superscript": (head("'200 OK', [('Content-Length', '\\xb2')]"), refused(DIGITS)),
    "length-twice": (
        head("'200 OK', [('Content-Length', '2'), ('content-length', '2')]"),
        refused("Content-Length must not be repeated"),
    ),
}

# "the server should not transmit more bytes to the client than the header allows"; fewer are never a complete body.
LENGTH = {
    "one-item-too-long": (length(1, "return [b'ok']"), answered(b"o", LONGER)),
    "one-item-too-short": (length(3, "return [b'ok']"), cut(b"ok", "missing_bytes=1", SHORTER)),
    "nothing-instead-of-a-length": (length(3, "return []"), cut(b"", "missing_bytes=3", SHORTER)),
    "empty-items-instead-of-a-length": (length(3, "return iter([b'', b''])"), cut(b"", "missing_bytes=3", SHORTER)),
    "second-item-too-long": (length(5, "return [b'one', b'two']"), answered(b"onetw", LONGER)),
    "more-items-than-the-length": (length(3, "return [b'one', b'two', b'three']"), answered(b"one", LONGER)),
    "items-too-short": (length(7, "return iter([b'one', b'two'])"), cut(b"onetwo", "missing_bytes=1", SHORTER)),
    "endless-items": (length(3, "while True: yield b'one'"), answered(b"one", LONGER)),
    "length-0-with-a-body": (length(0, "return [b'ok']"), answered(b"", LONGER)),
    "write-too-long": (length(3, "write(b'o')\nwrite(b'netwo')\nreturn []"), answered(b"one", LONGER)),
    "write-far-too-long": (length(3, "for _ in range(10_000): write(b'one')\nreturn []"), answered(b"one", LONGER)),
    "write-too-short": (length(7, "write(b'one')\nreturn [b'two']"), cut(b"onetwo", "missing_bytes=1", SHORTER)),
    "file-too-long": (
        length(2, "file = tempfile.TemporaryFile()\nfile.write(b'one')\nfile.seek(0)\nreturn environ['wsgi.file_wrapper'](file)"),
        answered(b"on"),  # PEP 3333 has the wrapper transmit no more than the length
    ),
    "file-too-short": (
        length(4, "file = tempfile.TemporaryFile()\nfile.write(b'one')\nfile.seek(0)\nreturn environ['wsgi.file_wrapper'](file)"),
        cut(b"one", "missing_bytes=1", SHORTER),
    ),
    "len-of-one-but-two-items": (
        "class Lying(Closing):\n    def __len__(self): return 1\n" + result("Lying(b'one', b'two')"),
        answered(b"one", LONGER),
    ),
    "len-of-one-but-no-item": ("class Lying(Closing):\n    def __len__(self): return 1\n" + result("Lying()"), answered(b"")),
    "len-that-raises": (
        "class Lying(Closing):\n    def __len__(self): raise ValueError('len')\n" + result("Lying(b'o', b'k')"),
        answered(),
    ),
    "len-negative": ("class Lying(Closing):\n    def __len__(self): return -1\n" + result("Lying(b'o', b'k')"), answered()),
    "len-of-another-type": ("class Lying(Closing):\n    def __len__(self): return '1'\n" + result("Lying(b'o', b'k')"), answered()),
    "len-too-large": ("class Lying(Closing):\n    def __len__(self): return 1 << 99\n" + result("Lying(b'o', b'k')"), answered()),
}

# "the application must invoke the start_response() callable before the iterable yields its first body bytestring"; again
# only with exc_info, and then "must not trap any exceptions raised by start_response".
START = {
    "never": ("return [b'ok']", refused("without having called start_response", NOT_STARTED)),
    "never-and-no-body": ("return []", refused("without having called start_response", NOT_STARTED)),
    "never-and-two-items": ("return [b'o', b'k']", refused("without having called start_response", NOT_STARTED)),
    "never-by-a-generator": ("yield b'ok'", refused("without having called start_response", NOT_STARTED)),
    "never-by-an-empty-generator": ("return\nyield", refused("without having called start_response", NOT_STARTED)),
    "never-and-a-file": (
        "file = tempfile.TemporaryFile()\nfile.write(b'one')\nfile.seek(0)\nreturn environ['wsgi.file_wrapper'](file)",
        refused("without having called start_response", NOT_STARTED),
    ),
    "in-close": (
        "return Closing(close=lambda: start_response('200 OK', []))",
        refused("without having called start_response", NOT_STARTED),
    ),
    "in-iter": (
        "class Late(Closing):\n    def __iter__(self):\n        start_response('200 OK', [])\n        return self\nreturn Late(b'ok')",
        answered(),
    ),
    "at-the-first-item": ("yield b''\nstart_response('200 OK', [])\nyield b'ok'", answered()),
    "after-the-first-item": ("yield b'one'\nstart_response('200 OK', [])", refused("without having called", NOT_STARTED)),
    "with-the-last-item": ("yield b''\nstart_response('200 OK', [])", answered(b"")),
    "twice": ("start_response('200 OK', [])\n" + head("'200 OK', []"), refused(SECOND)),
    "twice-with-exc-info-of-none": ("start_response('200 OK', [])\n" + head("'200 OK', [], None"), refused(SECOND)),
    "twice-after-an-item": (items("start_response('200 OK', [])"), cut(b"one", SECOND)),
    "twice-after-a-write": ("start_response('200 OK', [])(b'one')\n" + head("'200 OK', []"), cut(b"one", SECOND)),
    "twice-and-caught": (
        "start_response('200 OK', [])\ntry: start_response('201 Created', [])\nexcept AssertionError: pass\nreturn [b'ok']",
        answered(),
    ),
    "again-after-a-bad-status": (
        "try: start_response('20', [('A', 'b')])\nexcept ValueError: start_response('200 OK', [])\nreturn [b'ok']",
        answered(),
    ),
    "caught-bad-status": ("try: start_response('20', [])\nexcept ValueError: return [b'ok']", refused("", NOT_STARTED)),
    "exc-info-before-the-head": (
        f"start_response('200 OK', [])\n{FAIL}start_response('202 Accepted', [], sys.exc_info())\nreturn [b'ok']",
        answered(status=202),
    ),
    "exc-info-first": (f"{FAIL}start_response('202 Accepted', [], sys.exc_info())\nreturn [b'ok']", answered(status=202)),
    "exc-info-of-nothing": ("start_response('200 OK', [], sys.exc_info())\nreturn [b'ok']", answered()),
    "exc-info-after-an-item": (items(f"{FAIL}start_response('500 Oops', [], sys.exc_info())"), cut(b"one", "KeyError: 'first'")),
    "exc-info-after-a-write": (
        f"start_response('200 OK', [])(b'one')\n{FAIL}start_response('500 Oops', [], sys.exc_info())\nreturn [b'two']",
        cut(b"one", "KeyError: 'first'"),
    ),
    "exc-info-after-an-item-trapped": (
        items(f"{FAIL}\n    try: start_response('500 Oops', [], sys.exc_info())\n    except KeyError: yield b'two'"),
        answered(b"onetwo"),
    ),
    "exc-info-of-nothing-after-an-item": (items("start_response('500 Oops', [], sys.exc_info())"), cut(b"one", "handles no exception")),
    "exc-info-true": (head("'200 OK', [], True"), refused(TRIPLE)),
    "exc-info-exception": (head("'200 OK', [], ValueError()"), refused(TRIPLE)),
    "exc-info-of-two": (head("'200 OK', [], (1, 2)"), refused(TRIPLE)),
    "exc-info-list": (f"{FAIL}start_response('200 OK', [], list(sys.exc_info()))", refused(TRIPLE)),
    "exc-info-of-other-things": (items("start_response('500 Oops', [], (1, 2, 3))"), cut(b"one", "")),
    "exc-info-false": (head("'200 OK', [], False"), answered()),
    "exc-info-without-truth": (
        "class Undecided:\n    def __bool__(self): raise ValueError('undecided')\n" + head("'200 OK', [], Undecided()"),
        refused("undecided"),
    ),
    "too-many-arguments": (head("'200 OK', [], None, None"), refused("takes from 2 to 3 positional arguments")),
    "keyword-arguments": (head("status='200 OK', headers=[], exc_info=None"), answered()),
}

# "write(body_data) ... a bytestring"; only for code that cannot return an iterable, and before that iterable.
WRITE = {
    "write-str": ("start_response('200 OK', [])('text')\nreturn []", refused("write() takes bytes, not str")),
    "write-none": ("start_response('200 OK', [])(None)\nreturn []", refused("write() takes bytes, not NoneType")),
    "write-int": ("start_response('200 OK', [])(7)\nreturn []", refused("write() takes bytes, not int")),
    "write-bytearray": ("start_response('200 OK', [])(bytearray(b'x'))", refused("write() takes bytes, not bytearray")),
    "write-nothing": ("start_response('200 OK', [])()", refused("missing 1 required positional argument: 'data'")),
    "write-bytes-that-lie": ("start_response('200 OK', [])(Bytes(b'ok'))\nreturn []", answered()),
    "write-str-after-bytes": ("write = start_response('200 OK', [])\nwrite(b'one')\nwrite('two')", cut(b"one", "write() takes bytes")),
    "write-and-raise": ("start_response('200 OK', [])(b'one')\nraise KeyError('later')", cut(b"one", "KeyError: 'later'")),
    "write-and-return-none": ("start_response('200 OK', [])(b'one')", cut(b"one", "returned None", REJECTED)),
    "write-before-start": (
        "write = start_response.__self__\nwrite(b'one')",
        refused("write() was called before start_response()"),
    ),
    "write-in-another-thread": (
        "write = start_response('200 OK', [])\nfound = []\ndef use():\n    try: write(b'one')\n"
        "    except RuntimeError as error: found.append(str(error))\n"
        "thread = threading.Thread(target=use)\nthread.start()\nthread.join()\nreturn [found[0].encode()]",
        answered(
            b"write() works only while the server runs this request's application or asks its iterable for an item, and only "
            b"in that thread"
        ),
    ),
    "write-between-items": (
        "write = start_response('200 OK', [])\nyield b'one '\nwrite(b'two ')\nyield b'three'",
        answered(b"one two three"),
    ),
    "write-in-close": (
        "write = start_response('200 OK', [])\nreturn Closing(b'o', b'k', close=lambda: write(b'late'))",
        answered(b"ok", CLOSE_RAISED, ONLY_MEANWHILE),
    ),
    "write-in-close-of-nothing": (
        "write = start_response('200 OK', [])\nreturn Closing(close=lambda: write(b'late'))",
        answered(b"", CLOSE_RAISED, ONLY_MEANWHILE),
    ),
    "write-in-close-of-a-failure": (
        "write = start_response('200 OK', [])\nreturn Closing(KeyError('first'), close=lambda: write(b'late'))",
        refused("KeyError: 'first'"),
    ),
}

# "the application must return an iterable yielding zero or more bytestrings".
RESULT = {
    "return-none": (result("None"), refused("the application returned None, not an iterable of bytes", REJECTED)),
    "return-str": (result("'ok'"), refused("the application returned str, not an iterable of bytes", REJECTED)),
    "return-bytes": (result("b'ok'"), refused("returned bytes, which iterates over numbers; return [body]", REJECTED)),
    "return-bytearray": (result("bytearray(b'ok')"), refused("returned bytearray, which iterates over numbers", REJECTED)),
    "return-memoryview": (result("memoryview(b'ok')"), refused("returned memoryview, which iterates over numbers", REJECTED)),
    "return-int": (result("7"), refused("the application returned int, not an iterable of bytes", REJECTED)),
    "return-class": (result("Closing"), refused("the application returned type, not an iterable of bytes", REJECTED)),
    "return-function": (result("lambda: [b'ok']"), refused("returned function, not an iterable of bytes", REJECTED)),
    "return-dict": (result("{'a': 1}"), refused("yielded str, not bytes", REJECTED)),
    "return-text-file": (result("io.StringIO('ok')"), refused("yielded str, not bytes", REJECTED)),
    "return-exception": (result("KeyError('first')"), refused("returned KeyError, not an iterable of bytes", REJECTED)),
    "return-not-implemented": (result("NotImplemented"), refused("not an iterable of bytes", REJECTED)),
    "return-coroutine": (
        "start_response('200 OK', [])\nasync def main(): return [b'ok']\ncoroutine = main()\nKEPT['coroutine'] = coroutine\n"
        "return coroutine",
        refused("returned coroutine, not an iterable of bytes", REJECTED),
    ),
    "return-async-generator": (
        "start_response('200 OK', [])\nasync def main(): yield b'ok'\nreturn main()",
        refused("returned async_generator, not an iterable of bytes", REJECTED),
    ),
    "iter-raises": (
        "class Broken:\n    def __iter__(self): raise KeyError('iter')\n" + result("Broken()"),
        refused("KeyError: 'iter'"),
    ),
    "iter-raises-type-error": (
        "class Broken:\n    def __iter__(self): raise TypeError('of its own')\n" + result("Broken()"),
        refused("TypeError: of its own"),
    ),
    "iter-is-no-iterator": (
        "class Broken:\n    def __iter__(self): return [b'ok']\n" + result("Broken()"),
        refused("iter() returned non-iterator of type 'list'"),
    ),
    "iter-is-none": ("class Broken:\n    __iter__ = None\n" + result("Broken()"), refused("not an iterable of bytes", REJECTED)),
    "item-str": (result("['ok']"), refused("yielded str, not bytes; encode it", REJECTED)),
    "item-int": (result("[7]"), refused("yielded int, not bytes", REJECTED)),
    "item-none": (result("[None]"), refused("yielded NoneType, not bytes", REJECTED)),
    "item-list": (result("[[b'ok']]"), refused("yielded list, not bytes", REJECTED)),
    "item-bytearray": (result("[bytearray(b'ok')]"), refused("mutable buffers are refused", REJECTED)),
    "item-memoryview": (result("[memoryview(b'ok')]"), refused("mutable buffers are refused", REJECTED)),
    "item-empty-str": (result("['']"), refused("yielded str, not bytes", REJECTED)),
    "item-bytes-that-lie": (result("[Bytes(b'ok')]"), answered()),
    "second-item-str": (items("yield 'two'"), cut(b"one", "yielded str, not bytes", REJECTED)),
    "second-item-none": (items("yield None"), cut(b"one", "yielded NoneType, not bytes", REJECTED)),
    "itself-forever-empty": (
        "start_response('200 OK', [])\nfor _ in range(100_000): yield b''\nyield b'ok'",
        answered(),
    ),
    "stop-iteration-of-a-subclass": (
        "class Stop(StopIteration): pass\nstart_response('200 OK', [])\nreturn Closing(b'o', b'k', Stop())",
        answered(),
    ),
    "stop-iteration-of-the-call": ("raise StopIteration", refused("StopIteration")),
    "stop-iteration-in-a-generator": (items("raise StopIteration"), cut(b"one", "generator raised StopIteration")),
    "next-raises-first": (
        "start_response('200 OK', [])\nreturn Closing(KeyError('first'))",
        refused("KeyError: 'first'"),
    ),
    "generator-raises-first": ("start_response('200 OK', [])\nraise KeyError('first')\nyield", refused("KeyError: 'first'")),
    "generator-raises-later": (items("raise KeyError('later')"), cut(b"one", "KeyError: 'later'")),
    "generator-exits": (items("sys.exit(3)"), cut(b"one", "SystemExit: 3")),
    "generator-already-running": (
        "start_response('200 OK', [])\nnames = {}\ndef items():\n    yield next(names['running'])\n"
        "names['running'] = items()\nreturn names['running']",
        refused("generator already executing"),
    ),
    "list-that-shrinks": (
        "class Shrinking(bytes):\n    pass\nstart_response('200 OK', [])\nbody = [b'one', b'two', b'three']\n"
        "threading.Timer(0, body.clear)\nKEPT['body'] = body\nreturn body",
        answered(b"onetwothree"),
    ),
    "file-wrapper-of-nothing": (result("environ['wsgi.file_wrapper'](None)"), refused("'NoneType' object has no attribute 'read'")),
    "file-wrapper-of-text": (result("environ['wsgi.file_wrapper'](io.StringIO('ok'))"), refused("yielded str, not bytes", REJECTED)),
    "file-wrapper-of-a-closed-file": (
        "file = tempfile.TemporaryFile()\nfile.close()\n" + result("environ['wsgi.file_wrapper'](file)"),
        refused("read of closed file"),
    ),
    "file-wrapper-of-a-file-for-writing": (
        "start_response('200 OK', [])\nfile = tempfile.NamedTemporaryFile()\nfile.write(b'one')\nfile.flush()\n"
        "return environ['wsgi.file_wrapper'](open(file.name, 'ab', 0))",
        refused("not open for reading"),
    ),
    "file-wrapper-without-arguments": (result("environ['wsgi.file_wrapper']()"), refused("missing 1 required positional argument")),
    "file-wrapper-of-odd-blocks": (
        result("environ['wsgi.file_wrapper'](io.BytesIO(b'ok'), 'many')"),
        refused("argument should be integer or None, not 'str'"),
    ),
}

# "If the iterable returned by the application has a close() method, the server must call that method".
CLOSE = {
    "close-raises": (
        "def close(): raise KeyError('close')\n" + result("Closing(b'o', b'k', close=close)"),
        answered(b"ok", CLOSE_RAISED, "KeyError: 'close'"),
    ),
    "close-raises-after-nothing": (
        "def close(): raise KeyError('close')\n" + result("Closing(close=close)"),
        answered(b"", CLOSE_RAISED, "KeyError: 'close'"),
    ),
    "close-raises-after-a-failure": (
        "def close(): raise KeyError('close')\n" + result("Closing(KeyError('first'), close=close)"),
        refused("KeyError: 'first'"),
    ),
    "close-exits": (
        "def close(): sys.exit(3)\n" + result("Closing(b'o', b'k', close=close)"),
        answered(b"ok", CLOSE_RAISED, "SystemExit: 3"),
    ),
    "close-is-no-function": (
        result("Closing(b'o', b'k', close=7)"),
        answered(b"ok", CLOSE_RAISED, "'int' object is not callable"),
    ),
    "close-takes-arguments": (
        result("Closing(b'o', b'k', close=lambda reason: None)"),
        answered(b"ok", CLOSE_RAISED, "missing 1 required positional argument: 'reason'"),
    ),
    "close-is-a-property-that-raises": (
        "class Broken:\n    def __iter__(self): return iter([b'o', b'k'])\n"
        "    @property\n    def close(self): raise KeyError('close')\n" + result("Broken()"),
        answered(b"ok", CLOSE_RAISED, "KeyError: 'close'"),
    ),
    "close-starts-the-response": (
        result("Closing(b'o', b'k', close=lambda: start_response('200 OK', []))"),
        answered(b"ok", CLOSE_RAISED, SECOND),
    ),
    "generator-ignores-its-exit": (
        "start_response('200 OK', [('Content-Length', '3')])\ntry:\n    yield b'one'\n    yield b'two'\n"
        "except GeneratorExit:\n    yield b'three'",
        answered(b"one", CLOSE_RAISED, "generator ignored GeneratorExit"),
    ),
    "generator-raises-in-finally": (
        "start_response('200 OK', [('Content-Length', '3')])\ntry:\n    yield b'one'\n    yield b'two'\n"
        "finally:\n    raise KeyError('finally')",
        answered(b"one", CLOSE_RAISED, "KeyError: 'finally'"),
    ),
    "no-close": ("class Plain:\n    def __iter__(self): return iter([b'o', b'k'])\n" + result("Plain()"), answered()),
}

# "environ ... must be a builtin Python dictionary, and the application is allowed to modify the dictionary".
ENVIRON = {
    "environ-cleared": ("environ.clear()\n" + result("[b'ok']"), answered()),
    "environ-cleared-and-raised": ("environ.clear()\nraise KeyError('first')", refused("KeyError: 'first'")),
    "environ-with-other-types": (
        "for name in list(environ): environ[name] = object()\nenviron[7] = environ\n" + result("[b'ok']"),
        answered(),
    ),
    "input-read-with-str": ("environ['wsgi.input'].read('7')", refused("object cannot be interpreted as an integer")),
    "input-read-with-float": ("environ['wsgi.input'].read(1.5)", refused("object cannot be interpreted as an integer")),
    "input-read-with-too-large": ("environ['wsgi.input'].read(1 << 99)", refused("OverflowError")),
    "input-seek": ("environ['wsgi.input'].seek(0)", refused("has no attribute 'seek'")),
    "input-written": ("environ['wsgi.input'].write(b'x')", refused("has no attribute 'write'")),
    "input-into-bytes": ("environ['wsgi.input'].readinto(b'xx')", refused("readinto() needs a writable buffer")),
    "input-closed": (
        "environ['wsgi.input'].close()\n" + result("[environ['wsgi.input'].read() + b'ok']"),
        answered(),
    ),
    "input-made": ("type(environ['wsgi.input'])()", refused("TypeError")),
    "errors-bytes": ("environ['wsgi.errors'].write(b'x')", refused("TypeError")),
    "errors-lines-of-bytes": ("environ['wsgi.errors'].writelines([b'x'])", refused("TypeError")),
    "errors-lines-of-nothing": ("environ['wsgi.errors'].writelines(None)", refused("'NoneType' object is not iterable")),
    "errors-closed": ("environ['wsgi.errors'].close()", refused("has no attribute 'close'")),
    "errors-surrogates": ("environ['wsgi.errors'].write('\\udcff\\0\\x1b[1m')\n" + result("[b'ok']"), answered()),
}

# Exceptions that are hard to report.
EXCEPTIONS = {
    "raise-keyboard-interrupt": ("raise KeyboardInterrupt", refused("KeyboardInterrupt")),
    "raise-generator-exit": ("raise GeneratorExit", refused("GeneratorExit")),
    "raise-memory-error": ("raise MemoryError", refused("MemoryError")),
    "raise-a-str": ("raise 'text'", refused("exceptions must derive from BaseException")),
    "raise-without-str": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError('mute')\nraise Mute",
        refused("Mute"),
    ),
    "raise-what-exits-in-str": (
        "class Mute(Exception):\n    def __str__(self): raise SystemExit(3)\nraise Mute",
        refused("Mute"),
    ),
    "raise-a-cycle": ("one, two = KeyError('one'), KeyError('two')\none.__cause__, two.__cause__ = two, one\nraise one", refused("'one'")),
    "raise-much": ("raise KeyError('first ' + 'x' * (10 << 20))", refused("KeyError: 'first ")),
    "raise-surrogates": ("raise KeyError('\\udcff\\0\\x1b[1m')", refused("KeyError")),
    "recursion-to-the-limit": ("def down(): down()\ndown()", refused("RecursionError: maximum recursion depth exceeded")),
    "start-at-the-recursion-limit": (
        "def down():\n    try: down()\n    finally: start_response('200 OK', [(Text('A'), 7)])\ndown()",
        refused("Error"),
    ),
    "assert": ("assert not environ", refused("AssertionError")),
    "bad-code": ("return undefined", refused("name 'undefined' is not defined")),
}

TABLE = {
    "status": STATUS, "fields": FIELDS, "field": FIELD, "framing": FRAMING, "length": LENGTH, "start": START, "write": WRITE,
    "result": RESULT, "close": CLOSE, "environ": ENVIRON, "exceptions": EXCEPTIONS,
}  # fmt: skip
ROWS = {name: row for rows in TABLE.values() for name, row in rows.items()}
