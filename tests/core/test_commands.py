"""grctl_core.commands: one command is one message on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from grctl_core.commands import Command, Reply
from grctl_core.ids import check_id

from .scripted import run_info

NEEDS: dict[str, dict[str, Any]] = {
    "run.start": {"run": run_info("R1")},
    "run.event": {"event_name": "approve"},
    "run.query": {"run_id": "R1", "query_name": "status"},
}


@pytest.mark.parametrize("cls", get_args(Command))
def test_each_command_has_a_kind_an_id_and_a_time(cls: Any) -> None:
    made = [cls(wf_id="order-1", **NEEDS.get(cls.kind, {})) for _ in range(2)]
    assert made[0].id != made[1].id
    assert check_id("id", made[0].id)
    assert abs((datetime.now(UTC) - made[0].created_at).total_seconds()) < 60
    assert made[0].headers is None


def test_a_reply_says_nothing_of_its_link_unless_the_transport_does() -> None:
    assert Reply(success=True).link is None


def test_the_kinds_are_the_servers() -> None:
    kinds = [cls.kind for cls in get_args(Command)]
    assert kinds == ["run.start", "run.event", "run.cancel", "run.terminate", "run.describe", "run.query"]


def test_a_command_does_not_change_on_its_way() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        get_args(Command)[2](wf_id="order-1").reason = "other"
