"""OpenTelemetry traces and metrics for grctl clients: ``Client(connection=..., plugins=["tracing"])``.

Needs opentelemetry-api alone. docs/plugins/tracing.md says what is recorded, and under which names.

PYTEST_DONT_REWRITE: it may be imported before pytest is, which marks all packages of a plugin's distribution.
"""

from grctl_tracing.plugin import TracingPlugin

__all__ = ["TracingPlugin"]
