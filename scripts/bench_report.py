"""Turns rounds into tables. Ratios are taken within each round, in which both sides had the same conditions."""

from statistics import median

# Above this, requests per second measure the load generator or the machine rather than the server.
LOAD_IS_FULL = 0.95


def quartile(values, upper):
    """Returns the median of the upper or the lower half."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return median((ordered[-half:] if upper else ordered[:half]) or ordered)


def spread(values):
    """Returns half the interquartile range as a fraction of the median."""
    return (quartile(values, 1) - quartile(values, 0)) / 2 / median(values)


def ratios(runs, other, field):
    """Returns the ratio of `field` between `runs` and `other` for each round."""
    pairs = zip((getattr(run, field) for run in runs), (getattr(run, field) for run in other))
    return [mine / theirs for mine, theirs in pairs]


def of(runs, field):
    """Returns the median of a field."""
    return median(getattr(run, field) for run in runs)


def lost(runs):
    """Returns the number of missing or wrong responses."""
    return sum(run.errors + run.unanswered for run in runs)


def markdown(header, rows):
    """Returns a table whose first column is text and whose other columns are numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def count(number):
    """Formats a number with three or four significant digits."""
    if number >= 1e4:
        return f"{number / 1e3:.1f} k" if number < 1e5 else f"{number / 1e3:.0f} k"
    return f"{number:.0f}"


def micro(us):
    """Formats microseconds."""
    return f"{us:.2f}" if us < 100 else f"{us:.0f}"


def table(runs_of):
    """Returns a table with one row per server."""
    header = ["server", "requests/s", "±", "CPU us/request", "±", "CPU busy", "load busy", "p50 us", "p99 us", "lost"]
    rows = []
    for name, runs in runs_of.items():
        full = of(runs, "load_busy") > LOAD_IS_FULL
        rows.append([
            name,
            count(of(runs, "requests_per_second")) + (" (load full)" if full else ""),
            f"{spread([run.requests_per_second for run in runs]):.0%}",
            micro(of(runs, "cpu_us")),
            f"{spread([run.cpu_us for run in runs]):.0%}",
            f"{of(runs, 'server_busy'):.0%}",
            f"{of(runs, 'load_busy'):.0%}",
            micro(of(runs, "p50_us")),
            micro(of(runs, "p99_us")),
            str(lost(runs)),
        ])  # fmt: skip
    return markdown(header, rows)


def comparison(runs_of):
    """Compares arctos with its best peer and the floor. A server that loses responses is no peer."""
    own = runs_of["arctos"]
    peers = {name: runs for name, runs in runs_of.items() if name not in ("arctos", "floor") and not lost(runs)}
    found = {}
    if peers:
        fastest = max(peers, key=lambda name: of(peers[name], "requests_per_second"))
        thriftiest = min(peers, key=lambda name: of(peers[name], "cpu_us"))
        found["best peer"] = fastest
        found["requests/s over best peer"] = median(ratios(own, peers[fastest], "requests_per_second"))
        found["thriftiest peer"] = thriftiest
        found["CPU of thriftiest peer over own"] = median(ratios(peers[thriftiest], own, "cpu_us"))
    if "floor" in runs_of:
        found["requests/s over floor"] = median(ratios(own, runs_of["floor"], "requests_per_second"))
        found["CPU of floor over own"] = median(ratios(runs_of["floor"], own, "cpu_us"))
    return found


def sentence(found):
    """Describes a comparison in a sentence."""
    parts = []
    if "best peer" in found:
        parts.append(f"{found['requests/s over best peer']:.2f} x the requests/s of {found['best peer']}")
        parts.append(f"{found['CPU of thriftiest peer over own']:.2f} x as thrifty as {found['thriftiest peer']}")
    if "requests/s over floor" in found:
        floor = f"{found['requests/s over floor']:.2f} of the floor's requests/s"
        parts.append(f"{floor} ({found['CPU of floor over own']:.2f} by CPU)")
    return "arctos: " + ", ".join(parts) if parts else ""


