"""Dialling: one attempt to connect and log in to one broker, and what its failure means."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Self

from grctl_core.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    GrctlError,
    InvalidInputError,
    NotSentError,
    UnsupportedOperationError,
)
from grctl_core.ids import new_ulid
from grctl_core.safe_text import one_line
from grctl_core.secret import Secret, without_frames
from grctl_nats.link import Link
from grctl_nats.settings import SecretSource, Server, Settings

__all__ = ["UntrustedError", "dial"]

_PING_EVERY = 10.0
_PINGS_UNANSWERED = 2
"""After so many seconds without an answer to as many pings the connection counts as lost."""
_CLOSE_WITHIN = 0.1
_MOST_SAID = 300
_REFUSED = ("authorization violation", "authentication", "revoked", "expired", "permissions")


class UntrustedError(ConnectionFailedError):
    """The broker is not who it should be, or offers less than was asked for: trying again does not help."""


class _Witness(ssl.SSLContext):
    """A TLS context that knows whether it was used: the driver goes on in plaintext where no TLS is offered."""

    inner: ssl.SSLContext
    used: bool

    def __new__(cls, inner: ssl.SSLContext) -> Self:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self.inner = inner
        self.used = False
        return self

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self.used = True
        logging.getLogger("asyncio").addFilter(_EOF_FILTER)  # adds it once
        return self.inner.wrap_bio(*args, **kwargs)


@functools.cache
def _default_context() -> ssl.SSLContext:
    """Return the context with the system's authorities; loading them takes milliseconds."""
    return ssl.create_default_context()


