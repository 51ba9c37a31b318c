"""Versioned stores: rows that keep their former values, what users call, and their changelog.

Owns the description of a store of this kind (`VersionedSpec`), reads of the present and of the
past, how an operator fills it, how the changelog is restored, and the read-only store of other
threads. `stores.rows.versions` says where versions are among the bytes and which are expired. This
module must not know what keeps the bytes.

There is no cache: a cache keeps only the last update of a key, and here every update counts. Every
put is logged under the plain key with its own time, even if it came too late, as in the JVM.

An operator learns whether a change is the latest of its key (`CurrentRecord.is_latest`). A change
that came too late is not forwarded.

Source: JVM `MeteredVersionedKeyValueStore`, `ChangeLoggingVersionedKeyValueBytesStore`,
`KeyValueStoreWrapper`; KIP-889, KIP-914.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from thalweg.stores.api import (
    NOT_PUT,
    VALID_TO_UNDEFINED,
    CacheBudget,
    Dump,
    ReadOnlyVersionedKeyValueStore,
    RestoreRecord,
    StoreHost,
    StoreIterator,
    VersionedKeyValueStore,
    VersionedRecord,
)
from thalweg.stores.bytes.contract import ByteStore
from thalweg.stores.codec import RowCodec
from thalweg.stores.kinds.typed import TypedStore
from thalweg.stores.pairs import LowestPairs
from thalweg.stores.record import wrong_timestamp
from thalweg.stores.row_format import TIMESTAMPED, RowFormat
from thalweg.stores.rows.contract import Row, closed
from thalweg.stores.rows.pending import PendingByteStore
from thalweg.stores.rows.versions import Found, VersionedRows
from thalweg.stores.updates import (
    UNREAD,
    Failed,
    Forward,
    Pair,
    Process,
    Step,
    Updates,
    unheard,
)
from thalweg.stores.windowed import FOREVER_MS, epoch_ms

KeySpan: TypeAlias = tuple[bytes | None, bytes | None]
"""The encoded keys of [lower, upper); None leaves a side open."""

_EVERY_KEY: Final[KeySpan] = (None, None)
_COMPACTION_LAG_MS: Final = 86_400_000
"""Added to the history retention: so long the changelog keeps all versions of a key."""


@dataclass(frozen=True, slots=True)
class VersionedSpec:
    """A map from keys to values that keeps the former values of a key.

    Attributes:
        history_retention_ms: how long a value is kept after it was replaced, and how late one
            may come.
        segment_interval_ms: span of time that expires at once.
    """

    history_retention_ms: int
    segment_interval_ms: int

    @property
    def kind(self) -> str:
        """Its name, as users see it."""
        return "versioned"

    @property
    def function(self) -> str:
        """The function of `stores.builders` that describes such a store, for messages."""
        return "versioned_store"

    @property
    def row_format(self) -> RowFormat:
        """What stands beside the value in a row: its event time."""
        return TIMESTAMPED

    def with_timestamps(self) -> VersionedSpec:
        """Returns itself."""
        return self

    def with_headers(self) -> VersionedSpec:
        """Returns itself: versions have no headers."""
        return self

    def changelog_config(self, additional_ms: int) -> dict[str, str]:
        """Returns the settings its changelog topic needs, by Kafka's names."""
        lag_ms = min(self.history_retention_ms + _COMPACTION_LAG_MS, FOREVER_MS)
        return {"cleanup.policy": "compact", "min.compaction.lag.ms": str(lag_ms)}

    def build(
        self,
        codec: RowCodec,
        host: StoreHost,
        cache: CacheBudget | None,
        open_bytes: Callable[[], ByteStore],
    ) -> TypedVersionedStore:
        """Stacks the layers of a store, without a cache."""
        versions = VersionedRows(
            PendingByteStore(open_bytes()),
            history_ms=self.history_retention_ms,
            segment_interval_ms=self.segment_interval_ms,
            expired=lambda: host.drop_expired(codec.name),
        )
        return TypedVersionedStore(VersionedPairs(versions, codec), host)


