"""Golden cases `joinfk*`: joins of tables by foreign key, and their names."""

from __future__ import annotations

from tests.golden.builders.registry import D, I, L, S, dsl_case
from tests.golden.builders.versioned import versioned
from tests.golden.java import cat, fk, remainder
from thalweg.topology.dsl import Materialized, StreamsBuilder


@dsl_case
def joinfk_inner_sample(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat, foreign_key_extractor=fk).to_stream().to("out")


@dsl_case
def joinfk_left_sample(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.left_join(right, cat, foreign_key_extractor=fk).to_stream().to("out")


@dsl_case
def joinfk_inner(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat, foreign_key_extractor=fk, name="jt").to_stream().to("out")


@dsl_case
def joinfk_left(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.left_join(right, cat, foreign_key_extractor=fk).to_stream().to("out")


@dsl_case
def joinfk_named(b: StreamsBuilder) -> None:
    left, right = b.table("l", store="lt"), b.table("r", store="rt")
    joined = left.left_join(
        right,
        cat,
        foreign_key_extractor=lambda k, v: "f0" if k == "k0" else fk(v),
        named="fkj",
        name="jt",
    )
    joined.to_stream().to("out")


@dsl_case
def joinfk_types(b: StreamsBuilder) -> None:
    left = b.table("l", key_serde=L, value_serde=I)
    right = b.table("r", key_serde=I, value_serde=D)
    joined = left.join(
        right,
        cat,
        foreign_key_extractor=lambda v: remainder(v, 3),
        materialized=Materialized(key_serde=L, value_serde=S),
    )
    joined.to_stream().to("out", key_serde=L, value_serde=S)


@dsl_case
def joinfk_versioned(b: StreamsBuilder) -> None:
    left = b.table("l", materialized=versioned("lt", 1000))
    right = b.table("r", materialized=versioned("rt", 1000))
    left.join(right, cat, foreign_key_extractor=fk).to_stream().to("out")


@dsl_case
def opt_fk(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat, foreign_key_extractor=fk).to_stream().to("out")


@dsl_case
def naming_joinfk(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.join(right, cat, foreign_key_extractor=fk)
    left.left_join(right, cat, foreign_key_extractor=fk, named="tj")
    left.join(right, cat, foreign_key_extractor=fk, name="ms")
    kept = left.left_join(right, cat, foreign_key_extractor=fk, named="tj2", name="ms2")
    kept.to_stream().to("out")


@dsl_case
def naming_joinfk_nested(b: StreamsBuilder) -> None:
    left = b.stream("l", key_serde=S, value_serde=S).group_by(lambda k, v: v).reduce(lambda x, y: x)
    right = b.table("r").filter(lambda k, v: True)
    joined = left.join(right, cat, foreign_key_extractor=fk)
    joined.group_by(lambda k, v: (v, k)).count().to_stream().to("out")


# -- of Kafka 4.4.0 ------------------------------------------------------------------------


@dsl_case
def default_joinfk_left(b: StreamsBuilder) -> None:
    left, right = b.table("l"), b.table("r")
    left.left_join(right, cat, foreign_key_extractor=fk).to_stream().to("out")
