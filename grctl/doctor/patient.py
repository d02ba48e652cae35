"""Patient: what the checks learn of a server, each from those before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from grctl_core.run import RunInfo
from grctl_nats.link import Link
from grctl_nats.records import Records
from grctl_nats.settings import Server, Settings

__all__ = ["Contradiction", "Hello", "OpenRun", "Patient"]


@dataclass(frozen=True)
class Hello:
    """What a broker says of itself when somebody connects.

    Attributes:
        server: its address.
        info: its own words.
    """

    server: Server
    info: dict[str, Any]

    @property
    def version(self) -> str:
        """The version of the broker."""
        return str(self.info.get("version", "?"))


@dataclass(frozen=True)
class OpenRun:
    """A run that has not ended, by its record.

    Attributes:
        info: its record.
        state: kind of its state record; None where there is none.
        since: when it came into that state.
    """

    info: RunInfo
    state: str | None
    since: datetime


@dataclass(frozen=True)
class Contradiction:
    """A run that has ended by its state, and goes on by its record (docs/protocol.md, section 8, 1).

    Attributes:
        info: the record.
        seq: stream sequence of the record.
        state: kind of its state record.
    """

    info: RunInfo
    seq: int
    state: str


@dataclass
class Patient:
    """What is known so far."""

    settings: Settings | None = None
    hellos: list[Hello] = field(default_factory=list)
    link: Link | None = None
    now: datetime | None = None
    open_runs: list[OpenRun] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)

    def linked(self) -> Link:
        """Return the link; the checks that need it come after the one that makes it."""
        if self.link is None:
            raise RuntimeError("no check has connected yet")
        return self.link

    def records(self) -> Records:
        """Return a reader of the stream."""
        return Records(self.linked, 5.0)
