"""Draws a dashboard as an SVG: the panels side by side, each with its lines, and with what happened meanwhile.

The colors are of medium lightness, and there is no background, so that the picture suits a light and a dark page.
"""

import math
from xml.sax.saxutils import escape, quoteattr

INK = "#76808c"
COLORS = ["#2f81d8", "#2a9d5c", "#d98c1f", "#e5484d", "#8e5bd0", "#1a9fae", "#b5577f", "#7d8f2c"]
COLUMNS, WIDTH, GAP, MARGIN = 3, 262, 24, 10
TITLE, CHART, AXIS, LEGEND = 22, 84, 16, 13  # heights; a legend has a line for each row of names
LEFT = 42  # width of the numbers beside a chart
PLOT = WIDTH - LEFT
HEAD, ROW = 44, 30
FONT = 'font-family="system-ui, sans-serif" font-size="10"'
CHARACTER = 5.4  # mean width of a letter in a legend
# The rows of the dashboard that are drawn.
ROWS = ("Traffic", "Latency", "Saturation", "Workers")


def picture(run):
    """Returns the SVG of a run: `seconds`, `events` with their times, and `panels` with the values of their lines."""
    parts, top = [], HEAD
    for title, panels in rows(run["panels"]):
        parts.append(text(MARGIN, top + 16, title, 'font-size="13" font-weight="600"'))
        top += ROW
        for first in range(0, len(panels), COLUMNS):
            beside = panels[first : first + COLUMNS]
            for number, panel in enumerate(beside):
                parts += drawn(run, panel, MARGIN + number * (WIDTH + GAP), top)
            top += TITLE + CHART + AXIS + LEGEND * max(len(legend(panel)) for panel in beside) + 12
    width = 2 * MARGIN + COLUMNS * WIDTH + (COLUMNS - 1) * GAP
    label = f"The dashboard during {run['seconds']:.0f} s: " + ", ".join(f"{name} at {at:.0f} s" for name, at in run["events"])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}"'
            f" role=\"img\" aria-label={quoteattr(label)}>",
            f'<g {FONT} fill="{INK}">',
            *head(run),
            *parts,
            "</g>",
            "</svg>",
            "",
        ]
    )


def rows(panels):
    """Returns the rows that are drawn, each with its panels."""
    found = []
    for panel in panels:
        if panel["is_row"]:
            found.append((panel["title"], []))
        else:
            found[-1][1].append(panel)
    return [(title, within) for title, within in found if title in ROWS]


def head(run):
    """Explains the vertical lines."""
    parts = [text(MARGIN, 16, "Dashed lines:", "")]
    at = MARGIN + 76
    for number, (name, second) in enumerate(run["events"]):
        words = f"{number + 1} {name} ({second:.0f} s)"
        parts.append(text(at, 16, words, ""))
        at += 18 + CHARACTER * len(words)
    return parts


def drawn(run, panel, left, top):
    """Draws a panel."""
    chart_top, bottom = top + TITLE, top + TITLE + CHART
    highest = nice(tallest(panel))
    x = lambda second: left + LEFT + max(min(second / run["seconds"], 1), 0) * PLOT  # noqa: E731
    y = lambda value: bottom - min(value / highest, 1) * CHART  # noqa: E731
    parts = [text(left, top + 12, panel["title"], 'font-size="11" font-weight="600"')]
    for part in (0, 0.5, 1):
        at = bottom - part * CHART
        parts.append(f'<path d="M{left + LEFT} {at:g}h{PLOT}" stroke="{INK}" stroke-opacity="0.3"/>')
        parts.append(text(left + LEFT - 4, at + 3, number(part * highest, panel["unit"]), 'text-anchor="end" font-size="9"'))
    for second in range(0, int(run["seconds"]) + 1, max(round(run["seconds"] / 50) * 10, 1)):
        anchor = "middle" if second < 0.95 * run["seconds"] else "end"
        parts.append(text(x(second), bottom + 12, f"{second} s", f'text-anchor="{anchor}" font-size="9"'))
    for count, (_, second) in enumerate(run["events"]):
        path = f'd="M{x(second):.1f} {chart_top}V{bottom}"'
        parts.append(f'<path {path} stroke="{INK}" stroke-opacity="0.7" stroke-dasharray="2 2"/>')
        parts.append(text(x(second), chart_top - 2, str(count + 1), 'text-anchor="middle" font-size="8"'))
    below = {}  # the sum of the lines so far, by time
    for line, color in zip(panel["lines"], colors()):
        parts += marks(panel, line, below, x, y, color)
    return parts + names(panel, left, bottom + AXIS)


