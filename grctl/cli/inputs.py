"""Inputs: JSON objects from an option or a file, and what is wrong with them where something is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from grctl.safe_text import safe

__all__ = ["input_options", "read_input"]

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN, _LEAD = 34, 24
"""Characters of the line that are shown, and how many of them before the mistake: it fits 40 columns."""


def input_options(what: str) -> Callable[[F], F]:
    """Take ``--input`` and ``--input-file``: an object whose keys are what ``what`` takes."""

    def add(command: F) -> F:
        command = click.option(
            "--input-file", metavar="FILE", help="The same, from a file in UTF-8; - reads standard input."
        )(command)
        return click.option("--input", "-I", "input_text", metavar="JSON", help=f"A JSON object: {what}.")(command)

    return add


def read_input(text: str | None, file: str | None) -> dict[str, Any] | None:
    """Return the object that was given, None where none was.

    Raises:
        click.UsageError: it is none, or cannot be read; the text shows where.

    """
    if text is not None and file is not None:
        raise click.UsageError("--input and --input-file are two ways to say the same thing: give one of them.")
    if text is not None:
        return _parse("--input", text)
    if file is not None:
        return _parse(f"--input-file {safe(file)}", _read(file))
    return None


def _read(file: str) -> str:
    name = f"--input-file {safe(file)}"
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise click.UsageError(
            f"{name} is not UTF-8: byte 0x{content[error.start]:02x} in line {line}. Save it as UTF-8."
        ) from None


class _RefusedError(ValueError):
    pass


def _parse(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise click.UsageError(
            f"{name} is no JSON: {_said(error)} at line {error.lineno}, column {error.colno}\n{_pointer(error)}"
            f"{_hint(text)}"
        ) from None
    except RecursionError:
        raise click.UsageError(f"{name} is nested too deeply.") from None
    except ValueError as error:  # a number of thousands of digits
        raise click.UsageError(f"{name} cannot be taken: {error}.") from None
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}.get(
            type(value), "a number"
        )
        raise click.UsageError(
            f"{name} must be a JSON object, not {kind}: its keys are the names of the handler's parameters, as in "
            '\'{"order_id": "A-17"}\'.'
        )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedError(f"the key {safe(ascii(twice))} is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is no JSON number")


def _said(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "it is empty"
    return error.msg[:1].lower() + error.msg[1:].removesuffix(" at")


def _pointer(error: json.JSONDecodeError) -> str:
    """Return the line with the mistake, cut to what fits a narrow terminal, and a caret below it."""
    import unicodedata

    lines = error.doc.split("\n")
    line = lines[error.lineno - 1]
    at = error.colno - 1
    begin = max(0, at - _LEAD)
    part = line[begin : begin + _SHOWN]
    before = "".join(safe(character) for character in part[: at - begin])
    wide = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before)
    return f"  {safe(part)}\n  {' ' * wide}^"


def _hint(text: str) -> str:
    """Say what happens most: a shell took the quotes away."""
    if text.lstrip().startswith("{") and '"' not in text and text.strip() != "{}":
        return '\nNames and texts stand in double quotes, and the whole in single ones: \'{"name": "Ada"}\''
    return ""
