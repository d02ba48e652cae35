"""WorkflowRef: the name of a workflow type, and what it takes and gives."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import msgspec

from grctl_core.codec import check_type
from grctl_core.errors import InvalidInputError
from grctl_core.ids import check_id

if TYPE_CHECKING:
    from grctl_core.durations import Duration
    from grctl_core.protocols import OnConflict

__all__ = ["TypedStart", "WorkflowRef"]

P = ParamSpec("P")
InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class WorkflowRef(msgspec.Struct, Generic[InputT, ResultT], frozen=True):
    """Names a workflow type, and says what its start takes and what a run gives.

    >>> process_order = WorkflowRef("ProcessOrder", Order, Receipt)
    >>> receipt = await client.run_workflow(process_order, "order-1", Order(qty=2))

    A client takes one in the place of the type's name. Type checkers then refuse another input, and know the result's
    type; at run time the input is looked at too, before anything is sent, and the result is decoded to its type.

    Attributes:
        name: name of the workflow type.
        input_type: what ``workflow_input`` must be: a dataclass, a TypedDict, ``list[str]``, ... For a workflow that
            takes nothing it is ``types.NoneType``, and the input ``None``.
        result_type: what a run's result is decoded to; ``types.NoneType`` for a workflow that gives nothing.

    Raises:
        InvalidInputError: the name is no workflow type, or ``result_type`` is nothing that values can be decoded to.

    """

    name: str
    input_type: type[InputT]
    result_type: type[ResultT]

    def __post_init__(self) -> None:
        """Check it."""
        check_id("name", self.name)
        if self.result_type is not Any:
            check_type("result_type", self.result_type)

    def check_input(self, value: object) -> None:
        """Make sure that a value may be the input, as far as one look tells: what is inside of it is not looked at.

        Raises:
            InvalidInputError: it may not.

        """
        kind, fits = type(value), _may_be(value, self.input_type)
        del value  # no traceback is to show it
        if not fits:
            raise InvalidInputError(
                f"workflow_input must be {_named(self.input_type)}, as the WorkflowRef of {self.name!r} says, "
                f"not {_named(kind)}"
            )

    if TYPE_CHECKING:

        def _start(
            self,
            workflow_input: InputT,
            workflow_timeout: Duration | None = None,
            *,
            on_conflict: OnConflict = ...,
            request_timeout: Duration | None = ...,
            retry: object = ...,
        ) -> ResultT:
            """Take what a start takes after the workflow id. See :class:`TypedStart`."""


class TypedStart(Protocol[P, ResultT_co]):
    """What a type checker sees in a WorkflowRef: the arguments that its start takes after the workflow id.

    With these as a whole (P), instead of the input's type alone, mypy knows what a literal is to be (a dict that is a
    TypedDict, say), and says which argument is wrong.
    """

    def _start(self, *args: P.args, **kwargs: P.kwargs) -> ResultT_co: ...


def _may_be(value: object, kind: Any) -> bool:
    """Whether one look at a value leaves it open that it is of a type. A type that it knows nothing of leaves it so."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Union or origin is types.UnionType:
        return any(_may_be(value, one) for one in arguments)
    if origin is Annotated:
        return _may_be(value, arguments[0])
    if origin is Literal:
        return value in arguments
    if kind is None:
        return value is None
    kind = origin or kind
    if kind is float:
        kind = float | int
    elif hasattr(kind, "__required_keys__"):  # a TypedDict: isinstance refuses to look
        kind = Mapping
    try:
        return isinstance(value, kind)
    except TypeError:  # Any, a NewType, a protocol
        return True


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
