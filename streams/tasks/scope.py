"""The scope in which the operators of one task are compiled.

Owns what operators get from their task: stores, the handling of failures, counters of dropped
records, ends of chains, stream time, wall clock, timers, and what operators share. If an operator
asks for stream time, as every user's processor does, the task keeps it up to date record by record,
which is slower. It must not know where records come from or when a commit happens.

Source: JVM `ProcessorContextImpl`, `StreamTask.schedule`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from thalweg.stores.api import TaskStore
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import CurrentRecord
from thalweg.stores.serde import Serde
from thalweg.streams.config import StreamsConfig
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.context import FixedKeyContext, TaskProcessorContext
from thalweg.streams.tasks.drops import (
    REASONS,
    UNCOUNTED_BY_JVM,
    DropReason,
    Drops,
    shown_key,
)
from thalweg.streams.tasks.failures import FailurePolicy, out_of_carriers
from thalweg.streams.tasks.offsets import Offsets
from thalweg.streams.tasks.punctuation import PunctuationQueue, Punctuator, Schedule
from thalweg.streams.tasks.task import TaskId
from thalweg.topology.operators.operator import (
    Failed,
    Late,
    LeftOut,
    Process,
    StreamProcess,
)
from thalweg.topology.operators.propagation import Propagation
from thalweg.topology.operators.returned import refuse_result
from thalweg.topology.physical import SinkNode
from thalweg.topology.processor import PunctuationType

T = TypeVar("T")

_EMIT_INTERVAL_MS: Final = 1_000
"""How long a join of streams waits between looks for closed windows, as the JVM's does."""


