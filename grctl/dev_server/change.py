"""Changes: what one step forward of a run writes to the stream, as one atomic batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

__all__ = ["Body", "Change", "Message", "join"]


class Message(msgspec.Struct, eq=False):
    """One message for the stream.

    Attributes:
        subject: where to.
        body: what; a function where it depends on the sequences of this or earlier messages. It is called when they
            are known, and again should they turn out otherwise.
        seq: its sequence in the stream; 0 until it is known.
        dropped: whether nobody needs it any more, so that it is not sent if it was not yet.
    """

    subject: str
    body: Body
    seq: int = 0
    dropped: bool = False

    def encoded(self) -> bytes:
        """Return the body."""
        return self.body if isinstance(self.body, bytes) else self.body()


Body: TypeAlias = bytes | Callable[[], bytes]


class Change(msgspec.Struct, eq=False):
    """What is to be written at once, and what can go after that.

    Attributes:
        messages: in order.
        obsolete: messages of earlier changes that are to be deleted.
        purge: subjects of which everything is to be deleted.
    """

    messages: list[Message]
    obsolete: list[Message] = []
    purge: list[str] = []


def join(changes: list[Change]) -> Change:
    """Return one change that does what several do."""
    if len(changes) == 1:
        return changes[0]
    return Change(
        [message for change in changes for message in change.messages],
        [message for change in changes for message in change.obsolete],
        [subject for change in changes for subject in change.purge],
    )
