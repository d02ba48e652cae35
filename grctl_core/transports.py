"""The door for transports: from a URL to an open connection.

Transports of other people come in by the entry point group ``grctl.transports``: its name is the URL scheme, its
value ``async def open(url, **options) -> Connection``. A table of ours is looked up first, so nobody takes our schemes
over, and the environment is scanned only for schemes that are not ours.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from grctl_core.entry_points import find_entry_point
from grctl_core.errors import InvalidInputError
from grctl_core.protocols import Connection
from grctl_core.safe_text import one_line
from grctl_core.secret import Secret, call

__all__ = ["ENTRY_POINT_GROUP", "Opener", "open_connection"]

ENTRY_POINT_GROUP = "grctl.transports"

_MOST_SHOWN = 40  # characters of a scheme: what comes before "://" may be anything

Opener: TypeAlias = Callable[..., Awaitable[Connection]]


async def open_connection(url: str, options: Mapping[str, object], ours: Mapping[str, str]) -> Connection:
    """Open a connection.

    Args:
        url: where to; its scheme chooses the transport.
        options: for the transport.
        ours: scheme to ``module:function`` of the transports that are looked up first.

    Raises:
        InvalidInputError: no transport has the scheme, two claim it, or the transport has no such option.

    """
    beginning = Secret(functools.partial(_begin_to_open, url, options, ours))
    del url, options  # no traceback is to show what is in them
    return await call(beginning)


def _begin_to_open(url: str, options: Mapping[str, object], ours: Mapping[str, str]) -> Awaitable[Connection]:
    if not isinstance(url, str):
        raise InvalidInputError(f"url must be a string such as 'nats://localhost:4225', not {type(url).__name__}")
    scheme, separator, place = url.partition("://")
    scheme = scheme.lower()
    if not separator or not scheme:
        raise InvalidInputError("url has no scheme: write for example 'memory://' or 'nats://localhost:4225'")
    opener = _load(ours[scheme]) if scheme in ours else _from_entry_points(scheme, ours)
    _check_options(scheme, opener, options)
    return opener(f"{scheme}://{place}", **options)


def _load(target: str) -> Opener:
    module, _, name = target.partition(":")
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener


def _from_entry_points(scheme: str, ours: Mapping[str, str]) -> Opener:
    shown = one_line(scheme, _MOST_SHOWN)
    missing, called, kind = f"no transport for '{shown}://'", f"scheme '{shown}://'", f"named {shown!r}"
    entry = find_entry_point(ENTRY_POINT_GROUP, scheme, ours, missing=missing, called=called, kind=kind)
    try:
        opener: Opener = entry.load()
        if not callable(opener):
            raise TypeError(f"{opener!r} is not callable")
    except Exception as error:
        raise InvalidInputError(f"the transport {entry.value} for '{scheme}://' cannot be loaded: {error}") from error
    return opener


def _check_options(scheme: str, opener: Opener, options: Mapping[str, object]) -> None:
    parameters = list(inspect.signature(opener).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    unknown = sorted(options.keys() - {parameter.name for parameter in parameters})
    if unknown:
        known = ", ".join(parameter.name for parameter in parameters) or "none"
        raise InvalidInputError(f"'{scheme}://' has no option {', '.join(unknown)}: its options are {known}")
