"""Instruments: what is measured. No attribute of a measurement is an id."""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Meter

__all__ = ["CALL_BUCKETS", "WAIT_BUCKETS", "Instruments"]

CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Seconds; those of the semantic conventions."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
WAIT_BUCKETS: Final = (
    *(0.1, 0.5, 1, 5, 15),
    *(_MINUTE, 5 * _MINUTE, 15 * _MINUTE),
    *(_HOUR, 4 * _HOUR, 12 * _HOUR),
    *(_DAY, 3 * _DAY, 7 * _DAY, 30 * _DAY),
)
"""Seconds: durable workflows may run for weeks."""


class Instruments:
    """The instruments of one meter.

    Attributes:
        call_duration: seconds that an operation took, all its attempts and pauses included; not of result.
        active_calls: operations in flight; not of result.
        attempts: commands sent.
        wait_duration: seconds that somebody waited for a run's end.
        active_waits: results being waited for.
    """

    __slots__ = ("active_calls", "active_waits", "attempts", "call_duration", "wait_duration")

    def __init__(self, meter: Meter) -> None:
        self.call_duration = meter.create_histogram(
            "rpc.client.call.duration",
            unit="s",
            description="Measures the duration of an outgoing Remote Procedure Call (RPC).",
            explicit_bucket_boundaries_advisory=CALL_BUCKETS,
        )
        self.active_calls = meter.create_up_down_counter(
            "grctl.client.active_calls", unit="{call}", description="Operations that are in flight."
        )
        self.attempts = meter.create_counter(
            "grctl.client.attempts", unit="{attempt}", description="Commands that were sent to the server."
        )
        self.wait_duration = meter.create_histogram(
            "grctl.client.wait.duration",
            unit="s",
            description="How long the end of a run was waited for.",
            explicit_bucket_boundaries_advisory=WAIT_BUCKETS,
        )
        self.active_waits = meter.create_up_down_counter(
            "grctl.client.active_waits", unit="{wait}", description="Results that are being waited for."
        )
