"""Pages in Prometheus' text format, compared by their samples."""

from prometheus_client.parser import text_string_to_metric_families
from support.admin_client import ask
from support.server import SERVER_READY


def samples(text):
    """Returns the values of a page by the name and the labels of their sample, but for the times of creation."""
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                key = (sample.name, *sorted(sample.labels.items()))
                assert key not in values, f"{key} is there twice"
                values[key] = sample.value
    return values


def samples_of(page, prefix):
    """Returns those samples whose name begins with `prefix`."""
    return {key: value for key, value in samples(page).items() if key[0].startswith(prefix)}


def server_page(server):
    """Returns the page of a server that has an admin socket in TCP."""
    url = server.wait_for(SERVER_READY).pairs["admin"]
    answer = ask(("127.0.0.1", int(url.rsplit(":", 1)[1])), "/metrics")
    assert answer.status == 200
    return answer.body.decode()
