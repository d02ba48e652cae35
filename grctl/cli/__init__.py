"""The command line, ``grctl-client``. It needs an extra; without that it says so in one line."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRAS = {"click", "rich"}


def main() -> None:
    """Run the command line."""
    try:
        from grctl.cli.app import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        sys.exit(f'grctl-client: {missing} is not installed: pip install "grctl-client[dev-server]"')
    app(prog_name="grctl-client")
