"""Certificates are read again by reloads and upgrades, and keys only by the supervisor."""

import os
import pwd
import shutil
import signal
import ssl
import tempfile
import threading
from pathlib import Path

import pytest
from support.certificates import TlsWire, certificate, client
from support.server import PATIENCE_S
from support.waiting import wait_until


def installed(directory, pair):
    """Puts a pair where the server expects it, each file at once."""
    for made, name in ((pair.certificate, "live.pem"), (pair.key, "live.key")):
        shutil.copy(made, directory / "new")
        (directory / "new").chmod(0o600)
        (directory / "new").rename(directory / name)


def served(server, trusted):
    """Whether the server has the certificate that a client trusts."""
    context = client(trusted)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with TlsWire(server.port, context) as wire:
        return wire.socket.getpeercert(binary_form=True) == der(trusted)


def der(pair):
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


@pytest.fixture
def pairs(tmp_path):
    both = [certificate(tmp_path, name, "localhost") for name in ("old", "new")]
    installed(tmp_path, both[0])
    return both


def live(tmp_path):
    return ("--certfile", tmp_path / "live.pem", "--keyfile", tmp_path / "live.key")


class Clients:
    """Clients that trust two certificates and open a connection for each of their requests, or keep one."""

    def __init__(self, server, pairs, count=4):
        self.server, self.failures, self.answered = server, [], 0
        self.context = client(pairs[0])
        self.context.load_verify_locations(str(pairs[1].certificate))
        self._over, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self):
        while not self._over.is_set():
            try:
                with TlsWire(self.server.port, self.context) as wire:
                    for _ in range(5):
                        answer = wire.get("/slow?ms=2").response()
                        assert answer.status == 200 and answer.is_whole
                        with self._lock:
                            self.answered += 1
                        if answer.field("Connection") == "close":
                            break
            except Exception as error:
                self.failures.append(repr(error))

    def wait_for_more(self, count=20):
        before = self.answered
        wait_until(lambda: self.answered >= before + count or self.failures)


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
def test_a_reload_serves_the_new_certificate_and_loses_no_request(serve, tmp_path, pairs, preload):
    server = serve("plain:app", *live(tmp_path), *preload, workers=2).ready()
    assert served(server, pairs[0])
    with Clients(server, pairs) as clients:
        clients.wait_for_more()
        installed(tmp_path, pairs[1])
        server.send(signal.SIGHUP)
        server.wait_for("reload.done")
        clients.wait_for_more()
    assert clients.failures == []
    assert served(server, pairs[1])


def test_a_reload_with_a_bad_pair_is_refused_and_changes_nothing(serve, tmp_path, pairs):
    server = serve("plain:app", *live(tmp_path), workers=2).ready()
    workers = server.worker_pids()
    (tmp_path / "live.key").write_bytes(pairs[1].key.read_bytes())
    with Clients(server, pairs) as clients:
        clients.wait_for_more()
        server.send(signal.SIGHUP)
        assert "is not the key of the certificate" in server.wait_for("reload.refused").pairs["reason"]
        server.wait_for("reload.failed")
        (tmp_path / "live.pem").unlink()
        server.send(signal.SIGHUP)
        assert "No such file" in server.wait_for("reload.refused", count=2).pairs["reason"]
        clients.wait_for_more()
    assert clients.failures == []
    assert served(server, pairs[0]) and server.worker_pids() == workers


def test_a_crashed_worker_is_replaced_although_the_files_are_gone(serve, tmp_path, pairs):
    server = serve("plain:app", *live(tmp_path), workers=1).ready()
    (tmp_path / "live.pem").unlink()
    (tmp_path / "live.key").unlink()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for("worker.ready", count=2)
    assert served(server, pairs[0])


def test_tls_is_turned_off_by_a_restart_only(serve, tmp_path, pairs):
    file = tmp_path / "arctos.toml"
    file.write_text(f'certfile = ["{tmp_path}/live.pem"]\nkeyfile = ["{tmp_path}/live.key"]\n')
    server = serve("plain:app", "--config", file).ready()
    file.write_text("")
    server.send(signal.SIGHUP)
    assert server.wait_for("reload.needs_restart").pairs["option"] == "--certfile"
    server.wait_for("reload.done")
    assert served(server, pairs[0])


def test_an_upgrade_reads_the_files_again(serve_upgradable, tmp_path, pairs):
    server = serve_upgradable("plain:app", *live(tmp_path), workers=1).ready()
    installed(tmp_path, pairs[1])
    server.send(signal.SIGUSR2)
    wait_until(lambda: served(server, pairs[1]))


NOBODYS = """
import os

def app(environ, start_response):
    try:
        open(environ["QUERY_STRING"]).close()
        answer = "readable"
    except PermissionError:
        answer = "not readable"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{answer} by {os.getuid()}".encode()]
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run workers as another user")
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
def test_workers_of_another_user_serve_with_a_key_that_only_root_can_read(serve, tmp_path, pairs, preload):
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        (directory / "nobodys.py").write_text(NOBODYS)
        key = tmp_path / "live.key"
        server = serve("nobodys:app", *live(tmp_path), *preload, "--user", "nobody", "--chdir", directory).ready()
        for pair in pairs:
            installed(tmp_path, pair)
            assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (0, 0o600)
            since = server.position()
            server.send(signal.SIGHUP)
            server.wait_for("reload.done", since=since)
            with TlsWire(server.port, client(pair)) as wire:
                assert wire.get(f"/?{key}").response().body == f"not readable by {pwd.getpwnam('nobody').pw_uid}".encode()
        assert server.events("keyfile.exposed") == []
    finally:
        shutil.rmtree(directory)
