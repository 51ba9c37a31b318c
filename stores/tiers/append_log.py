"""The append-log tier: entries in order, in one log or in one for each key.

Owns the rows of a log, how it is continued, and how it is read page by page. It must not know
what is in the entries.

A row is a list of entries, as the codec writes it. The first row of a log stands under its
key; each flush adds one, under the key, a zero byte and the number of entries the log has
with it, in 20 decimal digits::

    key                               entries 0 to 2
    key 00 "00000000000000000005"     entries 3 and 4
    key 00 "00000000000000000006"     entry 5

A zero byte within a key is written 00 7F. So the order of rows is that of keys and then of
entries, an append costs what is new and not what is old, and a page is found by its number.

A byte store that cannot list its keys has one row for each log; an append reads it and writes
it anew.

Source: storage-tiers T28-T41, T-H7.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    RangeDeletion,
    Sync,
    prefix_end,
)
from thalweg.stores.errors import NoListSupportError
from thalweg.stores.tiers.codec import Codec
from thalweg.stores.tiers.tier import Tier, key_bytes, key_text
from thalweg.stores.tiers.wave import Batch, root_key

T = TypeVar("T")
Mode = Literal["append", "overwrite"]

_DIGITS: Final = 20
_NUMBER_END: Final = b"\0:"
"""Behind the zero byte: above all digits, below 7F."""


class Cursor(NamedTuple):
    """Where a page begins.

    Attributes:
        position: how many entries stand before it, of all logs that are read.
        tag: always None; for cursors of another kind.
    """

    position: int
    tag: None = None


class Page(NamedTuple, Generic[T]):
    """A page of entries.

    Attributes:
        entries: in the order of their keys and, within a log, of their appending.
        cursor: where the next page begins, None where there is none.
    """

    entries: list[T]
    cursor: Cursor | None


def _row_key(key: bytes) -> bytes:
    return key.replace(b"\0", b"\0\x7f") if b"\0" in key else key


def _segment(row: bytes, end: int) -> bytes:
    return b"%b\0%0*d" % (row, _DIGITS, end)


def _split(stored: bytes) -> tuple[bytes, int | None]:
    """Takes the key of a row apart: that of the log's first row, and the number, if it has one."""
    row, number = stored[: -_DIGITS - 1], stored[-_DIGITS:]
    if len(stored) > _DIGITS and stored[-_DIGITS - 1] == 0 and number.isdigit():
        return row, int(number)
    return stored, None


def _label(row: bytes) -> str:
    return key_text(row.replace(b"\0\x7f", b"\0"))


