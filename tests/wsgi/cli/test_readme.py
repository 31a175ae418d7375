"""The options, commands, names and samples in the README, the guide and the recipes match the installed wheel."""

import ast
import re
import shlex
from collections import Counter
from itertools import takewhile

import pytest
import yaml
from support.server import MANUAL, ROOT, printed_configuration, run
from yellowbox_statsd.metrics import Metric

# The files that make up one deployment are in directories, and have tests of their own.
KUBERNETES = ROOT / "scripts" / "kubernetes"
RECIPES = sorted(KUBERNETES.glob("*.yaml"))
DEPLOYED = sorted(path for path in KUBERNETES.rglob("*.yaml") if path.parent != KUBERNETES)

# Options in the guide of other programs, and options of other servers that arctos does not have.
FOREIGN = {
    "--rounds", "--peers", "--threads", "--worker-connections", "--ciphers", "--ssl-version", "--daemon",
    "--forwarder-headers", "--secure-scheme-headers",
    "--respawn-failed-workers", "--profiler", "--no-default-features",
    "--enable-feature",  # of Prometheus
    "--features", "--all",
    # Options of manage.py, flask and pserve.
    "--app", "--app-name", "--host", "--insecure", "--no-reload", "--noreload", "--nostatic", "--parallel",
    "--paste", "--port", "--skip-checks",
}  # fmt: skip
# The values that Kubernetes substitutes for a `valueFrom`.
DOWNWARD = {
    "status.hostIP": "10.1.2.3",
    "metadata.uid": "8b1c-uid",
    "metadata.labels['topology.kubernetes.io/zone']": "central-europe",
    "metadata.labels['tags.datadoghq.com/env']": "production",
    "metadata.labels['tags.datadoghq.com/service']": "shop",
    "metadata.labels['tags.datadoghq.com/version']": "1.4.2",
}
# The configuration that a recipe results in.
EXPECTED = {
    "datadog-socket.yaml": {
        "--statsd-host": "unix:///var/run/datadog/dsd.socket",
        "--statsd-format": "auto (dogstatsd)",
        "--dogstatsd-tags": "service:shop,env:production",
        "--zone": "central-europe",
    },
    "datadog-udp.yaml": {
        "--statsd-host": "10.1.2.3:8125",
        "--statsd-format": "auto (dogstatsd)",
        "--dogstatsd-tags": "env:production,service:shop,version:1.4.2,dd.internal.entity_id:8b1c-uid",
        "--zone": "central-europe",
    },
    "prometheus.yaml": {"--admin-bind": ":9000", "--statsd-host": "-", "--zone": "central-europe"},
    "statsd-exporter.yaml": {
        "--statsd-host": "127.0.0.1:8125",
        "--statsd-format": "dogstatsd",
        "--statsd-prefix": "arctos",
        "--zone": "central-europe",
    },
    "zone-init.yaml": {"--statsd-host": "statsd.monitoring:8125", "--zone": "zone-of-the-file"},
}


def blocks(language):
    """Returns the code blocks of a language; `''` selects those without one."""
    found = re.findall(r"^```(\w*(?: example)?)\n(.*?)^```$", MANUAL, re.M | re.S)
    return [text for its_language, text in found if its_language == language]


@pytest.fixture(scope="module")
def options():
    """All options in --help of the server and of its verbs."""
    verbs = [("ctl", verb) for verb in ("status", "reload", "stop", "scale", "dump", "recycle", "metrics", "profile")]
    helps = [run(*words, "--help")[1] for words in [(), ("top",), *verbs]]
    return {option for text in helps for option in re.findall(r"--[a-z][a-z-]+", text)}


def table():
    """The table of all metrics in the guide: kind and Prometheus name by name."""
    text = MANUAL.partition("<!-- metrics:begin -->")[2].partition("<!-- metrics:end -->")[0]
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| ([a-z]+) \| [^|]* \| `([a-z0-9_]+)` \|", text, re.M)
    assert len(rows) > 40
    return {name: (kind, prometheus_name) for name, kind, prometheus_name in rows}


# --- Commands and options ---


