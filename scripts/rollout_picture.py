"""Draws a rollout as an SVG: above, a lane for each pod with its states; below, the requests of each tenth of a second.

The colors are of medium lightness, and there is no background, so that the picture suits a light and a dark page.
"""

import math
from xml.sax.saxutils import escape, quoteattr

INK, FAILED = "#76808c", "#e5484d"
OLD, NEW = "#2f81d8", "#2a9d5c"
LEFT, PLOT, MARGIN = 70, 745, 15  # widths
TOP, LANE, BAR, BETWEEN, CHART, FOOT = 64, 24, 14, 34, 130, 40  # heights
STEP_S = 0.1
FONT = 'font-family="system-ui, sans-serif" font-size="12"'
# What becomes of requests, from the bottom of a bar to its top: name, color, opacity.
OUTCOMES = {
    "old": ("by the old version", OLD, 0.9),
    "stopping": ("by an old pod after its TERM", OLD, 0.45),
    "new": ("by the new version", NEW, 0.9),
    "failed": ("failed", FAILED, 1),
}


def outcomes(run):
    """Returns how many requests ended in each step and how: a list by the name of the outcome."""
    pods = {pod["name"]: pod for pod in run["pods"]}
    steps = math.ceil(run["seconds"] / STEP_S)
    found = {name: [0] * steps for name in OUTCOMES}
    for ended, name in run["requests"]:
        if name not in pods:
            outcome = "failed"
        elif pods[name]["version"] == "new":
            outcome = "new"
        else:
            outcome = "stopping" if ended >= pods[name]["term"] else "old"
        found[outcome][min(int(ended / STEP_S), steps - 1)] += 1
    return found


def picture(run):
    """Returns the SVG of a run: `seconds`, `drain_s`, `note`, `pods` and `requests`, with times since its beginning."""
    pods, counts = run["pods"], outcomes(run)
    lower = TOP + LANE * len(pods)
    upper = lower + BETWEEN
    width, height = LEFT + PLOT + 2 * MARGIN, upper + CHART + FOOT
    label = f"A rollout: {len(run['requests'])} requests, {sum(counts['failed'])} failed"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f" role=\"img\" aria-label={quoteattr(label)}>",
        f'<g {FONT} fill="{INK}">',
        *head(run, counts),
        *axis(run, upper + CHART),
    ]
    for number, pod in enumerate(pods):
        parts += lane(run, pod, TOP + number * LANE)
    parts += chart(run, counts, upper)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def x(run, at_s):
    return LEFT + MARGIN + max(min(at_s / run["seconds"], 1), 0) * PLOT


def head(run, counts):
    """Explains the states of a pod, and names the run."""
    total, failed = len(run["requests"]), sum(counts["failed"])
    parts = [text(MARGIN, 18, f"{total:,} requests, {failed} failed", 'font-size="15" font-weight="600"')]
    parts.append(text(MARGIN + PLOT + LEFT, 18, run["note"], 'text-anchor="end" font-size="11"'))
    at = LEFT + MARGIN
    states = [("starting", mark), ("ready", solid), ("TERM: draining, accepts", faint), ("finishes requests", thin)]
    for name, draw in states:
        parts += [draw(at, at + 26, 36, INK), text(at + 32, 47, name)]
        at += 56 + 6.4 * len(name)
    return parts


def axis(run, bottom):
    """Draws the seconds."""
    parts = []
    for second in range(0, int(run["seconds"]) + 1):
        at = x(run, second)
        opacity = 0.4 if second % 5 == 0 else 0.15
        parts.append(f'<path d="M{at:.1f} {TOP - 4}V{bottom}" stroke="{INK}" stroke-opacity="{opacity}" stroke-width="1"/>')
        if second % 5 == 0 or run["seconds"] < 12:
            parts.append(text(at, bottom + 15, str(second), 'text-anchor="middle"'))
    parts.append(text(LEFT + MARGIN + PLOT, bottom + 30, "seconds", 'text-anchor="end"'))
    return parts


def lane(run, pod, top):
    """Draws the states of a pod."""
    color = NEW if pod["version"] == "new" else OLD
    ready, term, exited = (pod.get(name) for name in ("ready", "term", "exited"))
    end = run["seconds"]
    parts = [text(LEFT + MARGIN - 10, top + BAR - 1, pod["name"], 'text-anchor="end"')]
    if ready > 0 and pod["started"] > 0:
        parts.append(mark(x(run, pod["started"]), x(run, ready), top, color))
    parts.append(solid(x(run, ready), x(run, end if term is None else term), top, color))
    if term is not None:
        exited = end if exited is None else exited
        drained = min(term + run["drain_s"], exited)
        parts.append(faint(x(run, term), x(run, drained), top, color))
        if exited > drained:
            parts.append(thin(x(run, drained), x(run, exited), top, color))
        parts.append(text(x(run, exited) + 5, top + BAR - 2, f"exit {pod['status']}", 'font-size="10"'))
    return parts


def mark(left, right, top, color):
    dashes = 'stroke-dasharray="3 2" rx="3"'
    return f'<rect x="{left:.1f}" y="{top + 0.5}" width="{right - left:.1f}" height="{BAR - 1}" fill="none" stroke="{color}" {dashes}/>'


def solid(left, right, top, color):
    return f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{BAR}" rx="3" fill="{color}" fill-opacity="0.9"/>'


def faint(left, right, top, color):
    return f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{BAR}" rx="3" fill="{color}" fill-opacity="0.45"/>'


def thin(left, right, top, color):
    middle = top + BAR / 2 - 2
    return f'<rect x="{left:.1f}" y="{middle}" width="{right - left:.1f}" height="4" rx="2" fill="{color}" fill-opacity="0.9"/>'


def chart(run, counts, upper):
    """Draws a bar for each step, whose parts are the outcomes of the requests that ended in it."""
    totals = [sum(step) for step in zip(*counts.values())]
    tallest = max([*totals, 1])
    bottom = upper + CHART
    parts, at = [], LEFT + MARGIN
    for name, (shown, color, opacity) in OUTCOMES.items():
        shown = f"{sum(counts[name]):,} {shown}"
        parts.append(f'<rect x="{at}" y="{upper - 22}" width="10" height="10" rx="2" fill="{color}" fill-opacity="{opacity}"/>')
        parts.append(text(at + 15, upper - 13, shown))
        at += 32 + 6.2 * len(shown)
    for value in (tallest, tallest / 2):
        parts.append(text(LEFT + MARGIN - 10, bottom - value / tallest * (CHART - 12) + 4, f"{value:.0f}", 'text-anchor="end"'))
    middle = bottom - CHART / 2
    turned = f'text-anchor="middle" transform="rotate(-90 {MARGIN + 8} {middle})"'
    parts.append(text(MARGIN + 8, middle, "requests per 100 ms", turned))
    width = PLOT / run["seconds"] * STEP_S
    for step in range(len(totals)):
        top = bottom
        for name, (_, color, opacity) in OUTCOMES.items():
            if number := counts[name][step]:
                tall = number / tallest * (CHART - 12)
                top -= tall
                left = x(run, step * STEP_S)
                parts.append(
                    f'<rect x="{left:.1f}" y="{top:.1f}" width="{width * 0.85:.2f}" height="{tall:.1f}"'
                    f' fill="{color}" fill-opacity="{opacity}"/>'
                )
    return parts


def text(left, top, content, more=""):
    return f'<text x="{left:.1f}" y="{top:.1f}" {more}>{escape(content)}</text>'
