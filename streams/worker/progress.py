"""The progress of a worker while it runs.

Owns only the values: its progress, and who is told of its state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from thalweg.streams.worker.assignment import WorkerState

WorkerListener = Callable[[WorkerState, WorkerState], None]
"""Hears of a worker's state: (new, old), in the worker's thread."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has done so far.

    Attributes:
        state: where it is in its life.
        running_tasks: how many tasks process.
        restoring_tasks: how many tasks are still being restored.
        processed_records: records processed since the start.
        restored_records: changelog records restored since the start.
        remaining_restore_records: changelog offsets still to go.
        commits: commits since the start.
        lag_records: records in the log that are not processed yet, as far as known.
        is_idle: whether everything is processed and committed: the last two commits found
            nothing left, and there was nothing to do between them.
        dropped_records: reason -> records left out since the start, of reasons that occurred.
    """

    state: WorkerState
    running_tasks: int
    restoring_tasks: int
    processed_records: int
    restored_records: int
    remaining_restore_records: int
    commits: int
    lag_records: int
    is_idle: bool
    dropped_records: Mapping[str, int] = field(default_factory=dict)
