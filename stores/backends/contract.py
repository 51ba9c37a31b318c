"""What any byte store must do: the contract between a store's layers and its bytes.

Owns the abstract class and the words its guarantees are stated in. A backend must not know
what its bytes mean, nor who writes them. `stores.testing` has the suite that proves one.

Order is that of unsigned bytes. Ranges are half-open, `[lower, upper)`; None leaves a side
open. An empty value is a value, not an absence.

Source: storage-tiers D1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeAlias

Row: TypeAlias = tuple[bytes, bytes]
"""(key, value)."""

Change: TypeAlias = tuple[bytes, bytes | None]
"""(key, new value), None deletes the row."""


class ByteStore(ABC):
    """An ordered map from bytes to bytes.

    One thread writes. Reads may come from any thread at any time: `get` sees a batch whole
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
    def put(self, key: bytes, value: bytes) -> None:
        """Sets the value of a key."""

    @abstractmethod
    def delete(self, key: bytes) -> None:
        """Deletes a key; an absent one is no error."""

    @abstractmethod
    def range(
        self, lower: bytes | None = None, upper: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`.

        The scan is a view of one moment, that of the call. What it holds is released when it
        is exhausted or its `close()`, if it has one, is called.
        """

    @abstractmethod
    def write_batch(self, changes: Iterable[Change], *, durable: bool = False) -> None:
        """Applies changes in order, all or none; the last of one key wins.

        Args:
            changes: what to put, and with None what to delete.
            durable: return only when the batch would survive a loss of power. Without it,
                a persistent store's batch survives the death of the process.
        """

    def prepare(self, changes: Iterable[Change], note: bytes) -> bool:
        """Keeps changes aside, which the next `write_batch` will bring or give up.

        That one takes them away in the step in which it writes. After a crash in between, who
        knows what became of the commit reads them with `prepared` and decides.

        Returns:
            Whether it keeps them; a backend whose rows do not outlive the process need not.
        """
        return False

    def prepared(self) -> tuple[bytes, list[Change]] | None:
        """Returns note and changes that were kept aside, None where there are none."""
        return None

    def write_noted(self, changes: Iterable[Change], note: bytes) -> None:
        """Applies changes as `write_batch`, and in the same step keeps a note beside the rows.

        A backend whose rows do not outlive the process need not keep it.

        Args:
            changes: what to put, and with None what to delete; there may be none.
            note: what `note` returns from then on.
        """
        self.write_batch(changes)

    def note(self) -> bytes | None:
        """Returns the note that was kept with the last changes, None where there is none."""
        return None

    def restore(self, changes: Iterable[Change]) -> None:
        """Applies changes as `write_batch`, for whoever can get them again.

        They may be lost when the process dies, until the next durable flush or batch. A
        backend may take them faster in the order of keys.
        """
        self.write_batch(changes)

    @abstractmethod
    def delete_range(self, lower: bytes, upper: bytes) -> None:
        """Deletes [lower, upper), atomically."""

    @abstractmethod
    def approximate_count(self) -> int:
        """Estimates the number of rows; exact where that is cheap."""

    @abstractmethod
    def flush(self, *, durable: bool = False) -> None:
        """Hands earlier writes to the operating system; `durable` waits for the disk."""

    @abstractmethod
    def close(self) -> None:
        """Releases the store. Closing again does nothing. Open scans end with an error."""

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
