"""Key-value stores, plain or timestamped: their rows, what users call, and their changelog.

Owns the description of a store of this kind (`KeyValueSpec`), the layout (a row is at its encoded
key), ranges and order of keys, how the changelog is restored, and the read-only store of other
threads. It must not know what keeps the bytes.

Source: JVM `MeteredKeyValueStore`, `MeteredTimestampedKeyValueStore`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from thalweg.stores.api import (
    CacheBudget,
    Dump,
    KeyValueIterator,
    KeyValueStore,
    ReadOnlyKeyValueStore,
    RestoreRecord,
    StoreHost,
    StoreIterator,
)
from thalweg.stores.bytes.contract import ByteStore, prefix_end
from thalweg.stores.cache.cached_store import CachedStore
from thalweg.stores.changelog import key_value_write, log_evictions
from thalweg.stores.codec import RowCodec
from thalweg.stores.kinds.typed import TypedFace, TypedStore
from thalweg.stores.pairs import StoredPairs
from thalweg.stores.row_format import HeaderRows, RowFormat, format_of
from thalweg.stores.rows.contract import Row, RowStore
from thalweg.stores.rows.lru import LruRows
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.updates import Pair

KeySpan: TypeAlias = tuple[bytes | None, bytes | None]
"""The stored keys of [lower, upper); None leaves a side open."""

_EVERY_KEY: KeySpan = (None, None)


@dataclass(frozen=True, slots=True)
class KeyValueSpec:
    """A map from keys to values.

    Attributes:
        is_timestamped: whether rows carry the event time of their value.
        header_rows: of a store whose values have headers, what its rows keep beside a value; None
            for one without headers.
        max_entries: rows kept in memory by a store that forgets the least recently used one;
            None for a store that keeps all rows.
    """

    is_timestamped: bool = False
    max_entries: int | None = None
    header_rows: HeaderRows | None = None

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row."""
        return format_of(self.is_timestamped, self.header_rows)

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        if self.header_rows is not None:
            return "timestamped-key-value-with-headers"
        return "timestamped-key-value" if self.is_timestamped else "key-value"

    @property
    def function(self) -> str:
        """The function of `stores.builders` that describes such a store, for messages."""
        if self.max_entries is not None:
            return "lru_store"
        if self.header_rows is not None:
            return "timestamped_key_value_store_with_headers"
        return "timestamped_key_value_store" if self.is_timestamped else "key_value_store"

    def with_timestamps(self) -> KeyValueSpec:
        """Returns the same, with rows that carry the event time of their value."""
        return replace(self, is_timestamped=True)

    def with_headers(self) -> KeyValueSpec:
        """Returns the same, with rows that carry time and headers; an LRU store as it is."""
        if self.max_entries is not None or self.header_rows is not None:
            return self
        return replace(self, is_timestamped=True, header_rows="headers")

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        return {"cleanup.policy": "compact"}

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedKeyValueStore:
        """Stacks the layers of a store."""
        rows: RowStore
        if self.max_entries is None:
            rows = PendingByteStore(open_bytes())
        else:
            rows = LruRows(codec.name, self.max_entries)
        pairs = KeyValuePairs(rows, codec)
        cached = None if cache is None else CachedStore(pairs, cache)
        return TypedKeyValueStore(pairs, host, cached)


