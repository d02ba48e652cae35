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

_find_naive_datetime = re.compile(rb"-\d\dT\d\d:\d\d:\d\d").search
"""Where msgspec would silently write a naive datetime as a string. Aware ones become msgpack timestamps."""


def encode(name: str, value: object) -> bytes:
    """Encode a value.

    Args:
        name: what the value is, for the message of an error, such as ``"workflow_input"``.
        value: the value.

    Raises:
        InvalidInputError: something in it cannot be encoded; the message has the path to it.

    """
    try:
        encoded = _encoder.encode(value)
    except RecursionError:
        raise InvalidInputError(f"{name} is nested too deeply, or contains itself") from None
    except Exception as error:
        where, culprit, cause = _find_culprit(value, name, error)
        raise InvalidInputError(f"{where} cannot be encoded ({type(culprit).__name__}): {cause}") from error
    if _find_naive_datetime(encoded) is not None:
        path = _find_naive(value, name)
        if path is not None:
            raise InvalidInputError(
                f"{path} is a datetime without a time zone: give it one, for example "
                "datetime.now(UTC) or value.replace(tzinfo=UTC)"
            )
    return encoded


def decode(encoded: bytes, type: Any = Any) -> Any:  # noqa: A002 - the field's name for it
    """Decode bytes, checked against a type where one is given.

    Raises:
        DecodeError: the bytes are no msgpack, or the value is not of the type; the message has the path.

    """
    try:
        return _decoder(type).decode(encoded)
    except Exception as error:  # pydantic and __post_init__ raise errors of their own
        raise DecodeError(str(error)) from error


def check_type(name: str, type: Any) -> None:  # noqa: A002
    """Make sure that values can be decoded to a type, before anything is sent.

    Raises:
        InvalidInputError: they cannot.

    """
    try:
        _decoder(type)
    except Exception as error:
        raise InvalidInputError(f"{name}={type!r} is no type that values can be decoded to: {error}") from error


def convert(value: Any, type: Any) -> Any:  # noqa: A002
    """Convert a decoded value to a type.

    Raises:
        DecodeError: it is not of the type; the message has the path.

    """
    try:
        return msgspec.convert(value, type, dec_hook=_decode_hook)
    except Exception as error:
        raise DecodeError(str(error)) from error


def _pydantic_model() -> type | None:
    pydantic = sys.modules.get("pydantic")  # who passes a model has imported it
    return None if pydantic is None else getattr(pydantic, "BaseModel", None)


def _encode_hook(value: Any) -> Any:
    model = _pydantic_model()
    if model is not None and isinstance(value, model):
        return value.model_dump()  # type: ignore[attr-defined]
    raise TypeError(
        f"{type(value).__name__} is none of the types that can be sent: plain values, dict, list, dataclass, "
        "msgspec.Struct, pydantic model, datetime, UUID, Decimal, Enum"
    )


def _decode_hook(type_: Any, value: Any) -> Any:
    model = _pydantic_model()
    if model is not None and isinstance(type_, type) and issubclass(type_, model):
        return type_.model_validate(value)  # type: ignore[attr-defined]
    raise TypeError(f"values of type {type_!r} cannot be decoded")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_hook)


@functools.lru_cache(maxsize=256)
def _cached_decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_, dec_hook=_decode_hook)


def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    try:
        return _cached_decoder(type_)
    except TypeError:  # an unhashable type, such as Annotated with a list in it
        return _cached_decoder.__wrapped__(type_)


def _parts(value: object, path: str) -> list[tuple[str, object]]:
    """Return what a value is made of, each with its path. Keys of maps come before their values."""
    if isinstance(value, Mapping):
        keys = [(f"{path} (key {_short(key)})", key) for key in value]
        return keys + [(f"{path}[{_short(key)}]", item) for key, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, AbstractSet):
        return [(f"{path}{{{_short(item)}}}", item) for item in value]
    names = getattr(type(value), "__dataclass_fields__", None) or getattr(type(value), "__struct_fields__", None)
    if names is None and (model := _pydantic_model()) is not None and isinstance(value, model):
        names = type(value).model_fields  # type: ignore[attr-defined]
    return [(f"{path}.{name}", getattr(value, name, None)) for name in names or ()]


def _short(key: object) -> str:
    shown = ascii(key)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _find_culprit(value: object, path: str, error: Exception) -> tuple[str, object, Exception]:
    """Return the innermost part that cannot be encoded: msgspec's own error names no path."""
    for part_path, part in _parts(value, path):
        try:
            _encoder.encode(part)
        except Exception as part_error:
            return _find_culprit(part, part_path, part_error)
    return path, value, error


def _find_naive(value: object, path: str) -> str | None:
    if isinstance(value, datetime):
        return path if value.tzinfo is None else None
    for part_path, part in _parts(value, path):
        found = _find_naive(part, part_path)
        if found is not None:
            return found
    return None
