"""OpenTelemetry traces and metrics for grctl clients: ``Client(connection=..., plugins=["tracing"])``.

Needs opentelemetry-api alone. docs/plugins/tracing.md says what is recorded, and under which names.
"""

from grctl_tracing.plugin import TracingPlugin

__all__ = ["TracingPlugin"]
