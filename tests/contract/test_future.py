"""handle.future, and waiting the asyncio way. The traps of a cancelled workflow (docs/errors.md) each have a case."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import weakref

import pytest

from grctl import WorkflowCancelledError, WorkflowError, WorkflowTerminatedError

from .helpers import waiting


async def waiting_run(client, unique_id):
    handle = await client.start_workflow("WaitsForApproval", unique_id())
    await waiting(handle)
    return handle


async def cancelled_run(client, unique_id):
    handle = await waiting_run(client, unique_id)
    await handle.cancel("enough")
    await handle.outcome()
    return handle


# --- what it is


async def test_future_is_an_asyncio_future(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), "out")
    assert isinstance(handle.future, asyncio.Future)
    assert await handle.future == "out"


async def test_future_gets_the_error_that_result_raises(client, unique_id):
    handle = await client.start_workflow("FailsByException", unique_id())
    with pytest.raises(WorkflowError, match="card declined"):
        await handle.future


async def test_after_the_end_it_is_always_the_same_settled_one(client, unique_id):
    handle = await client.start_workflow("ReturnsItsInput", unique_id(), "out")
    await handle.result()
    assert handle.future.done()
    assert handle.future is handle.future
    assert handle.future.result() == "out"


async def test_while_the_run_goes_on_each_look_gives_one_of_your_own(client, unique_id):
    handle = await waiting_run(client, unique_id)
    mine, yours = handle.future, handle.future
    assert mine is not yours
    mine.cancel()
    assert not yours.cancelled()
    await handle.send("approve")
    assert await yours == {"approved": True, "qty": 1}


async def test_a_future_of_a_run_that_has_already_ended(client, unique_id):
    wf_id = unique_id()
    await client.run_workflow("ReturnsItsInput", wf_id, "out")
    assert await (await client.get_handle(wf_id)).future == "out"


async def test_a_future_of_a_cancelled_run_is_not_a_cancelled_future(client, unique_id):
    future = (await cancelled_run(client, unique_id)).future
    assert not future.cancelled()
    assert isinstance(future.exception(), WorkflowCancelledError)


async def test_done_callbacks_are_called(client, unique_id):
    handle = await waiting_run(client, unique_id)
    called: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    handle.future.add_done_callback(lambda future: called.set_result(future.result()))
    gc.collect()
    await handle.send("approve")
    assert await called == {"approved": True, "qty": 1}


async def test_futures_that_were_only_looked_at_do_not_pile_up(client, unique_id):
    handle = await waiting_run(client, unique_id)
    seen = [weakref.ref(handle.future) for _ in range(1000)]
    gc.collect()
    assert sum(look() is not None for look in seen) <= 1
    await handle.terminate()


async def test_an_end_that_nobody_asks_for_logs_nothing(client, unique_id, caplog):
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    handle = await waiting_run(client, unique_id)
    future = handle.future
    other = await client.get_handle(handle.run_info.wf_id)
    await other.cancel()
    await other.outcome()
    assert not future.done() or future.exception() is not None
    del handle, future, other
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    assert caplog.records == []


# --- giving up on it


async def test_wait_for_that_times_out_leaves_the_handle_unharmed(client, unique_id):
    handle = await waiting_run(client, unique_id)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle.future, 0.05)
    assert not handle.future.done()
    await handle.send("approve")
    assert await asyncio.wait_for(handle.future, 60) == {"approved": True, "qty": 1}


async def test_wait_for_that_times_out_leaves_other_waiters_unharmed(client, unique_id):
    handle = await waiting_run(client, unique_id)
    other = asyncio.create_task(handle.result())
    another = handle.future
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handle.future, 0.05)
    assert not other.done()
    assert not another.done()
    await handle.send("approve")
    assert await other == await another == {"approved": True, "qty": 1}


async def test_cancelling_the_future_does_nothing_to_the_run(client, unique_id):
    handle = await waiting_run(client, unique_id)
    assert handle.future.cancel()
    assert not (await handle.describe()).is_finished
    await handle.send("approve")
    assert (await handle.outcome()).completed


async def test_cancelling_a_task_that_waits_is_a_plain_cancellation(client, unique_id):
    handle = await waiting_run(client, unique_id)
    caught: list[BaseException] = []

    async def wait():
        try:
            await handle.result()
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert type(caught[0]) is asyncio.CancelledError
    assert not (await handle.describe()).is_finished
    await handle.terminate()


@pytest.mark.parametrize("wait", [lambda handle: handle.result(), lambda handle: handle.outcome()])
async def test_a_cancellation_is_not_lost_when_the_run_ends_in_the_same_moment(client, unique_id, wait):
    """Whichever way it falls out: the task that was cancelled while it waited never goes on as if nothing had been."""
    for _ in range(20):
        handle = await waiting_run(client, unique_id)
        went_on: list[object] = []

        async def work(handle=handle, went_on=went_on):
            await wait(handle)
            went_on.append("result")
            await asyncio.get_running_loop().create_future()  # for ever, unless cancelled

        task = asyncio.create_task(work())
        future = handle.future
        future.add_done_callback(lambda _, task=task: task.cancel())
        await handle.terminate()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_asyncio_wait_first_completed(client, unique_id):
    first, second = await waiting_run(client, unique_id), await waiting_run(client, unique_id)
    await second.send("approve")
    done, pending = await asyncio.wait([first.future, second.future], return_when=asyncio.FIRST_COMPLETED)
    assert [future.result() for future in done] == [{"approved": True, "qty": 1}]
    assert len(pending) == 1
    await first.terminate()


async def test_shield_around_the_future(client, unique_id):
    handle = await waiting_run(client, unique_id)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(handle.future), 0.05)
    await handle.send("approve")
    assert await asyncio.shield(handle.future) == {"approved": True, "qty": 1}


# --- the documented order of excepts


async def ended_in(handle) -> str:
    try:
        await handle.future
    except WorkflowError as error:
        return f"failed: {error.type}"
    except TimeoutError:
        return "timed out"
    except asyncio.CancelledError:
        return "cancelled"
    return "completed"


async def test_the_documented_order_of_excepts(client, unique_id):
    completed = await client.start_workflow("ReturnsItsInput", unique_id())
    failed = await client.start_workflow("FailsByException", unique_id())
    cancelled = await cancelled_run(client, unique_id)
    terminated = await waiting_run(client, unique_id)
    await terminated.terminate()
    timed_out = await client.start_workflow("WaitsForApproval", unique_id(), workflow_timeout=0.2)
    handles = [completed, failed, cancelled, terminated, timed_out]
    assert [await ended_in(handle) for handle in handles] == [
        "completed",
        "failed: ValueError",
        "cancelled",
        "cancelled",
        "timed out",
    ]


@pytest.mark.parametrize("end", ["cancel", "terminate"])
async def test_a_cancelled_run_reaches_except_exception(client, unique_id, end):
    """A pure CancelledError would kill a consumer loop silently and escape a web framework's handlers."""
    handle = await waiting_run(client, unique_id)
    await getattr(handle, end)("enough")
    caught: Exception | None = None
    try:
        await handle.result()
    except Exception as error:
        caught = error
    assert isinstance(caught, WorkflowCancelledError)
    assert isinstance(caught, asyncio.CancelledError)
    assert isinstance(caught, WorkflowTerminatedError) == (end == "terminate")
    assert not isinstance(caught, WorkflowError)
    assert caught.reason == "enough"


