"""Settings: where a connection goes and how it logs in, checked before anything is sent."""

from __future__ import annotations

import inspect
import json
import os
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack, cast
from urllib.parse import unquote, urlsplit

import msgspec

from grctl_core.durations import Duration, to_seconds
from grctl_core.errors import InvalidInputError
from grctl_nats.safeguards import Safeguards

__all__ = ["DEFAULT_SERVER", "Options", "SecretSource", "Server", "Settings", "read_settings", "servers_of_environment"]

DEFAULT_SERVER = "nats://localhost:4225"
"""Where a Ground Control server's own broker listens by default (docs/protocol.md, section 1)."""

_ENVIRONMENT = ("GRCTL_NATS_SERVERS", "grctl_NATS_SERVERS")
_DEFAULT_PORT = 4222
_SEED_LENGTH = 58
_SEEDS = ("SU", "SA", "SO", "SN", "SC", "SX")
_LIKE_A_SECRET = re.compile(r"S[UAONCX][A-Z2-7]{30}|eyJ[\w-]{20}|-----BEGIN")
_LONGEST_PATH = 255
_LONGEST_ADDRESS = 4_096
_LONGEST_NAME = 255
_LONGEST_LOGIN = 65_536
_LONGEST_PREFIX = 200
"""Characters: the subject of each reply is named in full in each request."""


class Server(msgspec.Struct, frozen=True):
    """One broker address. Its repr shows no password."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        """The address without login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Server {self.url}>"


SecretSource = str | Callable[[], str]
"""A password or token, or what returns the one to use: it is asked at each connect."""

