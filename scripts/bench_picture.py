"""Draws the results of `bench latency` as an SVG, on a logarithmic axis of latency.

There is a panel for each mix and load, in it a group for each server, and in that a lane for each kind of connection.
The colors are of medium lightness, and there is no background, so that the picture suits a light and a dark page.
"""

import math
from xml.sax.saxutils import escape, quoteattr

from bench_arrivals import MIXES
from bench_latency_report import NEW, compared

INK, GRID, COLOR_OF_NEW = "#76808c", "#76808c", "#76808c"
COLORS = ("#2f81d8", "#d2691e", "#8957d0", "#2a9d5c")
LABELS, PLOT, GAP, MARGIN, LEAST = 165, 330, 30, 15, 850  # widths
LANE, BETWEEN, HEAD, FOOT, TOP = 11, 9, 34, 40, 62  # heights
FONT = 'font-family="system-ui, sans-serif" font-size="12"'


class Axis:
    """A logarithmic axis that begins and ends at a tick: at 1, 2 or 5 times a power of ten."""

    def __init__(self, values, left):
        self.left = left
        steps = [10.0**power * digit for power in range(-4, 7) for digit in (1, 2, 5)]
        # Rounded, so that 0.9999 needs no further tick.
        least, most = (float(f"{value:.2g}") for value in (min(values, default=1), max(values, default=10)))
        first = max(number for number, step in enumerate(steps) if step <= least)
        last = min(number for number, step in enumerate(steps) if step >= most and number > first)
        self.ticks = steps[first : last + 1]

    def x(self, ms):
        inside = min(max(ms, self.ticks[0]), self.ticks[-1])
        return self.left + math.log(inside / self.ticks[0]) / math.log(self.ticks[-1] / self.ticks[0]) * PLOT

    def has_room(self):
        """Whether each tick has room for its number."""
        return self.ticks[-1] / self.ticks[0] <= 2000


def picture(cells, machine=""):
    """Returns the SVG."""
    mixes = list(dict.fromkeys(cell["mix"] for cell in cells))
    loads = list(dict.fromkeys(cell["load"] for cell in cells))
    servers = list(dict.fromkeys(cell["server"] for cell in cells))
    kinds = sorted(dict.fromkeys(cell["connections"] for cell in cells), key=lambda kind: kind == NEW)
    group = LANE * len(kinds) + BETWEEN
    panel_width, panel_height = LABELS + PLOT + GAP, HEAD + group * len(servers) + FOOT
    width, height = 2 * MARGIN + max(panel_width * len(mixes), LEAST), TOP + panel_height * len(loads) + MARGIN
    values = [value for cell in cells for value in cell[compared(cell)].values()]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label={quoteattr("Latency of requests by server and kind of connection")}>',
        f'<g {FONT} fill="{INK}">',
        *head(kinds, machine),
    ]
    for row, load in enumerate(loads):
        for column, mix in enumerate(mixes):
            found = [cell for cell in cells if cell["mix"] == mix and cell["load"] == load]
            left, top = MARGIN + column * panel_width, TOP + row * panel_height
            parts += panel(found, servers, kinds, Axis(values, left + LABELS), top, f"{MIXES[mix].shown}; load {load:.0%}")
    return "\n".join([*parts, "</g>", "</svg>", ""])


def head(kinds, machine):
    """Explains the marks, and names the machine."""
    x, y = MARGIN + 6, 20
    parts = []
    for kind in kinds:
        name = "new connections" if kind == NEW else f"{kind} kept connections"
        parts += [*mark(color(kind, kinds), x, x + 20, x + 34, x + 44, y - 4), text(x + 52, y, name)]
        x += 72 + 7 * len(name)
    parts.append(text(x, y, "line: p50 to p99, dot: p90, tick: maximum"))
    if machine:
        parts.append(text(MARGIN, y + 22, machine, 'font-size="11"'))
    return parts


def color(kind, kinds):
    if kind == NEW:
        return COLOR_OF_NEW
    return COLORS[[other for other in kinds if other != NEW].index(kind) % len(COLORS)]


def panel(cells, servers, kinds, axis, top, title):
    parts = [text(axis.left, top + 18, title, 'font-weight="600"')]
    group = LANE * len(kinds) + BETWEEN
    upper, lower = top + HEAD, top + HEAD + group * len(servers)
    for value in axis.ticks:
        x, is_power = axis.x(value), math.log10(value).is_integer()
        parts.append(line(x, upper - 4, x, lower, GRID, f'stroke-opacity="{0.5 if is_power else 0.18}"'))
        if is_power or axis.has_room():
            size = "" if is_power else 'font-size="10"'
            parts.append(text(x, lower + 14, f"{value:g}", f'text-anchor="middle" {size}'))
    parts.append(text(axis.left + PLOT / 2, lower + 29, "latency in ms", 'text-anchor="middle"'))
    for number, server in enumerate(servers):
        y = upper + number * group + BETWEEN / 2
        middle = y + LANE * len(kinds) / 2 + 4
        parts.append(text(axis.left - 8, middle, server, 'text-anchor="end"'))
        for lane, kind in enumerate(kinds):
            of_lane = [cell for cell in cells if cell["server"] == server and cell["connections"] == kind]
            for cell in of_lane:
                parts += bar(cell, color(kind, kinds), axis, y + (lane + 0.5) * LANE)
    return parts


def bar(cell, stroke, axis, y):
    found = cell[compared(cell)]
    parts = mark(stroke, *(axis.x(found[key]) for key in ("p50", "p90", "p99", "max")), y) if found else []
    if cell["lost"]:
        x = axis.x(found["max"]) + 6 if found else axis.left + 6
        parts.append(text(x, y + 3.5, f"{cell['lost']} lost", 'font-size="10"'))
    return parts


def mark(stroke, p50, p90, p99, most, y):
    return [
        line(most, y - 3.5, most, y + 3.5, stroke, 'stroke-width="1.5"'),
        line(p50, y, p99, y, stroke, 'stroke-width="3" stroke-linecap="round" stroke-opacity="0.6"'),
        f'<circle cx="{p90:.1f}" cy="{y:.1f}" r="4" fill="{stroke}"/>',
    ]


def line(x1, y1, x2, y2, stroke, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" {more}/>'


def text(x, y, content, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(content)}</text>'
