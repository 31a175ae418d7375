"""Rounds: each one starts, measures and stops every server once, so that all have the same conditions."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
from statistics import median

from bench_servers import LOAD, PLACE, Failed, Server, free_port


def interleave(variants, case, cpus, rounds, seconds, beside=None):
    """Returns the runs of each variant by name, and why others were left out. `beside` has what runs with a variant."""
    runs_of, failures = {variant.name: [] for variant in variants}, {}
    for number in range(rounds):
        # The order alternates, so that a machine that becomes slower or faster favors no server.
        for variant in variants if number % 2 == 0 else reversed(variants):
            if variant.name in failures:
                continue
            company = (beside or {}).get(variant.name, contextlib.nullcontext)
            try:
                with Server(variant, case, cpus) as server, company():
                    runs_of[variant.name].append(server.measure(seconds))
            except Failed as failure:
                failures[variant.name] = str(failure)
                del runs_of[variant.name]
        print(f"bench: {case.title}: round {number + 1} of {rounds}", file=sys.stderr)
    return runs_of, failures


@contextlib.contextmanager
def statsd_sink(cpus):
    """Starts a statsd agent that counts. Yields its port, and a function that requests the counts."""
    port = free_port(socket.SOCK_DGRAM)
    process = subprocess.Popen([LOAD, "sink", "--port", str(port), "--cpu", str(cpus.load)])

    def counts():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(5)
            asker.sendto(b"?", ("127.0.0.1", port))
            return asker.recv(200).decode()

    try:
        yield port, counts
    finally:
        process.kill()
        process.wait()


class Scraper:
    """Scrapes /metrics of an admin socket once per second, as Prometheus does, from a thread of this process."""

    def __init__(self):
        self.port = free_port()
        self.answers, self.bytes, self.failures = 0, 0, 0

    @contextlib.contextmanager
    def __call__(self):
        enough = threading.Event()
        thread = threading.Thread(target=self.scrape, args=[enough])
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()

    def scrape(self, enough):
        while True:
            try:
                answer = self.ask()
                good = answer.startswith(b"HTTP/1.1 200")
            except OSError:
                answer, good = b"", False
            if good:
                self.answers, self.bytes = self.answers + 1, self.bytes + len(answer)
            else:
                self.failures += 1
            if enough.wait(1):
                return

    def ask(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: client.recv(65536), b""))


class Profiler:
    """Has a server profiled as long as it is measured."""

    def __init__(self, path):
        self.path = path
        self.profiles, self.failures = 0, 0

    @contextlib.contextmanager
    def __call__(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            client.sendall(b"POST /profile?seconds=600 HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n")
            yield
            client.settimeout(0.1)
            try:
                client.recv(1)  # The profile has ended, or was refused.
                self.failures += 1
            except TimeoutError:
                self.profiles += 1


def instructions(variant, case, cpus, counts=(2000, 12000), repetitions=3):
    """Returns the worker's instructions per request, counted by callgrind as the difference between two runs. With
    eight connections the next request is always there, so that the number of waits does not depend on timing."""
    return median(
        (total(variant, case, cpus, counts[1]) - total(variant, case, cpus, counts[0])) / (counts[1] - counts[0])
        for _ in range(repetitions)
    )


def total(variant, case, cpus, requests):
    """Returns the instructions of a worker from its fork to its exit."""
    for old in PLACE.glob("callgrind.*"):
        old.unlink()
    tool = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={PLACE}/callgrind.%p"]
    with Server(variant, case, cpus, wrapper=tool, patience=12) as server:
        children = server.pids()[1:]
        server.send("--requests", str(requests), connections=8)
    # The worker has run Python, so that no other child of the supervisor needs nearly as many.
    files = [PLACE / f"callgrind.{pid}" for pid in children]
    found = [re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE) for file in files if file.exists()]
    totals = [int(line[1]) for line in found if line]
    if not totals:
        raise Failed("callgrind left no file of the worker")
    return max(totals)
