"""Faults: where grctld v0.4 misbehaves (docs/protocol.md, section 8), and what a network does, on demand.

For the tests of this library's safeguards, not for users: nothing here is stable. Which commands or runs a fault
strikes is told by rule and seed, so that a test sees the same each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from enum import Enum

import msgspec

from grctl_core.errors import InvalidInputError

__all__ = ["Fault", "Faults", "What"]


class What(Enum):
    """What goes wrong. The numbers are those of docs/protocol.md, section 8; 13 is nothing that a client can notice."""

    LOSE_COMMAND = "the command never arrives"
    LATE_COMMAND = "the command arrives `seconds` late, and is answered then"
    LOSE_REPLY = "carried out, but not answered"
    LATE_REPLY = "carried out, and answered `seconds` late"
    DOUBLE_REPLY = "answered twice"
    ERROR_BUT_DONE = "carried out, and answered with 5000"
    ERROR_NOT_DONE = "not carried out, and answered with 5000"

    OVERWRITE_FINISHED = "1: a start with the run id of a finished run overwrites its record and blocks the id"
    ERROR_LEAVES_RECORD = "2: a start is answered with 5000 and leaves a record that never begins"
    SLOW_BEGIN = "3: a run begins `seconds` after its start was accepted; until then it has no started_at"
    EARLY_CANCEL_KILLS = "3: a cancel before started_at kills the server, and kills it again at each restart"
    NEAR_LIMIT_HANGS = "4: a start within 300 B of the broker's limit never begins, within 1,500 B it hangs in its step"
    REDELIVERY = "5: after `count` commands to finished runs, starts are accepted and nothing runs"
    EVENT_STUCK = "6: an event for a run that is not settled gets stuck, and later ones with it"
    RESTART_LOST = "7: a start up to `seconds` after the end of the last run of its id is lost"
    STEP_DROPPED = "8: a step dispatched right after another is dropped until its timeout"
    WAIT_TIMER_SURVIVES = "8: the timer of a wait fires although an event ended the wait"
    CANCEL_FAILS = "9: a cancel during a step that then raises or times out ends in failed"
    TWO_SERVERS = "10: everything is done and answered twice"
    RESTART_DOUBLES = "11: after the broker's restart run.started is there twice, and describes take `seconds`"
    NOT_CAUSAL = "12: step.started comes after the first thing that its step did"
    STEP_STARTED_MISSING = "12: step.started is missing"


_OF_COMMANDS = frozenset(
    {
        What.LOSE_COMMAND,
        What.LATE_COMMAND,
        What.LOSE_REPLY,
        What.LATE_REPLY,
        What.DOUBLE_REPLY,
        What.ERROR_BUT_DONE,
        What.ERROR_NOT_DONE,
        What.TWO_SERVERS,
    }
)
"""Those that may strike any command; each other one strikes at one place only."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One rule.

    Attributes:
        what: what goes wrong.
        kind: of the command that it may strike, as ``"run.start"``; empty for any. Only for what is lost, late, doubled
            or answered wrongly whatever it asks for: the other faults strike at one place each.
        nth: which ones of those that it may strike, counted from 1; empty for those that ``probability`` picks.
        probability: the share of those that it may strike.
        seconds: how long; see ``what``.
        count: how many; see ``what``.

    Raises:
        InvalidInputError: the fault cannot be narrowed down to a kind of command.
    """

    what: What
    kind: str = ""
    nth: tuple[int, ...] = ()
    probability: float = 1.0
    seconds: float = 0.0
    count: int = 1_000

    def __post_init__(self) -> None:
        if self.kind and self.what not in _OF_COMMANDS:
            raise InvalidInputError(
                f"{self.what.name} does not take a kind ({self.kind!r}): it strikes only where it can"
            )


class Faults:
    """The faults of one server."""

    def __init__(self, *faults: Fault, seed: int = 0) -> None:
        """Take rules, and the seed of what probability picks."""
        self._rules: dict[What, list[Fault]] = {}
        for fault in faults:
            self._rules.setdefault(fault.what, []).append(fault)
        self._random = random.Random(seed)
        self._seen: dict[int, int] = {}
        self.struck: list[What] = []
        """What has struck so far, in order."""

    @classmethod
    def of(cls, *whats: What, seconds: float = 0.0) -> Faults:
        """Return faults that strike whenever they can."""
        return cls(*(Fault(what=what, seconds=seconds) for what in whats))

    def __repr__(self) -> str:
        return f"<Faults: {', '.join(what.name for what in self._rules)}>"

    def has(self, what: What) -> Fault | None:
        """Return the rule of that kind, if there is one; it does not strike by that."""
        rules = self._rules.get(what)
        return rules[0] if rules else None

    def strikes(self, what: What, kind: str = "") -> Fault | None:
        """Return the rule that strikes here; None where none does."""
        for rule in self._rules.get(what, ()):
            if rule.kind and rule.kind != kind:
                continue
            number = self._seen[id(rule)] = self._seen.get(id(rule), 0) + 1
            if number in rule.nth if rule.nth else self._random.random() < rule.probability:
                self.struck.append(what)
                return rule
        return None

    def first(self, whats: Iterable[What], kind: str) -> Fault | None:
        """Return the rule of the first of these that strikes."""
        for what in whats:
            fault = self.strikes(what, kind)
            if fault is not None:
                return fault
        return None
