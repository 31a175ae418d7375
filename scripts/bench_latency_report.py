"""Statistics of `bench latency`, and its table."""

from collections import Counter

from bench_arrivals import MIXES, SHORT_US

MOST_RATIO = 1.2  # what a kept connection may add to the p90 of short requests on new ones
LATE_MS = 1  # a client that is later than this distorts what it measures
NEW = "new"


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


def measured(outcomes, warm_up_s, seconds):
    """Returns what a cell of the table holds about the outcomes after the warm-up."""
    counted = [outcome for outcome in outcomes if outcome.at_s >= warm_up_s]
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
        "short": summary([outcome for outcome in counted if outcome.service_us == SHORT_US]),
    }


def compared(cell):
    """Which requests of a cell are compared with those on new connections: the short ones, if it has such."""
    return "short" if cell["mix"] == "short-long" else "all"


def ratio(cell, cells):
    """Returns p90 over that of the same server with new connections, or None if there is nothing to compare."""
    for other in cells:
        same = all(other[key] == cell[key] for key in ("mix", "load", "server"))
        if same and other["connections"] == NEW != cell["connections"]:
            own, base = (one[compared(one)].get("p90") for one in (cell, other))
            return own / base if own and base else None
    return None


def ms(value):
    """Formats milliseconds with three significant digits."""
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(cells):
    """Returns one row for each cell. Columns are aligned, so that it can be read as it is."""
    header = ["mix", "load", "server", "connections", "requests", "arrivals/s", "p50", "p90", "p99", "max", "lost"]
    header += ["p90, 1 ms", "x new"]
    rows = []
    for cell in cells:
        of_new = ratio(cell, cells)
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
            f"{of_new:.2f}" if of_new else "–",
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
        "- `x new` is p90 over that of the same server with new connections, of 1 ms requests if the mix has them. It is"
        " also small if new connections wait, too.",
        "- `lost`: requests without a response, or with a status other than 200. They are not in the percentiles.",
    ]
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
        short = [cell for cell in cells if cell["server"] == server and compared(cell) == "short"]
        ratios = [(ratio(cell, cells), cell) for cell in short]
        ratios = [pair for pair in ratios if pair[0] is not None]
        if not ratios:
            continue
        worst, cell = max(ratios, key=lambda pair: pair[0])
        holds = "holds" if worst <= MOST_RATIO else "does not hold"
        lines.append(
            f"- {server}: at most {worst:.2f} x (load {cell['load']:.0%}, {cell['connections']} connections);"
            f" {MOST_RATIO} x {holds}"
        )
    if not lines:
        return ""
    return "\n".join(["p90 of 1 ms requests on kept connections, over that on new connections in the same run:", *lines])
