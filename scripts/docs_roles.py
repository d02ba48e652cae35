"""For mkdocs.yml: docstrings name things as ``:class:`Outcome```, which Markdown does not know; leave the name."""  # noqa: INP001 - a part of the build, no package

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["PlainRoles"]

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")


class PlainRoles(griffe.Extension):
    """Makes code of each role, before docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Mend the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
