"""Steps of the logical graph, as data: what each of them adds to a topology.

Owns the forms of an addition, and the properties that rewrites read: a source of a stream, which
may be merged with another; a repartition, which may let null keys through or be shared; what an
operation may change; the two forms of a join of streams. It must not know how additions are
written.

Source: JVM `kstream.internals.graph`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Flag, auto
from typing import Any, ClassVar, TypeAlias

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.serde import Serde, SerdeHint
from thalweg.topology.edges import Edge
from thalweg.topology.graph.facts import Facts
from thalweg.topology.graph.names import RepartitionNames
from thalweg.topology.operators.operator import Operator, TableMaker
from thalweg.topology.operators.stateless import NullKeyFilter, PassThrough
from thalweg.topology.processor import (
    AnySupplier,
    AutoOffsetReset,
    StreamPartitioner,
    TimestampExtractor,
    TopicNameExtractor,
    fail_on_invalid_timestamp,
)

Make: TypeAlias = Callable[[Facts], Operator]


@dataclass(frozen=True, slots=True)
class AddTopic:
    """An internal topic, by its bare name; without a count the runtime chooses one."""

    name: str
    partitions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSource:
    """A source; see `Topology.add_source`."""

    name: str
    topics: tuple[str, ...] | re.Pattern[str]
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    timestamp_extractor: TimestampExtractor | None
    offset_reset: str | AutoOffsetReset | None = None
    hint: SerdeHint
    gives: Edge = Edge.RECORD


@dataclass(frozen=True, slots=True)
class AddProcessor:
    """A processor.

    Attributes:
        name: its name.
        make: makes its operator when the topology is built.
        parents: names of its parents; None for those of the step.
        stores: stores that are added elsewhere, to connect it with.
        store: its own store; that of a table is added only if the table is kept.
        topic: the source topic that may be the changelog of its own store.
    """

    name: str
    make: Make
    parents: tuple[str, ...] | None = None
    stores: tuple[str, ...] = ()
    store: StoreBuilder | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSink:
    """A sink; see `Topology.add_sink`. Its parents are those of the step if they are None."""

    name: str
    topic: str | TopicNameExtractor
    parents: tuple[str, ...] | None = None
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    partitioner: StreamPartitioner | None = None
    hint: SerdeHint
    takes: Edge = Edge.RECORD


@dataclass(frozen=True, slots=True)
class AddSharedStore:
    """A store of an operation that is several processors, which use it together.

    Attributes:
        store: the store.
        processors: names of the processors, which may belong to other steps that come before.
    """

    store: StoreBuilder
    processors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddStore:
    """A store that the user has added; processors name it."""

    store: StoreBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class AddGlobalStore:
    """A store that every worker fills from a topic; see `Topology.add_global_store`."""

    store: StoreBuilder
    source_name: str
    topic: str
    processor_name: str
    supplier: AnySupplier | Operator
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    timestamp_extractor: TimestampExtractor | None


@dataclass(frozen=True, slots=True)
class StoreDemand:
    """What a step demands of the stores of the topology. It adds nothing.

    Attributes:
        check: takes the stores by name, once all are there, and raises TopologyError.
    """

    check: Callable[[Mapping[str, StoreBuilder]], None]


Addition: TypeAlias = (
    AddTopic
    | AddSource
    | AddProcessor
    | AddSink
    | AddSharedStore
    | AddStore
    | AddGlobalStore
    | StoreDemand
)


class Changes(Flag):
    """What an operation may make of a record, as far as sharing of repartitions goes.

    Only operations of streams between a change of keys and a repartition count. Joins and
    aggregations are no such operations; a user's processor is one only if the build is told so.
    """

    NOTHING = 0
    KEY = auto()
    VALUE = auto()
    BY_PROCESSOR = auto()


@dataclass(frozen=True, slots=True)
class SelfJoin:
    """The other form of a join of streams, for one stream that is joined with itself.

    It has one window store in place of two: the step of the right side's window goes.

    Attributes:
        left_window: name of the step that fills the left side's window store.
        right_window: name of the step that fills the right side's.
        adds: what the join adds in place of its own additions.
    """

    left_window: str
    right_window: str
    adds: tuple[Addition, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the DSL.

    Attributes:
        name: the node that steps below it have as their parent.
        adds: what it adds, in this order.
        takes_null_keys: whether it is a left join, for which records without a key must arrive.
        changes: what it may change of a record.
        is_merge: whether it brings streams into one.
        self_join: of an inner join of streams, its form where both sides are one stream.
    """

    name: str
    adds: tuple[Addition, ...]
    takes_null_keys: bool = False
    changes: Changes = Changes.NOTHING
    is_merge: bool = False
    self_join: SelfJoin | None = None


