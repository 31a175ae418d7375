"""Real applications of four frameworks, each on two workers, with requests, http.client and curl as clients."""

import hashlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from support.server import APPS, Server, clean_environment

CLIENTS = 16
UPLOAD = os.urandom(300_000)
UPLOAD_SHA256 = hashlib.sha256(UPLOAD).hexdigest()


@pytest.fixture(scope="module")
def flask():
    with Server("flask_app:app", workers=2) as server:
        yield server


@pytest.fixture(scope="module")
def falcon():
    with Server("falcon_app", workers=2) as server:
        yield server


@pytest.fixture(scope="module")
def bottle():
    with Server("bottle_app:app", workers=2) as server:
        yield server


@pytest.fixture(scope="module")
def django(tmp_path_factory):
    directory = tmp_path_factory.mktemp("django")
    environment = {"DJANGO_PROJECT_DIRECTORY": str(directory), "DJANGO_SETTINGS_MODULE": "django_project.settings"}
    for command in (["migrate"], ["collectstatic", "--noinput"]):
        subprocess.run(
            [sys.executable, "-m", "django", *command, "--verbosity", "0"],
            cwd=APPS, env={**clean_environment(), **environment}, check=True, timeout=120,
        )  # fmt: skip
    with Server("django_project.wsgi", workers=2, env=environment) as server:
        yield server


def curl(*arguments):
    """Returns the output of curl."""
    return subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], check=True, capture_output=True).stdout


def in_chunks(url, **content):
    """Sends a POST whose body, as requests encodes it, goes out in chunks. Returns the response."""
    prepared = requests.Request("POST", url, **content).prepare()
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    pieces = (body[at : at + 7000] for at in range(0, len(body), 7000))
    sent = requests.post(url, data=pieces, headers={"Content-Type": prepared.headers["Content-Type"]})
    assert sent.history or "Content-Length" not in sent.request.headers
    return sent


