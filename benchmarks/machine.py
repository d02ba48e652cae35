"""What the figures were taken on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from grctl.dev_server.broker import find_executable

__all__ = ["described"]

_PACKAGES = ("nats-py", "msgspec", "pluggy", "opentelemetry-api", "opentelemetry-sdk", "uvloop")


def described(*, quick: bool) -> dict[str, str]:
    """Return the machine and the versions, and how much is measured."""
    said = {
        "numbers": "small, of scripts/bench --quick" if quick else "whole",
        "processor": f"{_processor()}, {os.cpu_count()} CPUs",
        "system": f"{platform.system()} {platform.release()}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) + " (1, 5, 15 minutes, before)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Python": platform.python_version(),
        "grctl-client": version("grctl-client"),
        "nats-server": _nats_server(),
    }
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            said[package] = version(package)
    return said


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _nats_server() -> str:
    said = subprocess.run([find_executable(), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return said.stdout.strip().rpartition("v")[2]
