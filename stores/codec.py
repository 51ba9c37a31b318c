"""How one store writes keys, values and timestamps as bytes, and reads them back.

Owns the serdes of one store after defaults are applied, and the errors of rows that cannot be
written or read. `stores.row_format` says what is stored beside a value. This module must not know
what keeps rows, nor how a kind lays out its keys.

Source: JVM `StateSerdes`, `ValueAndTimestampSerde`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from thalweg.stores.api import StoreHost
from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.row_format import RowFormat
from thalweg.stores.serde import Half, Serde, SerdeHint, bytes_of
from thalweg.stores.updates import Pair


class Description(Protocol):
    """What a typed store asks of its builder (`stores.builders.StoreBuilder`)."""

    @property
    def name(self) -> str:
        """The store's name."""

    @property
    def kind(self) -> str:
        """What it maps, in words."""

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row."""

    @property
    def key_serde(self) -> Serde[Any] | None:
        """How keys are written."""

    @property
    def value_serde(self) -> Serde[Any] | None:
        """How values are written."""

    @property
    def hint(self) -> SerdeHint:
        """Where its serdes are given, for messages."""

    @property
    def logged(self) -> bool:
        """Whether changes go to a changelog."""


class RowCodec:
    """Encodes and decodes the rows of one store.

    Args:
        builder: the store's description, with serdes.
        host: the task the store lives in.

    Attributes:
        pack: (encoded value, timestamp) -> row.
        unpack: row -> (value, timestamp).
        value_of: row -> encoded value.
        to_user: returns a pair as users of this kind of store see it.

    Raises:
        ValueError: the store has no serdes.
    """

    def __init__(self, builder: Description, host: StoreHost) -> None:
        if builder.key_serde is None or builder.value_serde is None:
            message = (
                f"store '{builder.name}' has no serdes; give it key_serde= and value_serde=, or "
                "call with_default_serdes before build"
            )
            raise ValueError(message)
        self.topic = host.changelog_topic(builder.name)
        self.builder = builder
        self.name = builder.name
        self.key_serde = builder.key_serde
        self.value_serde = builder.value_serde
        self.row_format = builder.row_format
        self.current = host.current
        self.log = host.changelog(builder.name) if builder.logged else None
        self.encode_key = self._encoder("key", self.key_serde)
        self.decode_key = self._decoder("key", self.key_serde)
        self.encode_value = self._encoder("value", self.value_serde)
        self.decode_value = self._decoder("value", self.value_serde)
        self.pack = self.row_format.pack
        self.unpack = self.row_format.unpacker(self.decode_value)
        self.value_of = self.row_format.value_of
        self.to_user = self.row_format.to_user

    def _encoder(self, half: Half, serde: Serde[Any]) -> Callable[[Any], bytes]:
        """Returns the function that writes keys or values, and tells what it cannot write."""
        write, topic, builder = serde.bare_serializer(self.topic), self.topic, self.builder

        def encode(value: Any) -> bytes:
            try:
                return write(value)
            except Exception as error:
                cause = error
                try:
                    bytes_of(serde, topic, value, serde.serializer(topic)(value))
                except Exception as clear:
                    cause = clear
                reason = builder.hint.unwritable(half, cause, value)
                message = (
                    f"store '{builder.name}'{builder.hint.by()} cannot write the {half} of a row: "
                    f"{reason}"
                )
                raise SerializationError(message, topic=topic) from cause

        return encode

    def _decoder(self, half: Half, serde: Serde[Any]) -> Callable[[bytes], Any]:
        """Returns the function that reads keys or values, and tells what it cannot read."""
        read, topic, builder = serde.bare_deserializer(self.topic), self.topic, self.builder

        def decode(data: bytes) -> Any:
            try:
                return read(data)
            except Exception as error:
                cause = error
                try:
                    serde.deserializer(topic)(data)
                except Exception as clear:
                    cause = clear
                reason = builder.hint.unreadable(half, cause)
                if serde.sees_headers:
                    reason += " (rows of stores have no headers)"
                message = (
                    f"store '{builder.name}'{builder.hint.by()} cannot read the {half} of a row: "
                    f"{reason}"
                )
                raise DeserializationError(message, topic=topic) from cause

        return decode

    def from_user(self, value: Any) -> Pair:
        """Returns what a user puts as a pair; a value of None deletes."""
        return self.row_format.from_user(self.name, value, self.current)
