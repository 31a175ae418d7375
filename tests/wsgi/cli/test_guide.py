"""README, CONTRIBUTING, the guide and the map of the sources: their links, commands and entries.

A code block marked `sh` is a script that a reader can type, and a test runs it here, each page in a network
and a /run of its own. A block marked `console` shows a command and its output. A block marked `sh example`
belongs to another machine or takes too long.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.server import EXIT_USAGE, GUIDE, PATIENCE_S, ROOT, clean_environment, run

README = ROOT / "README.md"
PAGES = [ROOT / page for page in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "src/README.md")]
LINKED = [README, *PAGES, *GUIDE]
README_BYTES = 10 * 1024
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.M | re.S)


def blocks(page):
    """The code blocks of a page: what stands behind the fence, and the text without its indentation."""
    for indentation, mark, text in FENCE.findall(page.read_text()):
        yield mark, re.sub(f"^{indentation}", "", text, flags=re.M)


def prose(page):
    """A page without its code blocks, in which `#` and `[` mean something else."""
    return FENCE.sub("", page.read_text())


def name(page):
    return str(page.relative_to(ROOT))


# --- Links ---


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", prose(page), re.M)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.smoke
@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_lead_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.smoke
@pytest.mark.parametrize("page", LINKED, ids=name)
def test_paths_of_the_sources_exist(page):
    for path in re.findall(r"`((?:src|workers|tests|scripts)/[^`\s]*)`", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.smoke
def test_readme_is_short_and_links_every_page_of_the_guide():
    assert README.stat().st_size <= README_BYTES
    linked = set(re.findall(r"\]\(src/guide/([a-z-]+)\.md\)", README.read_text()))
    assert linked == {page.stem for page in GUIDE}


# --- arctos help ---


def test_help_lists_every_topic_with_one_line():
    code, out, error = run("help")
    listed = re.findall(r"^  ([a-z-]+) +\S.*$", out, re.M)
    assert (code, error) == (0, "")
    assert sorted(listed) == [page.stem for page in GUIDE]


def test_help_and_readme_say_the_same_about_a_page():
    rows = re.findall(r"^\| \[([a-z-]+)\]\(src/guide/[a-z-]+\.md\) \| (.*) \|$", README.read_text(), re.M)
    listed = re.findall(r"^  ([a-z-]+) +(\S.*)$", run("help")[1], re.M)
    assert listed == [(topic, answers.replace("`", "")) for topic, answers in rows]


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_help_prints_a_page_of_the_guide(page):
    assert run("help", page.stem) == (0, page.read_text(), "")


def test_an_unknown_topic_is_named_with_those_that_exist():
    code, out, error = run("help", "optoins")
    assert (code, out) == (EXIT_USAGE, "")
    assert "optoins" in error and all(page.stem in error for page in GUIDE)


def test_help_ends_quietly_when_its_reader_has_left():
    command = f"{sys.executable} -m arctos help options | head -1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=clean_environment(), timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "# Options\n", "")


# --- Commands ---

NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
NAMESPACES += [] if os.getuid() == 0 else ["--user", "--map-root-user"]
LOOPBACK_UP = 'import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0x41))'
# `arctos` with an application goes to the background once it serves, as in a second terminal; the next one
# replaces it. Every server has to end with 0.
PRELUDE = f"""
set -eEuo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
server=
stop_server() {{
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null || true
    wait "$server"
    server=
}}
start_server() {{
    stop_server
    : >log # so that the ready line of the previous server is not taken for that of this one
    command arctos "$@" 2>>log &
    server=$!
    until grep -q server.ready log; do
        kill -0 "$server" || {{ cat log >&2; return 1; }}
        sleep 0.05
    done
}}
arctos() {{
    case " $* " in
    " ctl "* | " top "* | " help "* | " init "* | " dashboard "* | " alerts "* | " completions "* | " man "* | *" --help "* | *" --check "* | *" --print-config "*) command arctos "$@" ;;
    *) start_server "$@" ;;
    esac
}}
scripts/serve() {{ ARCTOS_APP=demo:app ARCTOS_PYTHONPATH="{ROOT}/scripts/demo" ARCTOS_WORKERS=4 start_server "$@"; }}
mount -t tmpfs tmpfs /run
python3 -c '{LOOPBACK_UP}'
"""
SHOP = '''def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"ok\\n"]

app = application
'''


def scripts(page):
    return [text for mark, text in blocks(page) if mark == "sh"]


@pytest.mark.smoke
def test_every_block_of_commands_is_run_or_marked_as_an_example():
    marks = {mark for page in LINKED for mark, _ in blocks(page)}
    files = {"python", "toml", "ini", "yaml", "nginx", "haproxy", "dockerfile"}
    assert marks <= {"", "sh", "sh example", "console"} | files
    assert sum(len(scripts(page)) for page in [README, *GUIDE]) >= 15


@pytest.mark.parametrize("page", [page for page in [README, *GUIDE] if scripts(page)], ids=name)
def test_the_commands_of_a_page_work(page, tmp_path):
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace to be had here")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "wsgi.py").write_text(SHOP)
    for _, text in blocks(page):
        if file := re.match(r"# (\S+\.(?:py|toml))\n", text):
            (tmp_path / file[1]).write_text(text)
    environment = clean_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    script = "\n".join([PRELUDE, *scripts(page), "stop_server"])
    ended = subprocess.run(
        [*NAMESPACES, "bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_command_that_is_shown_with_its_output_has_that_output():
    shown = [text for page in [README, *GUIDE] for mark, text in blocks(page) if mark == "console"]
    assert shown
    for text in shown:
        for command, output in re.findall(r"^\$ arctos (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
            _, out, error = run(*shlex.split(command))
            assert out + error == output, command


# --- Refusals ---


@pytest.mark.smoke
def test_the_table_of_refusals_has_every_status_that_the_sources_have():
    rows = re.findall(r"^\| (\d{3}) \|", (ROOT / "src" / "guide" / "http.md").read_text(), re.M)
    # Whatever refuses a request says with which status, in a method of that name beside its definition.
    methods = re.findall(r"fn status\(self\) -> Status \{(.*?)^    \}", "\n".join(sources()), re.M | re.S)
    assert len(methods) >= 4
    # A status may have several rows, one for each reason.
    assert sorted(rows) == rows
    assert set(rows) == {status for method in methods for status in re.findall(r"Status\((\d+)\)", method)}


# --- Troubleshooting ---

TROUBLESHOOTING = ROOT / "src" / "guide" / "troubleshooting.md"
EVENT = r'"([a-z_]+\.[a-z_]+)"'


def sources():
    """The Rust sources of both crates, without their tests."""
    for path in [*(ROOT / "src").rglob("*.rs"), *(ROOT / "workers" / "src").rglob("*.rs")]:
        if "tests" not in path.parts and path.stem not in ("tests", "simulation"):
            yield re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", path.read_text(), flags=re.M)[0]


@pytest.mark.smoke
def test_every_warning_and_error_has_an_entry_in_troubleshooting():
    entries = re.findall(r"^### `([a-z_.]+)`$", TROUBLESHOOTING.read_text(), re.M)
    assert len(entries) == len(set(entries))
    text = "\n".join(sources())
    known = set(re.findall(EVENT, text))
    grave = set(re.findall(r"Level::(?:Warning|Error|Critical),\s*" + EVENT, text))
    mild = set(re.findall(r"Level::(?:Info|Debug|Notice),\s*" + EVENT, text))
    assert len(grave) > 50
    assert set(entries) - known == set(), "an entry for what the log does not have"
    assert grave - set(entries) == set(), "an event without an entry"
    # Events whose level is decided elsewhere have the noun of others, and are no metric.
    metrics = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", (ROOT / "src" / "guide" / "metrics.md").read_text(), re.M))
    nouns = {event.partition(".")[0] for event in [*entries, *grave]}
    others = {event for event in known - mild - metrics if event.partition(".")[0] in nouns}
    assert others - set(entries) - NO_EVENTS == set(), "an event without an entry"


@pytest.mark.smoke
def test_every_type_of_the_glossary_exists_in_the_sources():
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "src" / "README.md").read_text(), re.M)
    types = {word for row in rows for word in re.findall(r"`([A-Z]\w+)`", row)}
    assert len(types) > 15
    assert types - set(re.findall(r"\b(?:struct|enum|trait) (\w+)", "\n".join(sources()))) == set()


# What looks like an event: modules of Python, and what an operator has asked for.
NO_EVENTS = {"django.conf", "django.db", "django.urls", "worker.stacks"}
