"""Slow clients occupy no worker: a fast client is answered as if it were alone."""

import statistics
import time

import pytest
from support.slow_clients import SlowClients

SLOW_COUNT = 200  # of each kind
APPLICATION_MS = 10
ALLOWED_DELAY_MS = 50
ROUNDS = 100


def fast_client(server, connect):
    """Returns the times of requests of 10 ms in ms: half on a kept connection, half on new ones."""
    kept, times = connect(server), []
    for _ in range(ROUNDS):
        for wire in (kept, connect(server)):
            begun = time.perf_counter()
            assert wire.get(f"/slow?ms={APPLICATION_MS}").response().status == 200
            times.append((time.perf_counter() - begun) * 1000)
            if wire is not kept:
                wire.socket.close()
    return times


def percentile(times, part):
    return statistics.quantiles(times, n=100)[part - 1]


@pytest.mark.alone
def test_200_slow_readers_and_200_slow_senders_do_not_delay_a_fast_client(serve, connect):
    server = serve("plain:app", workers=1)
    alone = fast_client(server, connect)
    with SlowClients(server.port, SLOW_COUNT) as slow:
        beside = fast_client(server, connect)
    figures = ", ".join(
        f"{name}: median {statistics.median(times):.1f} ms, p95 {percentile(times, 95):.1f} ms"
        for name, times in (("alone", alone), ("beside slow clients", beside))
    )
    assert slow.broken == []
    assert slow.bytes_read > 0 and slow.bytes_sent > 0
    # At most 50 ms may be added to the time of the application. What the machine itself adds (this process runs
    # 400 clients on the same cores) is measured without the slow clients.
    machine_ms = percentile(alone, 95) - APPLICATION_MS
    assert statistics.median(beside) - APPLICATION_MS < ALLOWED_DELAY_MS, figures
    assert percentile(beside, 95) - APPLICATION_MS - machine_ms < ALLOWED_DELAY_MS, figures
    print(figures)
