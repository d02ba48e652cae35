"""Output: hands records to structlog where the application configured it, and to the standard library otherwise.

Neither of the two is configured here, and structlog is never imported: an application that did not import it cannot
have configured it. Whatever is wrong with the logging of the application, no call suffers from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from grctl_logging.levels import LEVEL_NAMES

__all__ = ["Output", "configured_structlog"]


def configured_structlog() -> Any:
    """Return the module structlog if the application has configured it, else None."""
    structlog = sys.modules.get("structlog")
    # Where a thread is importing it at this moment, it lacks its functions yet.
    is_configured = getattr(structlog, "is_configured", None)
    return structlog if is_configured is not None and is_configured() else None


class _Sink(Protocol):
    """Where records go."""

    def listens(self, level: int) -> bool:
        """Whether records of this level go anywhere."""

    def write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        """Write one."""


class Output:
    """Where records go: decided when the first one comes, as applications configure logging when they begin to run."""

    def __init__(self, logger: str) -> None:
        self._logger = logger
        self._sink: _Sink | None = None
        self._complained = False

    def listens(self, level: int) -> bool:
        """Whether records of this level go anywhere, so that they are worth making."""
        try:
            return (self._sink or self._decide()).listens(level)
        except Exception as error:  # noqa: BLE001 - broken logging breaks no call
            self._complain(error)
            return False

    def write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        """Write one record."""
        try:
            (self._sink or self._decide()).write(level, event, fields)
        except Exception as error:  # noqa: BLE001
            self._complain(error)

    def _decide(self) -> _Sink:
        structlog = configured_structlog()
        sink: _Sink = _Standard(self._logger) if structlog is None else _Structlog(structlog, self._logger)
        self._sink = sink
        return sink

    def _complain(self, error: Exception) -> None:
        """Say once, where asyncio says what went wrong, that records are lost."""
        if self._complained:
            return
        self._complained = True
        with contextlib.suppress(Exception):  # that ends in logging as well
            message = f"grctl's records are lost: the application's logging raised {type(error).__name__}"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


class _Standard:
    """The standard library: ``event key=value key=value`` as the message, and the same fields on the record."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        _silence_if_unconfigured(self._logger)

    def listens(self, level: int) -> bool:
        return self._logger.isEnabledFor(level)

    def write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        text = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        message = f"{event} %s"  # the event in the format: what groups records by their format tells events apart
        try:
            self._logger.log(level, message, text, extra=fields)
        except KeyError:  # the application's record factory gives its records a field of the same name
            self._logger.log(level, message, text)


class _Structlog:
    """structlog: an event with its fields."""

    def __init__(self, structlog: Any, name: str) -> None:
        _silence_if_unconfigured(logging.getLogger(name))  # structlog may hand on to the standard library
        # A lazy logger, bound at each record: it follows the application when that configures structlog once more, or
        # replaces sys.stdout.
        self._logger = structlog.get_logger(name)
        self._structlog = structlog
        self._configuration: object = None
        self._is_enabled: Callable[[int], bool] = _always
        try:
            self._logger.bind()
        except TypeError:  # a logger factory that takes no name
            self._logger = structlog.get_logger()

    def listens(self, level: int) -> bool:
        configuration = self._structlog.get_config()
        if configuration != self._configuration:
            bound = self._logger.bind()
            # structlog's filtering loggers have it. Asked of the class: others make a method of whatever one asks for.
            has_levels = hasattr(type(bound), "is_enabled_for")
            self._is_enabled = bound.is_enabled_for if has_levels else _always
            self._configuration = configuration
        return self._is_enabled(level)

    def write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        logger = self._logger.bind()
        if hasattr(type(logger), "sync_bl"):
            logger = logger.sync_bl  # what AsyncBoundLogger wraps
        returned = getattr(logger, LEVEL_NAMES[level])(event, **fields)
        if inspect.iscoroutine(returned):
            returned.close()
            raise TypeError(f"{type(logger).__name__} logs in coroutines, and nobody can await them here")


def _always(_: int) -> bool:
    return True


def _silence_if_unconfigured(logger: logging.Logger) -> None:
    """Keep the standard library from printing warnings to stderr where nobody has configured it."""
    if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
        logger.addHandler(logging.NullHandler())


def _quoted(value: object) -> str:
    """Return a value as it is if one can see where it ends, else in quotation marks; always in one line."""
    # Seconds, as people and log parsers read them: 0.000098, never 9.8e-05.
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    if text and text.isprintable() and not any(character in ' "=' for character in text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
