"""nginx and HAProxy as they run in front of a server, each with a configuration of its own."""

import shutil
import subprocess

import pytest

from support.ports import free_port
from support.waiting import wait_until
from support.wire import Wire

NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr;
events {{}}
{stream}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {http}
}}
"""
HAPROXY = """
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
{sections}
"""


class Proxy:
    """A running proxy."""

    def __init__(self, command, port):
        self.port = port
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def __enter__(self):
        wait_until(self._accepts)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _accepts(self):
        assert self.process.poll() is None, "the proxy has left"
        try:
            with Wire(("127.0.0.1", self.port)):
                return True
        except OSError:
            return False


def keeping_connections(server):
    """The contents of `http` for an nginx that passes requests to this server on connections that it keeps."""
    return """
    upstream arctos { server 127.0.0.1:%d; keepalive 16; }
    server {
        listen 127.0.0.1:{port};
        location / { proxy_pass http://arctos; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }""" % server.port


def nginx(directory, http, stream=""):
    """Starts nginx with these contents of `http`, in which `{port}` is the port that it listens at."""
    program = _program("nginx")
    port = free_port()
    directory.mkdir()
    http = http.replace("{port}", str(port))
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, http=http, stream=stream))
    return Proxy([program, "-p", directory, "-c", config, "-e", "stderr"], port)


def haproxy(directory, sections):
    """Starts HAProxy with these sections, in which `{port}` is the port that it listens at."""
    program = _program("haproxy")
    port = free_port()
    directory.mkdir()
    config = directory / "haproxy.cfg"
    config.write_text(HAPROXY.format(sections=sections.replace("{port}", str(port))))
    return Proxy([program, "-db", "-f", config], port)


def _program(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found
