"""Exporters for Flask and Django, as they are: with several workers, they show the numbers of one process."""

import pytest
from support.prometheus_page import samples, server_page
from support.wire import Wire

# Some are of one process: its memory, its garbage collector.
OF_PROCESS = ("process_", "python_")


def request_all(server):
    """Sends requests on connections of their own, so that all workers get some."""
    for number in range(40):
        status = get(server, f"/items/{number}?shop=s{number % 3}").status
        assert status == (404 if number % 10 == 7 else 200)
    assert [get(server, path).status for path in ("/fail", "/nowhere", "/fail")] == [500, 404, 500]


def get(server, path):
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(path, "Connection: close").response()


def comparable(page):
    """The samples, without times: only that a histogram has them."""
    found = {key: value for key, value in samples(page).items() if not key[0].startswith(OF_PROCESS)}
    # Each worker that needs the database has a connection of its own.
    found = {key: value for key, value in found.items() if key[0] != "django_db_new_connections_total"}
    return {key: None if is_time(key) else value for key, value in found.items()}


def is_time(key):
    """Whether a sample depends on how long something took: the sums, and all buckets but the last one of a histogram."""
    words = ("seconds", "duration", "length", "latency")
    is_last = ("le", "+Inf") in key[1:]
    return any(word in key[0] for word in words) and not key[0].endswith(("_count", "_total")) and not is_last


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_exporters_show_the_numbers_of_one_process(serve, tmp_path, framework):
    single = serve(f"exported_{framework}:app", env={"SINGLE_PROCESS": "1"})
    request_all(single)
    wanted = comparable(get(single, "/metrics").body.decode())
    assert len(wanted) > 50
    server = serve(
        f"exported_{framework}:app",
        *("--admin-bind", "127.0.0.1:0"),
        workers=3,
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    request_all(server)
    # The page of the exporter is that of the server, at the moment of the request.
    assert comparable(get(server, "/metrics").body.decode()) == wanted
    assert list(tmp_path.iterdir()) == []
    own = {key: value for key, value in comparable(server_page(server)).items() if key[0].startswith(("shop_", framework))}
    later = {key for key, value in own.items() if key in wanted and value != wanted[key]}
    assert wanted.keys() <= own.keys()
    # The request for the page itself was counted only after the page was made.
    assert all("total" in key[0] or "count" in key[0] or ("le", "+Inf") in key for key in later), later
