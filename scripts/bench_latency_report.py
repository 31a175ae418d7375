"""Statistics of `bench latency`, and its table."""

import random
from collections import Counter
from itertools import chain

from bench_arrivals import MIXES, SHORT_US

MOST_RATIO = 1.2  # what a kept connection may add to the p90 of short requests on new ones
BLOCKS, RESAMPLES = 30, 100  # of the bootstrap
LATE_MS = 1  # a client that is later than this distorts what it measures
# Which requests are compared with those on new connections: the short ones, if a mix has such.
COMPARED = {"short-long": "short", "exponential": "all"}
NEW, IDEAL = "new", "ideal"


def percentile(ordered, percent):
    """Returns the smallest of the sorted values that at least `percent` % of them do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def summary(outcomes):
    """Returns the statistics of all outcomes, with times in ms. It is empty if no request has a response."""
    answered = sorted(outcome.latency_s * 1e3 for outcome in outcomes if outcome.latency_s is not None)
    if not answered:
        return {}
    return {
        "p50": percentile(answered, 50),
        "p90": percentile(answered, 90),
        "p99": percentile(answered, 99),
        "max": answered[-1],
    }


def measured(mix, outcomes, warm_up_s, seconds):
    """Returns what a cell of the table holds about the outcomes after the warm-up."""
    counted = [outcome for outcome in outcomes if outcome.at_s >= warm_up_s]
    short = [outcome for outcome in counted if outcome.service_us == SHORT_US]
    latencies = [outcome.latency_s for outcome in (short if COMPARED[mix] == "short" else counted)]
    begun = sorted(outcome.at_s + outcome.late_s for outcome in counted)
    late = sorted(outcome.late_s * 1e3 for outcome in counted)
    return {
        "requests": len(counted),
        "due per second": len(counted) / seconds,
        # If the client cannot keep up, it begins with the last request after the end.
        "arrivals per second": len(counted) / max(seconds, begun[-1] - warm_up_s) if counted else 0.0,
        "late p99": percentile(late, 99) if late else 0.0,
        "late max": late[-1] if late else 0.0,
        "lost": sum(outcome.latency_s is None for outcome in counted),
        "losses": Counter(outcome.loss for outcome in counted if outcome.loss),
        "all": summary(counted),
        "short": summary(short),
        # Of each request that is compared, in the order of arrival.
        "latencies_us": [None if latency_s is None else round(latency_s * 1e6) for latency_s in latencies],
    }


def compared(cell):
    return COMPARED[cell["mix"]]


def compare(cells):
    """Puts the comparison with new connections into each cell that has one."""
    new = {(cell["mix"], cell["load"], cell["server"]): cell for cell in cells if cell["connections"] == NEW}
    for cell in cells:
        base = new.get((cell["mix"], cell["load"], cell["server"]))
        if base is not cell and base and cell[compared(cell)] and base[compared(cell)]:
            cell["x new"] = over_new(cell, base)


def over_new(cell, base):
    """Returns p90 over that of new connections, and the interval in which it is with a confidence of 95 %.

    Both cells had the same arrivals, so that much of what is random in one is the same in the other. A bootstrap with
    blocks, which are chosen for both alike, keeps that, and also that a busy time makes many requests in a row wait."""
    draw, found = random.Random(0), []
    pairs = list(zip(blocks(cell["latencies_us"]), blocks(base["latencies_us"])))
    for _ in range(RESAMPLES):
        own, other = map(joined, zip(*draw.choices(pairs, k=len(pairs))))
        if own and other:
            found.append(percentile(own, 90) / percentile(other, 90))
    one, two = (each[compared(each)]["p90"] for each in (cell, base))
    found = sorted(found) or [one / two]
    return {"ratio": one / two, "low": percentile(found, 3), "high": percentile(found, 98)}


def blocks(latencies):
    """Splits latencies into successive blocks, without those that are lost, and sorts each."""
    cuts = [len(latencies) * number // BLOCKS for number in range(BLOCKS + 1)]
    return [sorted(each for each in latencies[a:b] if each is not None) for a, b in zip(cuts, cuts[1:])]


def joined(blocks):
    return sorted(chain.from_iterable(blocks))


def ms(value):
    """Formats milliseconds with three significant digits."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(cells):
    """Returns one row for each cell. Columns are aligned, so that it can be read as it is."""
    header = ["mix", "load", "server", "connections", "requests", "arrivals/s", "p50", "p90", "p99", "max", "lost"]
    header += ["p90, 1 ms", "x new", "95 %"]
    rows = []
    for cell in cells:
        found = cell.get("x new")
        rows.append([
            cell["mix"],
            f"{cell['load']:.0%}",
            cell["server"],
            cell["connections"],
            str(cell["requests"]),
            f"{cell['arrivals per second']:.0f}" + (" (late)" if cell["late p99"] > LATE_MS else ""),
            *(ms(cell["all"].get(key)) for key in ("p50", "p90", "p99", "max")),
            str(cell["lost"]),
            ms(cell["short"].get("p90")) if compared(cell) == "short" else "–",
            f"{found['ratio']:.2f}" if found else "–",
            f"{found['low']:.2f}–{found['high']:.2f}" if found else "–",
        ])  # fmt: skip
    return aligned(header, rows, texts=3)


