"""Chromium: a page in a headless browser, driven over its debugging pipe (the Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

__all__ = ["Chromium", "executable"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_LARGEST = 64 * 1024**2  # a screenshot is one message


def executable() -> str | None:
    """Find the browser, None if there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Chromium:
    """One page. Open it with ``async with``; its process ends with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""

    async def __aenter__(self) -> Self:
        program = executable()
        assert program is not None, "chromium is not installed"
        self._profile = tempfile.mkdtemp(prefix="grctl-chromium-")
        ours, theirs = _pipe(), _pipe()  # each (read, write); Chromium reads from 3 and writes to 4
        options = [
            *("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--window-size=1000,900"),
            *(("--no-sandbox",) if os.geteuid() == 0 else ()),
            f"--user-data-dir={self._profile}",
        ]
        begin = f"import os, sys; os.dup2({ours[0]}, 3); os.dup2({theirs[1]}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-S", "-c", begin, program, *options, "about:blank"]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes a moment
            command, pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(ours[0])
        os.close(theirs[1])
        loop = asyncio.get_running_loop()
        self._reader = asyncio.StreamReader(limit=_LARGEST)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        self._incoming, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(theirs[0], "rb", 0))
        self._outgoing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours[1], "wb", 0))
        self._reading = asyncio.create_task(self._read())
        try:
            target = (await self.call("Target.createTarget", url=self.url))["targetId"]
            attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._incoming.close()
        self._outgoing.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(shutil.rmtree, self._profile, ignore_errors=True)

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Send one command, and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._outgoing.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(60):
            return await answer

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression on the page, also one that is awaited."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait_for(self, expression: str, *, seconds: float = 60) -> None:
        """Wait until an expression is true on the page."""
        try:
            async with asyncio.timeout(seconds):
                while not await self.evaluate(expression):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            shown = await self.evaluate("document.body.innerText.slice(0, 600)")
            raise AssertionError(f"never true within {seconds} s: {expression}; the page shows: {shown}") from None

    async def screenshot(self, file: Path) -> None:
        """Save what the window shows as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(answer["data"]))

    async def _read(self) -> None:
        ended: BaseException = AssertionError("chromium has ended")
        try:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                    answer = self._answers.pop(message.get("id"), None)
                    if answer is None or answer.done():
                        continue  # an event, or nobody waits any more
                    if "error" in message:
                        answer.set_exception(AssertionError(message["error"]["message"]))
                    else:
                        answer.set_result(message["result"])
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ended)


def _pipe() -> tuple[int, int]:
    """Make a pipe whose ends are numbered from 10 on, so that they can be moved to 3 and 4."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high
