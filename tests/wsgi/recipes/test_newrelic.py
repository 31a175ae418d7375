"""New Relic: transactions of the requests of every worker."""

import pytest
import requests

# With a license key and without developer_mode, the agent reports to New Relic.
CONFIGURATION = """
[newrelic]
app_name = shop
developer_mode = true
log_file = stderr
"""

@pytest.fixture
def configuration(tmp_path):
    (tmp_path / "newrelic.ini").write_text(CONFIGURATION)
    return {"NEW_RELIC_CONFIG_FILE": str(tmp_path / "newrelic.ini")}


def test_every_request_is_a_transaction(arctos_server, configuration):
    server = arctos_server("newrelic_shop:app", workers=2, env=configuration, post_fork="newrelic_hooks:start_agent")
    assert [requests.get(server.url).text for _ in range(10)] == ["newrelic_shop:index"] * 10


def test_without_the_hook_there_is_none(arctos_server, configuration):
    server = arctos_server("newrelic_shop:app", env=configuration)
    assert requests.get(server.url).text == "no transaction"
