"""Starts a workflow for each message of a queue: once, however often the message is delivered.

    grctl-client dev examples.queue_consumer        a server, and a broker whose JetStream holds the queue
    python examples/queue_consumer.py publish 20    put twenty orders into the queue
    python examples/queue_consumer.py               consume until Ctrl-C or SIGTERM; any number of processes

A message is acknowledged when its workflow is known to have been started, also by an earlier delivery. Where that is
not known it is delivered again. What can never be started goes to a second stream, ORDERS_DEAD, with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import nats
import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import APIError

import grctl
from grctl.nats.connection import Connection
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

__all__ = ["Consumer", "Order", "publish", "set_up", "workflows"]

log = logging.getLogger("orders")

order_workflow = Workflow(workflow_type="QueuedOrder")
workflows = [order_workflow]


@order_workflow.start()
async def start(ctx: Context, order_id: str, total: float) -> Directive:
    await ctx.sleep(timedelta(milliseconds=10))
    return ctx.next.complete({"order_id": order_id, "charged": total})


@dataclass
class Order:
    order_id: str
    total: float


STREAM, SUBJECTS, CONSUMER = "ORDERS", "orders.new", "starter"
DEAD, DEAD_SUBJECTS = "ORDERS_DEAD", "orders.dead"
_SUBJECT_IS_FULL = 10077


async def set_up(js: JetStreamContext, ack_wait: float = 30) -> None:
    """Make the streams, and the consumer that all processes share. Idempotent.

    Each order has a subject of its own, which holds one message at a time: two copies are never in the queue
    together, so they are never handled at the same moment either, by whichever processes.
    """
    await js.add_stream(
        StreamConfig(
            name=STREAM,
            subjects=[f"{SUBJECTS}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
        )
    )
    await js.add_stream(StreamConfig(name=DEAD, subjects=[f"{DEAD_SUBJECTS}.*"]))
    config = ConsumerConfig(durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait, max_deliver=-1)
    await js.add_consumer(STREAM, config)


async def publish(js: JetStreamContext, order: Order) -> bool:
    """Put an order into the queue; False if it is there already. After an error it may be repeated."""
    try:
        await js.publish(f"{SUBJECTS}.{order.order_id}", msgspec.json.encode(order))
    except APIError as error:
        if error.err_code != _SUBJECT_IS_FULL:
            raise
        return False
    return True


# The message is right, and the server cannot be reached or has not answered: tried again, however long that takes.
PASSES_BY = (grctl.ConnectionFailedError, grctl.DeliveryUnknownError, TimeoutError)
# The message itself is wrong: no repetition makes it right.
WRONG = (msgspec.DecodeError, grctl.InvalidInputError)


class Consumer:
    """Starts what the queue holds.

    Args:
        client: starts the workflows.
        js: holds the queue. It may be another broker than the client's.
        ack_wait: seconds after which the broker delivers a message again that it has heard nothing of. One that takes
            longer to handle is given up before that, so no message is ever handled twice at the same time.
        retry_after: seconds until what has failed is delivered again; twice as long each time, a minute at most.
        most: how often a message may be delivered that fails for a reason which does not pass by.
    """

    def __init__(
        self,
        client: grctl.Client,
        js: JetStreamContext,
        *,
        ack_wait: float = 30,
        retry_after: float = 1,
        most: int = 10,
    ) -> None:
        self._client = client
        self._js = js
        self._give_up_after = ack_wait * 0.8
        self._retry_after = retry_after
        self._most = most

    async def run(self, stopping: asyncio.Event, *, batch: int = 50) -> None:
        """Handle messages, a batch at once, until it is time to stop. What has begun by then is finished."""
        queue = await self._js.pull_subscribe_bind(CONSUMER, STREAM)
        while not stopping.is_set():
            try:
                messages = await queue.fetch(batch, timeout=1)
            except TimeoutError:
                continue  # nothing there, or the broker is gone for a moment
            except APIError as error:
                log.warning("the queue does not answer: %s", error)  # a broker that has just started
                await asyncio.sleep(1)
                continue
            async with asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(self.handle(message))

    async def handle(self, message: Msg) -> None:
        """Start what one message asks for, and tell the queue; it delivers again what it is not told of."""
        try:
            error = await self._try_to_start(message)
            if error is None:
                await message.ack()
            elif isinstance(error, WRONG) or not (isinstance(error, PASSES_BY) or self._has_retries(message)):
                await self._bury(message, error)
            else:
                await self._again(message, error)
        except (nats.errors.Error, TimeoutError) as error:
            log.warning("%s: the queue could not be told: %r", message.subject, error)

    async def _try_to_start(self, message: Msg) -> Exception | None:
        try:
            async with asyncio.timeout(self._give_up_after):
                await self.start_once(msgspec.json.decode(message.data, type=Order))
        except Exception as error:  # noqa: BLE001 - a mistake of ours too: one message must not stop the others
            return error
        return None

    def _has_retries(self, message: Msg) -> bool:
        return message.metadata.num_delivered < self._most

    async def start_once(self, order: Order) -> grctl.WorkflowHandle:
        """Start the order's workflow, or find its run, which may have ended."""
        workflow_id = f"order-{order.order_id}"
        try:
            handle = await self._client.get_handle(workflow_id)
        except grctl.WorkflowNotFoundError:
            handle = await self._client.start_workflow("QueuedOrder", workflow_id, order, on_conflict="attach")
            log.info("%s started", workflow_id)
        else:
            log.info("%s had been started: %s", workflow_id, handle.run_info.status)
        return handle

    async def _again(self, message: Msg, error: Exception) -> None:
        times = message.metadata.num_delivered
        delay = min(self._retry_after * 2 ** min(times - 1, 10), 60)
        log.warning("%s failed, delivery %d, again in %g s: %r", message.subject, times, delay, error)
        await message.nak(delay)

    async def _bury(self, message: Msg, error: Exception) -> None:
        """Put a message aside, with the reason. Only when that is stored does the queue let go of it."""
        log.error("%s is put aside: %r", message.subject, error)
        sequence = message.metadata.sequence.stream
        headers = {
            "Reason": " ".join(f"{type(error).__name__}: {error}".split()),
            "Nats-Msg-Id": f"{STREAM}-{sequence}",  # stored once, also when we die before the next line
        }
        await self._js.publish(f"{DEAD_SUBJECTS}.{sequence}", message.data, headers=headers)
        await message.term()


async def consume(ack_wait: float) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with await Connection.open() as connection:  # first: it gives up where nobody answers
        queue = await nats.connect(SERVERS, max_reconnect_attempts=-1)
        try:
            js = queue.jetstream()
            await set_up(js, ack_wait)
            log.info("consuming")
            await Consumer(grctl.Client(connection=connection), js, ack_wait=ack_wait).run(stopping)
            log.info("stopped")
        finally:
            await queue.close()


async def publish_orders(count: int) -> None:
    async with await nats.connect(SERVERS, allow_reconnect=False) as queue:
        js = queue.jetstream()
        await set_up(js)
        for number in range(1, count + 1):
            print(
                f"order {number}:", "queued" if await publish(js, Order(f"{number}", 9.5)) else "in the queue already"
            )


SERVERS = os.environ.get("GRCTL_NATS_SERVERS", "nats://localhost:4225").split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ack-wait", type=float, default=30, help="seconds until a message is delivered again")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("publish", help="put orders into the queue").add_argument("count", type=int)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    try:
        asyncio.run(publish_orders(given.count) if given.command == "publish" else consume(given.ack_wait))
    except (grctl.GrctlError, nats.errors.Error) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
