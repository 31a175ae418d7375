"""Sends metrics to a statsd daemon, with the tags of the third argument."""

import sys

import arctos as bjoern


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"counted"]


statsd = {"enable": True, "host": "127.0.0.1", "port": int(sys.argv[1]), "ns": "bjoern"}
if len(sys.argv) > 2:
    statsd["tags"] = sys.argv[2]
sock = bjoern.listen(app, "127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
bjoern.run(statsd=statsd)
