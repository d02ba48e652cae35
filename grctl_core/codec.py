"""The codec: values to msgpack and back, on every transport alike.

It takes what msgspec takes (dataclasses, Structs, TypedDicts, datetimes, UUIDs, Decimals, Enums, ...) and pydantic
models where pydantic is installed. Without a type to decode to, what comes back is msgpack's own: a tuple as a list,
a UUID or a Decimal as a string, an Enum as its value.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

import msgspec

from grctl_core.errors import DecodeError, InvalidInputError

__all__ = ["check_type", "convert", "decode", "encode"]

_may_hold_naive_datetime = re.compile(rb"[\xb3\xba]\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d").search
"""msgspec silently writes a naive datetime as a string, of 19 or 26 bytes. Aware ones become msgpack timestamps."""

_QUOTED_VALUE = re.compile(r"^(Invalid (?:enum )?value) .*?(?= - at `|$)", re.DOTALL)
_MOST_SAID = 500
"""Characters of a decoder's words: a path into a thousand levels is long."""


def encode(name: str, value: object) -> bytes:
    """Encode a value.

    Args:
        name: what the value is, for the message of an error, such as ``"workflow_input"``.
        value: the value.

    Raises:
        InvalidInputError: something in it cannot be encoded; the message has the path to it.

    """
    failure: InvalidInputError
    try:
        encoded = _encoder.encode(value)
    except RecursionError:
        failure = InvalidInputError(f"{name} is nested too deeply, or contains itself")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why this cannot be encoded
        failure = _cannot_be_encoded(value, name, error)
    else:
        if _may_hold_naive_datetime(encoded) is None or (path := _find_naive(value, name)) is None:
            return encoded
        failure = InvalidInputError(
            f"{path} is a datetime without a time zone: give it one, for example "
            "datetime.now(UTC) or value.replace(tzinfo=UTC)"
        )
        del encoded
    del value  # no traceback is to show it
    raise failure


def _cannot_be_encoded(value: object, name: str, error: Exception) -> InvalidInputError:
    where, culprit, cause = _find_culprit(value, name, error)
    failure = InvalidInputError(f"{where} cannot be encoded ({type(culprit).__name__}): {cause}")
    failure.__cause__ = _bare(error)
    return failure


def decode(encoded: bytes, type: Any = Any) -> Any:
    """Decode bytes, checked against a type where one is given.

    Raises:
        DecodeError: the bytes are no msgpack, or the value is not of the type; the message has the path.

    """
    try:
        return _decoder(type).decode(encoded)
    except Exception as error:  # noqa: BLE001 - pydantic and __post_init__ raise errors of their own
        failure = _cannot_be_decoded(error)
    del encoded  # no traceback is to show it
    raise failure


def check_type(name: str, type: Any) -> None:
    """Make sure that values can be decoded to a type, before anything is sent.

    Raises:
        InvalidInputError: they cannot.

    """
    try:
        _decoder(type)
    except Exception as error:
        raise InvalidInputError(f"{name}={type!r} is no type that values can be decoded to: {error}") from error


def convert(value: Any, type: Any) -> Any:
    """Convert a decoded value to a type.

    Raises:
        DecodeError: it is not of the type; the message has the path.

    """
    try:
        return msgspec.convert(value, type, dec_hook=_decode_hook)
    except Exception as error:  # noqa: BLE001
        failure = _cannot_be_decoded(error)
    del value
    raise failure


def _cannot_be_decoded(error: Exception) -> DecodeError:
    """Return what to raise. Its message says where something is wrong and what was expected there, not what is there.

    pydantic's errors quote the input, and msgspec's what is no value of an enum. Whatever quotes it is no cause either.
    """
    pydantic = sys.modules.get("pydantic")
    quoted: Exception = error if error.__cause__ is None else error.__cause__  # type: ignore[assignment]
    if pydantic is not None and isinstance(quoted, pydantic.ValidationError):
        wrong = quoted.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, each['loc'])) or quoted.title}: {each['msg']}" for each in wrong)
        return DecodeError(_short_of(said))
    failure = DecodeError(_short_of(_QUOTED_VALUE.sub(r"\1", str(error))))
    failure.__cause__ = _bare(error.__cause__) if isinstance(error.__cause__, Exception) else None
    return failure


