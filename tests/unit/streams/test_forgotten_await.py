"""What is told of a value that is a coroutine: a function returned what an async one returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from thalweg.stores.serde import Serde, serdes
from thalweg.streams.config import StreamsConfig
from thalweg.streams.errors import SerializationError, StreamsError
from thalweg.streams.producer import Producer
from thalweg.streams.testing import TopologyTestDriver
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.topology.dsl import KStream, StreamsBuilder, TimeWindows

S = serdes.string
OWN: Serde[Any] = Serde.of(lambda value: value.encode(), bytes.decode, name="own")

Made = Callable[..., Any]


async def fetch(*_given: object) -> str:
    return "later"


@pytest.fixture
def make() -> Iterator[Made]:
    """A plain function that returns what an async one returns; Python is not told of it again."""
    made: list[Any] = []

    def call(*given: object) -> Any:
        made.append(fetch(*given))
        return made[-1]

    yield call
    for coroutine in made:
        coroutine.close()


BUILDS: dict[str, tuple[str, Callable[[StreamsBuilder, KStream[Any, Any], Made, Any], Any]]] = {
    "map_values": ("value", lambda b, s, f, serde: s.map_values(lambda v: f(v))),
    "map": ("value", lambda b, s, f, serde: s.map(lambda k, v: (k, f(v)))),
    "flat_map_values": ("value", lambda b, s, f, serde: s.flat_map_values(lambda v: [f(v)])),
    "select_key": ("key", lambda b, s, f, serde: s.select_key(lambda _k, v: f(v))),
    "join": ("value", lambda b, s, f, serde: s.left_join(b.table("t"), lambda a, b: f(a, b))),
    "process_values": (
        "value",
        lambda b, s, f, serde: s.map_values(lambda v: v).map_values(lambda v: f(v)),
    ),
    "group_by": (
        "key",
        lambda b, s, f, serde: s.group_by(lambda _k, v: f(v)).count().to_stream(),
    ),
    "aggregate": (
        "value",
        lambda b, s, f, serde: (
            s.group_by_key()
            .aggregate(str, lambda _k, v, total: f(v, total), name="a", value_serde=serde)
            .to_stream()
        ),
    ),
    "initializer": (
        "value",
        lambda b, s, f, serde: (
            s.group_by_key()
            .aggregate(lambda: f(), lambda _k, _v, total: total, name="a", value_serde=serde)
            .to_stream()
        ),
    ),
    "reduce": (
        "value",
        lambda b, s, f, serde: s.group_by_key().reduce(lambda a, b: f(a, b), name="a").to_stream(),
    ),
    "windowed reduce": (
        "value",
        lambda b, s, f, serde: (
            s.group_by_key()
            .windowed_by(TimeWindows.of_size(10))
            .reduce(lambda a, b: f(a, b), name="a")
            .to_stream(lambda k, v: k.key)
        ),
    ),
    "table map_values": (
        "value",
        lambda b, s, f, serde: s.to_table().map_values(lambda v: f(v), name="m").to_stream(),
    ),
    "table join": (
        "value",
        lambda b, s, f, serde: (
            s.to_table().left_join(b.table("t"), lambda a, b: f(a, b)).to_stream()
        ),
    ),
    "adder": (
        "value",
        lambda b, s, f, serde: (
            s.to_table()
            .group_by(lambda k, v: (k, v))
            .aggregate(str, lambda _k, v, _t: f(v), lambda _k, _v, t: t, name="a")
            .to_stream()
        ),
    ),
}


def feed(driver: TopologyTestDriver, pipe: Callable[..., None]) -> None:
    pipe("k", "v", 1)
    pipe("k", "w", 2)
    driver.commit()


@pytest.mark.parametrize("cache_bytes", [0, 100_000])
@pytest.mark.parametrize("serde", [S, OWN], ids=["built in", "own"])
@pytest.mark.parametrize("case", BUILDS)
def test_a_coroutine_where_a_value_is_meant_is_told_by_name(
    case: str, serde: Serde[Any], make: Made, cache_bytes: int
) -> None:
    half, build = BUILDS[case]
    builder = StreamsBuilder()
    build(builder, builder.stream("in"), make, serde).to("out")
    with TopologyTestDriver(
        builder,
        default_key_serde=serde,
        default_value_serde=serde,
        statestore_cache_max_bytes=cache_bytes,
        commit="manual",
    ) as driver:
        topic = driver.create_input_topic("in", S, S)
        with pytest.raises(StreamsError) as raised:
            feed(driver, topic.pipe_input)

    message = raised.value.message
    assert f"cannot write the {half} of a r" in message
    assert "it is the coroutine of fetch(), which was never awaited" in message
    assert "return a plain value" in message
    assert "give the serde" not in message


def test_a_coroutine_that_is_sent_or_piped_is_told_by_name(make: Made) -> None:
    log = memory_log()
    config = StreamsConfig(application_id="a")
    with (
        Producer(config, transport=lambda: MemoryTransport(log, "a")) as producer,
        pytest.raises(SerializationError, match=r"the value .* it is the coroutine of fetch\(\)"),
    ):
        producer.send("t", make(), value_serde=S)
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    with (
        TopologyTestDriver(builder) as driver,
        pytest.raises(SerializationError, match=r"the key .* it is the coroutine of fetch\(\)"),
    ):
        driver.create_input_topic("in", S, S).pipe_input(make(), "v")


@pytest.mark.parametrize("family", [serdes.json, serdes.msgpack], ids=["json", "msgpack"])
@pytest.mark.parametrize("given", [3, "int", [int], (int, str), {"a": int}, int | object], ids=repr)
def test_what_is_no_type_is_refused_with_what_is_taken(family: Any, given: Any) -> None:
    with pytest.raises(TypeError) as raised:
        family(given)

    told = str(raised.value)
    assert told.startswith(f"serdes.{family.name}() takes a type, got ")
    assert "give a msgspec.Struct, a dataclass," in told
    assert f"serdes.{family.name} alone takes any value" in told
