"""Names of what is recorded: those of the semantic conventions where they have one, else our own under ``grctl.``.

docs/plugins/tracing.md explains each.
"""

from __future__ import annotations

from typing import Final

from grctl_core.errors import RefusedError, ServerError

__all__ = [
    "ATTEMPT_NUMBER",
    "ATTEMPT_TOTAL",
    "COMMAND",
    "ERROR_TYPE",
    "EVENT_NAME",
    "METHODS",
    "QUERY_NAME",
    "RETRY_ATTEMPT",
    "RETRY_DELAY",
    "RETRY_EVENT",
    "RPC_METHOD",
    "RPC_STATUS_CODE",
    "RPC_SYSTEM",
    "RUN_ID",
    "RUN_STATUS",
    "SCHEMA_URL",
    "SERVER_ADDRESS",
    "SERVER_PORT",
    "SYSTEM",
    "WAIT_DURATION",
    "WORKFLOW_ID",
    "WORKFLOW_TYPE",
    "failure_attributes",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The one version of the semantic conventions that the names are taken from."""

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS_CODE: Final = "rpc.response.status_code"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

SYSTEM: Final = "grctl"
"""Value of rpc.system.name."""

METHODS: Final = {
    operation: f"grctl/{operation}"
    for operation in ("start", "send", "cancel", "terminate", "describe", "query", "result")
}
"""Operation to its name: the span's, and the value of rpc.method."""

WORKFLOW_ID: Final = "grctl.workflow.id"
WORKFLOW_TYPE: Final = "grctl.workflow.type"
RUN_ID: Final = "grctl.run.id"
RUN_STATUS: Final = "grctl.run.status"
EVENT_NAME: Final = "grctl.event.name"
QUERY_NAME: Final = "grctl.query.name"
COMMAND: Final = "grctl.command"
ATTEMPT_NUMBER: Final = "grctl.attempt.number"
ATTEMPT_TOTAL: Final = "grctl.attempts"
WAIT_DURATION: Final = "grctl.wait.duration"
RETRY_EVENT: Final = "grctl.retry"
RETRY_ATTEMPT: Final = "grctl.retry.attempt"
RETRY_DELAY: Final = "grctl.retry.delay"


def failure_attributes(error: BaseException) -> dict[str, str]:
    """Say what went wrong, in words of which there are few: a class's name, or the server's code. Never a message."""
    code = error.code if isinstance(error, RefusedError) else None
    name = type(error).__name__
    if code is None:
        return {ERROR_TYPE: name}
    # A ServerError is any refusal without a class of its own: its code says more than its name.
    return {ERROR_TYPE: str(code) if isinstance(error, ServerError) else name, RPC_STATUS_CODE: str(code)}
