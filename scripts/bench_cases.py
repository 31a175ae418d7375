"""The measured cases, as data."""

from typing import NamedTuple


class Case(NamedTuple):
    """A kind of load on an application."""

    title: str
    app: str = "hello"  # in bench_apps
    kind: str = "hello"  # for `load send --kind`
    connections: int = 64
    body_bytes: int = 13  # of the response; a server with another response is not measured
    floor: bool = True  # whether the floor can serve this case, and as cheaply as possible: it copies what it sends
    unfit: dict = {}  # server -> the reason why it is left out
    options: dict = {}  # row -> further options; {files} is the directory of the static files
    also: tuple = ()  # further rows of arctos, which have no options
    sleeps: bool = False  # whether the load generator sleeps until there is a response, instead of polling


# Servers without files of their own run WhiteNoise, as arctos does in a row of its own.
STATIC = {
    "arctos": ("--static", "/static={files}"),
    "granian": ("--static-path-route", "/static", "--static-path-mount", "{files}"),
    "peregrine": ("--static-dir", "/static={files}"),
}
WHITENOISE = "arctos, WhiteNoise"

CASES = {
    "hello": Case("13 bytes, a Host field only"),
    "browser": Case("13 bytes, 17 header fields of a browser", kind="browser"),
    "varying": Case("the same, values that vary", kind="varying"),
    "pipelined": Case(
        "16 pipelined requests of hello",
        kind="pipelined",
        unfit={"bjoern": "loses pipelined requests"},
    ),
    "one": Case("hello on one connection", connections=1),
    "1000": Case("hello on 1000 connections", connections=1000),
    "new": Case("hello, a new connection each time", kind="new-connections"),
    "10k": Case("a body of 10 KB", app="body_10k", body_bytes=10240),
    "1m": Case("a body of 1 MB", app="body_1m", body_bytes=1048576),
    "file": Case("a file of 1 MB", app="file_1m", body_bytes=1048576, floor=False),
    "static4k": Case(
        "a static file of 4 KB",
        app="whitenoise",
        kind="static-small",
        body_bytes=4096,
        options=STATIC,
        also=(WHITENOISE,),
    ),
    "static1m": Case(
        "a static file of 1 MB",
        app="whitenoise",
        kind="static-large",
        body_bytes=1048576,
        floor=False,
        options=STATIC,
        also=(WHITENOISE,),
    ),
    "post4k": Case("a POST of 4 KB", app="post", kind="post4k"),
    "upload": Case("a POST of 1 MB", app="post", kind="post1m"),
    "items": Case(
        "100 items of 100 bytes, each sent as it comes",
        app="items",
        body_bytes=10000,
        floor=False,
        unfit={
            "freastal": "sends the items as one, which PEP 3333 forbids",
            "fastwsgi": "sends half of the items as one, which PEP 3333 forbids",
            "fastpysgi": "sends half of the items as one, which PEP 3333 forbids",
        },
    ),
    "flask": Case("Flask, 13 bytes, 17 header fields of a browser", app="flask", kind="browser", floor=False),
    "proxy": Case("hello from a client that sleeps, as a proxy on the same host does", sleeps=True),
    "proxy-flask": Case("Flask from such a client", app="flask", kind="browser", floor=False, sleeps=True),
}

# Formats of the access log, by the options that set them.
ACCESS_LOGS = {
    "text": (),
    "JSON": ("--log-format", "json"),
    "combined": ("--access-logformat", "combined"),
    "selected JSON fields": ("--access-logformat", "json:time,method,path,status,duration_ms,queue_ms,{user-agent}i"),
    "a response header": ("--access-logformat", '%(h)s "%(r)s" %(s)s %({content-type}o)s'),
    "a variable": ("--access-logformat", '%(h)s "%(r)s" %(s)s %({remote_addr}e)s'),
    "a sample of 1 %": ("--access-log-sample", "1%"),
    "no request in the sample": ("--access-log-sample", "0"),
    "another path is excluded": ("--access-log-exclude", "/livez"),
}

# Applications that name a route for each request, and options.
ROUTES = {
    "one route": ("one_route", ()),
    "one of 100 routes": ("one_of_100_routes", ()),
    "one of 100 routes, 10 series": ("one_of_100_routes", ("--metrics-series", "10")),
}

# Limits of --slow-request, for requests that wait for more than 1 ms because there are a thousand connections.
SLOW_REQUESTS = {"no request is slow": "10s", "every request is slow": "1ms"}

# The parts of `metrics`, which are also cases of their own.
PARTS_OF_METRICS = {
    "access-log": "hello with access logs of several formats against hello without",
    "routes": "hello and Flask whose requests have routes against the same without",
    "slow-requests": "hello on 1000 connections with --slow-request against the same without",
    "profile": "hello and Flask during a profile against the same without",
    "updates": "updates of metrics from Python, beside prometheus_client and Datadog's client",
}# Cases that compare arctos with itself, or that have their own program.
OTHER_CASES = {
    "metrics": "hello with metrics sent and shown against hello without; the next five; and all costs in one table",
    **PARTS_OF_METRICS,
    "sharing": "hello and browser with two workers that may share connections against two that do not",
    "micro": "cargo bench: the cost of a count and of a flush",
}
