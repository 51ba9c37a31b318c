"""The identity of a task, and how its parts see it.

Source: JVM `TaskId`: its text form names directories and appears in errors and metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from thalweg.stores.api import TaskStore
from thalweg.stores.record import CurrentRecord
from thalweg.streams.config import StreamsConfig
from thalweg.streams.tasks.drops import DropReason
from thalweg.streams.tasks.offsets import Offsets
from thalweg.streams.tasks.punctuation import PunctuationQueue, Punctuator, Schedule
from thalweg.topology.processor import PunctuationType


class TaskId(NamedTuple):
    """Subtopology and partition; the text form is `<subtopology>_<partition>`."""

    subtopology: int
    partition: int

    def __str__(self) -> str:
        return f"{self.subtopology}_{self.partition}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Reads the text form.

        Raises:
            ValueError: the text is not two numbers around an underscore.
        """
        subtopology, separator, partition = text.partition("_")
        if not separator or not subtopology.isdecimal() or not partition.isdecimal():
            message = f"a task id looks like 0_1, got {text!r}"
            raise ValueError(message)
        return cls(int(subtopology), int(partition))


class TaskFace(Protocol):
    """A task as its chain, its sinks, its contexts and its failure policy see it: its scope."""

    task_id: str
    config: StreamsConfig
    current: CurrentRecord
    directory: Path
    offsets: Offsets
    stream_time_ms: int
    keeps_stream_time: bool
    commit_requested: bool
    now_ms: Callable[[], int]
    global_store: Callable[[str], TaskStore | None]
    stream_punctuations: PunctuationQueue

    def store(self, name: str) -> Any:
        """Returns a store of the task, or a global one."""
        ...

    def drop(self, node: str, reason: DropReason, *told: str) -> None:
        """Counts the current record as left out by a node."""
        ...

    def stream_time(self) -> Callable[[], int]:
        """Returns the function that reads stream time, which the task keeps from now on."""
        ...

    def schedule(
        self,
        node: str,
        interval_ms: int,
        type: PunctuationType,
        callback: Punctuator,
        start_ms: int | None = None,
    ) -> Schedule:
        """Calls `callback` every `interval_ms` of stream time or wall clock."""
        ...

    def punctuate_stream_time(self) -> bool:
        """Runs the stream-time punctuations that are due."""
        ...
