"""The 15 counters' specification: their abbreviations, sequences of them, and what always holds
between them."""

from collections import Counter

NAMES = {
    "AS": "conn.accept.success",
    "AE": "conn.accept.error",
    "RR": "req.success.read",
    "RD": "req.done",
    "RA": "req.active",
    "EP": "req.error.parse",
    "EI": "req.error.internal",
    "ER": "req.error.read",
    "CD": "req.error.client_disconnected",
    "RX": "req.aborted",
    "SA": "resp.active",
    "SD": "resp.done",
    "SK": "resp.done.keepalive",
    "SC": "resp.conn.close",
    "SX": "resp.aborted",
}


def sequence(letters):
    """How often each is in it."""
    found = Counter(letters.split())
    assert found.keys() <= NAMES.keys()
    return found


def abbreviated(counts):
    """Of all counters' sums, the 15."""
    return +Counter({letters: counts[name] for letters, name in NAMES.items()})


def check_invariants(counts, lost=0, torn=0):
    """What holds when a worker is quiet, of its sums or of all workers'. `lost`: connections that died
    with killed workers. `torn`: workers killed at any moment, which may have been between a system call
    and the count of it, or between two counts that belong together."""
    n = abbreviated(counts)
    equal = {
        "AS = SC + SX + RX + lost": (n["AS"], n["SC"] + n["SX"] + n["RX"] + lost),
        "RR + EP = RD": (n["RR"] + n["EP"], n["RD"]),
        "CD + ER = RX": (n["CD"] + n["ER"], n["RX"]),
        "SD = SK + SC": (n["SD"], n["SK"] + n["SC"]),
        "RD = SD + SX": (n["RD"], n["SD"] + n["SX"]),
    }
    off = {name: sides for name, sides in equal.items() if abs(sides[0] - sides[1]) > torn}
    assert not off, f"{off} of {dict(n)}"
    assert n["EI"] <= n["RR"]