def in_parallel(one_client):
    """Runs `one_client(number)` for 16 clients at once, each of which must succeed."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one_client, range(CLIENTS)))


# --- Flask ---------------------------------------------------------------------------------------------


def test_flask_answers_16_clients_each_with_its_own_session_and_upload(flask):
    def client(number):
        with requests.Session() as session:
            for turn in range(10):
                name = f"user {number} {turn}"
                assert session.post(f"{flask.url}/login", json={"user": name}).status_code == 204
                assert session.get(f"{flask.url}/whoami").json() == {"user": name}
                body = UPLOAD[: 1000 * (number + 1) + turn]
                answer = session.post(f"{flask.url}/upload", files={"file": ("name.bin", body)}).json()
                assert answer == {"name": "name.bin", "size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
                lines = session.get(f"{flask.url}/stream/50", params={"word": name}).text
                assert lines == "".join(f"{name} {line}\n" for line in range(50))

    in_parallel(client)


def test_flask_redirects_after_a_form_and_flashes(flask):
    with requests.Session() as session:
        answer = session.post(f"{flask.url}/form", data={"name": "Ada"})
        assert (answer.history[0].status_code, answer.json()) == (302, {"flashed": ["hello Ada"]})


def test_flask_takes_forms_uploads_and_json_in_chunks(flask):
    assert in_chunks(f"{flask.url}/form", data={"name": "Ada"}).history[0].status_code == 302
    answer = in_chunks(f"{flask.url}/upload", files={"file": ("name.bin", UPLOAD)}).json()
    assert answer == {"name": "name.bin", "size_bytes": len(UPLOAD), "sha256": UPLOAD_SHA256}
    assert in_chunks(f"{flask.url}/login", json={"user": "Ada"}).status_code == 204


def test_flask_answers_http_client_on_one_connection(flask):
    connection = http.client.HTTPConnection("127.0.0.1", flask.port, timeout=30)
    for number in range(20):
        connection.request("GET", f"/path/a/{number}//b%2Fc?q=1&q=%202")
        answer = connection.getresponse()
        found = json.loads(answer.read())
        assert found == {"rest": f"a/{number}//b/c", "query": {"q": ["1", " 2"]}}
    connection.close()


def test_flask_answers_curl(flask):
    assert curl(f"{flask.url}/") == b"<h1>Flask</h1>"
    found = json.loads(curl("-F", f"file=@{__file__}", f"{flask.url}/upload"))
    assert found["size_bytes"] == os.path.getsize(__file__)


def test_flask_answers_500_when_a_view_fails_and_goes_on(flask):
    assert requests.get(f"{flask.url}/fail").status_code == 500
    assert requests.get(f"{flask.url}/").status_code == 200


# --- Django ----------------------------------------------------------------------------------------------


def test_django_writes_and_reads_its_database_for_16_clients(django):
    def client(number):
        with requests.Session() as session:
            for turn in range(5):
                text = f"note {number} {turn}"
                made = session.post(f"{django.url}/notes/", json={"text": text})
                assert made.status_code == 201, made.text
                number_made = made.json()["id"]
                assert session.get(f"{django.url}/notes/{number_made}/").json() == {"id": number_made, "text": text}

    in_parallel(client)
    notes = requests.get(f"{django.url}/notes/").json()["notes"]
    assert {f"note {number} {turn}" for number in range(CLIENTS) for turn in range(5)} <= set(notes)


def test_django_shows_the_admin_login_and_refuses_a_wrong_password(django):
    with requests.Session() as session:
        page = session.get(f"{django.url}/admin/")
        assert page.history[0].status_code == 302 and "Django administration" in page.text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
        form = {"csrfmiddlewaretoken": token, "username": "ada", "password": "wrong", "next": "/admin/"}
        answer = session.post(page.url, data=form, headers={"Referer": page.url})
        assert answer.status_code == 200 and "Please enter the correct username" in answer.text


def test_django_serves_static_files_through_whitenoise(django):
    page = requests.get(f"{django.url}/admin/login/").text
    sheet = re.search(r'href="(/static/admin/css/base\.\w+\.css)"', page)[1]
    with requests.Session() as session:
        first = session.get(f"{django.url}{sheet}")
        assert first.status_code == 200 and "gzip" in first.headers["Content-Encoding"]
        again = session.get(f"{django.url}{sheet}", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        part = session.get(f"{django.url}{sheet}", headers={"Range": "bytes=0-9", "Accept-Encoding": "identity"})
        assert (part.status_code, len(part.content)) == (206, 10)


def test_django_takes_an_upload_that_it_keeps_on_disk(django):
    body = UPLOAD * 10  # above FILE_UPLOAD_MAX_MEMORY_SIZE
    answer = requests.post(f"{django.url}/upload/", files={"file": ("large.bin", body)}).json()
    assert answer == {"name": "large.bin", "size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_django_takes_forms_uploads_and_json_in_chunks(django):
    assert in_chunks(f"{django.url}/form/", data={"name": "Ada", "n": "1"}).json() == {"name": "Ada", "n": "1"}
    for body in (UPLOAD, UPLOAD * 10):
        answer = in_chunks(f"{django.url}/upload/", files={"file": ("name.bin", body)}).json()
        assert answer == {"name": "name.bin", "size_bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert in_chunks(f"{django.url}/notes/", json={"text": "chunked"}).status_code == 201


def test_django_streams_and_sends_a_file(django):
    assert curl(f"{django.url}/stream/") == "".join(f"line {number}\n" for number in range(1000)).encode()
    source = (APPS / "django_project/notes/views.py").read_bytes()
    connection = http.client.HTTPConnection("127.0.0.1", django.port, timeout=30)
    connection.request("GET", "/file/")
    assert connection.getresponse().read() == source
    connection.close()


# --- Falcon ------------------------------------------------------------------------------------------------


def test_falcon_answers_16_clients(falcon):
    def client(number):
        with requests.Session() as session:
            for turn in range(10):
                assert session.get(f"{falcon.url}/items/{turn}").json() == {"number": turn}
                made = session.post(f"{falcon.url}/items", json={"client": number})
                assert (made.status_code, made.json()) == (201, {"got": {"client": number}})
                assert session.delete(f"{falcon.url}/items/{turn}").status_code == 204
                assert session.get(f"{falcon.url}/items/101").status_code == 404
                assert session.put(f"{falcon.url}/blob", data=UPLOAD).json() == {"sha256": UPLOAD_SHA256}

    in_parallel(client)


def test_falcon_streams_to_curl_and_takes_a_chunked_body_from_requests(falcon):
    assert curl(f"{falcon.url}/blob") == "".join(f"line {number}\n" for number in range(1000)).encode()
    pieces = (UPLOAD[at : at + 7000] for at in range(0, len(UPLOAD), 7000))
    assert requests.put(f"{falcon.url}/blob", data=pieces).json() == {"sha256": UPLOAD_SHA256}


def test_falcon_takes_json_in_chunks(falcon):
    assert in_chunks(f"{falcon.url}/items", json={"client": 1}).json() == {"got": {"client": 1}}


def test_falcon_answers_http_client(falcon):
    connection = http.client.HTTPConnection("127.0.0.1", falcon.port, timeout=30)
    connection.request("GET", "/items?limit=7")
    assert json.loads(connection.getresponse().read()) == {"limit": 7}
    connection.request("HEAD", "/items?limit=7")
    assert connection.getresponse().read() == b""
    connection.request("PATCH", "/items")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 405 and "GET" in answer.headers["Allow"]
    connection.close()


# --- Bottle ------------------------------------------------------------------------------------------------


def test_bottle_answers_16_clients_each_with_its_own_cookie(bottle):
    def client(number):
        with requests.Session() as session:
            for turn in range(1, 11):
                assert session.get(f"{bottle.url}/count").json() == {"seen": turn}
                assert session.get(f"{bottle.url}/hello/{number}%20x").text == f"<b>Hello {number} x</b>!"
                assert session.post(f"{bottle.url}/form", data={"n": number}).json() == {"fields": {"n": str(number)}}

    in_parallel(client)


def test_bottle_takes_an_upload_from_curl_and_sends_a_file(bottle):
    found = json.loads(curl("-F", f"file=@{APPS / 'bottle_app.py'}", f"{bottle.url}/upload"))
    source = (APPS / "bottle_app.py").read_bytes()
    assert found == {"name": "bottle_app.py", "sha256": hashlib.sha256(source).hexdigest()}
    assert curl(f"{bottle.url}/source") == source


def test_bottle_takes_forms_and_uploads_in_chunks(bottle):
    assert in_chunks(f"{bottle.url}/form", data={"n": "1"}).json() == {"fields": {"n": "1"}}
    answer = in_chunks(f"{bottle.url}/upload", files={"file": ("name.bin", UPLOAD)}).json()
    assert answer == {"name": "name.bin", "sha256": UPLOAD_SHA256}


def test_bottle_streams_to_http_client(bottle):
    connection = http.client.HTTPConnection("127.0.0.1", bottle.port, timeout=30)
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.read() == "".join(f"line {number}\n" for number in range(100)).encode()
    connection.request("POST", "/upload", io.BytesIO(b"no form"), {"Content-Length": "7"})
    assert connection.getresponse().status >= 400
    connection.close()


def test_bottle_answers_500_when_a_route_fails_and_goes_on(bottle):
    assert requests.get(f"{bottle.url}/fail").status_code == 500
    assert requests.get(f"{bottle.url}/hello/you").status_code == 200