def commands(program):
    """Returns the arguments of each command line in a shell block of the guide that starts this program."""
    lines = "".join(blocks("sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if re.match(rf"(\S+/)?{program}\b", line)]
    return [list(takewhile(lambda word: word not in ("|", ">", "&"), line[1:])) for line in words]


def test_every_command_of_arctos_is_accepted():
    others = {"ctl", "top", "help", "init", "dashboard", "alerts", "completions", "man", "--help"}
    served = [words for words in commands("arctos") if not others.intersection(words[:1])]
    assert len(served) >= 5
    for words in served:
        printed_configuration([word for word in words if word not in ("--check", "--print-config")])


def test_every_command_of_the_demonstration_is_accepted():
    given = [words for words in commands("scripts/serve") if words]
    assert given
    for words in given:
        printed_configuration(words, ARCTOS_APP="demo:app")


def test_every_command_of_ctl_and_top_is_accepted():
    asked = [words for words in commands("arctos") if {"ctl", "top"}.intersection(words[:1])]
    assert asked
    for words in asked:
        code, _, error = run(*words, env={"ARCTOS_ADMIN_BIND": "unix:/run/shop-admin.sock"})
        assert (code, error.partition(":")[0]) == (1, "error") and "cannot reach" in error


def test_every_option_that_is_named_exists(options):
    # The tables of other servers name their settings in the first column.
    manual = re.sub(r"^\| `[^|]*\|(?= (?:`--|`MODULE|Nothing to set:|None:))", "|", MANUAL, flags=re.M)
    named = set(re.findall(r"`[^`\n]*`", manual))
    named = {option for text in named for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert len(named) > 40
    assert named - options - FOREIGN == set()
    assert FOREIGN & options == set()


def test_every_option_has_a_variable_as_the_guide_names_it(options):
    named = set(re.findall(r"ARCTOS_[A-Z_]+\b", MANUAL)) - {"ARCTOS_", "ARCTOS_APP"}
    flags = {"ARCTOS_" + option[2:].replace("-", "_").upper() for option in options}
    assert named - flags == set()


def test_python_blocks_are_python():
    assert len(blocks("python")) >= 2
    for block in blocks("python"):
        ast.parse(block)


# --- Samples of metrics ---


def sample(first_line):
    """Returns the block that begins with this text."""
    [found] = [block for block in blocks("") if block.startswith(first_line)]
    return found.splitlines()


def test_the_captured_flush_has_lines_and_names_that_are_sent():
    rows, durations = table(), Counter()
    kinds = {"c": "counter", "g": "gauge", "d": "distribution"}
    for line in sample("arctos.workers.target"):
        if line.startswith("["):
            continue
        metric = Metric.parse(line)
        name = metric.name.removeprefix("arctos.")
        assert kinds[metric.type] == rows[name][0], line
        if name == "request.duration":
            durations[metric.sample_rate or 1] += len(metric.values)
    assert durations == {1: 8, 0.5: 7, 0.25: 2}
    assert "These are 30 durations: eight that count once, seven that count twice (`@0.5`), two that count four" in MANUAL
    assert sum(count / rate for rate, count in durations.items()) == 30


def test_the_example_table_has_rows_that_exist():
    rows, kind = table(), None
    for line in filter(None, sample("counters")):
        name = line.split()[0]
        if line.split()[1] == "total":
            kind = name
        else:
            assert rows[name][0] + "s" == kind, line


# --- Recipes ---


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def containers(path):
    """Returns the init containers and the other containers in the Deployment of a recipe."""
    [pod] = [document["spec"]["template"]["spec"] for document in documents(path) if document["kind"] == "Deployment"]
    return pod.get("initContainers", []), pod["containers"]


def test_every_recipe_is_linked_and_expected():
    names = [path.name for path in RECIPES]
    assert names == sorted(EXPECTED)
    linked = re.findall(r"\]\(../../scripts/kubernetes/([^)]+)\)", MANUAL)
    # A page may link a directory for its files.
    assert sorted(name for name in linked if "/" not in name and name.endswith(".yaml")) == names
    for path in DEPLOYED:
        name = path.relative_to(KUBERNETES)
        assert str(name) in linked or str(name.parent) in linked, name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_complete(path):
    for document in documents(path):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()
        if document["kind"] == "Deployment":
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
    volumes = [document["spec"]["template"]["spec"] for document in documents(path) if document["kind"] == "Deployment"]
    made = {volume["name"] for pod in volumes for volume in pod.get("volumes", [])}
    mounted = {mount["name"] for part in containers(path) for one in part for mount in one.get("volumeMounts", [])}
    assert mounted == made


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_results_in_the_configuration_that_it_claims(path):
    [container] = containers(path)[1]
    env = {}
    for variable in container.get("env", []):
        given = variable.get("valueFrom")
        env[variable["name"]] = DOWNWARD[given["fieldRef"]["fieldPath"]] if given else variable["value"]
    words = container["args"]
    match container["command"]:
        case ["arctos"]:
            pass
        case ["sh", "-c", script, "arctos"]:
            # As the shell reads it from the file that the init container writes.
            assert script == 'exec arctos --zone "$(cat /zone/name)" "$@"'
            words = ["--zone", "zone-of-the-file", *words]
    found = printed_configuration(words, **env)
    assert {option: found[option] for option in EXPECTED[path.name]} == EXPECTED[path.name]


def test_without_the_copied_label_there_is_no_zone():
    assert printed_configuration(["plain:app"], ARCTOS_ZONE="")["--zone"] == "-"
    assert printed_configuration(["--dogstatsd-tags", "zone:x", "plain:app"], ARCTOS_ZONE="")["--zone"] == "x"


def test_scripts_in_recipes_are_python():
    scripts = [
        container["command"][2]
        for path in RECIPES
        for container in containers(path)[0]
        if container.get("command", [""])[0] == "python3"
    ]
    assert len(scripts) == 1
    ast.parse(scripts[0])


def mapped(rules, name, kind):
    """Maps a name as statsd_exporter does: rules without wildcards first, then regular expressions in order.
    A character that is no letter, digit or underscore becomes an underscore."""
    exact = [rule for rule in rules if "match_type" not in rule and rule["match"] == name]
    matching = [
        rule
        for rule in rules
        if rule.get("match_type") == "regex"
        and rule.get("match_metric_type", kind) == kind
        and re.search(rule["match"], name)
    ]
    made, scale = name, 1
    for rule in (exact + matching)[:1]:
        found = re.search(rule["match"], name)
        made = re.sub(r"\$\{(\d+)\}", lambda group: found[int(group[1])], rule["name"])
        scale = rule.get("scale", 1)
    return re.sub(r"[^A-Za-z0-9_]", "_", made), scale


def test_statsd_exporter_makes_the_names_of_the_admin_socket():
    path = ROOT / "scripts" / "kubernetes" / "statsd-exporter.yaml"
    [config] = [document for document in documents(path) if document["kind"] == "ConfigMap"]
    rules = yaml.safe_load(config["data"]["mapping.yaml"])["mappings"]
    for name, (kind, prometheus_name) in table().items():
        in_seconds = 0.001 if kind == "distribution" else 1
        assert mapped(rules, f"arctos.{name}", kind) == (prometheus_name, in_seconds)
