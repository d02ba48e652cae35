"""Children: workflows that a handler starts, and what a child tells its parent."""

from __future__ import annotations

import asyncio
from typing import Any

from grctl_core.codec import decode, encode
from grctl_core.commands import Reply
from grctl_core.durations import optional_timedelta
from grctl_core.errors import GrctlError, InvalidInputError, WorkflowAlreadyRunningError, WorkflowFinishedError
from grctl_core.ids import check_event_name, check_id, new_ulid
from grctl_core.outcome import EncodedOutcome
from grctl_core.run import RunInfo, RunRef, RunStatus
from grctl_core.wire import refusal
from grctl_engine import replies
from grctl_engine.child import ChildHandle, ChildOutcome, outcome_error
from grctl_engine.effects import End, raw
from grctl_engine.errors import ChildFailedError, NoParentError
from grctl_engine.inputs import Event
from grctl_engine.run import NIL, Run, encode_body
from grctl_engine.scope import StepScope, new_operation_id

__all__ = ["encode_outcome", "run_child", "send_to_parent", "start_child"]


def start_child(
    scope: StepScope,
    workflow_type: str,
    workflow_id: str,
    *,
    input: object,
    timeout: object,
    callback_step: str | None = None,
) -> ChildHandle:
    """Start a child of the scope's run; see ``Context.start_child``."""
    parent = scope.run.info
    info = RunInfo(
        id=new_ulid(),
        wf_id=check_id("workflow_id", workflow_id),
        wf_type=check_id("workflow_type", workflow_type),
        created_at=scope.host.clock.now(),
        parent_wf_id=parent.wf_id,
        parent_wf_type=parent.wf_type,
        parent_run_id=parent.id,
        parent_callback_step=callback_step,
        timeout=optional_timedelta("workflow_timeout", timeout),
    )
    encoded = None if input is None else encode("workflow_input", input)
    left = _find_left(scope, info)
    if left is not None:
        return ChildHandle(left.info)
    reply = scope.host.accept(info, encoded)
    if not reply.success:
        raise _refusal(reply, "start", info.ref)
    body = {"run_id": info.id, "wf_type": info.wf_type, "wf_id": info.wf_id, "input": raw(encoded)}
    scope.record("child.started", body, new_operation_id("start"))
    child = scope.host.find(info.wf_id, info.id)
    return ChildHandle(info if child is None else child.info)


async def run_child(scope: StepScope, handle: ChildHandle) -> Any:
    """Wait for a child that was just started; see ``Context.run_child``."""
    ref = handle.run_info.ref
    child = scope.host.find(ref.wf_id, ref.run_id)
    if child is None:
        raise AssertionError("a run that was just accepted is there")
    future: asyncio.Future[EncodedOutcome] = asyncio.get_running_loop().create_future()
    child.add_watcher(future, child)
    outcome: EncodedOutcome = await scope.wait_aside(future)
    status = outcome.run.status or RunStatus.FAILED
    if status is RunStatus.COMPLETED:
        return None if outcome.result is None else decode(outcome.result)
    raise ChildFailedError(ChildOutcome(status, None, outcome_error(status, outcome.error, outcome.reason)), ref)


def send_to_parent(scope: StepScope, event_name: str, payload: object) -> None:
    """Send an event to the run that started the scope's; see ``Context.send_to_parent``."""
    info = scope.run.info
    check_event_name(event_name)
    if info.parent_wf_id is None:
        raise NoParentError(
            f"ctx.send_to_parent(): workflow {info.wf_id!r} (run {info.id}) has no parent: no other workflow started it"
        )
    _check_event(scope, info.parent_wf_type or "", event_name)
    encoded = None if payload is None else encode(f"payload of event {event_name!r}", payload)
    parent = scope.host.find(info.parent_wf_id, info.parent_run_id)
    ref = RunRef(info.parent_wf_id, info.parent_run_id or "", info.parent_wf_type)
    if parent is None or parent.state is None:
        raise WorkflowFinishedError(
            f"ctx.send_to_parent(): the parent, workflow {ref.wf_id!r} (run {ref.run_id}), has ended and takes no more "
            "events",
            code=replies.FINISHED.error.code if replies.FINISHED.error else None,
        )
    _send(scope, parent, event_name, encoded, ref)
    body = {
        "event_name": event_name,
        "payload": raw(encoded),
        "parent_wf_type": info.parent_wf_type,
        "parent_wf_id": info.parent_wf_id,
    }
    scope.record("parent.event_sent", body, new_operation_id("send_to_parent"))


def encode_outcome(end: End) -> bytes:
    """Return the payload of the event by which a parent learns of its child's end (docs/protocol.md, section 6)."""
    result = None if end.result == NIL else end.result
    error = outcome_error(end.status, end.error, end.reason)
    return encode_body({"status": end.status, "result": raw(result), "error": error})


def _find_left(scope: StepScope, info: RunInfo) -> Run | None:
    """Return the child that a step which is run again has started already, before it was cut off."""
    since = scope.run.cut_off_since
    left = None if since is None else scope.host.find_latest(info.wf_id)
    if left is None or since is None or left.state is None or left.info.created_at < since:
        return None
    return left if _lineage(left.info) == _lineage(info) else None


def _lineage(info: RunInfo) -> tuple[str | None, ...]:
    return info.wf_type, info.parent_wf_id, info.parent_run_id, info.parent_callback_step


def _send(scope: StepScope, parent: Run, event_name: str, payload: bytes | None, ref: RunRef) -> None:
    if parent.inbox_size >= scope.host.limits.inbox:
        raise _refusal(replies.inbox_full(scope.host.limits.inbox), "send", ref)
    scope.host.feed(parent, Event(event_name, payload))


def _check_event(scope: StepScope, workflow_type: str, event_name: str) -> None:
    """Refuse what the parent does not handle: it would block the parent's inbox, and then fail it."""
    known = scope.host.find_type(workflow_type)
    if known is not None and event_name not in known.events and event_name not in known.steps:
        names = ", ".join(repr(name) for name in sorted(known.events)) or "none at all"
        raise InvalidInputError(
            f"ctx.send_to_parent(): the parent's workflow type {workflow_type!r} has no event {event_name!r}: it has "
            f"{names}"
        )


def _refusal(reply: Reply, operation: str, run: RunRef) -> GrctlError:
    error = refusal(reply, operation, run)
    if isinstance(error, WorkflowAlreadyRunningError):  # on_conflict is for clients
        return WorkflowAlreadyRunningError(
            f"child workflow id {run.wf_id!r} has an active run already ({error.run_id}): give each child an id of "
            "its own, for example one that begins with ctx.run.wf_id",
            run_id=error.run_id,
            code=error.code,
            detail=error.detail,
        )
    return error