class VersionedPairs(LowestPairs[Any, KeySpan]):
    """Versions of the rows of a store by key.

    Args:
        versions: keeps the bytes; closed with this.
        codec: encodes keys and values.
    """

    def __init__(self, versions: VersionedRows, codec: RowCodec) -> None:
        super().__init__(versions.rows, codec)
        self.versions = versions

    def read(self, key: Any) -> Pair | None:
        """Reads the latest version of a key, None where there is none."""
        self.gets += 1
        return self.peek(key)

    def peek(self, key: Any) -> Pair | None:
        """Reads as `read` and changes nothing; any thread may call it."""
        row = self.versions.latest_row(self.codec.encode_key(key))
        return None if row is None else self.codec.unpack(row)

    def read_as_of(self, key: Any, timestamp: int) -> Pair | None:
        """Reads the version that is valid at a time, None where there is none."""
        self.gets += 1
        found = self.versions.at(self.codec.encode_key(key), timestamp)
        return None if found is None else (self.codec.decode_value(found[0]), found[1])

    def put(self, key: Any, value: Any, timestamp: int) -> None:
        """Adds a version, None a deletion."""
        self.put_version(key, value, timestamp)

    def put_version(self, key: Any, value: Any, timestamp: int) -> int:
        """Adds a version, None a deletion, logs it, and returns when it ends; see `VersionedRows`."""
        self.puts += 1
        codec = self.codec
        raw_key = codec.encode_key(key)
        raw_value = None if value is None else codec.encode_value(value)
        valid_to = self.versions.put(raw_key, raw_value, timestamp)
        if codec.log is not None:
            codec.log(raw_key, raw_value, timestamp, None)
        return valid_to

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Any]:
        """Returns what the operator uses that fills the store; changes are forwarded at once.

        A deletion has the time of its change, also where other stores would take that of the
        record.
        """
        read, put, current = self.read, self.put_version, self.codec.current
        told = forward or unheard

        def write(
            key: Any, new: Any, old: Any, timestamp: int, _deleted_at: int | None = None, /
        ) -> None:
            if not send_old:
                old = None
            elif old is UNREAD:
                pair = read(key)
                old = pair and pair[0]
            valid_to = put(key, new, timestamp)
            if valid_to == NOT_PUT:
                return
            was_latest, is_latest = current.is_latest, valid_to == VALID_TO_UNDEFINED
            if is_latest is was_latest:
                told(key, new, old, timestamp)
                return
            current.is_latest = is_latest
            try:
                told(key, new, old, timestamp)
            finally:
                current.is_latest = was_latest

        def fold(step: Step, on_null: Process, failed: Failed) -> Process:
            def process(key: Any, value: Any, timestamp: int) -> None:
                if key is None or value is None:
                    on_null(key, value, timestamp)
                    return
                try:
                    pair = read(key)
                    old, newest = (None, timestamp) if pair is None else pair
                    write(key, step(key, value, old), old, max(timestamp, newest))
                except Exception as error:
                    failed(error, key, value, timestamp)

            return process

        return Updates(read, write, fold)

    def scan(self, span: KeySpan, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans encoded keys and rows of the latest versions."""
        return self.versions.latest(*span, reverse=reverse, shared=shared)


class VersionedReads(ReadOnlyVersionedKeyValueStore[Any, Any]):
    """All reads of a versioned store, over the versions below."""

    codec: RowCodec
    versions_below: VersionedRows

    @abstractmethod
    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store."""

    @abstractmethod
    def _shown(
        self, records: Generator[VersionedRecord[Any], None, None]
    ) -> StoreIterator[VersionedRecord[Any]]:
        """Returns the iterator that a user gets."""

    def get(self, key: Any, as_of: int | datetime | None = None) -> VersionedRecord[Any] | None:
        """Returns the version of a key that is valid at a time, the latest without one."""
        self.check_key(key)
        raw_key = self.codec.encode_key(key)
        moment = FOREVER_MS if as_of is None else epoch_ms(as_of)
        found = self.versions_below.at(raw_key, moment)
        return None if found is None else self._record(found)

    def versions(
        self,
        key: Any,
        from_time: int | datetime | None = None,
        to_time: int | datetime | None = None,
        *,
        reverse: bool = False,
    ) -> StoreIterator[VersionedRecord[Any]]:
        """Scans the versions of a key that are valid at some time of a span, oldest first."""
        self.check_key(key)
        from_ms = 0 if from_time is None else epoch_ms(from_time)
        to_ms = FOREVER_MS if to_time is None else epoch_ms(to_time)
        found = self.versions_below.between(self.codec.encode_key(key), from_ms, to_ms)
        return self._shown(self._record(one) for one in (found if reverse else reversed(found)))

    def _record(self, found: Found) -> VersionedRecord[Any]:
        value, timestamp, valid_to = found
        return VersionedRecord(self.codec.decode_value(value), timestamp, valid_to)


class TypedVersionedStore(
    TypedStore[Any, KeySpan], VersionedReads, VersionedKeyValueStore[Any, Any]
):
    """A versioned store.

    One worker uses it; `read_only()` faces may read from other threads meanwhile.
    """

    _stored: VersionedPairs

    @property
    def versions_below(self) -> VersionedRows:  # type: ignore[override]  # read only here
        """The versions of its rows."""
        return self._stored.versions

    @property
    def read_as_of(self) -> Callable[[Any, int], Pair | None]:
        """Reads the row of a key as it was at a time."""
        return self._stored.read_as_of

    def read_row(self, key: Any) -> Pair | None:
        """Reads the latest version, for whoever does not fill the store."""
        return self.pairs.read_row(key)

    def forwarded_row(self, key: Any) -> Pair | None:
        """Reads the latest version, which was forwarded at once."""
        return self.pairs.forwarded_row(key)

    def _shown(
        self, records: Generator[VersionedRecord[Any], None, None]
    ) -> StoreIterator[VersionedRecord[Any]]:
        return self.counted(records)

    def get(self, key: Any, as_of: int | datetime | None = None) -> VersionedRecord[Any] | None:
        """Returns the version of a key that is valid at a time, the latest without one."""
        self._stored.gets += 1
        return super().get(key, as_of)

    def put(self, key: Any, value: Any, timestamp: int) -> int:
        """Adds a version of a key; None deletes the key from that time on."""
        self._check_version(key, timestamp)
        return self._stored.put_version(key, value, timestamp)

    def delete(self, key: Any, timestamp: int) -> VersionedRecord[Any] | None:
        """Deletes a key from a time on, and returns the version that was valid then."""
        self._check_version(key, timestamp)
        found = None if self.versions_below.is_expired(timestamp) else self.get(key, timestamp)
        self._stored.put_version(key, None, timestamp)
        return found

    def _check_version(self, key: Any, timestamp: Any) -> None:
        self.check_key(key)
        if timestamp.__class__ is not int:
            raise wrong_timestamp(timestamp, f"the timestamp of a version in '{self.name}'")
        if timestamp < 0:
            message = f"a version in '{self.name}' has the negative timestamp {timestamp}"
            raise ValueError(message)

    def restore(self, batch: Sequence[RestoreRecord]) -> None:
        """Applies changelog records straight to the backend, in the order of the log."""
        self.versions_below.restore(
            (timestamp, key, value) for timestamp, key, value, _ in batch if key is not None
        )

    def read_only(self) -> ReadOnlyVersionedKeyValueStore[Any, Any]:
        """Returns a read-only face that any thread may use while the worker writes."""
        return VersionedFace(self)

    def dump(self) -> Dump:
        """Returns kind and rows, for test drivers; bytes as hex."""
        latest = _entries(self._stored.scan(_EVERY_KEY))
        segments = [
            {"id": segment, "entries": _entries(rows)}
            for segment, rows in self.versions_below.segments()
        ]
        return "versioned", [{"latest": latest, "segments": segments}]


def _entries(rows: Iterator[Row] | list[Row]) -> list[dict[str, str]]:
    return [{"key": key.hex(), "value": row.hex()} for key, row in rows]


class VersionedFace(VersionedReads):
    """Reads of one task's versioned store, for any thread."""

    def __init__(self, store: TypedVersionedStore) -> None:
        self._store = store
        self.codec = store.codec
        self.versions_below = store.versions_below

    @property
    def name(self) -> str:
        """The store's name within its topology."""
        return self._store.name

    def check_key(self, key: Any) -> None:
        """Refuses None as a key, and a closed store."""
        self._store.check_key(key)

    def _shown(
        self, records: Generator[VersionedRecord[Any], None, None]
    ) -> StoreIterator[VersionedRecord[Any]]:
        if not self._store.is_open:
            raise closed(self._store.name)
        return StoreIterator(records)
