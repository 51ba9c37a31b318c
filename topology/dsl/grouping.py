"""What aggregations of the DSL share: the grouping, its repartition topic, serdes and hints.

Owns the repartition topic in front of the aggregations of one grouping if the key has changed, and
the order in which aggregations use numbers. It must not know the kinds of windows.

Source: JVM `GroupedStreamAggregateBuilder`; kafka-streams A13 for the order in which numbers
are used up.
"""

from __future__ import annotations

from typing import Any, Final

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.serde import Serde, SerdeHint
from thalweg.topology.dsl.options import Materialized
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import RepartitionStep, aggregating, processor_step
from thalweg.topology.operators.operator import TableMaker

REDUCE: Final = "KSTREAM-REDUCE-"
AGGREGATE: Final = "KSTREAM-AGGREGATE-"
REDUCER: Final = {2: "aggregate, value"}
AGGREGATOR: Final = {3: "key, value, aggregate"}


class StreamGrouping:
    """A stream about to be aggregated, and its repartition where one is required.

    Args:
        place: where the stream stands.
        key_serde: how keys are written to the repartition topic.
        value_serde: how values are written there.
        name: base of the topic's name; then all aggregations share the topic. Without,
            each has one of its own, named after its store.
        repartition_required: whether the key has changed.
        operator: what grouped it, for messages.
    """

    def __init__(
        self,
        place: Place,
        key_serde: Serde[Any] | None,
        value_serde: Serde[Any] | None,
        name: str | None,
        repartition_required: bool,
        operator: str = "group_by",
    ) -> None:
        self.hint = SerdeHint.of(operator)
        self.place = place
        self.key_serde = key_serde
        self.value_serde = value_serde
        self.name = name
        self.repartition_required = repartition_required
        self._repartition: StepId | None = None

    def aggregate(self, name: str, operator: TableMaker, store: StoreBuilder) -> Place:
        """Puts an aggregation and, if required, a repartition into the graph."""
        place = self.place
        if self.repartition_required:
            names = place.names.repartition_names(self.name or store.name)
            if self._repartition is None or self.name is None:
                step = RepartitionStep(
                    names=names,
                    key_serde=self.key_serde,
                    value_serde=self.value_serde,
                    hint=self.hint,
                )
                self._repartition = place.graph.add(step, place.step)
            else:
                place.graph.put_below(self._repartition, place.step)
            place = Place(place.graph, names.source, self._repartition, (names.source,))
        return place.then(processor_step(name, aggregating(name, operator), store=store))


def hint_of(operator: str, grouping: SerdeHint) -> SerdeHint:
    """Returns where the serdes of an aggregation's store are given."""
    values = {
        "aggregate": "aggregate(..., value_serde=...)",
        "count": "count(..., materialized=Materialized(..., value_serde=serdes.int64))",
    }
    return SerdeHint(f"{operator}()", grouping.key, values.get(operator, grouping.value))


def burn_for_count(grouping: StreamGrouping, materialized: Materialized[Any, Any] | None) -> None:
    """Uses up the number that counting into an unnamed materialisation takes in the JVM."""
    if materialized is not None and materialized.name is None:
        grouping.place.names.new_store_name(AGGREGATE)
