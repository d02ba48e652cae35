from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import grctl
from grctl.testing import PluginContract, RecordingTransport, fail, hold
from grctl_audit import AuditError, AuditPlugin, acting_as


def rows(file: Path, columns: str = "who, workflow_id, result") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return database.execute(f"SELECT {columns} FROM starts ORDER BY number").fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.sqlite3"


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


class TestContract(PluginContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.file = tmp_path / "audit.sqlite3"

    def make_plugin(self) -> AuditPlugin:
        return AuditPlugin(self.file)

    async def close_plugin(self, plugin: Any) -> None:
        await plugin.aclose()


def test_who_started_what(file: Path) -> None:
    async def main() -> None:
        audit = AuditPlugin(file)
        transport = RecordingTransport()
        client = grctl.Client(connection=transport, plugins=[audit])
        with acting_as("mia"):
            first = await client.start_workflow("Order", "order-1", {"card": "4111"})
            starting = asyncio.create_task(client.start_workflow("Order", "order-2"))
        await starting
        with acting_as("tom"), pytest.raises(grctl.WorkflowAlreadyRunningError):
            await client.start_workflow("Order", "order-1")
        attached = await client.start_workflow("Order", "order-1", on_conflict="attach")
        assert attached.run_info.id == first.run_info.id
        transport.on("start", fail(grctl.NotSentError("no link")))
        with pytest.raises(grctl.NotSentError):
            await client.start_workflow("Order", "order-3")
        await audit.aclose()
        assert rows(file, "workflow_type, run_id")[0] == ("Order", first.run_info.id)
        assert rows(file, "run_id")[3] == (first.run_info.id,)

    asyncio.run(main())
    assert rows(file) == [
        ("mia", "order-1", "started"),
        ("mia", "order-2", "started"),
        ("tom", "order-1", "WorkflowAlreadyRunningError"),
        (None, "order-1", "attached"),
        (None, "order-3", "NotSentError"),
    ]
    assert b"4111" not in file.read_bytes()


def test_the_row_is_there_before_the_start_is_sent(file: Path) -> None:
    async def main() -> None:
        audit = AuditPlugin(file, who=lambda: "mia")
        transport = RecordingTransport()
        held = transport.on("start", hold())
        client = grctl.Client(connection=transport, plugins=[audit])
        starting = asyncio.create_task(client.start_workflow("Order", "order-1"))
        await held.reached()
        assert rows(file) == [("mia", "order-1", None)]
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await audit.aclose()
        assert rows(file) == [("mia", "order-1", "CancelledError")]

    asyncio.run(main())


def test_a_hundred_at_once_in_order_and_again_after_closing(file: Path) -> None:
    async def main() -> None:
        audit = AuditPlugin(file)
        client = grctl.Client(connection=RecordingTransport(), plugins=[audit])
        await asyncio.gather(*(client.start_workflow("Order", f"order-{number}") for number in range(100)))
        await audit.aclose()
        await audit.aclose()
        await client.start_workflow("Order", "order-100")
        await audit.aclose()

    asyncio.run(main())
    assert rows(file) == [(None, f"order-{number}", "started") for number in range(101)]


def test_starts_while_it_is_closed(file: Path) -> None:
    async def main() -> None:
        audit = AuditPlugin(file)
        client = grctl.Client(connection=RecordingTransport(), plugins=[audit])
        for number in range(20):
            closing = [asyncio.create_task(audit.aclose()) for _ in range(2)]
            await client.start_workflow("Order", f"order-{number}")
            await asyncio.gather(*closing)
        await audit.aclose()

    asyncio.run(main())
    assert rows(file) == [(None, f"order-{number}", "started") for number in range(20)]


@pytest.mark.parametrize("required", [True, False])
def test_a_locked_file(file: Path, required: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        audit = AuditPlugin(file, required=required, patience=0.05)
        transport = RecordingTransport()
        client = grctl.Client(connection=transport, plugins=[audit])
        await client.start_workflow("Order", "order-1")
        await audit.aclose()
        with locked(file):
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.001)

            ticking = asyncio.create_task(tick())
            if required:
                with pytest.raises(AuditError, match=r"'order-2' was not started.*locked"):
                    await client.start_workflow("Order", "order-2")
            else:
                await client.start_workflow("Order", "order-2")
            ticking.cancel()
            assert ticks > 1, "the event loop stood still"
        assert len(transport.sent("start")) == (1 if required else 2)
        await client.start_workflow("Order", "order-3")
        await audit.aclose()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert [row[1] for row in rows(file)] == ["order-1", "order-3"]
    assert ("order-2" in caplog.text) == (not required)


def test_a_file_that_cannot_be_there(tmp_path: Path) -> None:
    async def main() -> None:
        audit = AuditPlugin(tmp_path / "nowhere" / "audit.sqlite3")
        transport = RecordingTransport()
        client = grctl.Client(connection=transport, plugins=[audit])
        with pytest.raises(AuditError, match="unable to open"):
            await client.start_workflow("Order", "order-1")
        assert not transport.attempts
        (tmp_path / "nowhere").mkdir()
        await client.start_workflow("Order", "order-1")
        await audit.aclose()

    asyncio.run(main())


def test_a_broken_file(file: Path) -> None:
    file.write_bytes(b"this is no database" * 100)

    async def main() -> None:
        audit = AuditPlugin(file)
        client = grctl.Client(connection=RecordingTransport(), plugins=[audit])
        with pytest.raises(AuditError, match="not a database"):
            await client.start_workflow("Order", "order-1")
        await audit.aclose()

    asyncio.run(main())


def test_a_result_that_cannot_be_written_harms_nobody(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        audit = AuditPlugin(file, patience=0.05)
        transport = RecordingTransport()
        held = transport.on("start", hold())
        client = grctl.Client(connection=transport, plugins=[audit])
        starting = asyncio.create_task(client.start_workflow("Order", "order-1"))
        await held.reached()
        with locked(file):
            held.release()
            await starting
            await audit.aclose()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert rows(file) == [(None, "order-1", None)]
    assert "is not recorded" in caplog.text


def test_it_is_installed_and_what_is_queued_at_exit_is_written(file: Path) -> None:
    program = """
import asyncio, grctl
from grctl.testing import RecordingTransport
from grctl_audit import acting_as

async def main():
    client = grctl.Client(connection=RecordingTransport())
    assert client.plugins.names == ("audit",)
    with acting_as("mia"):
        await client.start_workflow("Order", "order-1")

asyncio.run(main())
"""
    environment = {"GRCTL_PLUGINS": "audit", "GRCTL_AUDIT_FILE": str(file)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    assert rows(file) == [("mia", "order-1", "started")]


def test_patience(file: Path) -> None:
    with pytest.raises(grctl.InvalidInputError, match="patience"):
        AuditPlugin(file, patience=0)
