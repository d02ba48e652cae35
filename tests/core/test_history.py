"""grctl_core.history: unknown kinds and keys are kept, never failed on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from grctl_core.codec import encode
from grctl_core.errors import DecodeError
from grctl_core.history import TERMINAL_KINDS, HistoryEvent
from grctl_core.run import RunStatus


def event(kind: str, data: object, **fields: object) -> HistoryEvent:
    return HistoryEvent(
        seq=3,
        kind=kind,
        timestamp=datetime.now(UTC),
        wf_id="order-1",
        run_id="R1",
        encoded=encode("data", data),
        **fields,  # type: ignore[arg-type]
    )


def test_unknown_kinds_and_keys_are_kept() -> None:
    moon = event("moon.rose", {"phase": "full", "new": [1, {"deep": None}]}, extra={"zz": 1})
    assert moon.kind == "moon.rose"
    assert moon.data == {"phase": "full", "new": [1, {"deep": None}]}
    assert moon.extra == {"zz": 1}
    assert not moon.is_terminal


@pytest.mark.parametrize("kind", TERMINAL_KINDS)
def test_terminal_kinds(kind: str) -> None:
    assert event(kind, {}).is_terminal
    assert TERMINAL_KINDS[kind].is_terminal


def test_each_way_to_end_has_its_kind() -> None:
    assert set(TERMINAL_KINDS.values()) == {status for status in RunStatus if status.is_terminal}


def test_an_event_without_a_map_says_so() -> None:
    with pytest.raises(DecodeError, match=r"event 3 \(odd\) of run R1 holds no map"):
        _ = event("odd", [1, 2]).data


def test_an_event_that_says_nothing_more_has_an_empty_map() -> None:
    plain = HistoryEvent(seq=1, kind="run.scheduled", timestamp=datetime.now(UTC), wf_id="o", run_id="R1")
    assert plain.data == {}
    assert plain.extra == {}
