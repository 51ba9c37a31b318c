"""The faces of state stores: what users call, what the runtime drives, what a store needs.

Owns the abstract classes that users type against (`KeyValueStore`, `WindowStore`, and their
timestamped and read-only forms), the methods by which a task drives any store, and `StoreHost`:
what a store must know of its task. It must not know how a store is built, which layers it has or
what keeps its bytes.

Source: JVM `org.apache.kafka.streams.state`; kafka-streams reference A9, D15, D18.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from thalweg.stores.record import CurrentRecord, Headers, RawRecord
from thalweg.stores.updates import Materialized, Pair
from thalweg.stores.windowed import Windowed, epoch_ms

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
D = TypeVar("D")

Dump: TypeAlias = tuple[str, list[dict[str, Any]]]
"""Kind and rows of a store, as the golden files write them."""

Log: TypeAlias = Callable[
    [bytes, bytes | None, int | None, list[tuple[str, bytes | None]] | None], None
]
"""Appends to a changelog: (key, value, timestamp, headers)."""

RestoreRecord: TypeAlias = RawRecord
"""A changelog record as it is read back: (timestamp_ms, key, value, origin)."""


class ValueAndTimestamp(NamedTuple, Generic[V]):
    """A stored value and the event time it belongs to.

    Attributes:
        value: the value, never None: a store has no row instead.
        timestamp: event time in milliseconds.
    """

    value: V
    timestamp: int


class ValueTimestampHeaders(ValueAndTimestamp[V]):
    """A stored value, the event time it belongs to, and the headers of its record.

    Attributes:
        headers: the headers; the rest is that of a `ValueAndTimestamp`, which it can stand for.
    """

    headers: Headers

    def __new__(
        cls, value: V, timestamp: int, headers: Headers | None = None
    ) -> ValueTimestampHeaders[V]:
        """Makes one; without headers it has none."""
        made = tuple.__new__(cls, (value, timestamp))
        made.headers = Headers() if headers is None else headers
        return made

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, other) is True and self.headers == getattr(
            other, "headers", Headers()
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # headers can be changed

    def __repr__(self) -> str:
        return f"ValueTimestampHeaders({self.value!r}, {self.timestamp}, {self.headers!r})"


VALID_TO_UNDEFINED: Final = -1
"""What a versioned store's `put` returns of the latest version of a key: it has no end yet."""

NOT_PUT: Final = -(2**63)
"""What a versioned store's `put` returns where the history of that time is over: nothing was put."""


class VersionedRecord(NamedTuple, Generic[V]):
    """One version of a key in a versioned store.

    Attributes:
        value: the value, never None.
        timestamp: event time in milliseconds, from which on it is valid.
        valid_to: until when it is valid, in milliseconds, which it does not include; None for the
            latest version of its key.
    """

    value: V
    timestamp: int
    valid_to: int | None = None


class CacheBudget(Protocol):
    """The byte budget shared by the cached stores of a worker."""

    max_bytes: int
    size_bytes: int

    def hold(self) -> None:
        """Lets nothing be evicted or flushed before the release that belongs to it."""

    def defers(self, rows: Any, *, flush: bool) -> bool:
        """Tells whether the budget is held; `rows` are then evicted or flushed on release."""

    def release(self, *, failed: bool = False) -> None:
        """Ends a hold. After the last one, delayed evictions are done, unless it `failed`."""


class StoreHost(Protocol):
    """What a store needs from the task that owns it."""

    @property
    def task_id(self) -> str:
        """The owning task, as `<subtopology>_<partition>`."""

    @property
    def application_id(self) -> str:
        """The application the task belongs to."""

    @property
    def directory(self) -> Path:
        """The task's own directory."""

    @property
    def current(self) -> CurrentRecord:
        """The cell that tells which record is being processed."""

    @property
    def record_cache(self) -> CacheBudget | None:
        """The worker's record cache (`stores.cache.budget`), None when caching is off."""

    def changelog_topic(self, store_name: str) -> str:
        """Names the changelog topic of a store; serdes are bound to that name."""

    def changelog(self, store_name: str) -> Log | None:
        """Returns the function that logs a change, None when the store is not logged."""

    def drop_expired(self, store_name: str) -> None:
        """Counts a window put that came after the store's retention."""


