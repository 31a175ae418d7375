"""The clients of scripts/endure: one that measures how long its requests take, and those of the mixed load."""

import random
import socket
import struct
import threading
import time
from statistics import quantiles

from endure_server import Failed

HELLO = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"\r\n\r\nhello"
BATCH = 5  # requests that are sent at once
# Each is refused, with this status, and the connection is closed.
MALFORMED = [
    (b"GET /\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX y: b\r\n\r\n", b"400"),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"505"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 9000 + b"\r\n\r\n", b"431"),
    (b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999\r\n\r\n", b"413"),
]


class Times(list):
    """Times of requests, in ms."""

    def __str__(self):
        if len(self) < 2:
            return f"{len(self)} requests"
        cuts = quantiles(self, n=1000)
        return (
            f"{len(self)} requests: p50 {cuts[499]:.2f} ms, p99 {cuts[989]:.2f} ms, "
            f"p99.9 {cuts[998]:.2f} ms, max {max(self):.2f} ms"
        )


class Visitor:
    """A normal client: in turn on a connection that it keeps and on a new one, until it is stopped."""

    def __init__(self, server, pause_s=0.01):
        self.server, self.pause_s = server, pause_s
        self.times, self.failures = Times(), []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._visit)

    def _visit(self):
        kept = None
        while not self._enough.wait(self.pause_s):
            try:
                begun = time.perf_counter()
                kept = kept or self.server.connect()
                hello(kept)
                between = time.perf_counter()
                with self.server.connect() as new:
                    hello(new)
                self.times += [(between - begun) * 1000, (time.perf_counter() - between) * 1000]
            except (OSError, Failed) as error:
                self.failures.append(repr(error))
                kept = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._enough.set()
        self._thread.join()


def hello(connection):
    """Sends one request, and reads its response."""
    connection.sendall(HELLO)
    answer = b""
    while not answer.endswith(ANSWER):
        piece = connection.recv(4096)
        if not piece:
            raise Failed(f"the server closed the connection after {answer!r}")
        answer += piece


def sequential(server, count):
    """Sends requests one after the other on one connection. Returns their times, and the requests per second."""
    times = Times()
    with server.connect() as connection:
        hello(connection)
        first = time.perf_counter()
        for _ in range(count):
            begun = time.perf_counter()
            hello(connection)
            times.append((time.perf_counter() - begun) * 1000)
        return times, count / (time.perf_counter() - first)


# How often each kind of client of the mixed load comes, by the name of its method.
SHARES = {
    "batch": 16,
    "upload": 4,
    "chunks": 2,
    "malformed": 4,
    "reset_in_request": 3,
    "reset_in_response": 2,
    "half_close": 1,
    "raises": 1,
    "breaks": 1,
    "stream": 1,
    "garbage": 1,
    "encrypted_batch": 2,
    "broken_handshake": 1,
}
KINDS = list(SHARES)


