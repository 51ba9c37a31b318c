"""A store of an application that runs in another process, read through the owner of its log.

Owns the messages of such a question and the face that asks it: the reads of `app.store(…)`, with
the same rows in the same order. Keys and values travel as the bytes that the store's serdes write,
so they are here what they are there. It must not know how an answer is shown.

    POST /rows     an `Asked` in msgpack
    answered by    `Page` after `Page`, each behind its length in four bytes

Source: KIP-67, KIP-535.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from thalweg.stores.api import StoreIterator
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import StoreMovedError, StoreNotReadyError
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.streams.clock import Clock, SystemClock
from thalweg.streams.errors import BrokerError
from thalweg.streams.transport.log import owner_wire
from thalweg.streams.transport.log.owner_client import OwnerClient

PATH: Final = "/rows"

METHODS: Final = (
    "get",
    "range",
    "reverse_range",
    "prefix_scan",
    "all",
    "reverse_all",
    "fetch_range",
    "backward_fetch_range",
    "fetch_all",
    "backward_fetch_all",
    "backward_all",
)
"""The reads of a store that may be asked."""

LENGTH: Final = struct.Struct(">I")

PATIENCE: Final = timedelta(seconds=60)
"""How long to ask a store again that is being restored."""

_RETRY_MS: Final = 100


class Argument(msgspec.Struct, frozen=True, array_like=True):
    """An argument of a read: a key as its bytes, or what is given as it is."""

    key: bytes | None = None
    plain: bytes | int | None = None


class Asked(msgspec.Struct, frozen=True):
    """A read of a store.

    Attributes:
        store: its name.
        method: one of `METHODS`.
        arguments: of the read.
    """

    store: str
    method: str
    arguments: list[Argument]


class StoredRow(msgspec.Struct, frozen=True, array_like=True):
    """A row: key and value as bytes; the window of a window store's row."""

    key: bytes
    value: bytes
    timestamp: int | None = None
    window_start_ms: int | None = None
    window_end_ms: int = 0


class Page(msgspec.Struct, frozen=True):
    """Some rows.

    Attributes:
        rows: in order.
        is_last: whether nothing comes behind.
        failure: why there are no more rows, where something went wrong.
    """

    rows: list[StoredRow]
    is_last: bool = False
    failure: owner_wire.Failure | None = None


class Timestamped(NamedTuple):
    """A value with its event time, as the store keeps it."""

    value: Any
    timestamp: int


