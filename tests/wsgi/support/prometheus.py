"""Prometheus of Debian, which scrapes one server as often as a test needs, and its promtool."""

import json
import math
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest

from support.ports import free_port
from support.server import PATIENCE_S
from support.waiting import wait_until

INTERVAL_S = 0.5
CONFIGURATION = """
global:
  scrape_interval: {interval}
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def program(name):
    """Returns the path of `prometheus` or `promtool`; skips the test if there is none."""
    return shutil.which(name) or pytest.skip(f"there is no {name}: apt-get install prometheus")


class Prometheus:
    """A running Prometheus that scrapes `/metrics` at a port of this machine, as the job `shop`."""

    JOB = "shop"

    def __init__(self, directory, scraped_port, *options):
        self.directory, self.port = directory, free_port()
        configuration = directory / "prometheus.yml"
        text = CONFIGURATION.format(interval=f"{round(1000 * INTERVAL_S)}ms", job=self.JOB, port=scraped_port)
        configuration.write_text(text)
        with (directory / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self):
        try:
            wait_until(self._is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _is_ready(self):
        assert self.process.poll() is None, (self.directory / "prometheus.log").read_text()
        try:
            return self._get("/-/ready") is not None
        except urllib.error.HTTPError as answer:
            answer.close()
            return False
        except (OSError, urllib.error.URLError):
            return False

    def _get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_S) as answer:
            return answer.read()

    def ask(self, path, **parameters):
        """Returns the `data` of a question to the API, and fails with Prometheus' words if it is wrong."""
        try:
            answer = json.loads(self._get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        return answer["data"]

    def query(self, expression):
        """Returns the present values of an expression, those that are numbers: labels and value of each."""
        found = self.ask("query", query=expression)["result"]
        values = [(one["metric"], float(one["value"][1])) for one in found]
        return [(labels, value) for labels, value in values if not math.isnan(value)]

    def names(self):
        """Returns the names of all series."""
        return set(self.ask("label/__name__/values"))


def promtool(*words):
    """Runs promtool. Returns its exit status and everything that it printed."""
    command = [program("promtool"), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    return ended.returncode, ended.stdout + ended.stderr
