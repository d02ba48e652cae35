"""FaultDriver: how a fault is brought about, and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from .cell import Cell
from .site import LONG, Site
from .table import Fault, Operation

if TYPE_CHECKING:
    from .rounds import Round

__all__ = ["ASK_NOTHING", "SOON", "FaultDriver"]

SOON = 1.0
"""Seconds after which a caller gives up whose answer does not come, where it is not to come."""

ASK_NOTHING = (Operation.CLOSE,)
"""Operations without a message that a fault could strike."""


class FaultDriver:
    """How one fault is brought about. By default: at the proxy, when the operation's message comes by.

    Attributes:
        site: what it needs.
        timeout: seconds for one attempt of the operations.
        look_timeout: seconds for one look at the records; None for as many.
        pings: seconds between pings, for operations that wait until the link is found to be dead.
    """

    fault: ClassVar[Fault]
    site: ClassVar[type[Site]] = Site
    timeout: ClassVar[float] = LONG
    look_timeout: ClassVar[float | None] = None
    pings: ClassVar[float | None] = None

    def arm(self, cell: Cell, a_round: Round) -> None:
        """Lay the rules at the proxy, before the operation begins."""

    async def before(self, a_round: Round) -> None:
        """Strike before the operations begin."""

    async def strike(self, a_round: Round) -> None:
        """Strike, with all operations under way."""
        await a_round.all_struck()

    async def lift(self, a_round: Round) -> None:
        """Take it back."""
