"""A session: one connection, for as long as one command takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from grctl.cli.exits import CommandError, ExitCode
from grctl.cli.options import Connecting
from grctl.cli.output import Output, say_error, set_up_logging
from grctl_core.client import WorkflowClient
from grctl_core.errors import UnsupportedOperationError
from grctl_core.protocols import Connection

__all__ = ["Session", "check_server_url", "in_session"]

CONNECT_SECONDS, REQUEST_SECONDS = 3.0, 5.0
"""How long connecting is tried, and how long one request may take. A person waits for the former, so it is less than
what a program would give it."""


class Session:
    """What a command works with.

    Attributes:
        connection: the open connection.
        client: a client over it.
        output: where to write.
        left: what to say about what goes on when the user presses Ctrl-C.
    """

    def __init__(self, connection: Connection, output: Output, request_timeout: float) -> None:
        self.connection = connection
        self.client = WorkflowClient(connection, request_timeout=request_timeout)
        self.output = output
        self.left = ""


def in_session(options: Connecting, output: Output, work: Callable[[Session], Awaitable[int | None]]) -> int:
    """Connect, do the work, close; return the exit code.

    Raises:
        CommandError, GrctlError, TimeoutError: it failed; the text says why.

    """
    set_up_logging(options.log_level or "warning")
    check_server_url(options.server_url)
    sessions: list[Session] = []

    async def main() -> int | None:
        connection = await _connect(options, output)
        try:
            sessions.append(Session(connection, output, options.request_timeout or REQUEST_SECONDS))
            return await work(sessions[0])
        finally:
            await connection.close(grace=0)

    try:
        return asyncio.run(main()) or ExitCode.OK
    except KeyboardInterrupt:
        left = sessions[0].left if sessions else ""
        say_error(f"interrupted{': ' if left else ''}{left}")
        return ExitCode.INTERRUPTED


def check_server_url(url: str | None) -> None:
    """Refuse what no other process can be found at.

    Raises:
        CommandError: it is an engine inside one process.

    """
    if url is not None and url.strip().lower().startswith("memory:"):
        raise CommandError(
            "memory:// is an engine inside one Python process, which no other process can reach: start "
            "'grctl-client dev MODULE:OBJECT' and leave --server-url out",
            ExitCode.USAGE,
        )


async def _connect(options: Connecting, output: Output) -> Connection:
    from grctl_nats.connection import NatsConnection

    try:
        with output.waiting("connecting"):
            return await NatsConnection.open(
                options.server_url,
                connect_timeout=options.request_timeout or CONNECT_SECONDS,
                request_timeout=options.request_timeout or REQUEST_SECONDS,
                name="grctl-client command line",
                **options.login(),
            )
    except UnsupportedOperationError as error:  # a broker without Ground Control is no server
        raise CommandError(f"{error}. 'grctl-client doctor' looks closer", ExitCode.NO_CONNECTION) from error
