"""Fused chains do what their operators do by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg import StreamsBuilder, StreamsConfig, TopologyTestDriver, serdes
from thalweg.streams.error_handlers import log_and_continue
from thalweg.topology import fusion
from thalweg.topology.dsl import KStream

ROWS: list[tuple[str | None, str | None]] = [
    ("a", "to be or not to be"),
    (None, "to"),
    ("b", ""),
    ("c", "none of none"),
    ("d", "bad key bad"),
    ("e", "one"),
    ("f", None),
    ("g", "to one"),
]


def words(value: str | None) -> list[str]:
    if value is None:
        raise ValueError("no words")
    if value == "one":
        return value  # type: ignore[return-value]
    return value.split()


def key_of(_key: Any, word: str) -> str | None:
    if word == "bad":
        raise ValueError("a bad word")
    return None if word == "none" else word


def counted(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    grouped = stream.group_by(key_of, key_serde=serdes.string, value_serde=serdes.string)
    return grouped.count().to_stream()


def words_by_key(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    return counted(stream.flat_map_values(words))


def words_with_key(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    return counted(stream.flat_map_values(lambda _key, value: words(value)))


def lines_by_key(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    return counted(stream)


def words_selected(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    return stream.flat_map_values(words).select_key(key_of)


def words_split(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    split = stream.flat_map_values(words)
    split.for_each(lambda _key, _value: None)
    return counted(split)


def words_mapped(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    mapped = stream.map(lambda key, value: (key_of(key, value), value))
    return (
        mapped.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count().to_stream()
    )


def selected_twice(stream: KStream[Any, Any]) -> KStream[Any, Any]:
    """A selector with two children is not fused."""
    selected = stream.select_key(key_of)
    first = selected.repartition(key_serde=serdes.string, value_serde=serdes.string)
    return first.merge(selected.repartition(key_serde=serdes.string, value_serde=serdes.string))


CHAINS = [
    words_by_key,
    words_with_key,
    lines_by_key,
    words_selected,
    words_split,
    words_mapped,
    selected_twice,
]


def results(chain: Callable[[KStream[Any, Any]], KStream[Any, Any]]) -> tuple[Any, ...]:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    chain(stream).map_values(str).to("out", key_serde=serdes.string, value_serde=serdes.string)
    config = StreamsConfig(application_id="fusion", processing_handler=log_and_continue)
    with TopologyTestDriver(builder.build(), config=config) as driver:
        topic = driver.create_input_topic("in", serdes.string, serdes.string)
        for timestamp, (key, value) in enumerate(ROWS):
            topic.pipe_input(key, value, timestamp)
        out = driver.create_output_topic("out", serdes.string, serdes.string)
        records = [(r.key, r.value, r.timestamp) for r in out.read_records_to_list()]
        dropped = {
            reason: sum(m.value for m in driver.metrics() if m.tags.get("reason") == reason)
            for reason in ("null-group-key", "processing-error")
        }
        return records, dropped


@pytest.mark.parametrize("chain", CHAINS)
def test_a_topology_has_the_same_results_without_fusions(
    chain: Callable[[KStream[Any, Any]], KStream[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    records, dropped = results(chain)
    told = [line for line in caplog.messages if " dropped " in line]
    assert records
    assert bool(told) is bool(dropped["null-group-key"])
    monkeypatch.setattr(fusion, "FUSIONS", ())
    caplog.clear()

    assert results(chain) == (records, dropped)
    # Told is the node that gave None as a key, fused or not.
    assert [line for line in caplog.messages if " dropped " in line] == told
    assert all(line.startswith(("KSTREAM-KEY-SELECT-", "KSTREAM-MAP-")) for line in told)


def test_the_chains_above_are_fused_where_a_pattern_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, ...]] = []

    def noting(one: fusion.Fusion) -> fusion.Fusion:
        def build(*stages: fusion.Stage[Any]) -> Any:
            process = one.build(*stages)
            if process is not None:
                found.append(tuple(type(stage.operator).__name__ for stage in stages))
            return process

        return fusion.Fusion(one.pattern, build)

    monkeypatch.setattr(fusion, "FUSIONS", [noting(one) for one in fusion.FUSIONS])

    for chain in CHAINS:
        results(chain)

    three = ("FlatMapValues", "SelectKey", "NullKeyFilter")
    assert found.count(three) == 1
    assert found.count(three[1:]) == 4
