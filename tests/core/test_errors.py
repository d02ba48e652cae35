"""grctl_core.errors: the tree is as drawn, and every error survives pickle and copy."""

from __future__ import annotations

import asyncio
import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from grctl_core import errors
from grctl_core.errors import (
    ConnectionClosedError,
    DeliveryUnknownError,
    GrctlError,
    InvalidInputError,
    NotSentError,
    ServerError,
    WorkflowAlreadyRunningError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowTerminatedError,
    WorkflowTimeoutError,
    own_copy,
)
from grctl_core.run import RunRef

RUN = RunRef("order-1", "01HZZZZZZZZZZZZZZZZZZZZZZZ", "Order")
CLASSES = {name: value for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}
BUILTINS = {cls.__name__: cls for cls in (ValueError, ConnectionError, RuntimeError, TimeoutError)}
BUILTINS["asyncio.CancelledError"] = asyncio.CancelledError

WITH_FIELDS = [
    DeliveryUnknownError("no reply", operation="start", run=RUN, link=7),
    WorkflowAlreadyRunningError("runs", run_id=RUN.run_id, code=4001, detail="active run: x"),
    ServerError("refused", code=4005, detail="does not fit"),
    WorkflowError("CardDeclined", "no money", "Traceback ...", RUN),
    WorkflowTimeoutError("too long", run=RUN),
    WorkflowCancelledError("cancelled", reason="changed my mind", run=RUN),
    WorkflowTerminatedError("terminated", reason="wrong order", run=RUN),
]


def an_error(cls: type[GrctlError]) -> GrctlError:
    return cls("ValueError", "what to do") if cls is WorkflowError else cls("what to do")  # type: ignore[call-arg]


ALL = [*map(an_error, CLASSES.values()), *WITH_FIELDS]


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Read the drawing: name -> (name of the parent, name of the builtin beside it)."""
    tree: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:│   |    |├── |└── )*)(\w+Error)(?: \(([\w.]+)\))?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del path[depth:]
        tree[match[2]] = (path[-1] if path else "Exception", match[3])
        path.append(match[2])
    return tree


def test_the_tree_is_as_drawn() -> None:
    tree = drawn_tree()
    assert tree.keys() == CLASSES.keys()
    for name, (parent, beside) in tree.items():
        bases = tuple(cls.__name__ for cls in CLASSES[name].__bases__)
        builtin = () if beside is None else (BUILTINS[beside].__name__,)
        assert bases == (parent, *builtin), name


def test_all_lists_every_class() -> None:
    assert {name for name in errors.__all__ if name.endswith("Error")} == CLASSES.keys()


@pytest.mark.parametrize(
    ("error", "caught_by"),
    [
        (WorkflowError("ValueError", "no"), "workflow"),
        (WorkflowTimeoutError("too long"), "timeout"),
        (TimeoutError(), "timeout"),
        (WorkflowCancelledError("cancelled"), "cancelled"),
        (WorkflowTerminatedError("terminated"), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (DeliveryUnknownError("lost"), "none of them"),
        (NotSentError("no connection"), "none of them"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_documented_order_of_excepts(error: BaseException, caught_by: str) -> None:
    try:
        raise error
    except WorkflowError:
        seen = "workflow"
    except TimeoutError:
        seen = "timeout"
    except asyncio.CancelledError:
        seen = "cancelled"
    except Exception:
        seen = "none of them"
    assert seen == caught_by


def test_every_end_of_a_run_is_an_exception() -> None:
    for cls in CLASSES.values():
        assert issubclass(cls, Exception)
    assert not issubclass(DeliveryUnknownError, TimeoutError)
    assert not issubclass(WorkflowCancelledError, WorkflowError)


def again_by_pickle(protocol: int) -> Callable[[Any], Any]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, *map(again_by_pickle, range(pickle.HIGHEST_PROTOCOL + 1))],
    ids=["copy", "deepcopy", *(f"pickle{n}" for n in range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_pickle_and_copy_keep_everything(again: Callable[[Any], Any]) -> None:
    for error in ALL:
        error.add_note("while shipping")
        twin = again(error)
        assert type(twin) is type(error)
        assert twin is not error
        assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)
        assert vars(twin) == vars(error)
        twin.add_note("the twin's own")
        assert "the twin's own" not in error.__notes__


def test_a_message_with_several_arguments_survives_too() -> None:
    error = ConnectionClosedError(1, "closed")  # ConnectionError is an OSError, which reads two arguments as errno
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_own_copy() -> None:
    ours, foreign = InvalidInputError("bad"), KeyError("x")
    assert own_copy(ours) is not ours
    assert own_copy(foreign) is foreign


async def test_a_future_can_hold_each() -> None:
    for error in ALL:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        with pytest.raises(type(error)):
            await future
        assert not future.cancelled()


async def test_a_task_that_ends_in_a_cancelled_workflow_counts_as_cancelled() -> None:
    """The trap that docs/errors.md shows: asyncio looks at the class alone."""

    async def work() -> None:
        raise WorkflowCancelledError("cancelled", reason="stock")

    task = asyncio.create_task(work())
    await asyncio.wait([task])
    assert task.cancelled()
    with pytest.raises(WorkflowCancelledError):
        await task  # awaiting it directly keeps the class
    (gathered,) = await asyncio.gather(asyncio.create_task(work()), return_exceptions=True)
    assert isinstance(gathered, asyncio.CancelledError)
