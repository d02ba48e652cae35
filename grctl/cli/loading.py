"""Loading: workflows by name, as in ``examples.process_order:workflows``."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from grctl_engine.definition import Workflow

__all__ = ["load_workflows"]


def load_workflows(names: tuple[str, ...]) -> list[Workflow]:
    """Return the workflows that these names stand for.

    ``MODULE:OBJECT`` is a Workflow or a list of them; ``MODULE`` alone is its ``workflows``, or else all in it.

    Raises:
        click.ClickException: there is no such thing; the text says what there is.

    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; a console script has its own folder there
    found: list[Workflow] = []
    for name in names:
        found += [workflow for workflow in _load(name) if workflow not in found]
    return found


def _load(name: str) -> list[Workflow]:
    module_name, colon, path = name.partition(":")
    module = _import(module_name)
    if not colon:
        if not hasattr(module, "workflows"):
            every = [value for value in vars(module).values() if isinstance(value, Workflow)]
            if every:
                return every
            raise click.ClickException(f"module {module_name!r} has no Workflow in it, and no list named 'workflows'")
        path = "workflows"
    value: Any = module
    for attribute in path.split("."):
        try:
            value = getattr(value, attribute)
        except AttributeError:
            others = sorted(key for key, item in vars(module).items() if _is_workflows(item))
            hint = f"; it has {', '.join(others)}" if others else ""
            raise click.ClickException(f"module {module_name!r} has no {path!r}{hint}") from None
    if not _is_workflows(value):
        raise click.ClickException(
            f"{name} is neither a Workflow nor a list of them, but {type(value).__name__}: {value!r:.80}"
        )
    return [value] if isinstance(value, Workflow) else list(value)


def _import(name: str) -> Any:
    if not name:
        raise click.ClickException("write MODULE:OBJECT, for example examples.process_order:workflows")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise click.ClickException(
                f"there is no module {error.name!r}: it is looked for in {Path.cwd()} and where Python looks "
                "(a module is written with dots, without .py)"
            ) from None
        raise click.ClickException(f"module {name!r} needs {error.name!r}, which is not installed") from None
    except Exception as error:
        report = traceback.format_exc(limit=-3)
        raise click.ClickException(f"module {name!r} cannot be imported:\n{report}") from error


def _is_workflows(value: object) -> bool:
    if isinstance(value, list | tuple | set | frozenset):
        return bool(value) and all(isinstance(item, Workflow) for item in value)
    return isinstance(value, Workflow)