def marks(panel, line, below, x, y, color):
    """Draws the values of a line: a line, an area or bars upon those before it."""
    values = [(at, value) for at, value in line["values"] if not math.isnan(value)]
    if panel["style"] == "bars":
        bars = []
        for at, value in values:
            if value > 0:
                base = below.get(at, 0)
                below[at] = base + value
                bars.append(f"M{x(at):.1f} {y(base):.1f}V{y(base + value):.1f}")
        return [f'<path d="{"".join(bars)}" stroke="{color}" stroke-width="2" fill="none"/>'] if bars else []
    stacked = panel["style"] == "normal"
    shown = [(at, value + below.get(at, 0)) for at, value in values] if stacked else values
    if not shown:
        return []
    outline = "L".join(corners([(f"{x(at):.1f}", f"{y(value):.1f}") for at, value in shown]))
    drawn_line = f'<path d="M{outline}" stroke="{color}" stroke-width="1.2" fill="none"/>'
    if not stacked:
        return [drawn_line]
    back = "L".join(corners([(f"{x(at):.1f}", f"{y(below.get(at, 0)):.1f}") for at, _ in reversed(shown)]))
    below.update(shown)
    if not any(value for _, value in values):
        return []
    return [f'<path d="M{outline}L{back}Z" fill="{color}" fill-opacity="0.3"/>', drawn_line]


def corners(points):
    """Returns the points of a line without those inside a part that is level."""
    for index, (x, y) in enumerate(points):
        is_inside = 0 < index < len(points) - 1 and points[index - 1][1] == y == points[index + 1][1]
        if not is_inside:
            yield f"{x} {y}"


def colors():
    while True:
        yield from COLORS


def legend(panel):
    """Returns the rows of the legend: the numbers of the lines that stand side by side."""
    found, used = [[]], 0
    for index, line in enumerate(panel["lines"]):
        width = 16 + CHARACTER * len(line["name"])
        if found[-1] and used + width > WIDTH:
            found.append([])
            used = 0
        found[-1].append((index, used))
        used += width
    return found


def names(panel, left, top):
    """Draws the legend."""
    parts = []
    for row, entries in enumerate(legend(panel)):
        base = top + (row + 1) * LEGEND - 2
        for index, at in entries:
            color = COLORS[index % len(COLORS)]
            parts.append(f'<rect x="{left + at:.0f}" y="{base - 6}" width="8" height="3" fill="{color}"/>')
            parts.append(text(left + at + 11, base, panel["lines"][index]["name"], 'font-size="9"'))
    return parts


def tallest(panel):
    """Returns the highest value that is drawn."""
    if panel["style"] in ("bars", "normal"):
        sums = {}
        for line in panel["lines"]:
            for at, value in line["values"]:
                sums[at] = sums.get(at, 0) + (0 if math.isnan(value) else value)
        return max(sums.values(), default=0)
    return max((value for line in panel["lines"] for _, value in line["values"] if not math.isnan(value)), default=0)


def nice(value):
    """Rounds up to 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


def number(value, unit):
    """Writes a value in its unit."""
    if unit == "percentunit":
        return f"{100 * value:g} %"
    if unit == "s":
        return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"
    scale, suffix = 1, ""
    for factor, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if value >= factor:
            scale, suffix = factor, letter
    unit = {"cps": "/s", "Bps": "B/s", "bytes": "B"}.get(unit, "")
    return f"{value / scale:g}{' ' if unit.startswith('B') else ''}{suffix}{unit}"


def text(x, y, words, attributes):
    return f'<text x="{x:.0f}" y="{y:.0f}" {attributes}>{escape(words)}</text>'
