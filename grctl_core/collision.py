"""Two distributions install a package ``grctl``: ours and the server's own SDK. Both at once break each other."""

from __future__ import annotations

import os

__all__ = ["PackageCollisionError", "refuse_collision"]


class PackageCollisionError(ImportError):
    """Package ``grctl`` cannot be used: another distribution has written into it."""


def refuse_collision(package_file: str) -> None:
    """Raise if the server's own SDK is installed beside this package.

    pip overwrites the files of one with those of the other and says nothing, so this looks for the other's metadata
    in the folder that this package is installed in: a listing of one folder, no scan of the environment.

    Raises:
        PackageCollisionError: it is installed there.

    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(package_file)))  # noqa: PTH100, PTH120 - pathlib costs 5 ms
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    if any(name.startswith("grctl_sdk_python-") and name.endswith(".dist-info") for name in names):
        raise PackageCollisionError(
            "grctl-client and grctl-sdk-python are both installed in this environment, and overwrite each other's "
            "package 'grctl'. Keep one: pip uninstall -y grctl-client grctl-sdk-python, then install the one you want"
        )
