"""The examination: the checks in order, and what one learns that a later one needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from grctl.doctor.finding import Finding, Level, failed, skipped
from grctl.doctor.patient import Patient
from grctl_core.errors import AccessDeniedError, ConnectionFailedError, DeliveryUnknownError, GrctlError

__all__ = ["Examination", "examine"]


@dataclass
class Examination:
    """What to look at.

    Attributes:
        server_url: addresses; None for those of the environment.
        login: further options of a connection, as ``NatsConnection.open`` takes them.
        workflow_type: a workflow type that must be registered; None for any.
        patient: what is learned; the link in it is open until :meth:`close`.
    """

    server_url: str | None = None
    login: Mapping[str, Any] = field(default_factory=dict)
    workflow_type: str | None = None
    patient: Patient = field(default_factory=Patient)

    async def close(self) -> None:
        """Close the link to the broker, if there is one."""
        if self.patient.link is not None:
            await self.patient.link.close()


async def examine(examination: Examination) -> AsyncIterator[Finding]:
    """Make the checks in order; stop where going on makes no sense. What is left out is named as skipped."""
    from grctl.doctor.checks import CHECKS

    stopped_by = ""
    for name, check, is_needed in CHECKS:
        if stopped_by:
            yield skipped(name, f"not looked at, as {stopped_by!r} has to be mended first")
            continue
        async for finding in _findings(name, check, examination):
            yield finding
            if finding.level is Level.FAILED and is_needed:
                stopped_by = finding.check


async def _findings(name: str, check: Any, examination: Examination) -> AsyncIterator[Finding]:
    try:
        async for finding in check(examination):
            yield finding
    except AccessDeniedError as error:
        yield failed(name, str(error), "have the broker's administrator permit it")
    except (ConnectionFailedError, DeliveryUnknownError) as error:
        yield failed(name, str(error), "look at the broker: is it overloaded, stopped or restarting? Then try again")
    except GrctlError as error:
        yield failed(name, str(error), "look at the server's and the broker's log")
