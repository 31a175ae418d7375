"""What the page asks of the server that it came from: the state of its workers, a killed worker, a deployment.

`scripts/serve` runs this file before the server. It makes a private directory and prints its path, which the
workers find in `DEMO_DIRECTORY`:

| file | contents |
|---|---|
| `admin.sock` | the server's admin socket |
| `token` | proves that a command comes from the page of this start |
| `release.py` | the code that the page deploys: a version number |

Whoever reaches the server may look. A command is accepted only from the page itself, in a browser on the same
machine: no other web page and no other host may kill workers.
"""

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import os
import runpy
import secrets
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

LOOK_SECONDS = 2
RELOAD_SECONDS = 20
FRESH_SECONDS = 60  # a server that has just been started may not listen yet
LONGEST_BASE = 64  # bytes: the path of a unix socket can have 107
FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP", "HTTP_VIA")
WORKER_KEYS = ("slot", "pid", "generation", "state", "age_s", "restarts", "request", "requests", "rss_bytes")
RELEASE = """# The code that the demonstration deploys.
VERSION = {version}
"""
BROKEN = """# The code that the demonstration deploys, with a mistake.
VERSION = {version}
def answer(:
"""


class Refused(Exception):
    """The server, or this module, does not do what was asked; the text says why."""


class Control:
    """The server of this process, as far as the demonstration may look at it and change it."""

    def __init__(self, directory):
        self.directory = None
        self.token = ""
        self.version = 1
        if directory:
            # Something that cleans up temporary files may have removed it, and the worker may run as another user. The
            # page then only looks.
            with contextlib.suppress(OSError):
                self.token = (Path(directory) / "token").read_text()
                self.directory = Path(directory)
        if self.directory is not None:
            # Like an import: a mistake in the file fails the start of the worker.
            self.version = self._version_on_disk()

    # --- Who may do what ---

    def refusal(self, environ):
        """Why the sender of a request may look but not change anything, or `None`."""
        if self.directory is None:
            return "Start the server by scripts/serve to kill workers and to deploy."
        # Unless it is configured otherwise, nginx sends HTTP/1.0 and the Host of its upstream, and names no client.
        is_proxied = environ["SERVER_PROTOCOL"] == "HTTP/1.0" or any(name in environ for name in FORWARDED)
        if is_proxied or not _is_loopback(environ.get("REMOTE_ADDR", "")):
            return "Only a browser on the server's own machine may kill workers and deploy."
        # A foreign name that resolves to this machine would make a foreign page look like this one.
        host = _host_name(environ.get("HTTP_HOST", ""))
        if host != "localhost" and not _is_loopback(host):
            return "Open the page as 127.0.0.1 or localhost to kill workers and to deploy."
        return None

    def require_command(self, environ):
        """Raises `Refused` unless the request is a command of the page of this start."""
        if (why := self.refusal(environ)) is not None:
            raise Refused(why)
        own = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}"
        if environ.get("HTTP_ORIGIN", own) != own or environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin":
            raise Refused("Another web page sent this command.")
        given = environ.get("HTTP_X_DEMO_TOKEN", "")
        if not hmac.compare_digest(given.encode("latin-1"), self.token.encode()):
            raise Refused("The token is missing, or belongs to an earlier start of the server. Reload the page.")

    # --- Looking ---

    def status(self):
        """What the page shows: less than `/status` of the admin socket, and nothing secret."""
        full = self._full_status()
        workers = [{key: worker[key] for key in WORKER_KEYS} for worker in full["workers"]]
        for worker in workers:
            if worker["pid"] == os.getpid():
                worker["request"] = None  # It is the request for this status.
        reload = {key: value for key, value in full["reload"].items() if key != "report"}
        start = hashlib.sha256(self.token.encode()).hexdigest()[:12]
        return {"start": start, "generation": full["generation"], "reload": reload, "workers": workers}

    def _full_status(self):
        status, body = self._ask("GET", "/status", LOOK_SECONDS)
        if status != 200:
            raise Refused(f"The admin socket answered {status}.")
        return json.loads(body)

    # --- Changing ---

    def kill(self, pid):
        """Kills a worker, which must not be the one of this process. Raises `Refused` for any other process."""
        try:
            process = os.pidfd_open(pid)
        except (ProcessLookupError, ValueError, OverflowError):
            raise Refused(f"There is no process {pid}.") from None
        except (AttributeError, OSError):  # Neither every Python nor every sandbox has this call.
            process = None
        try:
            # The status is read after the descriptor was opened, so that the number cannot name another process by now.
            self.require_worker(pid)
            with contextlib.suppress(ProcessLookupError):  # It was faster.
                if process is None:
                    os.kill(pid, signal.SIGKILL)
                else:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            if process is not None:
                os.close(process)

    def require_worker(self, pid):
        """Raises `Refused` unless the process is a worker of this server."""
        if pid not in [worker["pid"] for worker in self._full_status()["workers"]]:
            raise Refused(f"Process {pid} is no worker of this server.")

    def deploy(self):
        """Writes the next version and starts a reload. Returns the version."""
        version = self._version_on_disk() + 1
        self._write(RELEASE, version)
        status, text = self._ask("POST", "/reload", LOOK_SECONDS)
        if status != 202:
            raise Refused(text.strip())
        return {"version": version}

    def deploy_broken(self):
        """Writes a version that cannot be imported, waits for the end of the reload, and restores the previous one."""
        version = self._version_on_disk()
        self._write(BROKEN, version + 1)
        try:
            status, text = self._ask("POST", "/reload?wait=1", RELOAD_SECONDS)
        finally:
            self._write(RELEASE, version)
        outcome, _, report = text.partition("\n")
        return {"version": version + 1, "has_failed": status != 200, "outcome": outcome, "report": report}

    def _version_on_disk(self):
        return runpy.run_path(str(self.directory / "release.py"))["VERSION"]

    def _write(self, text, version):
        _write_atomically(self.directory / "release.py", text.format(version=version))

    def _ask(self, method, target, seconds):
        if self.directory is None:
            raise Refused("Start the server by scripts/serve to see its workers.")
        connection = _UnixConnection(str(self.directory / "admin.sock"), seconds)
        try:
            connection.request(method, target)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Refused(f"The admin socket cannot be reached: {error}.") from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, seconds):
        super().__init__("localhost", timeout=seconds)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _host_name(field):
    try:
        return urlsplit(f"//{field}").hostname or ""
    except ValueError:  # half an IPv6 address
        return ""


