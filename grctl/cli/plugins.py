"""``grctl-client plugins``: which plugins are installed, and what runs around each operation."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from grctl.cli.text import json_text
from grctl.safe_text import safe
from grctl_core import __version__
from grctl_core.errors import InvalidInputError
from grctl_core.plugin_list import PluginList
from grctl_core.plugins import ENTRY_POINT_GROUP, OURS, VARIABLE, load_plugin, plugins_of

__all__ = ["plugins"]

_MY_PACKAGE = "grctl-client"


@click.group(short_help="See which plugins are installed, and what they do.")
def plugins() -> None:
    """See which plugins are installed, and what runs around each operation."""


@plugins.command("list")
@click.option(
    "--plugins",
    "names",
    metavar="NAMES",
    help=f"Show what runs around each operation with these plugins, commas between them.  [default: {VARIABLE}]",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, one value in a line.")
def list_plugins(names: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """List the plugins that are installed; a broken one with the reason.

    With --plugins, or GRCTL_PLUGINS in the environment, also what runs around each operation, outermost first.
    """
    # Neither a plugin that prints when it is imported nor one that warns spoils the list.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        installed = _installed()
        listed, wrong = _listed(names)
    for text in dict.fromkeys(str(each.message) for each in warned if issubclass(each.category, UserWarning)):
        click.echo(f"Warning: {safe(text)}", err=True)
    if as_json:
        report: dict[str, Any] = {"installed": installed, "listed": [], "layers": {}, "problem": wrong}
        if listed is not None:
            report |= {"listed": list(listed.names), "layers": listed.layers}
        click.echo(json_text(report))
    else:
        _show_installed(installed)
        if listed is not None:
            _show_layers(listed)
    if wrong is not None:
        raise click.UsageError(safe(wrong, lines=True))


def _installed() -> list[dict[str, str | None]]:
    """Return what there is, ours first; with it what is wrong with it, None for nothing."""
    foreign: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP)):
        foreign.setdefault(entry.name, []).append(entry)
    found: list[dict[str, str | None]] = [
        {"name": name, "package": _MY_PACKAGE, "version": __version__, "made_by": place, "problem": _problem(name)}
        for name, place in OURS.items()
    ]
    for name, claims in foreign.items():
        problem = "never used: the name is one of ours" if name in OURS else _problem(name)
        # One package may be found twice, by two ways to the same folder.
        for entry in {claim.value: claim for claim in claims}.values():
            package, version = (entry.dist.name, entry.dist.version) if entry.dist else (None, None)
            found.append(
                {"name": name, "package": package, "version": version, "made_by": entry.value, "problem": problem}
            )
    return found


def _problem(name: str) -> str | None:
    try:
        plugins_of([load_plugin(name)])
    except InvalidInputError as error:
        return str(error)
    except SystemExit as error:
        return f"the plugin {name!r} ended the interpreter when it was imported or made: SystemExit: {error}"
    return None


def _listed(names: str | None) -> tuple[PluginList | None, str | None]:
    chosen = None if names is None else [name.strip() for name in names.split(",") if name.strip()]
    try:
        found = plugins_of(chosen)
    except (InvalidInputError, SystemExit) as error:
        return None, str(error)
    return (found, None) if found.names or chosen is not None else (None, None)


def _show_installed(installed: Iterable[Mapping[str, str | None]]) -> None:
    rows = [
        (safe(each["name"]), safe(f"{each['package'] or 'unknown package'} {each['version'] or ''}".rstrip()), each)
        for each in installed
    ]
    widths = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    for name, package, each in rows:
        click.echo(f"{name:{widths[0]}}  {package:{widths[1]}}  {safe(each['made_by'])}")
        if each["problem"] is not None:
            click.echo(f"{'':{widths[0]}}  cannot be used: {safe(each['problem'])}")


def _show_layers(listed: PluginList) -> None:
    click.echo()
    layers = listed.layers
    if not layers:
        click.echo("no plugins: nothing runs around an operation")
        return
    width = max(map(len, layers))
    for what, names in layers.items():
        click.echo(f"{what:{width}}  {' > '.join(map(safe, names))}")
