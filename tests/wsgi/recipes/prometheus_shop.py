"""prometheus_client in multiprocess mode: the application's own metrics, summed over all workers."""

import glob
import os
import re

from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app, multiprocess

orders = Counter("orders", "Orders so far")
ready = Gauge("ready", "Workers that are ready", multiprocess_mode="livesum")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return make_wsgi_app(registry)(environ, start_response)
    orders.inc()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


def begin(generation):
    """For --on-start: removes the files of an earlier run. A reload calls it, too, and must keep them."""
    if generation.number == 1:
        for path in glob.glob(f"{os.environ['PROMETHEUS_MULTIPROC_DIR']}/*.db"):
            os.unlink(path)


def set_ready(worker):
    """For --worker-ready. It also forgets workers that were killed, because they call no hook."""
    for path in glob.glob(f"{os.environ['PROMETHEUS_MULTIPROC_DIR']}/gauge_live*.db"):
        pid = re.findall(r"\d+", path)[-1]
        if not os.path.exists(f"/proc/{pid}"):
            multiprocess.mark_process_dead(pid)
    ready.set(1)


def forget(worker):
    """For --worker-exit."""
    multiprocess.mark_process_dead(worker.pid)
