"""docs/connecting.md against real brokers: its options, and each failed connect."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trustme
from markdown_blocks import ROOT

import grctl
from grctl.nats.connection import Connection
from grctl.protocols import Connection as AnyConnection
from grctl_nats.safeguards import Safeguards
from grctl_nats.settings import Options, Settings

PAGE = (ROOT / "docs" / "connecting.md").read_text(encoding="utf-8")
PRODUCTION = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
SHORT = 0.3
"""Seconds for connects that are to fail when the connect timeout is over."""

_spec = importlib.util.spec_from_file_location("docs_broker", ROOT / "tests" / "nats" / "broker.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
Broker: Any = _module.Broker


def table(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table after a heading, without its head."""
    section = re.split(rf"^##+ {re.escape(heading)}\n", page, flags=re.MULTILINE)[1]
    rows = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1].splitlines()]


def test_every_option_is_on_the_page_with_its_default():
    rows = {name.strip("`"): default for name, default, _ in table(PAGE, "Options")}
    assert list(rows) == ["servers", *Options.__annotations__]
    defaults = inspect.signature(Settings).parameters
    for name in rows.keys() & defaults.keys() - {"servers", "safeguards"}:
        assert rows[name] == f"`{defaults[name].default!r}`", name
    for name in rows.keys() - defaults.keys():
        assert rows[name] == "`None`", name


def test_every_safeguard_is_on_the_page_with_its_default():
    shown = " ".join(row[1] for row in table(PRODUCTION, "Safeguards"))
    assert dict(re.findall(r"(\w+)=([\w.]+)", shown)) == {
        name: str(parameter.default) for name, parameter in inspect.signature(Safeguards).parameters.items()
    }


# --- failed connects: each row of the table is brought about, and the message compared -----------------------------

INFO = b'INFO {"server_id":"x","version":"2.12.0","max_payload":1048576,"headers":true}\r\n'
"""What a broker says first."""

Attempt = Callable[[], Awaitable[AnyConnection]]
Case = Callable[[Path], AbstractAsyncContextManager[Attempt]]
CASES: dict[str, tuple[str, Case]] = {}
"""What brings failed connects about: by name, with how the row of the table begins."""


def case(row: str) -> Callable[[Callable[[Path], AsyncIterator[Attempt]]], None]:
    """Register what brings one failed connect about."""

    def register(function: Callable[[Path], AsyncIterator[Attempt]]) -> None:
        CASES[function.__name__] = row, contextlib.asynccontextmanager(function)

    return register


def attempt(url: str, **options: Any) -> Attempt:
    return lambda: Connection.open(url, **({"connect_timeout": SHORT} | options))


def authority(folder: Path) -> tuple[trustme.CA, dict[str, Any]]:
    """Make an authority, and a broker's TLS configuration with a certificate for 127.0.0.1."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    cert = ca.issue_cert("127.0.0.1")
    cert.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return ca, {"cert_file": str(folder / "server.pem"), "key_file": str(folder / "server.pem")}


@contextlib.asynccontextmanager
async def listening(says: bytes) -> AsyncIterator[str]:
    """Listen with something that is no NATS server; it says its sentence and then nothing."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(says)
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@case("nobody listens")
async def closed_port(folder: Path) -> AsyncIterator[Attempt]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield attempt(f"nats://127.0.0.1:{free.getsockname()[1]}")


@case("the host of")
async def unknown_host(folder: Path) -> AsyncIterator[Attempt]:
    yield attempt("nats://no-such-host.invalid")


