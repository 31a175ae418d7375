"""CherryPy: its tree as a WSGI application, without its own HTTP server, and with sessions that all workers know."""

import pytest
import requests


@pytest.mark.parametrize("factory", ["in_files", "in_memory"])
def test_only_sessions_in_files_are_known_to_all_workers(arctos_server, tmp_path, factory):
    server = arctos_server(f"cherrypy_shop:{factory}()", workers=2, env={"SESSIONS": str(tmp_path)})
    workers, requested, visits = set(), 0, 0
    with requests.Session() as browser:
        while len(workers) < 2:
            answer = browser.get(server.url, headers={"Connection": "close"})
            answer.raise_for_status()
            visits, pid = answer.text.split()
            workers.add(pid)
            requested += 1
    assert int(visits) == (requested if factory == "in_files" else 1)
