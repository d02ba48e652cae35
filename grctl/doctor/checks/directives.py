"""Do directives pile up that the server cannot get rid of (docs/protocol.md, section 8, 5)?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, skipped, warning
from grctl_core.errors import AccessDeniedError, DecodeError
from grctl_nats.link import Link
from grctl_nats.subjects import STREAM

__all__ = ["check_directives"]

_SECONDS = 5.0
_HIGH, _FULL = 0.2, 0.9
"""Shares of a consumer's limit from which on it is worth a word, and from which on nothing will run soon."""


async def check_directives(examination: Examination) -> AsyncIterator[Finding]:
    """Read of each of the server's consumers how much it has been given and has not dealt with."""
    link = examination.patient.linked()
    try:
        consumers = await _consumers(link)
    except AccessDeniedError:
        yield skipped("directives", f"this user may not look: it needs to publish to $JS.API.CONSUMER.LIST.{STREAM}")
        return
    most = 0
    found = False
    for consumer in consumers:
        pending, limit = consumer.get("num_ack_pending", 0), consumer["config"].get("max_ack_pending", 0)
        most = max(most, pending)
        if limit <= 0 or pending < _HIGH * limit:
            continue
        found = True
        name = consumer.get("name")
        details = {"consumer": name, "ack_pending": pending, "max_ack_pending": limit}
        where = consumer["config"].get("filter_subject") or ", ".join(consumer["config"].get("filter_subjects") or ())
        message = f"{pending:,} directives pile up at the server's consumer {name!r}, of {limit:,} that it takes"
        mend = (
            "stop what sends events, cancels and terminates to runs that have ended: each is repeated for ever. They "
            f"lie on {where or 'the stream'}: 'nats stream purge {STREAM} --subject SUBJECT' for the ids of ended runs "
            "takes them away"
        )
        if pending >= _FULL * limit:
            yield failed("directives", f"{message}: starts are accepted now, and nothing runs", mend, **details)
        else:
            yield warning("directives", f"{message}; when it is full nothing runs any more", mend, **details)
    if not found:
        yield ok("directives", f"nothing piles up: at most {most:,} directives are under way", ack_pending=most)


async def _consumers(link: Link) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        body = json.dumps({"offset": len(found)}).encode()
        answer = await link.request(f"$JS.API.CONSUMER.LIST.{STREAM}", body, None, _SECONDS)
        try:
            said = json.loads(answer.data)
            page = said.get("consumers") or []
            total = int(said.get("total", 0))
        except (ValueError, AttributeError) as error:
            raise DecodeError(f"the broker's word on its consumers cannot be decoded: {error!r}") from error
        found += page
        if not page or len(found) >= total:
            return found
