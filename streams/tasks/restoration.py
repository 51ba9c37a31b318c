"""Filling stores from their changelogs, in slices, while other tasks run.

Owns which changelog partition is read into which store, from which offset to which, and the
progress. It has its own reader. Each slice is bounded, so that the worker's loop continues. It must
not know when a task may start: it only reports that its stores are complete. It does not interpret
changelog records either; it passes them to the code that applies them.

A store with its own changelog reads to the end of it. A store whose changelog is a source topic
reads up to a limit, which its owner advances: later records are not processed yet.

Source: JVM `StoreChangelogReader`, `ProcessorStateManager`; kafka-streams A9, D19.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from thalweg.stores.api import TaskStore
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import RawRecord, record_offset
from thalweg.streams.restore_listener import NOBODY, RestoreListener, tell
from thalweg.streams.transport.port import Reader, TopicPartition, Transport

NO_END: Final = 1 << 62
"""Where the restoration of a standby task ends: nowhere, it follows the changelog."""


class Applier(Protocol):
    """Applies records of a changelog to a store."""

    def apply(self, records: Sequence[RawRecord]) -> None:
        """Applies records, in the order of the log."""

    def close(self) -> None:
        """Ends it: no more records come."""


@dataclass(slots=True)
class StoreRestoration:
    """One store on its way from a changelog partition.

    Attributes:
        task_id: the store's task.
        store: where records go.
        partition: where they come from.
        start_offset: where restoring began.
        position: the next record to come.
        end_offset: where it ends, `NO_END` to follow the changelog.
        restored: records applied so far.
        follows: whether it goes on behind `end_offset`, once that is moved.
        applier: applies records; None has the store take them byte for byte. Its owner
            closes it.
    """

    task_id: str
    store: TaskStore
    partition: TopicPartition
    start_offset: int
    position: int
    end_offset: int
    restored: int = 0
    follows: bool = False
    applier: Applier | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the store holds all there was; one that follows never is."""
        return self.is_at_end and not self.follows

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing to read before the end is moved."""
        return self.position >= self.end_offset

    @property
    def remaining(self) -> int:
        """How many offsets are left; compaction may leave fewer records."""
        return 0 if self.end_offset == NO_END else max(0, self.end_offset - self.position)


@dataclass(frozen=True, slots=True)
class RestorationProgress:
    """How far restoring is, of all stores of a worker.

    Attributes:
        stores: how many stores are not complete.
        restored_total: records restored since the worker began.
        remaining: offsets left.
    """

    stores: int
    restored_total: int
    remaining: int


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector away from a slice, which makes much and no cycles.

    It would look at all of it again and again, which cost a tenth of restoring.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _tell_of(one: StoreRestoration, call: Callable[..., None], *numbers: int) -> None:
    tell(call, one.partition, one.store.name, *numbers)


class Restorer:
    """Restores the stores of one worker. Not thread-safe; progress may be read anywhere.

    Args:
        transport: the worker's log.
        listener: hears of starts, batches, ends and suspensions.
    """

    def __init__(self, transport: Transport, listener: RestoreListener = NOBODY) -> None:
        self._transport = transport
        self._listener = listener
        self._reader: Reader | None = None
        self._by_partition: dict[TopicPartition, StoreRestoration] = {}
        self._by_task: dict[str, list[StoreRestoration]] = {}
        self._untold: list[Callable[[], None]] = []
        self.restored_total = 0

    def add(self, task_id: str, restorations: Iterable[StoreRestoration]) -> None:
        """Begins to restore the stores of a task.

        Raises:
            BrokerError: the log cannot be read; nothing is begun.
        """
        stores = list(restorations)
        begun = {one.partition: one for one in stores if not one.is_at_end}
        if begun:
            if self._reader is None:
                self._reader = self._transport.reader(in_bulk=True)
            self._reader.add({partition: one.position for partition, one in begun.items()})
        self._by_partition.update(begun)
        self._by_task[task_id] = stores
        for one in stores:
            end = max(one.start_offset, one.end_offset)
            _tell_of(one, self._listener.on_restore_start, one.start_offset, end)
            if one.is_complete:
                _tell_of(one, self._listener.on_restore_end, one.restored)

    def remove(self, task_id: str) -> list[StoreRestoration]:
        """Stops restoring a task's stores and returns how far they are."""
        stores = self._by_task.pop(task_id, [])
        left = [one for one in stores if self._by_partition.pop(one.partition, None) is not None]
        for one in left:
            _tell_of(one, self._listener.on_restore_suspended, one.restored)
        if left and self._reader is not None:
            self._reader.remove([one.partition for one in left])
        return stores

    def move_end(self, one: StoreRestoration, end_offset: int) -> None:
        """Lets a store that was added go on to a later offset.

        Raises:
            BrokerError: the log cannot be read; nothing is moved.
        """
        if end_offset <= one.end_offset:
            return
        if one.partition not in self._by_partition:
            if self._reader is None:
                self._reader = self._transport.reader(in_bulk=True)
            # What it read behind the old end was not applied: it is read again.
            self._reader.add({one.partition: one.position})
            self._by_partition[one.partition] = one
        one.end_offset = end_offset

    def of_task(self, task_id: str) -> list[StoreRestoration]:
        """Returns a task's stores that are being restored, for metrics."""
        return list(self._by_task.get(task_id, ()))

    def behind(self, one: StoreRestoration) -> int:
        """Returns how many offsets a store has to go, as far as known; any thread may ask.

        One that follows its changelog goes to the end that was last heard of.
        """
        reader = self._reader
        if one.end_offset != NO_END or reader is None:
            return one.remaining
        end = reader.last_end_offset(one.partition)
        return 0 if end is None else max(0, end - one.position)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being restored."""
        return not self._by_task

    def complete(self) -> list[str]:
        """Returns the tasks whose stores are all complete; they stay until removed."""
        return [
            task_id
            for task_id, stores in self._by_task.items()
            if all(one.is_complete for one in stores)
        ]

    def restore(self, most: int, timeout_ms: float) -> int:
        """Restores at most `most` records and returns how many it were.

        Raises:
            BrokerError: the log cannot be read.
            OffsetOutOfRangeError: a changelog lost what the checkpoint builds on.
        """
        reader = self._reader
        if reader is None or not self._by_partition:
            return 0
        try:
            with _no_collection():
                return self._restore(reader, most, timeout_ms)
        finally:
            untold, self._untold = self._untold, []
            for tell_one in untold:
                tell_one()

    def _restore(self, reader: Reader, most: int, timeout_ms: float) -> int:
        done = 0
        for partition, records in reader.poll(most, timeout_ms):
            one = self._by_partition[partition]
            # Records behind the end were written by ourselves or are none of this task's
            # past: they are not restored but left to the next reader.
            batch = records
            if reader.position(partition) > one.end_offset:
                batch = [record for record in records if record_offset(record) < one.end_offset]
            try:
                if one.applier is None:
                    one.store.restore(batch)
                else:
                    one.applier.apply(batch)
            except StreamsError as error:
                error.task_id = error.task_id or one.task_id
                raise
            count = len(batch)
            one.restored += count
            done += count
            if count:
                position = min(reader.position(partition), one.end_offset)
                told = self._listener.on_batch_restored
                self._untold.append(partial(_tell_of, one, told, position, count))
        self._settle(reader, list(self._by_partition.values()))
        self.restored_total += done
        return done

    def _settle(self, reader: Reader, stores: Collection[StoreRestoration]) -> None:
        """Takes over positions; compaction and transaction markers move them without records."""
        ended = []
        for one in stores:
            one.position = min(reader.position(one.partition), one.end_offset)
            if one.is_at_end:
                ended.append(one.partition)
                del self._by_partition[one.partition]
            if one.is_complete:
                told = self._listener.on_restore_end
                self._untold.append(partial(_tell_of, one, told, one.restored))
        if ended:
            reader.remove(ended)

    def progress(self) -> RestorationProgress:
        """Returns how far it is; any thread may ask."""
        left = list(self._by_partition.values())
        return RestorationProgress(
            len(left), self.restored_total, sum(one.remaining for one in left)
        )

    def close(self) -> None:
        """Releases the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._by_partition.clear()
        self._by_task.clear()