def summary(comparisons):
    """Returns the ratios of all cases in one table."""

    def cell(found, key, name=None):
        return f"{found[key]:.2f}" + (f" {found[name]}" if name else "") if key in found else ""

    rows = [
        [
            title,
            cell(found, "requests/s over best peer", "best peer"),
            cell(found, "CPU of thriftiest peer over own", "thriftiest peer"),
            cell(found, "requests/s over floor"),
            cell(found, "CPU of floor over own"),
        ]
        for title, found in comparisons.items()
    ]
    header = ["case", "requests/s, x the best peer", "CPU, x the thriftiest peer", "requests/s, of the floor"]
    return markdown([*header, "CPU, of the floor"], rows)


def updates(rounds_of):
    """Returns a table of what updates of metrics take, by client."""
    header = ["client"]
    for update in next(iter(rounds_of.values()), {}):
        header += [f"{update}, ns", "±"]
    rows = []
    for client, rounds in rounds_of.items():
        rows.append([client])
        for costs in rounds.values():
            rows[-1] += [f"{median(costs):.0f}", f"{spread(costs):.0%}"]
    return markdown(header, rows)


def paired(runs, base):
    """Returns the extra cost of `runs` over `base` for each round."""
    cpu, speed = ratios(runs, base, "cpu_us"), ratios(runs, base, "requests_per_second")
    more = [mine.cpu_us - theirs.cpu_us for mine, theirs in zip(runs, base)]
    return {
        "CPU us": median(more),
        "CPU us, lower quartile": quartile(more, 0),
        "CPU us, upper quartile": quartile(more, 1),
        "CPU": median(cpu),
        "CPU, lower quartile": quartile(cpu, 0),
        "CPU, upper quartile": quartile(cpu, 1),
        "requests/s": median(speed),
    }


def paired_sentence(name, base, found):
    """Describes the extra cost in a sentence."""
    lower, upper = found["CPU, lower quartile"], found["CPU, upper quartile"]
    return (
        f"{name}: {found['CPU'] - 1:+.1%} CPU a request against {base}"
        f" (half of the rounds: {lower - 1:+.1%} to {upper - 1:+.1%}), {found['requests/s'] - 1:+.1%} requests/s"
    )


COSTS = """
What a request costs more than one of the same round without. CPU is the user and system time of all processes of the
server; the first two columns of it are the median of all rounds, and its quartiles. `again` is the same server once
more: a difference of that size is noise. Instructions are those of the worker, with eight connections."""


def costs(found, instructions):
    """Returns one table of the extra costs in all comparisons, which are anywhere in the cases of `found`. `instructions`
    has those of some variants."""
    header = ["case", "what", "over", "CPU, ns", "half of the rounds", "CPU", "requests/s", "instructions"]
    rows = []
    for case, base, name, cost in [(case, *one) for case, part in found.items() for one in comparisons(part)]:
        lower, upper = cost["CPU us, lower quartile"], cost["CPU us, upper quartile"]
        counted = name in instructions and base in instructions
        rows.append([
            case,
            name,
            base,
            f"{cost['CPU us'] * 1e3:+.0f}",
            f"{lower * 1e3:+.0f} to {upper * 1e3:+.0f}",
            f"{cost['CPU'] - 1:+.1%}",
            f"{cost['requests/s'] - 1:+.1%}",
            f"{instructions[name] - instructions[base]:+.0f}" if counted else "",
        ])  # fmt: skip
    return markdown(header, rows) + "\n" + COSTS


def comparisons(found):
    """Yields the base, the name and the cost of everything that was compared."""
    for name, cost in found.get("ratios", {}).items():
        yield found["over"], name, cost
    for part in found.values():
        if isinstance(part, dict) and "ratios" not in found:
            yield from comparisons(part)
