"""The plot: what a start costs against how many are under way at once, as SVG that reads well light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.rows import Point

__all__ = ["draw"]

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 46, 52

_STYLE = """
.gb{--bg:#ffffff;--edge:#d1d9e0;--fg:#1f2328;--grid:#eaeef2;--ours:#0969da;--reference:#9a6700}
@media (prefers-color-scheme:dark){.gb{--bg:#0d1117;--edge:#30363d;--fg:#e6edf3;--grid:#21262d;--ours:#58a6ff;
--reference:#d29922}}
.gb text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--fg)}
.gb .title{font-weight:600}
.gb .back{fill:var(--bg);stroke:var(--edge)}
.gb .grid{stroke:var(--grid)}
.gb polyline{fill:none;stroke-width:2.5;stroke-linejoin:round}
.gb .ours polyline{stroke:var(--ours)}
.gb .reference polyline{stroke:var(--reference);stroke-dasharray:7 4}
.gb .ours circle,.gb .ours text{fill:var(--ours);font-weight:600}
.gb .reference circle,.gb .reference text{fill:var(--reference);font-weight:600}
"""
_TITLE = "CPU time of the client for one start, in microseconds"


def draw(points: Sequence[Point]) -> str:
    """Return the plot: both axes are logarithmic."""
    most = max(point.at_once for point in points)
    costs = [cost for point in points for cost in (point.ours, point.reference)]
    marks = _marks(min(costs), max(costs))

    def x(at_once: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(at_once) / math.log(max(most, 2))

    def y(cost: float) -> float:
        share = math.log(cost / marks[0]) / math.log(marks[-1] / marks[0])
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {_HEIGHT}" class="gb" role="img">',
        f"<title>{_TITLE}, against how many are under way at once: grctl-client, and nats-py by hand</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="back" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="8"/>',
        f'<text class="title" x="{_LEFT}" y="27">{_TITLE}</text>',
    ]
    for mark in marks:
        parts.append(_line(_LEFT, y(mark), _WIDTH - _RIGHT, y(mark)))
        parts.append(f'<text x="{_LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for mark in (10**exponent for exponent in range(math.ceil(math.log10(most)) + 1)):
        if mark <= most:
            parts.append(_line(x(mark), _TOP, x(mark), _HEIGHT - _BOTTOM))
            label = f'<text x="{x(mark):.1f}" y="{_HEIGHT - _BOTTOM + 19}" text-anchor="middle">{mark:,}</text>'
            parts.append(label)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">starts at once</text>')

    # The names stand at the ends of the lines, apart where these are near each other.
    ends = {"ours": y(points[-1].ours), "reference": y(points[-1].reference)}
    if abs(ends["ours"] - ends["reference"]) < 18:
        higher = min(ends, key=lambda name: ends[name])
        between = sum(ends.values()) / 2
        ends = {name: between - 9 if name == higher else between + 9 for name in ends}
    for name, label in (("reference", "nats-py by hand"), ("ours", "grctl-client")):
        line = " ".join(f"{x(point.at_once):.1f},{y(getattr(point, name)):.1f}" for point in points)
        dots = "".join(
            f'<circle cx="{x(point.at_once):.1f}" cy="{y(getattr(point, name)):.1f}" r="3"/>' for point in points
        )
        end = f'<text x="{_WIDTH - _RIGHT + 10}" y="{ends[name] + 4:.1f}">{label}</text>'
        parts.append(f'<g class="{name}"><polyline points="{line}"/>{dots}{end}</g>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _marks(least: float, most: float) -> list[float]:
    """Return the marks 1, 2, 5, 10, ... that enclose all."""
    all_ = [step * 10**exponent for exponent in range(6) for step in (1.0, 2.0, 5.0)]
    first = max((mark for mark in all_ if mark <= least), default=all_[0])
    last = min((mark for mark in all_ if mark >= most), default=all_[-1])
    return [mark for mark in all_ if first <= mark <= last]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
