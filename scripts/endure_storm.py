"""`scripts/endure storm`: kills, reloads and upgrades while clients keep their connections and retry nothing."""

import os
import random
import signal
import time
from collections import Counter

from endure_clients import HUNG_S, Clients
from endure_server import PATIENCE_S, Failed, Server, say

WORKERS = 4
GROWTH_KB = 1024  # of private memory: what a process may have allocated for the largest request so far
COLUMNS = ["requests", "200", "502", "504", "ended", "cut", "hung"]
COLUMNS += ["lost whole", "lost split", "lost young"]
COLUMNS += ["closed shared", "closed young", "announced", "connects"]


def run_storm(arguments):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    failures = []
    for mode in arguments.modes:
        say(f"\n--keepalive-mode {mode}, seed {seed}")
        failures += [f"{mode}: {failure}" for failure in Storm(mode, seed, arguments).run()]
    if failures:
        raise Failed("\n".join([*failures, f"repeat it with --seed {seed}"]))


class Storm:
    """One run, with one keep-alive mode."""

    def __init__(self, mode, seed, arguments):
        self.mode, self.arguments = mode, arguments
        self.random = random.Random(seed)
        self.failures, self.rows = [], []
        options = ["--keepalive-mode", mode, "--keep-alive", "300s", *arguments.option]
        self.server = Server(arguments.python, WORKERS, *options)
        self.clients = Clients(self.server.connect, arguments.busy, arguments.idle, seed)
        self.used = {}  # what the supervisor and the workers use, by the title of the moment

    def run(self):
        """Returns what did not hold."""
        try:
            self._run()
        finally:
            self._print()
        return self.failures

    def _run(self):
        with self.server:
            self.used["at the start"] = self._samples()
            self.clients.start()
            try:
                self._phases()
            finally:
                self.clients.end()
            self._check_executions()

    def _phases(self):
        given, clients = self.arguments, self.clients
        self._phase("warm-up", lambda: time.sleep(given.settle))
        clients.close()
        self._measure("closed", 0)
        clients.begin()
        time.sleep(given.settle)
        clients.pause()
        self._measure("open", clients.open_count())
        self._phase(f"{given.kills} kills", self._kill)
        self._measure("after kills", clients.open_count())
        self._phase(f"{given.reloads} reloads", self._reload)
        self._measure("after reloads", clients.open_count())
        self._phase(f"{given.upgrades} upgrades", self._upgrade)
        self._measure("after upgrades", clients.open_count())
        clients.close()
        self._measure("all closed", 0)

    def _phase(self, title, act):
        """Acts under load, then waits for the outcome of each request."""
        begun = time.monotonic()
        self.clients.begin()
        act()
        took = time.monotonic() - begun
        self.clients.pause()
        counts = self.clients.counts
        cells = [counts[column] for column in COLUMNS]
        self.rows.append([title, f"{took:.1f}", *cells, f"{self.clients.slowest_s:.2f}"])
        self._check(title, counts)

    # --- What happens ---

    def _kill(self):
        """Kills random workers that are ready: one that never was ready delays the next worker of its slot."""
        count, within_s = self.arguments.kills, self.arguments.within
        begun, killed = time.monotonic(), set()
        for at in sorted(self.random.uniform(0, within_s) for _ in range(count)):
            time.sleep(max(0, begun + at - time.monotonic()))
            pid = self.random.choice(self._ready_workers(killed))
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        say(f"{count} workers were killed within {time.monotonic() - begun:.1f} s")
        self._await(lambda: len(self._living(killed)) == WORKERS, f"there are not {WORKERS} workers after the kills")
        time.sleep(1)

    def _living(self, killed):
        return [pid for pid in self.server.ready_workers() if pid not in killed]

    def _ready_workers(self, killed):
        self._await(lambda: self._living(killed), "no worker is ready")
        return self._living(killed)

    def _reload(self):
        for _ in range(self.arguments.reloads):
            since = self.server.position()
            self.server.reload()
            self.server.await_line(r"reload\.done", since)

    def _upgrade(self):
        for _ in range(self.arguments.upgrades):
            self.server.upgrade()
        time.sleep(self.arguments.settle)  # With `auto`, it shares once its requests were slow.

    # --- What must hold ---

    def _check(self, title, counts):
        losses = self.clients.losses
        for how, meaning in [("hung", f"had no answer after {HUNG_S} s"), ("504", "were answered 504")]:
            self._require(counts[how] == 0, f"{title}: {counts[how]} requests {meaning}")
        idle = counts["closed shared"]
        self._require(idle == 0, f"{title}: {idle} shared connections were closed while they had no request")
        if title.endswith("kills"):
            # A worker runs one request, but it may have read the beginnings of others.
            lost, kills = counts["lost whole"], self.arguments.kills
            self._require(lost <= kills, f"{title}: {lost} requests were lost on shared ones: {losses[:5]}")
        else:
            self._require(not losses, f"{title}: {len(losses)} requests were lost: {losses[:5]}")
            young = counts["closed young"] + counts["announced"]
            self._require(young == 0, f"{title}: {young} connections were closed after a response")

    def _check_executions(self):
        executed = Counter(self.server.executions.read_text().split())
        twice = [name for name, count in executed.items() if count > 1]
        never = self.clients.answered - executed.keys()
        self._require(not twice, f"{len(twice)} requests were executed twice: {twice[:5]}")
        self._require(not never, f"{len(never)} requests were answered and never executed: {list(never)[:5]}")
        # A worker runs one request, so a kill costs at most one that was executed.
        lost = len(executed.keys() - self.clients.answered)
        kills = self.arguments.kills
        self._require(lost <= kills, f"{lost} executed requests were not answered, after {kills} kills")
        answered = len(self.clients.answered)
        say(f"{len(executed)} requests were executed, {len(twice)} of them twice; {answered} answered")

    def _measure(self, title, connections):
        """Waits until each process has one more descriptor for each connection, and compares its memory."""
        quiet = self.used["at the start"]

        def excess():
            """How many descriptors the supervisor and each worker have for other things than connections."""
            return [one.descriptors - connections for one in self._samples()]

        def is_settled():
            gauges = (self.server.gauge("conn_shared"), self.server.gauge("conn_open"))
            return gauges == (connections, 0) and excess() == [one.descriptors for one in quiet]

        if not self._waited(is_settled):
            shared, own = self.server.gauge("conn_shared"), self.server.gauge("conn_open")
            expected = [one.descriptors for one in quiet]
            self.failures.append(
                f"{title}: {shared} connections are shared and {own} are not, instead of {connections} and 0; "
                f"descriptors for other things: {excess()} instead of {expected}"
            )
        samples = self.used[title] = self._samples()
        before = self.used["open" if connections and "open" in self.used else "closed"]
        for number, (first, last) in enumerate(zip(before, samples, strict=False)):
            process = f"worker {number - 1}" if number else "supervisor"
            growth = last.private_kb - first.private_kb
            is_comparable = len(self.used) > 3
            self._require(not is_comparable or growth <= GROWTH_KB, f"{title}: the {process} has {growth} kB more")

    def _samples(self):
        """What the supervisor uses, and each worker in the order of their age."""
        found = self.server.samples()
        supervisor = found.pop(self.server.supervisor)
        return [supervisor, *(found[pid] for pid in sorted(found))]

    def _require(self, holds, sentence):
        if not holds:
            self.failures.append(sentence)

    def _waited(self, condition):
        until = time.monotonic() + PATIENCE_S
        while not (holds := condition()) and time.monotonic() < until:
            time.sleep(0.02)
        return holds

    def _await(self, condition, otherwise):
        if not self._waited(condition):
            raise Failed(f"{otherwise}:\n{self.server.tail()}")

    # --- The tables ---

    def _print(self):
        table([["phase", "s", *COLUMNS, "slowest s"], *self.rows])
        titles = ["supervisor", *(f"worker {number}" for number in range(WORKERS))]
        cells = [
            [title, *(f"{one.private_kb} kB, {one.descriptors}" for one in samples)]
            for title, samples in self.used.items()
        ]
        table([["private memory, descriptors", *titles], *cells])


def table(rows):
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for first, *rest in rows:
        cells = (str(cell).rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        say(str(first).ljust(widths[0]), *cells, sep="  ")
