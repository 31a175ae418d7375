"""The demonstration application of scripts/serve."""

import hashlib
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import requests
from support.browser import why_not
from support.demo import DEMO, short_directory
from support.server import PATIENCE_S, Server, clean_environment


@pytest.fixture(scope="module")
def demo():
    with Server("demo:app", workers=2, cwd=DEMO) as server:
        yield server


def test_the_page_shows_the_environ_and_hides_credentials(demo):
    page = requests.get(
        demo.url, headers={"Authorization": "Basic hunter2", "Cookie": "a=hunter3", "X-Shown": "<shown>"}
    )
    assert page.status_code == 200
    assert "HTTP_AUTHORIZATION" in page.text and "HTTP_COOKIE" in page.text
    assert "hunter2" not in page.text and "hunter3" not in page.text
    assert "&lt;shown&gt;" in page.text and "<shown>" not in page.text


def test_an_upload_is_measured_and_hashed(demo):
    body = b"\r\n--" + os.urandom(1_000_000) + b"\r\n--"
    page = requests.post(f"{demo.url}/upload", data={"before": "1"}, files={"file": ("a <b>.bin", body)})
    assert hashlib.sha256(body).hexdigest() in page.text and f"{len(body)} bytes" in page.text
    assert "a &lt;b&gt;.bin" in page.text


def test_a_form_without_a_file_is_answered_400(demo):
    assert requests.post(f"{demo.url}/upload", data={"a": "b"}).status_code == 400
    assert requests.post(f"{demo.url}/upload", files={"other": (None, b"x")}).status_code == 400


def test_the_streamed_response_arrives_in_pieces(demo, connect):
    wire = connect(demo)
    wire.get("/ticks")
    head = wire.until(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    wire.until(b" 1 of 10")
    assert b" 2 of 10" not in wire.held
    assert b"The end." in wire.until(b"0\r\n\r\n")


def test_the_download_is_whole(demo):
    answer = requests.get(f"{demo.url}/download")
    assert len(answer.content) == int(answer.headers["Content-Length"]) == 32 * 2**20


@pytest.mark.parametrize("path", ["/", "/worker", "/fast", "/style.css", "/live.js", "/bear.svg"])
def test_every_page_answers_head_and_refuses_other_methods(demo, path):
    assert requests.head(demo.url + path).status_code == 200
    assert requests.delete(demo.url + path).status_code == 405


def test_the_page_is_small_and_names_no_other_host(demo):
    parts = [requests.get(demo.url + path).text for path in ("/", "/style.css", "/live.js", "/bear.svg")]
    assert sum(len(part.encode()) for part in parts) < 60_000
    named = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", "".join(parts)))
    assert named <= {"http://www.w3.org", "http://127.0.0.1"}, named


@pytest.fixture
def base():
    with short_directory() as path:
        yield path


def test_the_script_listens_where_the_platform_says(serve, base, tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "serve").write_text((DEMO.parent / "serve").read_text())
    (scripts / "install").write_text("#!/bin/sh\n")  # so that nothing is built
    for script in scripts.iterdir():
        script.chmod(0o755)
    (scripts / "demo").symlink_to(DEMO)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    server = serve(
        None, command=[scripts / "serve"], bind=[], workers=None, env={"PORT": "0", "XDG_RUNTIME_DIR": str(base)}
    )
    assert server.addresses[0].startswith("http://0.0.0.0:") and server.port != 8000
    # It finds its own server: the script has made the directory and the admin socket.
    workers = requests.get(f"{server.url}/status").json()["workers"]
    assert len(workers) == 4 and {worker["pid"] for worker in workers} == set(server.worker_pids())


def test_an_unknown_page_is_404(demo):
    assert requests.get(f"{demo.url}/nowhere").status_code == 404


@pytest.mark.parametrize("name", ["top.svg", "page.png"])
def test_the_pictures_of_readme_come_from_a_real_run(name, tmp_path):
    if name == "page.png" and (why := why_not()):
        pytest.skip(why)
    command = [sys.executable, DEMO / "pictures.py", "--only", name[:-4], "--directory", tmp_path, "--seconds", "2"]
    subprocess.run(command, env=clean_environment(), check=True, timeout=PATIENCE_S)
    made = tmp_path / name
    if name == "page.png":
        size = slice(16, 24)  # width and height, in the head of a PNG
        assert made.read_bytes()[size] == (DEMO / name).read_bytes()[size]
    else:
        shown = ElementTree.parse(made).getroot()
        assert shown.tag == ElementTree.parse(DEMO / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        text = " ".join(shown.itertext()).replace("\xa0", " ")
        assert "4 of 4 ready" in text and "GET /" in text
