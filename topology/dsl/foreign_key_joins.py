"""Joins of tables by foreign key: what a join adds to the graph.

Owns the path of a row: a registration is sent to the right side through one topic, a response comes
back through another, and the left side resolves it into the result. It owns all names and numbers,
and which topics need equal partition counts. The steps of the path are in
`topology.operators.foreign_key_*`.

    left ─► registration ─► topic ─► subscription ─► right row ─┐
                                          ▲                     ├─► topic ─► resolver ─► result
                                right ────┴─► changed rows ─────┘

Source: JVM `KTableImpl.doJoinOnForeignKey`; kafka-streams A13 9.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.callables import arity as arity_of
from thalweg.stores.callables import shown
from thalweg.stores.errors import StreamsError
from thalweg.stores.kinds.subscriptions import SubscriptionSpec
from thalweg.stores.record import Headers
from thalweg.stores.serde import Serde, SerdeHint, serdes
from thalweg.topology.dsl.options import Materialized, arity, check_name, materialized_hint, settle
from thalweg.topology.dsl.table_joins import Joined
from thalweg.topology.dsl.table_logic import SourceLogic, Table
from thalweg.topology.dsl.windows import WindowedStreamPartitioner
from thalweg.topology.graph.logical import Place
from thalweg.topology.graph.steps import (
    AddProcessor,
    AddSink,
    AddSource,
    AddStore,
    AddTopic,
    Step,
    always,
)
from thalweg.topology.operators.foreign_key_change import TellSubscribers
from thalweg.topology.operators.foreign_key_registration import Register
from thalweg.topology.operators.foreign_key_response import Resolve
from thalweg.topology.operators.foreign_key_serdes import RegistrationSerde, ResponseSerde, Sent
from thalweg.topology.operators.foreign_key_subscription import AnswerRegistration, Subscribe
from thalweg.topology.processor import (
    StreamPartitioner,
    check_partitioner,
    fail_on_invalid_timestamp,
    sees_headers,
)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the parts of a join are called, in the order in which they take numbers."""

    registrations: str
    register: str
    registrations_sink: str
    registrations_source: str
    store: str
    subscribe: str
    answer: str
    tell: str
    responses: str
    responses_sink: str
    responses_source: str
    resolve: str
    result: str


def _names(place: Place, named: str | None) -> _Names:
    names, prefix = place.names, "KTABLE-FK-JOIN-"
    new = names.name_or_new
    registration = prefix + "SUBSCRIPTION-REGISTRATION-"
    subscription, response = prefix + "SUBSCRIPTION-PROCESSOR-", prefix + "SUBSCRIPTION-RESPONSE-"
    return _Names(
        new(named, registration, "-subscription-registration") + "-topic",
        new(named, registration, "-subscription-registration-processor"),
        new(named, "KTABLE-SINK-", "-subscription-registration-sink"),
        new(named, "KTABLE-SOURCE-", "-subscription-registration-source"),
        new(named, prefix + "SUBSCRIPTION-STATE-STORE-", "-subscription-store"),
        new(named, subscription, "-subscription-receive"),
        new(named, subscription, "-subscription-join-foreign"),
        new(named, subscription, "-foreign-join-subscription"),
        new(named, response, "-subscription-response") + "-topic",
        new(named, "KTABLE-SINK-", "-subscription-response-sink"),
        new(named, "KTABLE-SOURCE-", "-subscription-response-source"),
        new(named, response + "RESOLVER-PROCESSOR-", "-subscription-response-resolver"),
        new(named, prefix + "OUTPUT-", "-result"),
    )