def _is_loopback(address):
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _write_atomically(path, text):
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(text)
    written.rename(path)


# --- The private directory ---


def prepare():
    """Makes the directory of one start, and removes those of servers that are gone."""
    own = _own_directory()
    for old in own.iterdir():
        if _is_over(old):
            shutil.rmtree(old, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(dir=own, prefix=""))
    with open(os.open(directory / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as token:
        token.write(secrets.token_hex(16))
    _write_atomically(directory / "release.py", RELEASE.format(version=1))
    return directory


def _own_directory():
    """The directory in which this user's servers have theirs."""
    name = f"arctos-demo-{os.getuid()}"
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if not base or len(os.fsencode(base)) > LONGEST_BASE:
            continue
        own = Path(base) / name
        try:
            own.mkdir(mode=0o700, exist_ok=True)
            found = own.lstat()
        except OSError:
            continue
        # In a directory for everybody, somebody else may have taken the name.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return own
    return Path(tempfile.mkdtemp(prefix=f"{name}-"))


def _is_over(directory):
    """Whether nobody listens at the socket of this directory any more."""
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.settimeout(LOOK_SECONDS)
        probe.connect(str(directory / "admin.sock"))
        return False
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return time.time() - directory.lstat().st_mtime > FRESH_SECONDS
    except OSError:
        return False
    finally:
        probe.close()


if __name__ == "__main__":
    try:
        print(prepare())
    except OSError as why:
        sys.exit(f"no private directory for the demonstration: {why}")
