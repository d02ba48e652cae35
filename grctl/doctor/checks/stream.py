"""Has the broker JetStream, and the stream that a Ground Control server makes?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl.doctor.patient import Patient
from grctl_core.errors import AccessDeniedError, DecodeError, DeliveryUnknownError, NotDeliveredError
from grctl_nats.subjects import STREAM

__all__ = ["check_stream"]

_SECONDS = 5.0


async def check_stream(examination: Examination) -> AsyncIterator[Finding]:
    """Ask for the state of the stream: what is said instead tells whether there is JetStream at all."""
    patient = examination.patient
    subject = f"$JS.API.STREAM.INFO.{STREAM}"
    server = patient.linked().server
    try:
        answer = await patient.linked().request(subject, b"", None, _SECONDS)
    except NotDeliveredError:
        yield failed(
            "jetstream",
            f"the broker {server} has no JetStream, at least not for this account",
            "turn it on in the broker's configuration ('jetstream {}', and in the account); or it is another broker "
            "than the Ground Control server's: check the address",
        )
        return
    except (AccessDeniedError, DeliveryUnknownError) as error:
        yield _refused(patient, subject, error)
        return
    try:
        said = json.loads(answer.data)
        trouble = said.get("error")
    except (ValueError, AttributeError) as error:
        raise DecodeError(f"the broker's word on the stream cannot be decoded: {error!r}") from error
    if trouble is not None and trouble.get("code") != 404:
        yield failed(
            "jetstream",
            f"the broker's JetStream does not work: {trouble.get('description')}",
            "turn JetStream on for this account, and look at the broker's log",
            **trouble,
        )
        return
    yield ok("jetstream", "the broker has JetStream")
    if trouble is not None:
        yield failed(
            "stream",
            f"the broker {server} has no stream {STREAM!r}: no Ground Control server ever ran on it",
            "start the server, which makes the stream; or it runs on another broker or account: check the address",
        )
        return
    patient.now = datetime.fromisoformat(said["ts"]).astimezone(UTC)
    for finding in _judge(said):
        yield finding


def _refused(patient: Patient, subject: str, error: Exception) -> Finding:
    inbox = next((text for text in patient.linked().refusals if "_inbox." in text), None)
    if inbox is not None:
        what, lines = "answers (subscribing to _INBOX.>)", 'subscribe: ["_INBOX.>"]'
    elif isinstance(error, AccessDeniedError):
        what, lines = f"publishing to {subject}", f'publish: ["{subject}"]'
    else:
        mend = "look at the broker: is it overloaded, or stopped?"
        return failed("stream", f"the broker does not answer: {error}", mend)
    return failed("permissions", f"the broker refuses {what}", f"permit it to this user in its configuration: {lines}")


def _judge(said: dict[str, Any]) -> list[Finding]:
    config, state = said["config"], said["state"]
    details = {
        "messages": state["messages"],
        "bytes": state["bytes"],
        "created": said["created"],
        "storage": config.get("storage"),
    }
    found: list[Finding] = []
    if not config.get("allow_direct"):
        found.append(
            failed(
                "stream",
                f"the stream {STREAM!r} does not allow direct reads, so no record can be looked at",
                "let the server make the stream anew, or: nats stream edit grctl_state --allow-direct",
                **details,
            )
        )
    if config.get("storage") == "memory":
        found.append(
            warning(
                "stream", "the stream is kept in memory: all runs are gone when the broker stops", "use file storage"
            )
        )
    limits = [name for name in ("max_age", "max_msgs", "max_bytes", "max_msgs_per_subject") if config.get(name, 0) > 0]
    if limits:
        found.append(
            warning(
                "stream",
                f"the stream drops old records by its {', '.join(limits)}, also those of runs that go on",
                "take these limits away: nats stream edit grctl_state",
                limits=limits,
            )
        )
    if not found:
        size = f"{state['messages']:,} messages, {state['bytes'] / 1e6:,.1f} MB"
        found.append(ok("stream", f"{STREAM} has {size}, since {said['created'][:19]}Z", **details))
    return found
