"""An active task: it processes one subtopology on one partition.

Owns the scope in which its operators are compiled (`OperatorScope`), its stores (`TaskStores`) and
its offsets (`Offsets`), and feeds its buffered records to the compiled chains. It must not know
when to commit or what else the worker does. It reads no clock: `now_ms` is an argument.

Source: JVM `StreamTask`, `ProcessorStateManager`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from thalweg.stores.api import TaskStore
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import CurrentRecord, RawRecord, offset_of
from thalweg.streams.config import StreamsConfig
from thalweg.streams.error_handlers import error_name
from thalweg.streams.errors import ProcessingError
from thalweg.streams.tasks.chain import SourceRun
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.failures import FailurePolicy, carried_by, out_of_carriers
from thalweg.streams.tasks.offsets import Offsets
from thalweg.streams.tasks.partition_group import PartitionGroup, RecordQueue
from thalweg.streams.tasks.plan import TaskPlan
from thalweg.streams.tasks.scope import OperatorScope
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.tasks.task_stores import TaskStores
from thalweg.streams.transport.port import TopicPartition
from thalweg.topology.compiler import Chain, compile_chains
from thalweg.topology.physical import SourceNode

RUN_RECORDS = 1000
"""Most records taken from one partition before the choice is made anew: bounds how long a
commit or a wall-clock punctuation can be kept waiting by a deep buffer."""


class ActiveTask:
    """One processing task. Not thread-safe: its worker owns it.

    Args:
        id: subtopology and partition.
        plan: the graph's part to run.
        partitions: source topic in the log -> partitions of it that the task reads.
        config: the application's settings.
        collector: the sending side.
        policy: what to do with records that fail.
        cache: the worker's record cache, None when caching is off.
        directory: where its stores keep their files.
        now_ms: wall clock, asked when user code wants to know.
        global_store: finds a global store by name, None where there is none.
        current: the cell of the current record, where it is shared with another task.
    """

    def __init__(
        self,
        id: TaskId,
        plan: TaskPlan,
        partitions: Sequence[TopicPartition],
        *,
        config: StreamsConfig,
        collector: RecordCollector,
        policy: FailurePolicy,
        cache: RecordCache | None,
        directory: Path,
        now_ms: Callable[[], int],
        global_store: Callable[[str], TaskStore | None] = lambda _name: None,
        current: CurrentRecord | None = None,
    ) -> None:
        self.id = id
        self.task_id = str(id)
        self.config = config
        self.directory = directory
        self.current = CurrentRecord() if current is None else current
        self.plan = plan
        self.processed_records_total = 0
        self.restored_records_total = 0
        self.now_ms = now_ms
        self.offsets = Offsets()
        self.stores = TaskStores(
            id,
            plan,
            config=config,
            directory=directory,
            current=self.current,
            cache=cache,
            changelog=collector.changelog,
            drop_expired=lambda name: self.scope.drop(f"store {name}", "expired"),
        )
        self.scope = OperatorScope(
            id,
            config=config,
            directory=directory,
            current=self.current,
            now_ms=now_ms,
            cache=cache,
            collector=collector,
            policy=policy,
            stores=self.stores,
            offsets=self.offsets,
            global_store=global_store,
        )
        self._partitions = list(partitions)
        self._policy = policy
        self.global_store = global_store
        self._runs: dict[TopicPartition, SourceRun] = {}
        self._chains: Mapping[str, Chain] = {}
        self.group = PartitionGroup((), config.max_task_idle_ms)
        self.is_running = False
        self._is_set_up = False  # or being set up: then its processors are closed
        # Processing, punctuating or flushing broke off: only the last commit can be built on.
        self.is_torn = False
        self._keeps_time = False  # whether the loops of the sources do

    # -- life cycle ----------------------------------------------------------------------

    def compile(self, kept: Mapping[str, int] | None = None) -> None:
        """Compiles the chains; where that failed, it may be called again.

        Args:
            kept: what the task's operators kept with the last commit, see `Offsets.kept`.
        """
        self.offsets.keep(kept or {})
        self.scope.begin()
        try:
            self._chains = compile_chains(self.plan.topology, self.plan.node_names, self.scope)
        except StreamsError as error:
            error.task_id = error.task_id or self.task_id
            raise
        except Exception as error:
            message = f"a processor cannot be made: {error_name(error)}: {error}"
            raise ProcessingError(message, task_id=self.task_id) from error

    def start(
        self,
        partition_times: Mapping[TopicPartition, int] | None = None,
        has_more: Callable[[TopicPartition], bool] = lambda _partition: False,
        position: Callable[[TopicPartition], int] | None = None,
    ) -> None:
        """Sets user processors up and begins to take records.

        Args:
            partition_times: last known event time of each partition, from the committed
                metadata; stream time goes on from the latest of them.
            has_more: tells whether the log holds records of a partition that were not handed
                over yet; the task waits for those before it goes on with later ones.
            position: tells the offset up to which everything of a partition was handed over;
                None where only offsets of records count.
        """
        if position is not None:
            self.offsets.follow(position)
        times = partition_times or {}
        self.group = PartitionGroup((), self.config.max_task_idle_ms, has_more)
        for partition in self._partitions:
            self._open_queue(partition, times.get(partition, -1))
        self.current.topic, self.current.partition, self.current.origin = None, -1, None
        self._is_set_up = True
        for node, starter in self.scope.starters:
            try:
                with out_of_carriers():
                    starter()
            except Exception as error:
                raise self._of_node(node, "failed to be set up", error) from error
        self.is_running = True

    def add_partition(self, partition: TopicPartition, partition_time_ms: int = -1) -> None:
        """Takes up a partition of a topic that a source's pattern came to match.

        Args:
            partition: the partition.
            partition_time_ms: its last known event time, as for `start`.
        """
        self._partitions.append(partition)
        if self.is_running:
            self._open_queue(partition, partition_time_ms)

    def drop_partition(self, partition: TopicPartition) -> None:
        """Lets go of a partition of a topic that is gone, with its records and its offset."""
        self._partitions.remove(partition)
        self.offsets.drop(partition)
        if self._runs.pop(partition, None) is not None:
            self.group.close(partition)

    def _open_queue(self, partition: TopicPartition, partition_time_ms: int) -> None:
        # A topic that a source names is its own, whatever a pattern matches.
        chains = sorted(self._chains.values(), key=lambda one: one.source.pattern is not None)
        chain = next(one for one in chains if self._reads(one.source, partition.topic))
        self.offsets.open_time(partition, partition_time_ms)
        run = SourceRun(self.scope, chain, partition, self._policy)
        self.scope.stream_time_ms = max(self.scope.stream_time_ms, partition_time_ms)
        self._runs[partition] = run
        self.group.open(RecordQueue(partition, run))

    def _reads(self, source: SourceNode, topic: str) -> bool:
        if source.pattern is not None:
            return source.pattern.fullmatch(topic) is not None
        names = self.plan.topic_names
        return any(names.get(one, one) == topic for one in source.topics)

    def close(self) -> None:
        """Closes user processors and stores. What was not committed is forgotten."""
        self.is_running = False
        self.group.clear()
        first: Exception | None = None
        for node, closer in self.scope.closers if self._is_set_up else ():
            try:
                with out_of_carriers():
                    closer()
            except Exception as error:  # every processor gets its close
                first = first or self._of_node(node, "failed while it was closed", error)
                first.__cause__ = first.__cause__ or error
        self.scope.closers.clear()
        self.stores.close()
        if first is not None:
            raise first

    def _of_node(self, node: str, what: str, error: Exception) -> ProcessingError:
        message = error.message if isinstance(error, StreamsError) else str(error)
        return ProcessingError(
            f"the processor {what}: {error_name(error)}: {message}",
            task_id=self.task_id,
            node=node,
        )

    # -- records -------------------------------------------------------------------------

    @property
    def partitions(self) -> list[TopicPartition]:
        """The partitions this task reads."""
        return self._partitions

    def add(self, partition: TopicPartition, records: Sequence[RawRecord]) -> int:
        """Buffers records and returns how many of the partition wait now."""
        return self.group.add(partition, self._runs[partition].stamped(records))

    def process(self, now_ms: int, most: int = RUN_RECORDS) -> int:
        """Processes buffered records in timestamp order, at most `most`.

        Returns:
            How many were processed.

        Raises:
            StreamsError: a record failed and its handler said to stop; names task, topic,
                partition, offset and node.
        """
        self.is_torn = True
        if self.scope.keeps_stream_time is not self._keeps_time:
            self._keeps_time = self.scope.keeps_stream_time
            for run in self._runs.values():
                run.keep_time()
        group, move, done = self.group, self.offsets.move, 0
        ran: dict[SourceRun, Sequence[RawRecord]] = {}
        while done < most and group.is_ready(now_ms):
            taken = group.next_run(most - done)
            assert taken is not None
            queue, records = taken
            source: SourceRun = queue.source
            try:
                source.run(records)
            except StreamsError as error:
                failure = carried_by(error)
                self._locate(failure)
                raise failure  # noqa: B904 - it may be the same one; its cause stands in it
            except Exception as error:
                raise self._located(error) from error
            move(queue.partition, offset_of(records[-1][3]) + 1)
            count = len(records)
            source.records_total += count
            ran[source] = records
            done += count
        # An idle task holds on to no records.
        self.current.run = ()
        self.processed_records_total += done
        if ran:
            self._note_latency(ran, now_ms)
        if self._policy.drops.is_untold:
            self._policy.drops.tell(now_ms)
        self.is_torn = False
        return done

    def _note_latency(self, ran: Mapping[SourceRun, Sequence[RawRecord]], began_ms: int) -> None:
        """Notes how old records were at their turn: of each source's last run its two ends."""
        now_ms = self.now_ms()
        for source, records in ran.items():
            source.latency.note(began_ms - records[0][0], now_ms)
            source.latency.note(now_ms - records[-1][0], now_ms)

    @property
    def sources(self) -> list[SourceRun]:
        """The sources' entries, one per partition, for metrics."""
        return list(self._runs.values())

    def punctuate_wall_clock(self, now_ms: int) -> bool:
        """Runs the wall-clock punctuations that are due."""
        if now_ms < self.scope.wall_punctuations.next_due_ms:
            return False
        self.is_torn = True
        has_run = self.scope.punctuate_wall_clock(now_ms)
        self.is_torn = False
        return has_run

    def _locate(self, error: StreamsError) -> None:
        current = self.current
        error.task_id = error.task_id or self.task_id
        if error.topic is None and current.origin is not None:
            error.topic = current.topic
            error.partition = current.partition
            error.offset = current.offset()

    def _located(self, error: Exception) -> ProcessingError:
        located = ProcessingError(f"{error_name(error)}: {error}")
        self._locate(located)
        return located

    # -- commit --------------------------------------------------------------------------

    def flush_caches(self) -> None:
        """Pushes what caches hold downstream, see `TaskStores.flush_caches`."""
        self.is_torn = True
        self.stores.flush_caches()
        self.is_torn = False

    def committable(self) -> dict[TopicPartition, tuple[int, int]]:
        """Returns partition -> (next offset, partition time), where the group does not have it."""
        self.note_positions()
        return self.offsets.committable()

    def note_positions(self) -> None:
        """Counts offsets that are no records, see `Offsets.note_positions`."""
        self.offsets.note_positions(self.group.empty_partitions())

    def prepare(self) -> None:
        """Keeps rows aside that nothing could restore, see `TaskStores.prepare`."""
        if self.stores.prepares:
            offsets = {at: offset for at, (offset, _) in self.committable().items()}
            self.stores.prepare(offsets)

    def committed(self, *, durable: bool = False, notes: Mapping[str, bytes] | None = None) -> None:
        """Notes that the log holds everything up to now, and lets the stores write it.

        Args:
            durable: return only when the stores would survive a loss of power.
            notes: what stores keep beside their rows, in place of the task's own notes.
        """
        # A store restored from its source topic is as far as that was read.
        self.stores.note_processed(self.offsets.next)
        notes = self.stores.notes_of_refills(self.offsets) if notes is None else notes
        self.offsets.committed()
        self.scope.commit_requested = False
        self.stores.apply(durable=durable, notes=notes)