class _EofFilter(logging.Filter):
    """Drops one line from the log of asyncio, which it writes whenever a TLS connection of the driver ends.

    What it hides is the warning "returning true from eof_received() has no effect when using ssl", exactly this one,
    of every protocol in the process: the record does not say whose it is. It means nothing, as the driver returns True
    and closes all the same. Nothing is hidden in a process that has not begun a TLS handshake through here.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "returning true from eof_received() has no effect when using ssl"


_EOF_FILTER = _EofFilter()


async def dial(server: Server, settings: Settings, timeout: float) -> Link:
    """Connect and log in, once.

    Args:
        server: where to.
        settings: how.
        timeout: seconds that it may take in all.

    Raises:
        AccessDeniedError: the broker refuses the login.
        UntrustedError: its certificate is not trusted, or it offers no TLS although it should.
        ConnectionFailedError: nobody listens there, or no NATS server.
        UnsupportedOperationError: the login needs a package that is not installed.
        InvalidInputError: a file of the login or of TLS is gone, or cannot be used.

    """
    from nats.aio.client import Client
    from nats.errors import SlowConsumerError

    settings = settings.read_anew()
    client = Client()
    complaints: list[Exception] = []
    link: Link | None = None

    async def complained(error: Exception) -> None:
        complaints.append(error)
        del complaints[:-10]
        if link is None:
            return
        if isinstance(error, SlowConsumerError):
            link.dropped(error.subject)
        elif "permissions violation" in str(error).lower():
            link.denied(str(error))

    async def ended() -> None:
        if link is not None:
            link.lose(str(client.last_error or "closed by the broker"))

    witness = _Witness(settings.tls or _default_context())
    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                servers=[server.url],
                name=settings.name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=timeout,  # type: ignore[arg-type]  # a float does
                ping_interval=_PING_EVERY,  # type: ignore[arg-type]  # a float does
                max_outstanding_pings=_PINGS_UNANSWERED,
                pending_size=0,
                flusher_queue_size=0,
                skip_subject_validation=True,  # the link looks at each subject once, the driver would twice
                tls=witness,
                tls_hostname=server.host,
                error_cb=complained,
                disconnected_cb=ended,
                closed_cb=ended,
                **_login(server, settings, witness),
            )
        link = Link(client, server.url, f"{settings.inbox_prefix}.{new_ulid()}")
        await link.open()
    except BaseException as error:
        with contextlib.suppress(Exception):
            # After a failed handshake the driver waits for a socket that was closed already.
            await asyncio.wait_for(client.close(), _CLOSE_WITHIN)
        if isinstance(error, GrctlError) or not isinstance(error, Exception):
            raise
        causes = [*complaints, error, *filter(None, [client.last_error])]
        failure = _explain(server, error, causes, timeout, encrypted=witness.used)
        raise failure.with_traceback(None) from without_frames(error)
    return link


def _login(server: Server, settings: Settings, witness: _Witness) -> dict[str, Any]:
    """Return the driver's login options.

    The driver asks for what it sends right before it does: this is where it is stopped if TLS was asked for and is not
    on. So it is given a token to ask for where none is needed too; an empty one is as good as none.
    """

    def guarded(login: SecretSource) -> Callable[[], str]:
        secret = Secret(login)

        def give_out() -> str:
            if (server.tls or settings.tls is not None) and not witness.used:
                raise _no_tls(server)
            given = secret.reveal()
            return given if isinstance(given, str) else _ask_for_secret(server, given)

        return give_out

    if settings.credentials or settings.nkey:
        try:
            import nkeys  # type: ignore[import-untyped]
        except ImportError:
            raise UnsupportedOperationError(
                'logging in with credentials or an nkey needs another package: pip install "grctl-client[nkeys]"'
            ) from None
        if settings.credentials:
            return {"user_credentials": settings.credentials, "token": guarded("")}
        try:
            nkeys.from_seed(bytearray(str(settings.nkey).encode()))
        except Exception:  # noqa: BLE001 - nkeys raises what it finds
            raise InvalidInputError("nkey: this is no user seed, a character of it seems to be wrong") from None
        return {"nkeys_seed_str": settings.nkey, "token": guarded("")}
    if settings.token:
        return {"token": guarded(settings.token)}
    user, password = (settings.user, settings.password) if settings.user else (server.user, server.password)
    if user and password is None and server.user:  # nats://TOKEN@host
        return {"token": guarded(user)}
    if user:
        return {"user": guarded(user), "password": guarded(password or "")}
    return {"token": guarded("")}


def _ask_for_secret(server: Server, secret: Callable[[], str]) -> str:
    try:
        given = secret()
    except Exception as error:
        raise ConnectionFailedError(
            f"no connection to {server.url}: the function that was passed for the login raised {type(error).__name__}"
        ) from error
    if not isinstance(given, str):
        raise InvalidInputError(
            f"the function that was passed for the login must return a string, not {type(given).__name__}"
        )
    return given


def _no_tls(server: Server) -> UntrustedError:
    return UntrustedError(
        f"{server.url} offers no TLS, and what asks for TLS never falls back to plaintext: turn TLS on at the broker, "
        "or write nats:// and pass no TLS files if an unprotected connection is what you want"
    )


def _explain(  # noqa: C901, PLR0911 - one cause after the other
    server: Server, error: Exception, causes: list[Exception], timeout: float, *, encrypted: bool
) -> GrctlError:
    """Say what a failed attempt means, and what to do."""
    import nats.errors

    for cause in causes:
        if isinstance(cause, GrctlError):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UntrustedError(
                f"the certificate of {server.url} is not trusted: {cause.verify_message}. If it was issued by an "
                "authority of your own pass tls_ca='ca.pem', and connect by a host name that stands in it"
            )
        if isinstance(cause, ssl.SSLError):
            continue
        text = str(cause).lower()
        if isinstance(cause, nats.errors.AuthorizationError) or any(word in text for word in _REFUSED):
            return AccessDeniedError(
                f"{server.url} refuses the login ({_said(cause).removeprefix('nats: ')}): check user and password, "
                "token, credentials or nkey"
            )
    for cause in causes:
        # Under TLS 1.3 a certificate is refused after the handshake: the broker hangs up, perhaps without a word.
        hung_up = encrypted and isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError)
        if isinstance(cause, ssl.SSLError) or hung_up:
            return UntrustedError(
                f"no TLS connection to {server.url} came about: {_said(cause)}. The broker may want a "
                "certificate from you: pass tls_cert= and tls_key="
            )
        if isinstance(cause, socket.gaierror):
            return ConnectionFailedError(f"the host of {server.url} is not known: {cause.strerror}. Check the spelling")
        if isinstance(cause, ConnectionRefusedError):
            return ConnectionFailedError(
                f"nobody listens on {server.url}: start the server, or check the address "
                "(servers=, or GRCTL_NATS_SERVERS in the environment)"
            )
    for cause in causes:
        if "info" in str(cause).lower() or not isinstance(cause, OSError | nats.errors.Error):
            return ConnectionFailedError(
                f"{server.url} is no NATS server: something else answers there. Check the address"
            )
    if isinstance(error, TimeoutError):
        return ConnectionFailedError(
            f"{server.url} took the connection but said nothing a NATS server would say within {timeout:g} s: "
            "is it a NATS server, and not overloaded or stopped?"
        )
    return NotSentError(f"no connection to {server.url} came about: {error!r}")


def _said(error: Exception) -> str:
    return one_line(str(error), _MOST_SAID)
