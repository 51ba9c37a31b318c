"""What typed stores of all kinds share: counts, scans of users, and the face for the task.

Owns the layer between the user's calls and `Pairs`. It must not know what keeps the bytes, nor
whether there is a cache in between.

Counts are plain integers that are read on request: `gets_total`, `puts_total`, `open_iterators`;
with a cache also `cache_hits` and `cache_misses`.

Source: JVM `MeteredKeyValueStore`, `MeteredWindowStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol

from thalweg.stores.api import CacheBudget, StoreHost, StoreIterator, TaskStore
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.cache.cached_store import CachedStore
from thalweg.stores.codec import RowCodec
from thalweg.stores.pairs import LowestPairs, Pairs, Span
from thalweg.stores.row_format import RowFormat, without_headers
from thalweg.stores.rows.contract import Row, closed
from thalweg.stores.updates import Forward, Key, Pair, Updates


class StoreSpec(Protocol):
    """What a store of one kind is: all that depends on the kind."""

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        ...

    @property
    def function(self) -> str:
        """The function of `stores.builders` that describes such a store, for messages."""
        ...

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row."""
        ...

    def with_timestamps(self) -> StoreSpec:
        """Returns the same, with rows that carry the event time of their value.

        Kinds that never have one return themselves.
        """
        ...

    def with_headers(self) -> StoreSpec:
        """Returns the same, with rows that carry the headers of their value as well.

        Kinds that never have some return themselves.
        """
        ...

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names.

        Args:
            additional_ms: added to a retention, for clocks that drift.
        """
        ...

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TaskStore:
        """Stacks the layers of a store.

        Args:
            codec: encodes its rows.
            host: the task it lives in.
            cache: the budget of the worker's caches, None for a store without a cache.
            open_bytes: opens the byte store that keeps its rows.
        """
        ...


def _same(read: Callable[[Key], Pair | None]) -> Callable[[Key], Pair | None]:
    return read


class TypedStore(TaskStore, Generic[Key, Span]):
    """A store of any kind over its pairs.

    Args:
        stored: the rows below, without a cache.
        host: the task it lives in.
        cached: the cache in front of them, None where there is none.
    """

    def __init__(
        self,
        stored: LowestPairs[Key, Span],
        host: StoreHost,
        cached: CachedStore[Key, Span] | None = None,
    ) -> None:
        self.pairs: Pairs[Key, Span] = stored if cached is None else cached
        self.codec: RowCodec = stored.codec
        self.builder = stored.codec.builder
        self.host = host
        self._stored = stored
        self._cached = cached
        self.rows = stored.rows
        # Operators know nothing of headers: they read rows without them.
        pairs, bare = self.pairs, without_headers if self.codec.row_format.has_headers else _same
        self._read_row, self._forwarded_row = bare(pairs.read_row), bare(pairs.forwarded_row)

    @property
    def uncached(self) -> TaskStore:
        """The same rows without the cache, which must be empty; for who fills the store."""
        return self if self._cached is None else type(self)(self._stored, self.host)

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
        return self.rows.persistent

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""
        return self.rows.is_open

    def apply_pending(self, *, durable: bool = False, note: bytes | None = None) -> None:
        """Writes what was pending to the backend, in one batch, after a commit."""
        self.rows.apply(durable=durable, note=note)

    def prepare(self, note: bytes) -> None:
        """Keeps what is pending where it lasts, before the commit that will decide about it."""
        self.rows.prepare(note)

    def prepared(self) -> bytes | None:
        """Returns the note of what was prepared and not applied, None where there is nothing."""
        return self.rows.prepared()

    def settle(self, *, is_committed: bool) -> None:
        """Makes rows of what was prepared, or gives it up."""
        self.rows.settle(is_committed=is_committed)

    def note(self) -> bytes | None:
        """Returns the note of the last `apply_pending` that had one, None where there is none."""
        return self.rows.note()

    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store.

        Raises:
            ValueError: the key is None.
            StoreClosedError: the store was closed.
        """
        if key is None:
            message = f"a key of store '{self.name}' cannot be None"
            raise ValueError(message)
        if not self.rows.is_open:
            raise closed(self.name)

    def counted(self, rows: Iterator[Any]) -> StoreIterator[Any]:
        """Returns the scan of a user, counted as long as it is open."""
        if not self.rows.is_open:
            raise closed(self.name)
        self.open_iterators += 1

        def release() -> None:
            self.open_iterators -= 1

        return StoreIterator(rows, release)

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Key]:
        """Returns what the operator uses that fills the store; None forwards nothing."""
        return self.pairs.updates(forward, send_old=send_old)

    @property
    def gets_total(self) -> int:
        """Reads by key so far."""
        return self.pairs.gets_total

    @property
    def puts_total(self) -> int:
        """Writes so far."""
        return self.pairs.puts_total

    @property
    def is_cached(self) -> bool:
        """Whether updates wait in a cache for a flush."""
        return self._cached is not None

    @property
    def cache_hits(self) -> int | None:
        """Reads that the cache answered, None without a cache."""
        return None if self._cached is None else self._cached.hits

    @property
    def cache_misses(self) -> int | None:
        """Reads that went to the store below, None without a cache."""
        return None if self._cached is None else self._cached.misses

    @property
    def has_unflushed(self) -> bool:
        """Whether its cache holds updates that a flush would push on."""
        return self.pairs.has_unflushed

    def flush_cache(self) -> None:
        """Pushes dirty cache entries to changelog and store, and forwards them."""
        self.pairs.flush()

    def close(self) -> None:
        """Releases what the store holds. Updates not yet committed are lost."""
        self.pairs.close()


class TypedFace(Generic[Key, Span]):
    """The part that faces for any thread share: reads of one task's store of any kind.

    Args:
        store: the store; reads are refused once it is closed.
    """

    def __init__(self, store: TypedStore[Key, Span]) -> None:
        self._store = store
        self.codec = store.codec

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self._store.name

    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store."""
        self._store.check_key(key)

    def _one(self, key: Key) -> Pair | None:
        return self._store.pairs.peek(key)

    def _rows(self, span: Span, *, reverse: bool) -> Iterator[Row]:
        if not self._store.is_open:
            raise closed(self._store.name)
        return self._store.pairs.scan(span, reverse=reverse, shared=True)
