"""Compares how long requests wait for a worker, on kept and on new connections.

Requests arrive at random (a Poisson process) whether or not the server keeps up, and their latency counts from when
they are due: an open loop without coordinated omission. Each names the time that the application sleeps, so that four
workers are four workers on any number of CPUs. All servers get the same arrivals. With a pool, a request takes a random
idle connection (--choice), and if there is none, it waits for one in the client. A request whose connection ends without
a response is lost. PROXY/SERVER is a server behind nginx or HAProxy, which keep as many connections to the server as
the client keeps to them; with new connections, theirs are new as well. `ideal` is computed: one queue for all workers.

It prints a table, and writes target/bench/latency.json and a picture, latency.svg. nginx and HAProxy come from the
distribution, the other servers from target/bench/venv, which it makes; what is missing is left out. Like all of
scripts/bench, it asserts nothing: run it on an otherwise idle machine.
"""

import argparse
import json
import os
import time
from pathlib import Path

import bench_latency_report as report
from bench_arrivals import MIXES, arrivals, rate_per_second, waiting_least
from bench_environment import describe_machine, enter, install_servers, say
from bench_fleet import COMMANDS, Connections, is_known, missing, running
from bench_open_loop import CHOICES, Client, Outcome
from bench_picture import picture
from bench_servers import PLACE, PYTHON
from bench_session import Failed

PROXIED = (f"{proxy}/arctos-{mode}" for proxy in ("nginx", "haproxy") for mode in ("sticky", "auto"))
SERVERS = (report.IDEAL, *COMMANDS, *PROXIED)


def main(words):
    arguments = parse(words)
    if arguments.redraw:
        results = json.loads(arguments.redraw.read_text())
    else:
        results = measure(arguments)
    cells = results["cells"]
    if not cells:
        say("no server could be measured")
        return 1
    report.compare(cells)
    arguments.picture.write_text(picture(cells, results["machine"]))
    parts = [results["machine"], report.table(cells), report.legend(cells), report.verdicts(cells)]
    print("\n\n".join(filter(None, parts)))
    print(f"\nEverything: {arguments.json}. The picture: {arguments.picture}")
    return 0


def parse(words):
    parser = argparse.ArgumentParser(
        prog="scripts/bench latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    several = "separated by commas (default: %(default)s)"

    def option(name, default, convert, help):
        parser.add_argument(name, default=default, type=convert, help=help)

    def names(check, what):
        def convert(text):
            for name in text.split(","):
                if not check(name):
                    raise argparse.ArgumentTypeError(f"no {what} {name!r}")
            return text.split(",")

        return convert

    option("--servers", ",".join(SERVERS), names(is_server, "server"), f"SERVER or PROXY/SERVER, {several}")
    option("--mixes", ",".join(MIXES), names(MIXES.__contains__, "mix"), f"distributions of service times, {several}")
    option("--loads", "0.5,0.75", loads, f"fractions of the time that workers are busy, {several}")
    option("--pools", "16,64,new", pools, f"sizes of the pool of kept connections, or `new`, {several}")
    option("--workers", 4, positive(int), "number of workers (default: %(default)s)")
    option("--seconds", 30, positive(float), "measured time of each cell of the table (default: %(default)s)")
    option("--warm-up", 2, positive(float), "seconds of load before (default: %(default)s)")
    option("--seed", 1, int, "number that determines all arrivals (default: %(default)s)")
    parser.add_argument(
        "--choice", default=CHOICES[0], choices=CHOICES, help="which idle connection takes a request (default: %(default)s)"
    )
    option("--python", None, Path, "interpreter with the servers, instead of that of target/bench/venv")
    option("--json", PLACE / "latency.json", Path, "file for all results (default: %(default)s)")
    option("--picture", PLACE / "latency.svg", Path, "file for the picture (default: %(default)s)")
    option("--redraw", None, Path, "file written by --json: print and draw it again, and measure nothing")
    arguments = parser.parse_args(words)
    for name in ("python", "json", "picture", "redraw"):
        if path := getattr(arguments, name):
            setattr(arguments, name, path.absolute())
    return arguments


def is_server(name):
    return name == report.IDEAL or is_known(name)


def positive(kind):
    def convert(text):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return convert


def loads(text):
    found = [float(word) for word in text.split(",")]
    if not all(0 < load < 1 for load in found):
        raise argparse.ArgumentTypeError("a load is between 0 and 1")
    return found


def pools(text):
    return [Connections(None if word == report.NEW else positive(int)(word)) for word in text.split(",")]


def measure(arguments):
    """Measures all cells. The results are written after each, so that they survive an interrupted run."""
    enter()
    if arguments.python is None:
        install_servers()
        arguments.python = PYTHON
    directory = arguments.json.with_suffix("")  # of logs and configuration files
    directory.mkdir(parents=True, exist_ok=True)
    servers = [server for server in arguments.servers if is_here(server, arguments.python)]
    machine = f"{describe_machine(arguments.python)}; {arguments.workers} workers"
    options = {name: getattr(arguments, name) for name in ("workers", "seconds", "warm_up", "seed", "choice")}
    results = {"machine": machine, "options": options, "begun": time.strftime("%FT%TZ", time.gmtime()), "cells": []}
    # The cells that are compared with each other are measured one after the other.
    plan = [
        (mix, load, server, connections)
        for mix in arguments.mixes
        for load in arguments.loads
        for server in servers
        for connections in (arguments.pools if server != report.IDEAL else [Connections(None)])
    ]
    for number, (mix, load, server, connections) in enumerate(plan, 1):
        name = f"{number} of {len(plan)}: {mix}, {load:.0%}, {server}, {connections}"
        try:
            found = measure_cell(mix, load, server, connections, arguments, directory)
        except (Failed, OSError) as failure:
            say(f"{name}: left out: {failure}")
            continue
        results["cells"].append({"mix": mix, "load": load, "server": server, "connections": str(connections), **found})
        arguments.json.write_text(json.dumps(results))
        shown = found[report.compared(results["cells"][-1])]
        times = ", ".join(f"{key} {report.ms(value)}" for key, value in shown.items())
        say(f"{name}: {times}; {found['lost']} lost, client late by {report.ms(found['late p99'])} (p99)")
    return results


def measure_cell(mix, load, server, connections, arguments, directory):
    duration = arguments.warm_up + arguments.seconds
    due = arrivals(mix, load, arguments.workers, duration, arguments.seed)
    if server == report.IDEAL:
        latencies = waiting_least(due, arguments.workers)
        outcomes = [Outcome(*arrival, 0.0, latency_s, None) for arrival, latency_s in zip(due, latencies)]
        return report.measured(mix, outcomes, arguments.warm_up, arguments.seconds)
    with running(server, connections, arguments.python, arguments.workers, directory) as port:
        client = Client(port, due, connections.pool, arguments.choice, arguments.seed)
        outcomes = client.run()
    found = report.measured(mix, outcomes, arguments.warm_up, arguments.seconds)
    nominal = rate_per_second(mix, load, arguments.workers)
    closed = client.closed_by_server
    return {**found, "nominal per second": nominal, "closed by server": closed, "load of machine": os.getloadavg()[0]}


def is_here(server, python):
    lacking = server != report.IDEAL and missing(server, python)
    if lacking:
        say(f"without {server}: there is no {lacking}")
    return not lacking
