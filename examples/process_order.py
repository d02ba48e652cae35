"""A shop's orders, processed at once: approvals, changed quantities, a declined card, a bad record, a time-out.

    python examples/process_order.py [FILE]

FILE holds the orders and what people do about them; by default it is the orders.json beside this program.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import grctl
from grctl.models.common import ErrorDetails
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

try:
    from rich import box
    from rich.console import Console
    from rich.live import Live
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table
except ImportError:
    sys.exit('This example draws its tables with rich: pip install "grctl-client[cli]"')

APPROVAL_FROM = Decimal(500)

# --- the workflow: what a worker runs -----------------------------------------------------------------------------


@dataclass
class Item:
    sku: str
    quantity: int
    price: Decimal


@dataclass
class Order:
    order_id: str
    customer: str
    card: str
    items: list[Item]

    @property
    def total(self) -> Decimal:
        return sum((item.price * item.quantity for item in self.items), Decimal(0))


@dataclass
class Receipt:
    order_id: str
    total: Decimal
    parcels: int
    approved_by: str | None = None


process_order = Workflow(workflow_type="ProcessOrder")


@process_order.start()
async def start(ctx: Context, order_id: str, customer: str, card: str, items: list[Item]) -> Directive:
    order = Order(order_id, customer, card, items)
    ctx.store.put("order", order)
    await ctx.sleep(timedelta(milliseconds=200 * len(items)))  # the stock is reserved
    if order.total >= APPROVAL_FROM:
        return ctx.next.wait(timeout=timedelta(hours=2), on_timeout=nobody_approved)
    return ctx.next.step(charge)


@process_order.event()
async def update_quantity(ctx: Context, sku: str, quantity: int) -> Directive:
    order = await ctx.store.get("order", Order)
    items = [replace(item, quantity=quantity) if item.sku == sku else item for item in order.items]
    ctx.store.put("order", replace(order, items=items))
    return ctx.next.wait(timeout=timedelta(hours=2), on_timeout=nobody_approved)


@process_order.event()
async def approve(ctx: Context, by: str) -> Directive:
    ctx.store.put("approved_by", by)
    return ctx.next.step(charge)


@process_order.event()
async def reject(ctx: Context, by: str, reason: str) -> Directive:
    return ctx.next.fail(ErrorDetails("OrderRejected", f"{reason} (decided by {by})"))


@process_order.step()
async def nobody_approved(ctx: Context) -> Directive:
    return ctx.next.fail(ErrorDetails("OrderRejected", "nobody approved it within two hours"))


@process_order.step()
async def charge(ctx: Context) -> Directive:
    order = await ctx.store.get("order", Order)
    await ctx.sleep(timedelta(milliseconds=300))  # the bank answers
    if order.card.endswith("declined"):
        return ctx.next.fail(ErrorDetails("CardDeclined", f"the bank declined {order.total} on card {order.card}"))
    return ctx.next.step(ship)


@process_order.step()
async def ship(ctx: Context) -> Directive:
    order = await ctx.store.get("order", Order)
    await ctx.sleep(timedelta(milliseconds=200))  # the parcels are packed
    approved_by = await ctx.store.get("approved_by", str | None)
    return ctx.next.complete(Receipt(order.order_id, order.total, len(order.items), approved_by))


workflows = [process_order]

# --- the client: what the shop's service runs ---------------------------------------------------------------------

STAGES = {"start": "reserving stock", "charge": "charging", "ship": "shipping"}
WAITING = "waiting for approval"
ENDS = {
    "completed": "[green]shipped",
    "failed": "[red]failed",
    "timed_out": "[yellow]timed out",
    "cancelled": "[blue]cancelled",
    "terminated": "[magenta]terminated",
}
ADVICE = {
    "CardDeclined": "ask the customer for another card, then start the order again",
    "InputMismatchError": "correct the record, then start the order again",
    "OrderRejected": "tell the customer",
}


@dataclass
class Board:
    """What is shown while the orders run."""

    total: int
    stages: dict[str, str] = field(default_factory=dict)
    done: int = 0

    def __rich__(self) -> Table:
        stages = Counter(self.stages.values())
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(self.total, self.done, width=30),
            f"{self.done} of {self.total} orders have ended",
            "[dim]" + ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items())),
        )
        return grid


async def process(client: grctl.Client, record: dict[str, Any], board: Board) -> grctl.Outcome[Receipt]:
    """Start one order, do what people do about it, and wait for its end."""
    handle = await client.start_workflow(
        workflow_type="ProcessOrder",
        workflow_id=record["order"]["order_id"],
        workflow_input=record["order"],
        workflow_timeout=timedelta(seconds=record.get("workflow_timeout", 60)),
        result_type=Receipt,
    )
    watching = asyncio.create_task(follow(handle, board))
    for action in record["then"]:
        await asyncio.sleep(0.5)  # people take their time
        if "cancel" in action:
            await handle.cancel(action["cancel"])
        else:
            await handle.send(action["send"], action["payload"])
    outcome = await handle.outcome()
    await watching
    board.done += 1
    return outcome


async def follow(handle: grctl.WorkflowHandle[Receipt], board: Board) -> None:
    """Keep the board up to date with the stage that a run is in."""
    async for event in handle.history(follow=True):
        if event.kind == "step.started":
            board.stages[handle.run_info.id] = STAGES.get(event.data["step_name"], "deciding")
        elif event.kind == "wait.started":
            board.stages[handle.run_info.id] = WAITING
    board.stages.pop(handle.run_info.id, None)


def report(console: Console, records: list[dict[str, Any]], outcomes: list[grctl.Outcome[Receipt]]) -> None:
    """Print what became of each order, and what is left to do."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("order", "customer", "end", "", "took"):
        table.add_column(column, no_wrap=column != "", justify="right" if column == "took" else "left")
    to_do = []
    for record, outcome in zip(records, outcomes, strict=True):
        run = outcome.run
        if outcome.result is not None:
            receipt = outcome.result
            approval = f", approved by {receipt.approved_by}" if receipt.approved_by else ""
            parcels = "1 parcel" if receipt.parcels == 1 else f"{receipt.parcels} parcels"
            what = f"{receipt.total:>8.2f}, {parcels}{approval}"
        elif outcome.error is not None:
            what = f"{outcome.error.type}: {outcome.error.message}"
            to_do.append((run.wf_id, ADVICE.get(outcome.error.type, "look at its history")))
        elif outcome.status == grctl.RunStatus.TIMED_OUT:
            seconds = run.timeout.total_seconds() if run.timeout else 0
            what = f"not ended within its {seconds:g} s: it was {WAITING}"
            to_do.append((run.wf_id, "find somebody to approve it, then start the order again"))
        else:
            what = outcome.reason
        took = (run.completed_at - run.created_at).total_seconds() if run.completed_at else 0.0
        table.add_row(
            run.wf_id, escape(record["order"]["customer"]), ENDS[outcome.status], escape(what), f"{took:.1f} s"
        )
    console.print(table)

    ends = Counter(str(outcome.status) for outcome in outcomes)
    revenue = sum((outcome.result.total for outcome in outcomes if outcome.result is not None), Decimal(0))
    console.print(f"[bold]{ends['completed']} of {len(outcomes)} orders shipped, {revenue:.2f} in all.[/] To do:")
    for wf_id, advice in to_do:
        console.print(f"  {wf_id}  {advice}")


async def main(path: Path) -> None:
    records = json.loads(path.read_text(encoding="utf-8"))
    console = Console()
    board = Board(len(records))
    async with await grctl.connect("memory://", workflows=workflows) as connection:
        client = grctl.Client(connection=connection)
        with Live(board, console=console, refresh_per_second=10, transient=True):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(process(client, record, board)) for record in records]
    report(console, records, [task.result() for task in tasks])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("orders.json")))
