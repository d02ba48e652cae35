"""A workflow of one step, for tests of tasks."""

from __future__ import annotations

from grctl_engine import Context, Directive, Workflow, task

from .rig import nothing


def flow(body, timeout=None):
    """A workflow with one step that completes with what ``body(ctx)`` returns."""
    wf = Workflow(workflow_type="W")

    @wf.start(timeout=timeout)
    async def start(ctx: Context) -> Directive:
        return ctx.next.complete(await body(ctx))

    return wf


async def run(make_rig, body, seconds=0.0, timeout=None):
    rig = make_rig(flow(body, timeout))
    ref = rig.start("W")
    await rig.settle()
    if seconds:
        await rig.advance(seconds)
    outcome = await rig.outcome(ref)
    assert nothing(rig.held())
    return outcome, await rig.history(ref)


def of_tasks(history):
    return [(event.kind.removeprefix("task."), event.data) for event in history if event.kind.startswith("task.")]


@task
async def double(n: int) -> int:
    return 2 * n
