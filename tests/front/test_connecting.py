"""grctl.connecting: the door to every transport."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import grctl
from grctl.protocols import Connection
from grctl_core.errors import ConnectionFailedError, InvalidInputError

Install = Callable[..., None]

OPENER = """
async def open(url, *, speed=1):
    return ("opened", url, speed)

async def open_any(url, **options):
    return ("opened", url, options)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution with an entry point, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution: str, scheme: str, target: str, source: str = OPENER) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[grctl.transports]\n{scheme} = {target}\n")
        (tmp_path / f"{target.partition(':')[0]}.py").write_text(source)

    return install


async def opened(url: str, **options: Any) -> Any:
    return await grctl.connect(url, **options)


async def test_the_embedded_engine() -> None:
    async with await grctl.connect("memory://", workflows=[]) as connection:
        assert isinstance(connection, Connection)
    async with await grctl.connect("MEMORY://") as connection:
        assert grctl.Client(connection=connection).connection is connection


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_nats_is_behind_two_schemes(scheme: str) -> None:
    with pytest.raises(ConnectionFailedError, match="nobody listens on"):
        await grctl.connect(f"{scheme}://127.0.0.1:1", connect_timeout=0.2)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "url must be a string such as 'nats://localhost:4225', not NoneType"),
        (["nats://a"], "url must be a string"),
        ("", "url has no scheme"),
        ("localhost:4225", "url has no scheme"),
        ("://localhost", "url has no scheme"),
        ("gopher://localhost", "no transport for 'gopher://': there are memory, nats, tls. Others come with a package"),
    ],
)
async def test_a_bad_url(url: Any, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await grctl.connect(url)
    assert says in str(caught.value)


async def test_an_unknown_option_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidInputError, match=r"'memory://' has no option werkflows: its options are workflows, "):
        await grctl.connect("memory://", werkflows=[])
    with pytest.raises(InvalidInputError, match="there is no option a, b: the options are user, "):
        await grctl.connect("nats://localhost", b=1, a=2)


async def test_a_foreign_transport(install: Install) -> None:
    install("grctl-carrier", "pigeon", "carrier_one:open")
    install("grctl-carrier-two", "dove", "carrier_two:open_any")
    assert await opened("pigeon://loft", speed=3) == ("opened", "pigeon://loft", 3)
    assert await opened("Pigeon://loft") == ("opened", "pigeon://loft", 1)
    assert await opened("dove://", anything=1) == ("opened", "dove://", {"anything": 1})
    with pytest.raises(InvalidInputError, match="'pigeon://' has no option sped: its options are speed"):
        await opened("pigeon://loft", sped=3)
    with pytest.raises(InvalidInputError, match="there are dove, memory, nats, pigeon, tls"):
        await opened("raven://loft")


async def test_two_claims_to_one_scheme_are_refused_with_both_names(install: Install) -> None:
    install("grctl-one", "owl", "owl_one:open")
    install("grctl-two", "owl", "owl_two:open")
    with pytest.raises(InvalidInputError, match="two packages claim the scheme 'owl://'") as caught:
        await opened("owl://")
    assert "owl_one:open (grctl-one)" in str(caught.value)
    assert "owl_two:open (grctl-two)" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "source", "says"),
    [
        ("broken_one:open", "import a_driver_that_is_missing", "No module named 'a_driver_that_is_missing'"),
        ("broken_two:open", "1 / 0", "division by zero"),
        ("broken_three:nothing", OPENER, "has no attribute 'nothing'"),
        ("broken_four:open", "open = 5", "is not callable"),
    ],
)
async def test_a_transport_that_cannot_be_loaded(install: Install, target: str, source: str, says: str) -> None:
    install("grctl-broken", "crow", target, source)
    with pytest.raises(InvalidInputError, match=f"the transport {target} for 'crow://' cannot be loaded") as caught:
        await opened("crow://")
    assert says in str(caught.value)


async def test_nobody_takes_our_schemes_over(install: Install) -> None:
    for scheme in ("memory", "nats", "tls"):
        install(f"grctl-thief-{scheme}", scheme, f"thief_{scheme}:open")
    async with await grctl.connect("memory://") as connection:
        assert type(connection).__module__ == "grctl_memory.connection"
    with pytest.raises(ConnectionFailedError):
        await grctl.connect("nats://127.0.0.1:1", connect_timeout=0.2)


async def test_our_schemes_need_no_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(**_: object) -> None:
        raise AssertionError("the environment was scanned")

    monkeypatch.setattr(importlib.metadata, "entry_points", look)
    async with await grctl.connect("memory://"):
        pass
