"""The faces of session stores: what users call.

Owns the abstract classes a user types against. It must not know how a store is built, which
layers it has or what keeps its bytes.

Source: JVM `ReadOnlySessionStore`, `SessionStore`; kafka-streams reference A9.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from thalweg.stores.api import (
    KeyValueIterator,
    Readable,
    StateStore,
    StoreIterator,
    first_part,
    mapped_rows,
)
from thalweg.stores.record import Headers
from thalweg.stores.windowed import Windowed

K = TypeVar("K")
V = TypeVar("V")


class AggregationWithHeaders(NamedTuple, Generic[V]):
    """A session's aggregate and the headers of its record.

    Attributes:
        aggregation: the aggregate, never None: a store has no row instead.
        headers: the headers.
    """

    aggregation: V
    headers: Headers


class ReadOnlySessionStore(Readable[Windowed[K], V]):
    """Reads of a session store: rows are found by key and session.

    Times are in milliseconds, and all ends of ranges are included, as both ends of a session
    are. Sessions whose end is older than the retention, as seen from the newest end put so far,
    are not returned.

    It reads as a dict of `Windowed` keys does: `store[windowed]`, `windowed in store`,
    `store.items()`. `len(store)` counts by a scan.
    """

    @abstractmethod
    def fetch_session(self, key: K, start_ms: int, end_ms: int) -> V | None:
        """Returns the value of one session, None when there is no such session."""

    def __getitem__(self, session: Windowed[K]) -> V:
        value = self._value(session)
        if value is None:
            message = f"store {self.name!r} has no session {session}{self._where}"
            raise KeyError(message)
        return value

    def __contains__(self, session: object) -> bool:
        return self._value(session) is not None

    def __reversed__(self) -> StoreIterator[Windowed[K]]:
        return mapped_rows(self.backward_all(), first_part)

    def __repr__(self) -> str:
        return f"<session store {self.name!r}, read only>"

    def _value(self, session: Any) -> V | None:
        if isinstance(session, Windowed):
            return self.fetch_session(session.key, session.window.start_ms, session.window.end_ms)
        message = (
            f"store {self.name!r} finds a row by key and session: ask for store[windowed], or "
            f"for all sessions of a key by store.fetch(key); got {session!r}"
        )
        raise TypeError(message)

    @abstractmethod
    def fetch(self, key: K) -> KeyValueIterator[Windowed[K], V]:
        """Scans a key's sessions, oldest first."""

    @abstractmethod
    def backward_fetch(self, key: K) -> KeyValueIterator[Windowed[K], V]:
        """Scans a key's sessions, newest first."""

    @abstractmethod
    def fetch_range(self, lower: K | None, upper: K | None) -> KeyValueIterator[Windowed[K], V]:
        """Scans the sessions of a range of keys, both ends included, None leaves one open."""

    @abstractmethod
    def backward_fetch_range(
        self, lower: K | None, upper: K | None
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `fetch_range`, in reverse."""

    @abstractmethod
    def find_sessions(
        self, key: K, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans a key's sessions that a span of time touches, oldest first.

        Args:
            key: the key.
            earliest_end_ms: sessions that end before it are left out.
            latest_start_ms: sessions that start after it are left out.
        """

    @abstractmethod
    def backward_find_sessions(
        self, key: K, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `find_sessions`, newest first."""

    @abstractmethod
    def find_sessions_range(
        self, lower: K | None, upper: K | None, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `find_sessions` a range of keys; None leaves one end open."""

    @abstractmethod
    def backward_find_sessions_range(
        self, lower: K | None, upper: K | None, earliest_end_ms: int, latest_start_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans as `find_sessions_range`, in reverse."""

    @abstractmethod
    def find_ended(
        self, earliest_end_ms: int, latest_end_ms: int
    ) -> KeyValueIterator[Windowed[K], V]:
        """Scans the sessions of all keys that end between two times, both included."""

    @abstractmethod
    def all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live session."""

    @abstractmethod
    def backward_all(self) -> KeyValueIterator[Windowed[K], V]:
        """Scans every live session, in reverse."""


class SessionStore(StateStore, ReadOnlySessionStore[K, V]):
    """Values by key and session, kept for a retention time."""

    def __setitem__(self, session: Windowed[K], value: V) -> None:
        self.put(session, value)

    def __delitem__(self, session: Windowed[K]) -> None:
        if session not in self:
            message = f"store {self.name!r} has no session {session}"
            raise KeyError(message)
        self.remove(session)

    def __repr__(self) -> str:
        return f"<session store {self.name!r}>"

    @abstractmethod
    def put(self, session: Windowed[K], value: V | None) -> None:
        """Sets the value of a session; None deletes it."""

    @abstractmethod
    def remove(self, session: Windowed[K]) -> None:
        """Deletes a session; does nothing if there is none."""


class SessionStoreWithHeaders(SessionStore[K, AggregationWithHeaders[V]]):
    """A session store whose values have the headers of their record."""