class AppendLogTier(Tier[T, dict[bytes, list[T]]]):
    """Keeps entries in the order in which they were appended.

    Without `key_of` there is one log, under the tier's name. Reads go over all logs of the
    byte store, or of those whose keys begin with a filter: give the tier a `Namespace` of
    its own if the store has rows of another kind.

    Args:
        store: keeps the rows.
        name: the tier's name, and the key of its log; None for the store's name.
        codec: how entries are written; None for JSON.
        debounce_ms: None to write with every append; any number to let entries wait.
        compact_every: write everything that waits with every n-th entry.
        key_of: tells which log an entry goes to, when it is appended.
        mode: `append` to continue a log with each flush, `overwrite` to replace it.
        sync: what a write survives.

    Raises:
        ValueError: `compact_every` is less than 1, `debounce_ms` less than 0, or there is no
            such mode.
    """

    def __init__(
        self,
        store: ByteStore,
        *,
        name: str | None = None,
        codec: Codec[T] | None = None,
        debounce_ms: int | None = None,
        compact_every: int | None = None,
        key_of: Callable[[T], str] | None = None,
        mode: Mode = "append",
        sync: Sync = Sync.PROCESS,
    ) -> None:
        super().__init__(
            store,
            name=name,
            codec=codec,
            debounce_ms=debounce_ms,
            compact_every=compact_every,
            sync=sync,
        )
        if mode not in ("append", "overwrite"):
            message = f"AppendLogTier '{self.name}': mode is 'append' or 'overwrite', not {mode!r}"
            raise ValueError(message)
        self._key_of = key_of
        self._mode: Mode = mode
        self._row = _row_key(key_bytes(self.name, self.name))

    @property
    def mode(self) -> Mode:
        """Whether a flush continues a log or replaces it."""
        return self._mode

    def append(self, entry: T) -> None:
        """Appends one entry; as `append_entries`."""
        self.append_entries((entry,))

    def append_entries(self, entries: Iterable[T]) -> None:
        """Appends entries; none at all do nothing.

        Raises:
            CodecError: what waits was to be written and cannot be; it waits again, and what
                was written before is not written again.
            StorageError: the byte store failed; likewise.
        """
        found, key_of = list(entries), self._key_of
        if not found:
            return
        saved: dict[bytes, list[T]] = {}
        if key_of is None:
            saved[self._row] = found
        else:
            for entry in found:
                row = _row_key(key_bytes(key_of(entry), self.name))
                saved.setdefault(row, []).append(entry)
        self._accept(saved, len(found))

    # -- writing -------------------------------------------------------------------------

    def _nothing(self) -> dict[bytes, list[T]]:
        return {}

    def _merged(
        self, older: dict[bytes, list[T]], newer: dict[bytes, list[T]]
    ) -> dict[bytes, list[T]]:
        for row, entries in newer.items():
            found = older.get(row)
            if found is None:
                older[row] = entries
            else:
                found.extend(entries)
        return older

    def _changes(self, pending: dict[bytes, list[T]], batch: Batch) -> list[AnyChange]:
        changes: list[AnyChange] = []
        for row, entries in pending.items():
            add = self._overwritten if self._mode == "overwrite" else self._appended
            changes.extend(add(row, entries, batch))
        return changes

    def _overwritten(self, row: bytes, entries: list[T], batch: Batch) -> list[AnyChange]:
        encoded, place = self._sealed.encode_all(entries, _label(row)), root_key(self._store, row)
        first, end = row + b"\0", row + _NUMBER_END
        try:
            others = next(self._store.range(first, end, limit=1), None)
        except NoListSupportError:
            batch.log_rows[place] = encoded
            return [(row, encoded)]
        has_others = others is not None or place in batch.log_ends
        batch.log_ends[place] = len(entries)
        return [(row, encoded), *([RangeDeletion(first, end)] if has_others else ())]

    def _appended(self, row: bytes, entries: list[T], batch: Batch) -> list[AnyChange]:
        label, place = _label(row), root_key(self._store, row)
        try:
            end = batch.log_ends.get(place)
            if end is None:
                end = self._end(row, label)
        except NoListSupportError:
            stored = batch.log_rows.get(place) or self._store.get(row)
            before = self._sealed.decode_all(stored, label) if stored else []
            encoded = batch.log_rows[place] = self._sealed.encode_all([*before, *entries], label)
            return [(row, encoded)]
        encoded = self._sealed.encode_all(entries, label)
        after = batch.log_ends[place] = end + len(entries)
        return [(_segment(row, after) if end else row, encoded)]

    def _end(self, row: bytes, label: str) -> int:
        """Returns how many entries a log has."""
        last = next(self._store.range(row, row + _NUMBER_END, reverse=True, limit=1), None)
        if last is None:
            return 0
        stored, value = last
        end = _split(stored)[1]
        if end is not None:
            return end
        return len(self._sealed.decode_all(value, label)) if value else 0

    # -- reading -------------------------------------------------------------------------

    def load_entries_all(self, key_filter: str | None = None) -> list[T]:
        """Reads all entries; as `load_entries` without a cursor and a page size."""
        return self.load_entries(key_filter=key_filter).entries

    def load_entries(
        self,
        cursor: Cursor | None = None,
        page_size: int | None = None,
        key_filter: str | None = None,
    ) -> Page[T]:
        """Reads a page of the entries that were written, in the order of keys and entries.

        Within a page all rows are of one moment. A page reads its own entries; of the logs
        before it, one row each.

        Args:
            cursor: where the page begins, None for the first entry.
            page_size: how many entries it has at the most; None or 0 for all that follow.
            key_filter: reads only logs whose keys begin with this; None for all.

        Raises:
            ValueError: the cursor or the page size is negative.
            CodecMismatchError: another codec, or another version of it, wrote a row.
            DecodeError: a row cannot be read, perhaps because it is not one of a log.
        """
        position = 0 if cursor is None else cursor.position
        if position < 0 or (page_size is not None and page_size < 0):
            message = (
                f"tier '{self.name}': position {position} and page size {page_size} must be at "
                f"least 0"
            )
            raise ValueError(message)
        with closing(self._entries(position, key_filter)) as entries:
            if not page_size:
                return Page(list(entries), None)
            found = list(islice(entries, page_size + 1))
        if len(found) <= page_size:
            return Page(found, None)
        found.pop()
        return Page(found, Cursor(position + page_size))

    def _entries(self, skip: int, key_filter: str | None) -> Generator[T, None, None]:
        prefix = b"" if key_filter is None else _row_key(key_bytes(key_filter, self.name))
        upper = prefix_end(prefix)
        with ExitStack() as held:
            try:
                view = held.enter_context(self._store.view())
                next(view.range(prefix, upper, limit=1), None)
            except NoListSupportError:
                row = self._row if key_filter is None else prefix
                yield from self._decoded(row, self._store.get(row))[skip:]
                return
            lower = prefix
            while skip:
                first = next(view.range(lower, upper, limit=1), None)
                if first is None:
                    return
                row = _split(first[0])[0]
                lower = row + _NUMBER_END
                total = self._total(view, row)
                if skip < total:
                    yield from self._rest_of_log(view, row, skip)
                    break
                skip -= total
            for stored, value in view.range(lower, upper):
                yield from self._decoded(_split(stored)[0], value)

    def _total(self, view: ByteView, row: bytes) -> int:
        stored, value = next(view.range(row, row + _NUMBER_END, reverse=True, limit=1))
        end = _split(stored)[1]
        return len(self._decoded(row, value)) if end is None else end

    def _rest_of_log(self, view: ByteView, row: bytes, skip: int) -> Iterator[T]:
        """Yields the entries of one log from a number on."""
        lower = _segment(row, skip + 1)
        found = next(view.range(lower, row + _NUMBER_END, limit=1), None)
        entries: list[T] = []
        start: int | None = None
        if found is not None:
            entries = self._decoded(row, found[1])
            end = _split(found[0])[1]
            assert end is not None
            start = end - len(entries)
            lower = found[0] + b"\0"
        if start is None or skip < start:
            # It lies in the log's first row, which has no number.
            yield from self._decoded(row, view.get(row))[skip:]
            yield from entries
        else:
            yield from entries[skip - start :]
        if found is not None:
            for _, value in view.range(lower, row + _NUMBER_END):
                yield from self._decoded(row, value)

    def _decoded(self, row: bytes, stored: bytes | None) -> list[T]:
        return self._sealed.decode_all(stored, _label(row)) if stored else []
