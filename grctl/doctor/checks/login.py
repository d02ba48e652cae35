"""Is the connection as protected as was asked for, and does the broker let us in?"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator

from grctl.doctor.examination import Examination
from grctl.doctor.finding import Finding, failed, ok, warning
from grctl.doctor.patient import Hello, Patient
from grctl_core.errors import AccessDeniedError, GrctlError
from grctl_nats.dial import UntrustedError, dial
from grctl_nats.settings import Settings

__all__ = ["check_login"]

_SECONDS = 5.0


async def check_login(examination: Examination) -> AsyncIterator[Finding]:
    """Connect as the client does, to the first broker that takes us: TLS and login are one step there."""
    patient = examination.patient
    if patient.settings is None:
        return
    findings: list[Finding] = []
    for hello in patient.hellos:
        findings = [finding async for finding in _dial(patient, hello, patient.settings)]
        if patient.link is not None:
            break
    for finding in findings:
        yield finding


async def _dial(patient: Patient, hello: Hello, settings: Settings) -> AsyncIterator[Finding]:
    url = hello.server.url
    try:
        patient.link = await dial(hello.server, settings, _SECONDS)
    except UntrustedError as error:
        yield failed("tls", str(error), _tls_mend(hello, str(error)), server=url)
    except AccessDeniedError as error:
        yield _tls(hello, settings)
        yield failed("login", str(error), _login_mend(hello, settings), server=url)
    except GrctlError as error:
        yield failed("login", str(error), "look at the broker's log: it says why it ended the connection", server=url)
    else:
        yield _tls(hello, settings)
        yield ok("login", f"{url} lets us in{_as_whom(hello, settings)}", server=url)


def _tls_mend(hello: Hello, said: str) -> str:
    if not hello.info.get("tls_required"):
        return "turn TLS on at the broker; or write nats:// if an unprotected connection is what you want"
    if "not trusted" in said:
        return "pass --tls-ca FILE with the authority that issued it, and connect by a host name that stands in it"
    return "pass --tls-cert FILE and --tls-key FILE, if the broker asks for a certificate of yours"


def _login_mend(hello: Hello, settings: Settings) -> str:
    if _as_whom(hello, settings):
        return "check what you log in with; the broker's log says what was wrong with it"
    return (
        "the broker wants a login: --credentials FILE, --nkey FILE, --context NAME, or user and password in the "
        "address, as nats://user:password@host:port (in GRCTL_NATS_SERVERS, where no other user sees it)"
    )


def _tls(hello: Hello, settings: Settings) -> Finding:
    url = hello.server.url
    if hello.info.get("tls_required"):
        return ok("tls", f"the connection to {url} is encrypted, its certificate is trusted", encrypted=True)
    if _as_whom(hello, settings) and not _is_local(hello.server.host):
        return warning(
            "tls",
            f"the connection to {url} is in plaintext: whoever is in between can read the login",
            "turn TLS on at the broker, and write tls://",
            encrypted=False,
        )
    return ok("tls", f"the connection to {url} is in plaintext; TLS was not asked for", encrypted=False)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _as_whom(hello: Hello, settings: Settings) -> str:
    user = settings.user or hello.server.user
    if settings.credentials:
        return f" with the credentials in {settings.credentials}"
    if settings.nkey:
        return " with an nkey"
    if settings.token or (user and not settings.user and hello.server.password is None):
        return " with a token"
    return f" as {user!r}" if user else ""
