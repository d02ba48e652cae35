"""Is something else installed that overwrites the package ``grctl``?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import packages_distributions, version

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok
from grctl_core import __version__

__all__ = ["check_package"]

_OURS = "grctl-client"


async def check_package(_: Examination) -> AsyncIterator[Finding]:
    """Look for other distributions that install a package of our name."""
    others = sorted(set(packages_distributions().get("grctl", ())) - {_OURS})
    if others:
        yield failed(
            "package",
            f"{' and '.join(others)} installs a package 'grctl' too: whichever was installed last overwrites the other",
            f"keep one of them: pip uninstall -y {_OURS} {' '.join(others)}, then install the one that you want",
            others=others,
        )
    else:
        yield ok("package", f"{_OURS} {__version__}, nats-py {version('nats-py')}", version=__version__)
