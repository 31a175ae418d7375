"""What an application can do to its process in a request, and what becomes of the worker.

| the application | the worker |
|---|---|
| changes what it shares with the server: threads, signals, streams, builtins, limits, its user | goes on |
| ends the process, or breaks it | is replaced; the log names the request |
| closes the server's descriptors, or puts files in their place | goes on, or is replaced soon, and never spins |
"""

import contextlib
import os
import signal
import time
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest
from support.processes import cpu_ticks
from support.server import APPLICATION_FAILED, WORKER_DIED, WORKER_LEFT, WORKER_READY
from support.waiting import wait_until
from support.wire import Ended, Wire

DESCRIPTOR_LOST = "worker.descriptor_lost"
BODY_BYTES = 17 << 20  # more than a worker keeps in memory

ECHO = "body = environ['wsgi.input'].read()\nstart_response('200 OK', [])\nreturn [str(len(body)).encode()]"
PID = "start_response('200 OK', [])\nreturn [str(os.getpid()).encode()]"


def target(name, code):
    return f"/{name}?code={quote(code)}"


def ask(server, name, code):
    """Returns the response to a request with this code on a new connection."""
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(target(name, code)).response()


def worker(server):
    """Returns the pid of the worker that answers."""
    return int(ask(server, "pid", PID).body)


def assert_serves(server):
    """Requests with and without a body, and with an exception, are answered as ever."""
    since = server.position()
    with Wire(("127.0.0.1", server.port)) as wire:
        answer = wire.post(target("echo", ECHO), bytes(BODY_BYTES)).response()
        assert (answer.status, answer.body) == (200, str(BODY_BYTES).encode())
        age_s = time.time() - parsedate_to_datetime(answer.field("Date")).timestamp()
        assert -2 < age_s < 60, answer.field("Date")
        assert wire.get(target("fail", "raise KeyError('on purpose')")).response().status == 500
    server.wait_for_text(APPLICATION_FAILED, "KeyError", since=since, path="/fail")


# --- The worker goes on ---

