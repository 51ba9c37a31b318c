"""Answers of a broker in bytes, from a few fields: the rest is what says nothing."""

from __future__ import annotations

import dataclasses
import typing
from datetime import timedelta
from io import BytesIO
from types import NoneType, UnionType
from typing import Any

from kio.schema.errors import ErrorCode
from kio.serial import entity_writer


def encoded(kind: type, **fields: Any) -> bytes:
    """Returns the body of an entity.

    Args:
        kind: the class of the entity.
        fields: name -> value; nested entities are mappings.
    """
    buffer = BytesIO()
    entity_writer(kind)(buffer, _entity(kind, fields))
    return buffer.getvalue()


def _entity(kind: type, fields: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind)]
    assert set(fields) <= set(names), f"{kind.__name__} has {', '.join(names)}"
    return kind(**{name: _value(hints[name], fields.get(name)) for name in names})


def _value(hint: Any, given: Any) -> Any:
    if typing.get_origin(hint) in (UnionType, typing.Union):
        inner = next(one for one in typing.get_args(hint) if one is not NoneType)
        return None if given is None else _value(inner, given)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_value(item, one) for one in given or ())
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _entity(hint, given or {})
    if issubclass(hint, ErrorCode):
        return ErrorCode(given or 0)
    if issubclass(hint, timedelta):
        return timedelta(milliseconds=given or 0)
    if given is not None:
        return given
    return "" if issubclass(hint, str) else 0
