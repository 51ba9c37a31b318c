"""List stores: each key has a list of values, and a put appends one value.

Owns the description of a store of this kind (`ListSpec`), the codec of its rows, and how values are
added. A row is the row of a plain key-value store whose value is a list. So reads, scans,
restoration and dumps are those of `kinds.key_value`. Adding a value logs the whole list. This
module must not know what keeps the bytes, nor who adds values.

There is no cache: each added value is written and logged at once, as in the JVM.

Source: JVM `ListValueStore`, `ChangeLoggingListValueBytesStore`, `ListSerializer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from thalweg.stores.api import CacheBudget, StoreHost
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.codec import Description, RowCodec
from thalweg.stores.formats import appended, decode_values, encode_values
from thalweg.stores.kinds.key_value import KeyValuePairs, TypedKeyValueStore
from thalweg.stores.row_format import PLAIN, RowFormat
from thalweg.stores.rows.pending import PendingByteStore


@dataclass(frozen=True, slots=True)
class ListSpec:
    """A map from keys to lists of values."""

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row: nothing."""
        return PLAIN

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "list"

    @property
    def function(self) -> str:
        """The function of `stores.builders` that describes such a store, for messages."""
        return "list_store"

    def with_timestamps(self) -> ListSpec:
        """Returns itself: lists have no timestamps."""
        return self

    def with_headers(self) -> ListSpec:
        """Returns itself: lists have no headers."""
        return self

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        return {"cleanup.policy": "compact"}

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedListStore:
        """Stacks the layers of a store."""
        lists = ListCodec(codec.builder, host)
        return TypedListStore(KeyValuePairs(PendingByteStore(open_bytes()), lists), host)


class ListCodec(RowCodec):
    """Encodes and decodes rows whose value is a list; the store's serde is that of one value.

    Args:
        builder: the store's description, with serdes.
        host: the task the store lives in.

    Attributes:
        encode_one: writes one value of a list.
        decode_one: reads one value of a list.
    """

    def __init__(self, builder: Description, host: StoreHost) -> None:
        super().__init__(builder, host)
        encode_one, decode_one = self.encode_value, self.decode_value
        self.encode_one, self.decode_one = encode_one, decode_one

        def encode(values: Any) -> bytes:
            return encode_values([encode_one(value) for value in values])

        def decode(row: bytes) -> Any:
            return [decode_one(value) for value in decode_values(row)]

        self.encode_value, self.decode_value = encode, decode
        self.unpack = self.row_format.unpacker(decode)


class TypedListStore(TypedKeyValueStore):
    """A list store. One worker uses it; `read_only()` faces may read from other threads."""

    _stored: KeyValuePairs
    codec: ListCodec

    def append(self, key: Any, value: Any, timestamp: int | None = None) -> None:
        """Adds a value to the end of a key's list.

        Args:
            key: the key.
            value: the value, not None.
            timestamp: with which it is logged; the current record's if not given.
        """
        self.check_key(key)
        codec, rows = self.codec, self.rows
        raw_key = codec.encode_key(key)
        row = appended(rows.get(raw_key), codec.encode_one(value))
        self._stored.puts += 1
        self._write(raw_key, row, timestamp)

    def remove(self, key: Any, timestamp: int | None = None) -> None:
        """Deletes a key with its list, whether there is one or not.

        Args:
            key: the key.
            timestamp: with which it is logged; the current record's if not given.
        """
        self.check_key(key)
        self._stored.puts += 1
        self._write(self.codec.encode_key(key), None, timestamp)

    def remove_if_present(self, key: Any, timestamp: int | None = None) -> None:
        """Deletes a key with its list; where there is none, nothing is written or logged.

        Args:
            key: the key.
            timestamp: with which it is logged; the current record's if not given.
        """
        self.check_key(key)
        raw_key = self.codec.encode_key(key)
        self._stored.gets += 1
        if self.rows.get(raw_key) is not None:
            self._stored.puts += 1
            self._write(raw_key, None, timestamp)

    def entries(self) -> Iterator[tuple[Any, Any]]:
        """Scans each value under its key: keys in the order of their bytes, values as added."""
        codec = self.codec
        for raw_key, row in self.rows.scan(None, None):
            key = codec.decode_key(raw_key)
            for value in decode_values(row):
                yield key, codec.decode_one(value)

    def _write(self, raw_key: bytes, row: bytes | None, timestamp: int | None) -> None:
        codec = self.codec
        self.rows.put(raw_key, row)
        if codec.log is not None:
            codec.log(
                raw_key, row, codec.current.timestamp if timestamp is None else timestamp, None
            )
