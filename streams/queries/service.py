"""Finds stores by name and combines the faces of their tasks.

Owns the reasons for which a store cannot be read: it does not exist, is of another kind or other
types, is not ready, or has moved. The faces of a kind are in `queries.kinds`. It must not know how
a task keeps its stores.

Source: JVM `QueryableStoreProvider`, `StoreQueryParameters`; semantics D18.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thalweg.stores.builders import StoreBuilder
from thalweg.stores.errors import UnknownStoreError
from thalweg.stores.serde import Serde, may_be, type_name
from thalweg.streams.queries.composite import Composite, same, value_of
from thalweg.streams.queries.kinds.known import family_named, kind_of
from thalweg.topology.physical import Topology


class QueryService:
    """Finds stores by name and puts their tasks' faces together.

    Args:
        topology: knows which stores there are and of which kind.
        default_key_serde: of stores that name none.
        default_value_serde: of stores that name none.
        faces: (name, partition) -> the read-only faces of the tasks that have it now, of all
            partitions here where it is None; raises StoreNotReadyError while they cannot
            answer, StoreMovedError where the partition is not here.
    """

    def __init__(
        self,
        topology: Topology,
        default_key_serde: Serde[Any],
        default_value_serde: Serde[Any],
        faces: Callable[[str, int | None], Sequence[Any]],
    ) -> None:
        self._topology = topology
        self._default_key_serde = default_key_serde
        self._default_value_serde = default_value_serde
        self._faces = faces

    def builder(self, name: str) -> StoreBuilder:
        """Returns the description of a store, with its serdes settled.

        Raises:
            UnknownStoreError: the topology has no store of that name.
        """
        stores = {**self._topology.stores, **self._topology.global_stores}
        if name not in stores:
            known = ", ".join(sorted(stores)) or "none; name one, as in count(name=…)"
            message = f"there is no store {name!r}; the topology's stores: {known}"
            raise UnknownStoreError(message)
        builder: StoreBuilder = stores[name]
        return builder.with_default_serdes(self._default_key_serde, self._default_value_serde)

    def store(
        self,
        name: str,
        *,
        key: object = None,
        value: object = None,
        family: str | None = None,
        timestamped: bool = False,
        partition: int | None = None,
    ) -> Composite[Any]:
        """Returns the read-only face of a store.

        Args:
            name: the store.
            key: the type its keys must have; None for any.
            value: the type its values must have; None for any.
            family: what kind of store it must be, as `StoreKind.family`; None for any.
            timestamped: give values as `ValueAndTimestamp`, where the store keeps them so.
            partition: read this partition only; None for all that are here.

        Raises:
            UnknownStoreError: the topology has no store of that name.
            TypeError: it is of another kind, or of other types.
            ValueError: there is no such kind.
            StoreNotReadyError: its tasks are not running yet.
            StoreMovedError: the partition is not here.
        """
        builder = self.builder(name)
        refuse_family(builder, family)
        kind = kind_of(builder)
        has_times = kind.gives_timestamps(builder)
        if timestamped and key is not None and not has_times:
            message = f"{_told(builder)}, which keeps no timestamps: leave out timestamped=True"
            raise TypeError(message)
        refuse_types(builder, key, value)
        unwrap = value_of if has_times and not timestamped else same

        def faces() -> Sequence[Any]:
            return self._faces(name, partition)

        face = kind.face(builder, faces, unwrap)
        faces()  # a store that cannot answer is told here, not at the first read
        return face


def refuse_family(builder: StoreBuilder, asked: str | None) -> None:
    """Refuses a store of another kind than it was asked for.

    Raises:
        TypeError: it is.
        ValueError: there is no such kind.
    """
    kind = kind_of(builder)
    if asked is None or asked == kind.family:
        return
    other = family_named(asked)
    remedy = f"ask for it with {kind.asked_by}"
    if kind.is_default:
        remedy = f"leave out {other.asked_by}"
    message = f"{_told(builder)}: {remedy}"
    raise TypeError(message)


def refuse_kind(builder: StoreBuilder, asked: str) -> None:
    """Refuses a store of another kind than `kind=` asks for.

    Raises:
        TypeError: it is.
    """
    family = kind_of(builder).family
    if asked != family:
        family_named(asked)
        remedy = f'ask for it with kind="{family}"' if family else "it cannot be asked with types"
        message = f"{_told(builder)}: {remedy}"
        raise TypeError(message)


def refuse_types(builder: StoreBuilder, key: object, value: object) -> None:
    """Refuses types that the store's keys or values do not have.

    Raises:
        TypeError: its serdes read others.
    """
    for what, asked, serde in (
        ("key", key, builder.key_serde),
        ("value", value, builder.value_serde),
    ):
        assert serde is not None
        if asked is None or may_be(serde.value_type, asked):
            continue
        shown = type_name(serde.value_type)
        message = (
            f"the {what}s of store {builder.name!r} are {shown} (serde {serde.name}), not "
            f"{type_name(asked)}: ask for {what}={shown}, or give the store the serde of the type"
        )
        raise TypeError(message)


def _told(builder: StoreBuilder) -> str:
    return f"store {builder.name!r} is a {builder.kind} store"