class OperatorScope:
    """The scope of one task's operators.

    Args:
        id: the task.
        config: the application's settings.
        directory: the task's own directory.
        current: the task's current record.
        now_ms: the wall clock.
        cache: the worker's record cache, None when caching is off.
        collector: the sending side.
        policy: what to do with records that fail.
        stores: the task's stores; what is opened later is found as well.
        offsets: the task's offsets, which keep the operators' own times.
        global_store: finds a global store by name, None where there is none.

    Attributes:
        stream_time_ms: the highest timestamp of the task, -1 before the first record. Between two
            runs of records only, unless `keeps_stream_time`.
        keeps_stream_time: whether an operator has asked for stream time.
        commit_requested: whether user code has asked for a commit.
        starters: (operator, what to run once all are compiled).
        closers: (operator, what to run when the task closes).
    """

    def __init__(
        self,
        id: TaskId,
        *,
        config: StreamsConfig,
        directory: Path,
        current: CurrentRecord,
        now_ms: Callable[[], int],
        cache: RecordCache | None,
        collector: RecordCollector,
        policy: FailurePolicy,
        stores: Mapping[str, TaskStore],
        offsets: Offsets,
        global_store: Callable[[str], TaskStore | None],
    ) -> None:
        self.task_id = str(id)
        self.partition = id.partition
        self.application_id: str = config.application_id
        self.config = config
        self.directory = directory
        self.current = current
        self.now_ms = now_ms
        self.propagation = Propagation(cache)
        self.offsets = offsets
        self.global_store = global_store
        self.stream_time_ms = -1
        self.keeps_stream_time = False
        self.commit_requested = False
        self.stream_punctuations = PunctuationQueue()
        self.wall_punctuations = PunctuationQueue()
        self.dropped_records: Counter[DropReason] = Counter()
        self.starters: list[tuple[str, Callable[[], None]]] = []
        self.closers: list[tuple[str, Callable[[], None]]] = []
        self._collector = collector
        self._policy = policy
        self._stores = stores
        self._shared: dict[Hashable, Any] = {}

    def begin(self) -> None:
        """Forgets what operators have asked for: they are about to be compiled."""
        self.starters.clear()
        self.closers.clear()
        self._shared.clear()
        self.stream_punctuations = PunctuationQueue()
        self.wall_punctuations = PunctuationQueue()
        self.keeps_stream_time = False

    # -- time ----------------------------------------------------------------------------

    @property
    def outer_join_emit_interval_ms(self) -> int:
        """How long of the wall clock a join of streams waits between looks for closed windows."""
        given = self.config.outer_join_emit_interval_ms
        return _EMIT_INTERVAL_MS if given is None else given

    @property
    def window_emit_interval_ms(self) -> int:
        """How long of the wall clock lies between two looks for windows that have closed."""
        given = self.config.window_emit_interval_ms
        return _EMIT_INTERVAL_MS if given is None else given

    def stream_time(self) -> Callable[[], int]:
        """Returns the function that reads stream time: the highest timestamp of the task so far.

        Asking makes the task keep it record by record. Ask while the operator is compiled.
        """
        self.keeps_stream_time = True
        return lambda: self.stream_time_ms

    def schedule(
        self,
        node: str,
        interval_ms: int,
        type: PunctuationType,
        callback: Punctuator,
        start_ms: int | None = None,
    ) -> Schedule:
        """Calls `callback` every `interval_ms` of stream time or wall clock.

        Args:
            node: the operator that asks. For stream time it does so while it is compiled, or has
                asked for `stream_time` then; asked later, time is kept from the next run of
                records on, and what was due before is called then.
            interval_ms: at least 1.
            type: which time drives it.
            callback: gets the current time of that kind, not the planned one.
            start_ms: when the first call is due, and where the grid begins. Without it that is 0
                of stream time, or one interval from now.
        """
        if type is PunctuationType.STREAM_TIME:
            self.keeps_stream_time = True
            queue, due_ms = self.stream_punctuations, start_ms or 0
        else:
            queue, now_ms = self.wall_punctuations, self.now_ms()
            if start_ms is None:
                due_ms = now_ms + interval_ms
            elif start_ms >= now_ms:
                due_ms = start_ms
            else:
                due_ms = start_ms + -(-(now_ms - start_ms) // interval_ms) * interval_ms
        schedule = Schedule(node, due_ms, interval_ms, callback)
        queue.add(schedule)
        return schedule

    def punctuate_stream_time(self) -> bool:
        """Runs the stream-time punctuations that are due; tells whether any was."""
        return self.stream_punctuations.run_due(self.stream_time_ms, self._punctuate)

    def punctuate_wall_clock(self, now_ms: int) -> bool:
        """Runs the wall-clock punctuations that are due; tells whether any was."""
        return self.wall_punctuations.run_due(now_ms, self._punctuate)

    def _punctuate(self, schedule: Schedule, now_ms: int) -> None:
        with self.current.saved():
            self.current.leave(now_ms)
            try:
                result: object = schedule.callback(now_ms)
                if result is not None:
                    refuse_result("a punctuator", result)
            except Exception as error:
                with out_of_carriers():
                    self._policy.processing_failed(self, schedule.node, error, None, None, now_ms)

    def keep_time(self, name: str, read: Callable[[], int]) -> int:
        """Keeps an operator's own stream time over restarts, and where the task moves."""
        return self.offsets.keep_time(name, read)

    def keep_emitted(self, name: str, read: Callable[[], int]) -> int:
        """Keeps how far an operator has sent on what it sends once, over restarts and moves."""
        return self.offsets.keep_emitted(name, read)

    # -- what operators share ------------------------------------------------------------

    def shared(self, name: Hashable, make: Callable[[], T]) -> T:
        """Returns what operators of the task share by a name; the first to ask makes it."""
        if name not in self._shared:
            self._shared[name] = make()
        made: T = self._shared[name]
        return made

    def processor_context(
        self, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> TaskProcessorContext:
        """Returns the Processor API context of one operator; it asks for stream time."""
        return TaskProcessorContext(self, node, children, stores)

    def fixed_key_context(
        self, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> FixedKeyContext:
        """Returns the context of a processor that cannot change keys; it asks for stream time."""
        return FixedKeyContext(self, node, children, stores)

    def on_start(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` when all operators are compiled."""
        self.starters.append((node, action))

    def on_close(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` when the task closes."""
        self.closers.append((node, action))

    # -- stores, failures, records left out, ends of chains ------------------------------

    def key_serde(self, given: Serde[Any] | None) -> Serde[Any]:
        """Returns the serde that was given, or the application's default for keys."""
        return given or self.config.default_key_serde

    def value_serde(self, given: Serde[Any] | None) -> Serde[Any]:
        """Returns the serde that was given, or the application's default for values."""
        return given or self.config.default_value_serde

    def store(self, name: str) -> Any:
        """Returns a store of this task, or a global one."""
        found = self._stores.get(name) or self.global_store(name)
        if found is None:
            known = ", ".join(sorted(self._stores)) or "none"
            message = f"task {self.task_id} has no store {name!r}; its stores: {known}"
            raise StreamsError(message, task_id=self.task_id)
        return found

    def failure_handler(self, node: str) -> Failed:
        """Returns what operators call when user code raised."""
        return partial(self._policy.processing_failed, self, node)

    def drop_counter(self, node: str) -> StreamProcess:
        """Returns a function that counts a record dropped for a key or value of None."""
        no_key, no_value = self._dropper(node, "null-key"), self._dropper(node, "null-value")

        def drop(key: Any, _value: Any, timestamp: int) -> None:
            if key is None:
                no_key(key, timestamp)
            else:
                no_value(key, timestamp)

        return drop

    def ungrouped_counter(self, node: str) -> StreamProcess:
        """Returns a function that counts a record dropped because its group key is None."""
        drop = self._dropper(node, "null-group-key")
        return lambda key, _value, timestamp: drop(key, timestamp)

    def late_counter(self, node: str) -> Late:
        """Returns a function that counts a record which came after its window was closed."""
        return self._dropper(node, "late")

    def left_out_counter(self, node: str, reason: str) -> LeftOut:
        """Returns a function that counts a record left out for any of the known reasons."""
        assert reason in REASONS
        return self._dropper(node, reason)

    def _dropper(self, node: str, reason: DropReason) -> Callable[..., None]:
        """Returns drop(key, timestamp, window end, stream time), all but the first two optional."""
        drops, counts = self._policy.drops, self.dropped_records
        site = drops.site(node, reason)

        def drop(key: Any, timestamp: int, end: int = -1, stream_time: int = -1) -> None:
            counts[reason] += 1
            site.count += 1
            if site.sample is None:
                told = [f"key {shown_key(key)}", f"timestamp {timestamp}"]
                if end >= 0:
                    told += [f"window end {end}", f"stream time {stream_time}"]
                drops.keep_sample(site, self.task_id, self.current, told)

        return drop

    def drop(self, node: str, reason: DropReason, *told: str) -> None:
        """Counts the current record as left out.

        Args:
            node: who leaves it out.
            reason: why.
            told: what to tell of it, beside where it came from.
        """
        drops = self._policy.drops
        self.dropped_records[reason] += 1
        site = drops.site(node, reason)
        site.count += 1
        if site.sample is None:
            drops.keep_sample(site, self.task_id, self.current, told)

    @property
    def dropped_records_total(self) -> int:
        """Records left out, as the JVM counts them: without those that a grouping leaves out."""
        counts = self.dropped_records
        return sum(counts.values()) - counts[UNCOUNTED_BY_JVM]

    @property
    def drops(self) -> Drops:
        """What all tasks of the worker left out."""
        return self._policy.drops

    def sink(self, node: SinkNode) -> Process:
        """Returns the function that sends what reaches a sink."""
        return self._collector.sink(self, node)
