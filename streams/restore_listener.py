"""The listener that is told how stores are restored.

Owns the calls and their meaning, and the rule that an error of a listener does not stop the
application. It must not know who restores, nor how.

Source: JVM `StateRestoreListener`, `DelegatingStateRestoreListener`; KIP-869 for the
suspended restoration.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from thalweg.streams.transport.port import TopicPartition

_log = logging.getLogger(__name__)


class RestoreListener:
    """Is told how the stores of this instance are restored; override the methods that you need.

    The methods are called for each partition of a store that a task has, even if there is nothing
    to restore. Global stores are included. Stores of standby tasks are not: they follow their
    changelogs and are never done. For the store of a source table with optimisation the partition
    is that of the source topic.

    All methods are called in the worker's thread, which waits meanwhile, so they must be fast. An
    exception is logged and changes nothing. Set the listener with `App.set_restore_listener`.
    """

    def on_restore_start(
        self, partition: TopicPartition, store: str, start_offset: int, end_offset: int
    ) -> None:
        """A store begins to be restored.

        Args:
            partition: the changelog partition, as (topic, partition).
            store: the store's name.
            start_offset: of the first record to be restored.
            end_offset: after the last; compaction may leave fewer records in between.
        """

    def on_batch_restored(
        self, partition: TopicPartition, store: str, next_offset: int, count: int
    ) -> None:
        """Some records were restored.

        Args:
            partition: the changelog partition, as (topic, partition).
            store: the store's name.
            next_offset: where restoration continues.
            count: the number of records, at least 1.
        """

    def on_restore_end(self, partition: TopicPartition, store: str, total: int) -> None:
        """A store is complete; its task starts when all of its stores are.

        Args:
            partition: the changelog partition, as (topic, partition).
            store: the store's name.
            total: how many records were restored.
        """

    def on_restore_suspended(self, partition: TopicPartition, store: str, total: int) -> None:
        """The task moves away or restarts before its store is complete.

        Args:
            partition: the changelog partition, as (topic, partition).
            store: the store's name.
            total: how many records were restored so far.
        """


NOBODY: Final = RestoreListener()
"""Hears, and does nothing."""


def tell(call: Callable[..., None], partition: TopicPartition, store: str, *numbers: int) -> None:
    """Calls a method of a listener; what it raises is logged."""
    try:
        call(partition, store, *numbers)
    except Exception:
        _log.exception("the restore listener failed at store %r of %s", store, partition)
