"""The stores of one task: opened, flushed and applied, and their positions.

Owns the task's stores by name, the notes and prepared rows that belong to a commit, and the
positions of their changelogs. It is the host of its stores. It must not know when a commit happens,
how stores are restored, or what operators do with them.

Source: JVM `ProcessorStateManager`.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from pathlib import Path

from thalweg.stores.api import Log, TaskStore
from thalweg.stores.builders import StoreBuilder
from thalweg.stores.cache.budget import RecordCache
from thalweg.stores.errors import StreamsError
from thalweg.stores.record import CurrentRecord
from thalweg.streams.config import StreamsConfig
from thalweg.streams.tasks.failures import out_of_carriers
from thalweg.streams.tasks.offsets import Offsets
from thalweg.streams.tasks.plan import TaskPlan
from thalweg.streams.tasks.store_notes import RefillNote, packed_offsets
from thalweg.streams.tasks.task import TaskId
from thalweg.streams.transport.port import TopicPartition


class TaskStores(Mapping[str, TaskStore]):
    """The stores of one task, by name, in the order in which they were opened.

    Args:
        id: the task.
        plan: the graph's part that the task runs.
        config: the application's settings.
        directory: where the stores keep their files.
        current: the task's current record.
        cache: the worker's record cache, None when caching is off.
        changelog: (topic, partition) -> the function that appends to a changelog.
        drop_expired: counts a put into a store that came after the store's retention.
    """

    def __init__(
        self,
        id: TaskId,
        plan: TaskPlan,
        *,
        config: StreamsConfig,
        directory: Path,
        current: CurrentRecord,
        cache: RecordCache | None,
        changelog: Callable[[str, int], Log],
        drop_expired: Callable[[str], None],
    ) -> None:
        self.task_id = str(id)
        self.application_id: str = config.application_id
        self.directory = directory
        self.current = current
        self.record_cache = cache
        self.drop_expired = drop_expired
        self._number = id.partition
        self._plan = plan
        self._config = config
        self._changelog = changelog
        self._by_name: dict[str, TaskStore] = {}
        self._positions: dict[TopicPartition, int] = {}

    # -- by name; any thread may read ----------------------------------------------------

    def __getitem__(self, name: str) -> TaskStore:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def items(self) -> ItemsView[str, TaskStore]:
        """Returns name and store of each."""
        return self._by_name.items()

    def values(self) -> ValuesView[TaskStore]:
        """Returns the stores."""
        return self._by_name.values()

    # -- life cycle ----------------------------------------------------------------------

    def open_all(self) -> None:
        """Opens every store of the task."""
        for name in self._plan.store_names:
            self.open(name)

    def open(self, name: str) -> None:
        """Opens one store of the task."""
        self._by_name[name] = self.builder(name).build(self)

    def builder(self, name: str) -> StoreBuilder:
        """Returns what builds a store, with the application's default serdes."""
        topology = self._plan.topology
        builder: StoreBuilder = topology.stores.get(name) or topology.global_stores[name]
        return builder.with_default_serdes(
            self._config.default_key_serde, self._config.default_value_serde
        )

    def adopt(self, name: str, store: TaskStore) -> None:
        """Takes a store that was opened elsewhere for one of the task's own."""
        self._by_name[name] = store

    def release(self, name: str) -> None:
        """Lets go of a store without closing it."""
        self._by_name.pop(name, None)

    def close(self) -> None:
        """Closes the stores. What was not applied is forgotten."""
        for store in self._by_name.values():
            store.close()

    # -- commit --------------------------------------------------------------------------

    def flush_caches(self) -> None:
        """Pushes what caches hold downstream, in the order the stores were opened.

        Flushing one store may update another that was flushed already, where user code writes
        to a store that nodes further up use, too: it is flushed again. Where one fails, the others
        are flushed all the same, as in the JVM, and nothing is committed.
        """
        stores = self._by_name.values()
        failed: Exception | None = None
        with self._named():
            # As often as there are stores at most: user code may write in circles.
            for _ in stores:
                for store in stores:
                    try:
                        store.flush_cache()
                    except Exception as error:
                        failed = failed or error
                if failed is not None:
                    raise failed
                if not any(store.has_unflushed for store in stores):
                    break

    @property
    def prepares(self) -> bool:
        """Whether there are stores with rows to keep aside, see `prepare`."""
        return bool(self._plan.lasting_stores)

    def prepare(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Keeps rows that nothing could restore aside, before the commit that makes them right.

        Without that, a crash behind the commit would lose them.

        Args:
            offsets: what is about to be committed.
        """
        note = packed_offsets(offsets)
        with self._named():
            for name in self._plan.lasting_stores:
                self._by_name[name].prepare(note)

    def apply(self, *, durable: bool = False, notes: Mapping[str, bytes]) -> None:
        """Lets the stores write what they hold back.

        Args:
            durable: return only when the stores would survive a loss of power.
            notes: store -> what it keeps beside its rows.
        """
        with self._named():
            for name, store in self._by_name.items():
                store.apply_pending(durable=durable, note=notes.get(name))

    def notes_of_refills(self, offsets: Offsets) -> dict[str, bytes]:
        """Returns what stores that are filled from a source topic note of how far that is."""
        if not self._plan.refills:
            return {}
        topics = self._plan.changelog_topics
        places = {name: TopicPartition(topics[name], self._number) for name in self._plan.refills}
        uncommitted, times = offsets.uncommitted(), offsets.times
        return {
            name: RefillNote(at.topic, uncommitted[at], times[at].ms).packed()
            for name, at in places.items()
            if at in uncommitted
        }

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Lets errors of the task's stores say whose they are."""
        try:
            with out_of_carriers():
                yield
        except StreamsError as error:
            error.task_id = error.task_id or self.task_id
            raise

    # -- changelogs ----------------------------------------------------------------------

    def changelog_topic(self, store_name: str) -> str:
        """Names the topic a store is restored from."""
        return self._plan.changelog_topics.get(
            store_name, f"{self.application_id}-{store_name}-changelog"
        )

    def changelog(self, store_name: str) -> Log | None:
        """Returns the function that logs a change of a store, None where it is not logged."""
        if store_name in self._plan.unlogged_stores:
            return None
        return self._changelog(self.changelog_topic(store_name), self._number)

    def changelog_partitions(self) -> dict[str, TopicPartition]:
        """Returns store -> changelog partition, for every store that has one."""
        topics, number = self._plan.changelog_topics, self._number
        return {
            name: TopicPartition(topics[name], number)
            for name in self._plan.store_names
            if name in topics
        }

    def set_position(self, partition: TopicPartition, position: int) -> None:
        """Notes that the store of a changelog partition holds all before `position`."""
        self._positions[partition] = position

    def note_written(self, written: Mapping[TopicPartition, int]) -> None:
        """Takes over where the log says the changelogs of this task end now."""
        positions = self._positions
        for partition in self.changelog_partitions().values():
            if partition in written:
                positions[partition] = written[partition]

    def note_processed(self, processed: Mapping[TopicPartition, int]) -> None:
        """Takes over how far source topics are processed that take the place of a changelog."""
        for name, partition in self.changelog_partitions().items():
            if partition in processed and name in self._plan.unlogged_stores:
                self._positions[partition] = processed[partition]

    def positions(self) -> dict[TopicPartition, int]:
        """Returns changelog partition -> what its store holds, for stores kept on disk."""
        return {
            partition: self._positions[partition]
            for name, partition in self.changelog_partitions().items()
            if partition in self._positions and self._by_name[name].persistent
        }

    @property
    def changelog_records_total(self) -> int:
        """How far the changelogs of the task have grown, all together."""
        return sum(self._positions.values())
