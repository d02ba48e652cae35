"""Rules: which frames they strike, the same ones under the same seed."""

from __future__ import annotations

import asyncio

import pytest

from fault_proxy import Direction, FaultProxy, FaultProxyError, Faults, FrameReader, frames

PINGS = 200


def numbers(faults: Faults, count: int = PINGS) -> list[int]:
    """Have so many frames come; return the numbers of those that the first rule strikes, from 1."""
    (ping,) = FrameReader(Direction.TO_SERVER).feed(b"PING\r\n")
    struck = [faults.strike(ping) for _ in range(count)]
    return [number for number, rule in enumerate(struck, 1) if rule is faults.rules[0]]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"nth": 1}, [1]),
        ({"nth": (2, 5)}, [2, 5]),
        ({"every": 3}, [3, 6, 9]),
        ({}, list(range(1, 11))),
        ({"share": 0.0}, []),
        ({"share": 1.0}, list(range(1, 11))),
    ],
)
def test_by_count(which, expected):
    faults = Faults()
    rule = faults.drop(frames(verbs="ping"), **which)
    assert numbers(faults, 10) == expected
    assert (rule.seen, len(rule.struck)) == (10, len(expected))


def test_by_share_under_a_seed():
    def chosen(seed: int) -> list[int]:
        faults = Faults(seed=seed)
        faults.drop(frames(), share=0.3)
        return numbers(faults)

    assert chosen(1) == chosen(1) != chosen(2)
    assert PINGS * 0.15 < len(chosen(1)) < PINGS * 0.45


def test_other_rules_do_not_change_what_a_rule_chooses():
    alone, together = Faults(seed=4), Faults(seed=4)
    alone.drop(frames(), share=0.3)
    together.drop(frames(), share=0.3)
    together.duplicate(frames(), share=0.5)
    assert numbers(alone) == numbers(together)


def test_the_rule_that_was_made_first_counts_and_all_count_frames():
    faults = Faults()
    first, second = faults.drop(frames(), nth=2), faults.duplicate(frames(), nth=(2, 3))
    assert numbers(faults, 4) == [2]
    assert [len(rule.struck) for rule in (first, second)] == [1, 1]
    assert [rule.seen for rule in (first, second)] == [4, 4]


def test_a_rule_that_was_stopped():
    faults = Faults()
    faults.drop(frames()).stop()
    assert numbers(faults) == []


@pytest.mark.parametrize(
    "which", [{"nth": 0}, {"nth": ()}, {"every": 0}, {"share": 1.5}, {"nth": 1, "every": 2}, {"every": 2, "share": 0.5}]
)
def test_rules_that_make_no_sense(which):
    with pytest.raises(ValueError, match=r"counted from 1|between 0 and 1|give one of them"):
        Faults().drop(frames(), **which)
    with pytest.raises(ValueError, match="more than 0"):
        Faults().throttle(0)


def test_what_is_shown_of_it():
    faults = Faults(seed=42)
    faults.drop(frames(Direction.TO_CLIENT, "msg", "a.>"), share=0.3)
    assert repr(faults) == ("Faults(seed=42, rules=[<drop 30% of MSG to the client on a.>: struck 0 of 0>])")


# --- a proxy before an echo


class Echo:
    """A server that says INFO, and sends back what it gets."""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        writer.write(b"INFO {}\r\n")
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
async def echo():
    async with Echo() as running:
        yield running


