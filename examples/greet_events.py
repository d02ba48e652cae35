"""A session: a workflow that waits for events, and a client that sends them."""

import asyncio
from datetime import timedelta

import grctl
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

greet_events = Workflow(workflow_type="GreetEvents")


@greet_events.start()
async def start(ctx: Context, name: str) -> Directive:
    ctx.store.put("name", name)
    return ctx.next.wait(timeout=timedelta(minutes=5))


@greet_events.event()
async def greet(ctx: Context) -> Directive:
    name = await ctx.store.get("name", str)
    ctx.store.put("said", f"Hello, {name}!")
    return ctx.next.wait(timeout=timedelta(minutes=5))


@greet_events.event()
async def farewell(ctx: Context) -> Directive:
    name = await ctx.store.get("name", str)
    said = await ctx.store.get("said", str)
    return ctx.next.complete(f"{said} Goodbye, {name}!")


workflows = [greet_events]


async def main() -> None:
    async with await grctl.connect("memory://", workflows=workflows) as connection:
        client = grctl.Client(connection=connection)
        handle = await client.start_workflow("GreetEvents", "greet-cem", {"name": "Cem"})
        await handle.send("greet")
        await handle.send("farewell")
        print(await asyncio.wait_for(handle.future, timeout=60))

        print("\nWhat happened:")
        async for event in handle.history():
            print(f"  {event.timestamp:%H:%M:%S.%f}  {event.kind:16} {event.data.get('step_name', '')}")


if __name__ == "__main__":
    asyncio.run(main())
