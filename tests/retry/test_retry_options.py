"""grctl_retry.Retry and the options of the plugin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from core.scripted import ScriptedConnection

import grctl
from grctl_core.errors import InvalidInputError, NotSentError
from grctl_retry import Retry, RetryPlugin

from .rig import KINDS, Clock, retrying_client, ways


def test_durations_are_seconds_or_a_timedelta() -> None:
    policy = Retry(attempts=3, first_delay=timedelta(milliseconds=50), longest_delay=1, deadline=timedelta(minutes=1))
    assert policy == Retry(attempts=3, first_delay=0.05, longest_delay=1.0, deadline=60)
    assert (policy.first_delay, policy.longest_delay, policy.deadline) == (0.05, 1.0, 60.0)
    assert repr(policy) == "Retry(attempts=3, first_delay=0.05, longest_delay=1.0, deadline=60.0)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts must be a whole number from 1, or None for no limit, not 0"),
        ({"attempts": True}, "not True"),
        ({"attempts": 2.5}, "not 2.5"),
        ({"attempts": None, "deadline": None}, "cannot both be None"),
        ({"first_delay": 0}, "first_delay must be above zero"),
        ({"first_delay": "1"}, "first_delay must be a timedelta or a number of seconds, not str"),
        ({"longest_delay": float("nan")}, "longest_delay must be above zero"),
        ({"first_delay": 3}, r"longest_delay \(2 s\) must not be below first_delay \(3 s\)"),
        ({"deadline": -1}, "deadline must be above zero"),
        ({"deadline": timedelta()}, "deadline must be above zero"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Retry(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": 3}, r"policy must be a Retry, such as .*Retry\(attempts=3\), or None \(the defaults\), not int"),
        ({"policy": Retry}, "not type"),
        ({"budget": -1}, "budget must be a whole number from 0, or None for no limit, not -1"),
        ({"budget": 0.5}, "not 0.5"),
        ({"budget": True}, "not True"),
    ],
)
def test_what_the_plugin_cannot_use_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        RetryPlugin(**arguments)


@pytest.mark.parametrize("operation", KINDS)
@pytest.mark.parametrize("wrong", [3, {"attempts": 3}, Retry, True])
async def test_a_wrong_retry_is_refused_before_anything_is_sent(
    connection: ScriptedConnection, operation: str, wrong: object
) -> None:
    calls = await ways(retrying_client(connection))
    connection.commands.clear()
    with pytest.raises(InvalidInputError, match=r"retry must be a Retry, .* or None \(no retries\), not "):
        await calls[operation](retry=wrong)
    assert connection.commands == []


@pytest.mark.parametrize("operation", KINDS)
async def test_each_call_may_have_its_own(connection: ScriptedConnection, clock: Clock, operation: str) -> None:
    calls = await ways(retrying_client(connection, Retry(attempts=2), sleep=clock.sleep))
    connection.script("run.describe", *[NotSentError("away")] * 10)
    for kind in set(KINDS.values()) - {"run.describe"}:
        connection.script(kind, *[NotSentError("away")] * 10)
    for retry, pauses in ((None, []), (Retry(attempts=4, first_delay=0.5), [0.5, 1.0, 2.0])):
        clock.pauses.clear()
        with pytest.raises(NotSentError):
            await calls[operation](retry=retry)
        assert clock.pauses == pauses
    clock.pauses.clear()
    with pytest.raises(NotSentError):
        await calls[operation]()
    assert clock.pauses == [0.1]


@pytest.mark.parametrize("plugins", [["retry"], [RetryPlugin(Retry(deadline=5))]])
async def test_by_name_and_as_an_instance(plugins: list[Any]) -> None:
    async with await grctl.connect("memory://") as connection:
        client = grctl.Client(connection=connection, plugins=plugins)
        assert client.plugins.names == ("retry",)
        assert client.plugins.layers["retry"] == ("retry.grctl_retry",)
