"""The pages say what is so: their code runs and prints what they show, their links lead somewhere.

How blocks are marked and run: see markdown_blocks.py. Blocks that are not run are
counted, with their reasons, by a skipped test.
"""

from __future__ import annotations

import ast
import os
import re
import tomllib
from pathlib import Path

import pytest
from console_blocks import difference
from markdown_blocks import ROOT, Block, PageError, read_blocks, run_page
from workshop_blocks import is_workshop

import grctl
from grctl_core import errors

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {page: [] if is_workshop(page) else read_blocks(page) for page in PAGES}  # those: test_workshops.py
NOT_RUN = [block for blocks in BLOCKS.values() for block in blocks if block.not_run is not None]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=name)
def test_code_runs_and_prints_what_the_page_shows(page):
    run_page(BLOCKS[page])


def test_blocks_that_are_not_run():
    for block in NOT_RUN:
        if not block.is_console:
            ast.parse(block.code)
    if NOT_RUN:
        reasons = "; ".join(f"{block.where}: {block.not_run}" for block in NOT_RUN)
        pytest.skip(f"{len(NOT_RUN)} of {sum(map(len, BLOCKS.values()))} blocks are not run: {reasons}")


PASTED = [ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
"""Pages of blocks for a prompt; one that has a whole program alone is none of them."""


TO_PASTE = {
    page: [block for block in BLOCKS[page] if not (block.is_console or block.part_of or block.is_program)]
    for page in PASTED
}


@pytest.mark.parametrize("page", [page for page in PASTED if TO_PASTE[page]], ids=name)
def test_blocks_can_be_pasted_into_a_prompt(page):
    for block in TO_PASTE[page]:
        # There a blank line ends a function, and what is indented after it is an error.
        broken = re.search(r"\n\n+ .+", block.code)
        assert broken is None, f"{block.where}: after a blank line:{broken[0]}"


def test_supported_pythons_are_those_of_the_classifiers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    (row,) = re.findall(r"^\| Python \|.*$", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"3\.\d+", row) == classified
    assert project["requires-python"] == f">={classified[0]}"


def test_the_front_page_begins_as_the_readme_does():
    front, readme = (BLOCKS[page][0] for page in (ROOT / "docs" / "index.md", ROOT / "README.md"))
    assert front.code == readme.code
    assert front.expected == readme.expected


def test_the_readme_begins_with_a_program_to_paste():
    first = BLOCKS[ROOT / "README.md"][0]
    assert first.is_program
    assert first.not_run is None
    assert first.expected


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name(page)} links to {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_error_is_on_the_page_about_errors():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if line.startswith("| `")]
    classes = {key for key, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    for error in classes:
        rows = [row for row in table if row.startswith(f"| `{error}`")]
        assert len(rows) == 1, f"{error} has {len(rows)} rows"
        assert getattr(grctl, error) is getattr(errors, error)
    assert drawn_tree(page) == drawn_tree(errors.__doc__)
    assert {line.split()[-1] for line, _ in drawn_tree(page)} == classes


def drawn_tree(text: str) -> list[tuple[str, str]]:
    """Return the lines of the drawn tree of errors: the branch with the class, and the built-in class in brackets."""
    tree = re.search(r"^ *GrctlError\n(?: *[│├└].*\n)+", text, re.MULTILINE)
    return re.findall(r"^ *((?:[│├└][│├└─ ]*)?\w+Error)\b(?: \(([\w.]+)\))?", tree[0], re.MULTILINE)


def page_with(folder: Path, *lines: str) -> list[Block]:
    page = folder / "page.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_blocks(page)


PRINT = ("```python", "print('one', id)", "```")


@pytest.mark.parametrize(
    "after",
    [
        (),
        ("```text", "two", "```"),
        ("In between.", "```text", "one <built-in function id>", "```"),
    ],
    ids=["no output shown", "other output", "output not right after it"],
)
def test_output_that_differs_is_an_error(tmp_path, after):
    with pytest.raises(PageError, match=r"page\.md:2"):
        run_page(page_with(tmp_path, *PRINT, *after))


def test_blocks_share_a_namespace_and_an_event_loop(tmp_path):
    blocks = page_with(
        tmp_path,
        *("```python", "import asyncio", "loop = asyncio.get_running_loop()", "await asyncio.sleep(0)", "```"),
        *("Then:", "", "```python", "print(loop is asyncio.get_running_loop(), object())", "```"),
        *("", "```text", "True <object object at ...>", "```"),
    )
    run_page(blocks)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("import asyncio; task = asyncio.create_task(asyncio.sleep(60))", "tasks are left"),
        ("import asyncio; asyncio.run(asyncio.sleep(0)); raise SystemExit(3)", "exit code 3"),
        ("import asyncio; asyncio.get_running_loop().call_soon(lambda: 1 / 0); await asyncio.sleep(0)", "complained"),
    ],
)
def test_what_goes_wrong_in_a_block_is_an_error(tmp_path, code, what):
    with pytest.raises(PageError, match=what):
        run_page(page_with(tmp_path, "```python", code, "```"))


