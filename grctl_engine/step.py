"""Steps: a handler is called, and what comes of it is reported to the state machine."""

from __future__ import annotations

import asyncio

from grctl_engine.context import Context
from grctl_engine.directive import Complete, Fail, NextStep, Wait
from grctl_engine.errors import NoDecisionError
from grctl_engine.executor import StepExecution
from grctl_engine.failure import describe_exception
from grctl_engine.inputs import StepRaised, StepReturned, StepTaken
from grctl_engine.run import Run
from grctl_engine.scope import StepHost, StepScope, current_scope

__all__ = ["perform"]


async def perform(host: StepHost, execution: StepExecution) -> None:
    """Take a step, call its handler, report how it ended. What an abandoned step does or raises concerns nobody."""
    run, step = execution.run, execution.step
    if run is None or not host.feed(run, StepTaken(step.number, host.worker_id)):
        return
    handler = run.definition.steps[step.name]
    scope = StepScope(host, run, execution)
    current_scope.set(scope)  # the step's task has a context of its own
    context = Context(scope)
    try:
        if handler.binder is None:
            raise RuntimeError(f"step {step.name!r} is not bound")
        args, kwargs = handler.binder.bind(step.payload)
        directive = await handler.function(context, *args, **kwargs)
        _check(directive, step.name, run)
    except GeneratorExit:  # the event loop is gone, and the coroutine is being disposed of
        raise
    except BaseException as error:
        scope.open = False
        if not execution.abandoned:
            host.feed(run, StepRaised(step.number, describe_exception(error)))
        if _is_for_the_loop(error):
            raise
        return
    scope.open = False
    updates = context.store.take()
    if not execution.abandoned:
        host.feed(run, StepReturned(step.number, directive, updates))


def _check(directive: object, step_name: str, run: Run) -> None:
    """Make sure that a handler has decided, and for a step that there is."""
    where = f"step {step_name!r} of workflow type {run.definition.workflow_type!r}"
    if not isinstance(directive, NextStep | Wait | Complete | Fail):  # the bare base class decides nothing
        raise NoDecisionError(
            f"{where} returned {directive!r:.100}: "
            "return a decision, one of ctx.next.step(), .wait(), .complete() and .fail()"
        )
    next_step = directive.step_name if isinstance(directive, NextStep) else ""
    if isinstance(directive, Wait):
        next_step = directive.timeout_step_name
    if next_step and next_step not in run.definition.steps:
        raise NoDecisionError(f"{where} decided for step {next_step!r}, which its workflow type does not have")


def _is_for_the_loop(error: BaseException) -> bool:
    """Whether it must go on to the event loop: SystemExit, KeyboardInterrupt, and a cancellation of the very task.

    A CancelledError without such a cancellation is the handler's own, as from a future that somebody cancelled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return not isinstance(error, Exception)
