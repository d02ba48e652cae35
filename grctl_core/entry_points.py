"""Entry points: what packages of others bring in, by group and name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from grctl_core.errors import InvalidInputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["find_entry_point"]


def find_entry_point(group: str, name: str, ours: Iterable[str], *, missing: str, called: str, kind: str) -> EntryPoint:
    """Return the one entry point of a name. Scans the environment, which is slow.

    Args:
        group: the group.
        name: the name.
        ours: the names that need no entry point: the error lists them too.
        missing: how the error for a name that is not there begins.
        called: what the name is in the error where two packages claim it.
        kind: how the error for a missing one describes the entry point that would bring it in.

    Raises:
        InvalidInputError: none has the name, or two packages claim it.

    """
    from importlib.metadata import entry_points  # slow, and needed for foreign names alone

    found = {entry.value: entry for entry in entry_points(group=group, name=name)}
    if not found:
        known = ", ".join(sorted({*ours, *(entry.name for entry in entry_points(group=group))}))
        raise InvalidInputError(
            f"{missing}: there are {known}. Others come with a package that has an entry point {kind} in the group "
            f"{group!r}"
        )
    if len(found) > 1:
        claims = " and ".join(
            f"{entry.value} ({entry.dist.name if entry.dist else 'unknown package'})" for entry in found.values()
        )
        raise InvalidInputError(f"two packages claim the {called}: {claims}. Uninstall one of them")
    (entry,) = found.values()
    return entry
