"""Suppression of a table's updates: its options, and the step that it adds to the graph.

Owns the options (`Suppressed`, `BufferConfig`), the search for the windows whose close is awaited,
and the step with its buffer. It must not know how changes are held back.

Source: JVM `Suppressed`, `SuppressedInternal`, `KTableImpl.suppress`, `GraphGraceSearchUtil`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.durations import Duration
from thalweg.stores.kinds.change_buffer import ChangeBufferSpec
from thalweg.stores.serde import Serde, SerdeHint
from thalweg.topology.dsl.options import check_name
from thalweg.topology.dsl.table_logic import Table, TableLogic
from thalweg.topology.dsl.windows import duration_ms
from thalweg.topology.errors import TopologyError
from thalweg.topology.graph.facts import Facts
from thalweg.topology.graph.logical import LogicalGraph, Place, StepId
from thalweg.topology.graph.steps import AddProcessor, always, processor_step
from thalweg.topology.operators.suppress import Suppress, SuppressView
from thalweg.topology.operators.table import TableView

_PREFIX = "KTABLE-SUPPRESS-"
_GIVEN_BEFORE = "where the table before it is made"
_HINT = SerdeHint(
    "suppress()", f"key_serde=... {_GIVEN_BEFORE}", f"value_serde=... {_GIVEN_BEFORE}"
)


@final
@dataclass(frozen=True, kw_only=True)
class BufferConfig:
    """How much a suppression may hold back, and what happens when that is reached.

        BufferConfig(max_records=10_000)
        BufferConfig(max_bytes=50_000_000).shut_down_when_full()
        BufferConfig.unbounded().without_logging()

    Attributes:
        max_records: most updates that are held, one for each key; None for any number.
        max_bytes: most bytes that they take, as Kafka Streams counts them; None for any number.
        when_full: "emit_early" lets the earliest updates go; "shut_down" is an error, for the
            processing handler to decide, which by default ends the application.
        logging: whether the buffer has a changelog; a dict gives its topic configs. Without, what
            is held is lost with its task.
    """

    max_records: int | None = None
    max_bytes: int | None = None
    when_full: Literal["emit_early", "shut_down"] = "emit_early"
    logging: bool | Mapping[str, str] = field(default=True)

    def __post_init__(self) -> None:
        """Checks what is given."""
        for name, bound in (("max_records", self.max_records), ("max_bytes", self.max_bytes)):
            if bound is None:
                continue
            if bound.__class__ is not int:
                raise TypeError(f"{name} of BufferConfig must be an int, got {bound!r}")
            if bound < 0:
                raise ValueError(f"{name} of BufferConfig must not be negative, got {bound}")
        if self.when_full not in ("emit_early", "shut_down"):
            raise ValueError(
                f'when_full of BufferConfig must be "emit_early" or "shut_down", '
                f"got {self.when_full!r}"
            )

    @property
    def is_bounded(self) -> bool:
        """Whether it can be full."""
        return self.max_records is not None or self.max_bytes is not None

    @classmethod
    def unbounded(cls) -> BufferConfig:
        """Makes a buffer that is never full. A bound that is added later is one to shut down at."""
        return cls(when_full="shut_down")

    def with_max_records(self, max_records: int) -> BufferConfig:
        """Returns the same with a bound on the number of updates."""
        return replace(self, max_records=max_records)

    def with_max_bytes(self, max_bytes: int) -> BufferConfig:
        """Returns the same with a bound on their bytes."""
        return replace(self, max_bytes=max_bytes)

    def with_no_bound(self) -> BufferConfig:
        """Returns the same without a bound."""
        return replace(self, max_records=None, max_bytes=None, when_full="shut_down")

    def emit_early_when_full(self) -> BufferConfig:
        """Returns the same; when the buffer is full, the earliest updates are emitted."""
        return replace(self, when_full="emit_early")

    def shut_down_when_full(self) -> BufferConfig:
        """Returns the same; when it is full, the application stops."""
        return replace(self, when_full="shut_down")

    def with_logging(self, config: Mapping[str, str] | None = None) -> BufferConfig:
        """Returns the same with a changelog.

        Args:
            config: settings of the changelog topic, by Kafka's names.
        """
        return replace(self, logging=dict(config) if config else True)

    def without_logging(self) -> BufferConfig:
        """Returns the same without a changelog: the buffer is lost if its task is lost."""
        return replace(self, logging=False)


@final
@dataclass(frozen=True)
class Suppressed:
    """Which updates of a table are held back, and until when; for `KTable.suppress`.

    Make one by `until_time_limit` or `until_window_closes`.

    Attributes:
        wait_ms: how long an update is held, of stream time; None for until its window closes.
        buffer: how much is held.
        name: of the processor; its store is called after it.
    """

    wait_ms: int | None
    buffer: BufferConfig
    name: str | None = None

    def __post_init__(self) -> None:
        """Checks what is given."""
        if not isinstance(self.buffer, BufferConfig):
            raise TypeError(f"the buffer of Suppressed must be a BufferConfig, got {self.buffer!r}")
        check_name(self.name)

    @classmethod
    def until_time_limit(
        cls, limit: Duration, buffer: BufferConfig | None = None, *, name: str | None = None
    ) -> Suppressed:
        """Holds the updates of a key; `limit` after the first of them, the last one is emitted.

            table.suppress(Suppressed.until_time_limit(timedelta(minutes=1)))

        Args:
            limit: how long, of stream time; a timedelta or milliseconds.
            buffer: how much is held; unbounded if not given.
            name: of the processor.
        """
        return cls(duration_ms(limit, "limit"), buffer or BufferConfig.unbounded(), name)

    @classmethod
    def until_window_closes(
        cls, buffer: BufferConfig | None = None, *, name: str | None = None
    ) -> Suppressed:
        """Holds the updates of a window until no record can change it any more: one final result.

            counts.suppress(Suppressed.until_window_closes())

        Args:
            buffer: how much is held; unbounded if not given. It must not emit early.
            name: of the processor.

        Raises:
            ValueError: the buffer emits early, and results would not be final.
        """
        buffer = buffer or BufferConfig.unbounded()
        if (
            isinstance(buffer, BufferConfig)
            and buffer.is_bounded
            and buffer.when_full != "shut_down"
        ):
            raise ValueError(
                "until_window_closes() emits final results only, so its buffer cannot emit early: "
                "use BufferConfig(...).shut_down_when_full() or BufferConfig.unbounded()"
            )
        return cls(None, buffer, name)

    def with_name(self, name: str) -> Suppressed:
        """Returns the same with a name for the processor."""
        return replace(self, name=name)


class SuppressLogic(TableLogic):
    """How a suppressed table answers for its rows and its old values."""

    def __init__(self, parent: Table, store_name: str) -> None:
        self._parent = parent
        self._store_name = store_name

    def view(self) -> TableView:
        """Reads the buffer, or the parent's row where nothing is held."""
        return SuppressView(self._parent.view(), self._store_name)

    def send_old_values(self, force: bool) -> bool:
        """Passes on the old values of the parent."""
        return self._parent.send_old_values(force)