async def test_a_cancelled_run_is_told_from_the_cancellation_of_ones_own_task_by_its_class(client, unique_id):
    async def who_was_it(handle) -> str:
        try:
            await handle.result()
        except WorkflowCancelledError:
            return "the workflow"
        except asyncio.CancelledError:
            return "my task"
        return "nobody"

    assert await who_was_it(await cancelled_run(client, unique_id)) == "the workflow"
    handle = await waiting_run(client, unique_id)
    task = asyncio.create_task(who_was_it(handle))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "my task"
    await handle.terminate()


# --- the traps of DESIGN.md section 5, and what to do instead


async def test_trap_a_task_group_child_ends_silently(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(handle.result())
    assert task.cancelled()  # and the group said nothing


async def test_outcome_in_a_task_group_tells(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(handle.outcome())
    assert task.result().reason == "enough"


async def test_a_failed_run_in_a_task_group_is_heard(client, unique_id):
    handle = await client.start_workflow("FailsByException", unique_id())
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(handle.result())
    assert caught.group_contains(WorkflowError, match="card declined")


async def test_trap_gather_with_return_exceptions_loses_the_class(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    (error,) = await asyncio.gather(handle.result(), return_exceptions=True)
    assert type(error) is asyncio.CancelledError


async def test_gather_of_futures_keeps_the_class(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    (error,) = await asyncio.gather(handle.future, return_exceptions=True)
    assert isinstance(error, WorkflowCancelledError)
    with pytest.raises(WorkflowCancelledError):
        await asyncio.gather(handle.future)


async def test_gather_of_outcomes_tells(client, unique_id):
    handles = [await cancelled_run(client, unique_id), await client.start_workflow("ReturnsItsInput", unique_id())]
    outcomes = await asyncio.gather(*(handle.outcome() for handle in handles))
    assert [str(outcome.status) for outcome in outcomes] == ["cancelled", "completed"]


async def test_trap_a_task_tells_the_class_once(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    task = asyncio.create_task(handle.result())
    with pytest.raises(WorkflowCancelledError):
        await task
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert not isinstance(caught.value, WorkflowCancelledError)


async def test_trap_run_coroutine_threadsafe_loses_the_class(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    loop = asyncio.get_running_loop()

    def in_a_thread():
        try:
            asyncio.run_coroutine_threadsafe(handle.result(), loop).result()
        except BaseException as error:
            return type(error)

    assert await asyncio.to_thread(in_a_thread) is concurrent.futures.CancelledError


async def test_outcome_in_run_coroutine_threadsafe_tells(client, unique_id):
    handle = await cancelled_run(client, unique_id)
    loop = asyncio.get_running_loop()

    def in_a_thread():
        return asyncio.run_coroutine_threadsafe(handle.outcome(), loop).result()

    assert (await asyncio.to_thread(in_a_thread)).reason == "enough"