class Crowd:
    """One process of the mixed load. Each method is one kind of client, and returns the number of its requests."""

    def __init__(self, servers, seed):
        self.plain, self.encrypted = servers
        self.random = random.Random(seed)
        self.kept = None
        self.unexpected = []
        need_tls = {"encrypted_batch", "broken_handshake"}
        self.kinds = [kind for kind in KINDS if self.encrypted or kind not in need_tls]
        self.weights = [SHARES[kind] for kind in self.kinds]

    def act(self):
        """Is one client. Returns its kind, and the number of its requests."""
        (kind,) = self.random.choices(self.kinds, self.weights)
        try:
            return kind, getattr(self, kind)()
        except (OSError, Failed) as error:
            self.unexpected.append(f"{kind}: {error!r}")
            return kind, 1

    def rest(self):
        """Closes what is kept."""
        if self.kept:
            self.kept.close()
        self.kept = None

    def connect(self, server=None):
        own_address = f"127.0.{self.random.randrange(1, 200)}.{self.random.randrange(1, 255)}"
        return (server or self.plain).connect(own_address=own_address)

    def batch(self):
        """Requests in one go, on a connection that is kept. The server may close it meanwhile, in a reload."""
        answered = 0
        while answered < BATCH:
            is_new = self.kept is None
            self.kept = self.kept or self.connect()
            count = answers(self.kept, BATCH - answered)
            answered += count
            if answered < BATCH:
                self.rest()
                if is_new and count == 0:
                    raise Failed("no answer on a new connection")
        return answered

    def encrypted_batch(self):
        with self.connect(self.encrypted) as connection:
            count = answers(connection, BATCH)
        # A reload may end the connection after any response.
        if count == 0:
            raise Failed("no answer")
        return count

    def broken_handshake(self):
        """A client that leaves in the middle of its handshake, or never begins one."""
        context, self.encrypted.tls = self.encrypted.tls, None
        try:
            with self.connect(self.encrypted) as connection:
                connection.sendall(self.random.choice([b"", HELLO, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]))
                if self.random.random() < 0.5:
                    reset(connection)
        finally:
            self.encrypted.tls = context
        return 1

    def upload(self):
        """Up to 100 kB; sometimes more than is kept in memory."""
        length = self.random.randrange(1 << 20) if self.random.random() < 0.05 else self.random.randrange(100_000)
        head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length
        return self.exchange(head + bytes(length), b"200", b"%d bytes" % length)

    def chunks(self):
        sizes = [self.random.randrange(1, 20_000) for _ in range(self.random.randrange(1, 6))]
        body = b"".join(b"%x\r\n%s\r\n" % (size, bytes(size)) for size in sizes)
        head = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        return self.exchange(head + body + b"0\r\n\r\n", b"200", b"%d bytes" % sum(sizes))

    def malformed(self):
        return self.exchange(*self.random.choice(MALFORMED))

    def garbage(self):
        return self.exchange(b"\x16\x03\x01" + self.random.randbytes(200) + b"\r\n\r\n", b"400")

    def raises(self):
        return self.exchange(b"GET /raise HTTP/1.1\r\nHost: a\r\n\r\n", b"500")

    def breaks(self):
        """The application fails in the middle: the client must see that, and not a complete response."""
        with self.connect() as connection:
            connection.sendall(b"GET /breaks HTTP/1.1\r\nHost: a\r\n\r\n")
            length = 0
            try:
                while piece := connection.recv(65536):
                    length += len(piece)
            except ConnectionResetError:
                pass
        if length >= 100_000:
            raise Failed("a broken response is complete")
        return 1

    def stream(self):
        return self.exchange(b"GET /stream HTTP/1.0\r\n\r\n", b"200", b"y" * 16384 * 8)

    def half_close(self):
        with self.connect() as connection:
            connection.sendall(HELLO)
            connection.shutdown(socket.SHUT_WR)
            if not everything(connection).endswith(ANSWER):
                raise Failed("no answer after a half-close")
        return 1

    def reset_in_request(self):
        with self.connect() as connection:
            whole = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(4999)
            connection.sendall(whole[: self.random.randrange(len(whole))])
            reset(connection)
        return 1

    def reset_in_response(self):
        with self.connect() as connection:
            connection.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.recv(self.random.randrange(1, 50_000))
            reset(connection)
        return 1

    def exchange(self, request, status, end=b""):
        """Sends a request on a connection of its own, and checks the status and the end of the response."""
        with self.connect() as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # It was refused before its end.
            answer = everything(connection)
        if answer.split(b" ", 2)[1:2] != [status] or not answer.endswith(end):
            raise Failed(f"{request[:60]!r}: {answer[:100]!r}")
        return 1


def answers(connection, count):
    """Sends requests at once, and returns how many were answered before the server closed the connection."""
    answer = b""
    try:
        connection.sendall(HELLO * count)
        while answer.count(ANSWER) < count and (piece := connection.recv(65536)):
            answer += piece
    except (BrokenPipeError, ConnectionResetError):
        pass
    return answer.count(ANSWER)


def everything(connection):
    """Reads to the end of the stream, or to a reset, which follows a refusal if the server has not read everything."""
    answer = []
    try:
        while piece := connection.recv(65536):
            answer.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(answer)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
