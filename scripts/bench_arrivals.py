"""Arrivals of an open loop: when each request is due, and how long the application takes for it."""

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

SHORT_US, LONG_US, LONG_SHARE = 1_000, 100_000, 0.1
EXPONENTIAL_US = 10_000


class Arrival(NamedTuple):
    """A request that is due `at_s` after the begin of the load."""

    at_s: float
    service_us: int


class Mix(NamedTuple):
    """A distribution of service times."""

    title: str
    shown: str  # what the picture shows of it
    mean_us: float
    draw_us: Callable  # one service time, from a `random.Random`


MIXES = {
    "short-long": Mix(
        "90 % of 1 ms, 10 % of 100 ms",
        "1 ms requests beside 10 % of 100 ms",
        (1 - LONG_SHARE) * SHORT_US + LONG_SHARE * LONG_US,
        lambda draw: LONG_US if draw.random() < LONG_SHARE else SHORT_US,
    ),
    "exponential": Mix(
        "exponential, 10 ms on average",
        "requests of 10 ms, exponential",
        EXPONENTIAL_US,
        lambda draw: round(draw.expovariate(1 / EXPONENTIAL_US)),
    ),
}


def rate_per_second(mix, load, workers):
    """Returns the arrivals per second that keep each worker busy for the fraction `load` of the time."""
    return load * workers / MIXES[mix].mean_us * 1e6


def arrivals(mix, load, workers, seconds, seed):
    """Returns the arrivals of a Poisson process. The same arguments give the same arrivals on every machine."""
    draw = random.Random(f"{seed} {mix} {load} {workers}")
    rate, at_s, found = rate_per_second(mix, load, workers), 0.0, []
    while (at_s := at_s + draw.expovariate(rate)) < seconds:
        found.append(Arrival(at_s, MIXES[mix].draw_us(draw)))
    return found


def waiting_least(due, workers):
    """Returns the latency of each arrival in s, if one queue feeds all workers and nothing but the application takes
    time. What a server adds is the difference from this."""
    free_at_s, latencies = [0.0] * workers, []
    for arrival in due:
        end = max(arrival.at_s, free_at_s[0]) + arrival.service_us / 1e6
        heapq.heapreplace(free_at_s, end)
        latencies.append(end - arrival.at_s)
    return latencies
