"""Does somebody listen there, and is it a NATS server?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl.doctor.patient import Hello
from grctl_nats.settings import Server

__all__ = ["check_network"]

_SECONDS = 2.0
_OLDEST = (2, 12)
"""The first nats-server that can do what Ground Control's stream needs (docs/protocol.md, section 1)."""
_START = "start the server (grctld, or 'grctl-client dev'), or check host and port"


async def check_network(examination: Examination) -> AsyncIterator[Finding]:
    """Connect to each address and hear what it says first: a NATS server introduces itself."""
    settings = examination.patient.settings
    servers = () if settings is None else settings.servers
    results = [await _greet(server) for server in servers]
    reached = any(isinstance(result, Hello) for result in results)
    for result in results:
        if isinstance(result, Finding):
            yield result if not reached else warning("network", result.message, result.mend, **result.details)
            continue
        examination.patient.hellos.append(result)
        url, version = result.server.url, result.version
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < _OLDEST:
            message = f"{url} is nats-server {version}, which is too old for Ground Control"
            yield warning("network", message, "update it to 2.12 or later", server=url, version=version)
        else:
            yield ok("network", f"{url} is nats-server {version}", server=url, version=version)


async def _greet(server: Server) -> Hello | Finding:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(server.host, server.port)
    except TimeoutError:
        return failed(
            "network",
            f"{server.url} does not answer: no connection within {_SECONDS:g} s",
            "check the host, and whether a firewall is in between",
            server=server.url,
        )
    except ConnectionRefusedError:
        mend = _START
        if server.port == 4222:
            mend += ": 4222 is where NATS listens, and what an address without a port means; Ground Control's own "
            mend += "broker listens on 4225"
        return failed("network", f"nobody listens on {server.url}", mend, server=server.url)
    except OSError as error:
        why = error.strerror or str(error)
        return failed("network", f"{server.url} cannot be reached: {why}", _START, server=server.url)
    try:
        first = await _first_line(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _SECONDS)
    return _judge(server, first, time.monotonic() - began)


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(_SECONDS):
            return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial or b"(it hung up)"
    except asyncio.LimitOverrunError:
        return await reader.read(200)
    except TimeoutError:
        return b""
    except OSError:
        return b"(it hung up)"


def _judge(server: Server, first: bytes, seconds: float) -> Hello | Finding:
    if first.startswith(b"INFO "):
        with contextlib.suppress(ValueError):
            info = json.loads(first[5:])
            if isinstance(info, dict):
                return Hello(server, info | {"seconds": seconds})
    if not first:
        return failed(
            "network",
            f"something listens on {server.url}, but says nothing, and a NATS server speaks first",
            "check the port: something else may listen there. Or the broker hangs; or it has 'handshake_first', "
            "which is not supported",
            server=server.url,
        )
    said = first.decode(errors="replace").strip()
    return failed(
        "network",
        f"something else than a NATS server answers on {server.url}: {said[:60]!r}",
        "check the port",
        server=server.url,
    )
