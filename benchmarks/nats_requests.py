"""What a request over NATS costs the client, beside plain ``nc.request()``, and what a waiting handle weighs.

    python benchmarks/nats_requests.py [--requests N] [--waits N]

Broker and responder are processes of their own; ours and the reference take turns in one run. The reference sends the
same command, encoded by msgspec, and decodes the reply: no client is cheaper without doing less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import nats

import grctl
from grctl.dev_server.broker import Broker
from grctl.nats.connection import Connection
from grctl_core.run import RunInfo, RunStatus
from grctl_nats import wire

_STREAM = {
    "name": "grctl_state",
    "subjects": ["grctl_run.>", "grctl_state.>", "grctl_history.>", "grctl_registry.>", "grctl_events.>"],
    "storage": "memory",
    "allow_direct": True,
}
_INPUT = {"order_id": "abc-123", "amount": 49.99}


async def respond(url: str) -> None:
    """Answer every command with success, as fast as it gets."""
    nc = await nats.connect(url)
    await nc.request("$JS.API.STREAM.CREATE.grctl_state", msgspec.json.encode(_STREAM))
    yes = msgspec.msgpack.encode({"success": True})

    async def answer(message: nats.aio.msg.Msg) -> None:
        await nc.publish(message.reply, yes)

    await nc.subscribe("grctl_api.>", cb=answer)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def measure(call: Callable[[int], Awaitable[object]], requests: int, at_once: int) -> tuple[float, float]:
    """Return seconds of wall time and of CPU per call."""
    numbers = iter(range(requests))

    async def work() -> None:
        for number in numbers:
            await call(number)

    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.perf_counter() - wall) / requests, (time.process_time() - cpu) / requests


async def compare(url: str, requests: int, rounds: int) -> None:
    """Print cost of a start beside the reference, at several numbers of calls at once."""
    nc = await nats.connect(url)
    async with await Connection.open(url) as connection:
        client = grctl.Client(connection=connection)

        async def ours(number: int) -> None:
            await client.start_workflow("ProcessOrder", f"order-{number}", _INPUT)

        async def reference(number: int) -> None:
            now = datetime.now(UTC)
            wf_id = f"order-{number}"
            run = {"id": "01M82CM2EPSQNNVV4233NRWD1P", "wf_id": wf_id, "wf_type": "ProcessOrder", "created_at": now}
            inner = msgspec.msgpack.encode({"run_info": run, "input": _INPUT})
            body = {"id": "01M82CM2EPSQNNVV4233NRWD1Q", "k": "run.start", "m": inner, "t": now, "s": "c_0123abcd@host"}
            reply = await nc.request(f"grctl_api.workflow.{wf_id}", msgspec.msgpack.encode(body), timeout=5)
            msgspec.msgpack.decode(reply.data)

        print(f"{'at once':>8} {'':>10} {'us CPU':>8} {'per second':>11}   ratio of CPU, ours to the reference")
        for at_once in (1, 64, 512):
            count = requests if at_once > 1 else requests // 4
            costs: dict[str, list[tuple[float, float]]] = {"ours": [], "reference": []}
            for _ in range(rounds):
                costs["ours"].append(await measure(ours, count, at_once))
                costs["reference"].append(await measure(reference, count, at_once))
            cpu = {name: statistics.median(cost[1] for cost in all_) for name, all_ in costs.items()}
            for name, all_ in costs.items():
                wall = statistics.median(cost[0] for cost in all_)
                ratio = f"   {cpu['ours'] / cpu['reference']:.2f}" if name == "ours" else ""
                print(f"{at_once:>8} {name:>10} {cpu[name] * 1e6:>8.0f} {1 / wall:>11,.0f}{ratio}")
    await nc.close()


async def weigh(url: str, waits: int) -> None:
    """Print what one waiting handle weighs."""
    nc = await nats.connect(url)
    js = nc.jetstream()
    ids = [f"{number:026d}" for number in range(waits)]
    for start in range(0, waits, 500):
        infos = [
            RunInfo(id=id_, wf_id=f"w{id_}", wf_type="T", created_at=datetime.now(UTC), status=RunStatus.RUNNING)
            for id_ in ids[start : start + 500]
        ]
        await asyncio.gather(
            *(js.publish(f"grctl_run.T.{i.wf_id}.{i.id}.info", wire.encode_run_info(i)) for i in infos)
        )
    async with await Connection.open(url) as connection:
        client = grctl.Client(connection=connection)
        tracemalloc.start()
        handles = [await client.get_handle(f"w{id_}", id_) for id_ in ids]
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        futures = [handle.future for handle in handles]
        for future in futures:
            future.add_done_callback(lambda _: None)
        await asyncio.sleep(3)
        gc.collect()
        with_waits = tracemalloc.get_traced_memory()[0]
        print(f"waiting: {(with_waits - before) / waits / 1024:.2f} KB for each of {waits:,} handles waited for")
        bare = {id_: asyncio.get_running_loop().create_future() for id_ in ids}
        gc.collect()
        weight = (tracemalloc.get_traced_memory()[0] - with_waits) / waits / 1024
        print(f"         {weight:.2f} KB for a bare future in a dict, for comparison")
        del bare
        for future in futures:
            future.cancel()
    await nc.close()


async def main(requests: int, rounds: int, waits: int) -> None:
    versions = f"Python {platform.python_version()}, nats-py {version('nats-py')}"
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {versions}")
    with tempfile.TemporaryDirectory() as store:
        broker = Broker(Path(store))
        await broker.start()
        responder = subprocess.Popen([sys.executable, __file__, "--respond", broker.url], stdout=subprocess.PIPE)  # noqa: ASYNC220, S603
        try:
            await asyncio.to_thread(next, iter(responder.stdout or ()))
            await compare(broker.url, requests, rounds)
            await weigh(broker.url, waits)
        finally:
            responder.kill()
            responder.wait()
            if responder.stdout is not None:
                responder.stdout.close()
            await broker.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="requests in each round (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default %(default)s)")
    parser.add_argument("--waits", type=int, default=10_000, help="handles waited for (default %(default)s)")
    parser.add_argument("--respond", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if arguments.respond:
            asyncio.run(respond(arguments.respond))
        else:
            asyncio.run(main(arguments.requests, arguments.rounds, arguments.waits))
