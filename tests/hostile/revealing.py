"""Where a secret shows: in an error, all that it came from, and what a traceback with local variables would print."""

from __future__ import annotations

import contextlib
import copy
import pickle
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["places_in"]

_ROOT = Path(__file__).parents[2]
_ROOMS = ("grctl", "grctl_core", "grctl_engine", "transports", "plugins")


def places_in(error: BaseException, secrets: Iterable[str]) -> list[str]:
    """Return the places of an error in which one of the secrets stands."""
    found = []
    for where, text in _texts(error):
        found += [f"{where}: {text[:300]}" for secret in secrets if secret in text]
    return found


def _texts(error: BaseException) -> Iterator[tuple[str, str]]:
    for each in _chain(error):
        name = type(each).__name__
        yield f"str of {name}", str(each)
        yield f"repr of {name}", repr(each)
        yield f"args of {name}", repr(each.args)
        yield f"notes of {name}", repr(getattr(each, "__notes__", ()))
        yield f"fields of {name}", repr(vars(each))
        yield from _locals(name, each.__traceback__)
        with contextlib.suppress(Exception):  # errors of others need not
            pickled = pickle.dumps(each)
            yield f"pickle of {name}", pickled.decode("latin-1")
            yield f"unpickled {name}", repr(vars(pickle.loads(pickled)))
            yield f"copy of {name}", repr(vars(copy.copy(each)))
    yield "traceback", "".join(traceback.format_exception(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo.append(each.__cause__)
        if not each.__suppress_context__:
            todo.append(each.__context__)
        if isinstance(each, BaseExceptionGroup):
            todo.extend(each.exceptions)


def _locals(name: str, frames: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Yield the local variables of our own frames, as ``traceback`` and rich would show them."""
    while frames is not None:
        code = frames.tb_frame.f_code
        if _is_ours(code.co_filename):
            for variable, value in frames.tb_frame.f_locals.items():
                yield f"local {variable} of {code.co_qualname} in {name}", _shown(value)
        frames = frames.tb_next


def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _ROOMS


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<unrepresentable: {type(error).__name__}>"
