"""A part of a byte store that is a byte store by itself.

Owns the prefix of its rows' keys. Several namespaces share one store without seeing each other's
rows. So rows of different kinds are in one database, and one write can change several namespaces
atomically. It must not know the other namespaces.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator

from thalweg.stores.bytes.contract import (
    AnyChange,
    ByteStore,
    ByteView,
    RangeDeletion,
    Row,
    Sync,
    prefix_end,
)
from thalweg.stores.errors import StoreClosedError


class Namespace(ByteStore):
    """The rows of a byte store whose keys begin with a prefix; the prefix is not seen.

    Prefixes of one store must not begin with each other: end each with a byte that none of
    them contains, or give all the same length. A namespace is as persistent and as durable as
    the store below, `flush` flushes all of it, and whoever may write to one of its namespaces
    at a time is the one writer of them all.

    Args:
        store: the store below; it stays open when the namespace is closed.
        prefix: what all keys begin with, at least one byte.
        name: the name for messages; None for the name of the store below and the prefix.

    Raises:
        ValueError: the prefix is empty.
    """

    def __init__(self, store: ByteStore, prefix: bytes, name: str | None = None) -> None:
        if not prefix:
            message = f"a namespace of store '{store.name}' needs a prefix of at least one byte"
            raise ValueError(message)
        self._store = store
        self._prefix = prefix
        self._end = prefix_end(prefix)
        self._name = f"{store.name}/{prefix!r}" if name is None else name
        self._is_open = True

    @property
    def name(self) -> str:
        """The namespace's name, for messages."""
        return self._name

    @property
    def persistent(self) -> bool:
        """Whether rows outlive the process."""
        return self._store.persistent

    @property
    def is_open(self) -> bool:
        """Whether the namespace can be used: neither it nor the store below is closed."""
        return self._is_open and self._store.is_open

    @property
    def below(self) -> ByteStore:
        """The store in which its rows stand."""
        return self._store

    def key(self, key: bytes) -> bytes:
        """Returns where a row stands in the store below, for writes over several namespaces."""
        return self._prefix + key

    def changes(self, changes: Iterable[AnyChange]) -> list[AnyChange]:
        """Returns changes of this namespace as changes of the store below.

        Raises:
            StoreClosedError: the namespace, or the store below, is closed.
        """
        self._check_open()
        prefix = self._prefix
        found: list[AnyChange] = []
        for change in changes:
            if isinstance(change, RangeDeletion):
                upper = self._end if change.upper is None else prefix + change.upper
                found.append(RangeDeletion(prefix + change.lower, upper))
            else:
                found.append((prefix + change[0], change[1]))
        return found

    def get(self, key: bytes) -> bytes | None:
        """Returns the value of a key, None where there is none."""
        return self._below().get(self._prefix + key)

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans [lower, upper), in falling order with `reverse`, at most `limit` rows."""
        first, end = self._bounds(lower, upper)
        rows = self._below().range(first, end, reverse=reverse, limit=limit)
        return self._stripped(rows, self._check_open)

    def view(self) -> ByteView:
        """Opens a view: reads by key and scans of this very moment, as long as it is open."""
        return _NamespaceView(self, self._below().view())

    def write(self, changes: Iterable[AnyChange], *, sync: Sync = Sync.PROCESS) -> None:
        """Applies changes in order, all or none; the last of one key wins."""
        self._store.write(self.changes(changes), sync=sync)

    def approximate_count(self) -> int:
        """Counts the rows, exactly, by a scan of them all."""
        return sum(1 for _ in self.range())

    def flush(self) -> None:
        """Flushes the store below, with all that stands in it."""
        self._below().flush()

    def close(self) -> None:
        """Ends the namespace; the store below stays open. Closing again does nothing."""
        self._is_open = False

    def _below(self) -> ByteStore:
        self._check_open()
        return self._store

    def _check_open(self) -> None:
        if not self.is_open:
            message = f"store '{self._name}' is closed; open it again"
            raise StoreClosedError(message)

    def _bounds(self, lower: bytes | None, upper: bytes | None) -> tuple[bytes, bytes | None]:
        first = self._prefix if lower is None else self._prefix + lower
        return first, self._end if upper is None else self._prefix + upper

    def _stripped(
        self, rows: Iterator[Row], check_open: Callable[[], None]
    ) -> Generator[Row, None, None]:
        skipped = len(self._prefix)
        try:
            for key, value in rows:
                check_open()
                yield key[skipped:], value
        finally:
            release = getattr(rows, "close", None)
            if release is not None:
                release()
        check_open()


class _NamespaceView(ByteView):
    """A view of a namespace.

    Args:
        namespace: whose rows it shows.
        view: the view of the store below; closed with this one.
    """

    def __init__(self, namespace: Namespace, view: ByteView) -> None:
        self._namespace = namespace
        self._view = view

    def get(self, key: bytes) -> bytes | None:
        """Returns the value a key had then, None where there was none."""
        self._namespace._check_open()  # noqa: SLF001 - the view is part of the namespace
        return self._view.get(self._namespace.key(key))

    def range(
        self,
        lower: bytes | None = None,
        upper: bytes | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Scans the rows there were then."""
        namespace = self._namespace
        namespace._check_open()  # noqa: SLF001
        first, end = namespace._bounds(lower, upper)  # noqa: SLF001
        rows = self._view.range(first, end, reverse=reverse, limit=limit)
        return namespace._stripped(rows, namespace._check_open)  # noqa: SLF001

    def close(self) -> None:
        """Lets go of the moment. Closing again does nothing."""
        self._view.close()