def test_a_block_that_is_not_run_says_why(tmp_path):
    (block,) = page_with(tmp_path, "<!-- not run: needs a server -->", "```python", "1 / 0", "```")
    assert block.not_run == "needs a server"
    run_page([block])


PART = ("<!-- from: examples/first.py -->", "```python", 'greeting = Workflow(workflow_type="Greeting")', "```")


def test_a_block_that_is_part_of_a_file_is_not_run_and_must_stand_there(tmp_path):
    run_page(page_with(tmp_path, *PART))
    run_page(page_with(tmp_path, *PART[:2], "client = grctl.Client(connection=connection)", "```"))  # indented there
    with pytest.raises(PageError, match=r"page\.md:3: examples/first\.py does not have these lines"):
        page_with(tmp_path, *PART[:2], PART[2].replace("greeting", "greetings"), "```")
    with pytest.raises(PageError, match=r"there is no file"):
        page_with(tmp_path, PART[0].replace("first", "last"), *PART[1:])


HELLO = (
    *("<!-- file: hello.py -->", "```python", "from grctl.worker import Context"),
    *("from grctl.workflow import Directive, Workflow", 'hello = Workflow(workflow_type="Hello")', "@hello.start()"),
    *("async def start(ctx: Context) -> Directive:", '    return ctx.next.complete("hello")', "```"),
)
ASK = (
    *("```python", "import grctl", "from grctl.nats.connection import Connection"),
    *("async with await Connection.open() as connection:",),
    *('    print(await grctl.Client(connection=connection).run_workflow("Hello", "h-1"))', "```"),
    *("```text", "hello", "```"),
)


def test_a_page_can_have_a_development_server(tmp_path):
    run_page(page_with(tmp_path, *HELLO, "<!-- dev server: hello:hello -->", "Text.", *ASK))


@pytest.mark.parametrize("shown", ["  hosts Other", "  hosts Hello"])
def test_what_the_development_server_says_is_compared(tmp_path, shown):
    listening = "Ground Control development server, listening on nats://127.0.0.1:4225"
    console = ("```console", "$ grctl-client dev hello:hello", listening, shown, "  Ctrl-C stops it", "```")
    blocks = page_with(tmp_path, *HELLO, "<!-- dev server: hello:hello -->", *console, *ASK)
    if "Hello" in shown:
        run_page(blocks)
    else:
        with pytest.raises(PageError, match="hosts Hello"):
            run_page(blocks)


@pytest.mark.parametrize(
    ("shown", "differs"),
    [('...tarted hello-1 (Hello), run ...\n"hello"\nexit 0', None), ("hullo", '"hello"'), ("", '"hello"')],
)
def test_commands_of_the_command_line_are_run(tmp_path, shown, differs):
    command = "$ grctl-client workflow run --type Hello --id hello-1; echo exit $?"
    console = ("```console", command, *shown.splitlines(), "```")
    blocks = page_with(tmp_path, *HELLO, "<!-- dev server: hello:hello -->", "Text.", *console)
    if differs is None:
        run_page(blocks)
    else:
        with pytest.raises(PageError, match=differs):
            run_page(blocks)


