"""Where the command ``grctl-client`` begins: outside package ``grctl``, which may be broken.

The server's own SDK overwrites that package's files; then this says so in one line, where an import would end in a
traceback or in another's code.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from __future__ import annotations

import sys

from grctl_core.collision import PackageCollisionError, refuse_collision

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its code: 2 where another distribution has overwritten it."""
    try:
        refuse_collision(__file__)
        from grctl.cli import main as command
    except PackageCollisionError as error:
        sys.stderr.write(f"grctl-client: {error}\n")
        sys.exit(2)
    command()
