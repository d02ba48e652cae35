"""Where things are drawn: inside the axis, in order, apart, wide enough to be seen, and to scale."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from arbitrary import events, names, run_infos, times
from histories import MADE, Recorder, run_info
from hypothesis import example, given
from hypothesis import strategies as st

from grctl.safe_text import one_line
from grctl.timeline import SpanKind, Timeline
from grctl.timeline.lanes import instants, lanes_of, latest_lanes, place_marks, place_spans
from grctl.timeline.scale import Scale
from grctl.timeline.units import duration_text, nice_step

DAY = 86_400.0
SLACK = 1e-6
seconds = st.floats(0, 1e-3) | st.floats(0, 10) | st.floats(0, 100 * DAY)


@example([1.1e-308, 2.2e-313, 2.0], 20.0)
@given(st.lists(seconds, max_size=40), st.sampled_from([8.0, 20.0, 60.0, 700.0]))
def test_a_scale_rises_and_fills_its_width(found, width):
    length = max(found, default=0.0)
    scale = Scale(found, length, width, (5, 9), 2)
    places = [scale.place(at) for at in sorted(found)]
    assert places == sorted(places)
    assert all(0 <= place <= width for place in places)
    if scale.length > 0:
        assert (scale.place(0), scale.place(scale.length)) == (0, width)
    for before, after in pairwise(scale.cuts):
        assert before.right + 2 - SLACK <= after.left  # what lies between two cuts can be seen
    assert sum(cut.right - cut.left for cut in scale.cuts) <= 0.7 * width + SLACK
    for tick in scale.ticks(8):
        assert -SLACK <= tick.place <= width + SLACK


def test_without_a_long_pause_the_scale_is_even():
    scale = Scale([0, 1, 2, 5, 10], 10, 100, (5, 9), 2)
    assert scale.cuts == ()
    assert [scale.place(at) for at in (1, 2.5, 10)] == [10, 25, 100]


def test_long_pauses_are_cut_out_and_what_is_left_is_to_scale():
    found = [0, 1, 2, 3, 3 + 7 * DAY, 4 + 7 * DAY, 6 + 7 * DAY]
    scale = Scale(found, found[-1], 69, (5, 9), 2)
    assert [(cut.start, cut.end) for cut in scale.cuts] == [(3, 3 + 7 * DAY)]
    assert scale.place(2) - scale.place(1) == pytest.approx(10)
    assert scale.place(6 + 7 * DAY) - scale.place(4 + 7 * DAY) == pytest.approx(20)


def test_pauses_of_less_than_two_seconds_are_never_cut_out():
    assert Scale([0, 0.001, 0.002, 0.003, 1.9], 1.9, 60, (5, 9), 2).cuts == ()


def test_many_pauses_are_not_cut_out():
    found = [hour * 3_600 + part for hour in range(60) for part in (0, 0.001, 0.002)]
    assert Scale(found, found[-1], 80, (5, 9), 2).cuts == ()


def test_ticks_are_round_and_apart():
    ticks = Scale([0, 83], 83, 100, (5, 9), 2).ticks(10)
    assert [tick.seconds for tick in ticks] == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert all(later.place - earlier.place >= 10 for earlier, later in pairwise(ticks))


@given(run_infos, events, st.none() | times)
def test_spans_and_marks_of_any_history_are_in_the_timeline_and_in_one_lane_each(info, found, now):
    timeline = Timeline.from_history(info, found, now)
    for span in (timeline.run, *timeline.spans):
        assert timeline.start <= span.start <= (span.end or timeline.end) <= timeline.end
        for attempt in span.attempts:
            assert attempt.start >= span.start
            assert attempt.end is None or attempt.start <= attempt.end <= (span.end or timeline.end)
    lanes = lanes_of(timeline)
    spans = [id(span) for lane in lanes for span in lane.spans]
    marks = [id(mark) for lane in lanes for mark in lane.marks]
    assert sorted(spans) == sorted(map(id, (timeline.run, *timeline.spans)))
    assert sorted(marks) == sorted(map(id, timeline.marks))
    assert lanes[0].kind is SpanKind.RUN
    for lane in lanes:
        if not lane.more:
            assert all(before.end <= after.start for before, after in pairwise(lane.spans))


@given(run_infos, events, st.sampled_from([8, 40, 700]), st.sampled_from([1.0, 3.0]))
def test_bars_are_inside_in_order_apart_and_wide_enough(info, found, width, least):
    timeline = Timeline.from_history(info, found)
    scale = Scale(instants(timeline), (timeline.end - timeline.start).total_seconds(), width, (5, 9), 2 * least)
    for lane in lanes_of(timeline):
        bars = place_spans(timeline, lane.spans, scale, least)
        assert [span for bar in bars for span in bar.spans] == lane.spans
        for bar in bars:
            assert 0 <= bar.left <= bar.right <= width + SLACK
            assert bar.right - bar.left >= least - SLACK
        assert all(before.right <= after.left for before, after in pairwise(bars))
        dots = place_marks(timeline, lane.marks, scale, 2 * least)
        assert [mark for dot in dots for mark in dot.marks] == lane.marks
        assert all(0 <= dot.place <= width for dot in dots)
        assert all(after.place - before.place >= 2 * least - SLACK for before, after in pairwise(dots))


def test_tasks_at_the_same_time_have_a_row_each_up_to_a_number():
    run = Recorder()
    run("run.started", input=None)
    run("step.started", step_name="start")
    for number in range(50):
        run("task.started", 0.1, task_id=str(number), task_name="load", step_name="start", args={})
    lanes = [lane for lane in lanes_of(Timeline.from_history(run_info(), run.events)) if lane.kind is SpanKind.TASK]
    assert [len(lane.spans) for lane in lanes] == [1] * 6 + [44]
    assert [lane.more for lane in lanes] == [0] * 6 + [44]
    assert {lane.depth for lane in lanes} == {1}


def test_steps_and_events_of_one_name_share_a_row():
    timeline = Timeline.from_history(run_info(), MADE["family"]())
    rows = [(lane.kind.value, lane.name, len(lane.spans) + len(lane.marks)) for lane in lanes_of(timeline)]
    assert rows == [
        ("run", "", 1),
        ("step", "start", 1),
        *[("task", "load_part", 1)] * 3,
        ("child", "ShipParcel", 4),
        ("recorded", "", 1),
        ("wait", "", 60),
        ("event", "move", 15),
        ("step", "move", 15),
        ("event", "scan", 45),
        ("step", "scan", 45),
        ("sent", "delivered", 1),
    ]


def test_of_too_many_rows_the_latest_stay():
    timeline = Timeline.from_history(run_info(), MADE["running"]())
    lanes = lanes_of(timeline)
    kept = latest_lanes(timeline, lanes, 3)
    assert [(lane.kind.value, lane.name) for lane in kept] == [
        ("run", ""),
        ("step", "approve"),
        ("task", "charge_card"),
    ]
    assert latest_lanes(timeline, lanes, None) == lanes


@given(names)
def test_what_is_printable_has_nothing_to_act_on(text):
    shown = one_line(text)
    assert shown.isprintable()
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert len(one_line(text, 10)) <= 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\n b\tc", "a b c"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
        ("\ufffe\U0001ffff", "\\ufffe\\U0001ffff"),
        ("Größe 日本 😀", "Größe 日本 😀"),
    ],
)
def test_printable(text, shown):
    assert one_line(text) == shown


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (0.000_001, "1 µs"),
        (0.000_999_9, "1 ms"),
        (0.25, "250 ms"),
        (0.9996, "1 s"),
        (3.04, "3 s"),
        (59.96, "1 min"),
        (65, "1 min 5 s"),
        (3_599.9, "1 h"),
        (7_260, "2 h 1 min"),
        (20 * DAY + 3 * 3_600, "20 d 3 h"),
        (400 * DAY, "400 d"),
        (timedelta.max, "999999999 d 24 h"),
    ],
)
def test_duration_text(given, text):
    if given is timedelta.max:
        assert duration_text(given).endswith(" d")
    else:
        assert duration_text(given) == text


@given(st.floats(1e-9, 1e12))
def test_a_nice_step_is_large_enough_and_not_much_too_large(least):
    assert least <= nice_step(least) <= max(least * 26, 1e-6)
