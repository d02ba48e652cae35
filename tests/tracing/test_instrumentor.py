"""GrctlInstrumentor: tracing without a change of the program."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.scripted import ScriptedConnection

import grctl
from grctl_core.errors import InvalidInputError
from grctl_tracing import TracingPlugin
from grctl_tracing.instrumentor import GrctlInstrumentor

from .recorder import Recorder

ROOT = Path(__file__).resolve().parents[2]

APPLICATION = """
import asyncio, sys

import grctl
from grctl.worker import Context
from grctl.workflow import Directive, Workflow

greet = Workflow(workflow_type="Greet")


@greet.start()
async def start(ctx: Context) -> Directive:
    return ctx.next.complete("hello")


async def main():
    async with await grctl.connect("memory://", workflows=[greet]) as connection:
        client = grctl.Client(connection=connection, plugins=sys.argv[1:])
        assert await client.run_workflow("Greet", "greet-1") == "hello"


asyncio.run(main())
"""

# What the package opentelemetry-distro does, with an exporter that writes at once.
CONFIGURATOR = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


class Configurator:
    def configure(self, **kwargs):
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(formatter=lambda span: span.to_json(None) + "\\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
"""


def declared_entry_point() -> str:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["entry-points"]["opentelemetry_instrumentor"]["grctl"])


def run(tmp_path: Path, *command: str) -> list[dict[str, Any]]:
    """Run it where the project's entry point is installed; return the spans that it prints."""
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "configure_sdk.py").write_text(CONFIGURATOR)
    installed = tmp_path / "grctl_client-1.0.dist-info"  # it comes first: one that is really installed is not seen
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: grctl-client\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        f"[opentelemetry_instrumentor]\ngrctl = {declared_entry_point()}\n"
        "[opentelemetry_configurator]\ntest = configure_sdk:Configurator\n"
    )
    paths = [str(tmp_path), str(ROOT), str(ROOT / "transports"), str(ROOT / "plugins")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "GRCTL_"))}
    done = subprocess.run(
        [*command],
        env=environment | {"PYTHONPATH": os.pathsep.join(paths), "OTEL_PYTHON_CONFIGURATOR": "test"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already instrumented" not in done.stderr
    assert "rror" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def opentelemetry_instrument() -> list[str]:
    run_it = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    return [sys.executable, "-c", run_it, sys.executable]


@pytest.mark.parametrize("plugins", [[], ["tracing"]], ids=["lists nothing", "lists tracing itself"])
def test_a_program_is_traced_without_a_change(tmp_path: Path, plugins: list[str]) -> None:
    attempt, start, result = run(tmp_path, *opentelemetry_instrument(), "app.py", *plugins)
    assert [span["name"] for span in (attempt, start, result)] == ["run.start", "grctl/start", "grctl/result"]
    assert attempt["parent_id"] == start["context"]["span_id"]
    assert result["links"][0]["context"]["span_id"] == start["context"]["span_id"]


def test_without_opentelemetry_instrument_nothing_happens(tmp_path: Path) -> None:
    assert run(tmp_path, sys.executable, "app.py") == []


@pytest.fixture
def instrumentor() -> Iterator[GrctlInstrumentor]:
    made = GrctlInstrumentor()
    yield made
    if made.is_instrumented_by_opentelemetry:
        made.uninstrument()


async def test_instrument_and_uninstrument(
    instrumentor: GrctlInstrumentor, recorder: Recorder, connection: ScriptedConnection
) -> None:
    providers = {"tracer_provider": recorder.tracer_provider, "meter_provider": recorder.meter_provider}
    instrumentor.instrument(**providers, server_address="example.com", meant_for_others=True)
    await grctl.Client(connection=connection).start_workflow("Order", "order-1")
    assert recorder.names == ["run.start", "grctl/start"]
    assert (recorder.span("grctl/start").attributes or {})["server.address"] == "example.com"
    assert recorder.total("rpc.client.call.duration") == 1
    instrumentor.uninstrument()
    assert list(grctl.Client(connection=connection, plugins=[]).plugins) == []
    instrumentor.instrument(**providers)
    assert grctl.Client(connection=connection, plugins=[]).plugins.names == ("tracing",)


async def test_a_clients_own_tracing_wins(
    instrumentor: GrctlInstrumentor, recorder: Recorder, connection: ScriptedConnection
) -> None:
    own = TracingPlugin()
    instrumentor.instrument(tracer_provider=recorder.tracer_provider)
    client = grctl.Client(connection=connection, plugins=[own])
    assert list(client.plugins) == [own]
    await client.start_workflow("Order", "order-1")
    assert recorder.spans == []


def test_an_option_that_cannot_be_used_is_an_error(instrumentor: GrctlInstrumentor) -> None:
    with pytest.raises(InvalidInputError, match="tracer_provider must be a TracerProvider"):
        instrumentor.instrument(tracer_provider="x")
    assert not instrumentor.is_instrumented_by_opentelemetry


@pytest.mark.parametrize(
    ("missing", "module"),
    [("opentelemetry.instrumentation", "grctl_tracing.instrumentor"), ("opentelemetry", "grctl_tracing")],
)
def test_a_missing_package_surfaces_as_module_not_found(missing: str, module: str) -> None:
    program = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r} or name.startswith({missing + "."!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
try:
    import {module}
except ModuleNotFoundError as error:
    print(error.name)
import grctl_core.client
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() in {missing, "opentelemetry"}
    assert done.stdout.strip().startswith("opentelemetry")


def imported(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    return modules


def test_only_the_instrumentor_needs_more_than_the_api() -> None:
    package = ROOT / "plugins" / "grctl_tracing"
    beyond = ("opentelemetry.instrumentation", "opentelemetry.sdk", "opentelemetry.semconv")
    users = {path.name for path in package.glob("*.py") if any(name.startswith(beyond) for name in imported(path))}
    assert users == {"instrumentor.py"}