def _short_of(said: str) -> str:
    return said if len(said) <= _MOST_SAID else said[: _MOST_SAID - 1] + "…"


def _bare(error: Exception) -> Exception | None:
    """Return an error without the frames of this module, whose local variables hold the value; None where it holds it
    itself.
    """
    if isinstance(error, UnicodeError):
        return None
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return error.with_traceback(frames)


def _is_model(type_: Any) -> bool:
    pydantic = sys.modules.get("pydantic")  # who passes a model has imported it
    model = getattr(pydantic, "BaseModel", None)
    return model is not None and isinstance(type_, type) and issubclass(type_, model)


def _encode_hook(value: Any) -> Any:
    if _is_model(type(value)):
        return value.model_dump()
    raise TypeError(
        f"{type(value).__name__} is none of the types that can be sent: plain values, dict, list, dataclass, "
        "msgspec.Struct, pydantic model, datetime, UUID, Decimal, Enum"
    )


def _decode_hook(type_: Any, value: Any) -> Any:
    if _is_model(type_):
        return type_.model_validate(value)
    raise TypeError(f"values of type {type_!r} cannot be decoded")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_hook)


@functools.lru_cache(maxsize=256)
def _cached_decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    decoder = msgspec.msgpack.Decoder(type_, dec_hook=_decode_hook)
    _refuse_unknown_classes(type_)
    return decoder


def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    try:
        return _cached_decoder(type_)
    except TypeError:  # an unhashable type, such as Annotated with a list in it
        return _cached_decoder.__wrapped__(type_)


def _refuse_unknown_classes(type_: Any) -> None:
    """Raise for a class, at any depth, that msgspec leaves to the hook and the hook does not know."""
    todo: list[Any] = [msgspec.inspect.type_info(type_)]
    seen: list[object] = []
    while todo:
        part = todo.pop()
        if isinstance(part, tuple):
            todo += part
        elif isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field) and not any(part is old for old in seen):
            seen.append(part)
            todo += [getattr(part, name) for name in part.__struct_fields__]
            if isinstance(part, msgspec.inspect.CustomType) and not _is_model(part.cls):
                raise TypeError(f"values of type {part.cls!r} cannot be decoded")


def _parts(value: object, path: str) -> list[tuple[str, object]]:
    """Return what a value is made of, each with its path. Keys of maps come before their values."""
    if isinstance(value, Mapping):
        keys = [(f"{path} (key {_short(key)})", key) for key in value]
        return keys + [(f"{path}[{_short(key)}]", item) for key, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, AbstractSet):
        return [(f"{path}{{{type(item).__name__}}}", item) for item in value]
    return [(f"{path}.{name}", part) for name, part in _attributes(value).items()]


def _attributes(value: Any) -> dict[str, object]:
    type_ = type(value)
    if _is_model(type_):
        try:
            dumped = value.model_dump()  # also has what is computed, and extra fields
        except Exception:  # noqa: BLE001 - the caller has it already: this is what cannot be encoded
            return {}
        if not isinstance(dumped, dict):
            return {"root": dumped}
        return {name: getattr(value, name, item) for name, item in dumped.items()}
    names = getattr(type_, "__dataclass_fields__", None) or getattr(type_, "__struct_fields__", None)
    if names is None:
        names = [attribute.name for attribute in getattr(type_, "__attrs_attrs__", ())]
    return {name: getattr(value, name, None) for name in names}


def _short(key: object) -> str:
    shown = ascii(key)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _find_culprit(value: object, path: str, error: Exception) -> tuple[str, object, Exception]:
    """Return the innermost part that cannot be encoded: msgspec's own error names no path."""
    while True:
        for part_path, part in _parts(value, path):
            part_error = _encoding_error(part)
            if part_error is not None:
                path, value, error = part_path, part, part_error
                break
        else:
            return path, value, error


def _encoding_error(value: object) -> Exception | None:
    try:
        _encoder.encode(value)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why this cannot be encoded
        return error
    return None


def _find_naive(value: object, path: str) -> str | None:
    todo = [(path, value)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, datetime) and value.tzinfo is None:
            return path
        todo += reversed(_parts(value, path))
    return None
