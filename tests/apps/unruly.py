"""plain:app, and what no application should do in a request: replace signal handlers, overwrite foreign memory,
exhaust memory."""

import ctypes
import concurrent.futures
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import threading
import time

import plain

ALIGNMENT_BYTES = 128  # of everything on the scoreboard


def app(environ, start_response):
    found = ROUTES.get(environ["PATH_INFO"])
    return plain.app(environ, start_response) if found is None else found(environ, start_response)


def take_signals(environ, start_response):
    """Ignores the signals that the server needs."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return plain.text(start_response, f"{os.getpid()}\n")


def _square(number):
    return number * number


def pool(environ, start_response):
    """Runs processes of multiprocessing."""
    with multiprocessing.get_context("fork").Pool(2) as workers:
        return plain.text(start_response, f"{sum(workers.map(_square, range(100)))}\n")


def fork_and_forget(environ, start_response):
    """Forks a child that exits and is not reaped."""
    if os.fork() == 0:
        os._exit(9)
    return plain.text(start_response, f"{os.getpid()}\n")


def fork_and_exit(environ, start_response):
    """Forks a child that returns to the server `?by=` an exception or otherwise, `?out_of=` the call, an item or
    close(). The answer is the exit status of the child."""

    def fork():
        child = os.fork()
        if child:
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        elif plain.query(environ, "by") == "exit":
            sys.exit(7)
        elif plain.query(environ, "by") == "raise":
            raise LookupError("in the child")

    class Answer:
        def __iter__(self):
            if out_of == "item":
                fork()
            yield f"{statuses}\n".encode()

        def close(self):
            if out_of == "close":
                fork()
                plain.notify(plain.query(environ, "notify"), f"{statuses}")

    statuses, out_of = [], plain.query(environ, "out_of")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if out_of == "call":
        fork()
    return Answer()


def threads(environ, start_response):
    """Continues after the answer in a thread or an executor, which writes `?file=` when the gate opens."""

    def work():
        plain.wait_for_gate(environ)
        with open(plain.query(environ, "file"), "w") as file:
            file.write("done")

    if plain.query(environ, "kind") == "executor":
        EXECUTOR.submit(work)
    else:
        threading.Thread(target=work, name="a thread").start()
    return plain.text(start_response, "begun\n")


EXECUTOR = concurrent.futures.ThreadPoolExecutor(1)


def scribble(environ, start_response):
    """Overwrites the counters of this worker on the scoreboard, by `?how=`."""
    place, size_bytes = own_entry()
    how = plain.query(environ, "how")
    if how == "random":
        noise = random.Random(int(plain.query(environ, "seed"))).randbytes(size_bytes)
    else:
        noise = bytes([int(how, 16)]) * size_bytes
    ctypes.memmove(place, noise, size_bytes)
    return plain.text(start_response, f"{os.getpid()}\n")


def own_entry():
    """Returns the address and the size of the entry that names this process. As long as no worker was replaced,
    workers use every other entry from the first on, which gives the size."""
    with open("/proc/self/maps") as maps:
        line = next(line for line in maps if "memfd:arctos-scoreboard" in line)
    begin, end = (int(number, 16) for number in re.match(r"(\w+)-(\w+) ", line).groups())
    with open(f"/proc/{os.getppid()}/task/{os.getppid()}/children") as children:
        workers = {int(pid) for pid in children.read().split()}
    word = lambda place: ctypes.c_uint32.from_address(place).value  # noqa: E731
    names = {word(place): place for place in range(begin, end, ALIGNMENT_BYTES) if word(place) in workers}
    assert names.keys() == workers, "each worker has an entry"
    places = sorted(names.values())
    sizes = {(after - before) // 2 for before, after in zip(places, places[1:])}
    assert len(sizes) == 1, "the entries have the same size"
    # The orders to the worker come before its own words.
    return names[os.getpid()] - ALIGNMENT_BYTES, sizes.pop()


def allocate(environ, start_response):
    """Allocates memory until none is left."""
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)))


def read_without_memory(environ, start_response):
    """Reads a body that exceeds the memory limit, with the method `?how=` of wsgi.input."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        taken_bytes = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken_bytes + (16 << 20), before[1]))
    try:
        getattr(environ["wsgi.input"], plain.query(environ, "how"))()
        found = "read"
    except MemoryError:
        found = "MemoryError"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return plain.text(start_response, found)


def spin(environ, start_response):
    """Never returns."""
    while True:
        pass


def sleep(environ, start_response):
    """Sleeps for an hour."""
    time.sleep(3600)


ROUTES = {
    f"/{found.__name__.replace('_', '-')}": found
    for found in (take_signals, pool, fork_and_forget, fork_and_exit, threads, scribble, allocate, read_without_memory, spin, sleep)
}
