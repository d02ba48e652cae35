"""The code blocks of a Markdown page, and how they are run.

The blocks of one page run in order, in one namespace and one event loop, so a later block may use what an earlier one
made. ``await`` works at top level, as in ``python -m asyncio``. What a block prints must stand in a ```text block right
after it (``...`` there stands for anything); a block without one must print nothing.

A block that calls ``asyncio.run`` at top level is a whole program: it is run as a file, in a process of its own.
A block that is not to be run says why, invisibly for the reader: ``<!-- not run: the reason -->`` in the line before.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import linecache
import os
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON, OUTPUT = "python", "text"
OTHERS = frozenset({"console"})
"""What else a fence may hold. A language that is not known is an error: a typo must not take a block out of the run."""
SECONDS_PER_PAGE = 20

_FENCE = re.compile(r"(?P<indent>\s*)(?P<ticks>`{3,}|~{3,})(?P<language>\w*)\s*")
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")


class PageError(Exception):
    """A page is not written as it must be, or what it says is not so."""


@dataclass
class Block:
    """One Python block.

    Attributes:
        page: the file.
        line: number of the first line of its code.
        code: the code.
        expected: what it must print.
        not_run: why it is not run, None if it is.
    """

    page: Path
    line: int
    code: str
    expected: str = ""
    not_run: str | None = None

    @property
    def where(self) -> str:
        return f"{_shown(self.page)}:{self.line}"

    @property
    def is_program(self) -> bool:
        """Whether it is a whole program, to be run as a file."""
        return any(
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "asyncio.run"
            for node in ast.parse(self.code).body
        )


def _shown(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name


def read_blocks(page: Path) -> list[Block]:
    """Return the Python blocks of a page, each with the output that is to follow it.

    Raises:
        PageError: a fence or a marker is wrong.

    """
    blocks: list[Block] = []
    follows: Block | None = None  # the block that a text block right here would be the output of
    reason: str | None = None
    for line, language, text in _elements(page):
        if language is None:
            marker = _NOT_RUN.fullmatch(text)
            if reason is not None:
                raise PageError(f"{_shown(page)}:{line}: 'not run' stands before something that is no block")
            if marker is None and "not run:" in text:
                raise PageError(f"{_shown(page)}:{line}: write <!-- not run: the reason -->")
            reason = marker["reason"] if marker else None
            follows = None
            continue
        if reason is not None and language != PYTHON:
            raise PageError(f"{_shown(page)}:{line}: 'not run' is for Python blocks")
        if language == PYTHON:
            follows = Block(page, line, text, not_run=reason)
            blocks.append(follows)
        elif language == OUTPUT:
            if follows is not None:
                follows.expected = text
            follows = None
        elif language in OTHERS:
            follows = None
        else:
            raise PageError(f"{_shown(page)}:{line}: unknown language {language!r}")
        reason = None
    if reason is not None:
        raise PageError(f"{_shown(page)}: 'not run' stands before nothing")
    return blocks


def _elements(page: Path) -> Iterator[tuple[int, str | None, str]]:
    """Yield ``(line, language, code)`` for each fenced block, ``(line, None, text)`` for each other line with text."""
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, text in lines:
        fence = _FENCE.fullmatch(text)
        if fence is None:
            if text.strip():
                yield number, None, text.strip()
            continue
        if fence["indent"]:
            raise PageError(f"{_shown(page)}:{number}: a block begins in the first column")
        code: list[str] = []
        for _, inside in lines:
            if inside.rstrip() == fence["ticks"]:
                break
            code.append(inside + "\n")
        else:
            raise PageError(f"{_shown(page)}:{number}: the block has no end")
        yield number + 1, fence["language"], "".join(code)


def run_page(blocks: list[Block]) -> None:
    """Run the blocks of one page.

    Raises:
        PageError: a block raised, printed something else, or the page left something behind.

    """
    module = types.ModuleType(f"docs_{blocks[0].page.stem.lower()}")
    sys.modules[module.__name__] = module  # pickle and msgspec look classes up there
    try:
        asyncio.run(_run_in_order(blocks, module.__dict__))
    finally:
        del sys.modules[module.__name__]


async def _run_in_order(blocks: list[Block], namespace: dict[str, Any]) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for block in blocks:
        if block.not_run is not None:
            continue
        try:
            async with asyncio.timeout(SECONDS_PER_PAGE):
                printed = _run_program(block) if block.is_program else await _run_here(block, namespace)
        except PageError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            raise PageError(f"{block.where}: {type(error).__name__}: {error}") from error
        _compare(block, printed)
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise PageError(f"{_shown(blocks[0].page)}: tasks are left: {left}. Close the connection at the page's end")
    if complaints:
        raise PageError(f"{_shown(blocks[0].page)}: the event loop complained: {complaints}")


async def _run_here(block: Block, namespace: dict[str, Any]) -> str:
    name = block.where.rpartition(":")[0]
    source = "\n" * (block.line - 1) + block.code  # so that a traceback has the page's lines
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        pending = eval(code, namespace)
        if inspect.iscoroutine(pending):
            await pending
    return output.getvalue()


def _run_program(block: Block) -> str:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(block.code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONIOENCODING": "utf-8"},
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS_PER_PAGE,
            check=False,
        )
    if done.returncode != 0 or done.stderr:
        raise PageError(f"{block.where}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def _compare(block: Block, printed: str) -> None:
    checker = doctest.OutputChecker()
    if not checker.check_output(block.expected, printed, doctest.ELLIPSIS):
        example = doctest.Example(block.code, block.expected)
        raise PageError(f"{block.where}: {checker.output_difference(example, printed, doctest.ELLIPSIS)}")
