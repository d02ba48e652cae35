"""May this user do what the client does?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok
from grctl_core.commands import DescribeCommand
from grctl_core.errors import AccessDeniedError, DeliveryUnknownError, NotDeliveredError
from grctl_core.ids import new_ulid
from grctl_core.run import RunRef
from grctl_nats import subjects, wire
from grctl_nats.link import Link
from grctl_nats.subjects import STREAM

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["check_permissions"]

_SECONDS = 5.0


def _publications(name: str) -> list[tuple[str, bytes, str, str]]:
    """Return subject, harmless body, the permission that it needs, and what for."""
    get, consumer = f"$JS.API.DIRECT.GET.{STREAM}", "$JS.API.CONSUMER"
    run = RunRef(name, name, name)
    describe = wire.encode_command(DescribeCommand(wf_id=name), "grctl-doctor")
    return [
        (subjects.command(name), describe, "grctl_api.workflow.*", "commands"),
        (f"{get}.{subjects.run_info(run)}", b"", f"{get}.>", "reading records"),
        (get, json.dumps({"last_by_subj": subjects.run_info(run)}).encode(), get, "reading histories"),
        (f"{consumer}.CREATE.{STREAM}.{name}", b"{}", f"{consumer}.CREATE.{STREAM}.>", "listing runs"),
        (f"{consumer}.MSG.NEXT.{STREAM}.{name}", b"", f"{consumer}.MSG.NEXT.{STREAM}.>", "listing runs"),
        (f"{consumer}.DELETE.{STREAM}.{name}", b"", f"{consumer}.DELETE.{STREAM}.>", "listing runs"),
    ]


def _subscriptions(name: str) -> list[tuple[str, str, str]]:
    """Return subject, the permission that it needs, and what for."""
    return [
        (subjects.ALL_RUN_INFO, subjects.ALL_RUN_INFO, "waiting for results"),
        (subjects.history(RunRef(name, name)), "grctl_history.>", "following histories"),
        (f"_INBOX.{name}", "_INBOX.>", "listing runs"),
    ]


async def check_permissions(examination: Examination) -> AsyncIterator[Finding]:
    """Try each kind of subject that the client uses, with what changes nothing."""
    link = examination.patient.linked()
    name = f"grctl-doctor-{new_ulid()}"
    publish = {
        permission: purpose
        for subject, body, permission, purpose in _publications(name)
        if not await _may_publish(link, subject, body)
    }
    subscribe = await _denied_subscriptions(link, name)
    if not publish and not subscribe:
        yield ok("permissions", "this user may do all that the client does")
        return
    denied = {**publish, **subscribe}
    lines = [
        f"{verb}: [{', '.join(json.dumps(subject) for subject in found)}]"
        for verb, found in (("publish", publish), ("subscribe", subscribe))
        if found
    ]
    yield failed(
        "permissions",
        f"the broker refuses what {' and '.join(dict.fromkeys(denied.values()))} needs: {', '.join(denied)}",
        f"permit it to this user in the broker's configuration: {'; '.join(lines)}",
        publish=[*publish],
        subscribe=[*subscribe],
    )


async def _may_publish(link: Link, subject: str, body: bytes) -> bool:
    try:
        await link.request(subject, body, None, _SECONDS)
    except AccessDeniedError:
        return False
    except (NotDeliveredError, DeliveryUnknownError):
        return True  # nobody is there, or nobody answers: that is looked at elsewhere
    return True


async def _denied_subscriptions(link: Link, name: str) -> dict[str, str]:
    async def ignore(_: Msg) -> None: ...

    wanted = _subscriptions(name)
    for subject, _, _ in wanted:
        unsubscribe = await link.subscribe(subject, ignore)
        # The broker handles one thing after the other: when it answers this, it has refused what it refuses.
        await _may_publish(link, f"$JS.API.STREAM.INFO.{STREAM}", b"")
        await unsubscribe()
    said = " ".join(link.refusals)
    return {permission: purpose for subject, permission, purpose in wanted if f'"{subject.lower()}"' in said}
