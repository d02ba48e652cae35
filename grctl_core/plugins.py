"""The door for plugins: from what a user lists to plugin objects.

Plugins of other people come in by the entry point group ``grctl.plugins``: its name is what a list calls it, its value
a class, or a function, that is called without arguments and returns the plugin. A table of ours is looked up first, so
nobody takes our names over, and the environment is scanned only for names that are not ours.

Default plugins are for what instruments a program from outside, such as ``opentelemetry-instrument``: they stand before
the list of every client that is made from then on.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from grctl_core.entry_points import find_entry_point
from grctl_core.errors import InvalidInputError
from grctl_core.plugin_list import NO_PLUGINS, PluginList
from grctl_core.safe_text import one_line

__all__ = ["ENTRY_POINT_GROUP", "OURS", "VARIABLE", "add_default_plugin", "load_plugin", "plugins_of"]

ENTRY_POINT_GROUP = "grctl.plugins"
VARIABLE = "GRCTL_PLUGINS"

OURS: Mapping[str, str] = {
    "logging": "grctl_logging:LoggingPlugin",
    "retry": "grctl_retry:RetryPlugin",
    "tracing": "grctl_tracing:TracingPlugin",
}
"""Name to ``module:class``. Nothing is imported before it is asked for: the core knows no plugin."""

_MOST_SHOWN = 60  # characters of a name that is none
_defaults: tuple[object, ...] = ()


def add_default_plugin(plugin: object) -> Callable[[], None]:
    """Have every client that is made from now on begin its list with this plugin, also one with an empty list.

    A client that lists a plugin of the same name keeps its own instead. For instrumentation that comes from outside
    the program; a program itself says what it wants in ``Client(plugins=[...])``.

    Args:
        plugin: a plugin object, shared by all these clients.

    Returns:
        A function that takes it back, for clients that are made after that; calling it again does nothing.

    Raises:
        InvalidInputError: it cannot work as it is, or a default plugin of its name is there already.

    """
    global _defaults  # noqa: PLW0603 - one list for the process is what it is about
    _compile([*_defaults, plugin])
    _defaults = (*_defaults, plugin)

    def remove() -> None:
        global _defaults  # noqa: PLW0603
        _defaults = tuple(kept for kept in _defaults if kept is not plugin)

    return remove


def plugins_of(plugins: Iterable[object] | None) -> PluginList:
    """Return the plugins that a client is to have.

    Args:
        plugins: instances, and names of installed plugins, outermost first. None reads the names from the
            environment's GRCTL_PLUGINS, comma-separated; it is not read otherwise.

    Raises:
        InvalidInputError: one is not there, cannot be loaded, or cannot work as it is; the message names it.

    """
    if plugins is None:
        named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
        loaded = [_load(name, f" ({VARIABLE} in the environment names it)") for name in named if name]
        return _compile(_with_defaults(loaded))
    if isinstance(plugins, str | bytes) or not isinstance(plugins, Iterable):
        raise InvalidInputError(f"plugins must be a list of plugins and names, not {type(plugins).__name__}")
    return _compile(_with_defaults([_load(plugin) if isinstance(plugin, str) else plugin for plugin in plugins]))


def _with_defaults(plugins: list[object]) -> list[object]:
    listed = {getattr(plugin, "name", None) for plugin in plugins}
    return [*(plugin for plugin in _defaults if getattr(plugin, "name", None) not in listed), *plugins]


def _compile(plugins: list[object]) -> PluginList:
    if not plugins:
        return NO_PLUGINS
    from grctl_core.composition import compose_plugins  # with it comes pluggy: who has no plugin does not pay for it

    return compose_plugins(plugins)


def load_plugin(name: str) -> object:
    """Return a new plugin of this name; errors as :func:`plugins_of`."""
    return _load(name)


def _load(name: str, where: str = "") -> object:
    if name in OURS:
        module, _, attribute = OURS[name].partition(":")
        make = _import(name, lambda: getattr(importlib.import_module(module), attribute))
    else:
        make = _from_entry_points(name, where)
    if not callable(make):
        raise InvalidInputError(
            f"the plugin {name!r} is {type(make).__name__}, not a class or a function that makes it"
        )
    try:
        return make()
    except Exception as error:
        raise InvalidInputError(f"the plugin {name!r} could not be made: {type(error).__name__}: {error}") from error


def _from_entry_points(name: str, where: str) -> Any:
    missing = f"no plugin is named {one_line(name, _MOST_SHOWN)!r}{where}"
    called, kind = f"plugin name {name!r}", "of this name"
    entry = find_entry_point(ENTRY_POINT_GROUP, name, OURS, missing=missing, called=called, kind=kind)
    return _import(name, entry.load)


def _import(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ModuleNotFoundError as error:
        if name in OURS and error.name and not error.name.startswith("grctl"):
            raise InvalidInputError(
                f"the plugin {name!r} needs a package that is not installed ({error.name}): "
                f'pip install "grctl-client[{name}]"'
            ) from error
        raise InvalidInputError(f"the plugin {name!r} cannot be imported: {error}") from error
    except Exception as error:
        raise InvalidInputError(f"the plugin {name!r} cannot be imported: {type(error).__name__}: {error}") from error
