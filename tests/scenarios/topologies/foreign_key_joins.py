"""Joins of tables by foreign key."""

from __future__ import annotations

from typing import Any

from tests.scenarios.registry import SERDES, topology
from thalweg.stores.builders import key_value_store, versioned_store
from thalweg.topology.dsl import Materialized, StreamsBuilder

S, I = SERDES["string"], SERDES["int32"]  # noqa: E741 - the names they have elsewhere


def pair(left: object, right: object) -> str:
    """Joins two values, one that is missing as `null`."""
    return f"({'null' if left is None else left},{'null' if right is None else right})"


@topology
def tables_joined_by_foreign_key(
    b: StreamsBuilder,
    *,
    kind: str,
    store: str | None = None,
    rejoin: bool = False,
    history: tuple[int | None, int | None] = (None, None),
    extractor: str = "part",
) -> None:
    """A table joined with another by the part of its value behind the bar, and with itself again."""
    tables = []
    for topic, kept in zip(("left", "right"), history, strict=True):
        given: dict[str, Any] = {}
        if kept is not None:
            given["materialized"] = Materialized(store=versioned_store(topic, kept, in_memory=True))
        tables.append(b.table(topic, key_serde=S, value_serde=S, **given))
    left, right = tables

    def foreign_key(value: str) -> str | None:
        part = value.split("|")[1]
        if extractor == "none" or (extractor == "or null" and part == "returnNull"):
            return None
        return part

    def kept_as(name: str | None, caching: bool) -> Materialized[Any, Any]:
        if name is None:
            return Materialized(value_serde=S, caching=caching)
        kept = key_value_store(name, in_memory=True)
        return Materialized(store=kept, value_serde=S, caching=False)

    join: Any = left.left_join if kind == "left" else left.join
    joined = join(
        right, pair, foreign_key_extractor=foreign_key, materialized=kept_as(store, caching=False)
    )
    joined.to_stream().to("out")
    if rejoin:
        again: Any = joined.left_join if kind == "left" else joined.join
        rejoined = again(
            left,
            lambda one, two: f"rejoin{pair(one, two)}",
            materialized=kept_as(store and f"{store}-rejoin", caching=True),
        )
        rejoined.to_stream().to("rejoined")


@topology
def tables_joined_by_foreign_key_with_cache(
    b: StreamsBuilder, *, materialized: bool, queryable: bool
) -> None:
    """An inner join by the part behind the bar; the store of the result has a cache."""
    left = b.table("left", key_serde=S, value_serde=S)
    right = b.table("right", key_serde=S, value_serde=S)
    kept: Materialized[Any, Any] = Materialized("store" if queryable else None, value_serde=S)
    joined = left.join(
        right,
        pair,
        foreign_key_extractor=lambda v: v.split("|")[1],
        materialized=kept if materialized else None,
    )
    joined.to_stream().to("out", value_serde=S)


@topology
def table_joined_with_its_foreign_key_join(
    b: StreamsBuilder,
    *,
    consumed: bool = False,
    foreign_serdes: bool = False,
    serdes: bool = False,
    produced: bool = False,
) -> None:
    """A table joined with what it gives joined by foreign key; serdes are given or the default."""
    given: dict[str, Any] = {"key_serde": I, "value_serde": S}
    one = b.table("A", **(given if consumed else {}))
    other = b.table("B")
    by_key = one.join(
        other,
        pair,
        foreign_key_extractor=lambda v: int(v.split("-")[0]),
        materialized=Materialized("asdf", **(given if foreign_serdes else {})),
    )
    kept: Materialized[Any, Any] | None = Materialized(**given) if serdes else None
    joined = one.join(by_key, pair, materialized=kept)
    joined.to_stream().to("out", **(given if produced else {}))


@topology
def three_tables_joined_by_foreign_key(b: StreamsBuilder) -> None:
    """A table joined by its whole part with another, and the result by its text with a third."""
    fractions = b.table("one", key_serde=I, value_serde=SERDES["float64"])
    numbers = b.table("two", key_serde=S, value_serde=SERDES["int64"])
    words = b.table("three", key_serde=I, value_serde=S)

    def kept(name: str) -> Materialized[int, str]:
        return Materialized(name, key_serde=I, value_serde=S, caching=False)

    joined = fractions.join(
        numbers,
        lambda one, two: f"value1={one},value2={two}",
        foreign_key_extractor=lambda v: str(int(v)),
        materialized=kept("store1"),
    )
    joined_again = joined.join(
        words,
        lambda both, three: f"{both},value3={three}",
        foreign_key_extractor=lambda v: 10 if "value2=10" in v else 0,
        materialized=kept("store2"),
    )
    joined_again.to_stream().to("out", key_serde=I, value_serde=S)