def join_by_foreign_key(
    left: Table,
    right: Table,
    joiner: Callable[..., Any],
    extractor: Callable[..., Any],
    materialized: Materialized[Any, Any] | None,
    named: str | None,
    *,
    is_left: bool,
    partitioner: StreamPartitioner | None,
    other_partitioner: StreamPartitioner | None,
) -> Joined:
    """Joins the rows of a table with the right rows that their foreign keys name.

    Args:
        left: the left table.
        right: the right table.
        joiner: (left value, right value) -> joined value.
        extractor: (value) or (key, value) of a left row -> key of the right row.
        materialized: how to keep the result.
        named: name of the processors, topics and the store between them.
        is_left: whether left rows without a right row are joined, with None.
        partitioner: how the left table is partitioned, if not by the bytes of its key.
        other_partitioner: how the right table is partitioned, likewise.
    """
    operator = "left_join" if is_left else "join"
    arity(joiner, {2: "left, right"}, operator)
    extracts = f"the foreign_key_extractor of {operator}()"
    with_key = arity_of(extractor, {1: "value", 2: "key, value"}, extracts) == 2
    check_partitioner(partitioner, f"{operator}()")
    check_partitioner(other_partitioner, f"{operator}()")
    named = check_name(named)
    place = left.place
    place.refuse_foreign(right.place)
    right.send_old_values(True)
    left.send_old_values(True)
    names = _names(place, named)
    left_view, right_view = left.view(), right.view()
    keys, foreign_keys = left.key_serde, right.key_serde
    hint = SerdeHint(
        f"{operator}()",
        "key_serde=... of the tables that are joined",
        "value_serde=... of the tables that are joined",
    )
    responses_key = serdes.bytes if partitioner is None else keys
    adds = (
        AddTopic(names.registrations),
        AddTopic(names.responses),
        AddProcessor(
            names.register,
            lambda facts: Register(
                topic=names.registrations,
                extractor=extractor,
                with_key=with_key,
                left=is_left,
                key_serde=keys,
                value_serde=left.value_serde,
                foreign_key_serde=foreign_keys,
                legacy=facts.legacy_registrations,
                is_versioned=left.is_versioned,
            ),
            parents=(place.name,),
        ),
        AddSink(
            name=names.registrations_sink,
            topic=names.registrations,
            parents=(names.register,),
            key_serde=foreign_keys,
            value_serde=serdes.bytes,
            partitioner=_by_key(other_partitioner, foreign_keys),
            hint=hint,
        ),
        _source(names.registrations_source, names.registrations, foreign_keys, RegistrationSerde()),
        AddStore(_subscriptions(names.store)),
        AddProcessor(
            names.subscribe,
            lambda facts: Subscribe(
                store_name=names.store,
                topic=names.registrations,
                foreign_key_serde=foreign_keys,
                legacy=facts.legacy_registrations,
            ),
            parents=(names.registrations_source,),
            stores=(names.store,),
        ),
        AddProcessor(
            names.answer,
            always(
                AnswerRegistration(
                    right=right_view,
                    topic=names.responses,
                    registrations=names.registrations,
                    value_serde=right.value_serde,
                    primary_key_serde=keys,
                    decodes_key=partitioner is not None,
                )
            ),
            parents=(names.subscribe,),
            stores=tuple(dict.fromkeys(right_view.store_names())),
        ),
        AddProcessor(
            names.tell,
            always(
                TellSubscribers(
                    store_name=names.store,
                    topic=names.responses,
                    registrations=names.registrations,
                    foreign_key_serde=foreign_keys,
                    value_serde=right.value_serde,
                    primary_key_serde=keys,
                    decodes_key=partitioner is not None,
                    is_versioned=right.is_versioned,
                )
            ),
            parents=(right.place.name,),
            stores=(names.store,),
        ),
        AddSink(
            name=names.responses_sink,
            topic=names.responses,
            parents=(names.answer, names.tell),
            key_serde=responses_key,
            value_serde=ResponseSerde(),
            partitioner=_of_left_row if partitioner is None else _one_partition(partitioner),
            hint=hint,
        ),
        _source(names.responses_source, names.responses, keys, ResponseSerde()),
        AddProcessor(
            names.resolve,
            always(
                Resolve(
                    left_view=left_view,
                    joiner=joiner,
                    left=is_left,
                    registrations=names.registrations,
                    topic=names.responses,
                    left_value_serde=left.value_serde,
                    right_value_serde=right.value_serde,
                )
            ),
            parents=(names.responses_source,),
            stores=tuple(dict.fromkeys(left_view.store_names())),
        ),
    )
    return _result(left, right, names, adds, materialized, operator)


