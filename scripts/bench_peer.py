"""Starts a server that has no command line: bench_peer.py SERVER APP PORT [STATSD_PORT]."""

import sys

import bench_apps


def freastal(app, port):
    import freastal

    freastal.serve(app, host="127.0.0.1", port=port)


def fastwsgi(app, port):
    import fastwsgi

    fastwsgi.run(app, host="127.0.0.1", port=port, loglevel=0)


def fastpysgi(app, port):
    import fastpysgi

    fastpysgi.run(app, host="127.0.0.1", port=port, loglevel=0)


def bjoern(app, port, statsd_port=None):
    import bjoern

    if statsd_port is None:
        bjoern.run(app, "127.0.0.1", port)
    else:
        statsd = {"enable": True, "host": "127.0.0.1", "port": int(statsd_port), "ns": "bjoern"}
        bjoern.run(app, "127.0.0.1", port, statsd={**statsd, "tags": "app:bench,zone:loopback"})


SERVERS = {"freastal": freastal, "fastwsgi": fastwsgi, "fastpysgi": fastpysgi, "bjoern": bjoern}

if __name__ == "__main__":
    name, app, port, *rest = sys.argv[1:]
    SERVERS[name](getattr(bench_apps, app), int(port), *rest)