IN_THREAD = "thread = threading.Thread(target=run, daemon=True)\nthread.start()\n"
GOES_ON = {
    "thread-that-spins": f"def run():\n    while True: pass\n{IN_THREAD}",
    "thread-that-sleeps": f"def run(): time.sleep(3600)\n{IN_THREAD}",
    "thread-that-raises": f"def run(): raise KeyError('in a thread')\n{IN_THREAD}thread.join()",
    "thread-that-exits": f"def run(): sys.exit(3)\n{IN_THREAD}thread.join()",
    "thread-that-forks": f"def run():\n    if os.fork(): os.wait()\n{IN_THREAD}thread.join()",
    "thread-with-a-small-stack": f"threading.stack_size(65536)\ndef run(): pass\n{IN_THREAD}thread.join()",
    "switch-interval": f"sys.setswitchinterval(10)\ndef run(): time.sleep(3600)\n{IN_THREAD}",
    "timer-signals": (
        "signal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "time.sleep(0.1)"
    ),
    "wakeup-fd-that-is-closed": (
        "reader, writer = os.pipe()\nos.set_blocking(writer, False)\nsignal.set_wakeup_fd(writer)\nos.close(reader)\n"
        "os.close(writer)\nsignal.signal(signal.SIGALRM, lambda *_: None)\nos.kill(os.getpid(), signal.SIGALRM)"
    ),
    "signals-blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "signals-ignored": (
        "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n    except OSError: pass"
    ),
    "sigpipe-is-default": "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
    "directory": "os.chdir('/')",
    "directory-that-is-removed": "os.chdir(tempfile.mkdtemp())\nos.rmdir(os.getcwd())",
    "umask": "os.umask(0o777)",
    "environment": "os.environ.clear()\nos.environ['TZ'] = 'Asia/Tokyo'\ntime.tzset()",
    "locale": "import locale\nlocale.setlocale(locale.LC_ALL, 'C.UTF-8')\nlocale.setlocale(locale.LC_ALL, 'POSIX')",
    "recursion-limit": "sys.setrecursionlimit(150)",
    "garbage-off": "gc.disable()\ngc.freeze()",
    "garbage-often": "gc.set_threshold(1, 1, 1)",
    "no-stdout": "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None",
    "stdout-closed": "sys.stdout.close()\nsys.stderr.close()",
    "stdout-of-another-type": "sys.stdout = sys.stderr = object()",
    "stdout-deleted": "del sys.stdout, sys.stderr",
    "streams-closed": "os.closerange(0, 3)",
    "streams-to-null": "null = os.open('/dev/null', os.O_RDWR)\nfor fd in range(3): os.dup2(null, fd)",
    "builtins": "import builtins\nbuiltins.memoryview = builtins.open = builtins.print = None",
    "import": "import builtins\ndef broken(*_): raise ImportError('no more')\nbuiltins.__import__ = broken",
    "traceback": "import traceback\ntraceback.format_exception = traceback.print_exception = None",
    "traceback-that-exits": "import traceback\ntraceback.format_exception = lambda *_: sys.exit(3)",
    "modules": "for name in [name for name in sys.modules if name not in ('sys', 'builtins')]: del sys.modules[name]",
    "path": "sys.path.clear()\nsys.meta_path.clear()\nsys.path_hooks.clear()",
    "hooks": "sys.excepthook = sys.unraisablehook = sys.displayhook = None",
    "trace": "sys.setprofile(lambda *_: None)\nsys.settrace(lambda *_: None)",
    "atexit-that-raises": "import atexit\natexit.register(lambda: 1 / 0)\natexit.register(sys.exit, 3)",
    "faulthandler": "import faulthandler\nfaulthandler.disable()\nfaulthandler.unregister(signal.SIGUSR2)",
    "context": "import contextvars\ncontextvars.copy_context().run(lambda: KEPT.setdefault('context', contextvars.copy_context()))",
    "memory-error": (
        "import resource\npages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + (64 << 20)\nresource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try: bytearray(1 << 30)\nexcept MemoryError: pass"
    ),
    "no-new-descriptors": (
        "import resource\n_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))"
    ),
    "no-core": "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "another-user": "os.setgroups([])\nos.setgid(65534)\nos.setuid(65534)",
    "nice": "os.nice(10)",
    "sub-interpreter": (
        "try: import _xxsubinterpreters as interpreters\nexcept ImportError: import _interpreters as interpreters\n"
        "one = interpreters.create()\ninterpreters.run_string(one, 'found = sum(range(10))')\ninterpreters.destroy(one)"
    ),
    "sub-interpreter-with-the-server": (
        "try: import _xxsubinterpreters as interpreters\nexcept ImportError: import _interpreters as interpreters\n"
        "one = interpreters.create()\n"
        "try: interpreters.run_string(one, 'try:\\n    import arctos\\nexcept ImportError:\\n    pass')\n"
        "finally: interpreters.destroy(one)"
    ),
    "gevent": (
        "from gevent import monkey\nmonkey.patch_all()\nimport gevent\ngevent.sleep(0.01)\n"
        "assert gevent.spawn(lambda: time.sleep(0.01) or 7).get() == 7"
    ),
    "eventlet": (
        "import eventlet\neventlet.monkey_patch()\neventlet.sleep(0.01)\nassert eventlet.spawn(lambda: 7).wait() == 7"
    ),
    "asyncio": "import asyncio\nasync def main(): await asyncio.sleep(0.01)\nasyncio.run(main())",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GOES_ON)
def test_a_worker_goes_on(serve, name):
    if name == "another-user" and os.getuid() != 0:
        pytest.skip("only root can become another user")
    server = serve("misuse:app")
    before = worker(server)
    answer = ask(server, name, f"{GOES_ON[name]}\n{PID}")
    assert (answer.status, answer.body) == (200, str(before).encode()), server.log
    for _ in range(3):
        assert_serves(server)
    assert worker(server) == before, server.log
    server.stop(timeout=20)
    assert not server.events((WORKER_DIED, "worker.killed", "worker.panicked")), server.log


def test_a_worker_of_another_directory_is_replaced_where_the_server_is(serve):
    server = serve("misuse:app")
    where = "start_response('200 OK', [])\nreturn [os.getcwd().encode()]"
    before = ask(server, "where", where).body
    assert ask(server, "moves", f"os.chdir('/')\n{where}").body == b"/"
    with pytest.raises(Ended):
        ask(server, "exits", "os._exit(0)")
    server.wait_for(WORKER_READY, 2)
    assert ask(server, "where", where).body == before


# --- The worker is replaced ---

