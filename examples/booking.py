"""A trip booking: flight, hotel and car as child workflows, retries, and a compensation when one of them fails.

The trip books all three at once. If one cannot be had, it gives the others back. If all are booked it waits up to 30
days for the payment, and gives them back as well when none comes. Time is moved by hand here, so nobody waits.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grctl
from grctl.models.common import ErrorDetails
from grctl.models.directive import RetryPolicy
from grctl.worker import ChildOutcome, Context, task
from grctl.workflow import Directive, Workflow
from grctl_engine import ManualClock


@dataclass
class Booking:
    kind: str
    code: str
    price: float


class SoldOutError(Exception):
    """Trying again does not help."""


# The world outside: an airline whose first two answers get lost, and a hotel that has no room in Ulm.
calls: dict[str, int] = {}
PRICES = {"flight": 180.0, "hotel": 420.0, "car": 95.0}

PATIENT = RetryPolicy(
    max_attempts=5,
    initial_delay_ms=1_000,
    backoff_multiplier=3,
    max_delay_ms=60_000,
    non_retryable_errors=["SoldOutError"],
)


@task(retry_policy=PATIENT)
async def reserve(kind: str, city: str) -> Booking:
    calls[kind] = calls.get(kind, 0) + 1
    if kind == "flight" and calls[kind] < 3:
        raise ConnectionError("no answer from the airline")
    if kind == "hotel" and city == "Ulm":
        raise SoldOutError("no room in Ulm")
    return Booking(kind, f"{kind[0].upper()}-{city}", PRICES[kind])


@task(retry_policy=PATIENT)
async def give_back(kind: str, code: str) -> None:
    print(f"    gave back {kind} {code}")


def booking_workflow(kind: str) -> Workflow:
    """Return the workflow type that books a flight, a hotel or a car: ``BookFlight``, ..."""
    workflow = Workflow(workflow_type=f"Book{kind.capitalize()}")

    @workflow.start()
    async def start(ctx: Context, city: str) -> Directive:
        return ctx.next.complete(await reserve(kind, city))

    return workflow


trip = Workflow(workflow_type="BookTrip")
KINDS = ("flight", "hotel", "car")


@trip.start()
async def start(ctx: Context, city: str) -> Directive:
    for kind in KINDS:
        child_id = f"{ctx.run.wf_id}-{kind}"
        await ctx.start_child(f"Book{kind.capitalize()}", child_id, {"city": city}, on_completed_step=booked)
    return ctx.next.wait(timeout=timedelta(hours=6), on_timeout=undo)


@trip.step()
async def booked(ctx: Context, outcome: ChildOutcome[Booking]) -> Directive:
    """One child has ended, in whatever way."""
    ctx.store.put("answers", await ctx.store.get("answers", int, 0) + 1)
    if outcome.ok:
        bookings = await ctx.store.get("bookings", list[Booking], [])
        ctx.store.put("bookings", [*bookings, outcome.unwrap()])
    elif outcome.error is not None:
        ctx.store.put("problem", outcome.error.message)
    return await settle(ctx)


@trip.event()
async def pay(ctx: Context, amount: float) -> Directive:
    """The payment. It may come before the last of the children has ended."""
    ctx.store.put("payment", amount)
    return await settle(ctx)


async def settle(ctx: Context) -> Directive:
    """Decide how the trip goes on, now that something has come in."""
    if await ctx.store.get("answers", int, 0) < len(KINDS):
        return ctx.next.wait(timeout=timedelta(hours=6), on_timeout=undo)
    bookings = await ctx.store.get("bookings", list[Booking], [])
    if len(bookings) < len(KINDS):
        return ctx.next.step(undo)
    payment = await ctx.store.get("payment", float)
    if payment is None:
        return ctx.next.wait(timeout=timedelta(days=30), on_timeout=undo)
    if payment < sum(booking.price for booking in bookings):
        ctx.store.put("problem", f"{payment:.2f} does not pay for it")
        return ctx.next.step(undo)
    return ctx.next.complete({"paid": payment, "codes": [booking.code for booking in bookings]})


@trip.step(timeout=timedelta(minutes=10))
async def undo(ctx: Context) -> Directive:
    """The compensation: give back what was booked."""
    for booking in await ctx.store.get("bookings", list[Booking], []):
        await give_back(booking.kind, booking.code)
    problem = await ctx.store.get("problem", str, "nobody paid")
    return ctx.next.fail(ErrorDetails(type="TripCancelled", message=problem))


@trip.query()
async def price(ctx: Context) -> float:
    return sum(booking.price for booking in await ctx.store.get("bookings", list[Booking], []))


workflows = [trip, *(booking_workflow(kind) for kind in KINDS)]


async def report(handle: grctl.WorkflowHandle[Any]) -> None:
    """Print how a trip ended, and after how many days."""
    outcome = await handle.outcome()
    began, ended = outcome.run.started_at, outcome.run.completed_at
    after = ended - began if began and ended else timedelta()
    what = outcome.result if outcome.completed else outcome.error and outcome.error.message
    print(f"    {outcome.status} after {after.days} days, {after.seconds} s: {what}")


async def main() -> None:
    clock = ManualClock()
    async with await grctl.connect("memory://", workflows=workflows, clock=clock) as connection:
        client = grctl.Client(connection=connection)

        print("Paris, paid on day 12:")
        paris = await client.start_workflow("BookTrip", "paris", {"city": "Paris"})
        await clock.advance(minutes=1)
        flight = await client.get_handle("paris-flight")
        async for event in flight.history():
            print(f"    {event.timestamp:%H:%M:%S}  {event.kind:20} {event.data.get('attempt', '')}".rstrip())
        await clock.advance(days=12)
        print(f"    to be paid: {await paris.query('price'):.2f}, flight booked at attempt {calls['flight']}")
        await paris.send("pay", {"amount": 695.0})
        await report(paris)

        print("Ulm, where no room is left:")
        ulm = await client.start_workflow("BookTrip", "ulm", {"city": "Ulm"})
        await clock.advance(minutes=1)
        await report(ulm)

        print("Rome, never paid:")
        rome = await client.start_workflow("BookTrip", "rome", {"city": "Rome"})
        await clock.advance(days=31)
        await report(rome)


if __name__ == "__main__":
    asyncio.run(main())
