"""Ports for programs that need a number before they bind it."""

import random
import socket
from pathlib import Path

LOWEST = 10_000
ATTEMPTS = 100


def free_port(kind=socket.SOCK_STREAM):
    """Returns a port that is free now and that the kernel gives to no other socket until it is bound.

    Tests run side by side, so a port of the range that the kernel chooses from could be taken in the meantime.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(ATTEMPTS):
        with socket.socket(socket.AF_INET, kind) as probe:
            port = random.randrange(LOWEST, end) if end > LOWEST else 0
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue  # it is in use
            return probe.getsockname()[1]
    raise AssertionError("no free port")
