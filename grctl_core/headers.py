"""Message headers, as plugins may set them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from grctl_core.errors import InvalidInputError

__all__ = ["NO_HEADERS", "check_headers"]

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
"""An empty mapping that cannot be changed."""

_IS_NAME = re.compile(r"[!-9;-~]+").fullmatch  # visible ASCII without the colon


def check_headers(value: object) -> Mapping[str, str]:
    """Return a copy of a mapping of headers that nobody can change.

    Raises:
        InvalidInputError: it is no mapping of strings, a name is not visible ASCII without colons, or a value has
            control characters or is no valid text. The message does not show the value.

    """
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"headers must be a mapping of strings, not {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not _IS_NAME(name):
            raise InvalidInputError(f"a header's name must be visible ASCII characters without ':', not {name!a}")
        if not isinstance(text, str):
            raise InvalidInputError(f"header {name!r} must be a string, not {type(text).__name__}")
        if not text.isprintable():
            raise InvalidInputError(f"header {name!r} has a control character, or one that cannot be sent as UTF-8")
    return MappingProxyType(dict(value))
