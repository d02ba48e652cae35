"""docs/plugins/tracing.md names what is recorded, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry.metrics import NoOpMeter

from grctl_tracing import names
from grctl_tracing.instruments import CALL_BUCKETS, WAIT_BUCKETS, Instruments

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins" / "tracing.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def named(text: str) -> set[str]:
    """Return the dotted names in the first cells of the tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", cell)}


def test_attributes() -> None:
    values = [getattr(names, name) for name in names.__all__]
    constants = {value for value in values if isinstance(value, str)}
    assert named(section("Names")) == constants - {names.SCHEMA_URL, names.SYSTEM, names.RETRY_EVENT}


def test_the_version_of_the_conventions() -> None:
    assert f"semantic conventions {names.SCHEMA_URL.rsplit('/', 1)[-1]}" in PAGE


def test_metrics() -> None:
    made: set[str] = set()

    class Meter(NoOpMeter):
        def create_histogram(self, name, *args, **kwargs):
            made.add(name)
            return super().create_histogram(name, *args, **kwargs)

        def create_counter(self, name, *args, **kwargs):
            made.add(name)
            return super().create_counter(name, *args, **kwargs)

        def create_up_down_counter(self, name, *args, **kwargs):
            made.add(name)
            return super().create_up_down_counter(name, *args, **kwargs)

    Instruments(Meter("test"))
    assert len(made) == 5
    assert named(section("Metrics")) == made
    assert "5 ms to 10 s" in section("Metrics")
    assert (CALL_BUCKETS[0], CALL_BUCKETS[-1]) == (0.005, 10)
    assert "0.1 s to 30 days" in section("Metrics")
    assert (WAIT_BUCKETS[0], WAIT_BUCKETS[-1]) == (0.1, 30 * 86_400)


def test_spans() -> None:
    spans = set(re.findall(r"`(grctl/[a-z]+|run\.[a-z]+)`", section("Spans")))
    commands = {"run.start", "run.event", "run.cancel", "run.terminate", "run.describe", "run.query"}
    assert spans == {*names.METHODS.values(), *commands}
