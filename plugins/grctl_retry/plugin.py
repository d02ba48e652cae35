"""RetryPlugin: fills the retry slot of a client."""

from __future__ import annotations

import asyncio
import random as _random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from grctl_core.calls import DEFAULT_RETRY, CommandCall
from grctl_core.errors import GrctlError, InvalidInputError
from grctl_core.hooks import Plugin, RetryingProceed
from grctl_retry.budget import Budget
from grctl_retry.decision import is_answer, is_worth_another_try, sent_nothing
from grctl_retry.policy import Retry

__all__ = ["RetryPlugin"]


class RetryPlugin(Plugin):
    """Tries a call again where that is safe, and may help.

    What a repetition means for an operation is the core's affair: a start in doubt is looked for before it is sent
    again, a cancel is repeated only while the run goes on, and an event only where the caller said ``idempotent=True``.

    Args:
        policy: for calls that bring none of their own by ``retry=``; None for ``Retry()``.
        budget: how many repetitions may be sent while nobody answers, for all calls of this plugin together; None for
            no limit. Share one plugin to let several clients share it.
        sleep: what pauses: takes seconds. For tests.
        random: gives a number from 0 to 1, the share of the longest pause that is made. For tests.

    Raises:
        InvalidInputError: an argument cannot be used.
    """

    name = "retry"

    def __init__(
        self,
        policy: Retry | None = None,
        *,
        budget: int | None = 1000,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 0):
            raise InvalidInputError(f"budget must be a whole number from 0, or None for no limit, not {budget!r}")
        self._policy = Retry() if policy is None else _checked("policy", policy)
        self._budget = Budget(budget)
        self._sleep = sleep
        self._random = random

    async def grctl_retry(self, call: CommandCall, proceed: RetryingProceed) -> Any:
        """Try until it is done, or another try is of no use."""
        policy = self._policy if call.retry is DEFAULT_RETRY else _checked("retry", call.retry)
        began = proceed.time()
        if policy.deadline is not None:
            call = _with_deadline(call, began + policy.deadline)
        tries = paid = cost = 0
        ceiling = policy.first_delay
        while True:
            tries += 1
            try:
                result = await proceed(call)
            except GrctlError as error:
                now = proceed.time()
                pause = ceiling * self._random()
                cost = 0 if sent_nothing(error) else 1
                if is_worth_another_try(error, call):
                    no_more = self._limit(policy, call, tries, now + pause, cost)
                elif tries > 1:
                    no_more = "another try is not safe, or of no use"
                else:
                    no_more = ""
                if no_more is not None:
                    if is_answer(error):
                        self._budget.answered(paid)
                    if no_more:
                        times = "once" if tries == 1 else f"{tries} times"
                        error.add_note(f"tried {times} in {now - began:.3f} s, and not again: {no_more}")
                    raise
                proceed.announce(error, pause)
            except asyncio.CancelledError:
                self._budget.give_back(cost)  # what this try took: nobody knows whether it would have been answered
                raise
            else:
                self._budget.answered(paid)
                return result
            try:
                await self._sleep(pause)
            except BaseException:
                self._budget.give_back(cost)
                raise
            paid += cost
            ceiling = min(2 * ceiling, policy.longest_delay)

    def _limit(self, policy: Retry, call: CommandCall, tries: int, then: float, cost: int) -> str | None:
        """Return which limit forbids another try at that time; None, and its cost is taken, where none does."""
        if policy.attempts is not None and tries >= policy.attempts:
            return f"attempts={policy.attempts}"
        if call.deadline is not None and then >= call.deadline:
            return "its deadline would pass in the pause"
        if not self._budget.take(cost):
            return "too many calls fail, and the retry budget is spent"
        return None


def _with_deadline(call: CommandCall, deadline: float) -> CommandCall:
    if call.deadline is not None and call.deadline <= deadline:
        return call
    return msgspec.structs.replace(call, deadline=deadline)  # call.replace() would check the number


def _checked(name: str, policy: object) -> Retry:
    if not isinstance(policy, Retry):
        raise InvalidInputError(
            f"{name} must be a Retry, such as grctl_retry.Retry(attempts=3), or None "
            f"({'no retries' if name == 'retry' else 'the defaults'}), not {type(policy).__name__}"
        )
    return policy
