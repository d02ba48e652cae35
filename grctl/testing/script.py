"""Script: which commands and looks there are, what becomes of each, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

from grctl.testing import answers
from grctl.testing.answers import Answer
from grctl_core.commands import Command
from grctl_core.errors import InvalidInputError

__all__ = ["CommandName", "LookName", "Script", "Scripted", "name_of"]

CommandName: TypeAlias = Literal["start", "send", "cancel", "terminate", "describe", "query"]
"""A command, named after the operation that it is for."""

LookName: TypeAlias = Literal["find_run", "has_begun", "find_type", "ping"]
"""A look at the server and its records, which goes through no layer."""

Scripted: TypeAlias = Answer | Callable[[Any], Answer]
"""An answer, or a function that gets the command and returns one."""

COMMANDS: tuple[str, ...] = get_args(CommandName)
LOOKS: tuple[str, ...] = get_args(LookName)


class Script:
    """The answers that are still to come, by the name of what they are for."""

    def __init__(self) -> None:
        self._next: dict[str, deque[Scripted]] = {}
        self._always: dict[str, Scripted] = {}

    def add(self, name: str, scripted: tuple[Scripted, ...], *, always: bool) -> None:
        """Add answers; ``always``: the last one stays for good.

        Raises:
            InvalidInputError: there is no such name, or something is no answer.

        """
        if name not in COMMANDS and name not in LOOKS:
            raise InvalidInputError(f"nothing is called {name!r}: there are {', '.join((*COMMANDS, *LOOKS))}")
        for answer in scripted:
            _check_answer(name, answer)
        if always:
            self._always[name] = scripted[-1]
            scripted = scripted[:-1]
        self._next.setdefault(name, deque()).extend(scripted)

    @property
    def remaining(self) -> dict[str, int]:
        """How many answers nothing has come for."""
        return {name: len(scripted) for name, scripted in self._next.items() if scripted}

    def take(self, name: str, what: object) -> Answer:
        """Return the next answer for a command or a look.

        Raises:
            InvalidInputError: a scripted function returned none.

        """
        waiting = self._next.get(name)
        scripted = waiting.popleft() if waiting else self._always.get(name, Answer())
        if isinstance(scripted, Answer):
            return scripted
        answer = scripted(what)
        _check_answer(name, answer)
        if not isinstance(answer, Answer):
            raise InvalidInputError(f"the function scripted for {name!r} returned {answer!r}, which is no answer")
        return answer


def name_of(command: Command) -> CommandName:
    """Return a command's name."""
    name = command.kind.removeprefix("run.")
    return "send" if name == "event" else name  # type: ignore[return-value]  # the kinds are those of the Literal


def _check_answer(name: str, answer: object) -> None:
    if getattr(answer, "__module__", None) == answers.__name__ and callable(answer):
        raise InvalidInputError(f"call it: on({name!r}, {getattr(answer, '__name__', 'answer')}(...))")
    if isinstance(answer, Answer):
        if name in LOOKS and (
            answer.reply is not None or (answer.carried_out != 1 and not answer.error and not answer.lost)
        ):
            raise InvalidInputError(f"{name!r} is a look at the records, which can fail, be lost or late, nothing else")
    elif not callable(answer):
        raise InvalidInputError(f"{answer!r} is no answer: use accept(), refuse(4002), lose_reply(), ...")
