"""The pages that begin in an empty folder, followed literally."""

from __future__ import annotations

import pytest
from markdown_blocks import ROOT, PageError
from workshop_blocks import File, Typed, follow, is_workshop, read_workshop

WORKSHOPS = [page for page in sorted((ROOT / "docs").rglob("*.md")) if is_workshop(page)]


def test_there_are_workshops():
    assert [page.relative_to(ROOT / "docs").as_posix() for page in WORKSHOPS] == [
        "how-to/test.md",
        "plugins/writing.md",
        "transports/writing.md",
    ]


@pytest.mark.parametrize("page", WORKSHOPS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_followed_literally(page, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    steps = read_workshop(page)
    assert sum(isinstance(step, File) for step in steps) > 2
    assert sum(isinstance(step, Typed) for step in steps) > 3
    follow(steps, folder)


def page_with(tmp_path, *lines):
    page = tmp_path / "page.md"
    page.write_text("\n".join(["<!-- workshop -->", "", *lines, ""]), encoding="utf-8")
    return page


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (["```console", "$ false", "```"], "exit code 1"),
        (["```console", "$ echo one", "two", "```"], "Got:\n    one"),
        (["```console", "$ echo one", "```"], "Got:\n    one"),
        (["```console", "$ true", "one", "```"], "Expected:\n    one"),
        (["<!-- file: a -->", "```python", "1", "```", "```console", "$ cat b", "```"], "exit code 1"),
        (["```console", "$ X=1", "$ test -n $X", "$ cd /nowhere", "```"], "exit code 1"),
    ],
)
def test_a_page_that_is_not_so(tmp_path, lines, wrong):
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(PageError, match=wrong):
        follow(read_workshop(page_with(tmp_path, *lines)), folder)


def test_variables_and_the_folder_outlive_a_command(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    commands = ["```console", "$ mkdir deeper", "$ cd deeper", "$ export X=1", "```"]
    file = ["<!-- file: a.txt -->", "```text", "hello", "```"]
    look = ["```console", "$ cat a.txt; echo $X; ls ..", "hello", "1", "deeper", "```"]
    follow(read_workshop(page_with(tmp_path, *commands, *file, *look)), folder)


@pytest.mark.parametrize(
    "lines",
    [
        ["```python", "1", "```", "```console", "$ true", "```"],
        ["```text", "1", "```", "```console", "$ true", "```"],
        ["<!-- file: a.py -->", "Text.", "```console", "$ true", "```"],
        ["<!-- fiel: a.py -->", "```console", "$ true", "```"],
        ["```console", "true", "```"],
        ["```console", "$ true"],
        ["Text."],
    ],
)
def test_a_page_that_would_not_be_run_as_a_whole(tmp_path, lines):
    with pytest.raises(PageError):
        read_workshop(page_with(tmp_path, *lines))


def test_a_block_before_the_workshop(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n1\n```\n<!-- workshop -->\n```console\n$ true\n```\n", encoding="utf-8")
    with pytest.raises(PageError, match="before"):
        read_workshop(page)
