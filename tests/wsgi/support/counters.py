"""The 15 specified counters: their abbreviations, sequences of them, and their invariants."""

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
    """Counts the abbreviations in a sequence."""
    found = Counter(letters.split())
    assert found.keys() <= NAMES.keys()
    return found


def abbreviated(counts):
    """Selects the 15 specified counters from the sums of all."""
    return +Counter({letters: counts[name] for letters, name in NAMES.items()})


def check_invariants(counts, lost=0, torn=0):
    """Checks what holds for the sums of one idle worker or of all.

    `lost` is the number of connections that died with killed workers. `torn` is the number of workers killed at
    an arbitrary moment: such a worker may have died between a system call and its count, or between two counts
    that belong together."""
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