def _result(
    left: Table,
    right: Table,
    names: _Names,
    adds: tuple[Any, ...],
    materialized: Materialized[Any, Any] | None,
    operator: str,
) -> Joined:
    """Adds the result: kept in a store where it is named, or where an operation needs it."""
    place = left.place
    graph = place.graph
    store = settle(
        graph.names,
        materialized,
        "KTABLE-FK-JOIN-OUTPUT-",
        key_serde=left.key_serde,
        hint=materialized_hint(operator),
    )
    if store.queryable_name is not None:
        graph.facts.kept.add(names.result)
    logic = SourceLogic(graph.facts, names.result, store.name, is_versioned=store.is_versioned)
    result = AddProcessor(
        names.result, logic.make, parents=(names.resolve,), store=store.key_value()
    )
    graph.copartition((*right.place.sources, names.registrations_source))
    sources = (*place.sources, names.responses_source)
    graph.copartition(sources)
    step = graph.add(Step(names.result, (*adds, result)), place.step, right.place.step)
    return Joined(
        Place(graph, names.result, step, tuple(dict.fromkeys(sources))),
        left.key_serde,
        store.value_serde,
        store.queryable_name,
        logic,
    )


def _source(
    name: str, topic: str, key_serde: Serde[Any] | None, value_serde: Serde[Any]
) -> AddSource:
    return AddSource(
        name=name,
        topics=(topic,),
        key_serde=key_serde,
        value_serde=value_serde,
        timestamp_extractor=fail_on_invalid_timestamp,
        hint=SerdeHint.of("join"),
    )


def _subscriptions(name: str) -> StoreBuilder:
    """Describes the store of subscriptions; what is in it is bytes throughout."""
    return StoreBuilder(
        name=name,
        spec=SubscriptionSpec(),
        backend=None,
        key_serde=serdes.bytes,
        value_serde=serdes.bytes,
        takes_dsl_format=True,
    )


# -- partitions ----------------------------------------------------------------------------


def _of_left_row(_topic: str, _key: Any, response: Sent, _count: int) -> int | None:
    """Sends a response to the partition that the left row was in."""
    return response[0]


def _by_key(
    partitioner: StreamPartitioner | None, serde: Serde[Any] | None
) -> StreamPartitioner | None:
    """Returns how registrations find the right row: as rows of the right table do."""
    if partitioner is not None:
        return _one_partition(partitioner)
    inner = getattr(serde, "inner", None)
    if not isinstance(inner, Serde):
        return None
    windowed = WindowedStreamPartitioner(inner)
    # A registration of a left join that names no right row has no key.
    return lambda topic, key, value, count: (
        None if key is None else windowed(topic, key, value, count)
    )


def _one_partition(partitioner: StreamPartitioner) -> StreamPartitioner:
    """Returns a user's partitioner: it sees the key only, and must choose one partition."""
    ask: Any = partitioner

    def choose(topic: str, key: Any, _value: Any, count: int) -> int | None:
        return _single(ask(topic, key, None, count), topic)

    def choose_by_headers(
        topic: str, key: Any, _value: Any, headers: Headers, count: int
    ) -> int | None:
        return _single(ask(topic, key, None, headers, count), topic)

    return choose_by_headers if sees_headers(partitioner) else choose


def _single(chosen: Any, topic: str) -> int | None:
    """Returns the one partition that was chosen.

    Raises:
        StreamsError: it is not one.
    """
    if isinstance(chosen, Collection) and not isinstance(chosen, str | bytes):
        if len(chosen) != 1:
            message = (
                f"the partitioner of a foreign-key join chose {len(chosen)} partitions of "
                f"topic {topic!r}, {shown(chosen)}; let it choose one, as rows have one place"
            )
            raise StreamsError(message)
        (chosen,) = chosen
    found: int | None = chosen
    return found