TIMELINE = (
    *("Hello hello-1  completed in 2.4 s", "run ..., started ...", ""),
    *("      0     1 s", "      ├─────┼───", "run   ━━━━━━━━━ 2.4 s"),
)


def test_a_command_that_does_not_end_is_an_error(tmp_path):
    found = difference("$ echo begun; sleep 600", tmp_path, os.environ, "", 0.5)
    assert "ended by force" in found


@pytest.mark.parametrize(
    ("rows", "is_right"), [(("start █         3 s",), True), (("begin █         3 s",), False), ((), False)]
)
def test_timelines_are_compared_by_their_rows(tmp_path, rows, is_right):
    drawn = ("Hello hello-1  completed in 7 ms", "run 01M8, started 2026-07-01 12:00:00", "")
    drawn += ("      0  5 ms", "      ├──┼───", "run   ━━━━━━ 7 ms", "start   ███  5 ms", "", "█ step")
    (tmp_path / "drawn").write_text("\n".join(drawn) + "\n", encoding="utf-8")
    shown = "\n".join(("$ cat drawn", *TIMELINE, *rows, "", "█ step"))
    found = difference(shown, tmp_path, os.environ, "", 20)
    assert (found is None) == is_right, found


@pytest.mark.parametrize(
    "lines",
    [
        ("<!-- not run: no block follows -->",),
        ("<!-- not run: text follows -->", "Text.", *PRINT),
        ("<!-- not run: two of them -->", "<!-- not run: two of them -->", *PRINT),
        ("<!-- not run -->", "<!-- not run: -->", *PRINT),
        ("<!-- not run: output -->", "```text", "one", "```"),
        ("<!-- file: a.py -->", "Text.", *PRINT),
        ("<!-- file: a.sh -->", "```console", "$ grctl-client doctor", "```"),
        ("<!-- dev server: no block follows -->",),
        ("<!-- dev server: -->", *PRINT),
        ("<!-- dev server: a:b -->", "```console", "$ grctl-client dev a:c", "```", *PRINT),
        ("```pyhton", "1", "```"),
        ("```", "1", "```"),
        ("1. item", "", "   ```python", "   1", "   ```"),
        ("```python", "1"),
    ],
)
def test_what_would_take_a_block_out_of_the_run_unseen_is_an_error(tmp_path, lines):
    with pytest.raises(PageError):
        page_with(tmp_path, *lines)


def test_llms_txt_lists_every_page_once_with_a_line():
    docs = ROOT / "docs"
    lines = [line for line in (docs / "llms.txt").read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    found = [re.fullmatch(r"- \[[^\]]+\]\(([^)]+)\): \S.{15,}", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    listed = sorted(match[1] for match in found)
    assert listed == sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))


def source_text() -> str:
    """Return all our code, with strings that are written in parts put together."""
    rooms = [path for path in ROOT.iterdir() if path.name.startswith("grctl")]
    modules = [module for room in [*rooms, ROOT / "transports", ROOT / "plugins"] for module in room.rglob("*.py")]
    assert len(modules) > 100
    text = "".join(module.read_text(encoding="utf-8") for module in modules)
    return re.sub(r'"\s+f?"', "", text)


FAQ = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("message", re.findall(r"^## (.+)$", FAQ, re.MULTILINE))
def test_messages_in_the_faq_are_those_of_the_code(message):
    section = FAQ.partition(f"## {message}\n")[2].partition("\n## ")[0]
    assert "**Cause:** " in section
    assert "**Mend:** " in section
    parts = [part.strip(" '") for part in message.split("...")]
    shown = "\n".join(re.findall(r"```(?:text|console)\n(.*?)```", section, re.DOTALL))
    if shown:
        assert re.search(".*".join(map(re.escape, parts)), shown), f"not what the section shows: {message}"
    else:
        text = source_text()
        for part in parts:
            assert re.sub(r"^\w+ is not installed", "is not installed", part) in text, part


def test_the_faq_has_the_ten_most_likely_errors_and_more():
    assert len(re.findall(r"^## ", FAQ, re.MULTILINE)) >= 10
