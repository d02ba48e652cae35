"""Input from an option or a file, and what is said where it is wrong."""

from __future__ import annotations

import click
import pytest

from grctl.cli.inputs import read_input
from grctl.cli.options import Seconds


def refused(text: str | None = None, file: str | None = None) -> str:
    with pytest.raises(click.UsageError) as caught:
        read_input(text, file)
    message = caught.value.format_message()
    assert all(character.isprintable() or character == "\n" for character in message)
    return message


def test_objects_are_taken(tmp_path):
    assert read_input(None, None) is None
    assert read_input('{"a": [1, 2.5, null, "é"]}', None) == {"a": [1, 2.5, None, "é"]}
    file = tmp_path / "in.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')  # as Windows' editors write it
    assert read_input(None, str(file)) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name" "Ada"}', 'expecting \':\' delimiter at line 1, column 9\n  {"name" "Ada"}\n          ^'),
        ('{"a": 1,\n "b": x}', 'expecting value at line 2, column 7\n   "b": x}\n        ^'),
        ('{"日本": x}', 'at line 1, column 8\n  {"日本": x}\n           ^'),
        ("{name: 1}", "Names and texts stand in double quotes"),
        ("", "it is empty at line 1, column 1"),
        ('{"a": "\x1b[31m"}', 'invalid control character at line 1, column 8\n  {"a": "\\x1b[31m"}\n         ^'),
        ('{"a": 1} x', "extra data at line 1, column 10"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "cannot be taken"),
        ("[1]", "must be a JSON object, not an array"),
        ("7", "must be a JSON object, not a number"),
        ("null", "must be a JSON object, not null"),
    ],
)
def test_what_is_wrong_and_where(text, said):
    message = refused(text)
    assert message.startswith("--input ")
    assert said in message


def test_a_long_line_is_cut_to_a_narrow_terminal():
    message = refused('{"a": "' + "x" * 500 + '" "b": 1, "c": "' + "y" * 500 + '"}')
    _, line, caret = message.splitlines()
    assert len(line) <= 40
    assert line[len(caret) - 1] == '"'
    assert "column 510" in message


def test_files(tmp_path):
    assert "cannot be read: No such file" in refused(None, str(tmp_path / "none.json"))
    assert "cannot be read: Is a directory" in refused(None, str(tmp_path))
    assert "cannot be read" in refused(None, "\x00")
    file = tmp_path / "in.json"
    file.write_bytes(b'{"a":\n "\xff"}')
    assert "is not UTF-8: byte 0xff in line 2" in refused(None, str(file))
    file.write_text("[1, 2]")
    assert "must be a JSON object, not an array" in refused(None, str(file))
    file.write_text("{")
    assert refused(None, str(file)).startswith(f"--input-file {file} is no JSON")
    assert "give one of them" in refused("{}", str(file))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("5min", 300),
        ("1h30m", 5_400),
        ("7D", 604_800),
    ],
)
def test_durations(text, seconds):
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "5x", "1h 30", "inf", "nan", "m5"])
def test_no_durations(text):
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)
