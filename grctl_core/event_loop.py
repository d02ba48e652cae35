"""The event loop that a call stands in: what belongs to a loop says so when it is used outside one."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any

from grctl_core.errors import EventLoopError

__all__ = ["CurrentTask", "OwnLoop", "running_loop"]


def running_loop(what: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        EventLoopError: there is none; the message says that ``what`` needs one. In trio it says how to get one.

    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if _in_trio():
            raise EventLoopError(
                f"grctl-client runs on asyncio, and this is trio: {what} cannot be used here. With anyio choose its "
                "backend 'asyncio', which is the default: anyio.run(main); in its tests let the fixture anyio_backend "
                "return 'asyncio'. In a program of trio's own give it a thread: "
                "await trio.to_thread.run_sync(asyncio.run, main())"
            ) from None
        raise EventLoopError(
            f"no event loop is running here: use {what} in the event loop of its connection, inside an 'async def'"
        ) from None


def _in_trio() -> bool:
    """Whether trio runs in this thread. Where nobody has imported it it does not."""
    trio: Any = sys.modules.get("trio")
    try:
        trio.lowlevel.current_task()
    except (AttributeError, RuntimeError):  # no trio, one that is half imported; or it does not run
        return False
    return True


class CurrentTask:
    """``asyncio.current_task()``, for what belongs to one event loop, at a third of the cost in Python 3.11.

    Looking up the running loop asks the operating system there which process this is. So the loop is kept.
    """

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self) -> asyncio.Task[Any] | None:
        """Return the task that is running."""
        task = asyncio.current_task(self._loop)
        if self._loop is None or task is None:  # the first call, or another loop runs by now
            task = asyncio.current_task()
            self._loop = None if task is None else task.get_loop()
        return task


class OwnLoop:
    """The event loop that something belongs to, and a cheap way to see that it is the one that runs here.

    A thread runs one loop at a time, so where it runs this one it runs no other. Asking for the running loop asks the
    operating system which process this is, in Python 3.11; a fork is noticed here too, for that costs nothing.
    """

    __slots__ = ("_loop", "_process", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._process = _process

    def runs_here(self) -> bool:
        """Whether it runs in this thread, of the process that it was made in."""
        return self._process is _process and threading.get_ident() == self._thread and self._loop.is_running()


_process = object()
"""Stands for this process; another one in a fork of it."""


def _in_child() -> None:
    global _process  # noqa: PLW0603 - each process has one
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