def suppress_table(
    parent: Table,
    suppressed: Suppressed,
    key_serde: Serde[Any] | None,
    value_serde: Serde[Any] | None,
) -> tuple[Place, SuppressLogic]:
    """Puts a suppression below a table.

    Args:
        parent: the table.
        suppressed: what is held back.
        key_serde: how the buffer writes keys.
        value_serde: how it writes values.

    Returns:
        Where the suppressed table stands, and how it answers.

    Raises:
        TypeError: `suppressed` is none.
        TopologyError: it waits for windows to close where there are none, or the table is
            versioned.
    """
    if not isinstance(suppressed, Suppressed):
        raise TypeError(
            "suppress() needs Suppressed.until_time_limit(...) or "
            f"Suppressed.until_window_closes(...), got {suppressed!r}"
        )
    if parent.is_versioned:
        raise TopologyError(
            "suppress() holds back the newest rows of a table, and this one is versioned; give the "
            "table before it a store that is not, or convert it by to_stream().to_table()",
            node=parent.place.name,
        )
    above, names, buffer = parent.place, parent.place.names, suppressed.buffer
    # Unlike other operators, a named one uses no number up.
    name = suppressed.name or names.new_name(_PREFIX)
    wait_ms = suppressed.wait_ms
    if wait_ms is None:
        wait_ms = grace_ms_above(above.graph, above.step)
    is_logged = buffer.logging is not False
    if suppressed.name is not None:
        store_name = f"{name}-store"
    elif is_logged:
        store_name = names.new_store_name(_PREFIX)
    else:  # only what others can see must have a name of the user's, where names are demanded
        store_name = names.new_hidden_name(f"{_PREFIX}STATE-STORE-")
    store = StoreBuilder(
        name=store_name,
        spec=ChangeBufferSpec(),
        backend="memory",
        key_serde=key_serde,
        value_serde=value_serde,
        logged=is_logged,
        log_config=dict(buffer.logging) if isinstance(buffer.logging, Mapping) else {},
        takes_dsl_format=True,
        hint=_HINT,
    )
    operator = Suppress(
        store_name,
        wait_ms,
        suppressed.wait_ms is None,
        buffer.max_records,
        buffer.max_bytes,
        buffer.when_full == "emit_early",
    )
    parent.send_old_values(True)
    place = above.then(processor_step(name, always(operator), store=store))
    # The JVM names the table above as its source, so the topics of both are not copartitioned.
    place = replace(place, sources=(above.name,))
    return place, SuppressLogic(parent, store_name)


def grace_ms_above(graph: LogicalGraph, step: StepId) -> int:
    """Returns how long after its end a window takes records, of the windows next above a step.

    Raises:
        TopologyError: a way up from the step meets no windows.
    """
    return _grace_ms_above(graph, step, "")


def _grace_ms_above(graph: LogicalGraph, step: StepId, way: str) -> int:
    found = graph.step(step)
    for added in found.adds:
        if isinstance(added, AddProcessor):
            grace_ms = added.make(Facts()).closes_after_ms
            if grace_ms is not None:
                return grace_ms
    way = f"{found.name} -> {way}" if way else found.name
    above = graph.above(step)
    if not above:
        raise TopologyError(
            "suppress(Suppressed.until_window_closes()) needs windows that close, but there are "
            f"none above it: {way}; use Suppressed.until_time_limit(...), or aggregate by "
            "windows first",
            node=found.name,
        )
    return max(_grace_ms_above(graph, parent, way) for parent in above)
