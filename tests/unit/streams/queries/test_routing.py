"""Answers put together from instances, against what one instance answers that has everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.streams.queries.asked import CLICKS, PARTITIONS, PEOPLE, Share
from thalweg import App
from thalweg.rebalance.values import Endpoint
from thalweg.streams.errors import StoreMovedError
from thalweg.streams.queries.answers import Part, decode_part, encode_part
from thalweg.streams.queries.kinds.key_value import key_question, rows_question
from thalweg.streams.queries.kinds.window import windows_question
from thalweg.streams.queries.questions import Question, Scope, cursor_text
from thalweg.streams.queries.routing import Router

NAMES = sorted(PEOPLE)
SPLITS = st.lists(st.integers(0, 2), min_size=PARTITIONS, max_size=PARTITIONS)


class Network:
    """Instances that share the partitions of one application, joined without sockets."""

    def __init__(self, app: App, split: Sequence[int]) -> None:
        ends = [Endpoint(f"host{number}", 1) for number in range(3)]
        owned = [{p for p, owner in enumerate(split) if owner == n} for n in range(3)]
        others = dict(zip(ends, owned, strict=True))
        shares = [Share(app, owned[n], ends[n], others) for n in range(3)]
        self.routers = {
            end: Router(share, self.hop, lambda asks: [ask() for ask in asks])
            for end, share in zip(ends, shares, strict=True)
        }
        self.hops: list[tuple[Endpoint, tuple[int, ...]]] = []

    def hop(self, owner: Endpoint, question: Question, partitions: Sequence[int]) -> Part:
        """Asks another instance, through the bytes that would travel."""
        self.hops.append((owner, tuple(partitions)))
        asked = replace(question, scope=Scope.LOCAL, partitions=tuple(partitions))
        return decode_part(encode_part(self.routers[owner].local_part(asked)))


def paged(ask: Callable[[list[tuple[str, str]]], Part], limit: int) -> list[Any]:
    """Reads all pages of an answer."""
    rows: list[Any] = []
    cursor: str | None = None
    while True:
        parameters = [("limit", str(limit))] + ([("cursor", cursor)] if cursor else [])
        part = ask(parameters)
        rows += [msgspec.json.decode(row.row) for row in part.rows]
        if not part.is_cut:
            return rows
        assert len(part.rows) == limit
        cursor = cursor_text(part.rows[-1].order)


@settings(deadline=None, max_examples=60)
@given(
    split=SPLITS,
    asked=st.integers(0, 2),
    lower=st.none() | st.sampled_from(NAMES),
    upper=st.none() | st.sampled_from(NAMES),
    prefix=st.none() | st.sampled_from(["", "person", "person 1", "person 3", "x"]),
    is_reverse=st.booleans(),
    limit=st.integers(1, 50),
)
def test_rows_are_those_of_the_model_however_they_are_spread(
    app: App,
    split: list[int],
    asked: int,
    lower: str | None,
    upper: str | None,
    prefix: str | None,
    is_reverse: bool,
    limit: int,
) -> None:
    network = Network(app, split)
    builder = app.store_builder("people")
    given: list[tuple[str, str]] = []
    if prefix is not None:
        given, is_reverse = [("prefix", prefix)], False
        wanted = [name for name in NAMES if name.startswith(prefix)]
    else:
        given += [("from", lower)] if lower is not None else []
        given += [("to", upper)] if upper is not None else []
        given += [("reverse", "true")] if is_reverse else []
        wanted = [n for n in NAMES if (lower or "") <= n <= (upper if upper is not None else "q")]
    router = network.routers[Endpoint(f"host{asked}", 1)]

    rows = paged(
        lambda more: router.answer(rows_question(builder, "/stores/people", [*given, *more], None)),
        limit,
    )

    assert [row["key"] for row in rows] == sorted(wanted, reverse=is_reverse)
    assert all(owner != Endpoint(f"host{asked}", 1) for owner, _ in network.hops)


@settings(deadline=None, max_examples=40)
@given(
    split=SPLITS,
    asked=st.integers(0, 2),
    store=st.sampled_from(["hourly", "hourly-in-memory"]),
    key=st.none() | st.sampled_from([page for page, _ in CLICKS[:7]]),
    is_reverse=st.booleans(),
    limit=st.integers(1, 30),
)
def test_windows_are_those_of_one_instance_however_they_are_spread(
    app: App,
    split: list[int],
    asked: int,
    store: str,
    key: str | None,
    is_reverse: bool,
    limit: int,
) -> None:
    builder = app.store_builder(store)
    given = [("reverse", "1")] if is_reverse else []

    def ask(network: Network, more: list[tuple[str, str]]) -> Part:
        question = windows_question(builder, f"/stores/{store}/windows", [*given, *more], key)
        return network.routers[Endpoint(f"host{asked}", 1)].answer(question)

    whole = paged(lambda more: ask(Network(app, [asked] * PARTITIONS), more), 1000)
    rows = paged(lambda more: ask(Network(app, split), more), limit)

    assert rows == whole
    assert len({(row["key"]["key"], row["key"]["start"]) for row in rows}) == len(rows)
    assert len(rows) == len({(p, t // 3_600_000) for p, t in CLICKS if key in (None, p)})


@settings(deadline=None, max_examples=60)
@given(split=SPLITS, asked=st.integers(0, 2), name=st.sampled_from([*NAMES, "nobody"]))
def test_a_key_costs_one_hop_at_most_where_it_is_found(
    app: App, split: list[int], asked: int, name: str
) -> None:
    network, here = Network(app, split), Endpoint(f"host{asked}", 1)
    question = key_question(app.store_builder("people"), "/stores/people", [], name)

    part = network.routers[here].answer(question)

    found = [msgspec.json.decode(row.row)["key"] for row in part.rows]
    assert found == ([name] if name in PEOPLE else [])
    if found:
        partition = app.key_query_metadata("people", name).partition
        owner = Endpoint(f"host{split[partition]}", 1)
        assert network.hops == ([] if owner == here else [(owner, (partition,))])
    else:
        everywhere = [p for _, partitions in network.hops for p in partitions]
        assert sorted(everywhere) == [p for p in range(PARTITIONS) if split[p] != asked]


def test_a_named_partition_that_is_not_here_is_refused(app: App) -> None:
    network = Network(app, [0, 1, 1, 1])
    question = rows_question(
        app.store_builder("people"),
        "/stores/people",
        [("scope", "local"), ("partition", "2")],
        None,
    )

    with pytest.raises(StoreMovedError, match=r"partition 2 .* is not in this instance"):
        network.routers[Endpoint("host0", 1)].answer(question)