class StoreIterator(Iterator[T]):
    """Rows of a scan; it holds resources until it is exhausted or closed.

    Use it as a context manager when you may stop early.

    Args:
        rows: where rows come from; its `close()`, if any, is called on close.
        on_close: called once, when the iterator lets go.
    """

    __slots__ = ("_on_close", "_rows")

    def __init__(self, rows: Iterator[T], on_close: Callable[[], None] | None = None) -> None:
        self._rows: Iterator[T] | None = rows
        self._on_close = on_close

    def __iter__(self) -> StoreIterator[T]:
        return self

    def __next__(self) -> T:
        rows = self._rows
        if rows is None:
            raise StopIteration
        try:
            return next(rows)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of what the scan holds. Closing again does nothing."""
        rows, self._rows = self._rows, None
        if rows is None:
            return
        release = getattr(rows, "close", None)
        if release is not None:
            release()
        if self._on_close is not None:
            self._on_close()

    def __enter__(self) -> StoreIterator[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


KeyValueIterator: TypeAlias = StoreIterator[tuple[K, V]]
"""(key, value) rows in the byte order of their keys."""

WindowStoreIterator: TypeAlias = StoreIterator[tuple[int, V]]
"""(window start in ms, value) rows of one key, in the order of time."""


class StateStore(ABC):
    """A named piece of a task's state.

    `TaskStore` has the methods by which its task drives it.
    """

    open_iterators: int = 0

    def __bool__(self) -> bool:
        """Says yes, also of an empty store: `if self.rows` asks whether there is a store at all."""
        return True

    @property
    @abstractmethod
    def name(self) -> str:
        """The store's name within its topology."""

    @property
    @abstractmethod
    def persistent(self) -> bool:
        """Whether the store's bytes outlive the process."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the store can be used."""

    @abstractmethod
    def flush(self) -> None:
        """Writes cached updates down and forwards them, as a commit would."""

    @abstractmethod
    def close(self) -> None:
        """Releases what the store holds. Updates not yet committed are lost."""


