"""The typed store over bytes: serdes, counts, and the faces users and nodes call.

Owns decoding and encoding of keys and values, the *pair* calls by which nodes reach any
store ((value, timestamp), whether or not rows keep one), scans, and read-only faces for
other threads. It must not know what keeps the bytes, nor caches: a caching store overrides
where a pair is read and written.

Counts are plain integers, read when somebody asks: `gets_total`, `puts_total`,
`open_iterators`. `dump` is for test drivers.

Source: JVM `MeteredKeyValueStore`, `MeteredTimestampedKeyValueStore`, `MeteredWindowStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from operator import concat
from typing import Any, Final, NoReturn, Protocol, TypeAlias

from thalweg.stores.api import (
    KeyValueIterator,
    KeyValueStore,
    ReadOnlyKeyValueStore,
    ReadOnlyWindowStore,
    RestoreRecord,
    StateStore,
    StoreHost,
    StoreIterator,
    ValueAndTimestamp,
    WindowStore,
    WindowStoreIterator,
)
from thalweg.stores.bytes.contract import prefix_end
from thalweg.stores.changelog import (
    WindowWrite,
    Write,
    duplicates_write,
    key_value_write,
    log_evictions,
    window_write,
)
from thalweg.stores.errors import DeserializationError, SerializationError
from thalweg.stores.formats import decode_value_and_timestamp, pack_int64
from thalweg.stores.record import columns_by_key, wrong_timestamp
from thalweg.stores.rows.lru import LruRows
from thalweg.stores.rows.pending import (
    Change,
    Row,
    RowStore,
    closed,
)
from thalweg.stores.rows.segments import SEGMENT_BYTES, SegmentedRows, window_key_of
from thalweg.stores.serde import (
    Half,
    Serde,
    SerdeHint,
    bytes_of,
)
from thalweg.stores.windowed import FOREVER_MS, TimeWindow, Windowed

Pair: TypeAlias = tuple[Any, int]
"""(value, timestamp)."""

Dump: TypeAlias = tuple[str, list[dict[str, Any]]]
"""Kind and rows of a store, as the golden files write them."""

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

    @property
    def window_size_ms(self) -> int:
        """Length of the windows."""

    @property
    def retain_duplicates(self) -> bool:
        """Whether every put of a key and start is kept."""


class _Metered(StateStore):
    """What typed stores of either kind share."""

    _rows: RowStore

    def __init__(self, builder: Description, host: StoreHost) -> None:
        if builder.key_serde is None or builder.value_serde is None:
            message = (
                f"store '{builder.name}' has no serdes; give it key_serde= and value_serde=, or "
                "call with_default_serdes before build"
            )
            raise ValueError(message)
        self.topic = host.changelog_topic(builder.name)
        self.builder = builder
        self.host = host
        self.key_serde = builder.key_serde
        self.value_serde = builder.value_serde
        self.timestamped = builder.is_timestamped
        self.current = host.current
        self.log = host.changelog(builder.name) if builder.logged else None
        self.encode_key = self._encoder("key", self.key_serde)
        self.decode_key = self._decoder("key", self.key_serde)
        self.encode_value = self._encoder("value", self.value_serde)
        self.decode_value = self._decoder("value", self.value_serde)
        self._gets = 0
        self._puts = 0
        self.puts_below = 0
        """Writes by a layer above that calls neither `put_pair` nor `put_pair_raw`."""

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
                reason = builder.hint.unwritable(half, cause)
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

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self.builder.name

    def __repr__(self) -> str:
        state = "" if self.is_open else ", closed"
        return f"<{self.builder.kind} store {self.name!r} of task {self.host.task_id}{state}>"

    @property
    def persistent(self) -> bool:
        """Whether the store's bytes outlive the process."""
        return self._rows.persistent

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self._rows.is_open

    @property
    def gets_total(self) -> int:
        """Reads by key so far."""
        return self._gets

    @property
    def puts_total(self) -> int:
        """Writes so far."""
        return self._puts + self.puts_below

    def flush_cache(self) -> None:
        """Does nothing: nothing is cached."""

    def set_flush_listener(self, listener: Callable[..., None], send_old_values: bool) -> bool:
        """Does not take the listener: nothing is cached, so nothing is flushed."""
        return False

    def apply_pending(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Writes what was pending to the backend, in one batch, after a commit."""
        self._rows.apply(durable=durable, note=note)

    def prepare(self, note: bytes) -> None:
        """Keeps what is pending where it lasts, before the commit that will decide about it."""
        self._rows.prepare(note)

    def prepared(self) -> bytes | None:
        """Returns the note of what was prepared and not applied, None where there is nothing."""
        return self._rows.prepared()

    def settle(self, *, is_committed: bool) -> None:
        """Makes rows of what was prepared, or gives it up."""
        self._rows.settle(is_committed=is_committed)

    def note(self) -> bytes | None:
        """Returns the note of the last `apply_pending` that had one, None where there is none."""
        return self._rows.note()

    def pack(self, value: bytes, timestamp: int) -> bytes:
        """Returns the row of a value."""
        return pack_int64(timestamp) + value if self.timestamped else value

    def pack_cached(self, row: Any | None, timestamp: int, *, is_decoded: bool) -> bytes | None:
        """Returns the row of a cached value, decoded or not; None for a deleted one."""
        if row is None:
            return None
        return self.pack(self.encode_value(row) if is_decoded else row, timestamp)

    def unpack(self, row: bytes) -> Pair:
        """Returns the (value, timestamp) of a row."""
        if self.timestamped:
            value, timestamp = decode_value_and_timestamp(row)
            return self.decode_value(value), timestamp
        return self.decode_value(row), NO_TIMESTAMP

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

    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store.

        Raises:
            ValueError: the key is None.
            StoreClosedError: the store was closed.
        """
        if key is None:
            message = f"a key of store '{self.name}' cannot be None"
            raise ValueError(message)
        if not self._rows.is_open:
            raise closed(self.name)

    def counted(self, rows: Iterator[Any]) -> StoreIterator[Any]:
        """Returns the scan of a user, counted as long as it is open."""
        if not self._rows.is_open:
            raise closed(self.name)
        self.open_iterators += 1

        def release() -> None:
            self.open_iterators -= 1

        return StoreIterator(rows, release)

    def _refuse(self, *_row: Any) -> NoReturn:
        raise closed(self.name)


# -- key-value stores ----------------------------------------------------------------------


def restored_by_key(batch: Sequence[RestoreRecord], *, timestamped: bool) -> Iterable[Change]:
    """Returns the rows that the records of a changelog stand for, in the order of keys.

    The hot path of restoring: without deletions nothing is done per record in Python.
    """
    timestamps, keys, values = columns_by_key(batch)
    if not timestamped:
        return zip(keys, values, strict=True)
    times = map(pack_int64, timestamps)
    rows: Any
    # Four times as fast as to look for None; empty values take the long way too.
    if all(values):
        rows = map(concat, times, values)  # type: ignore[arg-type]  # no value is None
    else:
        pairs = zip(times, values, strict=True)
        rows = [None if value is None else time + value for time, value in pairs]
    return zip(keys, rows, strict=True)


def restored_rows(batch: Sequence[RestoreRecord], *, timestamped: bool) -> list[Change]:
    """Returns the rows that the records of a changelog stand for, in the order of the log."""
    if timestamped:
        pack = pack_int64
        return [
            (key, None if value is None else pack(timestamp) + value)
            for timestamp, key, value, _ in batch
            if key is not None
        ]
    return [(key, value) for _, key, value, _ in batch if key is not None]


class MeteredKeyValueStore(_Metered, KeyValueStore[Any, Any]):
    """A key-value store, plain or timestamped, that writes every update at once.

    One worker uses it; `read_only()` faces may read from other threads meanwhile.

    Args:
        bytes_store: keeps its rows; closed with it.
        builder: its description, with serdes.
        host: the task it lives in.
    """

    def __init__(self, bytes_store: RowStore, builder: Description, host: StoreHost) -> None:
        super().__init__(builder, host)
        self.bytes_store = self._rows = bytes_store
        self.evicts = isinstance(bytes_store, LruRows)
        """Whether rows vanish by themselves."""
        if isinstance(bytes_store, LruRows) and not self.timestamped:
            # The JVM's timestamped LRU store does not log what it forgets.
            bytes_store.on_evict = log_evictions(self.log, self.current)
        self._get_row = bytes_store.get
        self._peek_row = bytes_store.peek if isinstance(bytes_store, LruRows) else bytes_store.get
        self.put_pair_encoded: Write = key_value_write(
            bytes_store.put, self.log, self.current, timestamped=self.timestamped
        )
        """Writes (stored key, encoded value or None, timestamp) and logs it."""

    # -- for nodes and the cache above ---------------------------------------------------

    def get_pair(self, key: Any) -> Pair | None:
        """Reads the (value, timestamp) of a key, None where there is no row."""
        return self.get_pair_raw(self.encode_key(key))

    def read_row(self, key: Any) -> Pair | None:
        """Reads as `get_pair`, for whoever does not own the store."""
        return self.get_pair(key)

    def forwarded_row(self, key: Any) -> Pair | None:
        """Reads the row that was forwarded last: the newest, as none waits to be forwarded."""
        return self.get_pair(key)

    def put_pair(self, key: Any, value: Any | None, timestamp: int) -> None:
        """Writes a row.

        Args:
            key: the key.
            value: the value; None deletes.
            timestamp: event time of the value; of a deletion, of the record that deletes.
        """
        self.put_pair_raw(self.encode_key(key), value, timestamp)

    def get_pair_raw(self, raw_key: bytes) -> Pair | None:
        """Reads as `get_pair`, by the stored key."""
        self._gets += 1
        row = self._get_row(raw_key)
        return None if row is None else self.unpack(row)

    def put_pair_raw(self, raw_key: bytes, value: Any | None, timestamp: int) -> None:
        """Writes as `put_pair`, by the stored key."""
        self._puts += 1
        self.put_pair_encoded(
            raw_key, None if value is None else self.encode_value(value), timestamp
        )

    # -- for users -----------------------------------------------------------------------

    def get(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key, `default` when there is none."""
        self.check_key(key)
        pair = self.read_row(key)
        return default if pair is None else self.to_user(pair)

    def put(self, key: Any, value: Any) -> None:
        """Sets the value of a key; None deletes it."""
        self.check_key(key)
        self.put_pair(key, *self.from_user(value))

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
        self.put_pair(key, None, self.current.timestamp)
        return found

    def range(self, lower: Any, upper: Any) -> KeyValueIterator[Any, Any]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""
        return self._scan(*self.bounds(lower, upper))

    def reverse_range(self, lower: Any, upper: Any) -> KeyValueIterator[Any, Any]:
        """Scans as `range`, highest key first."""
        return self._scan(*self.bounds(lower, upper), reverse=True)

    def all(self) -> KeyValueIterator[Any, Any]:
        """Scans every key."""
        return self._scan(None, None)

    def reverse_all(self) -> KeyValueIterator[Any, Any]:
        """Scans every key, highest first."""
        return self._scan(None, None, reverse=True)

    def prefix_scan(self, prefix: Any) -> KeyValueIterator[Any, Any]:
        """Scans keys whose bytes begin with `prefix`, given as bytes or as a key."""
        return self._scan(*self.prefix_bounds(prefix))

    def approximate_num_entries(self) -> int:
        """Estimates the number of rows, without what is cached."""
        return self.bytes_store.approximate_count()

    def _scan(
        self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False
    ) -> KeyValueIterator[Any, Any]:
        return self.counted(self.decoded(self.scan_rows(lower, upper, reverse)))

    # -- what faces of other threads share -----------------------------------------------

    def bounds(self, lower: Any, upper: Any) -> tuple[bytes | None, bytes | None]:
        """Returns the half-open range of stored keys from one key to another, included."""
        first = None if lower is None else self.encode_key(lower)
        return first, None if upper is None else self.encode_key(upper) + b"\0"

    def prefix_bounds(self, prefix: Any) -> tuple[bytes, bytes | None]:
        """Returns the half-open range of stored keys that begin alike."""
        first = prefix if isinstance(prefix, bytes) else self.encode_key(prefix)
        return first, prefix_end(first)

    def decoded(self, rows: Iterator[Row]) -> Generator[tuple[Any, Any], None, None]:
        """Yields rows as users see them."""
        decode_key, unpack, to_user = self.decode_key, self.unpack, self.to_user
        for raw_key, row in rows:
            yield decode_key(raw_key), to_user(unpack(row))

    def peek_pair(self, key: Any) -> Pair | None:
        """Reads as `get_pair`; any thread may call it."""
        return self.peek_pair_raw(self.encode_key(key))

    def peek_pair_raw(self, raw_key: bytes) -> Pair | None:
        """Reads as `get_pair_raw`; any thread may call it."""
        row = self._peek_row(raw_key)
        return None if row is None else self.unpack(row)

    def scan_rows(self, lower: bytes | None, upper: bytes | None, reverse: bool) -> Iterator[Row]:
        """Scans stored rows; for the worker."""
        return self.bytes_store.scan(lower, upper, reverse)

    def snapshot_rows(
        self, lower: bytes | None, upper: bytes | None, reverse: bool
    ) -> Iterator[Row]:
        """Scans stored rows; any thread may call it."""
        return self.bytes_store.snapshot(lower, upper, reverse)

    # -- for the runtime -----------------------------------------------------------------

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""
        # Which rows an LRU store forgets hangs on the order of the log.
        rows_of = restored_rows if self.evicts else restored_by_key
        self.bytes_store.restore(rows_of(batch, timestamped=self.timestamped))

    def read_only(self) -> ReadOnlyKeyValueStore[Any, Any]:
        """Returns a read-only face that any thread may use while the worker writes."""
        return KeyValueFace(self)

    def dump(self) -> Dump:
        """Returns kind and rows below the cache, for test drivers; bytes as hex."""
        rows = self.bytes_store.scan(None, None)
        return (
            "timestamped-kv" if self.timestamped else "kv",
            [{"key": key.hex(), "value": value.hex()} for key, value in rows],
        )

    def close(self) -> None:
        """Releases what the store holds. Updates not yet committed are lost."""
        self.bytes_store.close()
        self.put_pair_encoded = self._refuse


class KeyValueFace(ReadOnlyKeyValueStore[Any, Any]):
    """Reads of one task's key-value store, for any thread."""

    def __init__(self, store: MeteredKeyValueStore) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self._store.name

    def get(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key, `default` when there is none."""
        store = self._store
        store.check_key(key)
        pair = store.peek_pair(key)
        return default if pair is None else store.to_user(pair)

    def range(self, lower: Any, upper: Any) -> KeyValueIterator[Any, Any]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""
        return self._scan(*self._store.bounds(lower, upper))

    def reverse_range(self, lower: Any, upper: Any) -> KeyValueIterator[Any, Any]:
        """Scans as `range`, highest key first."""
        return self._scan(*self._store.bounds(lower, upper), reverse=True)

    def all(self) -> KeyValueIterator[Any, Any]:
        """Scans every key."""
        return self._scan(None, None)

    def reverse_all(self) -> KeyValueIterator[Any, Any]:
        """Scans every key, highest first."""
        return self._scan(None, None, reverse=True)

    def prefix_scan(self, prefix: Any) -> KeyValueIterator[Any, Any]:
        """Scans keys whose bytes begin with `prefix`, given as bytes or as a key."""
        return self._scan(*self._store.prefix_bounds(prefix))

    def approximate_num_entries(self) -> int:
        """Estimates the number of rows, without what is cached."""
        return self._store.approximate_num_entries()

    def _scan(
        self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False
    ) -> KeyValueIterator[Any, Any]:
        store = self._store
        if not store.is_open:
            raise closed(store.name)
        return StoreIterator(store.decoded(store.snapshot_rows(lower, upper, reverse)))


# -- window stores -------------------------------------------------------------------------


class MeteredWindowStore(_Metered, WindowStore[Any, Any]):
    """A window store, plain or timestamped, that writes every update at once.

    One worker uses it; `read_only()` faces may read from other threads meanwhile.

    Args:
        segments: keeps its rows; closed with it.
        builder: its description, with serdes.
        host: the task it lives in.
    """

    def __init__(self, segments: SegmentedRows, builder: Description, host: StoreHost) -> None:
        super().__init__(builder, host)
        self.segments = segments
        self._rows = segments.rows
        self._window_size_ms = builder.window_size_ms
        self.put_row: WindowWrite = window_write(
            segments.put_row, self.log, self.current, timestamped=self.timestamped
        )
        """Writes (row key, start, encoded value or None, timestamp) and logs it.

        Not for stores that keep duplicates.
        """
        self._put_duplicate: WindowWrite | None = None
        if builder.retain_duplicates:
            self._put_duplicate = duplicates_write(
                segments.put, self.log, self.current, timestamped=self.timestamped
            )

    # -- for nodes and the cache above ---------------------------------------------------

    def fetch_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads the (value, timestamp) of a window, None where there is no live row."""
        self._gets += 1
        row = self.segments.get(self.encode_key(key), start_ms)
        return None if row is None else self.unpack(row)

    def read_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads as `fetch_pair`, for whoever does not own the store."""
        return self.fetch_pair(key, start_ms)

    def read_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads as `read_pair`, by key and window together."""
        return self.read_pair(key.key, key.window.start_ms)

    def forwarded_row(self, key: Windowed[Any]) -> Pair | None:
        """Reads the row that was forwarded last: the newest, as none waits to be forwarded."""
        return self.fetch_pair(key.key, key.window.start_ms)

    def put_pair(self, key: Any, start_ms: int, value: Any | None, timestamp: int) -> None:
        """Writes a row.

        Args:
            key: the key.
            start_ms: start of the window.
            value: the value; None deletes.
            timestamp: event time of the value; of a deletion, of the record that deletes.
        """
        self._puts += 1
        encoded = None if value is None else self.encode_value(value)
        raw_key = self.encode_key(key)
        if self._put_duplicate is not None:
            self._put_duplicate(raw_key, start_ms, encoded, timestamp)
        else:
            self.put_row(self.segments.row_key(raw_key, start_ms), start_ms, encoded, timestamp)

    def fetch_row(self, row_key: bytes, start_ms: int) -> Pair | None:
        """Reads as `fetch_pair`, by the row's key; not for stores that keep duplicates."""
        self._gets += 1
        row = self.segments.get_row(row_key, start_ms)
        return None if row is None else self.unpack(row)

    # -- for users -----------------------------------------------------------------------

    def put(self, key: Any, value: Any, start_ms: int) -> None:
        """Sets the value of a window; None deletes it."""
        self.check_key(key)
        pair = self.from_user(value)
        self.put_pair(key, start_ms, pair[0], pair[1])

    def fetch(self, key: Any, from_ms: int, to_ms: int | None = None, /) -> Any:
        """Returns the row at one window start, or scans a key's windows between two."""
        self.check_key(key)
        if to_ms is None:
            pair = self.read_pair(key, from_ms)
            return None if pair is None else self.to_user(pair)
        return self._windows_of(key, from_ms, to_ms, reverse=False)

    def backward_fetch(self, key: Any, from_ms: int, to_ms: int) -> WindowStoreIterator[Any]:
        """Scans a key's windows, newest first."""
        self.check_key(key)
        return self._windows_of(key, from_ms, to_ms, reverse=True)

    def fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""
        return self._windows(lower, upper, from_ms, to_ms)

    def backward_fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_range`, in reverse."""
        return self._windows(lower, upper, from_ms, to_ms, reverse=True)

    def fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the windows of all keys."""
        return self._windows(None, None, from_ms, to_ms)

    def backward_fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_all`, in reverse."""
        return self._windows(None, None, from_ms, to_ms, reverse=True)

    def all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live row."""
        return self._windows(None, None, 0, FOREVER_MS)

    def backward_all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live row, in reverse."""
        return self._windows(None, None, 0, FOREVER_MS, reverse=True)

    def _windows_of(
        self, key: Any, from_ms: int, to_ms: int, *, reverse: bool
    ) -> WindowStoreIterator[Any]:
        rows = self.rows_of_key(self.encode_key(key), from_ms, to_ms, reverse, shared=False)
        return self.counted(self.decoded_starts(rows))

    def _windows(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int, *, reverse: bool = False
    ) -> KeyValueIterator[Windowed[Any], Any]:
        bounds = self.bounds(lower, upper)
        rows = self.rows_between(*bounds, from_ms, to_ms, reverse, shared=False)
        return self.counted(self.decoded(rows))

    # -- what faces of other threads share -----------------------------------------------

    def bounds(self, lower: Any, upper: Any) -> tuple[bytes | None, bytes | None]:
        """Returns two keys as stored."""
        first = None if lower is None else self.encode_key(lower)
        return first, None if upper is None else self.encode_key(upper)

    def decoded(self, rows: Iterator[Row]) -> Generator[tuple[Windowed[Any], Any], None, None]:
        """Yields rows under their windowed key."""
        decode_key, unpack, to_user = self.decode_key, self.unpack, self.to_user
        size_ms = self._window_size_ms
        for row_key, row in rows:
            raw_key, start = window_key_of(row_key)
            window = TimeWindow(start, min(start + size_ms, FOREVER_MS))
            yield Windowed(decode_key(raw_key), window), to_user(unpack(row))

    def decoded_starts(self, rows: Iterator[Row]) -> Generator[tuple[int, Any], None, None]:
        """Yields rows of one key under their window's start."""
        unpack, to_user = self.unpack, self.to_user
        for row_key, row in rows:
            yield window_key_of(row_key)[1], to_user(unpack(row))

    def peek_pair(self, key: Any, start_ms: int) -> Pair | None:
        """Reads as `fetch_pair`; any thread may call it."""
        row = self.segments.get(self.encode_key(key), start_ms)
        return None if row is None else self.unpack(row)

    def rows_of_key(
        self, raw_key: bytes, from_ms: int, to_ms: int, reverse: bool, *, shared: bool
    ) -> Iterator[Row]:
        """Scans stored rows of one key; `shared` for other threads than the worker."""
        return self.segments.fetch(raw_key, from_ms, to_ms, reverse=reverse, shared=shared)

    def rows_between(
        self,
        lower: bytes | None,
        upper: bytes | None,
        from_ms: int,
        to_ms: int,
        reverse: bool,
        *,
        shared: bool,
    ) -> Iterator[Row]:
        """Scans stored rows of a range of keys; `shared` for other threads than the worker."""
        return self.segments.fetch_range(
            lower, upper, from_ms, to_ms, reverse=reverse, shared=shared
        )

    # -- for the runtime -----------------------------------------------------------------

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""
        changes = restored_rows(batch, timestamped=self.timestamped)
        self.segments.restore(changes)

    def read_only(self) -> ReadOnlyWindowStore[Any, Any]:
        """Returns a read-only face that any thread may use while the worker writes."""
        return WindowFace(self)

    def dump(self) -> Dump:
        """Returns kind and live rows below the cache, for test drivers; bytes as hex.

        `raw_key` is what the JVM's RocksDB holds; stores in memory have none.
        """
        entries: list[dict[str, Any]] = []
        for row_key, row in self.segments.all():
            raw_key, start_ms = window_key_of(row_key)
            entry: dict[str, Any] = {"key": raw_key.hex(), "start": start_ms}
            if self.persistent:
                entry["raw_key"] = row_key[SEGMENT_BYTES:].hex()
            entry["value"] = row.hex()
            entries.append(entry)
        return "timestamped-window" if self.timestamped else "window", entries

    def close(self) -> None:
        """Releases what the store holds. Updates not yet committed are lost."""
        self._rows.close()
        self.put_row = self._refuse
        if self._put_duplicate is not None:
            self._put_duplicate = self._refuse


class WindowFace(ReadOnlyWindowStore[Any, Any]):
    """Reads of one task's window store, for any thread."""

    def __init__(self, store: MeteredWindowStore) -> None:
        self._store = store

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self._store.name

    def fetch(self, key: Any, from_ms: int, to_ms: int | None = None, /) -> Any:
        """Returns the row at one window start, or scans a key's windows between two."""
        store = self._store
        store.check_key(key)
        if to_ms is None:
            pair = store.peek_pair(key, from_ms)
            return None if pair is None else store.to_user(pair)
        return self._windows_of(key, from_ms, to_ms, reverse=False)

    def backward_fetch(self, key: Any, from_ms: int, to_ms: int) -> WindowStoreIterator[Any]:
        """Scans a key's windows, newest first."""
        self._store.check_key(key)
        return self._windows_of(key, from_ms, to_ms, reverse=True)

    def fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""
        return self._windows(lower, upper, from_ms, to_ms)

    def backward_fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_range`, in reverse."""
        return self._windows(lower, upper, from_ms, to_ms, reverse=True)

    def fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans the windows of all keys."""
        return self._windows(None, None, from_ms, to_ms)

    def backward_fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans as `fetch_all`, in reverse."""
        return self._windows(None, None, from_ms, to_ms, reverse=True)

    def all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live row."""
        return self._windows(None, None, 0, FOREVER_MS)

    def backward_all(self) -> KeyValueIterator[Windowed[Any], Any]:
        """Scans every live row, in reverse."""
        return self._windows(None, None, 0, FOREVER_MS, reverse=True)

    def _windows_of(
        self, key: Any, from_ms: int, to_ms: int, *, reverse: bool
    ) -> WindowStoreIterator[Any]:
        store = self._store
        rows = store.rows_of_key(store.encode_key(key), from_ms, to_ms, reverse, shared=True)
        return StoreIterator(store.decoded_starts(rows))

    def _windows(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int, *, reverse: bool = False
    ) -> KeyValueIterator[Windowed[Any], Any]:
        store = self._store
        if not store.is_open:
            raise closed(store.name)
        first, last = store.bounds(lower, upper)
        rows = store.rows_between(first, last, from_ms, to_ms, reverse, shared=True)
        return StoreIterator(store.decoded(rows))
