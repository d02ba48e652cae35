"""Composition: from a list of plugins to the layers of a client. What cannot work is refused, with the reason."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any

import pluggy

from grctl_core.errors import InvalidInputError
from grctl_core.hooks import Plugin
from grctl_core.notifications import Listener, Notifications
from grctl_core.pipeline import Layer, Pipeline
from grctl_core.plugin_list import PluginList

__all__ = ["compose_plugins"]

_SPECIFIC = {"start": "grctl_start", "send": "grctl_send", "result": "grctl_result"}
_OPERATIONS = ("start", "send", "cancel", "terminate", "describe", "query", "result")
_LAYERS = ("grctl_operation", "grctl_start", "grctl_send", "grctl_result", "grctl_retry", "grctl_attempt")
_HOOKS = {name for name in vars(Plugin) if name.startswith("grctl_")}


class _Manager(pluggy.PluginManager):
    """Takes every method named grctl_... for a hook: one without the marker is not silently dead."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        if not name.startswith("grctl_") or _inherited(plugin, name):
            return None
        return super().parse_hookimpl_opts(plugin, name) or {}


def compose_plugins(plugins: Sequence[object]) -> PluginList:
    """Compile a list of plugins, first listed outermost.

    Raises:
        InvalidInputError: a plugin cannot work as it is; the message names it, and says why.

    """
    managers: dict[str, _Manager] = {}  # one each: pluggy compares plugins, and two may be equal
    for plugin in plugins:
        name = _name_of(plugin)
        if name in managers:
            raise InvalidInputError(f"two plugins are named {name!r}: give one of them another name")
        managers[name] = _Manager("grctl")
        managers[name].add_hookspecs(Plugin)
        _check_hooks(plugin, name, managers[name])
        managers[name].register(plugin, name)
    names = list(managers)
    _check_order(plugins, names)

    def implementations(hook: str) -> list[tuple[str, Callable[..., Any]]]:
        return [
            (name, item.function)
            for name, manager in managers.items()
            for item in getattr(manager.hook, hook).get_hookimpls()
        ]

    def layers(*hooks: str) -> tuple[Layer, ...]:
        found = {(name, hook): function for hook in hooks for name, function in implementations(hook)}
        ordered = [(name, hook) for name in names for hook in hooks if (name, hook) in found]
        return tuple(Layer(name, hook, found[name, hook]) for name, hook in ordered)

    def listeners(hook: str) -> tuple[Listener, ...]:
        return tuple(
            Listener(name, hook, function, tuple(inspect.signature(function).parameters))
            for name, function in implementations(hook)
        )

    retries = layers("grctl_retry")
    if len(retries) > 1:
        both = " and ".join(repr(layer.plugin) for layer in retries)
        raise InvalidInputError(f"{both} both implement grctl_retry, and a client has one retry slot: leave one out")
    pipeline = Pipeline(
        operations={
            operation: found
            for operation in _OPERATIONS
            if (found := layers("grctl_operation", *filter(None, [_SPECIFIC.get(operation)])))
        },
        retry=retries[0] if retries else None,
        attempts=layers("grctl_attempt"),
        notifications=Notifications(
            on_run_ended=listeners("grctl_run_ended"),
            on_retry_scheduled=listeners("grctl_retry_scheduled"),
            on_connection_changed=listeners("grctl_connection_changed"),
            on_log_context=listeners("grctl_log_context"),
        ),
    )
    return PluginList(tuple(plugins), tuple(names), pipeline)


def _inherited(plugin: object, name: str) -> bool:
    """Whether the method is that of the base class: there to be overridden, not to be called."""
    return getattr(type(plugin), name, None) is getattr(Plugin, name, object()) and name not in vars(plugin)


def _name_of(plugin: object) -> str:
    if isinstance(plugin, type):
        raise InvalidInputError(f"plugins takes instances, and {plugin.__name__} is a class: pass {plugin.__name__}()")
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not name.strip():
        raise InvalidInputError(
            f"{type(plugin).__name__} is no plugin, or lacks a name: give its class an attribute such as name = 'audit'"
        )
    return name


def _check_hooks(plugin: object, name: str, manager: _Manager) -> None:
    implemented = [hook for hook in dir(plugin) if hook.startswith("grctl_") and not _inherited(plugin, hook)]
    if not implemented:
        raise InvalidInputError(f"plugin {name!r} implements no hook: there are {', '.join(sorted(_HOOKS))}")
    for hook in implemented:
        where = f"plugin {name!r}: {hook}"
        if hook not in _HOOKS:
            near = difflib.get_close_matches(hook, _HOOKS, 1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(_HOOKS))}"
            raise InvalidInputError(f"{where} is no hook: {meant}")
        found = inspect.getattr_static(plugin, hook)
        if not isinstance(found, FunctionType | MethodType | staticmethod | classmethod):
            raise InvalidInputError(f"{where} is no method but {type(found).__name__}: write a method")
        function = getattr(plugin, hook)
        _check_signature(where, hook, function)
        options: Any = pluggy.PluginManager.parse_hookimpl_opts(manager, plugin, hook)
        used = sorted(option for option, value in (options or {}).items() if value)
        if used:
            raise InvalidInputError(
                f"{where} is marked with {', '.join(used)}, which has no effect here: the order is that of the list"
            )


def _check_signature(where: str, hook: str, function: Callable[..., Any]) -> None:
    """Layers take exactly the hook's arguments; notifications any of them."""
    wanted = list(inspect.signature(getattr(Plugin, hook)).parameters)[1:]
    parameters = inspect.signature(function).parameters.values()
    names = [parameter.name for parameter in parameters]
    plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
    is_layer = hook in _LAYERS
    fits = names == wanted if is_layer else set(names) <= set(wanted)
    if not fits or not plain:
        given = ", ".join(str(parameter.replace(annotation=parameter.empty)) for parameter in parameters)
        how = "exactly the arguments" if is_layer else "no arguments but"
        raise InvalidInputError(f"{where} takes ({given}): a method for it has {how} ({', '.join(wanted)})")
    is_coroutine = inspect.iscoroutinefunction(function)
    if is_layer and not is_coroutine:
        raise InvalidInputError(f"{where} must be a coroutine function: write 'async def {hook}'")
    if not is_layer and is_coroutine:
        raise InvalidInputError(f"{where} must be a plain function, as nobody awaits it: write 'def {hook}'")


def _check_order(plugins: Sequence[object], names: Sequence[str]) -> None:
    for position, plugin in enumerate(plugins):
        others = getattr(plugin, "listed_after", ())
        if not isinstance(others, tuple):
            raise InvalidInputError(
                f"plugin {names[position]!r}: listed_after must be a tuple of names, not {others!r}"
            )
        for other in others:
            if other in names[position + 1 :]:
                warnings.warn(
                    f"plugin {names[position]!r} is listed before {other!r}, and should stand after it: the first "
                    "listed is outermost",
                    UserWarning,
                    stacklevel=6,  # the line that makes the client
                )
