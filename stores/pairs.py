"""Rows as pairs of value and timestamp: the contract between typed store, cache and rows below.

Owns `Pairs`, through which a typed store reads and writes; `LowestPairs`, its layer over rows; and
`StoredPairs`, which can have a cache in front. A few facts and methods of `StoredPairs` describe
the differences between the kinds of stores, so that one cache serves all kinds. This module must
not know any kind.

Source: DESIGN 2.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, NoReturn, TypeVar

from thalweg.stores.codec import RowCodec
from thalweg.stores.row_format import without_headers
from thalweg.stores.rows.contract import Row, RowStore, closed
from thalweg.stores.updates import Forward, Key, Pair, Updates, immediate_updates, unheard

Span = TypeVar("Span")
"""What a scan covers; each kind has its own."""


class Pairs(ABC, Generic[Key, Span]):
    """Rows of one store, decoded, found by a key and scanned over a span."""

    @property
    @abstractmethod
    def gets_total(self) -> int:
        """Reads by key so far."""

    @property
    @abstractmethod
    def puts_total(self) -> int:
        """Writes so far."""

    @property
    def has_unflushed(self) -> bool:
        """Whether rows wait for a flush."""
        return False

    @abstractmethod
    def read(self, key: Key) -> Pair | None:
        """Reads the newest row of a key, None where there is none."""

    def read_row(self, key: Key) -> Pair | None:
        """Reads as `read`, for user code and operators that do not fill the store."""
        return self.read(key)

    def forwarded_row(self, key: Key) -> Pair | None:
        """Reads the row that was forwarded last."""
        return self.read(key)

    @abstractmethod
    def peek(self, key: Key) -> Pair | None:
        """Reads as `read` and changes nothing; any thread may call it."""

    @abstractmethod
    def put(self, key: Key, value: Any, timestamp: int) -> None:
        """Writes a row, None deletes it.

        Args:
            key: the key.
            value: the value.
            timestamp: event time of the value; of a deletion, of the record that deletes.
        """

    @abstractmethod
    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Key]:
        """Returns what the operator uses that fills the store; None forwards nothing."""

    @abstractmethod
    def scan(self, span: Span, *, reverse: bool = False, shared: bool = False) -> Iterator[Row]:
        """Scans stored keys and rows.

        Args:
            span: what to scan.
            reverse: the other way round.
            shared: whether another thread than the worker asks.
        """

    def flush(self) -> None:
        """Writes down and forwards what waits for it."""

    @abstractmethod
    def close(self) -> None:
        """Releases what is held; writes not yet committed are lost."""


class LowestPairs(Pairs[Key, Span]):
    """The lowest layer: encodes, logs, and writes every update at once.

    Args:
        rows: keeps the bytes; closed with this.
        codec: encodes keys and values.
    """

    def __init__(self, rows: RowStore, codec: RowCodec) -> None:
        self.rows = rows
        self.codec = codec
        self.gets = 0
        self.puts = 0

    @property
    def gets_total(self) -> int:
        """Reads by key so far."""
        return self.gets

    @property
    def puts_total(self) -> int:
        """Writes so far."""
        return self.puts

    def close(self) -> None:
        """Releases the rows."""
        self.rows.close()


class StoredPairs(LowestPairs[Key, Span]):
    """The lowest layer of a store that may have a cache.

    A cache above knows a row by its `entry_key`, which is the key itself where
    `keeps_key_decoded`, and by the key it is stored under.

    Args:
        rows: keeps the bytes; closed with this.
        codec: encodes keys and values.

    Attributes:
        caches_reads: whether a cache above takes in the rows that it reads.
        keeps_rows: whether a row stays as it was written until it is written again. Else a cache
            must not remember what is stored, and scans show all that is cached.
        write_raw: writes and logs a row: (entry key, stored key, encoded value or None to
            delete, timestamp).
    """

    caches_reads = True
    keeps_rows = True
    write_raw: Callable[[Any, bytes, bytes | None, int], None]

    def __init__(self, rows: RowStore, codec: RowCodec) -> None:
        super().__init__(rows, codec)
        self.keeps_key_decoded = codec.key_serde.keyable

    @abstractmethod
    def entry_key(self, key: Key) -> Hashable:
        """Returns what a cache finds a row by."""

    @abstractmethod
    def stored_key(self, entry_key: Any) -> bytes:
        """Returns what a row is stored under."""

    @abstractmethod
    def key_of(self, entry_key: Any) -> Key:
        """Returns the key of a cached row."""

    @abstractmethod
    def read_raw(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row by what a cache knows of it."""

    def read_unapplied(self, entry_key: Any, stored_key: bytes) -> Pair | None:
        """Reads a row even if it went by itself since rows were applied last.

        A cache may still hold changes of that time, which want to be seen with it.
        """
        return self.read_raw(entry_key, stored_key)

    @abstractmethod
    def ranges(
        self, span: Span, first_from: Callable[[bytes], bytes | None]
    ) -> Iterable[tuple[bytes | None, bytes | None]]:
        """Returns the ranges [lower, upper) of stored keys that a span lies in.

        Args:
            span: the span.
            first_from: returns the lowest cached key at or above the given bytes.
        """

    @abstractmethod
    def covers(self, span: Span, stored_key: bytes) -> bool:
        """Tells whether a row of such a range belongs to the span."""

    def placed(self, _span: Span, stored_key: bytes) -> bytes:
        """Returns what a scan of a span yields a row under, and by which it is ordered."""
        return stored_key

    def updates(self, forward: Forward | None, *, send_old: bool) -> Updates[Key]:
        """Returns updates that are forwarded at once, None for not at all."""
        has_headers = self.codec.row_format.has_headers
        read = without_headers(self.read) if has_headers else self.read
        return immediate_updates(read, self.put, forward or unheard, send_old=send_old)

    def close(self) -> None:
        """Releases the rows; writes are refused from here on."""
        super().close()
        self.write_raw = self.refuse

    def refuse(self, *_row: Any) -> NoReturn:
        """Refuses a write to a closed store."""
        raise closed(self.codec.name)
