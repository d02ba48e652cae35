"""TypeInfo: what a worker has registered for one workflow type."""

from __future__ import annotations

import msgspec

__all__ = ["TypeInfo"]


class TypeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A registered workflow type (docs/protocol.md, "Workflow type definition").

    Attributes:
        name: the workflow type.
        start_step: name of the step that a run begins with.
        steps: names of its further steps.
        events: names of the events that it handles.
        queries: names of the queries that it answers.
    """

    name: str
    start_step: str = "start"
    steps: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