def aligned(header, rows, texts):
    """Returns a table in Markdown whose first `texts` columns are text and whose other columns are numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    rule = ["-" * width if number < texts else "-" * (width - 1) + ":" for number, width in enumerate(widths)]

    def line(words):
        padded = [
            word.ljust(width) if number < texts else word.rjust(width)
            for number, (word, width) in enumerate(zip(words, widths))
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(map(line, [header, rule, *rows]))


def legend(cells):
    """Explains the table."""
    mixes = {cell["mix"]: MIXES[cell["mix"]].title for cell in cells}
    lines = [f"- {name}: service times are {title}." for name, title in mixes.items()]
    lines += [
        "- Times are in ms, from when a request was due to the end of its response. `new`: a connection for each request.",
        "- `x new`: p90 over that of the same server with new connections, of 1 ms requests if the mix has them, and the"
        "\n  interval of 95 % confidence. It is also small if new connections wait for busy workers, too.",
        "- `lost`: requests without a response, or with a status other than 200. They are not in the percentiles.",
    ]
    if any(cell["server"] == IDEAL for cell in cells):
        lines.append("- `ideal` is computed: one queue feeds all workers, and nothing but the application takes time.")
    if any(cell["late p99"] > LATE_MS for cell in cells):
        lines.append(f"- `late`: 1 % of the requests began more than {LATE_MS} ms late, so trust no figure of this row.")
    for cell in cells:
        if cell["lost"]:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in cell["losses"].items())
            lines.append(f"- {place(cell)}: lost {reasons}.")
    return "\n".join(lines)


def place(cell):
    return f"{cell['server']}, {cell['mix']}, {cell['load']:.0%}, {cell['connections']} connections"


def verdicts(cells):
    """Says for each server whether its kept connections are as good as new ones for short requests."""
    lines = []
    # Those of other servers say little: some let new connections wait for busy workers as well.
    for server in dict.fromkeys(cell["server"] for cell in cells if "arctos" in cell["server"]):
        short = [cell for cell in cells if cell["server"] == server and compared(cell) == "short" and "x new" in cell]
        if not short:
            continue
        cell = max(short, key=lambda cell: cell["x new"]["ratio"])
        worst, low, high = (cell["x new"][key] for key in ("ratio", "low", "high"))
        holds = "holds" if worst <= MOST_RATIO else "does not hold"
        where = f"load {cell['load']:.0%}, {cell['connections']} connections; 95 %: {low:.2f} to {high:.2f}"
        lines.append(f"- {server}: at most {worst:.2f} x ({where}): {MOST_RATIO} x {holds}")
    if not lines:
        return ""
    return "\n".join(["p90 of 1 ms requests on kept connections, over that on new connections in the same run:", *lines])
