"""What typed stores need of the rows below: buffered writes, merged reads.

Owns the contract of row stores, and how sorted changes are laid over sorted rows. It must not
know what keeps rows, nor keys, values or windows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from operator import itemgetter
from typing import Final, Protocol

from thalweg.stores.errors import StoreClosedError

Row = tuple[bytes, bytes]
Change = tuple[bytes, bytes | None]


class RowStore(Protocol):
    """What the typed layers need from the bytes below: buffered writes, merged reads."""

    @property
    def name(self) -> str:
        """The store's name."""

    @property
    def persistent(self) -> bool:
        """Whether rows outlive the process."""

    @property
    def is_open(self) -> bool:
        """Whether the store can be used."""

    @property
    def get(self) -> Callable[[bytes], bytes | None]:
        """Reads one row; any thread may call it."""

    @property
    def put(self) -> Callable[[bytes, bytes | None], None]:
        """Writes one row, None deletes."""

    def scan(
        self, lower: bytes | None, upper: bytes | None, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans the half-open range [lower, upper); for the worker only."""

    def snapshot(
        self, lower: bytes | None, upper: bytes | None, reverse: bool = False
    ) -> Iterator[Row]:
        """Scans as `scan`; any thread may call it."""

    def approximate_count(self) -> int:
        """Estimates the number of rows."""

    def apply(self, *, durable: bool, note: bytes | None = None) -> None:
        """Moves pending writes to where they last, in one step with a note if there is one."""

    def note(self) -> bytes | None:
        """Returns the note of the last `apply` that had one."""

    def prepare(self, note: bytes) -> None:
        """Keeps pending writes where they last, if not as rows: only `apply` makes them that."""

    def prepared(self) -> bytes | None:
        """Returns the note of writes that were prepared and not applied before a crash."""

    def settle(self, *, is_committed: bool) -> None:
        """Makes rows of the writes that `prepared` speaks of, or gives them up."""

    def restore(self, batch: Iterable[Change]) -> None:
        """Writes committed rows, bypassing the buffer."""

    def close(self) -> None:
        """Releases the store; pending writes are lost."""


class ExpiringRowStore(RowStore, Protocol):
    """A row store that can forget its lowest rows."""

    @property
    def apply_count(self) -> int:
        """How often pending writes were moved to where they last."""

    def expire_below(self, upper: bytes) -> None:
        """Deletes, on the next `apply`, every row whose key is below `upper`."""


def closed(name: str) -> StoreClosedError:
    """Makes the error of a store used after it was closed."""
    return StoreClosedError(f"store '{name}' is closed; ask the application for it again")


_key_of: Final = itemgetter(0)


def within(
    items: Iterable[Change], lower: bytes | None, upper: bytes | None, reverse: bool
) -> list[Change]:
    """Sorts the items whose key lies in [lower, upper)."""
    found = [
        item
        for item in items
        if (lower is None or item[0] >= lower) and (upper is None or item[0] < upper)
    ]
    found.sort(key=_key_of, reverse=reverse)
    return found


def merge(base: Iterator[Row], overlay: list[Change], reverse: bool) -> Iterator[Row]:
    """Lays sorted changes over sorted rows: a change hides its key's row, None deletes it."""
    return _merged(base, overlay, reverse) if overlay else base


def _merged(
    base: Iterator[Row], overlay: list[Change], reverse: bool
) -> Generator[Row, None, None]:
    try:
        changes = iter(overlay)
        change = next(changes, None)
        for row in base:
            key = row[0]
            while change is not None and (change[0] > key if reverse else change[0] < key):
                if change[1] is not None:
                    yield change[0], change[1]
                change = next(changes, None)
            if change is not None and change[0] == key:
                if change[1] is not None:
                    yield key, change[1]
                change = next(changes, None)
            else:
                yield row
        while change is not None:
            if change[1] is not None:
                yield change[0], change[1]
            change = next(changes, None)
    finally:
        release = getattr(base, "close", None)
        if release is not None:
            release()
