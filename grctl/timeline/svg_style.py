"""How the picture looks, in light and in dark, and what stands in it once."""

from __future__ import annotations

__all__ = ["DEFINITIONS", "STYLE"]

_LIGHT = {
    "bg": "#ffffff",
    "edge": "#d1d9e0",
    "fg": "#1f2328",
    "muted": "#59636e",
    "grid": "#eaeef2",
    "wait": "#8c959f",
    "completed": "#2da44e",
    "failed": "#cf222e",
    "timed_out": "#bf8700",
    "cancelled": "#218bff",
    "terminated": "#8250df",
    "abandoned": "#8c959f",
    "running": "#0a8aa8",
}
_DARK = {
    "bg": "#0d1117",
    "edge": "#30363d",
    "fg": "#e6edf3",
    "muted": "#9198a1",
    "grid": "#1c2129",
    "wait": "#6e7681",
    "completed": "#3fb950",
    "failed": "#f85149",
    "timed_out": "#d29922",
    "cancelled": "#58a6ff",
    "terminated": "#bc8cff",
    "abandoned": "#6e7681",
    "running": "#39c5dd",
}
_STATUSES = ("completed", "failed", "timed_out", "cancelled", "terminated", "abandoned", "running")


def _colours(values: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in values.items())


STYLE = f"""
.gt{{{_colours(_LIGHT)}}}
@media (prefers-color-scheme:dark){{.gt{{{_colours(_DARK)}}}}}
.gt text{{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--fg)}}
.gt .head{{font-size:18px;font-weight:600}}
.gt .small{{font-size:11.5px}}
.gt .muted{{fill:var(--muted)}}
.gt .strong{{font-weight:600}}
.gt .card{{fill:var(--bg);stroke:var(--edge)}}
.gt .grid{{stroke:var(--grid)}}
.gt .axis{{stroke:var(--edge)}}
.gt .bar{{fill:var(--c)}}
.gt .task{{opacity:.72}}
.gt .wait{{fill:url(#gt-hatch);stroke:var(--wait);stroke-opacity:.55}}
.gt .timed{{stroke:var(--timed_out);stroke-opacity:.9}}
.gt .hatch{{stroke:var(--wait);stroke-opacity:.6}}
.gt .thin{{stroke:var(--c);stroke-width:2;fill:none}}
.gt .sleep{{stroke:var(--wait);stroke-width:2;stroke-dasharray:5 3;fill:none}}
.gt .pause{{stroke:var(--wait);stroke-width:1.5;stroke-dasharray:1.5 3;fill:none}}
.gt .queue{{fill:none;stroke:var(--timed_out);stroke-dasharray:3 3}}
.gt .cross{{stroke:var(--failed);stroke-width:2;fill:none}}
.gt .halo{{stroke:var(--bg);stroke-width:5;fill:none}}
.gt .mark{{fill:var(--fg);stroke:var(--bg);stroke-width:1.5}}
.gt .quiet{{fill:var(--muted)}}
.gt .tear{{fill:var(--bg);fill-opacity:.72}}
.gt .clear{{fill:transparent}}
.gt .edge{{stroke:var(--wait);fill:none}}
.gt .now{{stroke:var(--running);stroke-dasharray:2 3}}
.gt .count{{font-size:9.5px;font-weight:600;fill:var(--bg);text-anchor:middle}}
.gt .mid{{text-anchor:middle}}
.gt .end{{text-anchor:end}}
""" + "".join(
    f".gt .{status}{{--c:var(--{status})}}\n.gt text.{status}{{fill:var(--{status})}}\n" for status in _STATUSES
)

DEFINITIONS = (
    '<pattern id="gt-hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path class="hatch" d="M0 0V6" stroke-width="3"/></pattern>'
)
