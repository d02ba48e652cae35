"""Contract: what the cases of the suite stand on."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, TypeVar

import pytest

from grctl.testing.transport_contract.bench import Bench, Open, settled
from grctl.testing.transport_contract.workflows import contract_workflows
from grctl_engine.definition import Workflow

__all__ = ["Contract", "case"]

C = TypeVar("C", bound="Contract")


def case(test: Callable[[C, Bench], Awaitable[None]]) -> Callable[[C], None]:
    """Make a case: a plain method that runs in an event loop of its own, on a server of its own, up to a deadline."""

    @functools.wraps(test)
    def run(self: C) -> None:
        factory = type(self).loop_factory  # looked up at the class: a plain function would be bound otherwise
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_within(self, test))

    del run.__wrapped__  # pytest would take the bench for a fixture
    return run


async def _within(contract: C, test: Callable[[C, Bench], Awaitable[None]]) -> None:
    limit = asyncio.timeout(contract.deadline)
    waiting_for = "what the transport should have given"
    try:
        async with limit, contract.serve() as open_one:
            before = asyncio.all_tasks()
            async with Bench.on(open_one) as bench:
                await test(contract, bench)
            waiting_for = "the transport's own tasks, which closing should have ended"
            await settled(lambda: asyncio.all_tasks() <= before)
    finally:
        if limit.expired():
            pytest.fail(f"the case has not ended within {contract.deadline:g} s; it waited for {waiting_for}")


class Contract:
    """A suite that is run on servers of the subclass."""

    workflows: ClassVar[tuple[Workflow, ...]] = contract_workflows
    """What the server has to host."""

    deadline: ClassVar[float] = 60.0
    """Seconds after which a case counts as hanging. Cases take far less."""

    loop_factory: ClassVar[Callable[[], asyncio.AbstractEventLoop] | None] = None
    """Makes the event loop of each case, for example ``uvloop.new_event_loop``; by default asyncio's own."""

    def serve(self) -> AbstractAsyncContextManager[Open]:
        """Have a server that hosts :attr:`workflows`, and give what opens a connection to it: to be overridden.

        What the server has running in this event loop must be there when it gives that.
        """
        raise NotImplementedError("override serve(): see the docstring of TransportContract")