class OwnersStore:
    """The read-only face of a store in the owner of a log.

    Args:
        owner: the owner of the log.
        application_id: the application there.
        builder: the store's description here: its serdes.
        timestamped: give values with their timestamps, where the store keeps them so.
        clock: where time comes from.
    """

    def __init__(
        self,
        owner: OwnerClient,
        application_id: str,
        builder: StoreBuilder,
        *,
        timestamped: bool = False,
        clock: Clock | None = None,
    ) -> None:
        assert builder.key_serde is not None
        assert builder.value_serde is not None
        self._owner = owner
        self._application_id = application_id
        self._store = builder.name
        self._encode_key = builder.key_serde.serializer(builder.name)
        self._decode_key = builder.key_serde.deserializer(builder.name)
        self._decode_value = builder.value_serde.deserializer(builder.name)
        self._timestamped = timestamped and builder.is_timestamped
        self._clock = clock or SystemClock()

    # -- key-value stores ----------------------------------------------------------------

    def get(self, key: Any) -> Any:
        """Returns the value of a key, None when there is none."""
        with self._scan("get", self._key(key)) as rows:
            return next((value for _, value in rows), None)

    def range(self, lower: Any, upper: Any) -> StoreIterator[tuple[Any, Any]]:
        """Scans keys from `lower` to `upper`, both included; None leaves a side open."""
        return self._scan("range", self._key(lower), self._key(upper))

    def reverse_range(self, lower: Any, upper: Any) -> StoreIterator[tuple[Any, Any]]:
        """Scans as `range`, highest key first."""
        return self._scan("reverse_range", self._key(lower), self._key(upper))

    def prefix_scan(self, prefix: bytes) -> StoreIterator[tuple[Any, Any]]:
        """Scans keys whose bytes begin so."""
        return self._scan("prefix_scan", Argument(plain=prefix))

    def all(self) -> StoreIterator[tuple[Any, Any]]:
        """Scans every row."""
        return self._scan("all")

    def reverse_all(self) -> StoreIterator[tuple[Any, Any]]:
        """Scans every row, highest key first."""
        return self._scan("reverse_all")

    # -- window stores -------------------------------------------------------------------

    def fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> StoreIterator[tuple[Any, Any]]:
        """Scans the windows of a range of keys, both ends included, None leaves one open."""
        return self._windows("fetch_range", lower, upper, from_ms, to_ms)

    def backward_fetch_range(
        self, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> StoreIterator[tuple[Any, Any]]:
        """Scans as `fetch_range`, in reverse."""
        return self._windows("backward_fetch_range", lower, upper, from_ms, to_ms)

    def fetch_all(self, from_ms: int, to_ms: int) -> StoreIterator[tuple[Any, Any]]:
        """Scans the windows of all keys."""
        return self._scan("fetch_all", Argument(plain=from_ms), Argument(plain=to_ms))

    def backward_fetch_all(self, from_ms: int, to_ms: int) -> StoreIterator[tuple[Any, Any]]:
        """Scans as `fetch_all`, in reverse."""
        return self._scan("backward_fetch_all", Argument(plain=from_ms), Argument(plain=to_ms))

    def backward_all(self) -> StoreIterator[tuple[Any, Any]]:
        """Scans every window, in reverse."""
        return self._scan("backward_all")

    def _windows(
        self, method: str, lower: Any, upper: Any, from_ms: int, to_ms: int
    ) -> StoreIterator[tuple[Any, Any]]:
        times = Argument(plain=from_ms), Argument(plain=to_ms)
        return self._scan(method, self._key(lower), self._key(upper), *times)

    # -- asking --------------------------------------------------------------------------

    def _key(self, key: Any) -> Argument:
        return Argument(key=None if key is None else self._encode_key(key))

    def _scan(self, method: str, *arguments: Argument) -> StoreIterator[tuple[Any, Any]]:
        rows = self._rows(Asked(self._store, method, list(arguments)))
        return StoreIterator(rows)

    def _rows(self, asked: Asked) -> Iterator[tuple[Any, Any]]:
        """Yields rows; asks again while the store is not ready and none was seen."""
        deadline_ms = self._clock.monotonic_ms() + PATIENCE / timedelta(milliseconds=1)
        has_begun = False
        while True:
            try:
                for page in self._pages(asked):
                    has_begun = True
                    yield from map(self._row, page.rows)
            except (StoreNotReadyError, StoreMovedError):
                if has_begun or self._clock.monotonic_ms() >= deadline_ms:
                    raise
                self._clock.sleep_ms(_RETRY_MS)
            else:
                return

    def _pages(self, asked: Asked) -> Iterator[Page]:
        with self._owner.post(self._application_id, PATH, asked) as response:
            if response.status != HTTPStatus.OK:
                raise self._owner.error_of(response.status, response.read())
            while True:
                head = response.read(LENGTH.size)
                data = response.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""
                if not data:
                    message = f"{self._owner} ended before it had answered"
                    raise BrokerError(message)
                page = msgspec.msgpack.decode(data, type=Page)
                if page.failure is not None:
                    raise owner_wire.error_of(page.failure)
                yield page
                if page.is_last:
                    return

    def _row(self, row: StoredRow) -> tuple[Any, Any]:
        key = self._decode_key(row.key)
        if row.window_start_ms is not None:
            key = Windowed(key, TimeWindow(row.window_start_ms, row.window_end_ms))
        value = self._decode_value(row.value)
        if self._timestamped and row.timestamp is not None:
            value = Timestamped(value, row.timestamp)
        return key, value
