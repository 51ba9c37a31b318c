"""A task for stores under test: a host that keeps the changelog in a list.

Owns the fake of `StoreHost`: a current-record cell that tests move, the log, and a record
cache of any size. It must not know what kind of store it hosts.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from thalweg.stores.api import Log, RestoreRecord
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.record import CurrentRecord, HeaderList


class LoggedChange(NamedTuple):
    """A record a store sent to its changelog.

    Attributes:
        store: the store that logged it.
        key: the stored key.
        value: the value without its timestamp, None for a deletion.
        timestamp: the record's.
        headers: the record's, None where it has none.
    """

    store: str
    key: bytes
    value: bytes | None
    timestamp: int | None
    headers: HeaderList | None


class RecordingHost:
    """Hosts stores of one task.

    Args:
        directory: where stores keep their files.
        cache_bytes: budget of the record cache; None for none.

    Attributes:
        current: the cell that says which record is being processed.
        changes: what was logged, in order.
        expired: how many puts came too late.
    """

    task_id = "0_0"
    application_id = "app"

    def __init__(self, directory: Path, cache_bytes: int | None = None) -> None:
        self.directory = directory
        self.current = CurrentRecord()
        self.record_cache = None if cache_bytes is None else RecordCache(cache_bytes)
        self.changes: list[LoggedChange] = []
        self.expired = 0
        self.set_record(0)

    def set_record(
        self,
        timestamp: int,
        *,
        offset: int = 0,
        topic: str | None = "input",
        headers: HeaderList | None = None,
    ) -> None:
        """Makes a record the current one."""
        current = self.current
        current.timestamp = timestamp
        current.topic = topic
        current.partition = 0
        current.origin = (offset, headers) if headers else offset

    def changelog_topic(self, store_name: str) -> str:
        """Names the changelog topic of a store."""
        return f"{self.application_id}-{store_name}-changelog"

    def changelog(self, store_name: str) -> Log | None:
        """Returns the function that appends to `changes`."""

        def log(
            key: bytes, value: bytes | None, timestamp: int | None, headers: HeaderList | None
        ) -> None:
            self.changes.append(LoggedChange(store_name, key, value, timestamp, headers))

        return log

    def drop_expired(self, store_name: str) -> None:
        """Counts a put that came too late."""
        self.expired += 1

    def restore_records(self) -> list[RestoreRecord]:
        """Returns what was logged as it would be read back."""
        return [
            (
                change.timestamp or 0,
                change.key,
                change.value,
                (offset, change.headers) if change.headers else offset,
            )
            for offset, change in enumerate(self.changes)
        ]
