"""examples/booking.py: what it prints, and what its workflows do in days that a test does not wait for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import grctl
from grctl_engine import ManualClock

EXAMPLE = Path(__file__).parents[2] / "examples" / "booking.py"

PRINTED = """\
Paris, paid on day 12:
    00:00:00  run.started
    00:00:00  step.started
    00:00:00  task.started
    00:00:00  task.attempt_failed  1
    00:00:01  task.attempt_failed  2
    00:00:04  task.completed
    00:00:04  step.completed
    00:00:04  run.completed
    to be paid: 695.00, flight booked at attempt 3
    completed after 12 days, 60 s: {'paid': 695.0, 'codes': ['H-Paris', 'C-Paris', 'F-Paris']}
Ulm, where no room is left:
    gave back flight F-Ulm
    gave back car C-Ulm
    failed after 0 days, 0 s: no room in Ulm
Rome, never paid:
    gave back flight F-Rome
    gave back hotel H-Rome
    gave back car C-Rome
    failed after 30 days, 0 s: nobody paid
"""


@pytest.fixture
def booking(monkeypatch):
    spec = importlib.util.spec_from_file_location("booking_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "booking_example", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def connection(booking):
    async with await grctl.connect("memory://", workflows=booking.workflows, clock=ManualClock()) as connection:
        yield connection


@pytest.fixture
def client(connection):
    return grctl.Client(connection=connection)


async def test_it_prints_what_happened(booking, capsys):
    await booking.main()
    assert capsys.readouterr().out == PRINTED


async def test_nothing_is_given_back_while_thirty_days_are_not_over(connection, client, capsys):
    handle = await client.start_workflow("BookTrip", "trip", {"city": "Rome"})
    await connection.engine.clock.advance(days=30)  # the flight came 4 s later, and so began the waiting
    assert not (await handle.describe()).is_finished
    assert await handle.query("price") == 695.0
    assert capsys.readouterr().out == ""
    await connection.engine.clock.advance(seconds=4)
    with pytest.raises(grctl.WorkflowError, match="TripCancelled: nobody paid"):
        await handle.result()
    assert capsys.readouterr().out.count("gave back") == 3


async def test_too_little_money(connection, client, capsys):
    handle = await client.start_workflow("BookTrip", "trip", {"city": "Rome"})
    await connection.engine.clock.advance(days=1)
    await handle.send("pay", {"amount": 1})
    with pytest.raises(grctl.WorkflowError, match="does not pay for it"):
        await handle.result()
    assert capsys.readouterr().out.count("gave back") == 3


@pytest.mark.parametrize("seconds", [0, 0.001, 1, 3.999])
async def test_a_payment_before_the_last_answer_waits_for_it(seconds, connection, client, capsys):
    handle = await client.start_workflow("BookTrip", "trip", {"city": "Rome"})
    if seconds:
        await connection.engine.clock.advance(seconds=seconds)
    await handle.send("pay", {"amount": 695.0})
    assert not (await handle.describe()).is_finished
    await connection.engine.clock.advance(minutes=1)
    assert await handle.result() == {"paid": 695.0, "codes": ["H-Rome", "C-Rome", "F-Rome"]}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("city", "amount", "problem"), [("Rome", 1.0, "1.00 does not pay for it"), ("Ulm", 695.0, "no room in Ulm")]
)
async def test_an_early_payment_that_does_not_help(city, amount, problem, connection, client):
    handle = await client.start_workflow("BookTrip", "trip", {"city": city})
    await handle.send("pay", {"amount": amount})
    await connection.engine.clock.advance(minutes=1)
    with pytest.raises(grctl.WorkflowError, match=f"TripCancelled: {problem}"):
        await handle.result()


async def test_sold_out_is_not_tried_again(booking, connection, client):
    handle = await client.start_workflow("BookTrip", "trip", {"city": "Ulm"})
    await connection.engine.clock.advance(minutes=1)
    with pytest.raises(grctl.WorkflowError, match="no room in Ulm"):
        await handle.result()
    assert booking.calls["hotel"] == 1


async def test_the_children_of_a_trip_that_is_terminated_go_on(connection, client):
    handle = await client.start_workflow("BookTrip", "trip", {"city": "Rome"})
    await connection.engine.clock.advance(seconds=1)
    await handle.terminate("never mind")
    flight = await client.get_handle("trip-flight")
    await connection.engine.clock.advance(minutes=1)
    assert (await flight.outcome()).completed
