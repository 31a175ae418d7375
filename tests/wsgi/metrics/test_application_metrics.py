"""`arctos.metrics`: what the workers of an application count arrives exactly, whatever happens to them."""

import os
import random
import signal

import pytest
from support.admin_client import scrape
from support.processes import status_kb
from support.server import EXIT_DONE, WORKER_DIED, WORKER_READY, run
from support.statsd_sink import DOGSTATSD, finish
from support.traffic import kill_in_request, traffic
from support.waiting import wait_until
from support.wire import Wire

PLAIN = ("--statsd-interval", "200ms", "--statsd-format", "plain")
WORKERS = 3
RELOAD_DONE = "reload.done"
TOO_MANY = "metrics.too_many_series"


@pytest.fixture
def admin(tmp_path):
    """The path of the admin socket."""
    return str(tmp_path / "admin")


def scraped(admin, name):
    """Returns all samples of this name on `/metrics`, each with its labels and value."""
    return [(one.labels, one.value) for one in scrape(admin) if one.name == name]


def total(admin, name):
    """Returns the sum over all samples of this name on `/metrics`."""
    return sum(value for _, value in scraped(admin, name))


def begun(journal):
    """Returns the number of requests that reached the application and were recorded there."""
    return (journal.directory / "begun").read_bytes().count(b"\n")


def recycle(server, admin, slot):
    """Replaces a worker."""
    (pid,) = (line.pairs["pid"] for line in server.events(WORKER_READY, slot=slot)[-1:])
    assert run("ctl", "recycle", slot, "--admin", f"unix:{admin}")[0] == EXIT_DONE
    server.wait_for("worker.exited", pid=pid)


@pytest.mark.parametrize("format", [DOGSTATSD, PLAIN], ids=["dogstatsd", "plain"])
def test_sums_are_exact_to_the_event(serve_upgradable, sink, admin, journal, gate, inbox, tmp_path, format):
    """Two workers are killed in a request that was counted; a reload changes a definition; a worker is recycled; the
    server is upgraded."""
    variant = tmp_path / "variant"
    variant.write_text("")
    options = ["--statsd-host", sink.option, *format, "--admin-bind", f"unix:{admin}"]
    environment = {**journal.environment, "METERED_AS": str(variant)}
    server = serve_upgradable("metered:app", *options, workers=WORKERS, env=environment).ready()
    with traffic(server, journal=journal, clients=4) as clients:
        clients.wait_for_each(5)
        for deaths in (1, 2):
            kill_in_request(server, journal, gate, inbox)
            server.wait_for(WORKER_DIED, deaths)
        clients.wait_for_each(5)
        variant.write_text("tiers")
        server.send(signal.SIGHUP)
        server.wait_for(RELOAD_DONE)
        clients.wait_for_each(5)
        recycle(server, admin, 0)
        clients.wait_for_each(5)
        server.upgrade()
        clients.wait_for_each(5)
    assert begun(journal) >= len(journal.answered())
    assert total(admin, "arctos_shop_orders_total") == begun(journal)
    assert total(admin, "arctos_shop_size_count") == begun(journal)
    assert total(admin, "arctos_shop_size_sum") == sum(map(len, (tmp_path / "begun").read_bytes().split(b"\n")))
    # The workers that were killed in a request count no more.
    assert total(admin, "arctos_shop_running") == 0
    living = server.worker_pids()
    assert total(admin, "arctos_shop_lowest") in living and total(admin, "arctos_shop_highest") in living
    sink.wait_for(lambda received: received.gauge("shop.running") == 0)
    received = finish(server, sink)
    names = ["shop.orders"] if format is DOGSTATSD else ["shop.orders.web", "shop.orders.web.gold"]
    parts = [received.count(name) for name in names]
    assert sum(parts) == begun(journal) and all(parts)
    assert received.count("shop.imports") == len(server.events(WORKER_READY))
    if format is DOGSTATSD:
        assert received.count("shop.orders", tier="gold") > 0
        assert received.spread("shop.size")[0] == begun(journal)


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
def test_kills_at_any_moment_lose_no_more_than_the_request_that_runs(serve, sink, admin, journal, preload):
    options = ["--statsd-host", sink.option, *DOGSTATSD, "--admin-bind", f"unix:{admin}", *preload]
    server = serve("metered:app", *options, workers=WORKERS, env=journal.environment).ready()
    kills = 3
    with traffic(server, journal=journal, clients=6) as clients:
        for _ in range(kills):
            clients.wait_for_each(3)
            os.kill(random.choice(server.worker_pids()), signal.SIGKILL)
        server.wait_for(WORKER_DIED, kills)
        server.wait_for(WORKER_READY, WORKERS + kills)
        clients.wait_for_each(3)
    # A request is recorded a moment before it is counted.
    counted = total(admin, "arctos_shop_orders_total")
    assert begun(journal) - kills <= counted <= begun(journal)
    assert abs(total(admin, "arctos_shop_size_count") - counted) <= kills
    assert total(admin, "arctos_shop_running") == 0
    # What the import counts belongs to each worker or, if a zygote has imported the application, to none.
    imports = {labels.get("worker"): value for labels, value in scraped(admin, "arctos_shop_imports_total")}
    assert imports == {None: 1} if preload else sum(imports.values()) == WORKERS + kills
    received = finish(server, sink)
    assert received.count("shop.orders") == counted
    assert received.count("shop.imports") == sum(imports.values())


def test_too_many_series_cost_one_warning_and_bounded_memory(serve, sink, admin, journal):
    options = ["--statsd-host", sink.option, *DOGSTATSD, "--admin-bind", f"unix:{admin}"]
    server = serve("metered:app", *options, workers=2, env=journal.environment).ready()
    workers = server.worker_pids()
    before_kb = {pid: status_kb(pid, "VmRSS") for pid in (server.pid, *workers)}
    with Wire(("127.0.0.1", server.port)) as wire:
        for begin in range(0, 100_000, 10_000):
            assert wire.get(f"/values?{begin}-{begin + 10_000}").response().status == 200
    wait_until(lambda: total(admin, "arctos_shop_values_total") == 100_000)
    samples = scraped(admin, "arctos_shop_values_total")
    own = [value for labels, value in samples if labels["value"] != "other"]
    assert 900 < len(own) <= 1000 and set(own) == {1}
    # Each worker has a sample of the others.
    assert sum(value for labels, value in samples if labels["value"] == "other") == 100_000 - len(own)
    server.wait_for(TOO_MANY)
    after_kb = {pid: status_kb(pid, "VmRSS") for pid in before_kb}
    assert all(after_kb[pid] < before_kb[pid] + (16 << 10) for pid in before_kb), (before_kb, after_kb)
    received = finish(server, sink)
    assert received.count("shop.values") == 100_000
    assert received.count("metrics.series_dropped") == received.count("shop.values", value="other")
    assert len(server.events(TOO_MANY)) == 1


def test_metrics_with_generated_names_are_limited_too(serve, admin, journal):
    options = ["--metrics-series", "10", "--admin-bind", f"unix:{admin}"]
    server = serve("metered:app", *options, workers=1, env=journal.environment).ready()
    names = 5000
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get(f"/names?0-{names}").response().status == 200
    kept = [one for one in scrape(admin) if one.name.startswith("arctos_shop_generated_")]
    server.wait_for(TOO_MANY, limit=10)
    assert 10 < len(kept) < 200
    assert sum(one.value for one in kept) + total(admin, "arctos_metrics_series_dropped_total") == names
