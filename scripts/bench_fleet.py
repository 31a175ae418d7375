"""Servers with several workers for `bench latency`, alone or behind a proxy."""

import contextlib
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple

from bench_open_loop import REQUEST, complete
from bench_session import START_SECONDS, Failed, Session, free_port

SCRIPTS = Path(__file__).resolve().parent
APPLICATION = "bench_apps:sleep"
KEPT_S = 75  # for which a server keeps an idle connection: longer than any connection of a pool is idle
CLOSING = "Connection: close\r\n"

# Each worker runs one request at a time.
COMMANDS = {
    "arctos-sticky": "{python} -m arctos --keepalive-mode sticky {arctos}",
    "arctos-shared": "{python} -m arctos --keepalive-mode shared {arctos}",
    "arctos-auto": "{python} -m arctos --keepalive-mode auto {arctos}",
    "gunicorn": "{python} -m gunicorn --worker-class gthread --threads 1 --bind 127.0.0.1:{port} --workers {workers}"
    " --worker-connections 2000 --keep-alive {kept_s} --log-level error {app}",
    "granian": "{python} -m granian --host 127.0.0.1 --port {port} --workers {workers} --interface wsgi --http 1 --no-ws"
    " --blocking-threads 1 --runtime-threads 1 --log-level error {app}",
    # A separate process, the router, speaks HTTP with the clients.
    "uwsgi": "{programs}/uwsgi --http 127.0.0.1:{port} --http-keepalive={kept_s} --master --processes {workers}"
    " --need-app --die-on-term --disable-logging --module {app}",
    "peregrine": "{python} -m peregrine --host 127.0.0.1 --port {port} --workers {workers} --protocol wsgi"
    " --keep-alive {kept_s}000 {app}",
}
ARCTOS = "--bind 127.0.0.1:{port} --workers {workers} --keep-alive {kept_s}s --log-level error {app}"

# Neither repeats a request that the server has lost.
NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_timeout {kept_s}s;
    keepalive_requests 10000000;
    upstream workers {{
        server 127.0.0.1:{upstream};
        {keepalive}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://workers;
            proxy_http_version 1.1;
            proxy_set_header Connection {connection};
            proxy_next_upstream off;
        }}
    }}
}}
"""
HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client {kept_s}s
    timeout server {kept_s}s
    retries 0
    option {option}
    http-reuse {reuse}
frontend clients
    bind 127.0.0.1:{port}
    default_backend workers
backend workers
    server arctos 127.0.0.1:{upstream} {pool}
"""
PROXIES = ("nginx", "haproxy")
EXTRA_PATH = "/usr/sbin:/usr/local/sbin"


class Connections(NamedTuple):
    """How a client connects: on a pool of kept connections, or on a new one for each request (`pool` is None)."""

    pool: int | None

    def __str__(self):
        return str(self.pool or "new")


def split(name):
    """Returns the proxy (or None) and the server of `PROXY/SERVER` or `SERVER`."""
    proxy, _, server = name.rpartition("/")
    return proxy or None, server


def is_known(name):
    proxy, server = split(name)
    return server in COMMANDS and proxy in (None, *PROXIES)


def command(server, python, port, workers):
    """Returns the command line of a server."""
    words = dict(python=python, programs=Path(python).parent, port=port, workers=workers, kept_s=KEPT_S, app=APPLICATION)
    return COMMANDS[server].format(**words, arctos=ARCTOS.format(**words)).split()


def missing(name, python):
    """Returns what is missing for a server, or None."""
    proxy, server = split(name)
    if proxy and not program(proxy):
        return f"{proxy} (Debian, Ubuntu: apt-get install {proxy})"
    first, *rest = command(server, python, 0, 0)
    if rest[0] != "-m":
        return None if os.access(first, os.X_OK) else first
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({rest[1]!r}) is None)"
    return None if os.spawnv(os.P_WAIT, first, [first, "-c", probe]) == 0 else f"{rest[1]} for {python}"


def program(name):
    return shutil.which(name) or shutil.which(name, path=EXTRA_PATH)


class Fleet(Session):
    """A running server whose workers have all answered."""

    def __init__(self, server, python, workers, directory):
        self.workers = workers
        port = free_port()
        super().__init__(
            command(server, python, port, workers),
            port,
            directory / f"{server}.log",
            environment={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(SCRIPTS)},
            cwd=directory,
            patience=3,
        )

    def check(self):
        """Waits until each worker has answered."""
        deadline, seen = time.monotonic() + START_SECONDS * self.patience, set()
        while len(seen) < self.workers:
            if time.monotonic() > deadline:
                raise Failed(f"only {len(seen)} of {self.workers} workers answer, see {self.log}")
            askers = [threading.Thread(target=lambda: seen.add(ask(self.port))) for _ in range(4 * self.workers)]
            for asker in askers:
                asker.start()
            for asker in askers:
                asker.join()
            seen.discard(None)


def ask(port, service_us=5000):
    """Returns the body of one response, or None if there is none."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        client.sendall(REQUEST.format(service_us, CLOSING).encode())
        received = b"".join(iter(lambda: client.recv(65536), b""))
        if (response := complete(received)) and response.status == 200:
            return received.rpartition(b"\r\n")[2]
    return None


class Proxy(Session):
    """A proxy in front of a server. It keeps as many connections to the server as its client keeps to it."""

    def __init__(self, name, upstream, connections, directory):
        port, pool = free_port(), connections.pool
        words = dict(directory=directory, port=port, upstream=upstream, kept_s=KEPT_S)
        config = directory / f"{name}.conf"
        if name == "nginx":
            keepalive = f"keepalive {pool}; keepalive_timeout {KEPT_S}s; keepalive_requests 10000000;" if pool else ""
            config.write_text(NGINX.format(**words, keepalive=keepalive, connection='""' if pool else "close"))
            arguments = ["-p", directory, "-c", config, "-e", "stderr"]
        else:
            words["option"] = "http-keep-alive" if pool else "http-server-close"
            words["pool"] = f"maxconn {pool} pool-max-conn {pool} pool-purge-delay {KEPT_S}s" if pool else ""
            config.write_text(HAPROXY.format(**words, reuse="always" if pool else "never"))
            arguments = ["-db", "-f", config]
        super().__init__([program(name), *arguments], port, directory / f"{name}.log")

    def check(self):
        if ask(self.port, 0) is None:
            raise Failed(f"does not pass requests on, see {self.log}")


@contextlib.contextmanager
def running(name, connections, python, workers, directory):
    """Runs a server, perhaps behind a proxy. Yields the port for the client."""
    proxy, server = split(name)
    with Fleet(server, python, workers, directory) as fleet:
        if not proxy:
            yield fleet.port
            return
        with Proxy(proxy, fleet.port, connections, directory) as before:
            yield before.port
