"""Binding: the encoded input, or an event's payload, to the parameters of a handler (docs/protocol.md, section 6).

A map is spread as keyword arguments, any other value is the single positional argument, nil passes nothing.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from grctl_core.codec import check_type, convert, decode
from grctl_core.errors import DecodeError, InvalidInputError
from grctl_engine.child import ChildOutcome
from grctl_engine.errors import InputMismatchError

__all__ = ["Binder", "Parameter", "read_signature"]


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a handler.

    Attributes:
        name: its name.
        type: its annotation, resolved.
        required: whether it has no default.
        by_keyword: whether a map's key can fill it.
        by_position: whether a single value can.
    """

    name: str
    type: Any
    required: bool
    by_keyword: bool
    by_position: bool


def read_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature, its annotations as they are written, resolvable or not."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


class Binder:
    """Binds inputs to the parameters of one handler."""

    __slots__ = (
        "_by_name",
        "_context_name",
        "_extra_keyword",
        "_extra_position",
        "_nothing",
        "_noun",
        "_parameters",
        "_required",
        "_what",
        "_whole",
    )

    def __init__(self, what: str, function: Callable[..., Any], noun: str, nothing: str) -> None:
        """Read the handler's parameters, all but the first.

        Args:
            what: the handler, for messages, such as ``"start() of workflow 'ProcessOrder'"``.
            function: the handler.
            noun: what comes in, for messages: ``"input"`` or ``"payload"``.
            nothing: what to say when nothing came in, such as ``"the event has no payload"``.

        Raises:
            InvalidInputError: an annotation cannot be resolved, or no value can be decoded to it.

        """
        self._what = what
        self._noun = noun
        self._nothing = nothing
        self._parameters: list[Parameter] = []
        self._extra_position: Parameter | None = None
        self._extra_keyword: Parameter | None = None
        context, *parameters = read_signature(function).parameters.values()
        self._context_name = context.name
        for parameter in parameters:
            kind = parameter.kind
            read = Parameter(
                parameter.name,
                self._resolve(function, parameter),
                parameter.default is parameter.empty,
                kind in (kind.POSITIONAL_OR_KEYWORD, kind.KEYWORD_ONLY),
                kind in (kind.POSITIONAL_OR_KEYWORD, kind.POSITIONAL_ONLY),
            )
            if kind is kind.VAR_POSITIONAL:
                self._extra_position = read
            elif kind is kind.VAR_KEYWORD:
                self._extra_keyword = read
            else:
                self._parameters.append(read)
        self._by_name = {parameter.name: parameter for parameter in self._parameters if parameter.by_keyword}
        self._whole = next(filter(_takes_an_outcome, self._by_name.values()), None)
        self._required = [parameter for parameter in self._parameters if parameter.required]

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters, without the context and the variadic ones."""
        return self._parameters

    def bind(self, encoded: bytes | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments for the handler, without the context.

        Raises:
            InputMismatchError: a parameter gets nothing, a key or the value has no parameter, or a value is not
                of the annotated type.

        """
        try:
            value = None if encoded is None else decode(encoded)
        except DecodeError as error:
            raise InputMismatchError(f"the {self._noun} of {self._what} cannot be decoded: {error}") from None
        if value is None:
            self._check_required((), self._nothing)
            return (), {}
        if isinstance(value, dict):
            return (), self._bind_map(value)
        return self._bind_value(value), {}

    def _bind_map(self, value: dict[Any, Any]) -> dict[str, Any]:
        if self._whole is not None and _is_for(self._whole, value):
            value = {self._whole.name: value}  # the outcome of a child is one thing, and not spread
        arguments: dict[str, Any] = {}
        unexpected = []
        for key, item in value.items():
            parameter = self._by_name.get(key)
            if parameter is None and isinstance(key, str) and key != self._context_name:
                parameter = self._extra_keyword
            if parameter is None:
                unexpected.append(key)
            else:
                arguments[key] = self._convert(parameter, key, item)
        if unexpected:
            raise InputMismatchError(self._explain_unexpected(value, unexpected))
        if len(arguments) < len(self._parameters):
            given = f"the {self._noun} has: {_listed(value)}" if value else f"the {self._noun} is an empty map"
            self._check_required(arguments, given)
        return arguments

    def _bind_value(self, value: Any) -> tuple[Any, ...]:
        first = self._parameters[0] if self._parameters else None
        target = first if first is not None and first.by_position else self._extra_position
        if target is None:
            takes = f"takes {_listed(self._by_name)} by keyword only" if self._by_name else f"takes no {self._noun}"
            advice = "send a map, its keys become keyword arguments" if self._by_name else "give it a parameter"
            raise InputMismatchError(
                f"{self._what} {takes}; the {self._noun} is a single value ({_kind(value)}): {advice}"
            )
        converted = self._convert(target, target.name, value)
        filled = (target.name,)
        self._check_required(filled, f"the {self._noun} is a single value ({_kind(value)}), for {target.name!r}")
        return (converted,)

    def _convert(self, parameter: Parameter, name: str, value: Any) -> Any:
        if parameter.type is Any:
            return value
        try:
            return convert(value, parameter.type)
        except DecodeError as error:
            raise InputMismatchError(
                f"{self._what}: {name!r} does not fit {_type_name(parameter.type)}: {error}"
            ) from None

    def _check_required(self, given: Mapping[str, Any] | tuple[str, ...], input_is: str) -> None:
        missing = [parameter for parameter in self._required if parameter.name not in given]
        if missing:
            needs = ", ".join(f"{parameter.name!r} ({_type_name(parameter.type)})" for parameter in missing)
            raise InputMismatchError(f"{self._what} needs {needs}; {input_is}{self._hint(missing, given)}")

    def _explain_unexpected(self, value: dict[Any, Any], unexpected: list[Any]) -> str:
        missing = [one for one in self._required if one.name not in value or not one.by_keyword]
        if missing:
            needs = ", ".join(f"{parameter.name!r} ({_type_name(parameter.type)})" for parameter in missing)
            return f"{self._what} needs {needs}; the {self._noun} has: {_listed(value)}{self._hint(missing, {})}"
        takes = _listed(self._by_name) if self._by_name else "no keys"
        return f"{self._what} takes {takes}; the {self._noun} has {_listed(unexpected)} as well"

    def _hint(self, missing: list[Parameter], given: Mapping[str, Any] | tuple[str, ...]) -> str:
        if len(missing) == 1 and not given and _looks_like_a_map(missing[0].type):
            name = missing[0].name
            return (
                f". A map is spread as keyword arguments, one for each key: send {{{name!r}: {{...}}}}, "
                "or give the handler one parameter for each key"
            )
        return ""

    def _resolve(self, function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
        # One by one: the annotation of ctx is often imported for type checkers only, and nobody needs it here.
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        try:
            resolved = typing.get_type_hints(holder, globalns=scope, include_extras=True)[parameter.name]
        except Exception as error:
            raise InvalidInputError(
                f"{self._what}: the annotation of {parameter.name!r}, {parameter.annotation!r}, cannot be resolved "
                f"({error}): it must be there at run time and at module level, not under TYPE_CHECKING or in a function"
            ) from error
        check_type(f"{self._what}: {parameter.name}", resolved)
        return resolved


def _takes_an_outcome(parameter: Parameter) -> bool:
    return (typing.get_origin(parameter.type) or parameter.type) is ChildOutcome


def _is_for(parameter: Parameter, value: dict[Any, Any]) -> bool:
    """Whether a map is the outcome itself, and not arguments by name: the parameter may be called ``result``."""
    name = parameter.name
    return name not in value or (name in ChildOutcome.__struct_fields__ and isinstance(value.get("status"), str))


def _looks_like_a_map(type_: Any) -> bool:
    origin = typing.get_origin(type_)
    if origin in (typing.Union, types.UnionType):
        return any(_looks_like_a_map(option) for option in typing.get_args(type_))
    if origin is typing.Annotated:
        return _looks_like_a_map(typing.get_args(type_)[0])
    plain = origin or type_
    return (
        dataclasses.is_dataclass(plain)
        or typing.is_typeddict(plain)
        or hasattr(plain, "model_fields")  # pydantic
        or (isinstance(plain, type) and issubclass(plain, Mapping | msgspec.Struct))
    )


def _type_name(type_: Any) -> str:
    if isinstance(type_, type) and not typing.get_args(type_):
        return type_.__name__
    return str(type_).replace("typing.", "")


def _kind(value: object) -> str:
    return type(value).__name__


def _listed(names: Any) -> str:
    shown = [str(name) if isinstance(name, str) else repr(name) for name in names]
    shown = [name if len(name) <= 60 else name[:57] + "..." for name in shown]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
