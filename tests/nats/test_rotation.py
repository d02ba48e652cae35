"""Logins and certificates that run out, are revoked or replaced: at a connect, and while a connection is up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme
from authorisation.identities import Operator, key
from broker import Broker
from fake_server import FakeServer, new_run

from grctl_core.commands import DescribeCommand
from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotDeliveredError,
    NotSentError,
)
from grctl_core.protocols import ConnectionEvent
from grctl_nats import NatsConnection
from grctl_nats.dial import UntrustedError

pytestmark = pytest.mark.usefixtures("nothing_left")

LONG = 1_000.0
SECRET = "s3cr3t-Pa55"
OTHER = "0ther-Pa55"
ALL = {"user": "all", "password": "x"}


async def works(connection: NatsConnection) -> bool:
    """Whether a command is answered now."""
    try:
        await connection.request(DescribeCommand(wf_id="w"), timeout=LONG)
    except (ConnectionFailedError, DeliveryUnknownError):
        return False
    return True


async def until_it_works(connection: NatsConnection) -> None:
    async with asyncio.timeout(30):
        while not await works(connection):
            await asyncio.sleep(0.01)


async def until_it_says(connection: NatsConnection, *said: str) -> str:
    """Wait until a command is refused with these words; return all of them."""
    async with asyncio.timeout(30):
        while True:
            try:
                await connection.request(DescribeCommand(wf_id="w"), timeout=LONG)
            except NotSentError as error:
                if all(part in str(error) for part in said):
                    return str(error)
            except (NotDeliveredError, DeliveryUnknownError):
                pass  # it was lost in this very moment; or the server is not back yet
            await asyncio.sleep(0.01)


class Certificates:
    """An authority, and a folder of what it has issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))

    def issue(self, name: str, *identities: str, authority: trustme.CA | None = None, **when: Any) -> Path:
        """Write certificate and key into one file, over what it held."""
        issued = (authority or self.authority).issue_cert(*identities, **when)
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.folder / name))
        return self.folder / name


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def run_out() -> dict[str, datetime]:
    now = datetime.now(UTC)
    return {"not_before": now - timedelta(days=9), "not_after": now - timedelta(days=1)}


def tls(certificate: Path, **more: Any) -> dict[str, Any]:
    return {"tls": {"cert_file": str(certificate), "key_file": str(certificate), **more}}


class TestCertificates:
    @pytest.mark.parametrize(
        ("names", "when", "said"),
        [
            (["127.0.0.1"], run_out, "certificate has expired"),
            (["nats.example.org"], dict, "is not valid for '127.0.0.1'"),
        ],
        ids=["expired", "of another host"],
    )
    async def test_a_brokers_that_will_not_do_at_connect(
        self, certificates: Certificates, names: list[str], when: Callable[[], dict[str, Any]], said: str
    ):
        server = certificates.issue("server.pem", *names, **when())
        async with Broker(tls(server), tls=True) as broker, asyncio.timeout(30):
            with pytest.raises(UntrustedError, match=rf"the certificate of {broker.url} is not trusted: .*{said}"):
                await NatsConnection.open(broker.url, tls_ca=certificates.folder / "ca.pem", connect_timeout=LONG)

    async def test_a_brokers_that_runs_out_while_we_are_connected(self, certificates: Certificates, caplog):
        """What is up stays up; what is made anew is refused, says why, and is made once there is a new one."""
        server = certificates.issue("server.pem", "127.0.0.1")
        ca = certificates.folder / "ca.pem"
        async with (
            Broker(tls(server), tls=True) as broker,
            FakeServer(broker.url, tls=_context(ca)) as first,
            await NatsConnection.open(broker.url, tls_ca=ca) as connection,
        ):
            run = new_run()
            await first.put_run(run)
            waiting = connection.watch(run.ref)
            certificates.issue("server.pem", "127.0.0.1", **run_out())
            assert await works(connection)
            await broker.restart()
            await until_it_says(connection, "the certificate of", "certificate has expired")
            certificates.issue("server.pem", "127.0.0.1")
            await broker.restart()
            async with FakeServer(broker.url, tls=_context(ca)) as second:
                await until_it_works(connection)
                await second.end(run)
                async with asyncio.timeout(30):
                    assert (await waiting).run.id == run.id
        said = [record.getMessage() for record in caplog.records]
        assert any("certificate has expired" in line for line in said)

    async def test_our_own_that_is_replaced(self, certificates: Certificates):
        """The broker stops trusting who issued it; the new one, in the same file, is used at the next try."""
        server = certificates.issue("server.pem", "127.0.0.1")
        ours = certificates.issue("client.pem", "shop@example.org")
        other = trustme.CA()
        other.cert_pem.write_to_path(str(certificates.folder / "other.pem"))
        ca = certificates.folder / "ca.pem"

        def trusting(authority: str) -> dict[str, Any]:
            return tls(server, ca_file=str(certificates.folder / authority), verify=True)

        async with Broker(trusting("ca.pem"), tls=True) as broker:
            context = _context(ca, ours)
            async with FakeServer(broker.url, tls=context):
                connection = await NatsConnection.open(broker.url, tls_ca=ca, tls_cert=ours)
            async with connection:
                broker.kill()
                broker.config |= trusting("other.pem")
                await broker.start()
                await until_it_says(connection, "no TLS connection to", "tls_cert=")
                certificates.issue("client.pem", "shop@example.org", authority=other)
                context = _context(ca, ours)
                async with FakeServer(broker.url, tls=context):
                    await until_it_works(connection)


