"""Who we connect to, how we log in, and what is said when it fails: server, cause, next step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import time
from typing import Any

import nkeys
import pytest
import trustme
from authorisation.identities import Operator, key
from broker import Broker
from fake_server import FakeServer

from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    UnsupportedOperationError,
)
from grctl_nats import NatsConnection
from grctl_nats.dial import UntrustedError, dial
from grctl_nats.settings import read_settings

pytestmark = pytest.mark.usefixtures("nothing_left")

PASSWORD = "s3cr3t-Pa55"


async def try_dial(servers: str, timeout: float = 15.0, **options: Any) -> None:
    """Connect, see that the broker answers, and close."""
    settings = read_settings(servers, **options)
    link = await dial(settings.servers[0], settings, timeout)
    try:
        with pytest.raises(NotDeliveredError):
            await link.request("nobody.listens", b"", None, 15.0)
    finally:
        await link.close()


async def refused(
    kind: type[GrctlError], servers: str, *said: str, timeout: float = 15.0, **options: Any
) -> GrctlError:
    """Fail to connect; return the error."""
    async with asyncio.timeout(20):
        with pytest.raises(kind) as caught:
            await try_dial(servers, timeout, **options)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert read_settings(servers).servers[0].url in text
    for part in said:
        assert part in text
    assert PASSWORD not in text
    assert "\n" not in text
    return caught.value


@contextlib.asynccontextmanager
async def listener(greeting: bytes = b""):
    """Something that listens, says a word, and notes what it is told."""
    told = bytearray()
    gone = asyncio.Event()
    open_now: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        try:
            writer.write(greeting)
            while data := await reader.read(4096):
                told.extend(data)
        except OSError:
            pass
        finally:
            open_now.discard(writer)
            writer.close()
            gone.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], told, gone
    finally:
        for writer in open_now:
            writer.transport.abort()
        listening.close()
        await listening.wait_closed()


class TestPlain:
    async def test_connects(self):
        async with Broker(jetstream=False) as broker:
            await try_dial(broker.url)

    async def test_by_name_and_by_the_name_of_the_client(self):
        async with Broker({"http_port": -1}, jetstream=False) as broker:
            settings = read_settings(f"nats://localhost:{broker.port}", name="billing")
            link = await dial(settings.servers[0], settings, 15)
            assert link.is_up
            await link.close()
            assert not link.is_up

    async def test_a_port_nobody_listens_on(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        await refused(
            ConnectionFailedError,
            f"nats://127.0.0.1:{port}",
            "nobody listens on",
            "start the server",
            "GRCTL_NATS_SERVERS",
        )

    async def test_an_unknown_host(self):
        await refused(ConnectionFailedError, "nats://no-such-host.invalid:4222", "is not known", "Check the spelling")

    async def test_something_silent(self):
        async with listener() as (port, told, gone):
            await refused(ConnectionFailedError, f"nats://127.0.0.1:{port}", "is it a NATS server", timeout=0.2)
            await gone.wait()
            assert told == b""

    @pytest.mark.parametrize(
        "greeting",
        [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"220 mail ESMTP\r\n",
            b"INFO {not json}\r\n",
            b"INFO []\r\n",
            b"\x00" * 200_000,
        ],
    )
    async def test_something_else(self, greeting):
        async with listener(greeting) as (port, told, gone):
            await refused(ConnectionFailedError, f"nats://127.0.0.1:{port}", "is no NATS server")
            await gone.wait()
            assert told == b""

    async def test_a_web_server(self):
        async with listener(b"") as (port, told, _):
            await refused(ConnectionFailedError, f"nats://127.0.0.1:{port}", "is it a NATS server", timeout=0.2)
            assert told == b""

    async def test_one_that_hangs_up(self):
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            await refused(ConnectionFailedError, f"nats://127.0.0.1:{port}", "is no NATS server")

    async def test_a_frozen_broker(self):
        async with Broker(jetstream=False) as broker:
            broker.freeze()
            await refused(ConnectionFailedError, broker.url, "not overloaded or stopped", timeout=0.2)

    async def test_a_cancelled_attempt_leaves_nothing(self):
        async with listener() as (port, _, gone):
            attempt = asyncio.create_task(try_dial(f"nats://127.0.0.1:{port}"))
            async with asyncio.timeout(10):
                while not attempt.get_coro().cr_await:
                    await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            async with asyncio.timeout(10):
                await gone.wait()


class TestPassword:
    CONFIG = {"authorization": {"user": "me", "password": PASSWORD}}  # noqa: RUF012

    @pytest.mark.parametrize("how", ["options", "url"])
    async def test_connects(self, how):
        async with Broker(self.CONFIG, jetstream=False) as broker:
            if how == "options":
                await try_dial(broker.url, user="me", password=PASSWORD)
            else:
                await try_dial(f"nats://me:{PASSWORD}@127.0.0.1:{broker.port}")

    async def test_one_with_special_characters(self):
        secret = "p@ss:w/rd %41!"
        async with Broker({"authorization": {"user": "me@x", "password": secret}}, jetstream=False) as broker:
            await try_dial(f"nats://me%40x:p%40ss%3Aw%2Frd%20%2541!@127.0.0.1:{broker.port}")
            await try_dial(broker.url, user="me@x", password=secret)

    @pytest.mark.parametrize("options", [{}, {"user": "me", "password": "wrong"}, {"token": "wrong"}])
    async def test_a_wrong_one(self, options):
        async with Broker(self.CONFIG, jetstream=False) as broker:
            began = time.monotonic()
            await refused(
                AccessDeniedError, broker.url, "refuses the login", "Authorization Violation", "check", **options
            )
            assert time.monotonic() - began < 10  # it was not tried for the whole time

    async def test_a_wrong_one_ends_opening_at_once(self):
        async with Broker(self.CONFIG) as broker:
            async with asyncio.timeout(20):
                with pytest.raises(AccessDeniedError):
                    await NatsConnection.open(broker.url, user="me", password="wrong", connect_timeout=1_000)

    async def test_a_token(self):
        async with Broker({"authorization": {"token": PASSWORD}}, jetstream=False) as broker:
            await try_dial(broker.url, token=PASSWORD)
            await try_dial(f"nats://{PASSWORD}@127.0.0.1:{broker.port}")
            await refused(AccessDeniedError, broker.url, "refuses the login", token="wrong")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificates(authority, tmp_path_factory):
    """Files: of the authority, of a server at 127.0.0.1, of one elsewhere, of a client, of another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, issued in {
        "server": authority.issue_cert("localhost", "127.0.0.1"),
        "elsewhere": authority.issue_cert("nats.example.org"),
        "client": authority.issue_cert("me@example.org"),
        "stranger": trustme.CA().issue_cert("me@example.org"),
    }.items():
        (folder / f"{name}.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(folder / f"{name}-key.pem"))
    return folder


def tls_config(folder, name: str = "server", *, mutual: bool = False) -> dict[str, Any]:
    files = {"cert_file": str(folder / f"{name}.pem"), "key_file": str(folder / f"{name}-key.pem")}
    return {"tls": files | ({"ca_file": str(folder / "ca.pem"), "verify": True} if mutual else {})}


class TestTls:
    @pytest.mark.parametrize("scheme", ["tls", "nats"])
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    async def test_a_private_authority(self, certificates, scheme, host):
        async with Broker(tls_config(certificates), jetstream=False) as broker:
            await try_dial(f"{scheme}://{host}:{broker.port}", tls_ca=certificates / "ca.pem")

    async def test_a_context(self, certificates):
        context = ssl.create_default_context(cafile=certificates / "ca.pem")
        async with Broker(tls_config(certificates), jetstream=False) as broker:
            await try_dial(f"tls://127.0.0.1:{broker.port}", tls=context)

    async def test_with_a_password(self, certificates):
        config = tls_config(certificates) | TestPassword.CONFIG
        async with Broker(config, jetstream=False, tls=True) as broker:
            await try_dial(broker.url, tls_ca=certificates / "ca.pem", user="me", password=PASSWORD)
            await refused(
                AccessDeniedError,
                broker.url,
                "refuses the login",
                tls_ca=certificates / "ca.pem",
                user="me",
                password="wrong",
            )

    @pytest.mark.parametrize("options", [{}, {"tls_ca": "other-ca.pem"}])
    async def test_a_wrong_authority(self, certificates, options):
        options = {name: certificates / value for name, value in options.items()}
        async with Broker(tls_config(certificates), jetstream=False, tls=True) as broker:
            error = await refused(UntrustedError, broker.url, "is not trusted", "tls_ca=", **options)
            assert isinstance(error, ConnectionFailedError)

    async def test_one_for_another_host(self, certificates):
        async with Broker(tls_config(certificates, "elsewhere"), jetstream=False, tls=True) as broker:
            await refused(
                UntrustedError,
                broker.url,
                "is not trusted",
                "is not valid for '127.0.0.1'",
                "connect by a host name that stands in it",
                tls_ca=certificates / "ca.pem",
            )

    async def test_it_is_not_tried_on(self, certificates):
        async with Broker(tls_config(certificates), tls=True) as broker:
            async with asyncio.timeout(20):
                with pytest.raises(UntrustedError):
                    await NatsConnection.open(broker.url, connect_timeout=1_000)

    async def test_mutual(self, certificates):
        async with Broker(tls_config(certificates, mutual=True), jetstream=False, tls=True) as broker:
            await try_dial(
                broker.url,
                tls_ca=certificates / "ca.pem",
                tls_cert=certificates / "client.pem",
                tls_key=certificates / "client-key.pem",
            )

    @pytest.mark.parametrize("name", [None, "stranger"])
    async def test_mutual_without_a_certificate_that_the_broker_trusts(self, certificates, name):
        mine = {}
        if name is not None:
            mine = {"tls_cert": certificates / f"{name}.pem", "tls_key": certificates / f"{name}-key.pem"}
        async with Broker(tls_config(certificates, mutual=True), jetstream=False, tls=True) as broker:
            await refused(
                UntrustedError,
                broker.url,
                "no TLS connection",
                "The broker may want a certificate",
                "tls_cert= and tls_key=",
                tls_ca=certificates / "ca.pem",
                **mine,
            )

    @pytest.mark.parametrize("scheme", ["tls", "nats"])
    @pytest.mark.parametrize("login", [{}, {"user": "me", "password": PASSWORD}, {"token": PASSWORD}])
    async def test_a_plaintext_port_gets_no_secret(self, certificates, scheme, login):
        """Neither under tls://, nor where TLS files are given."""
        info = {"server_id": "x", "version": "2.12.0", "max_payload": 1_000, "headers": True, "auth_required": True}
        options = login if scheme == "tls" else {**login, "tls_ca": certificates / "ca.pem"}
        async with listener(b"INFO " + json.dumps(info).encode() + b"\r\n") as (port, told, gone):
            await refused(
                UntrustedError,
                f"{scheme}://127.0.0.1:{port}",
                "offers no TLS",
                "never falls back to plaintext",
                **options,
            )
            await gone.wait()
            assert PASSWORD.encode() not in told
            assert b"me" not in told

    async def test_a_plaintext_broker(self):
        async with Broker(jetstream=False) as broker:
            await refused(
                UntrustedError, f"tls://127.0.0.1:{broker.port}", "offers no TLS", "turn TLS on at the broker"
            )

    async def test_a_port_that_speaks_tls_at_once(self, certificates):
        """A web server's, say: it waits for us to begin, as it would for anybody."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            await refused(ConnectionFailedError, f"tls://127.0.0.1:{port}", "is it a NATS server", timeout=0.2)


class TestNkeys:
    async def test_an_nkey(self, tmp_path):
        seed, pair = key(nkeys.PREFIX_BYTE_USER)
        config = {"authorization": {"users": [{"nkey": pair.public_key.decode()}]}}
        (tmp_path / "user.nk").write_text(seed + "\n")
        other, _ = key(nkeys.PREFIX_BYTE_USER)
        async with Broker(config, jetstream=False) as broker:
            await try_dial(broker.url, nkey=seed)
            await try_dial(broker.url, nkey=tmp_path / "user.nk")
            error = await refused(AccessDeniedError, broker.url, "refuses the login", nkey=other)
            assert other not in str(error)

    async def test_a_seed_that_is_none(self):
        seed, _ = key(nkeys.PREFIX_BYTE_USER)
        broken = seed[:30] + "!" + seed[31:]
        with pytest.raises(InvalidInputError, match="no user seed") as caught:
            await try_dial("nats://127.0.0.1:1", nkey=broken)
        assert broken not in str(caught.value)

    async def test_credentials(self, tmp_path):
        operator = Operator()
        operator.write_credentials(tmp_path / "good.creds")
        operator.write_credentials(tmp_path / "old.creds", exp=int(time.time()) - 30)
        async with Broker(operator.config(), jetstream=False) as broker:
            await try_dial(broker.url, credentials=str(tmp_path / "good.creds"))
            await refused(AccessDeniedError, broker.url, "refuses the login")
            await refused(AccessDeniedError, broker.url, "refuses the login", credentials=str(tmp_path / "old.creds"))


class TestWhatIsBehind:
    async def test_a_broker_without_jetstream(self):
        async with Broker(jetstream=False) as broker:
            with pytest.raises(UnsupportedOperationError) as caught:
                await NatsConnection.open(broker.url, connect_timeout=1.5)
            assert re.search(rf"{broker.url} has no JetStream.*Ground Control", str(caught.value))

    async def test_a_broker_without_ground_control(self, broker):
        with pytest.raises(UnsupportedOperationError) as caught:
            await NatsConnection.open(broker.url, connect_timeout=1.5)
        assert f"there is no Ground Control on the broker {broker.url}" in str(caught.value)
        assert "Start the server, or check the address" in str(caught.value)

    async def test_one_that_comes_up_meanwhile(self, broker):
        opening = asyncio.create_task(NatsConnection.open(broker.url, connect_timeout=100))
        async with FakeServer(broker.url):
            async with asyncio.timeout(20):
                connection = await opening
            await connection.close()
