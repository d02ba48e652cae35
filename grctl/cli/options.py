"""Options that many commands share: where to connect, and how."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import click

__all__ = ["Connecting", "Seconds", "checked_id", "connecting", "global_options", "json_option", "run_options"]

F = TypeVar("F", bound=Callable[..., Any])


_LONGEST = 36_500 * 86_400.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|min|s|m|h|d)")
_PARTS = re.compile(rf"(?:{_PART.pattern})+")


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A duration: seconds as a number, or with units, such as ``500ms``, ``30s``, ``2h``, ``7d``, ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        if _PARTS.fullmatch(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        elif re.fullmatch(r"\d+(?:\.\d+)?", text):
            seconds = float(text)
        else:
            self.fail(f"{value!r} is no duration: write seconds, or 500ms, 30s, 5m, 2h, 7d, 1h30m", param, ctx)
        if not 0 < seconds <= _LONGEST:
            self.fail("a duration must be above zero, and 100 years at most", param, ctx)
        return seconds


@dataclass(frozen=True)
class Connecting:
    """Where to connect, and how; None for what was not given."""

    server_url: str | None = field(default=None, repr=False)
    log_level: str | None = None
    context: str | None = None
    credentials: str | None = None
    nkey: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    request_timeout: float | None = None

    def login(self) -> dict[str, Any]:
        """Return the options of a connection that are given."""
        names = ("context", "credentials", "nkey", "tls_ca", "tls_cert", "tls_key")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


_LEVELS = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
_EVERYWHERE = (
    click.option("--log-level", "-l", type=_LEVELS, help="How much of the log to show, on stderr.  [default: warning]"),
    click.option(
        "--server-url",
        "-s",
        metavar="URL",
        help="The server's broker, as nats://host:port or tls://host:port; several with commas between them.  "
        "[default: GRCTL_NATS_SERVERS, else nats://localhost:4225]",
    ),
)
_MORE: tuple[tuple[str, Any, str, str], ...] = (
    (
        "--request-timeout",
        Seconds(),
        "DURATION",
        "How long connecting may take, and each request: 30s, 500ms.  [default: 3 s and 5 s]",
    ),
    ("--tls-key", str, "FILE", "Its key."),
    ("--tls-cert", str, "FILE", "Your own certificate, for a broker that asks for one."),
    ("--tls-ca", str, "FILE", "Certificates of an authority to trust, instead of the system's."),
    ("--nkey", str, "FILE", "Log in with the nkey seed in this file."),
    ("--credentials", str, "FILE", "Log in with this credentials file."),
    ("--context", str, "NAME", "A context of the NATS command line tool."),
)


def _add(command: Callable[..., Any], *, hidden: bool) -> Callable[..., Any]:
    for name, kind, metavar, text in _MORE:
        command = click.option(name, type=kind, metavar=metavar, help=text, hidden=hidden)(command)
    for option in _EVERYWHERE:
        command = option(command)
    return command


_NAMES = tuple(field.name for field in fields(Connecting))


def global_options(command: F) -> Callable[..., Any]:
    """Take the options of a connection before the command's name."""

    @click.pass_context
    @functools.wraps(command)
    def take(context: click.Context, /, **given: Any) -> Any:
        context.obj = Connecting(**{name: given.pop(name) for name in _NAMES})
        return command(**given)

    return _add(take, hidden=False)


def connecting(command: F) -> Callable[..., Any]:
    """Take the same options behind the command's name too, where they win; pass a Connecting on, first.

    The help shows the two that are used most; all are in the help of the outermost group.
    """

    @click.pass_context
    @functools.wraps(command)
    def take(context: click.Context, /, **given: Any) -> Any:
        here = {name: given.pop(name) for name in _NAMES}
        before = context.find_object(Connecting) or Connecting()
        return command(replace(before, **{name: value for name, value in here.items() if value is not None}), **given)

    return _add(take, hidden=True)


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one value in a line.")


def run_options(command: F) -> F:
    """Take the options that name one run."""
    run_id = click.option("--run-id", metavar="ID", callback=checked_id, help="A certain run, not the latest one.")
    workflow_id = click.option(
        "--id", "-i", "workflow_id", metavar="ID", required=True, callback=checked_id, help="The workflow id."
    )
    return workflow_id(run_id(command))


def checked_id(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Refuse what can be no id before anybody is asked.

    Raises:
        InvalidInputError: it cannot.

    """
    if value is None:
        return None
    from grctl_core.ids import check_id

    return check_id(option.opts[0], value)
