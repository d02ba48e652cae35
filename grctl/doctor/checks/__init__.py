"""The checks, in the order in which they are made.

Each is an async generator of findings, and is given the examination. The table says for each whether what comes
after it makes sense when it fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from grctl.doctor.checks.address import check_address
from grctl.doctor.checks.directives import check_directives
from grctl.doctor.checks.login import check_login
from grctl.doctor.checks.network import check_network
from grctl.doctor.checks.package import check_package
from grctl.doctor.checks.permissions import check_permissions
from grctl.doctor.checks.runs import check_runs
from grctl.doctor.checks.server import check_server
from grctl.doctor.checks.stream import check_stream
from grctl.doctor.checks.types import check_types
from grctl.doctor.checks.workers import check_workers
from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding

__all__ = ["CHECKS", "Check"]

Check: TypeAlias = Callable[[Examination], AsyncIterator[Finding]]

CHECKS: tuple[tuple[str, Check, bool], ...] = (
    ("package", check_package, False),
    ("address", check_address, True),
    ("network", check_network, True),
    ("login", check_login, True),
    ("stream", check_stream, True),
    ("permissions", check_permissions, True),
    ("server", check_server, False),
    ("types", check_types, False),
    ("runs", check_runs, False),
    ("workers", check_workers, False),
    ("directives", check_directives, False),
)
"""Name, check, and whether the rest needs it."""
