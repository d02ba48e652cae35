"""From histories to spans and marks: what is recorded from the real server, and what a history can do wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest
from histories import START, Recorder, recorded, run_info, running

from grctl.timeline import MarkKind, SpanKind, SpanStatus, Timeline
from grctl_core.history import HistoryEvent
from grctl_core.run import RunStatus

RECORDED = {name: (info, events) for name, info, events in recorded()}
MS = timedelta(milliseconds=1)


def of(name: str) -> Timeline:
    return Timeline.from_history(*RECORDED[name])


def spans(timeline: Timeline, kind: SpanKind) -> list[tuple[str, SpanStatus]]:
    return [(span.name, span.status) for span in timeline.spans if span.kind is kind]


def made(run: Recorder, **options) -> Timeline:
    return Timeline.from_history(run_info(), run.events, **options)


def begun() -> Recorder:
    run = Recorder()
    run("run.started", input=None)
    return run


def test_there_are_recorded_histories():
    assert len(RECORDED) >= 31


def test_attempts_of_a_task_with_their_failures_and_pauses():
    (task,) = [span for span in of("task_retried-0").spans if span.kind is SpanKind.TASK]
    assert [attempt.status for attempt in task.attempts] == [SpanStatus.FAILED, SpanStatus.FAILED, SpanStatus.COMPLETED]
    assert [attempt.number for attempt in task.attempts] == [1, 2, 3]
    assert [attempt.retry_after for attempt in task.attempts] == [50 * MS, 100 * MS, None]
    assert [attempt.error and attempt.error.type for attempt in task.attempts] == ["ConnectionError"] * 2 + [None]
    assert task.attempts[1].start == task.attempts[0].end + 50 * MS
    assert task.attempts[-1].end == task.end
    assert (task.step, task.status) == ("start", SpanStatus.COMPLETED)


def test_the_last_attempt_of_a_task_that_gave_up_failed_too():
    timeline = of("task_gave_up-0")
    (task,) = [span for span in timeline.spans if span.kind is SpanKind.TASK]
    assert [attempt.status for attempt in task.attempts] == [SpanStatus.FAILED, SpanStatus.FAILED]
    assert task.attempts[-1].error == task.error
    assert timeline.run.error.message == "down"
    assert timeline.status is RunStatus.FAILED


def test_a_wait_ends_when_an_event_comes_or_is_taken_up():
    assert spans(of("events-0"), SpanKind.WAIT) == [("", SpanStatus.COMPLETED)] * 2
    timeline = of("greet_events-0")  # both events came before the first wait
    waits = [span for span in timeline.spans if span.kind is SpanKind.WAIT]
    steps = {span.name: span.start for span in timeline.spans if span.kind is SpanKind.STEP}
    assert [wait.end for wait in waits] == [steps["greet"], steps["farewell"]]


def test_timeouts():
    assert spans(of("wait_timeout_step-0"), SpanKind.WAIT) == [("fallback", SpanStatus.TIMED_OUT)]
    assert spans(of("wait_timeout-0"), SpanKind.WAIT) == [("", SpanStatus.TIMED_OUT)]
    assert spans(of("step_timeout-0"), SpanKind.STEP) == [("start", SpanStatus.TIMED_OUT)]
    assert of("step_timeout-0").run.error.type == "StepTimeout"


def test_a_cancel_during_a_step_ends_the_run_with_the_step():
    timeline = of("cancelled_in_step-0")
    (step,) = timeline.spans
    assert [mark.kind for mark in timeline.marks] == [MarkKind.CANCEL]
    assert timeline.run.end == step.end  # though run.cancelled has the time at which the cancel came
    assert (timeline.run.status, timeline.run.detail) == (SpanStatus.CANCELLED, "enough")


def test_what_has_no_end_when_the_run_ends_is_abandoned_and_what_comes_later_counts():
    timeline = of("terminated_in_task-0")
    assert spans(timeline, SpanKind.STEP) == [("start", SpanStatus.ABANDONED)]
    assert spans(timeline, SpanKind.TASK) == [("slow_task", SpanStatus.CANCELLED)]
    step, task = timeline.spans
    assert step.start < task.start  # though its step.started came after task.started
    assert timeline.end == task.end > timeline.run.end


def test_sleeps_children_and_recorded_values_belong_to_their_step():
    timeline = of("recorded_values-0")
    (sleep,) = [span for span in timeline.spans if span.kind is SpanKind.SLEEP]
    assert (sleep.step, sleep.end - sleep.start) == ("start", 50 * MS)
    assert [(mark.name, mark.step) for mark in timeline.marks] == [
        ("timestamp", "start"),
        ("random", "start"),
        ("uuid", "start"),
    ]
    (child,) = [mark for mark in of("child_run-0").marks if mark.kind is MarkKind.CHILD]
    assert (child.name, child.step) == ("Child2", "start")
    assert "child-run-child" in child.detail


def test_a_run_that_goes_on_is_open_up_to_now():
    events = running()
    timeline = Timeline.from_history(run_info(), events, now=events[-1].timestamp + timedelta(seconds=2))
    assert timeline.is_running
    assert timeline.end == events[-1].timestamp + timedelta(seconds=2)
    assert [(span.kind, span.name) for span in timeline.spans if span.is_open] == [
        (SpanKind.STEP, "approve"),
        (SpanKind.TASK, "charge_card"),
    ]
    earlier = Timeline.from_history(run_info(), events, now=START)  # a clock that is behind
    assert earlier.end == events[-1].timestamp


def test_a_step_that_no_worker_takes_is_seen():
    run = begun()
    timeline = made(run, now=START + timedelta(hours=1))
    assert spans(timeline, SpanKind.QUEUE) == [("", SpanStatus.RUNNING)]
    run.step("start", 0.1)
    run.wait()
    assert spans(made(run), SpanKind.QUEUE) == []
    run("event.received", 1, event_name="approve")
    (queue,) = [span for span in made(run).spans if span.kind is SpanKind.QUEUE]
    assert queue.detail == "events received and not taken up: approve"
    run("step.started", 1, step_name="approve")
    assert spans(made(run), SpanKind.QUEUE) == []


def test_a_step_that_a_worker_takes_again():
    run = begun()
    run("step.started", step_name="start")
    run("step.started", 5, step_name="start")
    run("step.completed", 1, step_name="start", duration_ms=1)
    assert spans(made(run), SpanKind.STEP) == [("start", SpanStatus.ABANDONED), ("start", SpanStatus.COMPLETED)]


def test_ends_without_a_beginning():
    run = Recorder()
    run("step.completed", 10, step_name="start", duration_ms=4_000)
    run("task.failed", 0, task_id="t", task_name="t", step_name="start", error={"type": "E"}, duration_ms=1_000)
    run("run.completed", 0, result=None, duration_ms=6_000)
    timeline = made(run)
    assert [(span.name, (span.end - span.start).total_seconds()) for span in timeline.spans] == [
        ("start", 4),
        ("start", 1),
        ("t", 1),
    ]
    assert timeline.duration == timedelta(seconds=6)


def test_what_is_unknown_doubled_or_late_stays_as_a_mark():
    run = begun()
    run("run.started", 1, input=None)
    run("run.paused", 1, by="somebody")
    run("wait.timed_out", 1, original_directive_id="gone")
    run("run.completed", 1, result=None, duration_ms=1)
    run("run.failed", 1, error={"type": "UnexpectedFailure"}, duration_ms=1)
    timeline = made(run)
    assert [(mark.kind, mark.name) for mark in timeline.marks] == [
        (MarkKind.OTHER, kind) for kind in ("run.started", "run.paused", "wait.timed_out", "run.failed")
    ]
    assert timeline.status is RunStatus.COMPLETED


def test_the_order_of_the_events_given_does_not_matter():
    run_record, events = RECORDED["task_retried-0"]
    assert Timeline.from_history(run_record, reversed(events)) == Timeline.from_history(run_record, events)


def test_a_run_without_any_event():
    timeline = Timeline.from_history(run_info(), [], now=START + timedelta(seconds=3))
    assert (timeline.run.start, timeline.end, timeline.is_running) == (START, START + timedelta(seconds=3), True)


def test_the_record_says_the_end_where_the_history_does_not():
    info = RECORDED["completed-0"][0]
    timeline = Timeline.from_history(info, RECORDED["completed-0"][1][:2])
    assert (timeline.status, timeline.run.end) == (RunStatus.COMPLETED, info.completed_at)


@pytest.mark.parametrize("encoded", [b"\x01", b"\xc1", b""])
def test_an_event_that_holds_no_map(encoded):
    event = HistoryEvent(seq=1, kind="step.started", timestamp=START, wf_id="w", run_id="r", encoded=encoded)
    assert spans(Timeline.from_history(run_info(), [event]), SpanKind.STEP) == [("", SpanStatus.RUNNING)]


def test_a_task_never_ends_before_its_last_attempt():
    run = begun()
    ids = {"task_id": "t", "task_name": "load", "step_name": "start"}
    run("task.started", 0, **ids)
    run("task.attempt_failed", 5, **ids, attempt=1, max_attempts=3, next_retry_delay_ms=10, error={"type": "E"})
    run("task.started", -4, **ids)  # taken again, by a worker whose clock is behind
    first, second = [span for span in made(run).spans if span.kind is SpanKind.TASK]
    assert first.end == first.attempts[-1].end == START + timedelta(seconds=5)
    assert (first.status, second.status) == (SpanStatus.ABANDONED, SpanStatus.RUNNING)