DIES = {
    "exit-0": ("os._exit(0)", "exit code 0"),
    "exit-7": ("os._exit(7)", "exit code 7"),
    "exit-in-a-thread": ("threading.Thread(target=os._exit, args=[7]).start()\ntime.sleep(60)", "exit code 7"),
    "abort": ("os.abort()", "SIGABRT"),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)", "SIGKILL"),
    "timer-without-handler": ("signal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(60)", "SIGALRM"),
    "segmentation-fault": ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "fatal-error": ("import ctypes\nctypes.pythonapi.Py_FatalError(b'on purpose')", "SIGABRT"),
    # glibc's regcomp(3) recurses for each parenthesis. CPython limits its own recursion, in each version differently.
    "c-stack-overflow": (
        "import ctypes\nctypes.CDLL(None).regcomp(ctypes.create_string_buffer(256), b'(' * (1 << 20), 1)",
        "SIGSEGV",
    ),
    "processor-time": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass",
        "SIGXCPU",
    ),
    "another-program": ("os.execv('/bin/false', ['false'])", "exit code 1"),
}


@pytest.mark.parametrize("name", DIES)
def test_a_worker_is_replaced(serve, name):
    code, status = DIES[name]
    server = serve("misuse:app")
    before = worker(server)
    with contextlib.suppress(Ended):  # the request has died within a second
        assert ask(server, name, code).status == 502
    died = server.wait_for((WORKER_DIED, WORKER_LEFT))
    assert (int(died.pairs["pid"]), died.pairs["status"], died.level) == (before, status, "WARNING" if name == "exit-0" else "ERROR")
    assert (died.pairs["method"], died.pairs["path"]) == ("GET", f"/{name}")
    server.wait_for(WORKER_READY, 2)
    assert_serves(server)


def test_a_worker_that_becomes_another_program_is_killed_as_hung(serve):
    server = serve("misuse:app", "--timeout", "1s", "--timeout-grace", "0")
    with pytest.raises(Ended):
        ask(server, "another-program", "os.execv('/bin/sleep', ['sleep', '3600'])")
    assert server.wait_for(WORKER_DIED).pairs["path"] == "/another-program"
    server.wait_for(WORKER_READY, 2)
    assert_serves(server)


def test_a_worker_without_memory_never_blocks_the_server(serve):
    """The application keeps what it has. The worker then answers as far as it can, or ends; `--max-rss` would replace it
    before that."""
    server = serve("misuse:app")
    exhausts = (
        "import resource\npages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize() + (64 << 20)\nresource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "held = KEPT['held'] = []\nsize = 1 << 20\n"
        "while size >= 64:\n    try: held.append(bytearray(size))\n    except MemoryError: size //= 2\nraise MemoryError"
    )
    with contextlib.suppress(Ended):
        assert ask(server, "exhausts", exhausts).status == 500
    statuses = set()
    for _ in range(20):
        with contextlib.suppress(Ended):
            statuses.add(ask(server, "pid", PID).status)
    assert statuses <= {200, 500}
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.events(WORKER_DIED) and server.worker_pids())
    assert_serves(server)


# --- Descriptors ---

WAYS = {
    "close": "os.close({fd})",
    "null": "os.dup2(os.open('/dev/null', os.O_RDWR), {fd})",
    "file": "os.dup2(os.memfd_create('a file'), {fd})",
    "pipe": "os.dup2(os.pipe()[0], {fd})",
    "socket": "import socket\nos.dup2(socket.socketpair()[0].detach(), {fd})",
}
# Which of the descriptors of a kind, in the order of their numbers, and what they are.
DESCRIPTORS = {
    "listener": "listening",
    "control-socket": "unix",
    "own-connection": "connection",
    "epoll": "anon_inode:[eventpoll]",
    "doorbells": "anon_inode:[eventfd]",
    "supervisor": "anon_inode:[pidfd]",
    "pipes": "pipe",
    "access-log": "access.log",
}
FIND = """
import socket, stat
def kind(fd):
    link = os.readlink(f'/proc/self/fd/{fd}')
    if link.startswith('socket:'):
        one = socket.socket(fileno=os.dup(fd))
        if one.family == socket.AF_UNIX: return 'unix'
        return 'listening' if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else 'connection'
    return 'pipe' if link.startswith('pipe:') else link.rsplit('/', 1)[-1]
own = [fd for fd in map(int, os.listdir('/proc/self/fd')) if fd > 2 and os.path.lexists(f'/proc/self/fd/{fd}')]
found = [fd for fd in own if kind(fd) == KIND]
assert found, KIND
"""


# What the log calls those whose loss a worker notices, and leaves because of it.
NOTICED = {"listener": "listener", "control-socket": "control socket", "doorbells": "doorbell"}


