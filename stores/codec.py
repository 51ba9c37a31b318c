"""How one store writes keys, values and timestamps as bytes, and reads them back.

Owns the settled serdes of a store, the layout of a row's value with its timestamp, what users
see of a row, and the errors of rows that cannot be written or read. It must not know what
keeps rows, nor how a kind lays out its keys.

Source: JVM `StateSerdes`, `ValueAndTimestampSerde`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from thalweg.stores.api import StoreHost, ValueAndTimestamp
from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.formats import TIMESTAMP_BYTES, decode_value_and_timestamp, pack_int64
from thalweg.stores.header_formats import split_row, timed_prefix
from thalweg.stores.record import RawRecord, headers_of, wrong_timestamp
from thalweg.stores.rows.contract import Change
from thalweg.stores.serde import Half, Serde, SerdeHint, bytes_of
from thalweg.stores.updates import Pair

NO_TIMESTAMP: Final = -1
"""The timestamp of a value in a store whose rows have none."""


class Description(Protocol):
    """What a typed store asks of its builder (`stores.builders.StoreBuilder`)."""

    @property
    def name(self) -> str:
        """The store's name."""

    @property
    def kind(self) -> str:
        """What it maps, in words."""

    @property
    def is_timestamped(self) -> bool:
        """Whether rows carry the event time of their value."""

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

    Attributes:
        has_headers: whether a row carries the headers of the record.

    Args:
        builder: the store's description, with serdes.
        host: the task the store lives in.

    Raises:
        ValueError: the store has no serdes.
    """

    has_headers = False

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
        self.timestamped = builder.is_timestamped
        self.current = host.current
        self.log = host.changelog(builder.name) if builder.logged else None
        self.encode_key = self._encoder("key", self.key_serde)
        self.decode_key = self._decoder("key", self.key_serde)
        self.encode_value = self._encoder("value", self.value_serde)
        self.decode_value = self._decoder("value", self.value_serde)

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

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return pack_int64(timestamp) + value if self.timestamped else value

    def unpack(self, row: bytes) -> Pair:
        """Returns the (value, timestamp) of a row."""
        if self.timestamped:
            value, timestamp = decode_value_and_timestamp(row)
            return self.decode_value(value), timestamp
        return self.decode_value(row), NO_TIMESTAMP

    def value_of(self, row: bytes) -> bytes:
        """Returns the bytes of a row's value."""
        return row[TIMESTAMP_BYTES:] if self.timestamped else row

    def to_user(self, pair: Pair) -> Any:
        """Returns a pair as users of this kind of store see it."""
        return ValueAndTimestamp(pair[0], pair[1]) if self.timestamped else pair[0]

    def from_user(self, value: Any) -> tuple[Any, int]:
        """Returns what a user puts as a pair; a value of None deletes."""
        if not self.timestamped or value is None:
            return value, self.current.timestamp
        if not isinstance(value, ValueAndTimestamp):
            message = (
                f"store '{self.name}' keeps values with their timestamp: put "
                f"ValueAndTimestamp(value, timestamp_ms), not a {type(value).__name__}"
            )
            raise TypeError(message)
        if value.value is None:
            return None, self.current.timestamp
        if value.timestamp.__class__ is not int:
            raise wrong_timestamp(value.timestamp, f"the timestamp of a value in '{self.name}'")
        return value.value, value.timestamp


class HeadersRowCodec(RowCodec):
    """Encodes and decodes rows that carry the headers of the record, and its time.

    Users see the value alone.
    """

    has_headers = True

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value, with the headers of the record being processed."""
        return timed_prefix(self.current.headers(), timestamp) + value

    def restored(self, batch: Iterable[RawRecord]) -> Iterator[Change]:
        """Yields the rows that records of the changelog stand for, in the order of the log."""
        for timestamp, key, value, origin in batch:
            if key is not None:
                row = None
                if value is not None:
                    row = timed_prefix(headers_of(origin), timestamp) + value
                yield key, row

    def value_of(self, row: bytes) -> bytes:
        """Returns the bytes of a row's value."""
        return split_row(row)[1]

    def unpack(self, row: bytes) -> Pair:
        """Returns the (value, timestamp) of a row; users of the store see no timestamp."""
        return self.decode_value(self.value_of(row)), NO_TIMESTAMP