class TaskStore(StateStore, Materialized[Any]):
    """A store as the task drives it that owns it. Processors must not call any of this."""

    @property
    @abstractmethod
    def uncached(self) -> TaskStore:
        """The same rows without the cache, which must be empty; for filling the store."""

    @property
    @abstractmethod
    def is_cached(self) -> bool:
        """Whether updates wait in a cache for a flush."""

    def flush(self) -> None:
        """Writes cached updates down and forwards them, as a commit would."""
        self.flush_cache()

    @property
    def has_unflushed(self) -> bool:
        """Whether its cache holds updates that a flush would push on."""
        return False

    @abstractmethod
    def flush_cache(self) -> None:
        """Pushes dirty cache entries to changelog and store, and forwards them."""

    @abstractmethod
    def apply_pending(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Writes what was pending to the backend, in one batch, after a commit.

        Args:
            durable: return only when it would survive a loss of power.
            note: kept on disk in the same step, for `note` after a restart.
        """

    @property
    def read_as_of(self) -> Callable[[Any, int], Pair | None] | None:
        """Reads the row of a key as it was at a time; None for stores that keep the newest only."""
        return None

    @abstractmethod
    def prepare(self, note: bytes) -> None:
        """Makes pending rows durable aside from the store, before the commit that decides about them.

        Only stores need it that cannot be restored from a changelog.

        Args:
            note: what `prepared` returns after a crash before `apply_pending`.
        """

    @abstractmethod
    def prepared(self) -> bytes | None:
        """Returns the note of rows that were prepared and not applied, None if there are none."""

    @abstractmethod
    def settle(self, *, is_committed: bool) -> None:
        """Applies or discards the prepared rows; afterwards open the store again."""

    @abstractmethod
    def note(self) -> bytes | None:
        """Returns the note of the last `apply_pending` that had one, None if there is none."""

    @abstractmethod
    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records directly to the backend; the last record of a key wins."""

    @abstractmethod
    def read_only(self) -> Any:
        """Returns a read-only face that any thread may use while the worker writes."""

    @abstractmethod
    def dump(self) -> Dump:
        """Returns kind and rows as the store keeps them, below its cache; for test drivers.

        Rows are dicts with bytes as hex: `key` and `value`, where a value's timestamp stands
        in front of it; of window stores also `start`, and `raw_key` where they are on disk. A
        versioned store is one dict: rows as `latest`, and `segments` with `id` and `entries`.
        """


first_part: Final = itemgetter(0)
"""Returns the key of a row."""
second_part: Final = itemgetter(1)
"""Returns the value of a row."""


class Readable(ABC, Generic[K, V]):
    """What makes a store look like a mapping of Python's, over its `all`."""

    _where = ""
    """Where rows are looked for, for messages; begins with a space."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The store's name within its topology."""

    @abstractmethod
    def all(self) -> KeyValueIterator[K, V]:
        """Scans every row."""

    def items(self) -> KeyValueIterator[K, V]:
        """Scans every row, as `all`; a context manager, for who may stop early."""
        return self.all()

    def keys(self) -> StoreIterator[K]:
        """Scans every key; a context manager, for who may stop early."""
        return mapped_rows(self.all(), first_part)

    def values(self) -> StoreIterator[V]:
        """Scans every value, in the order of keys; a context manager, for who may stop early."""
        return mapped_rows(self.all(), second_part)

    def __iter__(self) -> StoreIterator[K]:
        return self.keys()

    def __len__(self) -> int:
        """Counts the rows by reading them all, so it is exact and takes as long as a scan."""
        return sum(1 for _ in self.all())

    def __bool__(self) -> bool:
        """Tells whether there is a row."""
        with self.all() as rows:
            return next(rows, None) is not None


def mapped_rows(rows: StoreIterator[Any], part: Callable[[Any], Any]) -> StoreIterator[Any]:
    """Returns the scan of a part of each row."""
    return StoreIterator(map(part, rows), rows.close)


class ReadOnlyKeyValueStore(Readable[K, V]):
    """Reads of a key-value store. Keys are ordered by their serialised bytes.

    It reads as a dict does: `store[key]`, `key in store`, `for key in store`, `store.items()`.
    `len(store)` counts by a scan; `approximate_num_entries` is quick.
    """

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    @abstractmethod
    def get(self, key: K, default: Any = None) -> Any:
        """Returns the value of a key, `default` when there is none."""

    def __getitem__(self, key: K) -> V:
        value = self.get(key)
        if value is None:
            message = f"store {self.name!r} has no key {key!r}{self._where}"
            raise KeyError(message)
        return value

    def __contains__(self, key: object) -> bool:
        store: ReadOnlyKeyValueStore[Any, V] = self  # what is no key the serde refuses
        return store.get(key) is not None

    def __reversed__(self) -> StoreIterator[K]:
        return mapped_rows(self.reverse_all(), first_part)

    def __repr__(self) -> str:
        return f"<key-value store {self.name!r}, read only>"

    @abstractmethod
    def range(self, lower: K | None, upper: K | None) -> KeyValueIterator[K, V]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""

    @abstractmethod
    def reverse_range(self, lower: K | None, upper: K | None) -> KeyValueIterator[K, V]:
        """Scans as `range`, highest key first."""

    @abstractmethod
    def all(self) -> KeyValueIterator[K, V]:
        """Scans every key."""

    @abstractmethod
    def reverse_all(self) -> KeyValueIterator[K, V]:
        """Scans every key, highest first."""

    @abstractmethod
    def prefix_scan(self, prefix: K | bytes) -> KeyValueIterator[K, V]:
        """Scans keys whose bytes begin with `prefix`, given as bytes or as a key."""

    @abstractmethod
    def approximate_num_entries(self) -> int:
        """Estimates the number of rows, without what is cached."""


class KeyValueStore(StateStore, ReadOnlyKeyValueStore[K, V]):
    """A map from keys to values."""

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: K) -> None:
        if self.delete(key) is None:
            message = f"store {self.name!r} has no key {key!r}"
            raise KeyError(message)

    def __repr__(self) -> str:
        return f"<key-value store {self.name!r}>"

    @abstractmethod
    def put(self, key: K, value: V | None) -> None:
        """Sets the value of a key; None deletes it."""

    @abstractmethod
    def put_if_absent(self, key: K, value: V | None) -> V | None:
        """Sets the value if the key has none, else returns the value it has."""

    @abstractmethod
    def put_all(self, entries: Iterable[tuple[K, V | None]]) -> None:
        """Puts each (key, value), in order."""

    @abstractmethod
    def delete(self, key: K) -> V | None:
        """Deletes a key and returns the value it had."""


