"""GrctlInstrumentor: tracing without a change of the program, ``opentelemetry-instrument python app.py``.

The only module here that needs opentelemetry-instrumentation: ``pip install "grctl-client[instrumentor]"``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped

from grctl_core.plugins import add_default_plugin
from grctl_tracing.plugin import TracingPlugin

__all__ = ["GrctlInstrumentor"]


class GrctlInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Gives every client that is made from now on a TracingPlugin, unless it lists one named "tracing" itself.

    ``GrctlInstrumentor().instrument(**options)`` takes the options of TracingPlugin. ``uninstrument()`` takes the
    plugin back: clients that are made after that have none; those that were made before keep theirs.
    """

    _remove: Callable[[], None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: what is instrumented is in the same distribution."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        # Distributions of OpenTelemetry may pass more, meant for all instrumentors.
        options = ("tracer_provider", "meter_provider", "propagator", "server_address", "server_port")
        known = {name: value for name, value in kwargs.items() if name in options}
        self._remove = add_default_plugin(TracingPlugin(**known))

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._remove is not None:
            self._remove()
            self._remove = None
