"""The files for Kubernetes and systemd, read strictly, and what a real server makes of them: their
commands and variables, with free ports and folders of the test's in place of theirs."""

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
# What Kubernetes puts in place of a `valueFrom`.
DOWNWARD = {"metadata.labels['topology.kubernetes.io/zone']": "central-europe"}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "": 1}
BYTES = {"": 1, "K": 2**10, "Ki": 2**10, "M": 2**20, "Mi": 2**20, "G": 2**30, "Gi": 2**30}


def seconds(text):
    """A time of arctos' or systemd's notation."""
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]*)", str(text)).groups()
    return float(number) * SECONDS[unit]


def size_bytes(text):
    """A size of arctos' notation, or of Kubernetes' powers of 1024."""
    number, unit = re.fullmatch(r"([0-9]+)([A-Za-z]*)", str(text)).groups()
    return int(number) * BYTES[unit]


# --- Kubernetes ---


class Strict(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML's loader would take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key is there twice: {keys}, {node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(name):
    """All objects of one file."""
    return list(yaml.load_all((KUBERNETES / name).read_text(), Loader=Strict))


def document(name):
    """The only object of a file."""
    [found] = documents(name)
    return found


def environment(container):
    """Its variables as Kubernetes sets them, that of every pod included."""
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


# --- systemd ---

# What may stand in a section more than once.
REPEATED = {"Environment", "EnvironmentFile", "After"}


def unit(name):
    """A unit by its sections. Stricter than systemd: what is no assignment, or is there twice, fails."""
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
    """The variables of its Environment=."""
    return dict(word.split("=", 1) for word in shlex.split(service["Environment"]))


# --- Both, here ---


class Shop:
    """The application of the files, and the places that they name, in a folder of the test's."""

    def __init__(self, folder):
        self.folder = folder
        self.run = folder / "run"
        self.run.mkdir()
        self.module = folder / "shop" / "wsgi.py"
        self.module.parent.mkdir()
        self.module.write_text("from plain import app\n")

    def here(self, text):
        """Ports and paths of the files in a text, replaced."""
        text = re.sub(r"(^|,):(8000|9000)\b", r"\g<1>127.0.0.1:0", text)
        return text.replace("/srv/shop/venv/bin/arctos", ARCTOS).replace("/run/arctos", str(self.run))

    def words(self, words):
        """A command line."""
        return [self.here(word) for word in words]

    def variables(self, variables):
        """An environment, where the tests' applications are, and a log that tests can read."""
        own = {"ARCTOS_PYTHONPATH": str(APPS), "ARCTOS_LOG_FORMAT": "text"}
        return {name: self.here(value) for name, value in variables.items()} | own
