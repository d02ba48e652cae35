"""docs/timeline.md: what it shows is what is drawn today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from grctl.timeline import render_svg, render_text

DOCS = Path(__file__).parents[2] / "docs"
_spec = importlib.util.spec_from_file_location("draw_timeline", DOCS / "images" / "draw_timeline.py")
drawing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawing)


def test_the_picture_is_what_the_renderer_makes_today():
    assert drawing.PICTURE.read_text(encoding="utf-8") == render_svg(drawing.load()), (
        "run: python docs/images/draw_timeline.py"
    )


def test_the_terminal_on_the_page_is_what_the_renderer_makes_today():
    page = (DOCS / "timeline.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        r"```console\n\$ grctl-client workflow history --id order-1042 --timeline\n(.*?)```", page, re.DOTALL
    )
    assert shown == render_text(drawing.load(), width=80)
    assert max(map(len, shown.splitlines())) <= 80


def test_the_picture_shows_what_the_page_says():
    told = render_svg(drawing.load())
    for part in ("charge_card, attempt 2 of 5", "2 d 3 h", "approve", "ShipParcel", "completed in 2 d 3 h"):
        assert part in told