class KeyValuePairs(StoredPairs[Any, KeySpan]):
    """Rows of a key-value store by key.

    Args:
        rows: keeps the bytes; closed with this.
        codec: encodes keys and values.
    """

    def __init__(self, rows: RowStore, codec: RowCodec) -> None:
        super().__init__(rows, codec)
        self._get_row = self._peek_row = rows.get
        if isinstance(rows, LruRows):
            self.keeps_rows = False
            self._peek_row = rows.peek
            if not codec.row_format.is_timestamped:
                # The JVM's timestamped LRU store does not log what it forgets.
                rows.on_evict = log_evictions(codec.log, codec.current)
        self.write_raw = key_value_write(
            rows.put, codec.log, codec.current, row_format=codec.row_format
        )

    def entry_key(self, key: Any) -> Hashable:
        """Returns the key itself, or its bytes where keys are not kept decoded."""
        return key if self.keeps_key_decoded else self.codec.encode_key(key)

    def stored_key(self, entry_key: Any) -> bytes:
        """Returns the encoded key."""
        if self.keeps_key_decoded:
            return self.codec.encode_key(entry_key)
        stored: bytes = entry_key
        return stored

    def key_of(self, entry_key: Any) -> Any:
        """Returns the key of a cached row."""
        return entry_key if self.keeps_key_decoded else self.codec.decode_key(entry_key)

    def read(self, key: Any) -> Pair | None:
        """Reads the row of a key, None where there is none."""
        self.gets += 1
        row = self._get_row(self.codec.encode_key(key))
        return None if row is None else self.codec.unpack(row)

    def read_raw(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by its stored key."""
        self.gets += 1
        row = self._get_row(stored_key)
        return None if row is None else self.codec.unpack(row)

    def peek(self, key: Any) -> Pair | None:
        """Reads as `read` and changes nothing; any thread may call it."""
        row = self._peek_row(self.codec.encode_key(key))
        return None if row is None else self.codec.unpack(row)

    def put(self, key: Any, value: Any, timestamp: int) -> None:
        """Writes a row, None deletes it."""
        self.puts += 1
        codec = self.codec
        encoded = None if value is None else codec.encode_value(value)
        self.write_raw(key, codec.encode_key(key), encoded, timestamp)

    def ranges(
        self, span: KeySpan, first_from: Callable[[bytes], bytes | None]
    ) -> Iterable[KeySpan]:
        """Returns the span: stored keys are in the order of scans."""
        return (span,)

    def covers(self, span: KeySpan, stored_key: bytes) -> bool:
        """Tells whether a stored key is in the span."""
        lower, upper = span
        return (lower is None or stored_key >= lower) and (upper is None or stored_key < upper)

    def scan(self, span: KeySpan, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans stored keys and rows in byte order."""
        scan = self.rows.snapshot if shared else self.rows.scan
        return scan(*span, reverse)


class KeyValueReads(ReadOnlyKeyValueStore[Any, Any]):
    """All reads of a key-value store, over `_one` and `_scan`."""

    codec: RowCodec

    @abstractmethod
    def _one(self, key: Any) -> Pair | None:
        """Returns the row of a key."""

    @abstractmethod
    def _scan(self, span: KeySpan, *, reverse: bool = False) -> KeyValueIterator[Any, Any]:
        """Scans a span."""

    @abstractmethod
    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store."""

    def get(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key, `default` when there is none."""
        self.check_key(key)
        pair = self._one(key)
        return default if pair is None else self.codec.to_user(pair)

    def range(self, lower: Any, upper: Any) -> KeyValueIterator[Any, Any]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""
        return self._scan(self._bounds(lower, upper))

    def reverse_range(self, lower: Any, upper: Any) -> KeyValueIterator[Any, Any]:
        """Scans as `range`, highest key first."""
        return self._scan(self._bounds(lower, upper), reverse=True)

    def all(self) -> KeyValueIterator[Any, Any]:
        """Scans every key."""
        return self._scan(_EVERY_KEY)

    def reverse_all(self) -> KeyValueIterator[Any, Any]:
        """Scans every key, highest first."""
        return self._scan(_EVERY_KEY, reverse=True)

    def prefix_scan(self, prefix: Any) -> KeyValueIterator[Any, Any]:
        """Scans keys whose bytes begin with `prefix`, given as bytes or as a key."""
        first = prefix if isinstance(prefix, bytes) else self.codec.encode_key(prefix)
        return self._scan((first, prefix_end(first)))

    def _bounds(self, lower: Any, upper: Any) -> KeySpan:
        """Returns the span from one key to another, included."""
        encode = self.codec.encode_key
        return (
            None if lower is None else encode(lower),
            None if upper is None else encode(upper) + b"\0",
        )

    def _decoded(self, rows: Iterator[Row]) -> Generator[tuple[Any, Any], None, None]:
        """Yields rows as users see them."""
        codec = self.codec
        decode_key, unpack, to_user = codec.decode_key, codec.unpack, codec.to_user
        for stored_key, row in rows:
            yield decode_key(stored_key), to_user(unpack(row))


class TypedKeyValueStore(TypedStore[Any, KeySpan], KeyValueReads, KeyValueStore[Any, Any]):
    """A key-value store, plain or timestamped.

    One worker uses it; `read_only()` faces may read from other threads meanwhile.
    """

    _stored: KeyValuePairs

    def read_row(self, key: Any) -> Pair | None:
        """Reads the newest row, for whoever does not fill the store."""
        return self._read_row(key)

    def forwarded_row(self, key: Any) -> Pair | None:
        """Reads the row that was forwarded last."""
        return self._forwarded_row(key)

    def _one(self, key: Any) -> Pair | None:
        return self.pairs.read_row(key)

    def _scan(self, span: KeySpan, *, reverse: bool = False) -> KeyValueIterator[Any, Any]:
        return self.counted(self._decoded(self.pairs.scan(span, reverse=reverse)))

    def put(self, key: Any, value: Any) -> None:
        """Sets the value of a key; None deletes it."""
        self.check_key(key)
        self.pairs.put(key, *self.codec.from_user(value))

    def put_if_absent(self, key: Any, value: Any) -> Any:
        """Sets the value if the key has none, else returns the value it has."""
        found = self.get(key)
        if found is None:
            self.put(key, value)
        return found

    def put_all(self, entries: Iterable[tuple[Any, Any]]) -> None:
        """Puts each (key, value), in order."""
        for key, value in entries:
            self.put(key, value)

    def delete(self, key: Any) -> Any:
        """Deletes a key and returns the value it had."""
        found = self.get(key)
        self.pairs.put(key, None, self.codec.current.timestamp)
        return found

    def approximate_num_entries(self) -> int:
        """Estimates the number of rows, without what is cached."""
        return self.rows.approximate_count()

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""
        # Which rows an LRU store forgets depends on the order of the log.
        row_format = self.codec.row_format
        in_order = row_format.restored_by_key if self._stored.keeps_rows else row_format.restored
        self.rows.restore(in_order(batch))

    def read_only(self) -> ReadOnlyKeyValueStore[Any, Any]:
        """Returns a read-only face that any thread may use while the worker writes."""
        return KeyValueFace(self)

    def dump(self) -> Dump:
        """Returns kind and rows below the cache, for test drivers; bytes as hex."""
        return (
            self.codec.row_format.dump_name("kv"),
            [
                {"key": key.hex(), "value": value.hex()}
                for key, value in self._stored.scan(_EVERY_KEY)
            ],
        )


class KeyValueFace(TypedFace[Any, KeySpan], KeyValueReads):
    """Reads of one task's key-value store, for any thread."""

    _store: TypedKeyValueStore

    def approximate_num_entries(self) -> int:
        """Estimates the number of rows, without what is cached."""
        return self._store.approximate_num_entries()

    def _scan(self, span: KeySpan, *, reverse: bool = False) -> KeyValueIterator[Any, Any]:
        return StoreIterator(self._decoded(self._rows(span, reverse=reverse)))
