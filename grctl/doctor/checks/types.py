"""Which workflow types are registered?"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from typing import Any

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl_core.codec import decode
from grctl_core.errors import DecodeError
from grctl_nats.records import Record
from grctl_nats.subjects import registry

__all__ = ["check_types"]

_SHOWN = 12


async def check_types(examination: Examination) -> AsyncIterator[Finding]:
    """Read what workers have registered. It stays when a worker goes: it says nothing of whether one is there."""
    found = await examination.patient.records().last_of_each([registry("*")])
    types = {record.subject.partition(".")[2]: _details(record) for record in found}
    wanted = examination.workflow_type
    names = _listed(sorted(types))
    if wanted is not None and wanted not in types:
        close = difflib.get_close_matches(wanted, types, 1)
        yield failed(
            "types",
            f"the workflow type {wanted!r} is not registered; registered are {names}"
            + (f". Is it {close[0]!r}?" if close else ""),
            "start a worker that has this type, or check the spelling: names are case-sensitive",
            types=types,
        )
    elif not types:
        yield warning("types", "no workflow type is registered: no start can succeed", "start a worker", types=types)
    elif wanted is not None:
        by, at = types[wanted].get("worker_id"), types[wanted].get("registered_at")
        yield ok("types", f"{wanted!r} is registered, by worker {by} at {at}", types=types)
    else:
        yield ok("types", f"registered: {names}", types=types)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "none at all"


def _details(record: Record) -> dict[str, Any]:
    try:
        body = decode(record.body)
    except DecodeError:
        return {}
    if not isinstance(body, dict):
        return {}
    return {key: body.get(key) for key in ("worker_id", "registered_at")}