def assert_recovers(server):
    """Soon all requests are answered, and no worker spins."""

    def answers():
        try:
            return ask(server, "pid", PID).status == 200
        except (Ended, OSError):
            return False

    for _ in range(5):
        wait_until(answers)
    for pid in server.worker_pids():
        ticks, seconds = cpu_ticks(pid), 1
        time.sleep(seconds)  # it could spin meanwhile
        used_s = (cpu_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK")
        assert used_s < 0.3 * seconds, f"worker {pid} used {used_s} s"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", DESCRIPTORS)
@pytest.mark.parametrize("kept", [False, True], ids=["", "kept-connection"])
def test_a_server_recovers_when_its_descriptors_are_lost(serve, tmp_path, which, way, kept):
    """On a new connection, epoll does not watch the listener meanwhile; on a kept one, it does."""
    server = serve("misuse:app", "--access-logfile", tmp_path / "access.log", "--timeout", "10s")
    before = worker(server)
    code = f"KIND = {DESCRIPTORS[which]!r}\n{FIND}for fd in found:\n    {WAYS[way].format(fd='fd').replace(chr(10), chr(10) + '    ')}\n{PID}"
    with Wire(("127.0.0.1", server.port)) as wire:
        if kept:
            assert wire.get(target("pid", PID)).response().status == 200
        wire.get(target(which, code))
        try:
            assert wire.response().status == 200, server.log
        except (Ended, AssertionError):
            assert which == "own-connection", server.log
        if which in NOTICED:
            server.wait_for(DESCRIPTOR_LOST, pid=before, descriptor=NOTICED[which])
        if which in NOTICED or which == "epoll":
            server.wait_for((WORKER_LEFT, WORKER_DIED), pid=before)
            server.wait_for(WORKER_READY, 2)
        assert_recovers(server)
    server.stop(timeout=20)


NONE_FREE = """
import resource
for fd in found:
    os.dup2(os.memfd_create('a file'), fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""


@pytest.mark.parametrize("which", NOTICED)
def test_a_worker_that_can_open_nothing_survives_the_loss_of_a_descriptor(serve, which):
    server = serve("misuse:app", "--timeout", "10s")
    before = worker(server)
    with Wire(("127.0.0.1", server.port)) as other, Wire(("127.0.0.1", server.port)) as wire:
        other.send(f"POST {target('echo', ECHO)} HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbo")
        assert wire.get(target(which, f"KIND = {DESCRIPTORS[which]!r}\n{FIND}{NONE_FREE}{PID}")).response().status == 200
        server.wait_for(DESCRIPTOR_LOST, pid=before, descriptor=NOTICED[which])
        assert other.send("dy").response().body == b"4"
    server.wait_for(WORKER_LEFT, pid=before)
    assert_recovers(server)
    server.stop(timeout=20)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kept", [False, True], ids=["", "kept-connection"])
def test_a_server_recovers_when_all_descriptors_are_closed(serve, workers, kept):
    """As a library does that turns its process into a daemon."""
    server = serve("misuse:app", "--timeout", "10s", workers=workers)
    with Wire(("127.0.0.1", server.port)) as wire:
        if kept:
            assert wire.get(target("pid", PID)).response().status == 200
        with pytest.raises(Ended):
            wire.get(target("closes-all", f"os.closerange(3, 256)\n{PID}")).response()
    server.wait_for(WORKER_DIED)
    server.wait_for(WORKER_READY, workers + 1)
    assert_recovers(server)
    assert_serves(server)
    server.stop(timeout=20)


LOST_DIRECTORY = """
import os

def app(environ, start_response):
    root, other = environ["QUERY_STRING"].split(",")
    links = {int(name): f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    (fd,) = [fd for fd, link in links.items() if os.path.exists(link) and os.readlink(link) == root]
    os.dup2(os.open(other, os.O_RDONLY | os.O_DIRECTORY), fd)
    start_response("200 OK", [])
    return [b"replaced"]
"""


def test_no_file_of_another_directory_is_served_in_place_of_a_lost_one(serve, tmp_path):
    (tmp_path / "application.py").write_text(LOST_DIRECTORY)
    for name in ("public", "private"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    server = serve("application:app", "--static", f"/static={tmp_path}/public", cwd=tmp_path).ready()
    (before,) = server.worker_pids()
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get("/static/file").response().body == b"public"
        assert wire.get(f"/?{tmp_path}/public,{tmp_path}/private").response().body == b"replaced"
        server.wait_for(DESCRIPTOR_LOST, pid=before, descriptor="directory of static files")
        try:
            assert wire.get("/static/file").response().status == 500
        except (Ended, OSError):
            pass  # The worker has left.
        server.wait_for(WORKER_READY, 2)
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get("/static/file").response().body == b"public"
    server.stop(timeout=20)
