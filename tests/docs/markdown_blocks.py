"""The code blocks of a Markdown page, and how they are run.

The blocks of one page run in order, in one namespace and one event loop, so a later block may use what an earlier one
made. ``await`` works at top level, as in ``python -m asyncio``. What a block prints must stand in a ```text block right
after it (``...`` there stands for anything); a block without one must print nothing.

A ```console block whose first command is ``grctl-client`` is run too, see console_blocks.py; all others are not.

A block that calls ``asyncio.run`` at top level, or has ``if __name__ == "__main__"``, is a whole program: it is run as
a file, in a process of its own.

Four comments, invisible for the reader, stand in the line before a block, or before something else where that is said:

- ``<!-- not run: the reason -->``: the block is not run.
- ``<!-- from: path/of/file.py -->``: the block is a part of that file of the repository, which has tests of its own; so
  it is not run, and must stand there, line for line; a method may be indented less.
- ``<!-- file: name.py -->``: the block is saved under that name too, in the folder that the page runs in.
- ``<!-- dev server: module:object -->``, anywhere: from here to the page's end a development server runs, as
  ``grctl-client dev module:object`` would start it, and GRCTL_NATS_SERVERS has its address. It finds the page's files
  and those of the repository. Where a ```console block follows it must hold that command, and what it shows below the
  command must be what the server says.
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

from console_blocks import difference

ROOT = Path(__file__).resolve().parents[2]
PYTHON, OUTPUT = "python", "text"
CONSOLE = "console"
OTHERS = frozenset({CONSOLE, "conf"})
"""What else a fence may hold. A language that is not known is an error: a typo must not take a block out of the run."""
SECONDS_PER_BLOCK = 20
SERVERS = "GRCTL_NATS_SERVERS"

_FENCE = re.compile(r"(?P<indent>\s*)(?P<ticks>`{3,}|~{3,})(?P<language>\w*)\s*")
_MARKER = re.compile(r"<!-- (?P<kind>not run|from|file|dev server): (?P<value>.+) -->")
_LIKE_A_MARKER = re.compile(r"<!--.*\b(not run|from|file|dev server)\b")


class PageError(Exception):
    """A page is not written as it must be, or what it says is not so."""


@dataclass
class Serve:
    """A development server that a page needs.

    Attributes:
        where: place of the comment.
        workflows: what it hosts, as MODULE:OBJECT.
        shown: what the page says that it prints at its start, None where the page shows nothing.
    """

    where: str
    workflows: str
    shown: str | None = None


@dataclass
class Block:
    """One block that is run: Python, or commands in a shell.

    Attributes:
        page: the file.
        line: number of the first line of its code.
        code: the code.
        expected: what it must print.
        not_run: why it is not run, None if it is.
        part_of: the file of the repository that it is a part of, so that it is not run here.
        file: name to save it under.
        dev_server: what to start before it.
        is_console: whether it holds commands and what they show, instead of Python.
    """

    page: Path
    line: int
    code: str
    expected: str = ""
    not_run: str | None = None
    file: str | None = None
    dev_server: Serve | None = None
    is_console: bool = False
    part_of: str | None = None

    @property
    def where(self) -> str:
        return f"{_shown(self.page)}:{self.line}"

    @property
    def is_program(self) -> bool:
        """Whether it is a whole program, to be run as a file."""
        return any(
            (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'")
            or (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Call)
                and ast.unparse(node.value.func) == "asyncio.run"
            )
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
    marks: dict[str, str] = {}
    serve: Serve | None = None
    serve_is_right_here = False
    for line, language, text in _elements(page):
        where = f"{_shown(page)}:{line}"
        if language is None:
            follows, serve_is_right_here = None, False
            marker = _MARKER.fullmatch(text)
            if marker is None:
                if marks:
                    raise PageError(f"{where}: {' and '.join(marks)!r} stands before something that is no block")
                if _LIKE_A_MARKER.search(text):
                    raise PageError(f"{where}: write <!-- not run: the reason -->, or see markdown_blocks.py")
            elif marker["kind"] == "dev server":
                serve, serve_is_right_here = Serve(where, marker["value"]), True
            elif marker["kind"] in marks:
                raise PageError(f"{where}: {marker['kind']!r} stands here twice")
            else:
                marks[marker["kind"]] = marker["value"]
            continue
        is_dev_server = serve_is_right_here and language == CONSOLE
        is_console = language == CONSOLE and text.startswith("$ grctl-client ") and not is_dev_server
        if marks and language != PYTHON and not (is_console and marks.keys() == {"not run"}):
            raise PageError(f"{where}: {' and '.join(marks)!r} is for Python blocks")
        if language == PYTHON:
            follows = Block(page, line, text, "", marks.get("not run"), marks.get("file"), serve)
            follows.part_of = marks.get("from")
            if follows.part_of is not None:
                _check_part(follows)
            blocks.append(follows)
            serve = None
        elif is_console:
            follows = None
            blocks.append(Block(page, line, text, "", marks.get("not run"), None, serve, is_console=True))
            serve = None
        elif language == OUTPUT:
            if follows is not None:
                follows.expected = text
            follows = None
        elif language in OTHERS:
            if serve is not None and is_dev_server:
                command, _, serve.shown = text.partition("\n")
                if command != f"$ grctl-client dev {serve.workflows}":
                    raise PageError(f"{where}: the comment before says {serve.workflows!r}")
            follows = None
        else:
            raise PageError(f"{where}: unknown language {language!r}")
        marks, serve_is_right_here = {}, False
    if marks or serve is not None:
        raise PageError(f"{_shown(page)}: a comment at the end stands before nothing")
    return blocks


def _check_part(block: Block) -> None:
    """Make sure that a block stands in the file that it is said to be from.

    Raises:
        PageError: it does not.

    """
    file = ROOT / (block.part_of or "")
    if not file.is_file():
        raise PageError(f"{block.where}: there is no file {block.part_of}")
    has, part = _lines(file.read_text(encoding="utf-8")), _lines(block.code)
    for start in range(len(has) - len(part) + 1):
        indent = has[start].removesuffix(part[0])
        if has[start : start + len(part)] == [indent + line for line in part]:
            return
    raise PageError(f"{block.where}: {block.part_of} does not have these lines")


def _lines(code: str) -> list[str]:
    return [line for line in code.splitlines() if line]


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
    before = os.environ.pop(SERVERS, None)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as cleanup:
            asyncio.run(_run_in_order(blocks, module.__dict__, Path(folder), cleanup))
    finally:
        del sys.modules[module.__name__]
        os.environ.pop(SERVERS, None)
        if before is not None:
            os.environ[SERVERS] = before


async def _run_in_order(
    blocks: list[Block], namespace: dict[str, Any], folder: Path, cleanup: contextlib.ExitStack
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for block in blocks:
        if block.file is not None:
            (folder / block.file).write_text(block.code, encoding="utf-8")
        if block.dev_server is not None:
            os.environ[SERVERS] = cleanup.enter_context(_dev_server(block.dev_server, folder))
        if block.not_run is not None or block.part_of is not None:
            continue
        if block.is_console:
            address = os.environ.get(SERVERS, "")
            wrong = difference(block.code, folder, _environment(), address, SECONDS_PER_BLOCK)
            if wrong is not None:
                raise PageError(f"{block.where}: {wrong}")
            continue
        try:
            async with asyncio.timeout(SECONDS_PER_BLOCK):
                printed = _run_program(block, folder) if block.is_program else await _run_here(block, namespace)
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


@contextlib.contextmanager
def _dev_server(serve: Serve, folder: Path) -> Iterator[str]:
    """Run a development server as a reader would, on a free port; yield its address."""
    command = [sys.executable, "-m", "grctl", "dev", serve.workflows, "--port", "0"]
    with subprocess.Popen(
        command, env=_environment(), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        try:
            said: list[str] = []
            while not said or "Ctrl-C" not in said[-1]:
                said.append(process.stdout.readline() if process.stdout is not None else "")
                if not said[-1]:
                    raise PageError(f"{serve.where}: the development server does not start: {''.join(said)}")
            printed = "".join(said)
            address = re.search(r"nats://127\.0\.0\.1:\d+", printed)
            if address is None:
                raise PageError(f"{serve.where}: the development server does not say where it listens: {printed}")
            if serve.shown is not None and printed.replace(address[0], "nats://127.0.0.1:4225") != serve.shown:
                raise PageError(f"{serve.where}: the development server says\n{printed}")
            yield address[0]
        finally:
            process.terminate()
            process.communicate(timeout=SECONDS_PER_BLOCK)


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [*sys.path, str(ROOT)]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}


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


def _run_program(block: Block, folder: Path) -> str:
    program = folder / (block.file or "program.py")
    program.write_text(block.code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        env=_environment(),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS_PER_BLOCK,
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
