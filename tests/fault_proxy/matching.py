"""Matching: which frames a rule is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .frames import VERBS, Direction, Frame

__all__ = ["COMMANDS", "Match", "frames", "replies", "requests", "subject_matches"]

COMMANDS = "grctl_api.>"
"""Where commands to a Ground Control server go."""

Where = Callable[[Frame], bool]


def subject_matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of a pattern's: ``*`` stands for one token, ``>`` for one or more at the end."""
    wanted, given = pattern.split("."), subject.split(".")
    for number, token in enumerate(wanted):
        if token == ">" and number == len(wanted) - 1:
            return len(given) > number
        if number >= len(given) or token not in {"*", given[number]}:
            return False
    return len(wanted) == len(given)


@dataclass(frozen=True)
class Match:
    """Frames of a direction and of some verbs, with a subject, for which ``where`` holds. What is None is not asked.

    ``asked`` is for replies: the subject that the request went to.
    """

    direction: Direction | None = None
    verbs: frozenset[str] | None = None
    subject: str | None = None
    asked: str | None = None
    where: Where | None = None
    awaits_reply: bool = False

    def __call__(self, frame: Frame) -> bool:
        """Whether this frame is one of them."""
        return (
            (self.direction is None or frame.direction is self.direction)
            and (self.verbs is None or frame.verb in self.verbs)
            and (self.subject is None or (frame.subject != "" and subject_matches(self.subject, frame.subject)))
            and (not self.awaits_reply or frame.reply_to != "")
            and (
                self.asked is None or (frame.request is not None and subject_matches(self.asked, frame.request.subject))
            )
            and (self.where is None or self.where(frame))
        )

    def __str__(self) -> str:
        verbs = "/".join(sorted(self.verbs)) if self.verbs is not None else "frames"
        way = f" {self.direction.value}" if self.direction is not None else ""
        on = f" on {self.subject}" if self.subject is not None else ""
        answering = f" answering {self.asked}" if self.asked is not None else ""
        return f"{verbs}{way}{on}{answering}{', some' if self.where is not None else ''}"


def frames(
    direction: Direction | None = None,
    verbs: str | Iterable[str] | None = None,
    subject: str | None = None,
    where: Where | None = None,
) -> Match:
    """Frames of any kind.

    Args:
        direction: which way they go; None for both.
        verbs: one or several, in any case; None for all.
        subject: a pattern, with NATS's wildcards; None for all, also those that have none.
        where: says of a frame whether it is one of them.

    Raises:
        ValueError: there is no such verb.

    """
    if verbs is not None:
        verbs = frozenset(verb.upper() for verb in ([verbs] if isinstance(verbs, str) else verbs))
        if unknown := verbs - VERBS.keys():
            raise ValueError(f"no verbs of the protocol: {', '.join(sorted(unknown))}; there are {', '.join(VERBS)}")
    return Match(direction, verbs, subject, where=where)


def requests(subject: str = COMMANDS, where: Where | None = None) -> Match:
    """What the client publishes there and wants a reply to."""
    return Match(Direction.TO_SERVER, frozenset({"PUB", "HPUB"}), subject, where=where, awaits_reply=True)


def replies(asked: str = COMMANDS, where: Where | None = None) -> Match:
    """What the client gets in reply to requests that it published there over the same connection.

    A frame's ``request`` is the request itself. That nobody listens is a reply too (503, from the broker).
    """
    return Match(Direction.TO_CLIENT, frozenset({"MSG", "HMSG"}), asked=asked, where=where)
