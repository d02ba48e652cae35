"""Is the address one, and is its host known?"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl_core.errors import InvalidInputError
from grctl_nats.settings import DEFAULT_SERVER, Server, read_settings

__all__ = ["check_address"]

_LOOKUP_SECONDS = 5.0


async def check_address(examination: Examination) -> AsyncIterator[Finding]:
    """Read the settings, and look each host up."""
    source = _source(examination)
    try:
        settings = read_settings(examination.server_url, **examination.login)
    except InvalidInputError as error:
        where = f" (from {source})" if "server" in str(error) else ""
        mend = "correct that option; an address is nats://host:port or tls://host:port"
        yield failed("address", f"{error}{where}", mend)
        return
    examination.patient.settings = settings
    urls = [server.url for server in settings.servers]
    unknown = {server.host: why for server in settings.servers if (why := await _trouble(server)) is not None}
    known = [server for server in settings.servers if server.host not in unknown]
    for host, why in unknown.items():
        message = f"the host {host!r} of {source} is not known: {why}"
        mend = "check the spelling, and this machine's DNS"
        yield (warning if known else failed)("address", message, mend, host=host)
    if known:
        yield ok("address", f"{', '.join(urls)} (from {source})", servers=urls, source=source)


def _source(examination: Examination) -> str:
    if examination.server_url is not None:
        return "--server-url"
    if examination.login.get("context") is not None:
        return f"the NATS context {examination.login['context']!r}, or what stands in for an address that it has not"
    for name in ("GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS"):
        if os.environ.get(name, "").strip():
            return name
    return f"the default, {DEFAULT_SERVER}"


async def _trouble(server: Server) -> str | None:
    try:
        async with asyncio.timeout(_LOOKUP_SECONDS):
            await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return f"the name service has not answered within {_LOOKUP_SECONDS:g} s"
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None
