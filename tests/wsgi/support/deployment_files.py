"""Reads the files for Kubernetes and systemd strictly, and adapts their commands and variables to a test:
free ports and temporary directories replace those of the files."""

import math
import re
import shlex
import sys
from pathlib import Path

import yaml
from support.server import APPS, ROOT

KUBERNETES = ROOT / "scripts" / "kubernetes"
SYSTEMD = ROOT / "scripts" / "systemd"
# The program as pip installs it.
ARCTOS = str(Path(sys.executable).with_name("arctos"))
# The values that Kubernetes substitutes for a `valueFrom`.
DOWNWARD = {"metadata.labels['topology.kubernetes.io/zone']": "central-europe"}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "": 1}
BYTES = {"": 1, "K": 2**10, "Ki": 2**10, "M": 2**20, "Mi": 2**20, "G": 2**30, "Gi": 2**30}


def seconds(text):
    """Parses a duration in the notation of arctos or systemd."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]*)", str(text)).groups()
    return float(number) * SECONDS[unit]


def size_bytes(text):
    """Parses a size in the notation of arctos or in powers of 1024 as Kubernetes writes them."""
    number, unit = re.fullmatch(r"([0-9]+)([A-Za-z]*)", str(text)).groups()
    return int(number) * BYTES[unit]


# --- Kubernetes ---


class Strict(yaml.SafeLoader):
    """Refuses a duplicate key, of which the YAML loader would silently take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"duplicate key: {keys}, {node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(name):
    """Returns all objects of one file."""
    return list(yaml.load_all((KUBERNETES / name).read_text(), Loader=Strict))


def document(name):
    """Returns the only object of a file."""
    [found] = documents(name)
    return found


def environment(container):
    """Returns the environment of a container as Kubernetes sets it, including what every pod gets."""
    made = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    for variable in container["env"]:
        given = variable.get("valueFrom", {})
        if "fieldRef" in given:
            made[variable["name"]] = DOWNWARD[given["fieldRef"]["fieldPath"]]
        elif "resourceFieldRef" in given:
            asked = given["resourceFieldRef"]
            assert (asked["containerName"], asked["divisor"]) == (container["name"], "1")
            kind, name = asked["resource"].split(".")
            made[variable["name"]] = str(math.ceil(float(container["resources"][kind][name])))
        else:
            made[variable["name"]] = variable["value"]
    return made


def probes(container):
    """Returns the probes of a container by name."""
    return {name: probe for name, probe in container.items() if name.endswith("Probe")}


# --- systemd ---

# Keys that a section may repeat.
REPEATED = {"Environment", "EnvironmentFile", "After"}


def unit(name):
    """Parses a unit into its sections. Unlike systemd, refuses lines that are no assignment and duplicate keys."""
    sections, section = {}, None
    for line in (SYSTEMD / name).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if found := re.fullmatch(r"\[([A-Z][a-z]+)\]", line):
            assert found[1] not in sections, line
            section = sections[found[1]] = {}
            continue
        key, value = re.fullmatch(r"([A-Z][A-Za-z]+)=(|\S.*)", line).groups()
        assert key not in section or key in REPEATED, line
        section[key] = f"{section[key]} {value}" if key in section else value
    return sections


def unit_environment(service):
    """Returns the variables of `Environment=`."""
    return dict(word.split("=", 1) for word in shlex.split(service["Environment"]))


# --- Both, here ---


class Shop:
    """The application and the paths that the files name, in a temporary directory."""

    def __init__(self, directory):
        self.directory = directory
        self.run = directory / "run"
        self.run.mkdir()
        self.module = directory / "shop" / "wsgi.py"
        self.module.parent.mkdir()
        self.module.write_text("from plain import app\n")

    def here(self, text):
        """Replaces the ports and paths of the files in a text."""
        text = re.sub(r"(^|,):(8000|9000)\b", r"\g<1>127.0.0.1:0", text)
        return text.replace("/srv/shop/venv/bin/arctos", ARCTOS).replace("/run/arctos", str(self.run))

    def words(self, words):
        """Adapts a command line."""
        return [self.here(word) for word in words]

    def variables(self, variables):
        """Adapts an environment, so that the applications of the tests are found and the log can be parsed."""
        own = {"ARCTOS_PYTHONPATH": str(APPS), "ARCTOS_LOG_FORMAT": "text"}
        return {name: self.here(value) for name, value in variables.items()} | own
