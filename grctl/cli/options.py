"""Options that many commands share: where to connect, and how."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
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

    server_url: str | None = None
    log_level: str | None = None
    context: str | None = None
    credentials: str | None = None
    nkey: str | None = None
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
_ONCE = (
    click.option(
        "--request-timeout",
        type=Seconds(),
        metavar="DURATION",
        help="How long connecting may take, and each request: 30s, 500ms.  [default: 3 s and 5 s]",
    ),
    click.option("--tls-key", metavar="FILE", help="Its key."),
    click.option("--tls-cert", metavar="FILE", help="Your own certificate, for a broker that asks for one."),
    click.option("--tls-ca", metavar="FILE", help="Certificates of an authority to trust, instead of the system's."),
    click.option("--nkey", metavar="FILE", help="Log in with the nkey seed in this file."),
    click.option("--credentials", metavar="FILE", help="Log in with this credentials file."),
    click.option("--context", metavar="NAME", help="A context of the NATS command line tool."),
)


def global_options(command: F) -> Callable[..., Any]:
    """Take the options of a connection before the command's name."""

    @click.pass_context
    @functools.wraps(command)
    def take(context: click.Context, /, **given: Any) -> Any:
        names = {field.name for field in fields(Connecting)}
        context.obj = Connecting(**{name: given.pop(name) for name in names})
        return command(**given)

    for option in (*_ONCE, *_EVERYWHERE):
        take = option(take)
    return take


def connecting(command: F) -> Callable[..., Any]:
    """Take ``--server-url`` and ``--log-level`` behind the command's name too; pass a Connecting on, first."""

    @click.pass_context
    @functools.wraps(command)
    def take(context: click.Context, /, server_url: str | None, log_level: str | None, **given: Any) -> Any:
        before = context.find_object(Connecting) or Connecting()
        here = {"server_url": server_url, "log_level": log_level}
        given_here: dict[str, Any] = {name: value for name, value in here.items() if value is not None}
        return command(replace(before, **given_here), **given)

    for option in _EVERYWHERE:
        take = option(take)
    return take


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
