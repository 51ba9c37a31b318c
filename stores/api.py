"""The faces of state stores: what users call, what the runtime drives, what a store needs.

Owns the abstract classes a user types against (`KeyValueStore`, `WindowStore`, their
timestamped and read-only kin), the methods by which a task drives any store, and
`StoreHost`, the little a store must know of its task. It must not know how a store is
built, which layers it has or what keeps its bytes.

Source: JVM `org.apache.kafka.streams.state`; kafka-streams reference A9, D15, D18.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from stores.record import CurrentRecord, RawRecord
from stores.windowed import Windowed

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

FlushListener: TypeAlias = Callable[[Any, Any, Any, int], None]
"""Hears of a flushed key-value change: (key, new, old, timestamp)."""

WindowFlushListener: TypeAlias = Callable[[Any, int, Any, Any, int], None]
"""Hears of a flushed window change: (key, start_ms, new, old, timestamp)."""

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


class CacheBudget(Protocol):
    """The byte budget shared by the cached stores of a worker."""

    max_bytes: int
    size_bytes: int

    def hold(self) -> None:
        """Lets nothing be evicted or flushed before the release that belongs to it."""

    def defers(self, rows: Any, *, flush: bool) -> bool:
        """Tells whether the budget is held; `rows` are then evicted or flushed on release."""

    def release(self, *, failed: bool = False) -> None:
        """Ends a hold. After the last one, who had to wait gives way; not where it `failed`."""


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
        """The worker's record cache (`stores.layers.record_cache`), None when caching is off."""

    def changelog_topic(self, store_name: str) -> str:
        """Names the changelog topic of a store; serdes are bound to that name."""

    def changelog(self, store_name: str) -> Log | None:
        """Returns the function that logs a change, None when the store is not logged."""

    def drop_expired(self, store_name: str) -> None:
        """Counts a window put that came after the store's retention."""


class StoreIterator(Iterator[T]):
    """Rows of a scan; holds what it reads from until it is exhausted or closed.

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

    The first part is for users. The rest is the runtime's: processors must not call it.
    """

    open_iterators: int = 0

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

    def flush(self) -> None:
        """Writes cached updates down and forwards them, as a commit would."""
        self.flush_cache()

    @abstractmethod
    def close(self) -> None:
        """Releases what the store holds. Updates not yet committed are lost."""

    @property
    def has_unflushed(self) -> bool:
        """Whether its cache holds updates that a flush would push on."""
        return False

    @abstractmethod
    def flush_cache(self) -> None:
        """Pushes dirty cache entries to changelog and store, and tells the flush listener."""

    @abstractmethod
    def apply_pending(self, *, durable: bool = False) -> None:
        """Writes what was pending to the backend, in one batch, after a commit."""

    @abstractmethod
    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend; of one key the last wins."""

    @abstractmethod
    def set_flush_listener(self, listener: Callable[..., None], send_old_values: bool) -> bool:
        """Offers a flush listener; False when the store has no cache and does not take it."""

    @abstractmethod
    def read_only(self) -> Any:
        """Returns a read-only face that any thread may use while the worker writes."""

    @abstractmethod
    def dump(self) -> tuple[str, list[dict[str, Any]]]:
        """Returns kind and rows as the store keeps them, below its cache; for test drivers.

        Rows are dicts with bytes as hex: `key` and `value`, where a value's timestamp stands
        in front of it; of window stores also `start`, and `raw_key` where they are on disk.
        """


class ReadOnlyKeyValueStore(ABC, Generic[K, V]):
    """Reads of a key-value store. Keys are ordered by their serialised bytes."""

    @abstractmethod
    def get(self, key: K) -> V | None:
        """Returns the value of a key, None when there is none."""

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


class ReadOnlyWindowStore(ABC, Generic[K, V]):
    """Reads of a window store: rows are found by key and window start.

    Times are window starts in milliseconds, both ends included. Rows older than the
    retention, as seen from the newest start put so far, are not returned.
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

    @abstractmethod
    def put(self, key: K, value: V | None, start_ms: int) -> None:
        """Sets the value of a window; None deletes it."""


class TimestampedWindowStore(WindowStore[K, ValueAndTimestamp[V]]):
    """A window store whose rows carry the event time of their value."""
