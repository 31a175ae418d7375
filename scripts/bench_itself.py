"""Compares arctos with itself: what its options and features cost a request."""

import json
import shutil

import bench_report as report
from bench_cases import ACCESS_LOGS, CASES, OTHER_CASES, PARTS_OF_METRICS, ROUTES, SLOW_REQUESTS
from bench_environment import say
from bench_rounds import Profiler, Scraper, instructions, interleave, statsd_sink
from bench_servers import PLACE, PYTHON, Failed, Variant
from bench_updates import measure_updates

ARCTOS = Variant("arctos", "arctos")
AGAIN = Variant("arctos again", "arctos")
HELLO = CASES["hello"]
TAGS = "app:bench,team:web"
# Rounds against itself, for each that is asked for: the differences are small.
ROUNDS_AGAINST_ITSELF = 3
# The instructions of these are counted, which takes minutes for each.
COUNTED = ("metrics", "access log: text", "access log: JSON", "one route", "no request is slow")


# --- The cases -------------------------------------------------------------------------------------------------------


def compare_access_log(cpus, arguments):
    """Compares each format of the access log, and the choice of its lines, with no access log."""
    log = PLACE / "access.log"
    found = compare_pairs([ARCTOS, AGAIN, *access_logs(log)], cpus, arguments)
    log.unlink(missing_ok=True)
    return found


def access_logs(log):
    to = ("--access-logfile", str(log))
    return [Variant(f"access log: {name}", "arctos", (*to, *options)) for name, options in ACCESS_LOGS.items()]


def compare_routes(cpus, arguments):
    """Compares requests that have routes with requests that have none. The cost is that of the server, and of naming the
    route: one statement, or with Flask the helper of arctos."""
    found = {"hello": compare_pairs([ARCTOS, AGAIN, *routes()], cpus, arguments)}
    flask = [Variant("Flask", "arctos"), Variant("Flask again", "arctos")]
    flask += [Variant("Flask: name_routes", "arctos", app="flask_with_routes")]
    return {**found, "flask": compare_pairs(flask, cpus, arguments, case=CASES["flask"])}


def routes():
    return [Variant(name, "arctos", options, app=app) for name, (app, options) in ROUTES.items()]


def compare_slow_requests(cpus, arguments):
    """Compares a log of slow requests with none, while requests wait for each other."""
    return compare_pairs([ARCTOS, AGAIN, *slow_requests()], cpus, arguments, case=CASES["1000"])


def slow_requests():
    written = ("--log-level", "warning")
    return [Variant(name, "arctos", (*written, "--slow-request", limit)) for name, limit in SLOW_REQUESTS.items()]


def compare_profile(cpus, arguments):
    """Compares a server that is profiled with one that is not, with an admin socket each."""
    shown = ("--admin-bind", f"unix:{PLACE}/profile.sock")
    found = {}
    for name, title in (("hello", "arctos"), ("flask", "Flask")):
        profiler = Profiler(PLACE / "profile.sock")
        variants = [Variant(title, "arctos", shown), Variant(f"{title} again", "arctos", shown)]
        variants.append(Variant(f"{title}: profile", "arctos", shown))
        found[name] = compare_pairs(variants, cpus, arguments, {f"{title}: profile": profiler}, CASES[name])
        found[name] |= {"profiles": profiler.profiles, "failed profiles": profiler.failures}
        print(f"{profiler.profiles} profiles were taken, {profiler.failures} failed.\n")
    return found


def compare_updates(cpus, arguments):
    """Compares updates from Python with those of other clients. They need no server."""
    with statsd_sink(cpus) as (port, _):
        found = measure_updates(PYTHON, port)
    print(report.updates(found), "\n", flush=True)
    return found


def compare_sharing(cpus, arguments):
    """Compares two workers that may share their connections with two that do not, for an application that is fast."""
    modes = {"sticky": "sticky", "sticky again": "sticky", "auto": "auto", "shared": "shared"}
    options = {name: ("--workers", "2", "--keepalive-mode", mode) for name, mode in modes.items()}
    variants = [Variant(name, "arctos", options[name]) for name in modes]
    return {name: compare_pairs(variants, cpus, arguments, case=CASES[name]) for name in ("hello", "browser")}


