"""The form of a run: the short one is part of scripts/test, the full one is scripts/test-faults."""

from __future__ import annotations

import os

__all__ = ["FULL", "SEED", "in_form"]

FULL = os.environ.get("GRCTL_FAULTS") == "full"

SEED = int(os.environ.get("GRCTL_FAULTS_SEED", "1"))
"""Of whatever is left to chance. The same seed makes the same choices; how processes interleave is the machine's."""


def in_form(short: int, full: int) -> int:
    """Return how often something is done."""
    return full if FULL else short
