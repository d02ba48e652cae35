"""What plugins may do around operations and attempts, and what happens when they break the rules."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from grctl_core.calls import CallState, StartCall
from grctl_core.client import WorkflowClient
from grctl_core.commands import ErrorCode
from grctl_core.errors import (
    DeliveryUnknownError,
    InvalidInputError,
    NotSentError,
    PluginError,
    RefusedError,
    WorkflowError,
    WorkflowFinishedError,
)
from grctl_core.hooks import Plugin
from grctl_core.outcome import Outcome
from grctl_core.run import RunStatus

from .scripted import NEVER, ScriptedConnection, lost, refused, run_info, settle

SECRET = "s3cr3t"


def plugin(name: str = "audit", **members: Any) -> Any:
    return type("SomePlugin", (), {"name": name, **members})()


def client_with(connection: ScriptedConnection, *plugins: object) -> WorkflowClient:
    return WorkflowClient(connection, plugins=plugins)


class Again(Plugin):
    """Proceeds up to three times, whatever comes, without a pause."""

    name = "again"

    async def grctl_retry(self, call: Any, proceed: Any) -> Any:
        for left in (2, 1, 0):
            try:
                return await proceed(call)
            except (NotSentError, DeliveryUnknownError) as error:
                if not left:
                    raise
                proceed.announce(error, 0.5)
        raise AssertionError


class TestMay:
    async def test_look_at_every_operation(self, connection: ScriptedConnection) -> None:
        seen: list[tuple[str, str, str | None]] = []

        class Looks(Plugin):
            name = "looks"

            async def grctl_operation(self, call: Any, proceed: Any) -> Any:
                seen.append((call.operation, call.workflow_id, call.workflow_type))
                return await proceed(call)

        client = client_with(connection, Looks())
        handle = await client.start_workflow("Order", "order-1")
        await handle.send("approve")
        await handle.describe()
        await handle.query("total")
        await handle.cancel()
        await handle.terminate()
        connection.end(handle.run_info.id, result="done")
        assert await handle.result() == "done"
        await client.get_handle("order-1")
        expected = ["start", "send", "describe", "query", "cancel", "terminate", "result", "describe"]
        assert [operation for operation, *_ in seen] == expected
        assert {workflow_id for _, workflow_id, _ in seen} == {"order-1"}
        assert [workflow_type for *_, workflow_type in seen] == ["Order"] * 7 + [None]

    async def test_change_what_is_sent(self, connection: ScriptedConnection) -> None:
        class Changes(Plugin):
            name = "changes"

            async def grctl_start(self, call: Any, proceed: Any) -> Any:
                changed = call.replace(workflow_input={"n": 2}, workflow_timeout=60, headers={"tenant": "acme"})
                return await proceed(changed.replace(request_timeout=7))

            async def grctl_send(self, call: Any, proceed: Any) -> None:
                await proceed(call.replace(payload="sealed"))

            async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
                assert attempt.timeout == (7 if attempt.kind == "run.start" else 5)
                return await proceed(attempt.replace(headers={**attempt.headers, "number": str(attempt.number)}))

        handle = await client_with(connection, Changes()).start_workflow("Order", "order-1", {"n": 1})
        await handle.send("approve", "open")
        start, event = connection.commands
        assert (start.input, start.run.timeout.total_seconds()) == (b"\x81\xa1n\x02", 60)
        assert (dict(start.headers), dict(event.headers)) == ({"tenant": "acme", "number": "1"}, {"number": "1"})
        assert event.payload == b"\xa6sealed"

    async def test_refuse(self, connection: ScriptedConnection) -> None:
        class Refuses(Plugin):
            name = "refuses"

            async def grctl_start(self, call: Any, proceed: Any) -> Any:
                raise InvalidInputError("not on a Friday")

        with pytest.raises(InvalidInputError, match="not on a Friday"):
            await client_with(connection, Refuses()).start_workflow("Order", "order-1")
        assert connection.commands == []

    async def test_answer_without_proceeding(self, connection: ScriptedConnection) -> None:
        class DryRun(Plugin):
            name = "dry"

            async def grctl_start(self, call: StartCall, proceed: Any) -> Any:
                return run_info(call.run_id, call.workflow_id)

            async def grctl_send(self, call: Any, proceed: Any) -> None:
                return

            async def grctl_result(self, call: Any, proceed: Any) -> Any:
                run = run_info(call.run_id, call.workflow_id, "completed")
                return Outcome(run=run, status=RunStatus.COMPLETED, result="dry")

        handle = await client_with(connection, DryRun()).start_workflow("Order", "order-1")
        await handle.send("approve")
        assert await handle.result() == "dry"
        assert connection.commands == []

    async def test_map_results_and_errors(self, connection: ScriptedConnection) -> None:
        class Maps(Plugin):
            name = "maps"

            async def grctl_send(self, call: Any, proceed: Any) -> None:
                try:
                    await proceed(call)
                except WorkflowFinishedError as error:
                    raise LookupError("closed") from error

            async def grctl_result(self, call: Any, proceed: Any) -> Any:
                outcome = await proceed(call)
                return Outcome(run=outcome.run, status=outcome.status, result=outcome.result.upper())

        handle = await client_with(connection, Maps()).start_workflow("Order", "order-1")
        connection.script("run.event", refused(ErrorCode.FINISHED))
        with pytest.raises(LookupError, match="closed"):
            await handle.send("approve")
        connection.end(handle.run_info.id, result="done")
        assert await handle.result() == "DONE"

    async def test_keep_state_with_a_call_and_with_the_handle(self, connection: ScriptedConnection) -> None:
        found: list[Any] = []

        class Keeps(Plugin):
            name = "keeps"

            async def grctl_operation(self, call: Any, proceed: Any) -> Any:
                assert isinstance(call.state, CallState)
                found.append((call.operation, dict(call.state), dict(call.handle_state)))
                call.state["keeps"] = call.operation
                result = await proceed(call if call.operation == "result" else call.replace(headers={"a": "b"}))
                assert call.state == {"keeps": call.operation}
                return result

            def grctl_run_ended(self, run: Any, outcome: Any, waited: float, state: Any) -> None:
                found.append(("ended", dict(state)))

        handle = await client_with(connection, Keeps()).start_workflow("Order", "order-1")
        await handle.send("approve")
        connection.end(handle.run_info.id)
        await handle.result()
        kept = {"keeps": "start"}
        assert found == [("start", {}, {}), ("send", {}, kept), ("result", {}, kept), ("ended", kept)]

    async def test_count_attempts_looks_included(self, connection: ScriptedConnection) -> None:
        numbers: list[tuple[str, int]] = []
        totals: list[int] = []

        class Counts(Plugin):
            name = "counts"

            async def grctl_operation(self, call: Any, proceed: Any) -> Any:
                assert call.attempts == 0
                try:
                    return await proceed(call)
                finally:
                    totals.append(call.attempts)

            async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
                numbers.append((attempt.kind, attempt.number))
                return await proceed(attempt)

        connection.script("run.start", lost())
        handle = await client_with(connection, Counts()).start_workflow("Order", "order-1")
        assert numbers == [("run.start", 1), ("run.describe", 2), ("run.start", 3)]
        await handle.cancel()
        assert numbers[3:] == [("run.describe", 1), ("run.cancel", 2)]
        assert totals == [3, 2]


class TestCalls:
    async def call(self, connection: ScriptedConnection) -> StartCall:
        found: list[StartCall] = []

        class Takes(Plugin):
            name = "takes"

            async def grctl_start(self, call: Any, proceed: Any) -> Any:
                found.append(call)
                return await proceed(call)

        await client_with(connection, Takes()).start_workflow("Order", "order-1", {"card": SECRET})
        return found[0]

    async def test_they_cannot_be_changed_in_place(self, connection: ScriptedConnection) -> None:
        call = await self.call(connection)
        with pytest.raises(AttributeError):
            call.workflow_input = None  # type: ignore[misc]
        with pytest.raises(TypeError):
            call.headers["a"] = "b"  # type: ignore[index]

    async def test_no_payload_shows(self, connection: ScriptedConnection) -> None:
        call = await self.call(connection)
        assert SECRET not in repr(call)
        assert repr(call) == f"<StartCall workflow 'order-1' of type 'Order' run {call.run_id}>"
        assert SECRET not in repr(connection.commands)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"run": None}, r"'run' of a start call cannot be replaced: what can is request_timeout, deadline"),
            ({"payload": 1}, "'payload' of a start call"),
            ({"request_timeout": 0}, "request_timeout must be above zero"),
            ({"workflow_timeout": "1h"}, "workflow_timeout must be a timedelta"),
            ({"deadline": "soon"}, "deadline must be a number"),
            ({"headers": None}, "headers must be a mapping"),
            ({"headers": {"a": 1}}, "header 'a' must be a string"),
            ({"headers": {"a": "b\r\nc"}}, "header 'a' has a control character"),
            ({"headers": {"a": "\ud800"}}, "header 'a' has a control character"),
            ({"headers": {"a:": "b"}}, "a header's name must be visible ASCII"),
            ({"headers": {"": "b"}}, "a header's name"),
            ({"headers": {7: "b"}}, "a header's name"),
        ],
    )
    async def test_what_cannot_be_replaced(self, connection: ScriptedConnection, changes: Any, message: str) -> None:
        with pytest.raises(InvalidInputError, match=message):
            (await self.call(connection)).replace(**changes)

    async def test_a_header_that_is_refused_is_not_shown(self, connection: ScriptedConnection) -> None:
        with pytest.raises(InvalidInputError) as caught:
            (await self.call(connection)).replace(headers={"authorization": f"{SECRET}\n"})
        assert SECRET not in str(caught.value)


class TestBreaksTheRules:
    async def test_proceeds_twice(self, connection: ScriptedConnection) -> None:
        async def twice(self: Any, call: Any, proceed: Any) -> Any:
            await proceed(call)
            return await proceed(call)

        client = client_with(connection, plugin(grctl_start=twice))
        with pytest.raises(PluginError, match=r"audit\.grctl_start called proceed a second time: only grctl_retry may"):
            await client.start_workflow("Order", "order-1")
        assert connection.kinds == ["start"]

    @pytest.mark.parametrize("proceeds", [True, False])
    async def test_returns_a_wrong_type(self, connection: ScriptedConnection, proceeds: bool) -> None:
        async def forgets(self: Any, call: Any, proceed: Any) -> Any:
            if proceeds:
                await proceed(call)

        client = client_with(connection, plugin(grctl_start=forgets))
        how = "after" if proceeds else "without"
        with pytest.raises(
            PluginError, match=rf"returned NoneType, not RunInfo, {how} calling proceed with <StartCall"
        ):
            await client.start_workflow("Order", "order-1")

    async def test_what_a_send_returns_is_ignored(self, connection: ScriptedConnection) -> None:
        async def talks(self: Any, call: Any, proceed: Any) -> Any:
            await proceed(call)
            return "sent"

        handle = await client_with(connection, plugin(grctl_send=talks)).start_workflow("Order", "order-1")
        assert await handle.send("approve") is None  # type: ignore[func-returns-value]

    @pytest.mark.parametrize("hook", ["grctl_start", "grctl_retry"])
    async def test_passes_something_else_on(self, connection: ScriptedConnection, hook: str) -> None:
        async def confused(self: Any, call: Any, proceed: Any) -> Any:
            return await proceed(call.workflow_input)

        client = client_with(connection, plugin(**{hook: confused}))
        with pytest.raises(PluginError, match=f"audit.{hook} passed dict on instead of <StartCall"):
            await client.start_workflow("Order", "order-1", {})
        assert connection.commands == []

    async def test_returns_a_wrong_reply_for_an_attempt(self, connection: ScriptedConnection) -> None:
        """What was sent may have taken effect: whoever tries again meets the doubt."""
        replies = [None]
        messages: list[str] = []

        class Broken(Plugin):
            name = "broken"

            async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
                reply = await proceed(attempt)
                return replies.pop() if replies else reply

        async def retry(self: Any, call: Any, proceed: Any) -> Any:
            try:
                return await proceed(call)
            except PluginError as error:
                messages.append(str(error))
                return await proceed(call)

        await client_with(connection, Broken(), plugin(grctl_retry=retry)).start_workflow("Order", "order-1")
        assert connection.kinds == ["start", "describe"]
        (message,) = messages
        assert message.startswith(
            "broken.grctl_attempt returned NoneType, not Reply, after calling proceed with <Attempt"
        )

    async def test_passes_the_call_of_another_send_on(self, connection: ScriptedConnection) -> None:
        calls: list[Any] = []

        async def stale(self: Any, call: Any, proceed: Any) -> Any:
            calls.append(call)
            return await proceed(calls[0])

        handle = await client_with(connection, plugin(grctl_send=stale)).start_workflow("Order", "order-1")
        await handle.send("approve", 1)
        with pytest.raises(PluginError, match=r"passed <SendCall .* on instead of <SendCall"):
            await handle.send("note", 2)
        assert connection.kinds == ["start", "event"]

    async def test_passes_the_attempt_of_another_run_on(self, connection: ScriptedConnection) -> None:
        first: list[Any] = []

        class Stale(Plugin):
            name = "stale"

            async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
                first.append(attempt)
                return await proceed(first[0])

        client = client_with(connection, Stale())
        await client.start_workflow("Order", "order-1")
        with pytest.raises(PluginError, match=r"stale\.grctl_attempt passed <Attempt 1"):
            await client.start_workflow("Order", "order-2")
        assert connection.kinds == ["start"]

    async def test_does_not_await_proceed(self, connection: ScriptedConnection) -> None:
        async def forgets(self: Any, call: Any, proceed: Any) -> None:
            proceed(call)

        handle = await client_with(connection, plugin(grctl_send=forgets)).start_workflow("Order", "order-1")
        with pytest.raises(PluginError, match=r"returned before proceed was done .*: write 'await proceed\(call\)'"):
            await handle.send("approve")
        assert connection.kinds == ["start"]

    async def test_leaves_proceed_to_a_task(self, connection: ScriptedConnection) -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def leaves(self: Any, call: Any, proceed: Any) -> None:
            tasks.append(asyncio.ensure_future(proceed(call)))
            await asyncio.sleep(0)

        connection.script("run.event", NEVER)
        handle = await client_with(connection, plugin(grctl_send=leaves)).start_workflow("Order", "order-1")
        with pytest.raises(PluginError, match="returned before proceed was done"):
            await handle.send("approve")
        tasks[0].cancel()

    @pytest.mark.parametrize("hook", ["grctl_send", "grctl_retry"])
    async def test_proceeds_after_it_has_returned(self, connection: ScriptedConnection, hook: str) -> None:
        kept: list[Any] = []

        async def keeps(self: Any, call: Any, proceed: Any) -> Any:
            kept.append((call, proceed))
            return run_info("R9")

        handle = await client_with(connection, plugin(grctl_retry=keeps)).start_workflow("Order", "order-1")
        client = client_with(connection, plugin(**{hook: keeps}))
        handle = client._handle(handle.run_info, Any, kept[0][0])
        await handle.send("approve")
        call, proceed = kept[-1]
        with pytest.raises(PluginError, match="after it had returned"):
            await proceed(call)
        assert connection.commands == []

    async def test_an_attempt_layer_that_lies_about_what_was_sent(self, connection: ScriptedConnection) -> None:
        """What another connection told it, say: it is no word about this command, which must not be sent again."""

        class Lies(Plugin):
            name = "lies"

            async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
                reply = await proceed(attempt)
                if attempt.kind == "run.event":
                    raise NotSentError("the audit's connection is lost")
                return reply

        handle = await client_with(connection, Lies(), Again()).start_workflow("Order", "order-1")
        with pytest.raises(DeliveryUnknownError, match=r"was given up \(NotSentError\)") as caught:
            await handle.send("approve")
        assert isinstance(caught.value.__cause__, NotSentError)
        assert connection.kinds == ["start", "event"]

    async def test_an_attempt_layer_that_refuses_leaves_no_doubt(self, connection: ScriptedConnection) -> None:
        class Refuses(Plugin):
            name = "refuses"

            async def grctl_attempt(self, attempt: Any, proceed: Any) -> Any:
                raise InvalidInputError("not on a Friday")

        with pytest.raises(InvalidInputError, match="not on a Friday"):
            await client_with(connection, Refuses(), Again()).start_workflow("Order", "order-1")

    async def test_a_note_is_not_that_of_an_earlier_call(self, connection: ScriptedConnection) -> None:
        shared = KeyError("always the same")

        async def fails(self: Any, call: Any, proceed: Any) -> Any:
            raise shared

        client = client_with(connection, plugin(grctl_start=fails))
        for wf_id in ("order-1", "order-2"):
            with pytest.raises(KeyError) as caught:
                await client.start_workflow("Order", wf_id)
            (note,) = caught.value.__notes__
            assert repr(wf_id) in note

    @pytest.mark.parametrize(("proceeds", "when"), [(False, "before"), (True, "after")])
    async def test_raises(self, connection: ScriptedConnection, proceeds: bool, when: str) -> None:
        """It reaches the caller as it is, with a note that says where it came from; outer layers see it too."""
        seen: list[Exception] = []

        async def fails(self: Any, call: Any, proceed: Any) -> Any:
            if proceeds:
                await proceed(call)
            raise KeyError("no such table")

        async def sees(self: Any, call: Any, proceed: Any) -> Any:
            try:
                return await proceed(call)
            except KeyError as error:
                seen.append(error)
                raise

        client = client_with(connection, plugin("outer", grctl_start=sees), plugin("inner", grctl_start=fails))
        with pytest.raises(KeyError) as caught:
            await client.start_workflow("Order", "order-1")
        assert seen == [caught.value]
        (note,) = caught.value.__notes__
        assert note.startswith(f"raised through inner.grctl_start {when} it called proceed with <StartCall workflow")
        assert connection.kinds == ["start"] * proceeds

    async def test_errors_of_ours_get_no_note(self, connection: ScriptedConnection) -> None:
        async def around(self: Any, call: Any, proceed: Any) -> Any:
            return await proceed(call)

        connection.script("run.start", NotSentError("no link"))
        with pytest.raises(NotSentError) as caught:
            await client_with(connection, plugin(grctl_start=around)).start_workflow("Order", "order-1")
        assert not hasattr(caught.value, "__notes__")

    @pytest.mark.parametrize("then", ["returns", "raises"])
    @pytest.mark.parametrize("hook", ["grctl_operation", "grctl_attempt", "grctl_retry"])
    async def test_swallows_a_cancellation(self, connection: ScriptedConnection, hook: str, then: str) -> None:
        async def swallows(self: Any, call: Any, proceed: Any) -> Any:
            try:
                return await proceed(call)
            except asyncio.CancelledError:
                if then == "raises":
                    raise ValueError("hm") from None
                return run_info("R9")

        members = {hook: swallows}
        if hook == "grctl_attempt":
            namespace: dict[str, Any] = {}
            exec(
                "async def swallows(self, attempt, proceed):\n return await inner(self, attempt, proceed)",
                {"inner": swallows},
                namespace,
            )
            members = {hook: namespace["swallows"]}
        connection.script("run.start", NEVER)
        client = client_with(connection, plugin(**members))
        task = asyncio.create_task(client.start_workflow("Order", "order-1"))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.kinds == ["start"]

    async def test_a_retry_that_swallows_a_cancellation_does_not_go_on(self, connection: ScriptedConnection) -> None:
        tries = []

        async def stubborn(self: Any, call: Any, proceed: Any) -> Any:
            while True:
                tries.append(1)
                try:
                    return await proceed(call)
                except BaseException:
                    if len(tries) > 5:
                        raise

        connection.script("run.start", NEVER)
        client = client_with(connection, plugin(grctl_retry=stubborn))
        task = asyncio.create_task(client.start_workflow("Order", "order-1"))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.kinds == ["start"]

    async def test_a_timeout_around_fires_although_a_layer_swallows(self, connection: ScriptedConnection) -> None:
        async def swallows(self: Any, call: Any, proceed: Any) -> Any:
            try:
                return await proceed(call)
            except asyncio.CancelledError:
                return run_info("R9")

        connection.script("run.start", NEVER)
        client = client_with(connection, plugin(grctl_start=swallows))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.start_workflow("Order", "order-1")


class TestRetrySlot:
    async def test_it_goes_round_the_attempts_alone(self, connection: ScriptedConnection) -> None:
        seen: list[Any] = []

        class Looks(Plugin):
            name = "looks"

            async def grctl_start(self, call: Any, proceed: Any) -> Any:
                seen.append("start")
                return await proceed(call)

            def grctl_retry_scheduled(self, call: Any, error: Exception, delay: float, attempt: int) -> None:
                seen.append((call.operation, type(error), delay, attempt))

        connection.script("run.start", NotSentError("no link"), lost())
        await client_with(connection, Again(), Looks()).start_workflow("Order", "order-1")
        assert seen == ["start", ("start", NotSentError, 0.5, 2), ("start", DeliveryUnknownError, 0.5, 3)]
        assert connection.kinds == ["start", "start", "describe", "start"]

    async def test_a_doubt_that_it_gives_up_on_is_looked_into_once(self, connection: ScriptedConnection) -> None:
        async def never(self: Any, call: Any, proceed: Any) -> Any:
            return await proceed(call)

        connection.script("run.start", lost())
        await client_with(connection, plugin(grctl_retry=never)).start_workflow("Order", "order-1")
        assert connection.kinds == ["start", "describe", "start"]

    async def test_a_send_in_doubt_is_not_repeated_by_any_plugin(self, connection: ScriptedConnection) -> None:
        handle = await client_with(connection, Again()).start_workflow("Order", "order-1")
        connection.script("run.event", lost())
        with pytest.raises(DeliveryUnknownError):
            await handle.send("approve")
        assert connection.kinds == ["start", "event"]
        connection.script("run.event", lost())
        await handle.send("approve", idempotent=True)
        assert connection.kinds == ["start", "event", "event", "event"]

    async def test_one_attempt_at_a_time(self, connection: ScriptedConnection) -> None:
        async def hedges(self: Any, call: Any, proceed: Any) -> Any:
            results = await asyncio.gather(proceed(call), proceed(call), return_exceptions=True)
            assert isinstance(results[1], PluginError)
            return results[0]

        handle = await client_with(connection, plugin(grctl_retry=hedges)).start_workflow("Order", "order-1")
        await handle.send("approve")
        assert connection.kinds == ["start", "event"]

    async def test_it_may_not_return_before_an_attempt_is_done(self, connection: ScriptedConnection) -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def hurries(self: Any, call: Any, proceed: Any) -> Any:
            tasks.append(asyncio.ensure_future(proceed(call)))
            await settle()

        connection.script("run.start", NEVER)
        client = client_with(connection, plugin(grctl_retry=hurries))
        with pytest.raises(PluginError, match="returned before proceed was done"):
            await client.start_workflow("Order", "order-1")
        tasks[0].cancel()

    async def test_what_it_returns_is_checked(self, connection: ScriptedConnection) -> None:
        async def forgets(self: Any, call: Any, proceed: Any) -> Any:
            await proceed(call)

        async def around(self: Any, call: Any, proceed: Any) -> Any:
            return await proceed(call)

        client = client_with(connection, plugin("outer", grctl_start=around), plugin("bad", grctl_retry=forgets))
        with pytest.raises(PluginError, match=r"bad\.grctl_retry returned NoneType, not RunInfo, after"):
            await client.start_workflow("Order", "order-1")

    async def test_it_may_not_replace_what_is_encoded_by_then(self, connection: ScriptedConnection) -> None:
        async def replaces(self: Any, call: Any, proceed: Any) -> Any:
            return await proceed(call.replace(payload=2) if call.operation == "send" else call)

        handle = await client_with(connection, plugin(grctl_retry=replaces)).start_workflow("Order", "order-1")
        with pytest.raises(PluginError, match="replaced payload, which is encoded by then"):
            await handle.send("approve", 1)
        assert connection.kinds == ["start"]

    async def test_each_caller_of_a_cancel_has_its_own_policy(self, connection: ScriptedConnection) -> None:
        """They share one command at a time. Who gives up by a deadline of its own takes nobody along."""

        class Bounds(Plugin):
            name = "bounds"

            async def grctl_retry(self, call: Any, proceed: Any) -> Any:
                return await proceed(call.replace(deadline=proceed.time() + call.retry) if call.retry != 60 else call)

        handle = await client_with(connection, Bounds()).start_workflow("Order", "order-1", retry=60)
        connection.script("run.cancel", NEVER)
        short = asyncio.ensure_future(handle.cancel(retry=0.02))
        await settle()
        patient = asyncio.ensure_future(handle.cancel(retry=60))
        impatient = asyncio.ensure_future(handle.cancel(retry=0.01))
        with pytest.raises(DeliveryUnknownError):
            await short
        await asyncio.wait([impatient, patient])
        assert isinstance(impatient.exception(), DeliveryUnknownError)  # of the one that it had joined
        assert patient.exception() is None
        assert len(connection.sent("run.cancel")) == 2

    async def test_none_for_one_call(self, connection: ScriptedConnection) -> None:
        client = client_with(connection, Again())
        connection.script("run.start", NotSentError("no link"))
        with pytest.raises(NotSentError):
            await client.start_workflow("Order", "order-1", retry=None)
        assert connection.kinds == ["start"]

    async def test_without_a_plugin_it_cannot_be_asked_for(self, connection: ScriptedConnection) -> None:
        client = client_with(connection)
        handle = await client.start_workflow("Order", "order-1", retry=None)
        calls = [
            client.start_workflow("Order", "order-2", retry=3),
            client.run_workflow("Order", "order-2", retry=3),
            client.get_handle("order-1", retry=3),
            *(operation(retry=3) for operation in (handle.describe, handle.cancel, handle.terminate)),
            handle.send("approve", retry=3),
            handle.query("total", retry=3),
        ]
        for call in calls:
            with pytest.raises(InvalidInputError, match="retry= needs a retry plugin"):
                await call
        assert connection.kinds == ["start"]


class TestDeadline:
    """A call's deadline is the core's to uphold, so no plugin needs to know what a given up attempt may have done."""

    def client(self, connection: ScriptedConnection, seconds: float) -> WorkflowClient:
        class Bounds(Plugin):
            name = "bounds"

            async def grctl_retry(self, call: Any, proceed: Any) -> Any:
                return await proceed(call.replace(deadline=asyncio.get_running_loop().time() + seconds))

        return client_with(connection, Bounds())

    async def test_an_attempt_in_flight_is_given_up_as_a_doubt(self, connection: ScriptedConnection) -> None:
        connection.script("run.start", NEVER)
        with pytest.raises(DeliveryUnknownError, match="and the call's deadline has passed") as caught:
            await self.client(connection, 0.02).start_workflow("Order", "order-1")
        assert caught.value.operation == "start"
        assert connection.kinds == ["start"]

    async def test_nothing_begins_after_it(self, connection: ScriptedConnection) -> None:
        with pytest.raises(NotSentError, match="was not sent before its deadline"):
            await self.client(connection, -1).start_workflow("Order", "order-1")
        assert connection.commands == []

    async def test_a_look_that_is_not_answered(self, connection: ScriptedConnection) -> None:
        connection.script("run.describe", NEVER)
        with pytest.raises(DeliveryUnknownError, match="was not answered before the call's deadline"):
            await self.client(connection, 0.02).get_handle("order-1")

    async def test_a_cancel_whose_first_look_hangs_was_not_sent(self, connection: ScriptedConnection) -> None:
        handle = await self.client(connection, 0.02).start_workflow("Order", "order-1")
        connection.script("run.describe", NEVER)
        with pytest.raises(NotSentError, match="cancel"):
            await handle.cancel()

    async def test_the_callers_own_timeout_stays_the_callers(self, connection: ScriptedConnection) -> None:
        connection.script("run.start", NEVER)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await self.client(connection, 60).start_workflow("Order", "order-1")

    async def test_in_time_nothing_happens(self, connection: ScriptedConnection) -> None:
        await self.client(connection, 60).start_workflow("Order", "order-1")
        assert connection.kinds == ["start"]


class TestNotifications:
    async def test_the_end_of_a_run_comes_once_for_each_handle(self, connection: ScriptedConnection) -> None:
        ended: list[Any] = []
        listens = plugin(grctl_run_ended=lambda self, run, outcome, waited: ended.append((run.id, outcome, waited)))
        handle = await client_with(connection, listens).start_workflow("Order", "order-1")
        waits = [asyncio.ensure_future(handle.outcome()), handle.future, handle.future]
        await settle()
        connection.end(handle.run_info.id, "failed")
        outcome = await waits[0]
        with pytest.raises(WorkflowError):
            await handle.result()
        await settle()
        ((run_id, told, waited),) = ended
        assert (run_id, told) == (handle.run_info.id, outcome)
        assert waited >= 0

    async def test_what_they_raise_harms_nobody(self, connection: ScriptedConnection) -> None:
        told: list[str] = []
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

        def fails(self: Any) -> None:
            raise KeyError("no such table")

        listens = plugin(
            "listens",
            grctl_run_ended=lambda self: told.append("ended"),
            grctl_retry_scheduled=lambda self: told.append("retry"),
        )
        broken = plugin("broken", grctl_run_ended=fails, grctl_retry_scheduled=fails)
        connection.script("run.start", NotSentError("no link"))
        handle = await client_with(connection, broken, listens, Again()).start_workflow("Order", "order-1")
        connection.end(handle.run_info.id, result="done")
        assert await handle.result() == "done"
        assert told == ["retry", "ended"]
        assert [context["message"] for context in said] == [
            "plugin 'broken': grctl_retry_scheduled raised KeyError",
            "plugin 'broken': grctl_run_ended raised KeyError",
        ]
        assert all(isinstance(context["exception"], KeyError) for context in said)

    async def test_a_cancelled_error_of_theirs_cancels_nobody(self, connection: ScriptedConnection) -> None:
        said: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

        def cancelled(self: Any) -> None:
            raise asyncio.CancelledError

        broken = plugin("broken", grctl_run_ended=cancelled, grctl_retry_scheduled=cancelled)
        connection.script("run.start", NotSentError("no link"))
        handle = await client_with(connection, broken, Again()).start_workflow("Order", "order-1")
        waiting = asyncio.ensure_future(handle.result())
        await settle()
        connection.end(handle.run_info.id, result="done")
        assert await waiting == "done"
        assert [context["message"].rpartition(": ")[2] for context in said] == [
            "grctl_retry_scheduled raised CancelledError",
            "grctl_run_ended raised CancelledError",
        ]

    async def test_connection_changes_as_long_as_a_client_or_a_handle_is_there(
        self, connection: ScriptedConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listeners: list[Any] = []

        def add_listener(listener: Any) -> Any:
            listeners.append(listener)
            return lambda: listeners.remove(listener)

        monkeypatch.setattr(connection, "add_listener", add_listener)
        told: list[Any] = []
        listens = plugin(grctl_connection_changed=lambda self, connection, event: told.append((connection, event)))
        client = client_with(connection, listens)
        listeners[0]("event")
        assert told == [(connection, "event")]
        handle = await client.start_workflow("Order", "order-1")
        del client
        gc.collect()
        assert len(listeners) == 1
        del handle
        gc.collect()
        assert listeners == []

    async def test_nobody_listens_where_no_plugin_does(
        self, connection: ScriptedConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "add_listener", lambda listener: pytest.fail("a listener"))
        client_with(connection, Again())


class TestLogContext:
    async def test_it_enters_what_plugins_give(self, connection: ScriptedConnection) -> None:
        import contextlib

        seen: list[Any] = []

        class Names(Plugin):
            name = "names"

            @contextlib.contextmanager
            def grctl_log_context(self, run: Any) -> Any:
                seen.append(("in", run.wf_id))
                try:
                    yield
                finally:
                    seen.append("out")

        handle = await client_with(connection, Names()).start_workflow("Order", "order-1")
        with pytest.raises(RefusedError), handle.log_context():
            assert seen == [("in", "order-1")]
            raise RefusedError("x")
        assert seen == [("in", "order-1"), "out"]

    async def test_what_goes_wrong_does_not_reach_the_block(self, connection: ScriptedConnection) -> None:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["message"]))
        entered: list[str] = []

        class Leaves:
            def __enter__(self) -> None:
                entered.append("in")

            def __exit__(self, *exc_info: object) -> None:
                raise ValueError("out")

        plugins = [
            plugin("raises", grctl_log_context=lambda self: 1 / 0),
            plugin("nothing", grctl_log_context=lambda self, run: None),
            plugin("leaves", grctl_log_context=lambda self: Leaves()),
        ]
        client = client_with(connection, *plugins)
        assert client.plugins.layers == {
            "log_context": ("raises.grctl_log_context", "nothing.grctl_log_context", "leaves.grctl_log_context")
        }
        handle = await client.start_workflow("Order", "order-1")
        with handle.log_context():
            assert entered == ["in"]
        assert [message.split(":")[0] for message in said] == ["plugin 'raises'", "plugin 'nothing'", "plugin 'leaves'"]

    async def test_nor_what_goes_wrong_outside_an_event_loop(
        self, connection: ScriptedConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = client_with(connection, plugin("raises", grctl_log_context=lambda self: 1 / 0))
        handle = await client.start_workflow("Order", "order-1")
        made: list[asyncio.AbstractEventLoop] = []
        make = asyncio.new_event_loop

        def make_one() -> asyncio.AbstractEventLoop:
            made.append(make())
            return made[-1]

        def work() -> None:
            with handle.log_context():
                pass

        monkeypatch.setattr(asyncio, "new_event_loop", make_one)
        await asyncio.to_thread(work)
        assert "plugin 'raises': grctl_log_context raised ZeroDivisionError" in caplog.text
        assert [loop.is_closed() for loop in made] == [True]

    async def test_without_one_it_does_nothing(self, client: WorkflowClient) -> None:
        handle = await client.start_workflow("Order", "order-1")
        with handle.log_context():
            pass
