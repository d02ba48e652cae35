"""The doctor finds what is wrong with each broken set-up, and names the mend."""

from __future__ import annotations

import re
from typing import Any

import pytest

from grctl.doctor import Examination, Finding, Level, examine, repair
from grctl.doctor.checks import CHECKS, server
from grctl.testing import DevServer
from grctl_nats import NatsConnection

from . import setups

FAILED, WARNING = Level.FAILED, Level.WARNING
SETUPS: list[tuple[Any, Level, str, str, str]] = [
    (setups.no_address, FAILED, "address", "the scheme 'http://'", "nats://host:port"),
    (
        setups.unknown_host,
        FAILED,
        "address",
        "'no-such-host.invalid' of --server-url is not known",
        "check the spelling",
    ),
    (setups.nobody_listens, FAILED, "network", "nobody listens on nats://127", "start the server"),
    (setups.something_else, FAILED, "network", "something else than a NATS server answers .*SSH-2.0", "check the port"),
    (setups.something_silent, FAILED, "network", "says nothing, and a NATS server speaks first", "check the port"),
    (setups.old_broker, WARNING, "network", "is nats-server 2.9.1, which is too old", "2.12 or later"),
    (setups.untrusted_certificate, FAILED, "tls", "the certificate of tls://.* is not trusted", "--tls-ca FILE"),
    (setups.no_tls, FAILED, "tls", "offers no TLS", "turn TLS on at the broker; or write nats://"),
    (setups.wrong_password, FAILED, "login", "refuses the login", "check what you log in with"),
    (setups.no_login, FAILED, "login", "refuses the login", "nats://user:password@host:port"),
    (setups.no_jetstream, FAILED, "jetstream", "has no JetStream", "turn it on in the broker's configuration"),
    (setups.no_stream, FAILED, "stream", "has no stream 'grctl_state'", "start the server, which makes the stream"),
    (setups.forgetful_stream, WARNING, "stream", "is kept in memory", "use file storage"),
    (setups.forgetful_stream, WARNING, "stream", "drops old records by its max_age", "nats stream edit grctl_state"),
    (
        setups.missing_permissions,
        FAILED,
        "permissions",
        "refuses what commands and listing runs and waiting for results needs",
        r'publish: \["grctl_api.workflow.\*", .*CONSUMER.CREATE.grctl_state.>"\]; subscribe: \["grctl_run.*.info"\]$',
    ),
    (setups.no_answers, FAILED, "permissions", "refuses answers", r'subscribe: \["_INBOX.>"\]'),
    (setups.no_server, FAILED, "server", "no Ground Control server listens on it", "start the server"),
    (setups.server_that_hangs, FAILED, "server", "has not answered within", "look at the server's log"),
    (setups.two_servers, FAILED, "servers", "^2 servers answer on this broker", "stop all of them but one"),
    (setups.type_not_registered, FAILED, "types", "'Greting' is not registered.* Is it 'Greeting'?", "start a worker"),
    (setups.no_worker, WARNING, "workers", "no worker for 'Order' seems to be alive: 1 of its runs", "start a worker"),
    (setups.run_that_never_began, WARNING, "runs", "1 run is recorded and never began: order-1", "another workflow id"),
    (
        setups.unreadable_record,
        WARNING,
        "runs",
        "1 of the stored records cannot be read.*A-first.order-2",
        "update this client",
    ),
    (setups.unreadable_record, WARNING, "runs", "1 run is recorded and never began: order-1", "another workflow id"),
    (
        setups.contradicting_record,
        FAILED,
        "runs",
        "1 run is ended by the server's state.*greeting-1",
        "doctor --repair",
    ),
    (
        setups.piling_up,
        WARNING,
        "directives",
        "5 directives pile up at the server's consumer 'directives', of 10",
        "stop",
    ),
    (
        setups.piled_up,
        FAILED,
        "directives",
        "10 directives pile up .* nothing runs",
        "grctl_events.>.*nats stream purge",
    ),
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Whatever the developer's shell has set concerns no test, and a server that hangs is given up on soon."""
    for name in ("GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server, "_SECONDS", 1.0)


async def findings(examination: Examination) -> list[Finding]:
    try:
        return [finding async for finding in examine(examination)]
    finally:
        await examination.close()


@pytest.mark.parametrize(
    ("setup", "expected"),
    [(setup, expected) for setup, *expected in SETUPS],
    ids=[f"{setup.__name__}-{check}-{number}" for number, (setup, _, check, *_) in enumerate(SETUPS)],
)
async def test_it_finds_what_is_wrong_and_names_the_mend(tmp_path, setup, expected):
    level, check, says, mend = expected
    async with setup(tmp_path) as examination:
        found = await findings(examination)
    culprit = next(
        (one for one in found if one.level is level and one.check == check and re.search(says, one.message)), None
    )
    assert culprit is not None, found
    assert re.search(mend, culprit.mend), culprit.mend
    # Nothing that works is blamed, and no secret is told.
    if level is FAILED:
        assert [one for one in found if one.level is FAILED] == [culprit]
    for one in found:
        assert setups.PASSWORD not in one.message + one.mend
        assert bool(one.mend) == (one.level in (FAILED, WARNING))


async def test_a_working_server_has_no_fault(tmp_path):
    async with DevServer([setups.greeting]) as running:
        found = await findings(Examination(running.url, workflow_type="Greeting"))
    assert {one.level for one in found} == {Level.OK}, found
    assert {name for name, _, _ in CHECKS} <= {one.check for one in found}


async def test_it_says_what_it_has_not_looked_at(tmp_path):
    async with setups.nobody_listens(tmp_path) as examination:
        found = await findings(examination)
    names = [name for name, _, _ in CHECKS]
    assert [one.check for one in found if one.level is Level.SKIPPED] == names[names.index("network") + 1 :]


async def test_of_several_brokers_one_that_works_is_enough(tmp_path):
    async with DevServer([setups.greeting]) as running:
        with setups.free_port() as port:
            found = await findings(Examination(f"nats://127.0.0.1:{port},{running.url}"))
    assert [one.check for one in found if one.level is not Level.OK] == ["network"]
    assert next(one for one in found if one.check == "network").level is WARNING


async def test_a_repair_is_never_done_unasked_and_unblocks_the_id_when_asked(tmp_path):
    async with setups.contradicting_record(tmp_path) as examination:
        url = str(examination.server_url)
        await findings(examination)
        again = Examination(url)
        found = await findings(again)
        assert [one.check for one in found if one.level is FAILED] == ["runs"]

        third = Examination(url)
        try:
            [one async for one in examine(third)]
            (repaired,) = [one async for one in repair(third.patient)]
            assert repaired.level is Level.OK
            assert "greeting-1" in repaired.message
            assert "completed" in repaired.message
            # The one who comes second finds another record than the one that it looked at.
            (late,) = [one async for one in repair(third.patient)]
            assert late.level is FAILED
        finally:
            await third.close()

        found = await findings(Examination(url))
        assert {one.level for one in found} == {Level.OK}, found
        async with await NatsConnection.open(url) as connection:
            from grctl import Client

            client = Client(connection=connection)
            handle = await client.get_handle("greeting-1")
            assert await handle.result(20) == "Hello, Ada!"
            assert await client.run_workflow("Greeting", "greeting-1", {"name": "Bob"}) == "Hello, Bob!"


async def test_a_record_that_is_not_in_the_stream_any_more_is_made_from_the_history(tmp_path):
    async with setups.contradicting_record(tmp_path) as examination:
        await findings(examination)
        async with setups.raw_client(str(examination.server_url)) as client:
            (bad,) = examination.patient.contradictions
            subject = setups.subjects.run_info(bad.info.ref)
            await client.jetstream().purge_stream(setups.subjects.STREAM, subject=subject, keep=1)
        third = Examination(examination.server_url)
        try:
            [one async for one in examine(third)]
            (repaired,) = [one async for one in repair(third.patient)]
        finally:
            await third.close()
        assert repaired.level is Level.OK, repaired
        async with await NatsConnection.open(examination.server_url) as connection:
            found = await connection.find_run(bad.info.ref)
        assert found is not None
        assert found.status == "completed"
        assert found.started_at is not None
        assert found.completed_at is not None


async def test_a_package_that_overwrites_ours(tmp_path, monkeypatch):
    folder = tmp_path / "grctl_sdk_python-0.4.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: grctl-sdk-python\nVersion: 0.4.1\n")
    (folder / "top_level.txt").write_text("grctl\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with setups.free_port() as port:
        found = await findings(Examination(f"nats://127.0.0.1:{port}"))
    assert found[0].check == "package"
    assert found[0].level is FAILED
    assert "grctl-sdk-python installs a package 'grctl' too" in found[0].message
    assert "pip uninstall -y grctl-client grctl-sdk-python" in found[0].mend
