"""The command line, ``grctl-client``. It needs an extra; without that it says so in one line."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRAS = {"click", "rich"}


def main() -> None:
    """Run the command line, and exit with its code (docs/command-line.md, "Exit codes")."""
    try:
        from grctl.cli.app import app

        app(prog_name="grctl-client")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        extra = "dev-server" if "dev" in sys.argv[1:2] else "cli"
        sys.stderr.write(f'grctl-client: {missing} is not installed: pip install "grctl-client[{extra}]"\n')
        sys.exit(2)
    except KeyboardInterrupt:  # while the command was being loaded: nothing was done yet
        sys.exit(130)
