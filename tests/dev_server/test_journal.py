"""What the journal writes at once."""

from __future__ import annotations

import asyncio

from grctl.dev_server.change import Change
from grctl.dev_server.journal import Journal
from grctl_engine.engine import Engine
from grctl_nats import subjects

from .raw import start_command
from .tasks_and_children import workflows


async def test_a_childs_end_and_what_its_parent_learns_of_it_are_one_change() -> None:
    """Were only the first one stored when the server is killed, the parent would wait for ever."""
    changes: list[Change] = []
    ended = asyncio.Event()
    journal = Journal(changes.append, lambda outcome: ended.set() if outcome.run.parent_wf_id is None else None)
    engine = Engine(workflows, journal=journal)
    command = start_command("ParentCallback", "a", {"kind": "ok"})
    assert engine.execute(command).success
    await asyncio.wait_for(ended.wait(), 20)
    await engine.close()
    parent = subjects.history(command.run.ref)
    (learns,) = [
        [message for message in change.messages if message.subject.startswith("grctl_history.")]
        for change in changes
        if any(message.subject == parent and b"event.received" in message.encoded() for message in change.messages)
    ]
    child, of_parent = learns[:-1], learns[-1]
    assert of_parent.subject == parent
    assert {message.subject == parent for message in child} == {False}
    assert b"run.completed" in child[-1].encoded()
