"""Makes the pictures of README from a running server.

usage: .venv/bin/python scripts/demo/pictures.py [--only top|page] [--directory DIR] [--seconds N]

`top.svg` is the screen that `arctos top` paints on a pseudo-terminal. `page.png` is the demonstration page in
Chromium, after a slow request, a killed worker and a deployment. It needs arctos and pyte in `.venv`, and for the
page Debian's packages chromium and chromium-driver, as the tests do. It writes both files beside this one unless
DIR is given. The server is under load for N seconds before each picture is taken.
"""

import argparse
import base64
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from html import escape
from pathlib import Path

import pyte
from control import prepare

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "wsgi"))
from support.browser import Browser, why_not  # noqa: E402

COLUMNS, LINES = 118, 13
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 7.8, 18, 13, 14
INK, PAPER = "#d8d4cf", "#1f1b18"
COLORS = {
    "black": "#3a332e", "red": "#e5786d", "green": "#95c76f", "brown": "#e3b15a", "yellow": "#e3b15a",
    "blue": "#7aa6da", "magenta": "#c397d8", "cyan": "#70c0b1", "white": "#f3efe9", "brightblack": "#8d857d",
}  # fmt: skip
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
SVG = "http://www.w3.org/2000/svg"
PAGE_WIDTH, PAGE_HEIGHT = 1180, 1100


class Server:
    """The demonstration on a free port, with four workers and an admin socket."""

    def __init__(self):
        self.directory = prepare()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCTOS_")}
        environment["DEMO_DIRECTORY"] = str(self.directory)
        command = [sys.executable, "-m", "arctos", "--workers", "4", "--bind", "127.0.0.1:0", "demo:app"]
        command += ["--admin-bind", f"unix:{self.directory}/admin.sock"]
        self.process = subprocess.Popen(command, cwd=HERE, env=environment, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"server\.ready .*listen=\S*?(127\.0\.0\.1:\d+)", line):
                self.url = f"http://{found[1]}"
                break
        else:
            sys.exit("the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as response:
            return response.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        shutil.rmtree(self.directory)


def load(server, is_over):
    """Requests of several kinds until `is_over` is set, so that the screen has something to show."""

    def ask(path, pause):
        while not is_over.is_set():
            server.get(path)
            time.sleep(pause)

    asks = [("/worker", 0.01), ("/", 0.02), ("/download", 0.2), ("/ticks", 0.1)]
    threads = [threading.Thread(target=ask, args=args, daemon=True) for args in asks]
    for thread in threads:
        thread.start()
    return threads


def screen(server, seconds):
    """What `arctos top` shows on a terminal after some seconds of load, with a request that runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    top = subprocess.Popen(
        [sys.executable, "-m", "arctos", "top", "--admin", "unix:admin.sock"],
        cwd=server.directory, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    painted = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(painted)
    is_over, until = threading.Event(), time.monotonic() + seconds
    threads = load(server, is_over)
    os.set_blocking(master, False)
    while time.monotonic() < until or not any("GET /ticks" in line for line in painted.display):
        time.sleep(0.05)
        try:
            stream.feed(os.read(master, 65536))
        except BlockingIOError:
            continue
    shown = [[painted.buffer[y][x] for x in range(COLUMNS)] for y in range(LINES)]
    is_over.set()
    os.write(master, b"q")
    top.wait()
    os.close(master)
    for thread in threads:
        thread.join()
    return shown


def runs(cells):
    """Neighboring cells of one look: first column, text, ink, paper and weight."""
    start = 0
    for x in range(1, len(cells) + 1):
        if x == len(cells) or look(cells[x]) != look(cells[start]):
            yield start, "".join(cell.data for cell in cells[start:x]), *look(cells[start])
            start = x


def look(cell):
    ink, paper = color(cell.fg, INK), color(cell.bg, PAPER)
    return (paper, ink, cell.bold) if cell.reverse else (ink, paper, cell.bold)


def color(name, default):
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return COLORS.get(name, default)


def terminal_svg(shown):
    while all(cell.data == " " for cell in shown[-1]):
        shown = shown[:-1]
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, len(shown) * CELL_HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="{SVG}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        ' role="img" aria-label="The live screen of arctos top">',
        f'<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>',
        f'<g font-family="{FONTS}" font-size="{FONT_SIZE}">',
    ]
    for y, cells in enumerate(shown):
        top = MARGIN + y * CELL_HEIGHT
        for x, text, ink, paper, is_bold in runs(cells):
            left, length = MARGIN + x * CELL_WIDTH, len(text) * CELL_WIDTH
            if paper != PAPER:
                parts.append(f'<rect x="{left:g}" y="{top}" width="{length:g}" height="{CELL_HEIGHT}" fill="{paper}"/>')
            if text.strip():
                weight = ' font-weight="bold"' if is_bold else ""
                text = escape(text).replace(" ", "\xa0")  # A plain space would be collapsed.
                place = f'x="{left:g}" y="{top + 13}" textLength="{length:g}"'
                parts.append(f'<text {place} fill="{ink}"{weight}>{text}</text>')
    return "\n".join([*parts, "</g></svg>\n"])


def page_png(server, seconds):
    """The page after some seconds: slow requests, a killed worker and a deployment."""
    with Browser() as browser:
        browser.resize(PAGE_WIDTH, PAGE_HEIGHT)
        browser.prefer(prefers_color_scheme="light")  # One look for every reader of README.
        browser.open(server.url)
        browser.devtools("Emulation.setScrollbarsHidden", hidden=True)
        time.sleep(seconds)
        browser.wait("+document.querySelector('#total').textContent > 40")
        browser.click("#slow")
        browser.wait("/GET .slow/.test(document.querySelector('#workers').textContent)")
        # Of a worker that does something else: the slow request goes on.
        is_idle = "(one) => one.querySelector('.state').textContent === 'idle'"
        number = browser.wait(f"[...document.querySelectorAll('.worker')].findLastIndex({is_idle}) + 1")
        browser.click(f".worker:nth-child({number}) button")
        browser.wait("/took the place/.test(document.querySelector('#events').textContent)")
        browser.wait("/answered a slow/.test(document.querySelector('#events').textContent)")
        browser.click("#deploy")
        browser.wait("/serves in all workers/.test(document.querySelector('#events').textContent)")
        browser.click("#slow")
        browser.wait("/GET .slow/.test(document.querySelector('#workers').textContent)")
        browser.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        time.sleep(2)  # so that the slow request is seen beside others
        return base64.b64decode(browser.devtools("Page.captureScreenshot", format="png")["data"])


def main():
    parser = argparse.ArgumentParser(description="Makes the pictures of README from a running server.")
    parser.add_argument("--only", choices=["top", "page"], help="make only this picture")
    parser.add_argument("--directory", type=Path, default=HERE, help="where to write them (default: beside this file)")
    parser.add_argument("--seconds", type=float, default=13, help="how long the server is under load (default: 13)")
    given = parser.parse_args()
    if given.only != "top" and (why := why_not()):
        sys.exit(f"{why}; --only top needs no browser")
    with Server() as server:
        if given.only != "page":
            (given.directory / "top.svg").write_text(terminal_svg(screen(server, given.seconds)))
        if given.only != "top":
            (given.directory / "page.png").write_bytes(page_png(server, given.seconds))


if __name__ == "__main__":
    main()
