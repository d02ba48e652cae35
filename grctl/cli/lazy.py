"""LazyGroup: a group whose commands are imported when they are used; SafeGroup: one that ends in our exit codes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from grctl.cli.exits import CommandError, ExitCode, ReaderGoneError
from grctl.cli.output import say_error
from grctl.safe_text import safe

__all__ = ["LazyGroup", "SafeGroup"]


class LazyGroup(click.Group):
    """A group of commands that are known by name.

    Args:
        lazy: for each name the place of the command, as ``module:attribute``, and its help in one line.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return [*self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])


class SafeGroup(LazyGroup):
    """The outermost group. Whatever a command ends in becomes an exit code and, at most, one message."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - click's own signature
        **extra: Any,
    ) -> Any:
        """Run a command; in standalone mode exit with its code."""
        command = functools.partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return command()
        sys.exit(_code_of(command))


def _code_of(command: Callable[[], Any]) -> int:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a character that it has not is no reason to fail
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ReaderGoneError, BrokenPipeError):
        _leave_stdout()
        return ExitCode.OK  # the reader has had enough
    except click.exceptions.Abort:
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except CommandError as error:
        say_error(str(error))
        return error.code
    except RecursionError:
        say_error("a value is nested too deeply to be shown")
        return ExitCode.FAILED
    except Exception as error:
        from grctl.cli.endings import code_of_error, in_our_words

        known = code_of_error(error)
        if known is not None:
            say_error(in_our_words(str(error)))
            return known
        if not isinstance(error, OSError):
            raise
        say_error(f"the output cannot be written: {error.strerror or error}")
        _leave_stdout()
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.OK


def _show(error: click.ClickException) -> None:
    """Show what click found wrong, with nothing in it that the user's terminal would act on."""
    if type(error).__name__ == "NoArgsIsHelpError":  # from click 8.2 on
        error.show()
        return
    usage = getattr(error, "ctx", None)
    if usage is not None:
        click.echo(safe(usage.get_usage(), lines=True), err=True)
        click.echo(f"Try '{safe(usage.command_path)} --help' for help.\n", err=True)
    click.echo(f"Error: {safe(error.format_message(), lines=True)}", err=True)


def _leave_stdout() -> None:
    """Give stdout another end, or the interpreter would complain when it flushes it at its own end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