def compare_metrics(cpus, arguments):
    """Compares everything that measures with nothing of it, and prints all costs in one table."""
    found = {"metrics": compare_emitter(cpus, arguments)}
    for name in PARTS_OF_METRICS:
        print(f"### {name}: {OTHER_CASES[name]}\n", flush=True)
        found[name] = COMPARISONS[name](cpus, arguments)
    found["instructions"] = count_instructions(cpus)
    print(f"### What all of it costs a request\n\n{report.costs(found, found['instructions'])}\n", flush=True)
    return found


def compare_emitter(cpus, arguments):
    """Compares metrics that are sent every 2 s and scraped every second with neither."""
    scraper = Scraper()
    with statsd_sink(cpus) as (port, counts):
        # A flush is due every 2 s, so each round has at least one.
        seconds = max(arguments.seconds, 2)
        variants = [ARCTOS, AGAIN, sent_and_shown(port, scraper.port)]
        found = compare_pairs(variants, cpus, arguments, {"metrics": scraper}, seconds=seconds)
        found["sink"] = json.loads(counts())
        found["scrapes"] = {"good": scraper.answers, "bytes": scraper.bytes, "failed": scraper.failures}
        print(f"The sink counted {counts()}; /metrics was read {scraper.answers} times, {scraper.failures} failed.\n")
        if arguments.statsd_bjoern:
            off = Variant("bjoern", "bjoern", (), arguments.statsd_bjoern)
            on = Variant("bjoern, statsd", "bjoern", (str(port),), arguments.statsd_bjoern)
            found["bjoern"] = compare_pairs([off, on], cpus, arguments, seconds=seconds)
            print(f"The sink counted {counts()} by now.\n")
    return found


def sent_and_shown(statsd_port, admin_port):
    sent = ("--statsd-host", f"127.0.0.1:{statsd_port}", "--statsd-interval", "2", "--dogstatsd-tags", TAGS)
    return Variant("metrics", "arctos", (*sent, "--zone", "loopback", "--admin-bind", f"127.0.0.1:{admin_port}"))


def count_instructions(cpus):
    """Counts the worker's instructions for a request, without anything and with what `COUNTED` names."""
    if not shutil.which("valgrind"):
        say("no valgrind: instructions are not counted. Debian, Ubuntu: apt-get install valgrind")
        return {}
    found, log = {}, PLACE / "access.log"
    with statsd_sink(cpus) as (port, _):
        measuring = [sent_and_shown(port, Scraper().port), *access_logs(log), *routes(), *slow_requests()]
        for variant in [ARCTOS, *(variant for variant in measuring if variant.name in COUNTED)]:
            say(f"{variant.name}: counting instructions, which takes a few minutes")
            try:
                found[variant.name] = instructions(variant, HELLO, cpus)
            except Failed as failure:
                left_out({variant.name: str(failure)})
    log.unlink(missing_ok=True)
    return found


COMPARISONS = {
    "metrics": compare_metrics,
    "access-log": compare_access_log,
    "routes": compare_routes,
    "slow-requests": compare_slow_requests,
    "profile": compare_profile,
    "updates": compare_updates,
    "sharing": compare_sharing,
}


# --- One comparison --------------------------------------------------------------------------------------------------


def compare_pairs(variants, cpus, arguments, beside=None, case=HELLO, seconds=None):
    """Compares all variants with the first one, round by round. The second one is usually the same, to show the noise."""
    rounds, seconds = arguments.rounds * ROUNDS_AGAINST_ITSELF, seconds or arguments.seconds
    runs_of, failures = interleave(variants, case, cpus, rounds, seconds, beside)
    print(f"{case.title}:\n\n{report.table(runs_of)}\n")
    left_out(failures)
    found = {}
    base = variants[0].name
    for name in [name for name in runs_of if name != base and base in runs_of]:
        found[name] = report.paired(runs_of[name], runs_of[base])
        print(f"- {report.paired_sentence(name, base, found[name])}")
    for variant in variants:
        if variant.server == "arctos" and variant.name in runs_of:
            busy = report.of(runs_of[variant.name], "first_busy")
            print(f"- {variant.name}: the supervisor took {busy:.3%} of a CPU")
    print(flush=True)
    return {"over": base, "ratios": found, "left out": failures, "rounds": as_data(runs_of)}


def left_out(reasons):
    for name, why in reasons.items():
        print(f"Without {name}: {why}.\n")


def as_data(runs_of):
    return {name: [run._asdict() for run in runs] for name, runs in runs_of.items()}
