"""The mutants: one change each that breaks a promise, and the tests of which one at least must fail for it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """A change.

    Attributes:
        file: where, from the root.
        old: text that is there exactly once.
        new: what takes its place.
        tests: arguments to pytest.
        breaks: what is no longer so.
    """

    file: str
    old: str
    new: str
    tests: str
    breaks: str


LINK = "transports/grctl_nats/link.py"
REPLIES = "transports/grctl_nats/replies.py"
WATCHER = "transports/grctl_nats/watcher.py"
UPLINK = "transports/grctl_nats/uplink.py"
RECORDS = "transports/grctl_nats/records.py"
LISTING = "transports/grctl_nats/listing.py"
HISTORY = "transports/grctl_nats/history.py"
SAFEGUARDS = "transports/grctl_nats/safeguards.py"
CONNECTION = "transports/grctl_nats/connection.py"
DEADLINES = "transports/grctl_nats/deadlines.py"
RECONCILE = "grctl_core/reconcile.py"
WIRE = "grctl_core/wire.py"
FLIGHTS = "grctl_core/flights.py"
SEND_ORDER = "grctl_core/send_order.py"
RETRY = "plugins/grctl_retry/plugin.py"
DECISION = "plugins/grctl_retry/decision.py"
BUDGET = "plugins/grctl_retry/budget.py"

ON_THE_WIRE = "tests/faults/test_matrix_wire.py"
AT_THE_BROKER = "tests/faults/test_matrix_broker.py"
VOLUME = "tests/faults/test_defects.py"
MODEL = "tests/faults/test_model.py"
RECONCILED = "tests/core/test_reconcile_start.py tests/core/test_reconcile_others.py tests/core/test_reconcile_model.py"

MUTANTS = [
    # --- the link: requests and their replies
    Mutant(
        REPLIES,
        "            self._given_up[waiting.token] = None\n",
        "            pass\n",
        "tests/nats/test_fault_proxy.py -k after_the_caller_has_given_up",
        "a reply that comes too late is not taken for a second one",
    ),
    Mutant(
        REPLIES,
        "        self._fires = -math.inf  # never armed again\n        for waiting in self:\n",
        "        self._fires = -math.inf  # never armed again\n        for waiting in ():\n",
        f"{ON_THE_WIRE} -k cut_before_reply-send",
        "who waits for a reply hears that the link is lost",
    ),
    Mutant(
        REPLIES,
        "        return (waiting for waiting in list(self._waiting.values()) if not waiting.reply.done())\n",
        "        return (\n"
        "            waiting\n"
        "            for waiting in list(self._waiting.values())\n"
        "            if not waiting.reply.done() and not isinstance(waiting, Collecting)\n"
        "        )\n",
        "tests/nats/test_link.py -k answers_of_several_messages_end_too",
        "who reads an answer of several messages hears that the link is lost",
    ),
    Mutant(
        REPLIES,
        "if waiting is not None and not waiting.reply.done():",
        "if waiting is not None:",
        "tests/nats/test_link.py tests/nats/test_fault_proxy.py -k 'second_reply or twice'",
        "a second reply in the same moment does no harm",
    ),
    Mutant(
        REPLIES,
        "        del self._waiting[waiting.token]\n",
        "        self._waiting.get(waiting.token)\n",
        f"{ON_THE_WIRE} -k reply_lost",
        "a request that has ended leaves no entry",
    ),
    Mutant(
        REPLIES,
        "DeliveryUnknownError(text, link=self._link)",
        "DeliveryUnknownError(text)",
        "tests/nats/test_link.py tests/nats/test_doubt.py -k 'no_reply_in_time or doubt'",
        "a doubt names its link, so that a describe over it is a barrier",
    ),
    Mutant(
        LINK,
        "        _check_responders(message, subject)\n",
        "",
        "tests/nats/test_link.py -k nobody_listens",
        "that nobody listens is told as NotDeliveredError",
    ),
    Mutant(
        LINK,
        "        if size > self.max_payload:\n",
        "        if len(body) > self.max_payload:\n",
        "tests/nats/test_link.py -k headers_count",
        "headers count against the broker's limit",
    ),
    Mutant(
        LINK,
        "        if self.on_lost is not None:\n            self.on_lost()\n",
        "",
        "tests/nats/test_uplink.py",
        "the loss of a link is told at once",
    ),
    Mutant(
        LINK,
        "        if self._queue.locked() or not self._has_room(size):\n"
        "            await self._wait_for_room(size, within)\n",
        "",
        "tests/nats/test_link.py -k 'room_that_does_not_come or frozen_broker_and_a_timeout'",
        "what a broker that takes in nothing leaves with the driver is bounded",
    ),
    Mutant(
        REPLIES,
        "        if until < self._fires:\n",
        "        if False:\n",
        "tests/nats/test_fault_proxy.py -k reply_that_is_lost --timeout=20",
        "a request ends when its time is over",
    ),
    Mutant(
        LINK,
        "            if self.is_up:  # else",
        "            if True:  # else",
        "tests/nats/test_link.py -k halfway --timeout=20",
        "a subscription is ended although the driver has closed halfway",
    ),
    # --- the uplink
    Mutant(
        UPLINK,
        "asyncio.timeout(max(min(left, max(_DIAL_TIMEOUT, left / 2)), _SHORTEST_DIAL))",
        "asyncio.timeout(max(left, _SHORTEST_DIAL))",
        "tests/nats/test_uplink.py -k first_word",
        "connecting leaves time for another try",
    ),
    Mutant(
        UPLINK,
        "            await asyncio.shield(link.lost)\n",
        "            await asyncio.get_running_loop().create_future()\n",
        "tests/nats/test_watcher.py -k reconnect --timeout=40",
        "a link that is lost is replaced",
    ),
    Mutant(
        UPLINK,
        "            link.on_lost = self._lost\n            self._changed(link)\n",
        "            link.on_lost = self._lost\n",
        "tests/nats/test_watcher.py -k reconnect",
        "waits go on over a new link",
    ),
    # --- the watcher
    Mutant(
        WATCHER,
        "            wait.pauses = iter(_AFTER_FIRST_LOOK)\n            self._due[key] = None\n",
        "            wait.pauses = iter(_AFTER_FIRST_LOOK)\n",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and new_link'",
        "all that wait are looked at over a new link",
    ),
    Mutant(
        WATCHER,
        "_AFTER_FIRST_LOOK = (0.05, 1.0)",
        "_AFTER_FIRST_LOOK = ()",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and after_the_first_one'",
        "a hint that went by before we listened loses no end",
    ),
    Mutant(
        WATCHER,
        "_AFTER_HINT = (0.005, 0.02, 0.08, 0.32, 1.0)",
        "_AFTER_HINT = (1000.0,)",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and after_a_hint'",
        "a hint may come before the storage shows the end",
    ),
    Mutant(
        WATCHER,
        "link.subscribe(subjects.ALL_RUN_INFO, ",
        'link.subscribe(subjects.ALL_RUN_INFO + ".x", ',
        "tests/nats/test_watcher.py -k 'WithoutSweeps and cannot_be_read'",
        "ends are heard",
    ),
    Mutant(
        WATCHER,
        "                    if self._listening is not self._link:  # there is a new one since\n",
        "                    if False:\n",
        "tests/nats/test_watcher.py -k new_link_while",
        "a link that comes up while the watcher looks is listened over before it looks on",
    ),
    Mutant(
        WATCHER,
        "        if info is not None and not _may_have_ended(info):\n",
        "        if info is None or not _may_have_ended(info):\n",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and cannot_be_read'",
        "a hint that cannot be read is a hint",
    ),
    Mutant(
        WATCHER,
        "                for wait in waits:\n"
        "                    self._again(wait, _AFTER_HINT[-1])\n"
        "            return\n",
        "                pass\n            return\n",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and a_look_that_gets_no_answer'",
        "a look that got no answer is repeated",
    ),
    Mutant(
        WATCHER,
        "        if wait.missing >= len(_AFTER_HINT):\n",
        "        if wait.missing >= 0:\n",
        "tests/nats/test_watcher.py -k stored_a_little_later",
        "a record that is not there yet is waited for",
    ),
    Mutant(
        WATCHER,
        "        if wait.missing >= len(_AFTER_HINT):\n",
        "        if wait.missing >= 10**9:\n",
        f"{AT_THE_BROKER} -k purged-result --timeout=150",
        "a wait for a run whose records are gone ends",
    ),
    Mutant(
        WATCHER,
        "        for wait in list(self._waits.values()):\n            self._fail(wait, closed_error())\n",
        "",
        f"{ON_THE_WIRE} -k clock_stepped-close",
        "who waits hears that the connection was closed",
    ),
    Mutant(
        WATCHER,
        "            del self._waits[key]\n",
        "            pass\n",
        "tests/nats/test_watcher.py -k 'forgotten or nobody_listens'",
        "a wait that has ended leaves no entry",
    ),
    Mutant(
        WATCHER,
        "        if len(waits) > 1:\n            for wait in waits:\n                await self._confirm([wait])\n",
        "        if len(waits) > 1:\n            for wait in waits:\n                self._fail(wait, error)\n",
        "tests/nats/test_watcher.py -k looked_at",
        "what is wrong with one run's record is not with the others'",
    ),
    Mutant(
        WATCHER,
        "    return info.is_finished or info.completed_at is not None or info.status is None\n",
        "    return info.is_finished or info.completed_at is not None\n",
        "tests/nats/test_watcher.py -k late_start_replaced",
        "the end of a run whose record was overwritten is found",
    ),
    Mutant(
        WATCHER,
        "            if await self._records.exists():\n",
        "            if False:\n",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and nobody_answers'",
        "a stream without a leader is not gone",
    ),
    Mutant(
        WATCHER,
        "            self._again(wait, next(wait.pauses, _AFTER_HINT[-1]))\n",
        "            pass\n",
        "tests/nats/test_watcher.py -k 'WithoutSweeps and read_again'",
        "an end that could not be read is read again",
    ),
    Mutant(
        WATCHER,
        "            self._sweep_in(_SWEEP_AFTER_DROP)\n",
        "            pass\n",
        "tests/nats/test_watcher.py -k come_too_fast",
        "hints that were dropped are made up for",
    ),
    # --- records, lists, histories
    Mutant(
        RECORDS,
        "    if before is not None and before != str(latest):\n",
        "    if False:\n",
        f"{ON_THE_WIRE} -k reply_lost-history",
        "a gap in an answer is noticed",
    ),
    Mutant(
        RECORDS,
        "            if record is None or record.seq <= latest:\n",
        "            if record is None:\n",
        "tests/nats/test_records.py -k twice",
        "what comes twice in an answer counts once",
    ),
    Mutant(
        LISTING,
        "            if place != number:\n",
        "            if False:\n",
        "tests/nats/test_listing.py -k lost",
        "a gap in a list is noticed",
    ),
    Mutant(
        LISTING,
        "                    asked = max(asked - _HALF, len(page))\n                    continue\n",
        "                    pass\n",
        "tests/nats/test_listing.py -k a_part",
        "a list of records that are purged meanwhile ends",
    ),
    Mutant(
        HISTORY,
        "                next_seq = found[-1].seq + 1\n                pages",
        "                next_seq = found[-1].seq\n                pages",
        f"{ON_THE_WIRE} -k reply_twice-history --timeout=60",
        "an event comes once",
    ),
    Mutant(
        HISTORY,
        "        self._link.lost.add_done_callback(self._link_lost)\n"
        "        try:\n"
        "            async with asyncio.timeout(pause):\n",
        "        try:\n            async with asyncio.timeout(None):\n",
        "tests/nats/test_history.py -k hint_that_is_lost --timeout=60",
        "a follower looks again where hints are lost",
    ),
    # --- what a doubt means
    Mutant(
        RECONCILE,
        "        if found is None and doubt.link is not None and reply.link == doubt.link:\n",
        "        if found is None:\n",
        RECONCILED,
        "over another link a start is looked for before it is sent again",
    ),
    Mutant(
        RECONCILE,
        "            found = await self._look(self._doubt, reach, timeout)\n",
        "            found = None\n",
        RECONCILED,
        "a start in doubt is not sent again blindly",
    ),
    Mutant(
        RECONCILE,
        "        if earlier is not None and not call.idempotent:\n            raise earlier\n",
        "",
        RECONCILED,
        "an event in doubt is not sent again",
    ),
    Mutant(
        RECONCILE,
        "isinstance(error, WorkflowAlreadyRunningError) and error.run_id == run.id",
        "isinstance(error, WorkflowAlreadyRunningError) and False",
        RECONCILED,
        "that our own run is active already is no conflict",
    ),
    Mutant(
        RECONCILE,
        "        if found.started_at is not None or found.is_finished:\n"
        "            return found\n"
        "\n"
        "        async def begun",
        "        if found:\n            return found\n\n        async def begun",
        RECONCILED,
        "a record that never begins is no run",
    ),
    Mutant(
        RECONCILE,
        "        if found is not latest:\n",
        "        if False:\n",
        RECONCILED,
        "a cancel does not hit a newer run",
    ),
    Mutant(
        RECONCILE,
        "            if isinstance(error, GrctlError) if fate is None else not fate.is_open:\n",
        "            if True:\n",
        RECONCILED,
        "an attempt that was given up leaves a doubt",
    ),
    Mutant(
        RECONCILE,
        "            if ended is not None and (earlier is None or ended.status not in _ENDED_AS_ASKED):\n",
        "            if ended is not None:\n",
        RECONCILED,
        "a cancel that took effect in doubt is done",
    ),
    Mutant(
        WIRE,
        "_IN_DOUBT = frozenset({ErrorCode.INTERNAL, ErrorCode.PANIC})",
        "_IN_DOUBT: frozenset[int] = frozenset()",
        RECONCILED,
        "5000 does not mean that nothing was done",
    ),
    Mutant(
        FLIGHTS,
        "        while (current := self._flying.get(key)) is not None:\n",
        "        while (current := self._flying.get(('', ''))) is not None:\n",
        "tests/core/test_flights.py --timeout=30",
        "racing cancels share one request",
    ),
    Mutant(
        SEND_ORDER,
        "        if error is not None:\n"
        "            self._busy = False\n"
        "            self._spoil(error)\n"
        "            return\n",
        "",
        "tests/core/test_send_order.py",
        "events behind one that failed are not sent",
    ),
    Mutant(
        SEND_ORDER,
        "        if not self._busy:\n            self._busy = True\n            return\n",
        "        if True:\n            return\n",
        "tests/core/test_send_order.py",
        "events of one handle keep their order",
    ),
    # --- the retry plugin
    Mutant(
        DECISION,
        "            return call.settles_doubt and not isinstance(_met(error), _FINAL)\n",
        "            return True\n",
        "tests/retry",
        "what is in doubt and cannot be looked into is not tried again",
    ),
    Mutant(
        DECISION,
        "        case NotSentError() | NotDeliveredError():\n            return True\n",
        "        case NotSentError() | NotDeliveredError():\n            return False\n",
        "tests/retry",
        "what was not sent is tried again",
    ),
    Mutant(
        BUDGET,
        "        if self._left < tokens * _PARTS:\n            return False\n",
        "",
        "tests/retry",
        "the budget ends a retry storm",
    ),
    Mutant(
        BUDGET,
        "            self._left = min(self._left + (taken * _PARTS or 1), self._most)\n",
        "            pass\n",
        "tests/retry",
        "answers fill the budget again",
    ),
    Mutant(
        RETRY,
        "                pause = ceiling * self._random()\n",
        "                pause = ceiling\n",
        "tests/retry",
        "pauses are random",
    ),
    Mutant(
        RETRY,
        "            ceiling = min(2 * ceiling, policy.longest_delay)\n",
        "",
        "tests/retry",
        "pauses grow",
    ),
    Mutant(
        RETRY,
        "        if call.deadline is not None and then >= call.deadline:\n",
        "        if False:\n",
        "tests/retry/test_retry_limits.py --timeout=20",
        "no try begins after the deadline",
    ),
    Mutant(
        RETRY,
        "        if policy.attempts is not None and tries >= policy.attempts:\n",
        "        if policy.attempts is not None and tries > policy.attempts:\n",
        "tests/retry/test_retry_limits.py --timeout=60",
        "there are no more attempts than asked for",
    ),
    # --- safeguards, and the connection
    Mutant(
        SAFEGUARDS,
        "        return info is None or info.started_at is not None or info.is_finished\n",
        "        return True\n",
        f"{VOLUME} -k early",
        "3: a cancel does not kill the server",
    ),
    Mutant(
        SAFEGUARDS,
        '        return at.kind == "wait" and (last is None or (at.last_event_seq_id or 0) >= last.seq)\n',
        "        return True\n",
        "tests/safeguards",
        "6: events do not get stuck",
    ),
    Mutant(
        SAFEGUARDS,
        "        return await records.last(subjects.worker_task(ended)) is None\n",
        "        return True\n",
        f"{VOLUME} -k restart",
        "7: a restart is not lost",
    ),
    Mutant(
        CONNECTION,
        "                    await guard\n                except DeliveryUnknownError as error:",
        "                    await guard\n                except ZeroDivisionError as error:",
        "tests/nats/test_safeguards.py tests/nats/test_doubt.py",
        "a look before the command that fails leaves no doubt",
    ),
    Mutant(
        CONNECTION,
        "                await self._idle.wait()\n",
        "                pass\n",
        "tests/contract/test_connection.py tests/nats/test_connect.py",
        "what is under way may end before the connection closes",
    ),
    Mutant(
        DEADLINES,
        "            await self._compare_clocks()\n",
        "",
        "tests/nats/test_deadlines.py",
        "a clock that stands still ends no run early",
    ),
]
