"""``grctl-client workflow``, against a development server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal

import nats
import pytest

from .conftest import PATIENCE, Cli
from .flows import EVIL

ULID = r"[0-9A-Z]{26}"


async def test_start_gives_an_id_where_none_is_given_and_prints_it(cli):
    done = await cli("workflow", "start", "--type", "Greeting", "--input", '{"name": "Ada"}')
    assert done.code == 0, done
    assert done.err == ""
    found = re.fullmatch(rf"(Greeting-[0-9a-z]{{10}})\t({ULID})\n", done.out)
    assert found, done.out
    done = await cli("workflow", "result", "-i", found[1], "--run-id", found[2])
    assert done == (0, '"Hello, Ada!"\n', "")


async def test_run_prints_the_result_and_nothing_else(cli):
    done = await cli.process("workflow", "run", "-t", "Greeting", "-i", "greeting-1", "-I", '{"name": "Zoë"}')
    assert done == (0, '"Hello, Zoë!"\n', "")


async def test_run_with_json_prints_the_outcome_also_of_a_failure(cli):
    done = await cli.process("workflow", "run", "-t", "Evil", "-i", "evil-1", "--json")
    assert done.code == 1
    (line,) = done.out.splitlines()
    outcome = json.loads(line)
    assert outcome["workflow_id"] == "evil-1"
    assert outcome["status"] == "failed"
    assert outcome["error"]["type"] == "RuntimeError"
    assert outcome["error"]["message"] == EVIL
    assert done.err.startswith("grctl-client: workflow 'evil-1' (run ")


async def test_values_that_json_has_not(cli):
    done = await cli("workflow", "run", "-t", "Kinds", "-i", "kinds-1")
    assert done.code == 0
    assert json.loads(done.out) == {
        "bytes": "AP8=",
        "when": "2026-07-01T12:00:00Z",
        "nan": "nan",
        "text": "Zoë 日本",
        "keys": {"7": 1},
    }
    assert "日本" in done.out


async def test_an_order_from_start_to_end(cli):
    assert (await cli("workflow", "start", "-t", "Order", "-i", "order-1", "-I", '{"order_id": "A"}')).code == 0
    done = await cli("workflow", "describe", "-i", "order-1", "--json")
    described = json.loads(done.out)
    assert described["status"] == "running"
    assert described["activity"]["doing"] == "waiting for an event, 2 h at most, then it fails"

    done = await cli("workflow", "result", "-i", "order-1", "--timeout", "50ms")
    assert done.code == 6
    assert "has not ended within 0.05 s; it goes on" in done.err

    done = await cli("workflow", "send", "-i", "order-1", "-e", "aprove", "-I", '{"by": "Mia"}')
    assert done.code == 2
    assert "has no event 'aprove': it has 'approve'" in done.err
    assert "--unchecked" in done.err
    done = await cli("workflow", "send", "-i", "order-1", "-e", "approve", "-I", '{"by": "Mia"}', "--json")
    assert done.code == 0
    assert json.loads(done.out) == {
        "workflow_id": "order-1",
        "run_id": described["run_id"],
        "accepted": True,
        "event": "approve",
    }
    done = await cli("workflow", "result", "-i", "order-1")
    assert done == (0, '{"approved_by": "Mia"}\n', "")

    done = await cli("workflow", "history", "-i", "order-1", "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [events[0]["kind"], events[-1]["kind"]] == ["run.started", "run.completed"]
    assert events[-1]["data"]["result"] == {"approved_by": "Mia"}
    done = await cli("workflow", "history", "-i", "order-1")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[2] for row in rows] == [event["kind"] for event in events]
    assert json.loads(rows[0][3]) == {"input": {"order_id": "A"}}

    done = await cli("workflow", "describe", "-i", "order-1")
    assert dict(line.split("\t") for line in done.out.splitlines())["status"] == "completed"


async def test_the_ends_that_somebody_asks_for(cli):
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    assert (await cli("workflow", "cancel", "-i", "order-1", "--reason", "no stock")) == (0, "", "")
    done = await cli("workflow", "result", "-i", "order-1", "--json")
    assert done.code == 1
    assert json.loads(done.out)["status"] == "cancelled"
    assert "was cancelled: no stock" in done.err
    done = await cli("workflow", "cancel", "-i", "order-1")
    assert done.code == 4
    assert "has ended (cancelled)" in done.err

    await cli("workflow", "start", "-t", "Order", "-i", "order-2")
    done = await cli("workflow", "terminate", "-i", "order-2", "--reason", "stuck", "--json")
    assert json.loads(done.out)["accepted"] is True
    done = await cli("workflow", "result", "-i", "order-2")
    assert done.code == 1
    assert done.out == ""
    assert "was terminated: stuck" in done.err


async def test_a_workflow_that_exceeds_its_timeout_exits_with_6(cli):
    done = await cli("workflow", "run", "-t", "Order", "-i", "order-1", "--workflow-timeout", "300ms", "--json")
    assert done.code == 6, done
    assert json.loads(done.out)["status"] == "timed_out"


async def test_list(cli, server):
    for number in range(3):
        await cli("workflow", "start", "-t", "Greeting", "-i", f"greeting-{number}", "-I", '{"name": "Ada"}')
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    await server.settled()
    rows = [line.split("\t") for line in (await cli("workflow", "list")).out.splitlines()]
    assert [row[0] for row in rows] == ["order-1", "greeting-2", "greeting-1", "greeting-0"]
    assert [row[2] for row in rows] == ["running", "completed", "completed", "completed"]
    done = await cli("workflow", "list", "--json", "--limit", "2")
    assert [json.loads(line)["workflow_id"] for line in done.out.splitlines()] == ["order-1", "greeting-2"]
    for filters, ids in [
        (["--type", "Order"], ["order-1"]),
        (["--status", "running"], ["order-1"]),
        (["--id-prefix", "greeting-", "--all"], ["greeting-2", "greeting-1", "greeting-0"]),
        (["--created-after", "1h", "-t", "Order"], ["order-1"]),
        (["--created-before", "1h"], []),
        (["--created-after", "2100-01-01"], []),
    ]:
        done = await cli("workflow", "list", *filters)
        assert done.code == 0
        assert [line.split("\t")[0] for line in done.out.splitlines()] == ids, filters


async def test_history_follows_a_run_to_its_end(cli, gate):
    await cli("workflow", "start", "-t", "Slow", "-i", "slow-1")
    process = await cli.start("workflow", "history", "-i", "slow-1", "--follow", "--json")
    assert process.stdout is not None
    kinds = []
    async with asyncio.timeout(PATIENCE):
        while "step.started" not in kinds:
            kinds.append(json.loads(await process.stdout.readline())["kind"])
        gate.set()
        rest, err = await process.communicate()
    kinds += [json.loads(line)["kind"] for line in rest.splitlines()]
    assert kinds[-1] == "run.completed"
    assert process.returncode == 0
    assert err == b""


async def test_ctrl_c_ends_the_following_and_not_the_workflow(cli, gate):
    await cli("workflow", "start", "-t", "Slow", "-i", "slow-1")
    process = await cli.start("workflow", "history", "-i", "slow-1", "--follow")
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130, err
    assert b"interrupted: workflow 'slow-1' (run " in err
    assert b"Traceback" not in err
    gate.set()
    assert (await cli("workflow", "result", "-i", "slow-1")).out == '"done"\n'


async def test_watch_in_a_pipe_writes_what_history_writes(cli, gate):
    await cli("workflow", "start", "-t", "Slow", "-i", "slow-1")
    for form in ((), ("--json",)):
        process = await cli.start("workflow", "watch", "-i", "slow-1", *form)
        assert process.stdout is not None
        shown = b""
        async with asyncio.timeout(PATIENCE):
            while b"step.started" not in shown:
                shown += await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert process.returncode == 130
        assert re.fullmatch(rf"grctl-client: interrupted: workflow 'slow-1' \(run {ULID}\) goes on\n", err.decode())
    gate.set()
    watched = await cli("workflow", "watch", "-i", "slow-1")
    assert watched.code == 0
    assert watched.out == (await cli("workflow", "history", "-i", "slow-1")).out
    assert watched.out.splitlines()[-1].split("\t")[2] == "run.completed"
    watched = await cli("workflow", "watch", "-i", "slow-1", "--json")
    *events, end = watched.out.splitlines()
    assert events == (await cli("workflow", "history", "-i", "slow-1", "--json")).out.splitlines()
    assert json.loads(end)["result"] == "done"


async def test_watching_a_run_that_fails(cli):
    await cli("workflow", "run", "-t", "Evil", "-i", "evil-1")
    done = await cli("workflow", "watch", "-i", "evil-1")
    assert done.code == 1
    harmless(done.out + done.err)
    assert "failed: RuntimeError" in done.err
    assert (await cli("workflow", "watch", "-i", "evil-1", "--json")).code == 1


async def test_a_timeline_and_a_picture(cli):
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    done = await cli("workflow", "history", "-i", "order-1", "--timeline", "--svg", "order.svg")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Order order-1  running for")
    assert "waiting" in done.out
    picture = (cli.folder / "order.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg")
    assert "order-1" in picture
    done = await cli.process("workflow", "history", "-i", "order-1", "--svg", "/dev/stdout")
    assert (done.code, done.out[:4]) == (0, "<svg")
    done = await cli("workflow", "history", "-i", "order-1", "--svg", "missing/order.svg")
    assert done.code == 1
    assert (done.out, done.err) == ("", "Error: Could not open file 'missing/order.svg': No such file or directory\n")
    await cli("workflow", "run", "-t", "Evil", "-i", "evil-1")
    done = await cli("workflow", "history", "-i", "evil-1", "--timeline")
    harmless(done.out)
    assert "RuntimeError" in done.out


async def test_records_that_cannot_be_read_are_named_and_hide_no_others(cli, server):
    await cli("workflow", "run", "-t", "Greeting", "-i", "greeting-1", "-I", '{"name": "Ada"}')
    await server.settled()
    broker = await nats.connect(server.url)
    await broker.jetstream().publish("grctl_run.Greeting.lost-1.no-run.info", b"\xc1")
    await broker.close()
    done = await cli("workflow", "list")
    assert done.code == 1
    assert done.out.startswith("greeting-1\tGreeting\tcompleted\t")
    assert "1 of the stored records cannot be read" in done.err
    assert "grctl_run.Greeting.lost-1.no-run.info" in done.err


async def test_following_has_an_end_where_one_is_set(cli):
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    done = await cli("workflow", "history", "-i", "order-1", "--follow", "--timeout", "2s")
    assert done.code == 6
    assert done.out.splitlines()[0].split("\t")[2] == "run.started"
    assert "goes on" in done.err


async def test_an_output_that_cannot_be_written(cli):
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    full = os.open("/dev/full", os.O_WRONLY)
    process = await cli.start("workflow", "list", stdout=full)
    os.close(full)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    assert err == b"grctl-client: the output cannot be written: No space left on device\n"


NO_SUCH_RUN = [
    ("result",),
    ("describe",),
    ("history",),
    ("history", "--timeline"),
    ("watch",),
    ("cancel",),
    ("terminate",),
    ("send", "-e", "approve"),
    ("query", "-q", "progress"),
]


async def test_an_unknown_id_is_not_found(cli):
    old = ("--run-id", "01M839GBNGZ7PATEADA27479M9")
    commands = [*NO_SUCH_RUN, ("describe", *old), ("cancel", *old)]
    for done in await asyncio.gather(*[cli("workflow", *command, "-i", "nobody-has-this") for command in commands]):
        assert done.code == 3, done
        assert done.out == ""
        assert "'nobody-has-this' is not known" in done.err


ALL = [("start", "-t", "Greeting"), ("run", "-t", "Greeting"), ("result",), ("watch",), ("send", "-e", "approve")]


async def test_without_a_server(open_cli, unused_tcp_port):
    cli = open_cli(f"nats://127.0.0.1:{unused_tcp_port}")
    cli.patience = "300ms"
    for done in await asyncio.gather(*[cli("workflow", *command, "-i", "order-1") for command in ALL]):
        assert done.code == 5, done
        assert done.out == ""
        said = f"grctl-client: nobody listens on nats://127.0.0.1:{unused_tcp_port}: start the server"
        assert done.err.startswith(said)
        assert len(done.err.splitlines()) == 1
        assert "--server-url" in done.err


async def test_refusals(cli):
    done = await cli("workflow", "start", "-t", "Greting")
    assert done.code == 4
    assert "no worker has registered the workflow type 'Greting'" in done.err
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    done = await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    assert done.code == 4
    assert "--on-conflict attach" in done.err
    assert (await cli("workflow", "start", "-t", "Order", "-i", "order-1", "--on-conflict", "attach")).code == 0
    done = await cli("workflow", "query", "-i", "order-1", "-q", "progress")
    assert done.code == 4
    assert "answers no queries" in done.err


async def test_the_address_is_taken_before_and_behind_the_command(server, open_cli):
    cli = open_cli(None)
    assert (await cli("-s", server.url, "workflow", "list")).code == 0
    assert (await cli("workflow", "list", "--server-url", server.url)).code == 0
    assert (await cli("-s", "nats://127.0.0.1:1", "workflow", "list", "--server-url", server.url)).code == 0
    done = await cli("-s", server.url, "workflow", "list", "--credentials", "no-such-file")
    assert done.code == 2
    assert "credentials: there is no file 'no-such-file'" in done.err
    done = await cli("-s", "memory://", "workflow", "list")
    assert done.code == 2
    assert "grctl-client dev MODULE:OBJECT" in done.err


async def test_what_a_terminal_would_act_on_is_shown_and_not_acted_on(cli):
    done = await cli("workflow", "run", "-t", "Evil", "-i", "evil-1")
    assert done.code == 1
    harmless(done.err)
    assert "\\x1b[31mred" in done.err
    assert "[bold]loud[/bold] [/]" in done.err
    for arguments in (
        ["workflow", "describe", "-i", "evil-1"],
        ["workflow", "describe", "-i", "evil-1", "--json"],
        ["workflow", "history", "-i", "evil-1"],
        ["workflow", "history", "-i", "evil-1", "--json"],
        ["workflow", "run", "-t", "Evil", "-i", "evil-2", "-I", '{"how": "complete"}'],
    ):
        done = await cli(*arguments)
        assert done.code == 0
        harmless(done.out)
        if "--json" in arguments:
            assert EVIL in json.dumps([json.loads(line) for line in done.out.splitlines()], ensure_ascii=False) or all(
                json.loads(line) for line in done.out.splitlines()
            )
    done = await cli("workflow", "result", "-i", "evil-2")
    assert json.loads(done.out) == {EVIL: EVIL}
    await cli("workflow", "start", "-t", "Order", "-i", "order-1")
    assert (await cli("workflow", "cancel", "-i", "order-1", "--reason", EVIL)).code == 0
    done = await cli("workflow", "result", "-i", "order-1", "--json")
    harmless(done.out + done.err)
    assert json.loads(done.out)["reason"] == EVIL


def harmless(text: str) -> None:
    assert not [character for character in text if not character.isprintable() and character not in "\n\t"], text


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["rows", "json"])
async def test_a_reader_who_has_had_enough(cli: Cli, form):
    for number in range(3):
        await cli("workflow", "start", "-t", "Greeting", "-i", f"greeting-{number}", "-I", '{"name": "Ada"}')
    for command in (["workflow", "list"], ["workflow", "history", "-i", "greeting-0"], ["doctor"]):
        process = await cli.start(*command, *form)
        assert process.stdout is not None
        process._transport.get_pipe_transport(1).close()
        assert process.stderr is not None
        err = await asyncio.wait_for(process.stderr.read(), PATIENCE)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        assert err == b""


async def test_an_output_that_is_not_utf_8(cli):
    cli.env["PYTHONIOENCODING"] = "ascii"
    done = await cli.process("workflow", "run", "-t", "Greeting", "-i", "grüße-1", "-I", '{"name": "Zoë 😀"}')
    assert done == (0, '"Hello, Zo\\u00eb \\ud83d\\ude00!"\n', "")
    assert json.loads(done.out) == "Hello, Zoë 😀!"
    done = await cli.process("workflow", "list")
    assert done.code == 0
    assert done.out.startswith("gr\\xfc\\xdfe-1\tGreeting\t")