@case("nats://... took")
async def a_broker_that_hangs(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker() as broker:
        broker.freeze()
        yield attempt(broker.url)


@case("nats://... took")
async def tls_first(folder: Path) -> AsyncIterator[Attempt]:
    _, tls = authority(folder)
    async with Broker({"tls": tls | {"handshake_first": True}}, tls=True) as broker:
        yield attempt(broker.url, tls_ca=folder / "ca.pem")


@case("nats://... is no NATS server")
async def another_program(folder: Path) -> AsyncIterator[Attempt]:
    async with listening(b"SSH-2.0-OpenSSH_9.9\r\n") as url:
        yield attempt(url)


@case("nats://... took")
async def a_program_that_waits_for_words(folder: Path) -> AsyncIterator[Attempt]:
    async with listening(b"") as url:
        yield attempt(url)


@case("nats://... let us in")
async def a_broker_that_falls_silent(folder: Path) -> AsyncIterator[Attempt]:
    async with listening(INFO + b"PONG\r\n") as url:
        yield attempt(url)


@case("the certificate of")
async def unknown_authority(folder: Path) -> AsyncIterator[Attempt]:
    _, tls = authority(folder)
    async with Broker({"tls": tls}, tls=True) as broker:
        yield attempt(broker.url)


@case("the certificate of")
async def certificate_for_another_name(folder: Path) -> AsyncIterator[Attempt]:
    _, tls = authority(folder)
    async with Broker({"tls": tls}, tls=True) as broker:
        yield attempt(broker.url.replace("127.0.0.1", "localhost"), tls_ca=folder / "ca.pem")


@case("tls://... offers no TLS")
async def no_tls(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker() as broker:
        yield attempt(broker.url.replace("nats:", "tls:"))


@case("tls://... offers no TLS")
async def tls_files_without_the_scheme(folder: Path) -> AsyncIterator[Attempt]:
    authority(folder)
    async with Broker() as broker:
        yield attempt(broker.url, tls_ca=folder / "ca.pem")


@case("tls://... offers no TLS")
async def tls_merely_allowed(folder: Path) -> AsyncIterator[Attempt]:
    _, tls = authority(folder)
    async with Broker({"tls": tls, "allow_non_tls": True}, tls=True) as broker:
        yield attempt(broker.url, tls_ca=folder / "ca.pem")


@case("no TLS connection")
async def no_certificate_of_ours(folder: Path) -> AsyncIterator[Attempt]:
    _, tls = authority(folder)
    async with Broker({"tls": tls | {"ca_file": str(folder / "ca.pem"), "verify": True}}, tls=True) as broker:
        yield attempt(broker.url, tls_ca=folder / "ca.pem")


@case("no connection to")
async def a_full_broker(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker({"max_connections": 1}) as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(b'CONNECT {"verbose": false}\r\nPING\r\n')
        while await reader.readline() not in (b"PONG\r\n", b""):  # from here on it counts
            pass
        try:
            yield attempt(broker.url)
        finally:
            writer.close()


@case("nats://... refuses the login")
async def wrong_password(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker({"authorization": {"user": "shop", "password": "right"}}) as broker:
        yield attempt(broker.url, user="shop", password="wrong")


@case("nats://... refuses the login")
async def no_login(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker({"authorization": {"token": "right"}}) as broker:
        yield attempt(broker.url)


@case("there is no Ground Control")
async def no_ground_control(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker() as broker:
        yield attempt(broker.url)


@case("the broker nats://... has no JetStream")
async def no_jetstream(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker(jetstream=False) as broker:
        yield attempt(broker.url)


@case("logging in with")
async def no_nkeys_package(folder: Path) -> AsyncIterator[Attempt]:
    async with Broker() as broker:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "nkeys", None)
            yield attempt(broker.url, nkey="SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")


@case("the broker nats://... refuses: permissions violation")
async def no_answers(folder: Path) -> AsyncIterator[Attempt]:
    user = {"user": "shop", "password": "p", "permissions": {"subscribe": {"deny": ["_INBOX.>"]}}}
    async with Broker({"authorization": {"users": [user]}}) as broker:
        yield attempt(broker.url, user="shop", password="p", connect_timeout=2)


@case("the broker nats://... refuses: permissions violation")
async def no_looks(folder: Path) -> AsyncIterator[Attempt]:
    user = {"user": "shop", "password": "p", "permissions": {"publish": {"deny": ["$JS.API.>"]}}}
    async with Broker({"authorization": {"users": [user]}}) as broker:
        yield attempt(broker.url, user="shop", password="p", connect_timeout=2)


@case("there is no NATS context")
async def wrong_value(folder: Path) -> AsyncIterator[Attempt]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        yield attempt("nats://127.0.0.1:4225", context="shop")


ROWS = table(PAGE, "When connecting fails")


def rows_of(error: grctl.GrctlError) -> list[str]:
    """Return the messages of the table that an error fits."""
    found = []
    for name, quoted, *_ in ROWS:
        says = quoted.strip("`")
        # `...` is anything; the addresses of the page stand for both schemes
        pattern = re.sub("^(nats|tls)://", "(nats|tls)://", re.escape(says)).replace(r"\.\.\.", ".*")
        if isinstance(error, getattr(grctl, name.strip("`"))) and re.match(pattern, str(error), re.DOTALL):
            found.append(says)
    return found


async def failure(connect: Attempt) -> tuple[grctl.GrctlError, float]:
    """Return the error of a failed connect, and how many seconds it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(grctl.GrctlError) as caught:
        await connect()
    return caught.value, loop.time() - begun


@pytest.mark.parametrize("name", CASES)
async def test_a_failed_connect_says_what_the_page_says(name: str, tmp_path: Path):
    row, prepared = CASES[name]
    async with prepared(tmp_path) as connect:
        error, _ = await failure(connect)
    (found,) = rows_of(error)
    assert found.startswith(row)


def test_every_row_about_failed_connects_is_brought_about():
    begun = [row for row, _ in CASES.values()]
    for _, quoted, *_ in ROWS:
        assert any(quoted.strip("`").startswith(row) for row in begun), quoted


@pytest.mark.parametrize("name", ["wrong_password", "no_tls", "unknown_authority", "no_certificate_of_ours"])
async def test_what_is_final_is_not_tried_for_as_long_as_one_may(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SHORT", 60.0)
    async with CASES[name][1](tmp_path) as connect:
        _, seconds = await failure(connect)
    assert seconds < 30


@pytest.mark.parametrize("login", [{"user": "shop", "password": "hush"}, {"token": "hush"}])
async def test_no_secret_is_given_out_in_plaintext_under_tls(login: dict[str, str]):
    got = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                got.extend(data)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        with pytest.raises(grctl.ConnectionFailedError, match="offers no TLS"):
            await Connection.open(f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}", **login)  # type: ignore[arg-type]
    assert b"hush" not in got