_TlsFiles = tuple[str | None, str | None, str | None]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect. Its repr shows no secret.

    Attributes:
        servers: broker addresses, tried in turn.
        user, password, token: login; of password and token also a function that returns it.
        credentials: path of a credentials file (JWT and seed).
        nkey: an nkey's seed.
        nkey_file: path of the file that it is from, None where it was given itself.
        tls: context for TLS connections; None for the default one.
        tls_files: paths of authority, certificate and key that it was made of; None where it was given itself.
        connect_timeout: seconds that connecting may take in all.
        request_timeout: seconds that one look at the records may take.
        name: the client's name, as the broker lists it.
        max_in_flight: requests that may wait for their reply at once; further ones queue.
        safeguards: which of them are on.
        inbox_prefix: what the subjects that replies come to begin with.
    """

    servers: tuple[Server, ...]
    user: str | None = None
    password: SecretSource | None = None
    token: SecretSource | None = None
    credentials: str | None = None
    nkey: str | None = None
    nkey_file: str | None = None
    tls: ssl.SSLContext | None = None
    tls_files: _TlsFiles | None = None
    connect_timeout: float = 5.0
    request_timeout: float = 5.0
    name: str = "grctl-client"
    max_in_flight: int = 512
    safeguards: Safeguards = Safeguards()
    inbox_prefix: str = "_INBOX"

    def __repr__(self) -> str:
        return f"<Settings {', '.join(server.url for server in self.servers)}>"

    def read_anew(self) -> Self:
        """Return these settings with what lies in files as it is now: it may have been replaced.

        Raises:
            InvalidInputError: a file is gone, or cannot be used.

        """
        changed: dict[str, Any] = {}
        _credentials(self.credentials)  # the driver reads it; here only what is wrong with it is said
        if self.nkey_file is not None:
            changed["nkey"] = _read_nkey(self.nkey_file)
        if self.tls_files is not None:
            changed["tls"] = _read_tls(*self.tls_files)
        return msgspec.structs.replace(self, **changed) if changed else self


class Options(TypedDict, total=False):
    """What :meth:`grctl_nats.connection.NatsConnection.open` takes beside the addresses."""

    user: str | None
    password: str | Callable[[], str] | None
    token: str | Callable[[], str] | None
    credentials: str | os.PathLike[str] | None
    nkey: str | os.PathLike[str] | None
    tls: ssl.SSLContext | None
    tls_ca: str | os.PathLike[str] | None
    tls_cert: str | os.PathLike[str] | None
    tls_key: str | os.PathLike[str] | None
    context: str | None
    connect_timeout: Duration
    request_timeout: Duration
    name: str
    max_in_flight: int
    safeguards: Safeguards
    inbox_prefix: str


def servers_of_environment() -> str | None:
    """Return the addresses that the environment names, None where it names none."""
    return next((value for name in _ENVIRONMENT if (value := os.environ.get(name, "").strip())), None)


def read_settings(servers: str | Iterable[str] | None = None, **options: Unpack[Options]) -> Settings:
    """Check what the user gave; the environment and a context fill in what is missing.

    Raises:
        InvalidInputError: something is wrong; the message never holds a secret.

    """
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise InvalidInputError(
            f"there is no option {', '.join(unknown)}: the options are {', '.join(Options.__annotations__)}"
        )
    context = options.get("context")
    _check_types(options)
    if context is not None:
        stored = _read_context(context)
        servers = servers or stored.pop("url", None) or None
        options = _completed(options, stored)
        _check_types(options)
    user, password, token = options.get("user"), options.get("password"), options.get("token")
    credentials, nkey = options.get("credentials"), options.get("nkey")
    max_in_flight = options.get("max_in_flight", 512)
    if servers is None:
        servers = servers_of_environment() or DEFAULT_SERVER
    for name, given in (("user", user), ("password", password), ("token", token)):
        if isinstance(given, str) and len(given) > _LONGEST_LOGIN:
            raise InvalidInputError(f"{name} has {len(given)} characters: no broker takes more than {_LONGEST_LOGIN}")
    if password is not None and user is None:
        raise InvalidInputError("a password needs a user: pass user= too")
    logins = [name_ for name_, given in _logins(user, token, credentials, nkey) if given]
    if len(logins) > 1:
        raise InvalidInputError(f"pass one way to log in, not {' and '.join(logins)}")
    if not isinstance(max_in_flight, int) or isinstance(max_in_flight, bool) or max_in_flight < 1:
        raise InvalidInputError(f"max_in_flight must be a whole number from 1, not {max_in_flight!r}")
    nkey_seed, nkey_file = _nkey(nkey)
    tls, tls_files = _tls(options.get("tls"), options.get("tls_ca"), options.get("tls_cert"), options.get("tls_key"))
    return Settings(
        servers=_read_servers(servers),
        user=user or None,
        password=password or None,
        token=token or None,
        credentials=_credentials(credentials),
        nkey=nkey_seed,
        nkey_file=nkey_file,
        tls=tls,
        tls_files=tls_files,
        connect_timeout=to_seconds("connect_timeout", options.get("connect_timeout", 5.0)),
        request_timeout=to_seconds("request_timeout", options.get("request_timeout", 5.0)),
        name=_client_name(options.get("name")),
        max_in_flight=max_in_flight,
        safeguards=options.get("safeguards") or Safeguards(),
        inbox_prefix=_inbox_prefix(options.get("inbox_prefix")),
    )


_TYPES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "user": ("a string", (str,)),
    "password": ("a string, or a function that returns one", (str, Callable)),
    "token": ("a string, or a function that returns one", (str, Callable)),
    "credentials": ("a path", (str, os.PathLike)),
    "nkey": ("a seed or a path", (str, os.PathLike)),
    "tls": ("an ssl.SSLContext", (ssl.SSLContext,)),
    "tls_ca": ("a path", (str, os.PathLike)),
    "tls_cert": ("a path", (str, os.PathLike)),
    "tls_key": ("a path", (str, os.PathLike)),
    "name": ("a string", (str,)),
    "safeguards": ("a grctl_nats.Safeguards", (Safeguards,)),
    "inbox_prefix": ("a string", (str,)),
}


def _check_types(options: Options) -> None:
    for name, (meant, types) in _TYPES.items():
        value = options.get(name)
        if value is not None and (not isinstance(value, types) or inspect.iscoroutinefunction(value)):
            raise InvalidInputError(f"{name} must be {meant}, not {type(value).__name__}")


def _completed(options: Options, stored: Mapping[str, Any]) -> Options:
    """Fill in from a context what was not passed: one way to log in, and the TLS files."""
    names = {"user": "user", "password": "password", "token": "token", "creds": "credentials", "nkey": "nkey"}
    if any(options.get(name) for name in names.values()):
        names = {}
    names["inbox_prefix"] = "inbox_prefix"
    if options.get("tls") is None:
        names |= {"ca": "tls_ca", "cert": "tls_cert", "key": "tls_key"}
    found = {name: stored[key] for key, name in names.items() if stored.get(key)}
    return cast("Options", found | {name: value for name, value in options.items() if value is not None})


def _logins(user: object, token: object, credentials: object, nkey: object) -> list[tuple[str, object]]:
    return [("user", user), ("token", token), ("credentials", credentials), ("nkey", nkey)]


def _client_name(name: str | None) -> str:
    if not name:
        return "grctl-client"
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidInputError(
            f"name {name[:40]!a} is not what a broker can list: {_LONGEST_NAME} printable characters at most"
        )
    return name


def _inbox_prefix(prefix: str | None) -> str:
    """Check what replies come below: one or more parts of a subject, none of them a wildcard."""
    if prefix is None:
        return "_INBOX"
    parts = prefix[: _LONGEST_PREFIX + 3].split(".")
    if parts[1:] and parts[-1] == ">" and _is_subject(parts[:-1]):
        raise InvalidInputError(
            f"inbox_prefix is what stands before the '.>' of the permission: write {prefix.removesuffix('.>')!r}, "
            f"not {prefix!r}"
        )
    if len(prefix) > _LONGEST_PREFIX or not _is_subject(parts):
        raise InvalidInputError(
            f"inbox_prefix {prefix[:_LONGEST_PREFIX]!a} is no beginning of a subject: write for example "
            f"'_INBOX_shop', without white space and wildcards, of at most {_LONGEST_PREFIX} characters"
        )
    return prefix


def _is_subject(parts: list[str]) -> bool:
    return all(
        part and not any(character in "*>" or character.isspace() or not character.isprintable() for character in part)
        for part in parts
    )


def _read_servers(servers: str | Iterable[str]) -> tuple[Server, ...]:
    if isinstance(servers, str):
        parts = servers.split(",")
    elif isinstance(servers, Iterable) and not isinstance(servers, bytes):
        parts = list(servers)
    else:
        raise InvalidInputError(
            f"servers must be addresses, comma-separated or in a list, not {type(servers).__name__}"
        )
    found = tuple(_read_server(part) for part in parts if not isinstance(part, str) or part.strip())
    if not found:
        raise InvalidInputError(f"servers is empty: give an address such as {DEFAULT_SERVER!r}")
    return found


def _read_server(text: str) -> Server:
    example = f"write for example {DEFAULT_SERVER!r}"
    if not isinstance(text, str):
        raise InvalidInputError(f"servers must hold strings, not {type(text).__name__}: {example}")
    text = text.strip()
    if len(text) > _LONGEST_ADDRESS:
        raise InvalidInputError(f"a server address has more than {_LONGEST_ADDRESS} characters: {example}")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise InvalidInputError(f"a server address holds white space or control characters: {example}")
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        host, port, user, password = parts.hostname, parts.port, parts.username, parts.password
    except ValueError:  # its text may hold a password that was taken for a port
        raise InvalidInputError(f"a server address is no URL, or its port no number up to 65535: {example}") from None
    if password and not user:
        raise InvalidInputError("a server address has a password and no user: write nats://user:password@host:port")
    behind = parts.path + parts.query + parts.fragment
    if "@" in behind:  # what looks like the host may be the beginning of a login
        raise InvalidInputError(
            "a server address has an '@' behind the host: write '/', '?' and '#' of a login as %2F, %3F and %23; "
            f"{example}"
        )
    if parts.scheme not in ("nats", "tls"):
        raise InvalidInputError(f"a server address has the scheme '{parts.scheme}://': nats:// and tls:// are possible")
    if port == 0:
        raise InvalidInputError(f"a server address has the port 0, where nobody can listen: {example}")
    if not host:
        raise InvalidInputError(f"a server address names no host: {example}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidInputError(f"the address of server {host} has something after the port: {example}")
    return Server(
        host,
        port or _DEFAULT_PORT,
        parts.scheme == "tls",
        unquote(user) if user else None,
        None if password is None else unquote(password),
    )


def _tls(
    tls: ssl.SSLContext | None,
    ca: str | os.PathLike[str] | None,
    cert: str | os.PathLike[str] | None,
    key: str | os.PathLike[str] | None,
) -> tuple[ssl.SSLContext | None, _TlsFiles | None]:
    """Return the context to use, and the files that it is made of."""
    if tls is not None:
        if ca or cert or key:
            raise InvalidInputError("pass either tls= (a context) or tls_ca, tls_cert and tls_key (files)")
        return tls, None
    if not (ca or cert or key):
        return None, None
    if key and not cert:
        raise InvalidInputError("tls_key needs tls_cert: the key alone proves nothing")
    files = tuple(None if not path else os.fspath(path) for path in (ca, cert, key))
    return _read_tls(*files), cast("_TlsFiles", files)


def _read_tls(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=_existing("tls_ca", ca))
        if cert:
            context.load_cert_chain(str(_existing("tls_cert", cert)), _existing("tls_key", key))
    except (ssl.SSLError, OSError) as error:
        raise InvalidInputError(f"the TLS files cannot be used: {error}") from error
    return context


def _existing(name: str, path: str | os.PathLike[str] | None) -> str | None:
    if not path:
        return None
    text = os.fspath(path)
    found = _file(text)
    if found is not None:
        return str(found)
    if not _is_plausible(text):
        raise InvalidInputError(f"{name} is no path: pass the path of a file, not what the file holds")
    raise InvalidInputError(f"{name}: there is no file {text.strip()!r}")


def _file(path: str) -> Path | None:
    try:
        found = Path(path.strip()).expanduser()
        return found if found.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long, of no home, no path at all
        return None


def _is_plausible(path: str) -> bool:
    """Whether this may be a path, and be shown in a message, rather than a secret in the place of one."""
    path = path.strip()
    return len(path) <= _LONGEST_PATH and path.isprintable() and not _LIKE_A_SECRET.search(path)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{name}: {path!r} cannot be read: {error.strerror}") from None


def _credentials(path: str | os.PathLike[str] | None) -> str | None:
    found = _existing("credentials", path)
    if found is not None:
        text = _read("credentials", found)
        if b"BEGIN NATS USER JWT" not in text or b"BEGIN USER NKEY SEED" not in text:
            raise InvalidInputError(
                f"credentials: {found!r} holds no JWT and seed of a user, as 'nsc generate creds' writes them"
            )
    return found


def _nkey(nkey: str | os.PathLike[str] | None) -> tuple[str | None, str | None]:
    """Return the seed, given itself or in a file, and the file."""
    if not nkey:
        return None, None
    if isinstance(nkey, str):
        nkey = nkey.strip()
        if nkey.startswith("SU") and len(nkey) == _SEED_LENGTH:
            return nkey, None
        like_a_seed = nkey.startswith(_SEEDS) and os.sep not in nkey
        if (like_a_seed or not _is_plausible(nkey)) and _file(nkey) is None:
            raise InvalidInputError("nkey: this is neither a whole user seed (58 characters from SU on) nor a file")
    path = str(_existing("nkey", nkey))
    return _read_nkey(path), path


def _read_nkey(path: str) -> str:
    text = _read("nkey", path).decode(errors="replace")
    seeds = [line.strip() for line in text.splitlines() if line.strip().startswith("SU")]
    if not seeds:
        raise InvalidInputError(f"nkey: {path!r} holds no user seed (a line that begins with SU)")
    return seeds[0]


def _read_context(name: str) -> dict[str, Any]:
    """Read a context of the NATS command line tool."""
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= _LONGEST_NAME
        or not name.isprintable()
        or name != Path(name).name
        or name[0] == "."
    ):
        shown = ascii(name[:_LONGEST_NAME]) if isinstance(name, str) else type(name).__name__
        raise InvalidInputError(
            f"context must be the name of a NATS context, as 'nats context ls' shows it, not {shown}"
        )
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "nats" / "context" / f"{name}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInputError(f"there is no NATS context {name!r}: {str(path)!r} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"the NATS context {name!r} cannot be read: {error}") from None
    if not isinstance(stored, dict):
        raise InvalidInputError(f"the NATS context {name!r} holds no map")
    return stored