def _context(ca: Path, certificate: Path | None = None) -> Any:
    import ssl

    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


class TestPasswords:
    async def test_a_user_who_is_revoked_while_connected(self, caplog):
        """He is cut off, hears why on each call, and waits go on: if he is let in again they find their end."""
        shop = {"user": "shop", "password": SECRET}
        async with (
            Broker({"authorization": {"users": [ALL, shop]}}) as broker,
            FakeServer(broker.url, **ALL) as server,
            await NatsConnection.open(broker.url, user="shop", password=SECRET) as connection,
        ):
            heard: list[ConnectionEvent] = []
            connection.add_listener(heard.append)
            run = new_run()
            await server.put_run(run)
            waiting = connection.watch(run.ref)
            broker.reload({"authorization": {"users": [ALL]}})
            said = await until_it_says(connection, f"{broker.url} refuses the login", "check user and password")
            assert SECRET not in said
            assert heard == [ConnectionEvent.DISCONNECTED]
            await server.end(run)
            assert not waiting.done()
            broker.reload({"authorization": {"users": [ALL, shop]}})
            async with asyncio.timeout(30):
                await waiting
            await until_it_works(connection)
        assert any("refuses the login" in record.getMessage() for record in caplog.records)
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("kind", ["password", "token"])
    async def test_one_that_changes_comes_from_a_function(self, kind: str):
        present = [SECRET]
        asked: list[str] = []

        def current() -> str:
            asked.append(present[-1])
            return present[-1]

        def users(secret: str) -> dict[str, Any]:
            if kind == "token":
                return {"authorization": {"token": secret}}
            return {"authorization": {"users": [ALL, {"user": "shop", "password": secret}]}}

        login: dict[str, Any] = {"token": current} if kind == "token" else {"user": "shop", "password": current}
        async with Broker(users(SECRET)) as broker:
            async with FakeServer(broker.url, **(ALL if kind == "password" else {"token": SECRET})):
                connection = await NatsConnection.open(broker.url, **login)
            async with connection:
                broker.reload(users(OTHER))
                await until_it_says(connection, "refuses the login")
                present.append(OTHER)
                async with FakeServer(broker.url, **(ALL if kind == "password" else {"token": OTHER})):
                    await until_it_works(connection)
        assert asked[0] == SECRET
        assert asked[-1] == OTHER

    async def test_a_function_that_fails_is_asked_again(self):
        answers: list[Any] = [RuntimeError(SECRET), RuntimeError(SECRET), SECRET]

        def current() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        async with Broker({"authorization": {"token": SECRET}}) as broker, FakeServer(broker.url, token=SECRET):
            async with await NatsConnection.open(broker.url, token=current, connect_timeout=30):
                assert answers == []
            with pytest.raises(ConnectionFailedError, match="passed for the login raised RuntimeError") as caught:
                answers = [RuntimeError(SECRET)] * 1_000
                await NatsConnection.open(broker.url, token=current, connect_timeout=0.2)
            assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("wrong", [b"bytes", None, 5])
    async def test_a_function_that_returns_no_string(self, wrong: Any):
        async with Broker({"authorization": {"token": SECRET}}) as broker, asyncio.timeout(30):
            with pytest.raises(InvalidInputError, match=f"must return a string, not {type(wrong).__name__}"):
                await NatsConnection.open(broker.url, token=lambda: wrong, connect_timeout=LONG)

    async def test_a_coroutine_function_is_refused_before_anything_is_sent(self):
        async def current() -> str:
            return SECRET

        with pytest.raises(InvalidInputError, match="token must be a string, or a function that returns one"):
            await NatsConnection.open("nats://127.0.0.1:1", token=current)  # type: ignore[arg-type]

    async def test_permissions_that_are_taken_away_while_connected(self):
        def shop(**permissions: Any) -> dict[str, Any]:
            return {"authorization": {"users": [ALL, {"user": "shop", "password": SECRET, **permissions}]}}

        async with (
            Broker(shop()) as broker,
            FakeServer(broker.url, **ALL),
            await NatsConnection.open(broker.url, user="shop", password=SECRET) as connection,
        ):
            assert await works(connection)
            broker.reload(shop(permissions={"publish": {"deny": ["grctl_api.>"]}}))
            with pytest.raises(AccessDeniedError, match=r'violation for publish to "grctl_api\.workflow\.w"'):
                async with asyncio.timeout(30):
                    while True:
                        await works(connection)
                        await asyncio.sleep(0.01)
            broker.reload(shop())
            async with asyncio.timeout(30):
                while not await _permitted(connection):
                    await asyncio.sleep(0.01)


