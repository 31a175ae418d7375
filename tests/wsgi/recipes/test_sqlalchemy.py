"""SQLAlchemy with --preload: workers must not inherit the connections of the zygote."""

import pytest
import requests


@pytest.mark.parametrize("hook", ["sqlalchemy_shop:forget_connections", None])
def test_each_worker_has_connections_of_its_own(arctos_server, tmp_path, hook):
    database = {"SHOP_DATABASE": f"sqlite:///{tmp_path}/shop.db"}
    server = arctos_server("sqlalchemy_shop:app", workers=2, preload=True, post_fork=hook, env=database)
    opened = {}
    while len(opened) < 2:
        answer = requests.get(server.url)
        answer.raise_for_status()
        pid, opened_by = answer.text.split()
        opened[pid] = opened_by
    if hook:
        assert all(pid == opened_by for pid, opened_by in opened.items())
    else:
        assert len(set(opened.values())) == 1, "both use that of the zygote"
