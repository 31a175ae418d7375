"""Makes the pictures of README from a running server.

usage: .venv/bin/python scripts/demo/pictures.py [--directory DIR] [--seconds N]

`top.svg` is the screen that `arctos top` paints on a pseudo-terminal. `page.svg` is the demonstration page
as the server sends it, with its style sheet, in a foreignObject. It needs arctos and pyte in `.venv`, as
the tests do, and writes both files beside this one unless DIR is given. The server is under load for N
seconds before the screen is taken.
"""

import argparse
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import pyte

HERE = Path(__file__).resolve().parent
COLUMNS, LINES = 118, 13
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 7.8, 18, 13, 14
INK, PAPER = "#d8d4cf", "#1f1b18"
COLORS = {
    "black": "#3a332e", "red": "#e5786d", "green": "#95c76f", "brown": "#e3b15a", "yellow": "#e3b15a",
    "blue": "#7aa6da", "magenta": "#c397d8", "cyan": "#70c0b1", "white": "#f3efe9", "brightblack": "#8d857d",
}  # fmt: skip
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
SVG, XHTML = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"
PAGE_WIDTH, PAGE_HEIGHT = 940, 550


class Server:
    """The demonstration on a free port, with four workers and an admin socket."""

    def __init__(self, directory):
        self.directory = directory
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCTOS_")}
        command = [sys.executable, "-m", "arctos", "--workers", "4", "--bind", "127.0.0.1:0", "demo:app"]
        command += ["--admin-bind", f"unix:{directory}/admin.sock"]
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


def page_svg(server):
    html = server.get("/").decode()
    css = server.get("/style.css").decode()
    # One look for every reader, because the colors around an image do not change with it.
    css = re.sub(r"@media \(prefers-color-scheme: dark\) \{.*?\n\}\n", "", css, flags=re.S)
    css = css.replace(":root", ".page").replace("\nbody {", "\n.page {")
    body = re.search(r"<body>(.*)</body>", html, re.S)[1]
    # What HTML leaves open and XML does not.
    body = re.sub(r"<(input|br)([^>]*?)( required)?>", r"<\1\2/>", body)
    body = re.sub(r"<iframe[^>]*></iframe>", '<div class="frame"></div>', body)
    css += ".page { height: 100%; overflow: hidden; } main { padding-top: 1.6rem; } .frame { display: none; }"
    body = body.replace("<svg ", f'<svg xmlns="{SVG}" ')
    body = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8000", body)
    svg = (
        f'<svg xmlns="{SVG}" viewBox="0 0 {PAGE_WIDTH} {PAGE_HEIGHT}" width="{PAGE_WIDTH}"'
        f' height="{PAGE_HEIGHT}" role="img" aria-label="The demonstration page of scripts/serve">\n'
        f'<foreignObject width="{PAGE_WIDTH}" height="{PAGE_HEIGHT}"><div xmlns="{XHTML}" class="page">'
        f"<style>{css}</style>{body}</div></foreignObject></svg>\n"
    )
    ElementTree.fromstring(svg)  # It must be well-formed: a browser shows nothing of it otherwise.
    return svg


def main():
    parser = argparse.ArgumentParser(description="Makes the pictures of README from a running server.")
    parser.add_argument("--directory", type=Path, default=HERE, help="where to write them (default: beside this file)")
    parser.add_argument("--seconds", type=float, default=13, help="how long the server is under load (default: 13)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Server(directory) as server:
        (given.directory / "top.svg").write_text(terminal_svg(screen(server, given.seconds)))
        (given.directory / "page.svg").write_text(page_svg(server))


if __name__ == "__main__":
    main()