@dataclass(frozen=True, slots=True)
class SourceStep:
    """A stream of topics; sources of the same topics become one."""

    source: AddSource
    takes_null_keys: ClassVar[bool] = False
    changes: ClassVar[Changes] = Changes.NOTHING
    is_merge: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The source."""
        return self.source.name

    @property
    def adds(self) -> tuple[Addition, ...]:
        """The source."""
        return (self.source,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepartitionStep:
    """A stream's way through an internal topic: a filter of null keys, a sink and a source.

    Attributes:
        names: names of its parts.
        key_serde: how keys are written and read.
        value_serde: how values are written and read.
        partitions: partition count of the topic; None leaves it to the runtime.
        partitioner: chooses partitions; None for the default one.
        hint: where its serdes are given.
        drops_null_keys: whether the filter leaves records without a key out.
        is_shareable: whether one topic may take its place and that of others. Not if the user has
            asked for it by `repartition()`.
    """

    names: RepartitionNames
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    partitions: int | None = None
    partitioner: StreamPartitioner | None = None
    hint: SerdeHint
    drops_null_keys: bool = True
    is_shareable: bool = True
    takes_null_keys: ClassVar[bool] = False
    changes: ClassVar[Changes] = Changes.NOTHING
    is_merge: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The source, which steps below it have as their parent."""
        return self.names.source

    @property
    def adds(self) -> tuple[Addition, ...]:
        """Topic, filter, sink and source."""
        names = self.names
        return (
            AddTopic(names.topic, self.partitions),
            AddProcessor(
                names.filter, always(NullKeyFilter() if self.drops_null_keys else PassThrough())
            ),
            AddSink(
                name=names.sink,
                topic=names.topic,
                parents=(names.filter,),
                key_serde=self.key_serde,
                value_serde=self.value_serde,
                partitioner=self.partitioner,
                hint=self.hint,
            ),
            AddSource(
                name=names.source,
                topics=(names.topic,),
                key_serde=self.key_serde,
                value_serde=self.value_serde,
                timestamp_extractor=fail_on_invalid_timestamp,
                hint=self.hint,
            ),
        )


AnyStep: TypeAlias = Step | SourceStep | RepartitionStep


def always(operator: Operator) -> Make:
    """Returns what makes an operator that depends on no fact."""
    return lambda _facts: operator


def aggregating(name: str, operator: TableMaker) -> Make:
    """Returns what makes an aggregation: with old values if they are wanted by then."""
    return lambda facts: replace(operator, send_old_values=name in facts.old_values)


def processor_step(
    name: str,
    make: Make,
    *,
    store: StoreBuilder | None = None,
    stores: Sequence[str] = (),
    takes_null_keys: bool = False,
    changes: Changes = Changes.NOTHING,
    is_merge: bool = False,
) -> Step:
    """Returns the step of one processor below the step's parents; see `AddProcessor`, `Step`."""
    adds = (AddProcessor(name, make, stores=tuple(stores), store=store),)
    return Step(name, adds, takes_null_keys, changes, is_merge)


def change_repartition_step(
    topic: str,
    sink_name: str,
    source_name: str,
    key_serde: Serde[Any] | None,
    value_serde: Serde[Any] | None,
) -> Step:
    """Returns the way of a grouped table's changes through an internal topic; it has no filter."""
    hint = SerdeHint.of("group_by")
    return Step(
        source_name,
        (
            AddTopic(topic),
            AddSink(
                name=sink_name,
                topic=topic,
                key_serde=key_serde,
                value_serde=value_serde,
                hint=hint,
                takes=Edge.CHANGE,
            ),
            AddSource(
                name=source_name,
                topics=(topic,),
                key_serde=key_serde,
                value_serde=value_serde,
                timestamp_extractor=fail_on_invalid_timestamp,
                hint=hint,
                gives=Edge.CHANGE,
            ),
        ),
    )
