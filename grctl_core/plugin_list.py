"""PluginList: the plugins of a client, and what they add around each operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import overload

from grctl_core.pipeline import Pipeline

__all__ = ["NO_PLUGINS", "PluginList"]


class PluginList(Sequence[object]):
    """The plugins of a client, outermost first. ``print(client.plugins)`` shows what runs around each operation.

    Attributes:
        names: the plugins' names, in the same order.
        pipeline: the layers that they make.
    """

    def __init__(self, plugins: tuple[object, ...], names: tuple[str, ...], pipeline: Pipeline) -> None:
        self._plugins = plugins
        self.names = names
        self.pipeline = pipeline

    @property
    def layers(self) -> Mapping[str, tuple[str, ...]]:
        """What runs around what, outermost first: an operation, ``"retry"`` or ``"attempt"`` to ``plugin.hook``.

        Under ``run_ended``, ``retry_scheduled``, ``connection_changed`` and ``log_context`` stands who is told. Only
        what is there.
        """
        pipeline = self.pipeline
        table = {operation: tuple(map(str, layers)) for operation, layers in pipeline.operations.items()}
        told = pipeline.notifications
        more: dict[str, Sequence[object]] = {
            "retry": () if pipeline.retry is None else (pipeline.retry,),
            "attempt": pipeline.attempts,
            "run_ended": told.on_run_ended,
            "retry_scheduled": told.on_retry_scheduled,
            "connection_changed": told.on_connection_changed,
            "log_context": told.on_log_context,
        }
        return table | {what: tuple(map(str, names)) for what, names in more.items() if names}

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[object]: ...
    def __getitem__(self, index: int | slice) -> object:
        """Return a plugin, or some of them."""
        return self._plugins[index]

    def __len__(self) -> int:
        return len(self._plugins)

    def __repr__(self) -> str:
        return f"<PluginList {', '.join(self.names) or 'empty'}>"

    def __str__(self) -> str:
        layers = self.layers
        if not layers:
            return "no plugins"
        width = max(map(len, layers))
        return "\n".join(f"{what:{width}}  {' > '.join(names)}" for what, names in layers.items())


NO_PLUGINS = PluginList((), (), Pipeline())
