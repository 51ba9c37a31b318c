"""Serdes of records without a match in a join of streams: keys and values with their side.

Owns how a key with its time and side, and a value with its side, become bytes around the bytes of
the user's serdes. The layouts are in `stores.formats`. This module must not know joins, nor the
store that keeps such records.

Source: JVM `TimestampedKeyAndJoinSideSerde`, `LeftOrRightValueSerde`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar, final

from thalweg.stores.errors import DeserializationError
from thalweg.stores.formats import decode_sided_key, encode_sided_key
from thalweg.stores.serde import Serde

SidedKey: TypeAlias = tuple[int, bool, Any]
"""(timestamp, whether it is of the left side, key)."""

SidedValue: TypeAlias = tuple[bool, Any]
"""(whether it is of the left side, value)."""

T = TypeVar("T")

_LEFT: Final = b"\x01"
_RIGHT: Final = b"\x00"


class WrappingSerde(Serde[T]):
    """A serde around others, in place of which the application's default may come."""

    @abstractmethod
    def with_default(self, default: Serde[Any]) -> Serde[T]:
        """Returns the same with a serde for those that were not given."""

    def bare_serializer(self, topic: str) -> Callable[[T], bytes]:
        """Returns the function that writes values: none is faster."""
        return self.serializer(topic)


@final
class SidedKeySerde(WrappingSerde[SidedKey]):
    """Keys with their time and side. Their bytes are in the order of time, the right side first.

    Args:
        inner: the serde of the key within; None for the application's default.
    """

    def __init__(self, inner: Serde[Any] | None) -> None:
        self.inner = inner
        self.keyable = inner is not None and inner.keyable
        self.immutable = inner is not None and inner.immutable

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"sided key({_name(self.inner)})"

    def with_default(self, default: Serde[Any]) -> Serde[SidedKey]:
        """Returns the same with a serde for keys, if it has none."""
        return self if self.inner is not None else SidedKeySerde(default)

    def serializer(self, topic: str) -> Callable[[SidedKey], bytes]:
        """Returns the function that writes such keys."""
        encode_inner = _known(self.inner).serializer(topic)

        def encode(sided: SidedKey) -> bytes:
            return encode_sided_key(sided[0], sided[1], encode_inner(sided[2]))

        return encode

    def deserializer(self, topic: str) -> Callable[[bytes], SidedKey]:
        """Returns the function that reads such keys."""
        decode_inner = _known(self.inner).deserializer(topic)

        def decode(data: bytes) -> SidedKey:
            timestamp, is_left, key = decode_sided_key(data)
            return timestamp, is_left, decode_inner(key)

        return decode


@final
class SidedValueSerde(WrappingSerde[SidedValue]):
    """Values of either side, each with the serde of its side.

    Args:
        left: the serde of the left side's values; None for the application's default.
        right: the serde of the right side's values; None for the application's default.
    """

    def __init__(self, left: Serde[Any] | None, right: Serde[Any] | None) -> None:
        self.left = left
        self.right = right

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"sided value({_name(self.left)}, {_name(self.right)})"

    def with_default(self, default: Serde[Any]) -> Serde[SidedValue]:
        """Returns the same with a serde for the values of a side that has none."""
        if self.left is not None and self.right is not None:
            return self
        return SidedValueSerde(self.left or default, self.right or default)

    def serializer(self, topic: str) -> Callable[[SidedValue], bytes]:
        """Returns the function that writes such values."""
        encode_left = _known(self.left).serializer(topic)
        encode_right = _known(self.right).serializer(topic)

        def encode(sided: SidedValue) -> bytes:
            return _LEFT + encode_left(sided[1]) if sided[0] else _RIGHT + encode_right(sided[1])

        return encode

    def deserializer(self, topic: str) -> Callable[[bytes], SidedValue]:
        """Returns the function that reads such values."""
        decode_left = _known(self.left).deserializer(topic)
        decode_right = _known(self.right).deserializer(topic)

        def decode(data: bytes) -> SidedValue:
            if not data:
                message = "a value of one side of a join begins with its side, got no bytes"
                raise DeserializationError(message)
            is_left = data[0] == 1
            return is_left, (decode_left if is_left else decode_right)(data[1:])

        return decode


def _known(serde: Serde[Any] | None) -> Serde[Any]:
    if serde is None:
        message = "a serde of sides has no serde inside; call with_default first"
        raise ValueError(message)
    return serde


def _name(serde: Serde[Any] | None) -> str:
    return "default" if serde is None else serde.name
