"""An active task: one subtopology on one partition, processing.

Owns the task's stores, its compiled chains, its buffered records, its stream time and its
punctuations, and knows which offsets it has consumed. It is the scope nodes are compiled in
and the host its stores live with. It must not know when to commit or what else the worker
does, and it reads no clock: `now_ms` is handed in.

Source: JVM `StreamTask`, `ProcessorStateManager`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from thalweg.stores.api import Log, TaskStore
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import CurrentRecord, RawRecord, offset_of
from thalweg.streams.config import StreamsConfig
from thalweg.streams.error_handlers import error_name
from thalweg.streams.errors import ProcessingError
from thalweg.streams.tasks.chain import SourceRun
from thalweg.streams.tasks.collector import RecordCollector
from thalweg.streams.tasks.context import TaskProcessorContext
from thalweg.streams.tasks.drops import (
    UNCOUNTED_BY_JVM,
    DropReason,
    Drops,
    shown_key,
)
from thalweg.streams.tasks.failures import FailurePolicy
from thalweg.streams.tasks.partition_group import PartitionGroup, RecordQueue
from thalweg.streams.tasks.plan import TaskPlan
from thalweg.streams.tasks.punctuation import PunctuationQueue, Schedule
from thalweg.streams.tasks.store_notes import RefillNote, packed_offsets
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import TopicPartition
from thalweg.topology.compiler import Chain, compile_chains
from thalweg.topology.operators.operator import (
    Failed,
    Late,
    Process,
    StreamProcess,
)
from thalweg.topology.operators.propagation import Propagation
from thalweg.topology.operators.returned import refuse_result
from thalweg.topology.physical import SinkNode, SourceNode

RUN_RECORDS = 1000
"""Most records taken from one partition before the choice is made anew: bounds how long a
commit or a wall-clock punctuation can be kept waiting by a deep buffer."""

TIME_PREFIX: Final = "stream-time/"
"""Before the name of an operator's time in the metadata of commits. No store can be called so:
under its bare name the JVM keeps what it has emitted."""


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
    ) -> None:
        self.id = id
        self.task_id = str(id)
        self.application_id: str = config.application_id
        self.config = config
        self.directory = directory
        self.current = CurrentRecord()
        self.record_cache = cache
        self.propagation = Propagation(cache)
        self.plan = plan
        self.stream_time_ms = -1
        self.shows_time = False
        self.dropped_records: Counter[DropReason] = Counter()
        self.processed_records_total = 0
        self.restored_records_total = 0
        self.commit_requested = False
        self.now_ms = now_ms
        self.stores: dict[str, TaskStore] = {}
        self.stream_punctuations = PunctuationQueue()
        self.wall_punctuations = PunctuationQueue()
        # Partition -> the offset behind all that was processed, and the one the group has.
        self.next_offsets: dict[TopicPartition, int] = {}
        self.committed_offsets: dict[TopicPartition, int] = {}
        self._partitions = list(partitions)
        self._positions: dict[TopicPartition, int] = {}
        self._position: Callable[[TopicPartition], int] | None = None
        self._kept: dict[str, int] = {}
        self._times: dict[str, list[Callable[[], int]]] = {}
        self._collector = collector
        self._policy = policy
        self.global_store = global_store
        self._starters: list[tuple[str, Callable[[], None]]] = []
        self._closers: list[tuple[str, Callable[[], None]]] = []
        self._runs: dict[TopicPartition, SourceRun] = {}
        self._chains: Mapping[str, Chain] = {}
        self.group = PartitionGroup((), config.max_task_idle_ms)
        self.is_running = False
        # Processing, punctuating or flushing broke off: only the last commit can be built on.
        self.is_torn = False

    # -- life cycle ----------------------------------------------------------------------

    def open_stores(self) -> None:
        """Opens every store of the task; they are restored before `start`."""
        for name in self.plan.store_names:
            self.open_store(name)

    def open_store(self, name: str) -> None:
        """Opens one store of the task."""
        topology = self.plan.topology
        builder: StoreBuilder = topology.stores.get(name) or topology.global_stores[name]
        builder = builder.with_default_serdes(
            self.config.default_key_serde, self.config.default_value_serde
        )
        self.stores[name] = builder.build(self)

    def start(
        self,
        partition_times: Mapping[TopicPartition, int] | None = None,
        has_more: Callable[[TopicPartition], bool] = lambda _partition: False,
        position: Callable[[TopicPartition], int] | None = None,
        kept: Mapping[str, int] | None = None,
    ) -> None:
        """Compiles the chains, sets user processors up and begins to take records.

        Args:
            partition_times: last known event time of each partition, from the committed
                metadata; stream time goes on from the latest of them.
            has_more: tells whether the log holds records of a partition that were not handed
                over yet; the task waits for those before it goes on with later ones.
            position: tells the offset up to which everything of a partition was handed over;
                None where only offsets of records count.
            kept: what the task's operators kept with the last commit, see `kept`.
        """
        self._position = position
        self._kept = dict(kept or {})
        try:
            self._chains = compile_chains(self.plan.topology, self.plan.node_names, self)
        except StreamsError as error:
            error.task_id = error.task_id or self.task_id
            raise
        except Exception as error:
            message = f"a processor cannot be made: {error_name(error)}: {error}"
            raise ProcessingError(message, task_id=self.task_id) from error
        times = partition_times or {}
        self.group = PartitionGroup((), self.config.max_task_idle_ms, has_more)
        for partition in self._partitions:
            self._open_queue(partition, times.get(partition, -1))
        self.current.topic, self.current.partition, self.current.origin = None, -1, None
        for node, starter in self._starters:
            try:
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
        self.committed_offsets.pop(partition, None)
        self.next_offsets.pop(partition, None)
        if self._runs.pop(partition, None) is not None:
            self.group.close(partition)

    def _open_queue(self, partition: TopicPartition, partition_time_ms: int) -> None:
        # A topic that a source names is its own, whatever a pattern matches.
        chains = sorted(self._chains.values(), key=lambda one: one.source.pattern is not None)
        chain = next(one for one in chains if self._reads(one.source, partition.topic))
        run = SourceRun(self, chain, partition, self._policy)
        run.partition_time_ms = partition_time_ms
        self.stream_time_ms = max(self.stream_time_ms, partition_time_ms)
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
        for node, closer in self._closers:
            try:
                closer()
            except Exception as error:  # every processor gets its close
                first = first or self._of_node(node, "failed while it was closed", error)
                first.__cause__ = first.__cause__ or error
        self._closers.clear()
        for store in self.stores.values():
            store.close()
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
        group, done = self.group, 0
        ran: dict[SourceRun, Sequence[RawRecord]] = {}
        while done < most and group.is_ready(now_ms):
            taken = group.next_run(most - done)
            assert taken is not None
            queue, records = taken
            source: SourceRun = queue.source
            try:
                source.run(records)
            except StreamsError as error:
                self._locate(error)
                raise
            except Exception as error:
                raise self._located(error) from error
            self.next_offsets[queue.partition] = offset_of(records[-1][3]) + 1
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

    def punctuate_stream_time(self) -> bool:
        """Runs the stream-time punctuations that are due."""
        if self.stream_time_ms < self.stream_punctuations.next_due_ms:
            return False
        return self.stream_punctuations.run_due(self.stream_time_ms, self._punctuate)

    def punctuate_wall_clock(self, now_ms: int) -> bool:
        """Runs the wall-clock punctuations that are due."""
        if now_ms < self.wall_punctuations.next_due_ms:
            return False
        self.is_torn = True
        has_run = self.wall_punctuations.run_due(now_ms, self._punctuate)
        self.is_torn = False
        return has_run

    def _punctuate(self, schedule: Schedule, now_ms: int) -> None:
        current = self.current
        before = (
            current.topic, current.partition, current.origin, current.timestamp, current.run,
        )  # fmt: skip
        current.topic, current.partition, current.origin = None, -1, None
        current.timestamp, current.run = now_ms, ()
        try:
            result: object = schedule.callback(now_ms)
            if result is not None:
                refuse_result("a punctuator", result)
        except Exception as error:
            self._policy.processing_failed(self, schedule.node, error, None, None, now_ms)
        finally:
            (
                current.topic, current.partition, current.origin, current.timestamp, current.run,
            ) = before  # fmt: skip

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
        """Pushes what caches hold downstream, in the order the stores were opened.

        Flushing one store may update another that was flushed already, where user code writes
        to a store that nodes further up use, too: it is flushed again.
        """
        self.is_torn = True
        stores = self.stores.values()
        with self._named():
            # As often as there are stores at most: user code may write in circles.
            for _ in stores:
                for store in stores:
                    store.flush_cache()
                if not any(store.has_unflushed for store in stores):
                    break
        self.is_torn = False

    def note_positions(self) -> None:
        """Counts offsets that are no records, where all that was read is processed.

        Markers of transactions, records of aborted ones and what compaction left out are
        processed when everything before them is.
        """
        position = self._position
        if position is not None:
            for partition in self.group.empty_partitions():
                self.next_offsets[partition] = position(partition)

    def uncommitted_offsets(self) -> dict[TopicPartition, int]:
        """Returns partition -> next offset, where the group does not have it.

        Where nothing was ever committed, that is the position the task began at.
        """
        committed = self.committed_offsets
        return {
            partition: offset
            for partition, offset in self.next_offsets.items()
            if committed.get(partition) != offset
        }

    def committable(self) -> dict[TopicPartition, tuple[int, int]]:
        """Returns partition -> (next offset, partition time), where the group does not have it.

        Of all partitions where only that has changed what is kept beside the offsets, as when a
        punctuation has moved an operator's time.
        """
        self.note_positions()
        offsets = self.uncommitted_offsets()
        if not offsets and self.kept() != self._kept:
            offsets = self.next_offsets
        return {
            partition: (offset, self._runs[partition].partition_time_ms)
            for partition, offset in offsets.items()
        }

    def kept(self) -> dict[str, int]:
        """Returns what the task's operators keep with a commit, by name: their stream times.

        What others have kept there, such as a JVM member the progress of what it emits, stays.
        """
        times = {name: max(read() for read in readers) for name, readers in self._times.items()}
        return {
            **{name: n for name, n in self._kept.items() if not name.startswith(TIME_PREFIX)},
            **{TIME_PREFIX + name: time_ms for name, time_ms in times.items() if time_ms >= 0},
        }

    def prepare(self) -> None:
        """Keeps rows that nothing could restore aside, before the commit that makes them right.

        A crash behind the commit would lose them else.
        """
        stores = [self.stores[name] for name in self.plan.lasting_stores]
        if not stores:
            return
        offsets = {partition: offset for partition, (offset, _) in self.committable().items()}
        note = packed_offsets(offsets)
        with self._named():
            for store in stores:
                store.prepare(note)

    def committed(self, *, durable: bool = False, notes: Mapping[str, bytes] | None = None) -> None:
        """Notes that the log holds everything up to now, and lets the stores write it.

        Args:
            durable: return only when the stores would survive a loss of power.
            notes: what stores keep beside their rows, in place of the task's own notes.
        """
        for name, partition in self.changelog_partitions().items():
            # A store restored from its source topic is as far as that was read.
            if partition in self.next_offsets and name in self.plan.unlogged_stores:
                self._positions[partition] = self.next_offsets[partition]
        notes = self._notes_of_refills() if notes is None else notes
        self.committed_offsets.update(self.next_offsets)
        self._kept = self.kept()
        self.commit_requested = False
        with self._named():
            for name, store in self.stores.items():
                store.apply_pending(durable=durable, note=notes.get(name))

    def _notes_of_refills(self) -> dict[str, bytes]:
        """Returns what stores that are filled from a source topic note of how far that is."""
        if not self.plan.refills:
            return {}
        topics, number = self.plan.changelog_topics, self.id.partition
        places = {name: TopicPartition(topics[name], number) for name in self.plan.refills}
        offsets = self.uncommitted_offsets()
        return {
            name: RefillNote(at.topic, offsets[at], self._runs[at].partition_time_ms).packed()
            for name, at in places.items()
            if at in offsets
        }

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Lets errors of the task's stores say whose they are."""
        try:
            yield
        except StreamsError as error:
            error.task_id = error.task_id or self.task_id
            raise

    # -- changelogs ----------------------------------------------------------------------

    def changelog_partitions(self) -> dict[str, TopicPartition]:
        """Returns store -> changelog partition, for every store that has one."""
        topics, partition = self.plan.changelog_topics, self.id.partition
        return {
            name: TopicPartition(topics[name], partition)
            for name in self.plan.store_names
            if name in topics
        }

    def set_store_position(self, partition: TopicPartition, position: int) -> None:
        """Notes that the store of a changelog partition holds all before `position`."""
        self._positions[partition] = position

    def note_written(self, written: Mapping[TopicPartition, int]) -> None:
        """Takes over where the log says the changelogs of this task end now."""
        positions = self._positions
        for partition in self.changelog_partitions().values():
            if partition in written:
                positions[partition] = written[partition]

    def store_positions(self) -> dict[TopicPartition, int]:
        """Returns changelog partition -> what its store holds, for stores kept on disk."""
        return {
            partition: self._positions[partition]
            for name, partition in self.changelog_partitions().items()
            if partition in self._positions and self.stores[name].persistent
        }

    @property
    def changelog_records_total(self) -> int:
        """How far the changelogs of the task have grown, all together."""
        return sum(self._positions.values())

    # -- the scope nodes are compiled in -------------------------------------------------

    def store(self, name: str) -> Any:
        """Returns a store of this task, or a global one."""
        found = self.stores.get(name) or self.global_store(name)
        if found is None:
            known = ", ".join(sorted(self.stores)) or "none"
            message = f"task {self.task_id} has no store {name!r}; its stores: {known}"
            raise StreamsError(message, task_id=self.task_id)
        return found

    def failure_handler(self, node: str) -> Failed:
        """Returns what nodes call when user code raised."""
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

    def sink(self, node: SinkNode, *, takes_changes: bool) -> Process:
        """Returns the function that sends what reaches a sink."""
        return self._collector.sink(self, node, takes_changes=takes_changes)

    def processor_context(
        self, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> TaskProcessorContext:
        """Returns the Processor API context of one node."""
        self.shows_time = True
        return TaskProcessorContext(self, node, children, stores)

    def keep_time(self, name: str, read: Callable[[], int]) -> int:
        """Keeps an operator's own stream time over restarts, and where the task moves."""
        self._times.setdefault(name, []).append(read)
        return self._kept.get(TIME_PREFIX + name, -1)

    def on_start(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` when all nodes are compiled."""
        self._starters.append((node, action))

    def on_close(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` when the task closes."""
        self._closers.append((node, action))

    # -- the host its stores live with ---------------------------------------------------

    def changelog_topic(self, store_name: str) -> str:
        """Names the topic a store is restored from."""
        return self.plan.changelog_topics.get(
            store_name, f"{self.application_id}-{store_name}-changelog"
        )

    def changelog(self, store_name: str) -> Log | None:
        """Returns the function that logs a change of a store."""
        if store_name in self.plan.unlogged_stores:
            return None
        return self._collector.changelog(self.changelog_topic(store_name), self.id.partition)

    def drop_expired(self, store_name: str) -> None:
        """Counts a window put that came after its store's retention."""
        self.drop(f"store {store_name}", "expired")
