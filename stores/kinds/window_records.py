"""A window store for a join of streams: it adds records and finds those of a key by time.

Owns the functions that a join binds when it is compiled, and the newest rows in memory. Each window
contains one record and starts at the record's time. It must not know joins.

In memory, keys and values of immutable types are kept decoded, as in a cache; others are kept as
bytes. Rows that are read from below are decoded each time.

Source: JVM `WindowStore.fetch`, `KStreamJoinWindow`; DESIGN 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from thalweg.stores.changelog import DuplicateWrite
from thalweg.stores.codec import RowCodec
from thalweg.stores.rows.contract import Row
from thalweg.stores.rows.recent import NEVER_MS, RecentRows, StartAndValue
from thalweg.stores.rows.segments import SegmentedRows, window_key_of
from thalweg.stores.updates import Records

RECENT_BYTES: Final = 32 * 1024 * 1024
"""How much of one store is kept in memory, in bytes as weighed here: about 100,000 small rows."""

PROCESS_BYTES: Final = 512 * 1024 * 1024
"""How much of all stores of a process together: where there are many, each has less."""

_open: Final[set[int]] = set()
"""The stores that are open, which share `PROCESS_BYTES`."""

_ROW_BYTES: Final = 250
"""What a row in memory weighs beside its value: its place in a list, and its part of the key."""


class WindowRecords:
    """The records of one window store that keeps duplicates.

    Args:
        segments: the rows.
        codec: encodes keys and values.
        write: writes and logs one row.
        window_size_ms: how far apart the ends of reads are.
    """

    def __init__(
        self,
        segments: SegmentedRows,
        codec: RowCodec,
        write: DuplicateWrite,
        window_size_ms: int,
    ) -> None:
        self.segments = segments
        self.codec = codec
        self.write = write
        self.keeps_key = codec.key_serde.keyable
        self.keeps_value = codec.value_serde.immutable
        self.recent = RecentRows(window_size_ms, _room, lambda: segments.live_from_ms)
        self._is_loaded = False
        _open.add(id(self))

    def close(self) -> None:
        """Leaves the memory to the other stores."""
        _open.discard(id(self))
        self.recent.clear(NEVER_MS)

    def forget(self) -> None:
        """Notes that rows were written past this: they are read from below when they are needed."""
        self._is_loaded = False

    def bound(self) -> Records:
        """Returns what a join does with the store."""
        return Records(self._bound_put(), self._bound_fetch())

    def _bound_put(self) -> Callable[[Any, Any, int], None]:
        codec, segments, recent, write = self.codec, self.segments, self.recent, self.write
        bare_key = codec.key_serde.bare_serializer(codec.topic)
        bare_value = codec.value_serde.bare_serializer(codec.topic)
        keeps_key, keeps_value = self.keeps_key, self.keeps_value
        add = recent.add

        def put(key: Any, value: Any, timestamp: int) -> None:
            if value is None:
                write(codec.encode_key(key), timestamp, None, timestamp)
                return
            if not self._is_loaded:
                self._load()
            try:
                raw_key, raw_value = bare_key(key), bare_value(value)
            except Exception:
                # The same with an error that says what is wrong.
                raw_key, raw_value = codec.encode_key(key), codec.encode_value(value)
            write(raw_key, timestamp, raw_value, timestamp)
            if timestamp >= segments.live_from_ms:
                add(
                    key if keeps_key else raw_key,
                    timestamp,
                    value if keeps_value else raw_value,
                    _ROW_BYTES + len(raw_value),
                )

        return put

    def _bound_fetch(self) -> Callable[[Any, int, int], Sequence[StartAndValue]]:
        codec, segments, recent = self.codec, self.segments, self.recent
        encode_key, decode_value = codec.encode_key, codec.decode_value
        keeps_key, keeps_value, read = self.keeps_key, self.keeps_value, recent.read

        def fetch(key: Any, from_ms: int, to_ms: int) -> Sequence[StartAndValue]:
            if not self._is_loaded:
                self._load()
            live_from_ms = segments.live_from_ms
            if from_ms < live_from_ms:
                from_ms = live_from_ms
            complete_from_ms = recent.complete_from_ms
            if from_ms >= complete_from_ms:
                rows = read(key if keeps_key else encode_key(key), from_ms, to_ms)
                if keeps_value or not rows:
                    return rows
                return [(start_ms, decode_value(value)) for start_ms, value in rows]
            older = self._below(encode_key(key), from_ms, min(to_ms, complete_from_ms - 1))
            newer = fetch(key, complete_from_ms, to_ms) if to_ms >= complete_from_ms else ()
            return [*older, *newer]

        return fetch

    def _below(self, raw_key: bytes, from_ms: int, to_ms: int) -> Iterable[StartAndValue]:
        unpack = self.codec.unpack
        return [
            (window_key_of(row_key)[1], unpack(row)[0])
            for row_key, row in self.segments.fetch(raw_key, from_ms, to_ms)
        ]

    def _load(self) -> None:
        """Takes the newest rows in from below: as many segments, whole ones, as there is room."""
        rows: list[Row] = []
        weight, complete_from_ms, room = 0, 0, _room()
        scan = self.segments.all(reverse=True)
        for start_ms, segment in groupby(scan, lambda row: self.segments.segment_start(row[0])):
            newest = list(segment)
            weight += sum(_ROW_BYTES + len(row) for _, row in newest)
            if weight > room:
                complete_from_ms = start_ms + self.segments.segment_ms
                break
            rows += newest
        self.recent.clear(complete_from_ms)
        codec = self.codec
        for row_key, row in reversed(rows):
            raw_key, start_ms = window_key_of(row_key)
            key: Hashable = codec.decode_key(raw_key) if self.keeps_key else raw_key
            value: Any = codec.unpack(row)[0] if self.keeps_value else codec.value_of(row)
            self.recent.add(key, start_ms, value, _ROW_BYTES + len(row))
        self._is_loaded = True


def _room() -> int:
    """Returns how many bytes one store may keep in memory."""
    return min(RECENT_BYTES, PROCESS_BYTES // max(len(_open), 1))