async def _permitted(connection: NatsConnection) -> bool:
    try:
        return await works(connection)
    except AccessDeniedError:
        return False


class TestKeys:
    async def test_credentials_that_run_out_while_connected_are_read_anew(self, tmp_path: Path):
        operator = Operator()
        ours, servers = tmp_path / "shop.creds", tmp_path / "server.creds"
        operator.write_credentials(servers)
        async with (
            Broker(operator.config()) as broker,
            FakeServer(broker.url, user_credentials=str(servers)),
            await self._open_with_short_lived(broker, operator, ours) as connection,
        ):
            lost = asyncio.Event()
            connection.add_listener(lambda event: lost.set() if event is ConnectionEvent.DISCONNECTED else None)
            operator.write_credentials(ours)
            async with asyncio.timeout(60):
                await lost.wait()  # the broker ends what has run out
            await until_it_works(connection)

    async def _open_with_short_lived(self, broker: Any, operator: Operator, path: Path) -> NatsConnection:
        for seconds in (3, 10, 30):
            operator.write_credentials(path, exp=int(time.time()) + seconds)
            with contextlib.suppress(AccessDeniedError):  # they ran out before we were in
                return await NatsConnection.open(broker.url, credentials=path)
        raise AssertionError("no machine is so slow")

    async def test_credentials_that_are_revoked_while_connected(self, tmp_path: Path, caplog):
        operator = Operator()
        ours, servers = tmp_path / "shop.creds", tmp_path / "server.creds"
        operator.write_credentials(servers)
        revoked = operator.write_credentials(ours)
        async with (
            Broker(operator.config()) as broker,
            FakeServer(broker.url, user_credentials=str(servers)),
            await NatsConnection.open(broker.url, credentials=ours) as connection,
        ):
            broker.reload(operator.config({revoked: int(time.time())}))
            await until_it_says(connection, "refuses the login", "credentials")
            ours.unlink()
            await until_it_says(connection, f"credentials: there is no file {str(ours)!r}")
            ours.write_text("nothing of the kind")
            await until_it_says(connection, "holds no JWT and seed of a user")
            operator.write_credentials(ours)
            await until_it_works(connection)

    async def test_an_nkey_in_a_file_that_is_replaced(self, tmp_path: Path):
        (old, old_pair), (new, new_pair) = key(nkeys.PREFIX_BYTE_USER), key(nkeys.PREFIX_BYTE_USER)
        path = tmp_path / "shop.nk"
        path.write_text(old)

        def users(pair: nkeys.KeyPair) -> dict[str, Any]:
            return {"authorization": {"users": [ALL, {"nkey": pair.public_key.decode()}]}}

        async with (
            Broker(users(old_pair)) as broker,
            FakeServer(broker.url, **ALL),
            await NatsConnection.open(broker.url, nkey=path) as connection,
        ):
            broker.reload(users(new_pair))
            said = await until_it_says(connection, "refuses the login")
            assert old not in said
            path.write_text(new)
            await until_it_works(connection)

    async def test_a_file_that_is_gone_at_connect_is_said_at_once(self, tmp_path: Path):
        with pytest.raises(GrctlError, match="credentials: there is no file"):
            await NatsConnection.open("nats://127.0.0.1:1", credentials=tmp_path / "gone.creds", connect_timeout=LONG)
