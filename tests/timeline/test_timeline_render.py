"""The drawings: every recorded history and any other is drawn, and nothing in it can do harm."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import timedelta

import pytest
from arbitrary import NASTY, events, run_infos, times
from histories import MADE, Recorder, recorded, run_info
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from grctl.timeline import Timeline, TimelineView, render_svg, render_text
from grctl.timeline.svg import WIDTH

RECORDED = [pytest.param(info, events, id=name) for name, info, events in recorded()]
SVG = "{http://www.w3.org/2000/svg}"


def made(name: str) -> Timeline:
    found = MADE[name]()
    return Timeline.from_history(run_info(), found, now=found[-1].timestamp + timedelta(seconds=1))


def check_text(timeline: Timeline, width: int) -> str:
    drawn = render_text(timeline, width=width)
    for line in drawn.splitlines():
        assert cell_len(line) <= width, line
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", drawn)
    return drawn


def check_svg(timeline: Timeline) -> ET.Element:
    drawn = render_svg(timeline)
    root = ET.fromstring(drawn)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "style", "defs", "pattern", "g", "text", "rect", "path", "circle")
    }
    height = float(root.get("height"))
    for element in root.iter(f"{SVG}rect"):
        left, top, wide, high = (float(element.get(key)) for key in ("x", "y", "width", "height"))
        assert -0.1 <= left <= left + wide <= WIDTH + 0.1
        assert -0.1 <= top <= top + high <= height + 0.1
        assert wide > 0
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on") or "href" in name]
    assert not re.search(r"url\((?!#gt-hatch\))", drawn)
    return root


@pytest.mark.parametrize(("info", "found"), RECORDED)
def test_recorded_histories_are_drawn(info, found):
    for count in range(len(found) + 1):  # as a watcher sees it grow
        timeline = Timeline.from_history(info, found[:count])
        for width in (20, 40, 80, 200):
            assert "run " in check_text(timeline, width)
        check_svg(timeline)
    told = "".join(check_svg(Timeline.from_history(info, found)).itertext())
    assert info.wf_type in told
    assert info.wf_id in told
    assert info.id in told
    assert str(info.status or "running").replace("_", " ") in told


@settings(max_examples=150)
@given(run_infos, events, st.none() | times, st.integers(20, 130))
def test_any_history_is_drawn(info, found, now, width):
    timeline = Timeline.from_history(info, found, now)
    check_text(timeline, width)
    check_svg(timeline)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_each_row_has_its_label_its_bar_and_its_duration(name, width):
    timeline = made(name)
    rows = check_text(timeline, width).splitlines()
    (run,) = [row for row in rows if row.startswith("run  ")]
    assert re.search(r"━", run)
    assert re.search(r"\d+ (ms|s|min|h|d)$", run)


def test_an_order_at_eighty_columns():
    assert render_text(made("order"), width=80) == (
        "ProcessOrder order-1042  completed in 879 ms\n"
        "run 01M82F6TV6SPHAHG7X6781R7CZ, started 2026-11-02 09:00:00 UTC\n"
        "\n"
        "                0            200 ms       400 ms       600 ms      800 ms\n"
        "                ├────────────┼────────────┼────────────┼────────────┼────\n"
        "run             ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 879 ms\n"
        "start           ████████                                                  124 ms\n"
        "  reserve_stock ▄▄▄▄▄▄▄▄                                                  120 ms\n"
        "waiting                 ░░░░░░░░░░░░░░░░░░░░                              310 ms\n"
        "◆ approve                                   ◆\n"
        "approve                                      █                            6 ms\n"
        "charge                                       ████████████████             243 ms\n"
        "  charge_card                                ▄▄▄✗······▄▄▄▄▄▄             240 ms\n"
        "ship                                                         ████████████ 182 ms\n"
        "  sleep                                                      ┄┄┄┄┄┄┄┄┄┄┄┄ 180 ms\n"
        "\n"
        "█ step   ▄ task   ░ wait   ┄ sleep   ◆ event   ✗ failed attempt\n"
        "· pause before the next\n"
        "✗ charge_card, attempt 1 of 3 at 502 ms: ConnectionError: bank.example refused\n"
        "(try 1) (again after 100 ms)\n"
    )


def test_a_month_shows_its_seconds_and_says_what_is_left_out():
    drawn = check_text(made("month"), 120)
    for left_out in ("7 d", "14 d", "9 d", "1 h"):
        assert re.search(rf"\N{{BOX DRAWINGS LIGHT DIAGONAL UPPER RIGHT TO LOWER LEFT}} *{left_out} *\S", drawn)
    (remind,) = [row for row in drawn.splitlines() if row.startswith("remind")]
    assert len(re.findall(r"█{5,}", remind)) == 3
    told = "".join(check_svg(made("month")).itertext())
    assert "14 d in which nothing began or ended are left out" in told


def test_each_failed_attempt_is_told():
    for told in (check_text(made("failing"), 120), "\n".join(check_svg(made("failing")).itertext())):
        for number in range(1, 6):
            assert f"charge_card, attempt {number} of 5 at" in told
        assert "gave up" in told
        assert "failed after 5.7 s" in told


@pytest.mark.parametrize(
    ("name", "meanings"),
    [
        ("terminated_in_task-0", {"terminated", "cancelled", "no end recorded"}),
        ("step_timeout-0", {"failed", "timed out"}),
        ("waiting-0", {"goes on"}),
        ("completed-0", set()),
    ],
)
def test_the_picture_says_what_its_colours_mean(name, meanings):
    (timeline,) = [Timeline.from_history(info, found) for other, info, found in recorded() if other == name]
    told = {element.text for element in check_svg(timeline).iter(f"{SVG}text")}
    every = {"failed", "timed out", "cancelled", "terminated", "no end recorded", "goes on"}
    assert told & every == meanings


def test_a_run_that_no_worker_takes_says_so():
    run = Recorder()
    run("run.started", input=None)
    timeline = Timeline.from_history(run_info(), run.events, run.at + timedelta(hours=2))
    assert re.search(r"^no worker yet ┈+▸ ▸ 2 h$", check_text(timeline, 80), re.MULTILINE)
    assert "no worker has taken the next step yet" in "".join(check_svg(timeline).itertext())
    run("event.received", 1, event_name="approve")
    timeline = Timeline.from_history(run_info(), run.events)
    assert "▸ events received and not taken up: approve" in check_text(timeline, 80)
    assert "events received and not taken up: approve" in "".join(check_svg(timeline).itertext())


@pytest.mark.parametrize("name", [*NASTY, "x" * 5_000])
def test_names_and_messages_cannot_do_harm(name):
    run = Recorder()
    run("run.started", input=None)
    run("step.started", step_name=name)
    run.task(name, name, 1.0, 1.0)
    run("event.received", 1, event_name=name)
    run("step.failed", 1, step_name=name, error={"type": name, "message": name})
    run(name, 1)
    run("run.failed", 1, error={"type": name, "message": name})
    timeline = Timeline.from_history(run_info(name, name), run.events)
    drawn = check_text(timeline, 80)
    if name.startswith("["):  # markup stays text
        assert name in drawn
    check_svg(timeline)
    coloured = render_text(timeline, width=80, color=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == drawn.split()


def test_a_lone_surrogate_in_an_id():
    timeline = Timeline.from_history(run_info("T", "\ud800"), MADE["order"]())
    assert "\\ud800" in check_text(timeline, 80)
    render_svg(timeline).encode()


def test_colour_only_where_it_is_wanted(monkeypatch):
    assert "\x1b[" not in render_text(made("failing"))
    assert "\x1b[31m" in render_text(made("failing"), color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    output = io.StringIO()
    Console(file=output, force_terminal=True, width=80).print(TimelineView(made("failing")))
    assert "━" in output.getvalue()
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", output.getvalue())


def test_a_console_that_has_only_ascii():
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=output, width=80, color_system=None).print(TimelineView(made("order")))
    output.seek(0)
    drawn = output.read()
    assert re.search(r"^  charge_card +#+x\.+#+ +240 ms$", drawn, re.MULTILINE)
    assert "?" not in drawn
    assert "run             ====" in drawn


def test_hundreds_of_rows_and_thousands_of_events_stay_readable():
    run = Recorder()
    run("run.started", input=None)
    for number in range(400):
        run("event.received", 0.1, event_name=f"event-{number}")
    for number in range(2_000):
        run("event.received", 0.1, event_name="many", payload=number)
    timeline = Timeline.from_history(run_info(), run.events)
    root = check_svg(timeline)
    assert float(root.get("height")) < 5_000
    assert re.search(r"… \d+ more rows are not drawn", "".join(root.itertext()))
    output = io.StringIO()
    Console(file=output, width=80, color_system=None).print(TimelineView(timeline, max_rows=10))
    assert len(output.getvalue().splitlines()) < 25
    assert "393 more rows" in output.getvalue()


def test_the_picture_needs_no_extra_and_the_text_says_what_it_needs():
    code = (
        "import sys; sys.modules['rich'] = None\n"
        "import grctl.timeline as t\n"
        "assert t.render_svg\n"
        "try:\n    t.render_text\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == 'render_text needs rich: pip install "grctl-client[cli]"\n'
