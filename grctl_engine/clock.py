"""Clocks: where the engine's time comes from, and how a test moves it."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn, Protocol, runtime_checkable

from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import InvalidInputError, UnsupportedOperationError

__all__ = ["Clock", "ClockUser", "ManualClock", "SystemClock", "Timer"]

QUIET_TURNS_IDLE = 20
"""Turns of the event loop without engine activity after which :class:`ManualClock` takes an engine without running
steps as settled: enough for a caller that was woken to send its next command."""

QUIET_TURNS_BUSY = 100
"""The same for an engine with steps that run on: what they wait for is outside and will not come by turning."""

MOST_TURNS = 100_000
"""Turns of the event loop that :class:`ManualClock` gives one moment: a workflow that goes on for ever without waiting
takes them all. Each step of a chain takes two or three; what runs beside each other shares its turns."""


class Timer(Protocol):
    """What :meth:`Clock.call_later` returns."""

    def cancel(self) -> None:
        """Keep the timer from firing. Harmless when it has fired."""


class ClockUser(Protocol):
    """What a clock can know of the engine that uses it."""

    @property
    def busy(self) -> bool:
        """Whether a step is running that does not just wait for this clock."""

    @property
    def activity(self) -> int:
        """A number that rises with everything that the engine does."""


@runtime_checkable
class Clock(Protocol):
    """The engine's time.

    Attributes:
        moves_by_itself: whether time passes without anybody's doing.
    """

    moves_by_itself: bool

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Have ``callback`` called in the event loop when ``seconds`` have passed."""

    def attach(self, user: ClockUser) -> None:
        """Make an engine known that lives by this clock."""

    def detach(self, user: ClockUser) -> None:
        """Forget an engine."""

    async def advance(
        self,
        duration: Duration | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Move the time on, where that can be done: see :meth:`ManualClock.advance`."""


class SystemClock:
    """The machine's time, with timers of the running event loop."""

    moves_by_itself = True

    def now(self) -> datetime:
        """Return the machine's time, in UTC."""
        return datetime.now(UTC)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Set a timer of the running event loop."""
        # An empty context: a timer must not keep the span of whoever happened to set it.
        return asyncio.get_running_loop().call_later(seconds, callback, context=contextvars.Context())

    def attach(self, user: ClockUser) -> None:
        """Nothing to do."""

    def detach(self, user: ClockUser) -> None:
        """Nothing to do."""

    async def advance(
        self,
        duration: Duration | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> NoReturn:
        """Refuse.

        Raises:
            UnsupportedOperationError: always.

        """
        raise UnsupportedOperationError(
            "the machine's time moves by itself alone: open the engine with clock=ManualClock() to move it"
        )


class _ManualTimer:
    __slots__ = ("_clock", "callback")

    def __init__(self, clock: ManualClock, callback: Callable[[], object]) -> None:
        self._clock = clock
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._clock._forget_one()  # noqa: SLF001 - two halves of one thing


class ManualClock:
    """A clock for tests: it stands still until :meth:`advance` moves it, and then whatever is due happens, in order.

    Pass one to ``MemoryConnection.open(clock=...)`` or ``Engine(clock=...)``, and ``await clock.advance(days=30)``.
    """

    moves_by_itself = False

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Stand at ``start``.

        Raises:
            InvalidInputError: ``start`` has no time zone.

        """
        if not isinstance(start, datetime) or start.tzinfo is None:
            raise InvalidInputError(
                "start must be a datetime with a time zone, for example datetime(2026, 1, 1, tzinfo=UTC)"
            )
        self._now = start.astimezone(UTC)
        self._timers: list[tuple[datetime, int, _ManualTimer]] = []
        self._cancelled = 0
        self._numbers = itertools.count()
        self._users: list[ClockUser] = []
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<ManualClock {self._now.isoformat()}, {self.pending} timers>"

    @property
    def pending(self) -> int:
        """How many timers are set."""
        return len(self._timers) - self._cancelled

    @property
    def next_due(self) -> datetime | None:
        """When the next timer fires; None where none is set. Never before :meth:`now`."""
        self._drop_cancelled()
        return max(self._timers[0][0], self._now) if self._timers else None

    def now(self) -> datetime:
        """Return the time that the clock stands at."""
        return self._now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Set a timer; :meth:`advance` fires it."""
        timer = _ManualTimer(self, callback)
        heapq.heappush(self._timers, (self._now + timedelta(seconds=seconds), next(self._numbers), timer))
        return timer

    def attach(self, user: ClockUser) -> None:
        """Let an engine settle whenever time is moved."""
        self._users.append(user)

    def detach(self, user: ClockUser) -> None:
        """Forget an engine."""
        if user in self._users:
            self._users.remove(user)

    async def advance(
        self,
        duration: Duration | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Move the time on, and fire what becomes due: in order of due time, then of setting.

        While timers fire, the clock stands at the time at which they are due. Before the first and after each such
        moment the engine settles: the event loop turns until no step is running but those that sleep on this clock,
        and nothing happened for some turns. A step that waits for something outside is given a hundred turns. One that
        does so in ``asyncio.gather`` with a ``ctx.sleep()`` counts as asleep, and is given but twenty.

        Args:
            duration: how far, a ``timedelta`` or seconds; what follows is added.
            days: days more.
            hours: hours more.
            minutes: minutes more.
            seconds: seconds more.

        Raises:
            InvalidInputError: the sum is not above zero.
            RuntimeError: the engine does not settle in 100,000 turns, as a workflow goes on from step to step for ever.
                The time stands at that moment.

        """
        distance = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if duration is not None:
            distance += timedelta(seconds=to_seconds("duration", duration))
        if distance <= timedelta(0):
            raise InvalidInputError(f"time moves forward only: advance({distance}) must be above zero")
        async with self._lock:
            await self.settle()
            target = self._now + distance
            while self._fire_next(target):
                await self.settle()
            self._now = target
            await self.settle()

    async def advance_to_next(self) -> bool:
        """Move on to the moment at which something is due next, and fire that; False where nothing is.

        The engine settles before and after it, as with :meth:`advance`, and with the same RuntimeError.
        """
        async with self._lock:
            await self.settle()
            due = self.next_due
            if due is None:
                return False
            self._fire_next(due)
            await self.settle()
            return True

    async def settle(self) -> None:
        """Let the engines do all that they can do without time passing.

        Raises:
            RuntimeError: there is no end to it: see :meth:`advance`.

        """
        quiet = turns = 0
        seen = self._activity()
        while quiet < (QUIET_TURNS_BUSY if any(user.busy for user in self._users) else QUIET_TURNS_IDLE):
            if turns == MOST_TURNS:
                raise RuntimeError(
                    f"the engine does not settle: {MOST_TURNS:,} turns of the event loop have passed at {self._now}, "
                    "and steps or queries still follow one another. Does a workflow go from step to step for ever? "
                    "Let it ctx.sleep() or ctx.next.wait() in between, so that time can pass"
                )
            turns += 1
            await asyncio.sleep(0)
            activity = self._activity()
            quiet = quiet + 1 if activity == seen else 0
            seen = activity

    def _activity(self) -> int:
        return sum(user.activity for user in self._users)

    def _fire_next(self, until: datetime) -> bool:
        """Fire the timers of the next due time; False when none is due by then."""
        self._drop_cancelled()
        timers = self._timers
        if not timers or timers[0][0] > until:
            return False
        # Timers that are overdue (set with a negative time) fire now: time does not go back.
        due = self._now = max(timers[0][0], self._now)
        batch = []
        while timers and timers[0][0] <= due:
            batch.append(heapq.heappop(timers)[2])
        for position, timer in enumerate(batch):
            callback, timer.callback = timer.callback, None
            if callback is None:  # cancelled, maybe by the one before it
                self._cancelled -= 1
                continue
            try:
                callback()
            except BaseException:
                for left in batch[position + 1 :]:
                    heapq.heappush(timers, (due, next(self._numbers), left))
                raise
        return True

    def _drop_cancelled(self) -> None:
        """Let the next timer be one that fires."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1

    def _forget_one(self) -> None:
        self._cancelled += 1
        if self._cancelled > 100 and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0
