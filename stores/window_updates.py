"""The seam between operators and stores of windows and sessions, beside that of `stores.updates`.

Owns what an operator asks of such a store if it looks for the windows of a key, or for windows that
have closed. It must not know operators, serdes or caches.

Source: JVM `SessionStore`, `WindowStore` as their aggregations use them; DESIGN 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from thalweg.stores.known import KnownKeys, KnownRows
from thalweg.stores.updates import Forward, Materialized

Session = tuple[int, int, Any]
"""(end, start, value) of a session that was found."""


class SessionUpdates(Protocol):
    """What the operator that fills a session store uses, bound once per task.

    Changes are forwarded at once, or when the cache is flushed.
    """

    def known(self, key: Any, floor_ms: int) -> KnownRows[tuple[int, int]]:
        """Returns which sessions of a key there may be.

        Args:
            key: the key.
            floor_ms: an end; nobody will ask for sessions before it, but for exceptions.
        """
        ...

    def find(
        self,
        key: Any,
        known: KnownRows[tuple[int, int]],
        earliest_end_ms: int,
        latest_start_ms: int,
    ) -> Sequence[Session]:
        """Returns the sessions of a key, by end, then start.

        Args:
            key: the key.
            known: what `known` returned for it.
            earliest_end_ms: lowest end, included.
            latest_start_ms: highest start, included.
        """
        ...

    def remove(
        self, key: Any, known: KnownRows[tuple[int, int]], session: Session, timestamp: int
    ) -> None:
        """Deletes a session that was found.

        Args:
            key: the key.
            known: what `known` returned for it.
            session: as `find` returned it.
            timestamp: the time of the record that deletes it.
        """
        ...

    def write(
        self,
        key: Any,
        known: KnownRows[tuple[int, int]],
        end_ms: int,
        start_ms: int,
        value: Any,
        timestamp: int,
        floor_ms: int,
    ) -> None:
        """Writes a session.

        Args:
            key: the key.
            known: what `known` returned for it.
            end_ms: its end.
            start_ms: its start.
            value: its value; None deletes it.
            timestamp: the time of the record that writes it.
            floor_ms: as for `known`.
        """
        ...


class KeepsSessions(Protocol):
    """A store that keeps the sessions of an aggregation."""

    def sessions(self, forward: Forward | None, *, send_old: bool) -> SessionUpdates:
        """Returns what the operator uses that fills the store.

        Args:
            forward: takes the changes, with (key, end, start) as the key; None forwards nothing.
            send_old: whether changes carry the old value.
        """
        ...

    def find_ended(self, earliest_end_ms: int, latest_end_ms: int) -> Any:
        """Scans the sessions of all keys that end between two times, both included."""
        ...


class KeepsWindows(Materialized[Any], Protocol):
    """A store that keeps the windows of an aggregation."""

    def starts(self) -> KnownKeys[int]:
        """Returns what tells the operator that fills the store which windows a key may have."""
        ...

    def name_of(self, key: Any, /) -> Any:
        """Returns the key as `starts` knows it."""
        ...

    @property
    def keeps_key_decoded(self) -> bool:
        """Whether `starts` knows keys by themselves, so that nobody need ask `name_of`."""
        ...

    def fetch_all(self, from_ms: int, to_ms: int) -> Any:
        """Scans the windows of all keys that start between two times, both included."""
        ...
