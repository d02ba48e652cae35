"""Steps: a handler is called, and what comes of it is reported to the state machine."""

from __future__ import annotations

import asyncio
from typing import Protocol

from grctl_engine.context import Context, StepHost
from grctl_engine.directive import Complete, Fail, NextStep, Wait
from grctl_engine.errors import NoDecisionError
from grctl_engine.executor import StepExecution
from grctl_engine.failure import describe_exception
from grctl_engine.inputs import Input, StepRaised, StepReturned, StepTaken
from grctl_engine.run import Run

__all__ = ["perform"]


class _Host(StepHost, Protocol):
    worker_id: str

    def feed(self, run: Run, input: Input) -> bool: ...


async def perform(host: _Host, execution: StepExecution) -> None:
    """Take a step, call its handler, report how it ended. What an abandoned step does or raises concerns nobody."""
    run, step = execution.run, execution.step
    if run is None or not host.feed(run, StepTaken(step.number, host.worker_id)):
        return
    handler = run.definition.steps[step.name]
    context = Context(host, run, execution)
    try:
        if handler.binder is None:
            raise RuntimeError(f"step {step.name!r} is not bound")
        args, kwargs = handler.binder.bind(step.payload)
        directive = await handler.function(context, *args, **kwargs)
        if not isinstance(directive, NextStep | Wait | Complete | Fail):  # the bare base class decides nothing
            raise NoDecisionError(
                f"step {step.name!r} of workflow type {run.definition.workflow_type!r} returned {directive!r:.100}: "
                "return a decision, one of ctx.next.step(), .wait(), .complete() and .fail()"
            )
    except GeneratorExit:  # the event loop is gone, and the coroutine is being disposed of
        raise
    except BaseException as error:
        context._close()  # noqa: SLF001 - handlers have no business with it
        if not execution.abandoned:
            host.feed(run, StepRaised(step.number, describe_exception(error)))
        if _is_for_the_loop(error):
            raise
        return
    updates = context._close()  # noqa: SLF001
    if not execution.abandoned:
        host.feed(run, StepReturned(step.number, directive, updates))


def _is_for_the_loop(error: BaseException) -> bool:
    """Whether it must go on to the event loop: SystemExit, KeyboardInterrupt, and a cancellation of the very task.

    A CancelledError without such a cancellation is the handler's own, as from a future that somebody cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return not isinstance(error, Exception)