class TimestampedKeyValueStore(KeyValueStore[K, ValueAndTimestamp[V]]):
    """A key-value store whose rows carry the event time of their value."""


class TimestampedKeyValueStoreWithHeaders(KeyValueStore[K, ValueTimestampHeaders[V]]):
    """A key-value store whose rows carry the event time and the headers of their value."""


class ReadOnlyWindowStore(Readable[Windowed[K], V]):
    """Reads of a window store: rows are found by key and window start.

    Times are window starts in milliseconds, both ends included. Rows older than the
    retention, as seen from the newest start put so far, are not returned.

    It reads as a dict of `Windowed` keys does; a row is also `store[key, start]`, where the
    start is in milliseconds or a datetime. `len(store)` counts by a scan.
    """

    @overload
    def fetch(self, key: K, start_ms: int, /) -> V | None: ...
    @overload
    def fetch(self, key: K, from_ms: int, to_ms: int, /) -> WindowStoreIterator[V]: ...
    @abstractmethod
    def fetch(
        self, key: K, from_ms: int, to_ms: int | None = None, /
    ) -> V | WindowStoreIterator[V] | None:
        """Returns the row at one window start, or scans a key's windows between two."""

    def __getitem__(self, row: Windowed[K] | tuple[K, int | datetime]) -> V:
        key, start_ms = self._row(row)
        value = self.fetch(key, start_ms)
        if value is None:
            message = (
                f"store {self.name!r} has no window of key {key!r} that starts at "
                f"{start_ms}{self._where}"
            )
            raise KeyError(message)
        return value

    def __contains__(self, row: object) -> bool:
        return self.fetch(*self._row(row)) is not None

    def __reversed__(self) -> StoreIterator[Windowed[K]]:
        return mapped_rows(self.backward_all(), first_part)

    def __repr__(self) -> str:
        return f"<window store {self.name!r}, read only>"

    def _row(self, row: Any) -> tuple[Any, int]:
        """Returns key and window start of a row that is named as an item.

        Raises:
            TypeError: it names none.
        """
        if isinstance(row, Windowed):
            return row.key, row.window.start_ms
        if isinstance(row, tuple) and len(row) == 2 and isinstance(row[1], int | datetime):
            return row[0], epoch_ms(row[1])
        message = (
            f"store {self.name!r} finds a row by key and window start: ask for store[key, start] "
            f"or store[windowed], or for all windows of a key by store.fetch(key, from_ms, to_ms); "
            f"got {row!r}"
        )
        raise TypeError(message)

    @abstractmethod
    def backward_fetch(self, key: K, from_ms: int, to_ms: int) -> WindowStoreIterator[V]:
        """Scans a key's windows, newest first."""

    @abstractmethod
    def fetch_range(
        self, lower: K | None, upper: K | None, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""

    @abstractmethod
    def backward_fetch_range(
        self, lower: K | None, upper: K | None, from_ms: int, to_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_range`, in reverse."""

    @abstractmethod
    def fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[K], V]:
        """Scans the windows of all keys."""

    @abstractmethod
    def backward_fetch_all(self, from_ms: int, to_ms: int) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_all`, in reverse."""

    @abstractmethod
    def all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live row."""

    @abstractmethod
    def backward_all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live row, in reverse."""


class WindowStore(StateStore, ReadOnlyWindowStore[K, V]):
    """Values by key and window start, kept for a retention time."""

    def __setitem__(self, row: Windowed[K] | tuple[K, int | datetime], value: V) -> None:
        key, start_ms = self._row(row)
        self.put(key, value, start_ms)

    def __repr__(self) -> str:
        return f"<window store {self.name!r}>"

    @abstractmethod
    def put(self, key: K, value: V | None, start_ms: int) -> None:
        """Sets the value of a window; None deletes it."""


class TimestampedWindowStore(WindowStore[K, ValueAndTimestamp[V]]):
    """A window store whose rows carry the event time of their value."""


class TimestampedWindowStoreWithHeaders(WindowStore[K, ValueTimestampHeaders[V]]):
    """A window store whose rows carry the event time and the headers of their value."""


class ReadOnlyVersionedKeyValueStore(ABC, Generic[K, V]):
    """Reads of a versioned store: rows of now, and rows as they were.

    `store[key]` and `key in store` read the latest version.
    """

    _where = ""
    """Where rows are looked for, for messages; begins with a space."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The store's name within its topology."""

    @abstractmethod
    def get(self, key: K, as_of: int | datetime | None = None) -> VersionedRecord[V] | None:
        """Returns the version of a key that is valid at a time; None if there is none.

        Args:
            key: the key.
            as_of: the time, in milliseconds or as a datetime; None for the latest version. A time
                before the history retention finds only a version that is still the latest.
        """

    @abstractmethod
    def versions(
        self,
        key: K,
        from_time: int | datetime | None = None,
        to_time: int | datetime | None = None,
        *,
        reverse: bool = False,
    ) -> StoreIterator[VersionedRecord[V]]:
        """Scans the versions of a key that are valid at some time of a span, oldest first.

        Args:
            key: the key.
            from_time: the first moment of the span, in milliseconds or as a datetime; None for
                no bound.
            to_time: the last moment, included; None for no bound.
            reverse: newest first.
        """

    def __getitem__(self, key: K) -> VersionedRecord[V]:
        record = self.get(key)
        if record is None:
            message = f"store {self.name!r} has no key {key!r}{self._where}"
            raise KeyError(message)
        return record

    def __contains__(self, key: object) -> bool:
        store: ReadOnlyVersionedKeyValueStore[Any, V] = self
        return store.get(key) is not None

    def __repr__(self) -> str:
        return f"<versioned store {self.name!r}, read only>"


class VersionedKeyValueStore(StateStore, ReadOnlyVersionedKeyValueStore[K, V]):
    """A map from keys to values that keeps the former values of a key, each with its time.

    Example::

        store.put("eur", 1.08, 1_000)
        store.put("eur", 1.10, 2_000)
        store.get("eur", as_of=1_500)  # VersionedRecord(1.08, 1_000, valid_to=2_000)

    A version may be put out of order: it becomes valid from its own time to that of the next.

    Attributes:
        VALID_TO_UNDEFINED: what `put` returns of the latest version, -1.
        NOT_PUT: what `put` returns of a version that came too late, -2**63.
    """

    VALID_TO_UNDEFINED: Final = VALID_TO_UNDEFINED
    NOT_PUT: Final = NOT_PUT

    def __repr__(self) -> str:
        return f"<versioned store {self.name!r}>"

    @abstractmethod
    def put(self, key: K, value: V | None, timestamp: int) -> int:
        """Adds a version of a key; None deletes the key from that time on.

        A second put of one key and time replaces the first.

        Args:
            key: the key.
            value: the value.
            timestamp: from when it is valid, event time in milliseconds.

        Returns:
            Until when it is valid: the time of the version behind it, `VALID_TO_UNDEFINED` of the
            latest one, `NOT_PUT` if the time is older than stream time by more than the history
            retention. Nothing is put then.
        """

    @abstractmethod
    def delete(self, key: K, timestamp: int) -> VersionedRecord[V] | None:
        """Deletes a key from a time on, and returns the version that was valid then.

        Returns None, too, where the time is older than the history retention.
        """
