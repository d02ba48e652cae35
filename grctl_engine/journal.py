"""Journal: is told what becomes of each run, while it happens. A host that keeps records elsewhere implements it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from grctl_engine.effects import Effect
from grctl_engine.inputs import Input
from grctl_engine.run import Entry, Run
from grctl_engine.state import RunState

__all__ = ["Journal"]


class Journal(Protocol):
    """What an engine tells of its runs. It is called in the middle of things: it must return at once, and not raise."""

    def admit(self, run: Run, state: RunState, input: Input) -> Input | None:
        """Return the input that the run is to get: this one, another one in its place, or None for none."""

    def transition(self, run: Run, state: RunState, input: Input, effects: list[Effect], entries: list[Entry]) -> None:
        """Note one transition, after its effects were applied: all of it is one atomic change.

        What one run's transition brings about in another run is noted after it.

        Args:
            run: the run. ``run.state`` is None if this was its end.
            state: the state machine's, also after the end. It is changed in place later: take what is needed now.
            input: what caused the transition.
            effects: what followed.
            entries: the events that it wrote.

        """

    def together(self) -> AbstractContextManager[object]:
        """Return a context: the transitions that are noted in it are one atomic change.

        A child's end and the event by which its parent learns of it are: were only the first one kept, the parent would
        wait for ever.
        """

    def appended(self, run: Run, entry: Entry) -> None:
        """Note an event that a worker wrote by itself, maybe after the run's end."""