async def dial(proxy):
    host, _, port = proxy.url.removeprefix("nats://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    assert await reader.readline() == b"INFO {}\r\n"
    return reader, writer


async def hang_up(reader, writer):
    writer.close()
    assert await reader.read() == b""
    await writer.wait_closed()


async def test_with_no_rule_everything_passes(echo):
    async with FaultProxy(echo.url) as proxy:
        reader, writer = await dial(proxy)
        sent = b"PUB a 3\r\nabc\r\n" * 1_000
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        assert proxy.open_connections == 1
        await hang_up(reader, writer)
    assert (proxy.accepted, proxy.open_connections) == (1, 0)


async def test_leaving_closes_what_is_open(echo):
    async with FaultProxy(echo.url) as proxy:
        reader, writer = await dial(proxy)
    assert await reader.read() == b""
    await hang_up(reader, writer)


async def test_no_server():
    async with Echo() as echo:
        pass
    async with FaultProxy(echo.url) as proxy:
        host, _, port = proxy.url.removeprefix("nats://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await hang_up(reader, writer)


async def test_a_fault_that_never_struck_fails_the_test(echo):
    faults = Faults(seed=9)
    faults.drop(frames(verbs="ping"), nth=1)
    with pytest.raises(AssertionError, match=r"have not struck, so nothing was tested: .*drop number 1.*seed=9"):
        async with FaultProxy(echo.url, faults):
            pass


async def test_a_fault_that_may_rest(echo):
    faults = Faults()
    faults.drop(frames(verbs="ping"), nth=1, may_rest=True)
    async with FaultProxy(echo.url, faults):
        pass


async def test_the_seed_is_told_with_what_the_test_raised(echo):
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine"):
        async with FaultProxy(echo.url, Faults(seed=31)):
            raise error
    assert error.__notes__ == ["Faults(seed=31, rules=[])"]


async def test_what_is_no_nats_fails_the_test(echo):
    with pytest.raises(FaultProxyError, match=r"the fault proxy broke; Faults.seed=5") as raised:
        async with FaultProxy(echo.url, Faults(seed=5)) as proxy:
            reader, writer = await dial(proxy)
            writer.write(b"\x16\x03\x01\n")
            await hang_up(reader, writer)
    assert [str(error)[:20] for error in raised.value.exceptions] == [r"b'\x16\x03\x01' to t"]


@pytest.mark.parametrize("where", ["predicate", "change", "sleep"])
async def test_an_error_of_a_rule_fails_the_test_whatever_the_test_raised(echo, where):
    def broken(*_):
        raise RuntimeError("broken")

    faults = Faults(sleep=broken)
    match where:
        case "predicate":
            faults.drop(frames(verbs="ping", where=broken), may_rest=True)
        case "change":
            faults.corrupt(frames(verbs="ping"), broken)
        case "sleep":
            faults.delay(frames(verbs="ping"), 5)
    with pytest.raises(FaultProxyError) as raised:
        async with FaultProxy(echo.url, faults) as proxy:
            reader, writer = await dial(proxy)
            writer.write(b"PING\r\n")
            assert await reader.read() == b""
            writer.close()
            raise ValueError("mine")
    assert isinstance(raised.value.__context__, ValueError)
    assert [repr(error) for error in raised.value.exceptions] == ["RuntimeError('broken')"]


async def test_held_frames_are_overtaken_or_not(echo):
    faults = Faults()
    overtaken = faults.hold(frames(Direction.TO_SERVER, subject="a"))
    blocking = faults.hold(frames(Direction.TO_SERVER, subject="b"), in_order=True)
    a, b, c = (b"PUB %b 1\r\nx\r\n" % name for name in (b"a", b"b", b"c"))
    async with FaultProxy(echo.url, faults) as proxy:
        reader, writer = await dial(proxy)
        writer.write(a + c)
        assert await reader.readexactly(len(c)) == c
        overtaken.release()
        assert await reader.readexactly(len(a)) == a
        writer.write(b + c + a)
        await blocking.wait_struck()
        blocking.release()
        assert await reader.readexactly(len(a) * 3) == b + c + a
        await hang_up(reader, writer)


async def test_what_is_throttled_comes_whole_and_waits_for_each_byte(echo):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    faults = Faults(sleep=sleep)
    faults.throttle(100, Direction.TO_CLIENT)
    sent = b"PUB a 3\r\nabc\r\n" * 3
    async with FaultProxy(echo.url, faults) as proxy:
        reader, writer = await dial(proxy)
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        await hang_up(reader, writer)
    assert waits == [0.01] * (len(b"INFO {}\r\n") + len(sent))


async def test_nothing_comes_into_the_middle_of_a_throttled_frame(echo):
    async def sleep(_):
        held.release()
        for _ in range(5):
            await asyncio.sleep(0)

    faults = Faults(sleep=sleep)
    held = faults.hold(frames(Direction.TO_SERVER, subject="a"))
    faults.throttle(100, Direction.TO_SERVER)
    a, b = b"PUB a 1\r\nx\r\n", b"PUB b 1\r\nx\r\n"
    async with FaultProxy(echo.url, faults) as proxy:
        reader, writer = await dial(proxy)
        writer.write(a + b)
        assert await reader.readexactly(len(a + b)) == b + a
        await hang_up(reader, writer)


async def test_half_of_a_frame_at_the_end_is_passed_on(echo):
    async with FaultProxy(echo.url) as proxy:
        reader, writer = await dial(proxy)
        writer.write(b"PUB a 5\r\nab")
        writer.write_eof()
        assert await reader.read() == b"PUB a 5\r\nab"
        await hang_up(reader, writer)


async def test_cut_by_hand(echo):
    async with FaultProxy(echo.url) as proxy:
        reader, writer = await dial(proxy)
        proxy.cut()
        await hang_up(reader, writer)
        reader, writer = await dial(proxy)
        await hang_up(reader, writer)
