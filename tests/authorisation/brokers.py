"""Real brokers, and the page that says how to set one up: docs/security.md."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

__all__ = ["Broker", "configuration", "rows"]

_ROOT = Path(__file__).parents[2]
PAGE = (_ROOT / "docs" / "security.md").read_text(encoding="utf-8")

# The folder's own name, `nats`, is the driver's.
_spec = importlib.util.spec_from_file_location("authorisation_broker", _ROOT / "tests" / "nats" / "broker.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Broker: Any = _module.Broker


def configuration() -> str:
    """Return the page's configuration of a broker, as it stands there."""
    block = re.search(r"^```conf\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert block is not None
    return block[1]


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the first table after a heading, without its head."""
    section = re.split(rf"^##+ {re.escape(heading)}\n", PAGE, flags=re.MULTILINE)[1]
    found = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert found is not None
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in found[1].splitlines()]
