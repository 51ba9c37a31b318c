"""What any byte store must do: the contract between a store's layers and its bytes.

Owns the abstract classes, the changes that a write consists of, and the terms in which the
guarantees are stated. A byte store must not know what its bytes mean, nor who writes them.
`stores.testing` has the suite that checks a byte store.

Order is that of unsigned bytes. Ranges are half-open, `[lower, upper)`; None leaves a side
open. An empty value is a value, not an absence.

Source: storage-tiers D1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import ItemsView, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self, TypeAlias

Row: TypeAlias = tuple[bytes, bytes]
"""(key, value)."""

Change: TypeAlias = tuple[bytes, bytes | None]
"""(key, new value), None deletes the row."""


@dataclass(frozen=True, slots=True)
class RangeDeletion:
    """A change that deletes every row in [lower, upper).

    Attributes:
        lower: the first key to delete.
        upper: the first key to keep, None for no end.
    """

    lower: bytes
    upper: bytes | None


AnyChange: TypeAlias = Change | RangeDeletion
"""What a write is made of."""


class Sync(Enum):
    """What a write survives once the call has returned."""

    NONE = "none"
    """Nothing: it may be lost when the process dies. For whoever can write it again."""
    PROCESS = "process"
    """The death of the process, but not a loss of power."""
    DISK = "disk"
    """A loss of power: the disk has it."""


class ByteView(ABC):
    """The rows of a byte store as they were at one moment.

    Any thread may use a view, one at a time. Close it: while it is open the store keeps what
    it shows. All methods but `close` raise `StoreClosedError` after the view or its store was
    closed.
    """

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """Returns the value a key had then, None where there was none."""

    @abstractmethod
    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans as `ByteStore.range`; several scans of one view may be open at once."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the moment. Closing again does nothing. Open scans end with an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ByteStore(ABC):
    """An ordered map from bytes to bytes.

    One thread writes. Reads may come from any thread at any time: `get` sees a write whole
    or not at all, a `range` keeps to the rows there were when it was opened.

    All methods but `close` raise `StoreClosedError` after `close`, and `BackendError` when
    what lies below fails.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The store's name, for messages."""

    @property
    @abstractmethod
    def persistent(self) -> bool:
        """Whether rows outlive the process."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the store can be used."""

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""

    @abstractmethod
    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`.

        The scan shows one moment, that of the call. What it holds is released when it is
        exhausted or its `close()`, if it has one, is called.

        Args:
            lower: the first key, None for no bound.
            upper: the key at which the scan ends, itself not included; None for no bound.
            reverse: begin with the highest key.
            limit: how many rows at the most, None for all; 0 gives none.
        """

    @abstractmethod
    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""

    @abstractmethod
    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins.

        Args:
            changes: rows to put, rows to delete (with a value of None) and ranges to delete.
                Many are written fastest in the order of their keys.
            sync: what the write survives once this call has returned. A later write or flush
                that reaches the disk takes earlier ones along.
        """

    def prepare(self, changes: Iterable[Change], note: bytes) -> bool:
        """Keeps changes aside, which the next `write` will bring or give up.

        That one takes them away in the step in which it writes. After a crash in between, who
        knows what became of the commit reads them with `prepared` and decides.

        Returns:
            Whether it keeps them; a byte store whose rows do not outlive the process need not.
        """
        return False

    def prepared(self) -> tuple[bytes, list[Change]] | None:
        """Returns note and changes that were kept aside, None where there are none."""
        return None

    def write_noted(
        self, changes: Iterable[AnyChange], note: bytes, *, sync: Sync = Sync.PROCESS
    ) -> None:
        """Applies changes as `write`, and in the same step keeps a note beside the rows.

        A byte store whose rows do not outlive the process need not keep it.

        Args:
            changes: as `write` takes them; there may be none.
            note: what `note` returns from then on.
            sync: what the write survives.
        """
        self.write(changes, sync=sync)

    def note(self) -> bytes | None:
        """Returns the note that was kept with the last changes, None where there is none."""
        return None

    @abstractmethod
    def approximate_count(self) -> int:
        """Estimates the number of rows; exact where that is cheap."""

    @abstractmethod
    def flush(self) -> None:
        """Returns when everything written before would survive a loss of power."""

    @abstractmethod
    def close(self) -> None:
        """Releases the store. Closing again does nothing. Open scans end with an error."""

    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of one key; it survives the death of the process."""
        self.write(((key, value),))

    def delete(self, key: bytes) -> None:
        """Deletes one key; an absent one is no error."""
        self.write(((key, None),))

    def delete_range(self, lower: bytes, upper: bytes | None) -> None:
        """Deletes [lower, upper), all or none."""
        self.write((RangeDeletion(lower, upper),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def prefix_end(prefix: bytes) -> bytes | None:
    """Returns the smallest bytes above all that begin with `prefix`, None if there are none.

    None is what `range` takes for an open end: right for b"" and for a prefix of 0xFF only.
    """
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None


def first_key_after(key: bytes) -> bytes:
    """Returns the smallest key above `key`."""
    return key + b"\0"


def first_chunk(limit: int | None, chunk_count: int) -> int:
    """Returns how many rows a scan reads at first: no more than it may give, but one."""
    return chunk_count if limit is None else max(1, min(limit, chunk_count))


def settle(
    changes: Iterable[AnyChange],
) -> tuple[Sequence[RangeDeletion], dict[bytes, bytes | None]]:
    """Brings the changes of one write into a form in which order no longer matters.

    Returns:
        The ranges to delete, and behind them the last change of each key that a later range
        does not delete again. A byte store deletes the ranges first and then writes the rows.
    """
    if not isinstance(changes, list | ItemsView):
        changes = list(changes)
    with suppress(TypeError):
        return (), dict(changes)  # type: ignore[arg-type]  # fails where there is a range
    ranges: list[RangeDeletion] = []
    rows: dict[bytes, bytes | None] = {}
    for change in changes:
        if isinstance(change, RangeDeletion):
            lower, upper = change.lower, change.upper
            ranges.append(change)
            for key in [key for key in rows if lower <= key and (upper is None or key < upper)]:
                del rows[key]
        else:
            rows[change[0]] = change[1]
    return ranges, rows
