"""prometheus_client on the server's page: the same numbers as in one process that never ends."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from shop_metrics import Shop
from support.prometheus_page import samples, samples_of, server_page
from support.server import APPLICATION_RAISED, WORKER_LEFT, WORKER_READY
from support.waiting import wait_until
from support.wire import Wire

ADMIN = ("--admin-bind", "127.0.0.1:0")
SHOP = "counting_shop:app"
# A distinct binary fraction each, so that sums are exact.
ORDERS = [("web", 0.125), ("web", 3), ("a \"b\"\n\\c", 20.5), ("web", 0.0625), ("ü", 0.25), ("ü", 7)] * 4


def do(server, path):
    """Sends a request on a connection of its own, and returns the body."""
    with Wire(("127.0.0.1", server.port)) as wire:
        answer = wire.get(path, "Connection: close").response()
    assert answer.status == 200
    return answer.body.decode()


def order(server, orders):
    """Sends orders to the server, in several threads, so that all workers get some. Returns their pids."""
    pids = []

    def send(part):
        pids.extend(do(server, f"/order/{quoted(channel)}/{seconds}") for channel, seconds in part)

    threads = [threading.Thread(target=send, args=(orders[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == len(orders)
    return {int(pid) for pid in pids}


def quoted(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


def expected(orders, imports=1):
    """Returns the samples of one process after these orders, without those that differ by worker."""
    shop = Shop(CollectorRegistry())
    shop.imports.inc(imports - 1)
    for channel, seconds in orders:
        shop.order(channel, seconds)
    return comparable(generate_latest(shop.registry).decode())


def comparable(page):
    """The samples of the shop. Each worker has a state of its own."""
    return {key: value for key, value in samples_of(page, "shop_").items() if key[0] != "shop_state"}


def check(server, orders, imports):
    assert comparable(server_page(server)) == expected(orders, imports)


# --- The numbers ---


@pytest.mark.smoke
@pytest.mark.parametrize("late", [False, True])
def test_workers_add_up_to_the_numbers_of_one_process(serve, late):
    server = serve(SHOP, *ADMIN, workers=2, env={"SHOP_LATE": "1"} if late else {})
    order(server, ORDERS)
    check(server, ORDERS, imports=2)
    page = server_page(server)
    used = [f'shop_state{{shop_state="used",worker="{worker}"}} 1\n' for worker in range(2)]
    assert any(sample in page for sample in used), "at least one of them has served"
    assert '# HELP shop_orders_total Orders, in "units"\\nper \\\\ channel\n# TYPE shop_orders_total counter\n' in page


def test_a_zygote_counts_once_what_it_imports(serve):
    server = serve(SHOP, "--preload", *ADMIN, workers=3)
    order(server, ORDERS)
    check(server, ORDERS, imports=1)


def test_what_a_program_counted_before_it_served_counts_once(serve):
    server = serve(None, workers=None, command=[sys.executable, "shop_program.py"])
    page = samples(server_page(server))
    assert (page["shop_imports_total",], page["shop_order_size_sum",], page["shop_open_orders",]) == (1, -6, 3)
    assert page["shop_state", ("shop_state", "used")] == 1
    do(server, "/")
    page = samples(server_page(server))
    assert (page["shop_order_size_sum",], page["shop_open_orders",], page["shop_longest_seconds",]) == (-14, 7, 4)


def test_a_child_of_a_worker_counts_for_it(serve):
    server = serve(SHOP, *ADMIN)
    for _ in range(3):
        do(server, "/fork/web")
    assert samples(server_page(server))["shop_orders_total", ("channel", "web")] == 3


def test_numbers_survive_a_kill_and_a_reload(serve):
    server = serve(SHOP, *ADMIN, workers=2)
    pids = order(server, ORDERS)
    since = server.position()
    os.kill(next(iter(pids)), signal.SIGKILL)
    server.wait_for(WORKER_READY, since=since)
    order(server, ORDERS)
    since = server.position()
    server.send(signal.SIGHUP)
    server.wait_for(WORKER_LEFT, 2, since=since)
    order(server, ORDERS)
    page = comparable(server_page(server))
    assert counts(page) == counts(expected(ORDERS * 3, imports=5))
    # Of gauges, only the values of workers that live count.
    assert page["shop_open_orders",] == sum(seconds for _, seconds in ORDERS)


def test_numbers_survive_recycling(serve):
    server = serve(SHOP, "--max-requests", "10", *ADMIN)
    for turn in range(1, 4):
        order(server, ORDERS)
        server.wait_for(WORKER_LEFT, turn)
    page = counts(comparable(server_page(server)))
    assert page == {**counts(expected(ORDERS * 3)), ("shop_imports_total",): page["shop_imports_total",]}


def counts(page):
    """The samples without gauges."""
    return {key: value for key, value in page.items() if key[0] not in ("shop_open_orders", "shop_longest_seconds")}


def test_numbers_survive_an_upgrade(serve_upgradable):
    server = serve_upgradable(SHOP, *ADMIN, workers=2)
    order(server, ORDERS)
    server.upgrade()
    order(server, ORDERS)
    assert counts(comparable(server_page(server))) == counts(expected(ORDERS * 2, imports=4))


def test_the_last_value_counts_until_its_labels_are_removed(serve):
    server = serve(SHOP, *ADMIN)
    for item, number in (("a", 3), ("b", 5), ("a", 2), ("c", float("inf"))):
        do(server, f"/stock/{item}/{number}")
    stock = {("shop_stock", ("item", "a")): 2, ("shop_stock", ("item", "b")): 5, ("shop_stock", ("item", "c")): float("inf")}
    assert samples_of(server_page(server), "shop_stock") == stock
    do(server, "/forget/a")
    del stock["shop_stock", ("item", "a")]
    assert samples_of(server_page(server), "shop_stock") == stock
    do(server, "/stock/a/0")
    assert samples_of(server_page(server), "shop_stock") == {**stock, ("shop_stock", ("item", "a")): 0}


def test_series_beyond_the_limit_count_together(serve):
    server = serve(SHOP, "--metrics-series", "10", *ADMIN)
    for number in range(30):
        do(server, f"/order/{number}/{number}")
    found = samples_of(server_page(server), "shop_order")
    orders = {key: value for key, value in found.items() if key[0] == "shop_orders_total"}
    assert len(orders) < 11 and sum(orders.values()) == 30
    assert orders["shop_orders_total", ("channel", "other")] > 1
    for key, count in found.items():
        if key[0] == "shop_order_seconds_count":
            bounds = [k for k in found if k[0] == "shop_order_seconds_bucket" and key[1] in k]
            assert len(bounds) == 15 and found["shop_order_seconds_bucket", key[1], ("le", "+Inf")] == count
    assert sum(count for key, count in found.items() if key[0] == "shop_order_seconds_count") == 30
    assert found["shop_order_size_count",] == 30


# --- Metrics that exist already ---


def test_existing_metrics_go_on_from_their_values_in_any_registry():
    run_program(
        """
        registry = CollectorRegistry()
        metrics = [
            Counter("a", "A"), Gauge("b", "B", registry=registry), Summary("c", "C"), Histogram("d", "D", ["x"]),
            Gauge("e", "E"), Info("f", "F"), Enum("g", "G", states=["u", "v"]), Gauge("h", "H", multiprocess_mode="mostrecent"),
        ]
        a, b, c, d, e, f, g, h = metrics
        a.inc(3, exemplar={"trace": "1"}); b.set(-4); c.observe(-2.5); d.labels("1").observe(0.3); e.set_function(lambda: 42)
        f.info({"k": "v"}); g.state("v"); h.set(7)
        gc.freeze()
        before = [m for m in REGISTRY.collect() if m.name in "abcdefgh"], list(registry.collect())
        prometheus.install()
        assert ([m for m in REGISTRY.collect() if m.name in "abcdefgh"], list(registry.collect())) == before
        assert {type(v).__name__ for v in (a._value, c._sum, d.labels("1")._buckets[0], h._value)} == {"PrometheusValue"}
        a.inc(); d.labels("1").observe(0.1)
        assert REGISTRY.get_sample_value("a_total") == 4
        assert REGISTRY.get_sample_value("d_sum", {"x": "1"}) == 0.4
        """
    )


def test_a_metric_that_cannot_be_converted_stays_as_it_is_with_a_warning():
    run_program(
        """
        class Own(Counter):
            def _metric_init(self):
                if REGISTRY.get_sample_value("own_total"):
                    raise OSError("not again")
                super()._metric_init()
        own = Own("own", "Own")
        own.inc()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            prometheus.install()
        (warning,) = caught
        assert warning.category is RuntimeWarning and warning.filename == "<string>", warning
        assert "counter:own cannot be converted, so the server does not count it: not again" in str(warning.message)
        own.inc()
        assert REGISTRY.get_sample_value("own_total") == 2
        """
    )


def run_program(text):
    head = """
        import gc, warnings
        from prometheus_client import REGISTRY, CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
        from arctos.metrics import prometheus
    """
    program = textwrap.dedent(head) + textwrap.dedent(text)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


# --- Pages of the application ---


def test_a_worker_shows_its_own_numbers_and_those_of_all(serve, tmp_path):
    server = serve(SHOP, *ADMIN, workers=2, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    pids = order(server, ORDERS)
    wait_until(lambda: len(pids.update(order(server, ORDERS[:4])) or pids) == 2)
    mine, everything = do(server, "/mine"), do(server, "/all")
    wanted = comparable(server_page(server))
    assert comparable(everything) == wanted
    assert 0 < samples(mine)["shop_order_size_count",] < wanted["shop_order_size_count",]
    assert list(tmp_path.iterdir()) == []


def test_a_server_without_an_admin_socket_has_no_page_of_all_workers(serve, tmp_path):
    server = serve(SHOP, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    order(server, ORDERS)
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get("/all").response().status == 500
    server.wait_for_text(APPLICATION_RAISED, "start it with --admin-bind")
