"""The smallest whole program: a workflow, an engine to run it, a client that waits for its result."""

import asyncio

import grctl
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

greeting = Workflow(workflow_type="Greeting")


@greeting.start()
async def start(ctx: Context, name: str) -> Directive:
    return ctx.next.complete(f"Hello, {name}!")


async def main() -> None:
    async with await grctl.connect("memory://", workflows=[greeting]) as connection:
        client = grctl.Client(connection=connection)
        print(await client.run_workflow("Greeting", "greeting-1", {"name": "Ada"}))


if __name__ == "__main__":
    asyncio.run(main())
