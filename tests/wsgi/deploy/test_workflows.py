"""The workflows of GitHub Actions: what they call exists, and only the publishing job gets an identity."""

import os
import re
import shlex
import subprocess

import pytest
import yaml
from support.server import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SUPPORTED = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
RUNNERS = {"ubuntu-24.04", "ubuntu-24.04-arm"}


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


ALL_JOBS = [pytest.param(path, name, id=f"{path.stem}-{name}") for path in WORKFLOWS for name in jobs(path)]


def test_there_is_one_workflow_for_tests_and_one_for_releases():
    assert [path.name for path in WORKFLOWS] == ["release.yml", "test.yml"]
    # YAML 1.1 reads the key `on` as true.
    triggers = {path.stem: yaml.safe_load(path.read_text())[True] for path in WORKFLOWS}
    assert set(triggers["test"]) == {"push", "pull_request"}
    assert triggers["release"] == {"push": {"tags": ["v*"]}}, "only a tag publishes"


@pytest.mark.parametrize(("path", "name"), ALL_JOBS)
def test_a_job_is_complete(path, name):
    job = jobs(path)[name]
    matrix = job.get("strategy", {}).get("matrix", {})
    assert set(matrix.get("runner", [job["runs-on"]])) <= RUNNERS
    assert job["timeout-minutes"] <= 180
    needs = job.get("needs", [])
    assert set([needs] if isinstance(needs, str) else needs) <= set(jobs(path))
    for used in re.findall(r"\$\{\{ *matrix\.(\w+)", str(job)):
        assert used in matrix, used
    for used in re.findall(r"\$\{\{ *steps\.(\w+)", str(job)):
        assert used in {step.get("id") for step in job["steps"]}, used
    for step in job["steps"]:
        assert ("run" in step) != ("uses" in step), step
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1|[0-9a-f]{40})", step.get("uses", "a/b@v1")), step
        # A value from outside must not become a part of a shell command.
        assert "${{" not in step.get("run", ""), step


@pytest.mark.parametrize(("path", "name"), ALL_JOBS)
def test_the_commands_of_a_job_are_valid_and_their_scripts_exist(path, name):
    for command in commands(jobs(path)[name]):
        checked = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        for script in re.findall(r"\bscripts/[\w.-]+", command):
            assert os.access(ROOT / script, os.X_OK), script
        for options in re.findall(r"scripts/wheels ([^\n']*)", command):
            described = subprocess.run([ROOT / "scripts" / "wheels", "--help"], capture_output=True, text=True).stdout
            for option in (word for word in shlex.split(options) if word.startswith("--")):
                assert f" {option}" in described, option


def test_every_supported_python_is_tested_before_a_release():
    assert SUPPORTED == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert jobs(ROOT / ".github/workflows/test.yml")["test"]["strategy"]["matrix"]["python"] == SUPPORTED
    release = jobs(ROOT / ".github/workflows/release.yml")
    # Python's images have no free-threaded build for Alpine.
    assert release["musl"]["strategy"]["matrix"]["python"] == SUPPORTED
    assert release["glibc"]["strategy"]["matrix"]["python"] == [*SUPPORTED, "3.14t"]
    released = re.search(r"^RELEASED = \((.*)\)", (ROOT / "scripts" / "wheels").read_text(), re.M)[1]
    assert re.findall(r'"(.*?)"', released) == [*SUPPORTED, "3.14t"]
    assert set(release["publish"]["needs"]) == set(release) - {"build", "publish"}


def test_only_the_publishing_job_has_an_identity():
    for path in WORKFLOWS:
        text = yaml.safe_load(path.read_text())
        assert text["permissions"] == {"contents": "read"}
        for name, job in text["jobs"].items():
            if name == "publish":
                assert job["permissions"] == {"id-token": "write", "attestations": "write", "contents": "read"}
                assert job["environment"] == "pypi" and commands(job) == [], "it runs no code of the repository"
            else:
                assert "permissions" not in job, name
    assert "secrets." not in "".join(path.read_text() for path in WORKFLOWS), "trusted publishing needs no token"
