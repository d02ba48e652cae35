"""A shop's orders, processed at once: approvals, changed quantities, a declined card, a bad record, a time-out.

    python examples/process_order.py [FILE]

FILE holds the orders and what people do about them; by default it is the orders.json beside this program.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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


async def stored_order(ctx: Context) -> Order:
    order = await ctx.store.get("order", Order)
    if order is None:
        raise LookupError("the start has stored no order")
    return order


@process_order.event()
async def update_quantity(ctx: Context, sku: str, quantity: int) -> Directive:
    order = await stored_order(ctx)
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
    order = await stored_order(ctx)
    await ctx.sleep(timedelta(milliseconds=300))  # the bank answers
    if order.card.endswith("declined"):
        return ctx.next.fail(ErrorDetails("CardDeclined", f"the bank declined {order.total} on card {order.card}"))
    return ctx.next.step(ship)


@process_order.step()
async def ship(ctx: Context) -> Directive:
    order = await stored_order(ctx)
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
    "refused": "[red]refused",
}
ADVICE = {
    "CardDeclined": "ask the customer for another card, then start the order again",
    "InputMismatchError": "correct the record, then start the order again",
    "OrderRejected": "tell the customer",
}


@dataclass
class Row:
    """What became of one order: how its run ended, or why it was refused before or while it ran."""

    order_id: str
    customer: str
    outcome: grctl.Outcome[Receipt] | None = None
    refusal: str = ""

    @property
    def end(self) -> str:
        return "refused" if self.outcome is None else str(self.outcome.status)

    @property
    def amount(self) -> Decimal | None:
        return None if self.outcome is None or self.outcome.result is None else self.outcome.result.total

    @property
    def seconds(self) -> float:
        run = None if self.outcome is None else self.outcome.run
        return (run.completed_at - run.created_at).total_seconds() if run and run.completed_at else 0.0

    @property
    def remark(self) -> str:
        if self.outcome is None:
            return self.refusal
        if self.outcome.result is not None:
            receipt = self.outcome.result
            approval = f", approved by {receipt.approved_by}" if receipt.approved_by else ""
            return ("1 parcel" if receipt.parcels == 1 else f"{receipt.parcels} parcels") + approval
        if self.outcome.error is not None:
            return f"{self.outcome.error.type}: {self.outcome.error.message}"
        if self.outcome.status == grctl.RunStatus.TIMED_OUT and self.outcome.run.timeout:
            return f"not ended within its {self.outcome.run.timeout.total_seconds():g} s: it was {WAITING}"
        return self.outcome.reason

    @property
    def advice(self) -> str:
        if self.outcome is None:
            return "see what the refusal says"
        if self.outcome.error is not None:
            return ADVICE.get(self.outcome.error.type, "look at its history")
        if self.outcome.status == grctl.RunStatus.TIMED_OUT:
            return "find somebody to approve it, then start the order again"
        return ""


@dataclass
class Board:
    """What is shown while the orders run: a line that moves on a terminal, else a line for each end."""

    console: Console
    total: int
    stages: dict[str, str] = field(default_factory=dict)
    done: int = 0

    def ended(self, row: Row) -> None:
        self.stages.pop(row.order_id, None)
        self.done += 1
        if not self.console.is_terminal:
            self.console.print(f"{self.done:>3} of {self.total}: {escape(row.order_id)} {ENDS[row.end]}")

    def __rich__(self) -> Table:
        stages = Counter(self.stages.values())
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(self.total, self.done, width=20),
            f"{self.done} of {self.total} orders have ended",
            "[dim]" + ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items())),
        )
        return grid


async def process(client: grctl.Client, record: dict[str, Any], board: Board) -> Row:
    """Start one order, do what people do about it, and wait for its end."""
    order = record["order"]
    row = Row(str(order["order_id"]), str(order.get("customer", "")))
    try:
        handle = await client.start_workflow(
            workflow_type="ProcessOrder",
            workflow_id=order["order_id"],
            workflow_input=order,
            workflow_timeout=timedelta(seconds=record.get("workflow_timeout", 60)),
            result_type=Receipt,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(handle, board))
            row.refusal = await act(handle, record.get("then", []))
            row.outcome = await handle.outcome()
    except grctl.GrctlError as error:
        row.refusal = str(error)
    board.ended(row)
    return row


async def act(handle: grctl.WorkflowHandle[Receipt], actions: list[dict[str, Any]]) -> str:
    """Do what people do about an order; return why the order took no more of it, if it did not."""
    for action in actions:
        await asyncio.sleep(0.5)  # people take their time
        try:
            if "cancel" in action:
                await handle.cancel(action["cancel"])
            else:
                await handle.send(action["send"], action.get("payload"))
        except (grctl.RefusedError, grctl.InvalidInputError) as error:
            return str(error)
    return ""


async def follow(handle: grctl.WorkflowHandle[Receipt], board: Board) -> None:
    """Keep the board up to date with the stage that an order is in; it is a courtesy, and fails nothing."""
    with contextlib.suppress(grctl.GrctlError):
        async for event in handle.history(follow=True):
            if event.kind == "step.started":
                board.stages[handle.run_info.wf_id] = STAGES.get(event.data["step_name"], "deciding")
            elif event.kind == "wait.started":
                board.stages[handle.run_info.wf_id] = WAITING


def report(console: Console, rows: list[Row]) -> None:
    """Print what became of each order, and what is left to do."""
    wide = console.width >= 80
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("order", no_wrap=True)
    if wide:
        table.add_column("customer", no_wrap=True)
    table.add_column("end", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("", min_width=16, overflow="fold")
    table.add_column("took", justify="right", no_wrap=True)
    for row in rows:
        amount = "" if row.amount is None else f"{row.amount:.2f}"
        cells = [escape(row.order_id), ENDS[row.end], amount, escape(row.remark), f"{row.seconds:.1f} s"]
        if wide:
            cells.insert(1, escape(row.customer))
        table.add_row(*cells)
    console.print(table)

    shipped = [row.amount for row in rows if row.amount is not None]
    console.print(f"[bold]{len(shipped)} of {len(rows)} orders shipped, {sum(shipped, Decimal(0)):.2f} in all.")
    to_do = [row for row in rows if row.advice]
    console.print("To do:" if to_do else "Nothing is left to do.")
    for row in to_do:
        console.print(f"  {escape(row.order_id)}  {row.advice}")


def read_orders(path: Path) -> list[dict[str, Any]]:
    """Read the file; end the program with a word on what is wrong with it."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}")
    except ValueError as error:
        sys.exit(f"{path} is no JSON: {error}")
    for number, record in enumerate(records if isinstance(records, list) else [records], 1):
        order = record.get("order") if isinstance(record, dict) else None
        if not isinstance(order, dict) or "order_id" not in order:
            sys.exit(f'{path}: record {number} must look like {{"order": {{"order_id": ...}}, "then": [...]}}')
    return list(records)


async def main(path: Path) -> None:
    records = read_orders(path)
    console = Console()
    board = Board(console, len(records))
    async with await grctl.connect("memory://", workflows=workflows) as connection:
        client = grctl.Client(connection=connection)
        with Live(board, console=console, refresh_per_second=10, transient=True):
            rows = await asyncio.gather(*(process(client, record, board) for record in records))
    report(console, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).with_name("orders.json"), metavar="FILE")
    try:
        asyncio.run(main(parser.parse_args().file))
    except KeyboardInterrupt:
        sys.exit("interrupted; the orders went with this process, as the embedded engine keeps nothing")
