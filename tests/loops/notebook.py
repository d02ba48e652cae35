"""A notebook, executed by a real kernel: the calls at top level, in one event loop over all cells.

    python tests/loops/notebook.py

.ci/run does that, in an environment with ipykernel and nbclient.
"""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient

CELLS = [
    """\
import grctl
from grctl.nats.connection import Connection
from grctl.testing import DevServer
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

order = Workflow(workflow_type="Order")

@order.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.wait()

@order.event()
async def paid(ctx: Context, by: str) -> Directive:
    return ctx.next.complete(f"paid by {by}")
""",
    """\
server = DevServer([order])
await server.start()
connection = await Connection.connect(server.url)
client = grctl.Client(connection=connection)
handle = await client.start_workflow("Order", "order-1")
""",
    """\
await handle.send("paid", {"by": "Ada"})
print(await handle.result(timeout=60))
print(await Connection.connect(server.url) is connection)
""",
    """\
async with await grctl.connect("memory://", workflows=[order]) as embedded:
    handle = await grctl.Client(connection=embedded).start_workflow("Order", "order-2")
    await handle.send("paid", {"by": "Ben"})
    print(await handle.result(timeout=60))
""",
    """\
import asyncio
try:
    asyncio.run(client.start_workflow("Order", "order-3"))  # not here: a loop is running already
except RuntimeError as error:
    print(error)
""",
    """\
await connection.close()
await server.stop()
print([task.get_name() for task in asyncio.all_tasks() if "grctl" in task.get_name()])
""",
]
PRINTED = [
    "",
    "",
    "paid by Ada\nTrue\n",
    "paid by Ben\n",
    "asyncio.run() cannot be called from a running event loop\n",
    "[]\n",
]


def main() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell, expected in zip(notebook.cells, PRINTED, strict=True):
        outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        printed = "".join(output.get("text", "") for output in outputs)
        assert printed == expected, f"{cell.source}\n# printed {printed!r} instead of {expected!r}"
        warned = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert not warned or "was never awaited" in warned[0], warned  # of the call that asyncio.run() refused
    print(f"{len(CELLS)} cells are as they should be")


if __name__ == "__main__":
    main()
