"""``grctl-client doctor``: what it prints, and what it exits with. What it finds is tested in tests/doctor."""

from __future__ import annotations

import json

from doctor.setups import contradicting_record


async def test_nothing_wrong(cli):
    done = await cli("doctor", "--type", "Greeting")
    assert done.code == 0
    assert done.err == ""
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert {row[1] for row in rows} == {"ok"}
    assert [row[0] for row in rows][:4] == ["package", "address", "network", "tls"]
    assert "GRCTL_NATS_SERVERS" in rows[1][2]


async def test_nobody_listens(open_cli, unused_tcp_port):
    done = await open_cli(f"nats://127.0.0.1:{unused_tcp_port}")("doctor", "--json")
    assert done.code == 1
    findings = [json.loads(line) for line in done.out.splitlines()]
    assert [one["check"] for one in findings if one["level"] == "failed"] == ["network"]
    assert findings[-1]["level"] == "skipped"
    assert all(one.keys() == {"check", "level", "message", "mend", "details"} for one in findings)


async def test_bad_input(cli):
    for arguments, code in [(["--type"], 2), (["-s", "memory://"], 2), (["-s", ""], 1), (["--tpye", "x"], 2)]:
        done = await cli("doctor", *arguments)
        assert done.code == code, done


async def test_a_type_that_is_not_registered(cli):
    done = await cli("doctor", "--type", "\x1b[31mGreting[/]")
    assert done.code == 1
    assert "\x1b" not in done.out
    assert "is not registered" in done.out


async def test_a_repair(open_cli, tmp_path):
    async with contradicting_record(tmp_path) as examination:
        cli = open_cli(examination.server_url)
        done = await cli("doctor")
        assert done.code == 1
        assert "grctl-client doctor --repair" in done.out
        described = await cli("workflow", "describe", "-i", "greeting-1")
        assert "ended (run.completed), which its record hides: see 'grctl-client doctor'" in described.out
        assert (await cli("workflow", "start", "-t", "Greeting", "-i", "greeting-1")).code == 4
        done = await cli("doctor", "--repair")
        assert done.code == 0, done
        assert "the record says completed again" in done.out
        done = await cli("workflow", "run", "-t", "Greeting", "-i", "greeting-1", "-I", '{"name": "Bob"}')
        assert done == (0, '"Hello, Bob!"\n', "")
