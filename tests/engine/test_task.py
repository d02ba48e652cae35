"""Tasks: what is recorded of them, and how often they are tried."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, NoReturn

import pytest

from grctl_core.errors import InvalidInputError, WorkflowCancelledError
from grctl_engine import RetryPolicy, task

from .task_flows import double, flow, of_tasks, run


async def test_outside_of_a_handler_it_is_the_plain_function():
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=5))
    async def fails(n: int) -> object:
        calls.append(n)
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        await fails(1)
    assert calls == [1]
    assert await double(4) == 8
    assert double.__name__ == "double"


async def test_arguments_are_recorded_by_name(make_rig):
    @task
    async def all_kinds(a: int, /, b: int, *more: int, c: int = 3, d: int = 4, **others: Any) -> None:
        pass

    _, history = await run(make_rig, lambda _: all_kinds(1, 2, 7, 8, d=5, e="x"))
    (_, started), (_, completed) = of_tasks(history)
    assert started["args"] == {"a": 1, "b": 2, "more": [7, 8], "c": 3, "d": 5, "others": {"e": "x"}}
    assert completed["output"] == {"result": None}
    assert started["step_name"] == "start"
    assert started["task_id"] == completed["task_id"]


async def test_a_method_whose_self_can_be_recorded(make_rig):
    @dataclasses.dataclass
    class Shop:
        name: str

        @task
        async def charge(self, amount: int) -> int:
            return amount

    outcome, history = await run(make_rig, lambda _: Shop("s").charge(5))
    assert outcome.result == 5
    assert of_tasks(history)[0][1]["args"] == {"self": {"name": "s"}, "amount": 5}


@dataclasses.dataclass
class Receipt:
    number: str
    lines: tuple[int, ...]


async def test_the_result_is_what_the_record_holds_decoded_to_the_annotation(make_rig):
    kept = [1]

    @task
    async def typed() -> Receipt:
        return Receipt("r", (1, 2))

    @task
    async def untyped():
        return (1, 2)

    @task
    async def shared() -> list[int]:
        return kept

    async def body(ctx):
        receipt = await typed()
        assert receipt == Receipt("r", (1, 2))
        assert await untyped() == [1, 2]
        (await shared()).append(2)
        assert kept == [1]
        return receipt

    outcome, _ = await run(make_rig, body)
    assert outcome.result == {"number": "r", "lines": [1, 2]}


async def test_what_only_type_checkers_know_of_a_parameter_leaves_the_result_alone(make_rig):
    @task
    async def typed(n: NotThere) -> Receipt:  # noqa: F821
        return Receipt("r", (n,))

    async def body(ctx):
        assert await typed(1) == Receipt("r", (1,))

    outcome, _ = await run(make_rig, body)
    assert outcome.error is None


async def test_a_return_annotation_that_cannot_be_resolved_fails_before_the_work(make_rig):
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=3))
    async def typed() -> NotThere:  # noqa: F821
        calls.append(1)

    outcome, history = await run(make_rig, lambda _: typed())
    assert outcome.error.type == "InvalidInputError"
    assert "task 'typed': its return annotation, 'NotThere', cannot be resolved" in outcome.error.message
    assert (calls, of_tasks(history)) == ([], [])


async def test_a_task_that_never_returns(make_rig):
    @task
    async def fails() -> NoReturn:
        raise ValueError("always")

    outcome, _ = await run(make_rig, lambda _: fails())
    assert outcome.error.type == "ValueError"


async def test_what_cannot_be_recorded_fails_the_task_once(make_rig):
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=5))
    async def returns_an_object() -> Any:
        calls.append(1)
        return {"a": object()}

    @task(retry_policy=RetryPolicy(max_attempts=5))
    async def says_int() -> int:
        return "no"

    outcome, history = await run(make_rig, lambda _: returns_an_object())
    assert calls == [1]
    assert outcome.error.type == "TaskResultError"
    assert "task 'returns_an_object' returned what cannot be recorded: result['a']" in outcome.error.message
    assert [kind for kind, _ in of_tasks(history)] == ["started", "failed"]
    outcome, history = await run(make_rig, lambda _: says_int())
    assert "task 'says_int' returned what its return annotation does not say" in outcome.error.message
    assert [kind for kind, _ in of_tasks(history)] == ["started", "failed"]


async def test_arguments_that_do_not_fit_or_cannot_be_recorded(make_rig):
    outcome, history = await run(make_rig, lambda _: double(1, 2))
    assert (outcome.error.type, outcome.error.message) == ("TypeError", "double() too many positional arguments")
    assert of_tasks(history) == []
    outcome, history = await run(make_rig, lambda _: double(object()))
    assert outcome.error.type == "InvalidInputError"
    assert "arguments of task 'double'['n']" in outcome.error.message
    assert of_tasks(history) == []


async def test_gather(make_rig):
    async def body(ctx):
        return await asyncio.gather(*(double(n) for n in range(50)))

    outcome, history = await run(make_rig, body)
    assert outcome.result == [2 * n for n in range(50)]
    tasks = of_tasks(history)
    assert len({data["task_id"] for _, data in tasks}) == 50
    assert sorted(kind for kind, _ in tasks) == ["completed"] * 50 + ["started"] * 50


async def test_a_task_calls_a_task(make_rig):
    @task
    async def outer(n: int) -> int:
        return await double(n) + 1

    outcome, history = await run(make_rig, lambda _: outer(3))
    assert outcome.result == 7
    assert [(kind, data["task_name"]) for kind, data in of_tasks(history)] == [
        ("started", "outer"),
        ("started", "double"),
        ("completed", "double"),
        ("completed", "outer"),
    ]


async def test_back_off_is_on_the_engines_clock(make_rig):
    times = []

    @task(retry_policy=RetryPolicy(max_attempts=4, initial_delay_ms=1000, max_delay_ms=3000))
    async def fails() -> None:
        times.append(rig.clock.now())
        raise ConnectionError("down")

    rig = make_rig(flow(lambda _: fails()))
    ref = rig.start("W")
    began = rig.clock.now()
    await rig.settle()
    assert len(times) == 1
    await rig.advance(0.9)
    assert len(times) == 1
    await rig.advance(100)
    assert [(time - began).total_seconds() for time in times] == [0, 1, 3, 6]
    outcome = await rig.outcome(ref)
    assert outcome.error.type == "ConnectionError"
    events = of_tasks(await rig.history(ref))
    assert [kind for kind, _ in events] == ["started", *["attempt_failed"] * 3, "failed"]
    assert [data["attempt"] for kind, data in events if kind == "attempt_failed"] == [1, 2, 3]
    assert [data["next_retry_delay_ms"] for kind, data in events if kind == "attempt_failed"] == [1000, 2000, 3000]
    assert {data["max_attempts"] for kind, data in events if kind == "attempt_failed"} == {4}
    assert {data["error"]["qualified_type"] for kind, data in events if "error" in data} == {"builtins.ConnectionError"}


@pytest.mark.parametrize(
    ("policy", "attempts"),
    [
        (None, 1),
        (RetryPolicy(), 1),
        (RetryPolicy(max_attempts=3), 3),
        (RetryPolicy(max_attempts=3, retryable_errors=["KeyError"]), 1),
        (RetryPolicy(max_attempts=3, non_retryable_errors=["ValueError"]), 1),
        (RetryPolicy(max_attempts=3, initial_delay_ms=0), 3),
    ],
)
async def test_how_often_it_is_tried(policy, attempts, make_rig):
    calls = []

    @task(retry_policy=policy)
    async def fails() -> None:
        calls.append(1)
        raise ValueError("no")

    _, history = await run(make_rig, lambda _: fails(), seconds=60)
    assert len(calls) == attempts
    kinds = [kind for kind, _ in of_tasks(history)]
    assert kinds == ["started", *["attempt_failed"] * (attempts - 1), "failed"]


async def test_the_error_reaches_the_handler(make_rig):
    @task
    async def fails() -> None:
        raise ValueError("no")

    async def body(ctx):
        try:
            await fails()
        except ValueError as error:
            return str(error)

    outcome, history = await run(make_rig, body)
    assert outcome.result == "no"
    (failed,) = [data for kind, data in of_tasks(history) if kind == "failed"]
    trace = failed["error"]["stack_trace"]
    assert "test_task.py" in trace
    assert "grctl_engine" not in trace


async def test_a_completed_tasks_duration_is_that_of_all_its_attempts(make_rig):
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=3, initial_delay_ms=500))
    async def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("again")
        return "done"

    _, history = await run(make_rig, lambda _: flaky(), seconds=2)
    assert [data.get("duration_ms") for _, data in of_tasks(history)] == [None, 0, 0, 1500]


async def test_the_end_of_another_run_is_a_failure_and_no_cancellation(make_rig):
    calls = []

    @task(retry_policy=RetryPolicy(max_attempts=2))
    async def waits_for_another() -> None:
        calls.append(1)
        raise WorkflowCancelledError("workflow 'x' was cancelled")

    _, history = await run(make_rig, lambda _: waits_for_another(), seconds=1)
    assert len(calls) == 2
    assert [kind for kind, _ in of_tasks(history)] == ["started", "attempt_failed", "failed"]


@pytest.mark.parametrize("wrong", [len, lambda: None, 5, Receipt])
def test_what_is_no_task(wrong):
    with pytest.raises(InvalidInputError, match="async def"):
        task(wrong)
    with pytest.raises(InvalidInputError, match="async def"):
        task(retry_policy=RetryPolicy())(wrong)


def test_a_policy_that_is_none():
    with pytest.raises(InvalidInputError, match="retry_policy must be a RetryPolicy, not int"):
        task(retry_policy=3)
