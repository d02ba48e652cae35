"""The fault mode: each defect of grctld, shown by the harm that it does to a client without safeguards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import nats.errors
import pytest

from grctl.testing import DevServer, Fault, Faults, What
from grctl.worker import Context
from grctl.workflow import Directive, Workflow
from grctl_core.commands import CancelCommand, Command, DescribeCommand, ErrorCode, EventCommand, Reply
from grctl_core.errors import InvalidInputError
from grctl_core.run import RunRef, RunStatus
from grctl_nats import subjects, wire

from . import workflows
from .raw import PATIENCE, Raw, start_command, until, waits

ORDER = {"order_id": "9", "qty": 1}
Serve = Callable[..., Awaitable[tuple[DevServer, Raw]]]

hasty = Workflow(workflow_type="Hasty")


@hasty.start()
async def hasty_start(ctx: Context) -> Directive:
    return ctx.next.step(then)


@hasty.step(timeout=timedelta(milliseconds=100))
async def then(ctx: Context) -> Directive:
    return ctx.next.complete("done")


patient = Workflow(workflow_type="Patient")


@patient.start()
async def patient_start(ctx: Context) -> Directive:
    return ctx.next.wait(timeout=timedelta(milliseconds=100))


@patient.event()
async def go(ctx: Context) -> Directive:
    return ctx.next.wait()


fragile = Workflow(workflow_type="Fragile")


@fragile.start()
async def fragile_start(ctx: Context) -> Directive:
    await workflows.gate.wait()
    raise ValueError("broken")


@pytest.fixture
def serve(stack, connect) -> Serve:
    async def serve(*faults: Fault | What, reconnect: bool = False) -> tuple[DevServer, Raw]:
        rules = [fault if isinstance(fault, Fault) else Fault(what=fault) for fault in faults]
        hosted = [*workflows.workflows, hasty, patient, fragile]
        server = await stack.enter_async_context(DevServer(hosted, faults=Faults(*rules)))
        return server, await connect(server.url, reconnect=reconnect)

    return serve


def code(reply: Reply) -> int:
    assert reply.error is not None
    return reply.error.code


async def replies_to(raw: Raw, command: Command, count: int) -> list[Reply]:
    inbox = raw.client.new_inbox()
    subscription = await raw.client.subscribe(inbox)
    await raw.client.publish(subjects.command(command.wf_id), wire.encode_command(command, "c"), reply=inbox)
    return [wire.decode_reply((await subscription.next_msg(5)).data, command, 0) for _ in range(count)]


async def is_silent(raw: Raw, command: Command) -> bool:
    try:
        await raw.send(command, timeout=0.2)
    except nats.errors.TimeoutError:
        return True
    return False


async def test_a_lost_command_is_not_done(serve: Serve) -> None:
    _, raw = await serve(Fault(what=What.LOSE_COMMAND, kind="run.start", nth=(1,)))
    assert await is_silent(raw, start_command("Values", "a", {"kind": "int"}))
    assert await raw.describe("a") is None
    await raw.start("Values", "a", {"kind": "int"})


async def test_a_lost_reply_hides_that_it_was_done(serve: Serve) -> None:
    _, raw = await serve(Fault(what=What.LOSE_REPLY, kind="run.start"))
    command = start_command("Values", "a", {"kind": "int"})
    assert await is_silent(raw, command)
    assert (await raw.end(command.run.ref)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("what", [What.LATE_COMMAND, What.LATE_REPLY])
async def test_a_late_one(serve: Serve, what: What) -> None:
    _, raw = await serve(Fault(what=what, kind="run.start", seconds=0.2))
    begun = time.monotonic()
    command = start_command("OrderApproval", "a", ORDER)
    sending = asyncio.create_task(raw.send(command))
    if what is What.LATE_COMMAND:
        await asyncio.sleep(0)
        assert await raw.describe("a") is None
    assert (await sending).success
    assert time.monotonic() - begun >= 0.19


async def test_a_doubled_reply(serve: Serve) -> None:
    _, raw = await serve(What.DOUBLE_REPLY)
    replies = await replies_to(raw, start_command("OrderApproval", "a", ORDER), 2)
    assert [reply.success for reply in replies] == [True, True]


@pytest.mark.parametrize(("what", "done"), [(What.ERROR_BUT_DONE, True), (What.ERROR_NOT_DONE, False)])
async def test_5000_may_mean_both(serve: Serve, what: What, *, done: bool) -> None:
    _, raw = await serve(Fault(what=what, kind="run.start"))
    assert code(await raw.send(start_command("OrderApproval", "a", ORDER))) == ErrorCode.INTERNAL
    assert (await raw.describe("a") is not None) == done


async def test_1_a_late_duplicate_start_blocks_the_id(serve: Serve) -> None:
    _, raw = await serve(What.OVERWRITE_FINISHED)
    command = start_command("Values", "a", {"kind": "int"})
    assert (await raw.send(command)).success
    ended = await raw.end(command.run.ref)
    assert (await raw.send(command)).success  # the duplicate
    overwritten = await raw.info(command.run.ref)
    assert overwritten is not None
    assert (overwritten.status, overwritten.started_at) == (None, None)
    state = await raw.state(command.run.ref)
    assert state is not None
    assert state.kind == "complete"
    assert code(await raw.send(start_command("Values", "a", {"kind": "int"}))) == ErrorCode.ALREADY_RUNNING
    assert (await raw.event("a", "x")).success
    assert (await raw.terminate("a")).success
    # Writing the record of the end back unblocks it.
    await raw.client.jetstream().publish(subjects.run_info(command.run.ref), wire.encode_run_info(ended))
    await raw.start("Values", "a", {"kind": "int"})


async def test_2_an_error_leaves_a_record_that_never_begins(serve: Serve) -> None:
    _, raw = await serve(Fault(what=What.ERROR_LEAVES_RECORD, nth=(1,)))
    command = start_command("Values", "a", {"kind": "int"})
    assert code(await raw.send(command)) == ErrorCode.INTERNAL
    again = await raw.send(command)
    assert again.error is not None
    assert again.error.detail.endswith(command.run.id)
    info = await raw.describe("a")
    assert info is not None
    assert info.started_at is None
    assert await raw.state(command.run.ref) is None


async def test_3_an_early_cancel_kills_the_server_again_and_again(serve: Serve) -> None:
    server, raw = await serve(Fault(what=What.SLOW_BEGIN, seconds=60), What.EARLY_CANCEL_KILLS)
    run = await raw.start("OrderApproval", "a", ORDER)
    info = await raw.describe("a")
    assert info is not None
    assert info.started_at is None
    assert await raw.state(run) is None
    command = wire.encode_command(CancelCommand(wf_id="a"), "c")
    await raw.client.publish("grctl_api.workflow.a", command)
    await asyncio.wait_for(server.died.wait(), 5)

    async def down() -> bool:
        return not server.broker.running

    await until(down)
    await server.restart_broker()
    await until(down)


async def test_3_a_cancel_after_the_beginning_does_no_harm(serve: Serve) -> None:
    server, raw = await serve(Fault(what=What.SLOW_BEGIN, seconds=0.1), What.EARLY_CANCEL_KILLS)
    run = await raw.start("OrderApproval", "a", ORDER)
    await waits(raw, run)
    assert (await raw.send(CancelCommand(wf_id="a"))).success
    assert (await raw.end(run)).status is RunStatus.CANCELLED
    assert not server.died.is_set()


@pytest.mark.parametrize(("below", "begun"), [(200, False), (1_000, True)])
async def test_4_near_the_limit_a_start_hangs(serve: Serve, below: int, *, begun: bool) -> None:
    _, raw = await serve(What.NEAR_LIMIT_HANGS)
    command = start_command("Values", "a", {"kind": ""})
    size = len(wire.encode_command(command, "c_test@host"))
    command = start_command("Values", "a", {"kind": "x" * (1024 * 1024 - size - below)})
    assert (await raw.send(command)).success
    info = await raw.describe("a")
    assert info is not None
    assert not info.is_finished


async def test_4_too_long_an_id_never_ends(serve: Serve) -> None:
    _, raw = await serve(What.NEAR_LIMIT_HANGS)
    command = start_command("Values", "a" * 3_950, {"kind": "int"})
    answer = await raw.client.request("grctl_api.workflow.a", wire.encode_command(command, "c"), timeout=PATIENCE)
    assert wire.decode_reply(answer.data, command, 0).success
    assert await raw.state(command.run.ref) is None


async def test_5_many_commands_to_finished_runs_stop_everything(serve: Serve) -> None:
    _, raw = await serve(Fault(what=What.REDELIVERY, count=10))
    await raw.end(await raw.start("Values", "a", {"kind": "int"}))
    for _ in range(10):
        assert code(await raw.terminate("a")) == ErrorCode.FINISHED
    run = await raw.start("Values", "b", {"kind": "int"})
    assert await raw.state(run) is None


async def test_6_an_event_that_comes_too_early_gets_stuck(serve: Serve, gate: asyncio.Event) -> None:
    _, raw = await serve(What.EVENT_STUCK)
    run = await raw.start("GreetEvents", "a", {"name": "Cem"})
    assert (await raw.event("a", "greet")).success
    gate.set()
    state = await waits(raw, run)
    assert (await raw.event("a", "farewell")).success
    assert (await raw.kinds(run)).count("event.received") == 2
    assert (await waits(raw, run)).entered_at == state.entered_at
    last = await raw.get(subjects.events("a"))
    assert last is not None
    assert state.last_event_seq_id != Raw.seq(last)


async def test_6_an_event_for_a_settled_run_does_not(serve: Serve, gate: asyncio.Event) -> None:
    _, raw = await serve(What.EVENT_STUCK)
    gate.set()
    run = await raw.start("GreetEvents", "a", {"name": "Cem"})
    for name in ("greet", "farewell"):

        async def settled() -> bool:
            state, last = await raw.state(run), await raw.get(subjects.events("a"))
            seq = 0 if last is None else Raw.seq(last)
            return state is not None and state.kind == "wait" and (state.last_event_seq_id or 0) >= seq

        await until(settled)
        assert (await raw.event("a", name)).success
    assert (await raw.end(run)).status is RunStatus.COMPLETED


async def test_7_a_start_right_after_the_last_end_is_lost(serve: Serve) -> None:
    _, raw = await serve(Fault(what=What.RESTART_LOST, seconds=0.2))
    first = await raw.start("Values", "a", {"kind": "int"})
    await raw.end(first)
    assert await raw.get(subjects.worker_task(first)) is not None
    lost = await raw.start("Values", "a", {"kind": "int"})

    async def residue_gone() -> bool:
        return await raw.get(subjects.worker_task(first)) is None

    await until(residue_gone)
    assert await raw.kinds(lost) == ["run.started"]
    assert (await raw.terminate("a")).success

    async def lost_gone() -> bool:
        return await raw.get(subjects.worker_task(lost)) is None

    await until(lost_gone)
    assert (await raw.end(await raw.start("Values", "a", {"kind": "int"}))).status is RunStatus.COMPLETED


async def test_8_a_step_after_a_step_is_dropped(serve: Serve) -> None:
    _, raw = await serve(What.STEP_DROPPED)
    run = await raw.start("Hasty", "a")
    assert (await raw.end(run)).status is RunStatus.FAILED
    assert await raw.kinds(run) == ["run.started", "step.started", "step.completed", "step.timeout", "run.failed"]


async def test_8_the_timer_of_a_wait_survives_the_event(serve: Serve) -> None:
    _, raw = await serve(What.WAIT_TIMER_SURVIVES)
    run = await raw.start("Patient", "a")
    await waits(raw, run)
    assert (await raw.event("a", "go")).success
    assert (await raw.end(run)).status is RunStatus.FAILED
    error = await raw.get(subjects.error(run))
    assert error is not None
    assert wire.decode_error(error.data).type == "UnexpectedFailure"


async def test_9_a_cancelled_run_whose_step_raises_ends_as_failed(serve: Serve, gate: asyncio.Event) -> None:
    for faults, status in (((), RunStatus.CANCELLED), ((What.CANCEL_FAILS,), RunStatus.FAILED)):
        gate.clear()
        _, raw = await serve(*faults)
        run = await raw.start("Fragile", "a")

        async def begun(raw: Raw = raw, run: RunRef = run) -> bool:
            state = await raw.state(run)
            return state is not None and state.kind == "step"

        await until(begun)
        assert (await raw.send(CancelCommand(wf_id="a"))).success
        gate.set()
        assert (await raw.end(run)).status is status


async def test_10_two_servers_do_everything_twice(serve: Serve) -> None:
    _, raw = await serve(What.TWO_SERVERS)
    start = start_command("OrderApproval", "a", ORDER)
    first, second = await replies_to(raw, start, 2)
    assert first.success
    assert code(second) == ErrorCode.ALREADY_RUNNING
    await waits(raw, start.run.ref)
    event = EventCommand(wf_id="a", event_name="update_quantity", payload=b"\x82\xa7item_id\xa1x\xa3qty\x03")
    await replies_to(raw, event, 2)
    assert (await raw.kinds(start.run.ref)).count("event.received") == 2


async def test_11_after_a_restart_starts_are_doubled_and_a_describe_takes_long(serve: Serve) -> None:
    server, raw = await serve(Fault(what=What.RESTART_DOUBLES, seconds=0.3), reconnect=True)
    run = await raw.start("OrderApproval", "a", ORDER)
    await waits(raw, run)
    await server.kill_broker()
    await server.restart_broker()

    async def back() -> bool:
        try:
            return bool(await raw.get(subjects.run_state(run)))
        except nats.errors.Error:
            return False

    await until(back)

    async def doubled() -> bool:
        return (await raw.kinds(run)).count("run.started") == 2

    await until(doubled)
    begun = time.monotonic()
    assert (await raw.send(DescribeCommand(wf_id="a"))).success
    assert time.monotonic() - begun >= 0.29


async def test_12_history_is_not_causal(serve: Serve) -> None:
    _, raw = await serve(What.NOT_CAUSAL)
    run = await raw.start("Steps", "a")
    await raw.end(run)
    kinds = await raw.kinds(run)
    assert kinds[:3] == ["run.started", "timestamp.recorded", "step.started"]
    assert kinds[-1] == "run.completed"


async def test_12_step_started_is_missing(serve: Serve) -> None:
    _, raw = await serve(What.STEP_STARTED_MISSING)
    run = await raw.start("Values", "a", {"kind": "int"})
    await raw.end(run)
    assert await raw.kinds(run) == ["run.started", "step.completed", "run.completed"]


async def test_the_same_seed_strikes_the_same(serve: Serve) -> None:
    struck = []
    for _ in range(2):
        faults = Faults(Fault(what=What.DOUBLE_REPLY, probability=0.5), seed=7)
        struck.append([faults.strikes(What.DOUBLE_REPLY, "run.start") is not None for _ in range(50)])
    assert struck[0] == struck[1]
    assert 10 < sum(struck[0]) < 40


@pytest.mark.parametrize("what", What)
def test_a_kind_where_it_would_do_nothing_is_refused(what: What) -> None:
    number = what.value.partition(":")[0]
    if number.isdigit() and what is not What.TWO_SERVERS:
        with pytest.raises(InvalidInputError, match=f"{what.name} does not take a kind"):
            Fault(what=what, kind="run.start")
    else:
        faults = Faults(Fault(what=what, kind="run.start"))
        assert faults.strikes(what, "run.event") is None
        assert faults.strikes(what, "run.start") is not None
