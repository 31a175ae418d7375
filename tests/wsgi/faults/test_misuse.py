"""Every way in which an application can violate PEP 3333 ends as `support/misuse_table.py` says, and the worker goes on
with the next request."""

from urllib.parse import quote

import pytest
from support.misuse_table import COMPLAINTS, ONLY_MEANWHILE, ROWS, SECOND, TABLE, TRUNCATED
from support.server import APPLICATION_ERRORS, WORKER_DIED, Server
from support.wire import Wire


@pytest.fixture(scope="module")
def misuse():
    """A server with one worker, which must survive all rows."""
    with Server("misuse:app") as server:
        yield server
        assert not server.events(WORKER_DIED)


def ask(server, name, code, *fields, method="GET"):
    """Returns the response to a request with this code on a new connection."""
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(f"/{name}?code={quote(code)}", *fields, method=method).response(method)


def complaints(server, since, **pairs):
    """Returns what the log has about requests that have ended. What a later request logs is behind it."""
    assert ask(server, "mark", "environ['wsgi.errors'].write('the mark\\n')\nstart_response('200 OK', [])\nreturn [b'ok']").body == b"ok"
    server.wait_for(APPLICATION_ERRORS, since=since, text="the mark")
    return server.events(COMPLAINTS, since=since, **pairs)


def test_the_table_has_each_name_once():
    assert len(ROWS) == sum(map(len, TABLE.values()))


@pytest.mark.parametrize("name", ROWS)
def test_misuse(misuse, name):
    code, outcome = ROWS[name]
    (worker,) = misuse.worker_pids()
    since = misuse.position()
    answer = ask(misuse, name, code)
    said = complaints(misuse, since)
    assert (answer.status, answer.is_whole) == (outcome.status, outcome.is_whole), (answer, misuse.log[-4000:])
    assert answer.field("X-Injected") is None
    if outcome.body is not None:
        assert answer.body == outcome.body
    found = [line for line in said if line.event == outcome.event and outcome.words in line.text]
    if outcome.event is None:
        assert said == []
    else:
        assert len(found) == 1, f"{outcome.event}: {outcome.words}\n{[line.text for line in said]}"
    for line in said:
        assert (line.pairs["method"], line.pairs["path"]) == ("GET", f"/{name}"), line.text
    assert misuse.worker_pids() == [worker]


KEEP = "KEPT.update(write=start_response('200 OK', []), start=start_response, environ=environ)\n"
USE = """
found = []
def use(call):
    try: found.append(call())
    except BaseException as error: found.append(error)
def use_all():
    use(lambda: KEPT['write'](b'late'))
    use(lambda: KEPT['start']('201 Created', []))
    use(lambda: KEPT['start']('201 Created', [], (KeyError, KeyError('late'), None)))
    use(lambda: KEPT['environ']['wsgi.input'].read())
    use(lambda: KEPT['environ']['wsgi.errors'].write('late\\n'))
"""


@pytest.mark.parametrize("first", [KEEP + "return [b'ok']", KEEP + "yield b'o'\nyield b'k'"], ids=["one-item", "generator"])
@pytest.mark.parametrize(
    "use", ["use_all()", "thread = threading.Thread(target=use_all)\nthread.start()\nthread.join()"], ids=["call", "thread"]
)
def test_what_a_request_has_kept_cannot_touch_a_later_one(misuse, first, use):
    since = misuse.position()
    assert ask(misuse, "first", first).body == b"ok"
    answer = ask(misuse, "second", f"{USE}{use}\nstart_response('200 OK', [])\nreturn ['|'.join(map(repr, found)).encode()]")
    write, start, restart, read, errors = answer.body.decode().split("|")
    assert answer.status == 200
    assert write.startswith("RuntimeError") and ONLY_MEANWHILE in write
    assert start == f"AssertionError('{SECOND}')" and restart == "KeyError('late')"
    assert (read, errors) == ("b''", "5")
    assert complaints(misuse, since) == []


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_response(misuse, tmp_path):
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    code = f"start_response('200 OK', [])\nreturn environ['wsgi.file_wrapper'](open({str(tmp_path / 'file')!r}, 'rb'))"
    since = misuse.position()
    with Wire(("127.0.0.1", misuse.port), receive_buffer_bytes=4096) as wire:
        assert wire.get(f"/shrinks?code={quote(code)}").head()[0] == 200
        (tmp_path / "file").write_bytes(b"")
        assert len(wire.to_end()[0]) < 64 << 20
    (said,) = complaints(misuse, since)
    assert (said.event, said.pairs["path"]) == (TRUNCATED, "/shrinks")
