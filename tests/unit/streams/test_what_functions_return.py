"""What is told of user functions that are or return what their operator cannot take."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from thalweg.stores.builders import key_value_store
from thalweg.stores.record import Headers, Record
from thalweg.stores.serde import Serde, serdes
from thalweg.streams.app import App
from thalweg.streams.config import StreamsConfig
from thalweg.streams.error_handlers import Response
from thalweg.streams.errors import ConfigError, ProcessingError, StreamsError
from thalweg.streams.producer import Producer
from thalweg.streams.restore_listener import RestoreListener
from thalweg.streams.testing import TopologyTestDriver
from thalweg.streams.transport.memory import MemoryTransport, memory_log
from thalweg.topology.dsl import (
    KStream,
    Materialized,
    StreamsBuilder,
    TimeWindows,
)
from thalweg.topology.physical import Topology
from thalweg.topology.processor import (
    FixedKeyProcessor,
    FixedKeyRecord,
    Processor,
    PunctuationType,
)

S = serdes.string
Build = Callable[[KStream[str, str]], Any]


class Order(msgspec.Struct):
    id: str


async def later(*_arguments: Any) -> bool:
    return False


def told(build: Build, value: str = "v", **settings: Any) -> StreamsError:
    """Returns what a record raises in a topology that writes strings to `out`."""
    builder = StreamsBuilder()
    built = build(builder.stream("in", key_serde=S, value_serde=S))
    if isinstance(built, KStream):
        built.to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder, **settings) as driver:
        topic = driver.create_input_topic("in", S, S)
        with pytest.raises(StreamsError) as raised:
            topic.pipe_input("k", value)
    return raised.value


def table_of(stream: KStream[str, str]) -> Any:
    return stream.to_table()


NO_PAIRS: list[Any] = [None, "ab", b"ab", {"a": 1, "b": 2}, {1, 2}, ("a",), ("a", "b", "c"), 5]


@pytest.mark.parametrize("returned", NO_PAIRS, ids=repr)
def test_a_map_that_returns_no_pair_is_told(returned: Any) -> None:
    error = told(lambda s: s.map(lambda _k, _v: returned, name="m"))

    assert isinstance(error, ProcessingError)
    assert error.node == "m"
    assert "the function of map() returned " in error.message
    assert repr(returned) in error.message
    assert "it must return a pair" in error.message


@pytest.mark.parametrize("returned", NO_PAIRS, ids=repr)
def test_a_flat_map_with_something_else_than_pairs_is_told(returned: Any) -> None:
    error = told(lambda s: s.flat_map(lambda k, v: [(k, v), returned]))

    assert "the function of flat_map() returned, among others, " in error.message
    assert repr(returned) in error.message
    assert "each must be a pair" in error.message


@pytest.mark.parametrize("returned", NO_PAIRS[1:], ids=repr)
def test_a_table_that_is_grouped_by_no_pair_is_told(returned: Any) -> None:
    error = told(
        lambda s: table_of(s).group_by(lambda _k, _v: returned, key_serde=S, value_serde=S).count()
    )

    assert "the function of group_by() returned " in error.message
    assert "it must return a pair" in error.message


def test_a_row_of_no_group_is_left_out() -> None:
    builder = StreamsBuilder()
    table = builder.table("in", key_serde=S, value_serde=S)
    grouped = table.group_by(
        lambda k, v: None if v == "none" else (v, v), key_serde=S, value_serde=S
    )
    grouped.count().to_stream().to("out", key_serde=S, value_serde=serdes.int64)
    with TopologyTestDriver(builder) as driver:
        topic = driver.create_input_topic("in", S, S)
        for value in ("a", "none", "b"):
            topic.pipe_input("k", value)
        out = driver.create_output_topic("out", S, serdes.int64)
        assert out.read_key_values_to_list() == [("a", 1), ("a", 0), ("b", 1)]


def test_pairs_may_be_lists() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=S, value_serde=S)
    stream.map(lambda k, v: [v, k]).flat_map(lambda k, v: ([k, v] for _ in "12")).to(  # type: ignore[arg-type, return-value]
        "out", key_serde=S, value_serde=S
    )
    with TopologyTestDriver(builder) as driver:
        driver.create_input_topic("in", S, S).pipe_input("k", "v")
        out = driver.create_output_topic("out", S, S)
        assert out.read_key_values_to_list() == [("v", "k"), ("v", "k")]


@pytest.mark.parametrize("returned", [None, "text", b"text", 5, Order("o")], ids=repr)
@pytest.mark.parametrize("operator", ["flat_map", "flat_map_values", "with_key", "selecting"])
def test_several_values_that_are_none_or_one_are_told(operator: str, returned: Any) -> None:
    builds: dict[str, Build] = {
        "flat_map": lambda s: s.flat_map(lambda _k, _v: returned),
        "flat_map_values": lambda s: s.flat_map_values(lambda _v: returned),
        "with_key": lambda s: s.flat_map_values(lambda _k, _v: returned),
        "selecting": lambda s: s.flat_map_values(lambda _v: returned).select_key(lambda _k, v: v),
    }
    error = told(builds[operator])

    name = "flat_map" if operator == "flat_map" else "flat_map_values"
    assert f"the function of {name}() returned {returned!r}" in error.message
    assert "it must return an iterable of" in error.message


PREDICATES: dict[str, tuple[str, Callable[[KStream[str, str], Any], Any]]] = {
    "filter": ("filter", lambda s, p: s.filter(p)),
    "filter_not": ("filter_not", lambda s, p: s.filter_not(p)),
    "branch": ("branch", lambda s, p: s.split().branch(p).default_branch() and s),
    "table filter": ("filter", lambda s, p: table_of(s).filter(p).to_stream()),
    "table filter_not": ("filter_not", lambda s, p: table_of(s).filter_not(p, name="x")),
    "joined view": (
        "filter",
        lambda s, p: table_of(s).filter(p).join(table_of(s), lambda a, b: a).to_stream(),
    ),
}


@pytest.mark.parametrize("case", PREDICATES)
def test_a_predicate_that_forgot_to_return_is_told(case: str) -> None:
    name, build = PREDICATES[case]
    error = told(lambda s: build(s, lambda _k, _v: None))

    assert f"the predicate of {name}() returned None; it must return True or False" in error.message


@pytest.mark.parametrize("returned", [(one for one in "a"), later], ids=["generator", "function"])
def test_a_predicate_that_returns_what_is_always_true_is_told(returned: Any) -> None:
    error = told(lambda s: s.filter(lambda _k, _v: returned))

    assert "the predicate of filter() returned " in error.message


def test_a_predicate_may_return_what_python_takes_for_true() -> None:
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=S, value_serde=S)
    stream.filter(lambda _k, v: v).filter_not(lambda _k, v: len(v) - 1).to(  # type: ignore[arg-type, return-value]
        "out", key_serde=S, value_serde=S
    )
    with TopologyTestDriver(builder) as driver:
        driver.create_input_topic("in", S, S).pipe_key_values([("1", ""), ("2", "a"), ("3", "ab")])
        assert driver.create_output_topic("out", S, S).read_values_to_list() == ["a"]


@pytest.mark.parametrize(
    "returned",
    [1.5, None, True, "7", datetime(2026, 1, 1, tzinfo=UTC), 2**63],
    ids=repr,
)
def test_an_extractor_that_returns_no_int_is_told(returned: Any) -> None:
    builder = StreamsBuilder()
    extract: Any = lambda _record, _time: returned
    builder.stream("in", key_serde=S, value_serde=S, timestamp_extractor=extract).to("out")
    with TopologyTestDriver(builder) as driver, pytest.raises(StreamsError) as raised:
        driver.create_input_topic("in", S, S).pipe_input("k", "v")

    assert "the timestamp extractor failed" in raised.value.message
    assert repr(returned)[:20] in raised.value.message
    assert "it must return epoch milliseconds as an int" in raised.value.message


@pytest.mark.parametrize(
    "returned", [1.5, True, "1", "", [0, "x"], [[0]], 7, -1, Order("o")], ids=repr
)
def test_a_partitioner_that_returns_no_partition_is_told(returned: Any) -> None:
    choose: Any = lambda _topic, _key, _value, _count: returned
    error = told(lambda s: s.to("out", partitioner=choose, name="sink"))

    assert error.node == "sink"
    assert "the partitioner of topic 'out' returned " in error.message


@pytest.mark.parametrize("returned", [None, "", 5, b"out", ["out"], {}], ids=repr)
def test_a_topic_extractor_that_returns_no_name_is_told(returned: Any) -> None:
    choose: Any = lambda _key, _value, _context: returned
    error = told(lambda s: s.to(choose, name="sink"))

    assert error.node == "sink"
    assert "the topic extractor of a sink returned " in error.message
    assert "it must return the name of a topic" in error.message


@pytest.mark.parametrize("returned", [None, "fail", True, {}], ids=repr)
def test_a_handler_that_returns_no_response_is_told(returned: Any) -> None:
    handler: Any = lambda _context, _record, _error: returned
    error = told(lambda s: s.map_values(int), processing_handler=handler)

    assert f"the processing_handler returned {returned!r}" in error.message
    assert "it must return Response.fail()" in error.message


def test_a_handler_whose_dead_letters_are_none_is_told() -> None:
    handler: Any = lambda _context, _record, _error: Response.resume("letter")  # type: ignore[arg-type]
    error = told(lambda s: s.map_values(int), processing_handler=handler)

    assert "the processing_handler returned 'letter' (str) among its dead letters" in error.message


# -- the Processor API ---------------------------------------------------------------------


def processing(
    work: Callable[[Any, Record[Any, Any]], Any], init: Callable[[Any, Any], None] | None = None
) -> type[Processor[Any, Any, Any, Any]]:
    """Returns a processor of two functions."""
    members: dict[str, Any] = {"process": work}
    if init is not None:
        members["init"] = init
    return type("Worker", (Processor,), members)


def forwarding(make: Callable[[Record[Any, Any]], Any]) -> StreamsError:
    """Returns what forwarding something raises."""
    worker = processing(lambda self, record: self.context.forward(make(record)))
    return told(lambda s: s.process(worker, name="p"))


@pytest.mark.parametrize("forwarded", ["x", None, ("k", "v", 1), 5], ids=repr)
def test_what_is_forwarded_and_no_record_is_told(forwarded: Any) -> None:
    error = forwarding(lambda _record: forwarded)

    assert f"forward() needs a Record, got {forwarded!r}" in error.message
    assert error.node == "p"


def fixed(forward: Callable[[Any, Any], None]) -> type[FixedKeyProcessor[Any, Any, Any]]:
    """Returns a processor with fixed keys, which calls `forward(context, record)`."""

    class Fixed(FixedKeyProcessor[Any, Any, Any]):
        def process(self, record: FixedKeyRecord[Any, Any]) -> None:
            forward(self.context, record)

    return Fixed


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda r: Record("other", r.value, r.timestamp), "got Record('other', 'v', "),
        (lambda r: Record(r.key, r.value, r.timestamp), "got Record('k', 'v', "),
        (lambda r: FixedKeyRecord("other", r.value, r.timestamp), "got one with the key 'other'"),
        (lambda r: FixedKeyRecord(None, r.value, r.timestamp), "got one with the key None"),
        (lambda _: "x", "got 'x'"),
        (lambda _: None, "got None"),
    ],
)
def test_a_processor_with_fixed_keys_forwards_no_other_key(
    make: Callable[[Any], Any], got: str
) -> None:
    worker = fixed(lambda context, record: context.forward(make(record)))
    error = told(lambda s: s.process_values(worker, name="p"))

    assert error.node == "p"
    assert "forward() of a FixedKeyProcessor needs the FixedKeyRecord it received, " in str(error)
    assert got in error.message
    assert "give record.with_value(...), or use process()" in error.message


def test_a_punctuator_with_fixed_keys_forwards_what_was_received_only() -> None:
    """As with the JVM, where a record of this kind can be kept and cannot be made."""
    kept: list[FixedKeyRecord[Any, Any]] = []

    class Fixed(FixedKeyProcessor[Any, Any, Any]):
        def init(self, context: Any) -> None:
            context.schedule(10, PunctuationType.WALL_CLOCK_TIME, self.tick)

        def process(self, record: FixedKeyRecord[Any, Any]) -> None:
            kept.append(record)
            self.context.forward(FixedKeyRecord(record.key, record.value.upper(), 7))

        def tick(self, now: int) -> None:
            for record in kept:
                self.context.forward(record.with_timestamp(5).with_value("late"))
            kept.clear()
            if now > 10:
                self.context.forward(FixedKeyRecord("c", "v", now))

    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=S, value_serde=S)
    stream.process_values(Fixed, name="p").to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        topic, out = driver.create_input_topic("in", S, S), driver.create_output_topic("out", S, S)
        topic.pipe_key_values([("a", "x"), ("b", "y")])
        driver.advance_wall_clock_time(10)
        assert out.read_key_values_to_list() == [
            *(("a", "X"), ("b", "Y")),
            *(("a", "late"), ("b", "late")),
        ]
        with pytest.raises(StreamsError, match="got one with the key 'c'"):
            driver.advance_wall_clock_time(10)


@pytest.mark.parametrize("headers", [{"a": b"1"}, {}, [("a", b"1")], "x"], ids=repr)
def test_headers_that_are_none_are_told(headers: Any) -> None:
    error = forwarding(lambda r: Record(r.key, r.value, r.timestamp, headers))

    assert "headers" in error.message
    assert "Headers" in error.message


@pytest.mark.parametrize(
    "timestamp", [1.5, True, None, "1", datetime(2026, 1, 1, tzinfo=UTC)], ids=repr
)
def test_a_record_with_another_time_is_told(timestamp: Any) -> None:
    error = forwarding(lambda r: Record(r.key, r.value, timestamp))

    assert "the timestamp of a record is an int of epoch milliseconds, got " in error.message


@pytest.mark.parametrize("item", [("a", "text"), (b"a", b"1"), ("a", 1), ("a",), "a"], ids=repr)
def test_headers_have_names_and_bytes(item: Any) -> None:
    with pytest.raises(TypeError, match="a value bytes or None"):
        Headers([item])
    with pytest.raises(TypeError, match="list of"):
        Headers({"a": b"1"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a value bytes or None"):
        Headers().add("a", "text")  # type: ignore[arg-type]


def test_a_process_that_returns_or_yields_records_is_told() -> None:
    def yields(_self: Any, record: Any) -> Any:
        yield record

    returns: list[Any] = [lambda _self, r: r, lambda _self, r: [r], yields]
    for work in returns:
        error = told(lambda s, work=work: s.process(processing(work), name="p"))  # type: ignore[misc]
        assert "process() returned " in error.message
        assert (
            "it must return nothing: records are sent on by self.context.forward" in error.message
        )


def test_a_processor_whose_init_does_not_call_its_class_has_a_context() -> None:
    class Upper(Processor[str, str, str, str]):
        def init(self, context: Any) -> None:
            self.ready = self.context is context

        def process(self, record: Record[str, str]) -> None:
            assert self.ready
            self.context.forward(record.with_value(record.value.upper()))

    class Fixed(FixedKeyProcessor[str, str, str]):
        def init(self, context: Any) -> None:
            """Forgets `super().init(context)`."""

        def process(self, record: Any) -> None:
            self.context.forward(record.with_value(record.value + "!"))

    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=S, value_serde=S)
    stream.process(Upper).process_values(Fixed).to("out", key_serde=S, value_serde=S)
    with TopologyTestDriver(builder) as driver:
        driver.create_input_topic("in", S, S).pipe_input("k", "v")
        assert driver.create_output_topic("out", S, S).read_value() == "V!"


def scheduling(schedule: Callable[[Any], Any]) -> StreamsError:
    worker = processing(lambda _self, _record: None, lambda _self, context: schedule(context))
    builder = StreamsBuilder()
    builder.stream("in").process(worker)
    with pytest.raises(StreamsError) as raised:
        TopologyTestDriver(builder)
    return raised.value


def test_what_cannot_be_scheduled_is_told() -> None:
    wall: Any = PunctuationType.WALL_CLOCK_TIME
    assert "schedule() needs a PunctuationType, got 'wall'" in str(
        scheduling(lambda context: context.schedule(10, "wall", print))
    )
    assert "an int of milliseconds, got 1.5 (float)" in str(
        scheduling(lambda context: context.schedule(1.5, wall, print))
    )
    assert "schedule() needs a function of (timestamp_ms); the lambda takes no arguments" in str(
        scheduling(lambda context: context.schedule(10, wall, lambda: None))
    )
    assert "later, which is async" in str(
        scheduling(lambda context: context.schedule(10, wall, later))
    )


def test_a_punctuator_that_returns_records_is_told() -> None:
    worker = processing(
        lambda _self, _record: None,
        lambda _self, context: (
            context.schedule(1, PunctuationType.STREAM_TIME, lambda now: [Record("k", "v", now)])
            and None
        ),
    )
    assert "a punctuator returned [Record(" in told(lambda s: s.process(worker)).message


# -- refused at the call -------------------------------------------------------------------


async def generating(*_arguments: Any) -> Any:
    yield 1


class Called:
    async def __call__(self, *_arguments: Any) -> bool:
        return False

    async def method(self, *_arguments: Any) -> bool:
        return False


ASYNC: list[Any] = [
    later,
    generating,
    functools.partial(later, 1),
    functools.partial(functools.partial(generating), 1),
    Called(),
    Called().method,
    functools.partial(Called(), 1),
]
CALLS: dict[str, Callable[[StreamsBuilder, KStream[Any, Any], Any], Any]] = {
    "filter": lambda b, s, f: s.filter(f),
    "filter_not": lambda b, s, f: s.filter_not(f),
    "map": lambda b, s, f: s.map(f),
    "map_values": lambda b, s, f: s.map_values(f),
    "flat_map": lambda b, s, f: s.flat_map(f),
    "flat_map_values": lambda b, s, f: s.flat_map_values(f),
    "select_key": lambda b, s, f: s.select_key(f),
    "peek": lambda b, s, f: s.peek(f),
    "for_each": lambda b, s, f: s.for_each(f),
    "print": lambda b, s, f: s.print(mapper=f),
    "branch": lambda b, s, f: s.split().branch(f),
    "group_by": lambda b, s, f: s.group_by(f),
    "to": lambda b, s, f: s.to(f),
    "partitioner of to": lambda b, s, f: s.to("x", partitioner=f),
    "partitioner of repartition": lambda b, s, f: s.repartition(partitioner=f),
    "process": lambda b, s, f: s.process(f),
    "process_values": lambda b, s, f: s.process_values(f),
    "reduce": lambda b, s, f: s.group_by_key().reduce(f),
    "initializer of aggregate": lambda b, s, f: s.group_by_key().aggregate(f, max),
    "aggregate": lambda b, s, f: s.group_by_key().aggregate(int, f),
    "windowed aggregate": lambda b, s, f: (
        s.group_by_key().windowed_by(TimeWindows.of_size(1)).aggregate(int, f)
    ),
    "join": lambda b, s, f: s.join(b.table("t"), f),
    "left_join": lambda b, s, f: s.left_join(b.table("t"), f),
    "extractor of stream": lambda b, s, f: b.stream("x", timestamp_extractor=f),
    "extractor of table": lambda b, s, f: b.table("x", timestamp_extractor=f),
    "add_global_store": lambda b, s, f: b.add_global_store(key_value_store("g"), "x", f),
    "table filter": lambda b, s, f: s.to_table().filter(f),
    "table map_values": lambda b, s, f: s.to_table().map_values(f),
    "transform_values": lambda b, s, f: s.to_table().transform_values(f),
    "table to_stream": lambda b, s, f: s.to_table().to_stream(f),
    "table group_by": lambda b, s, f: s.to_table().group_by(f),
    "table join": lambda b, s, f: s.to_table().join(b.table("t"), f),
    "table left_join": lambda b, s, f: s.to_table().left_join(b.table("t"), f),
    "table outer_join": lambda b, s, f: s.to_table().outer_join(b.table("t"), f),
    "adder": lambda b, s, f: s.to_table().group_by(zip).reduce(f, max),
    "subtractor": lambda b, s, f: s.to_table().group_by(zip).reduce(max, f),
    "table aggregate": lambda b, s, f: s.to_table().group_by(zip).aggregate(int, max, f),
    "Serde.of": lambda b, s, f: Serde.of(f, bytes.decode, name="x"),
    "Serde.of reading": lambda b, s, f: Serde.of(str.encode, f, name="x"),
    "add_source": lambda b, s, f: Topology().add_source("s", "t", timestamp_extractor=f),
    "add_sink": lambda b, s, f: Topology().add_source("s", "t").add_sink("o", f, "s"),
    "add_processor": lambda b, s, f: Topology().add_source("s", "t").add_processor("p", f, "s"),
}


@pytest.mark.parametrize("fn", ASYNC, ids=lambda fn: type(fn).__name__)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_async_is_refused_at_the_call(call: str, fn: Any) -> None:
    builder = StreamsBuilder()
    with pytest.raises(TypeError, match=r"which is async: .* use def instead of async def"):
        CALLS[call](builder, builder.stream("in"), fn)


@pytest.mark.parametrize("fn", ASYNC, ids=lambda fn: type(fn).__name__)
@pytest.mark.parametrize(
    "setting", ["processing_handler", "production_handler", "default_timestamp_extractor"]
)
def test_a_setting_that_is_async_is_refused(setting: str, fn: Any) -> None:
    with pytest.raises(ConfigError, match="which is async"):
        StreamsConfig(application_id="a", **{setting: fn})  # type: ignore[misc]


def test_processors_with_async_methods_are_refused() -> None:
    class Slow(Processor[Any, Any, Any, Any]):
        async def process(self, record: Any) -> None:  # type: ignore[override]
            """Would never run."""

    class Transformer:
        async def transform(self, key: Any, value: Any) -> Any:
            """Would never run."""

    builder = StreamsBuilder()
    stream = builder.stream("in")
    with pytest.raises(TypeError, match=r"process\(\): Slow.process\(\) needs a plain function"):
        stream.process(Slow)
    with pytest.raises(TypeError, match=r"transform_values\(\) needs a plain function"):
        stream.to_table().transform_values(Transformer)


@pytest.mark.parametrize("supplier", [Called(), "Worker", None, lambda: None, lambda: Processor])
def test_what_makes_no_processor_is_refused(supplier: Any) -> None:
    stream = StreamsBuilder().stream("in")
    for call in (stream.process, stream.process_values):
        with pytest.raises(TypeError, match=r"process(_values)?\(\)"):
            call(supplier)


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda one: one, "the lambda takes 1 argument"),
        (lambda: None, "the lambda takes no arguments"),
        (lambda one, two, three: None, "the lambda takes 3 arguments"),
        (lambda one, two, three, four=1: None, "the lambda takes 3 to 4 arguments"),
        (lambda one, two, three, *more: None, "the lambda takes at least 3 arguments"),
        (lambda key, value, *, factor: None, "the lambda also needs factor by name"),
    ],
)
def test_arguments_are_counted_in_plain_words(fn: Any, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        StreamsBuilder().stream("in").map(fn)

    assert str(raised.value).startswith("map() needs a function of (key, value); ")
    assert re.search(rf"{said}(:|$)", str(raised.value))


def test_a_topic_that_is_read_twice_says_what_to_do() -> None:
    builder = StreamsBuilder()
    builder.stream("in")
    builder.table("in")
    with pytest.raises(StreamsError, match="read the topic once and use that stream or table"):
        builder.build()


# -- what is no serde ----------------------------------------------------------------------


class Own(Serde[str]):
    """A serde whose author forgot what it must return."""

    @property
    def name(self) -> str:
        return "own"

    def serializer(self, topic: str) -> Callable[[str], bytes]:
        return str.upper  # type: ignore[return-value]

    def deserializer(self, topic: str) -> Callable[[bytes], str]:
        return bytes.decode


NO_SERDES: list[tuple[Any, str]] = [
    (Order, "did you mean serdes.json(Order)?"),
    (str, "did you mean serdes.string?"),
    (int, "did you mean serdes.int64?"),
    (bytes, "did you mean serdes.bytes?"),
    (dict, "did you mean serdes.json?"),
    (list[int], "did you mean serdes.json(list[int])?"),
    ("json", "did you mean serdes.json?"),
    ("strng", "did you mean serdes.string?"),
    ("str", "did you mean serdes.string?"),
    ("nothing:here", "module:attribute of something that exists"),
    (Own, "did you mean Own()?"),
    (json.dumps, "did you mean Serde.of(serialize, deserialize"),
    (5, "give one of thalweg's serdes"),
]


def driven(builder: StreamsBuilder, call: Callable[[TopologyTestDriver], Any]) -> None:
    with TopologyTestDriver(builder) as driver:
        call(driver)


SERDE_CALLS: dict[str, Callable[[StreamsBuilder, KStream[Any, Any], Any], Any]] = {
    "key_serde of stream()": lambda b, s, x: b.stream("x", key_serde=x),
    "value_serde of stream()": lambda b, s, x: b.stream("x", value_serde=x),
    "value_serde of table()": lambda b, s, x: b.table("x", value_serde=x),
    "key_serde of add_global_store()": lambda b, s, x: b.add_global_store(
        key_value_store("g"),
        "x",
        Called,
        key_serde=x,  # type: ignore[arg-type]
    ),
    "value_serde of to()": lambda b, s, x: s.to("x", value_serde=x),
    "key_serde of group_by()": lambda b, s, x: s.group_by(max, key_serde=x),
    "value_serde of group_by_key()": lambda b, s, x: s.group_by_key(value_serde=x),
    "value_serde of repartition()": lambda b, s, x: s.repartition(value_serde=x),
    "key_serde of join()": lambda b, s, x: s.join(b.table("t"), max, key_serde=x),
    "other_value_serde of left_join()": lambda b, s, x: s.left_join(
        b.table("t"), max, other_value_serde=x
    ),
    "value_serde of Materialized": lambda b, s, x: Materialized("m", value_serde=x),
    "value_serde of aggregate()": lambda b, s, x: s.group_by_key().aggregate(
        int, max, value_serde=x
    ),
    "value_serde of store 'k'": lambda b, s, x: key_value_store("k", value_serde=x),
    "inner of serdes.windowed()": lambda b, s, x: serdes.windowed(x, 10),
    "key_serde of source 's'": lambda b, s, x: Topology().add_source("s", "t", key_serde=x),
    "value_serde of sink 'o'": lambda b, s, x: (
        Topology().add_source("s", "t").add_sink("o", "o", "s", value_serde=x)
    ),
    "value_serde of create_input_topic()": lambda b, s, x: driven(
        b, lambda driver: driver.create_input_topic("in", value_serde=x)
    ),
    "key_serde of create_output_topic()": lambda b, s, x: driven(
        b, lambda driver: driver.create_output_topic("in", key_serde=x)
    ),
}


@pytest.mark.parametrize(("given", "said"), NO_SERDES, ids=lambda one: str(one)[:20])
@pytest.mark.parametrize("call", SERDE_CALLS)
def test_what_is_no_serde_is_refused_at_the_call(call: str, given: Any, said: str) -> None:
    builder = StreamsBuilder()
    with pytest.raises(TypeError) as raised:
        SERDE_CALLS[call](builder, builder.stream("in"), given)

    assert str(raised.value).startswith(f"{call} must be a Serde, got ")
    assert said in str(raised.value)


def test_a_setting_that_is_no_serde_says_what_may_be_meant() -> None:
    with pytest.raises(ConfigError, match=r"did you mean serdes.json\(Order\)\?"):
        StreamsConfig(application_id="a", default_value_serde=Order)  # type: ignore[arg-type]


def test_operators_take_serdes_by_the_names_that_settings_take() -> None:
    names: Any = ("string", "int64", "thalweg.stores.serde:serdes.string")
    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=names[2], value_serde=names[0])
    totals = stream.group_by_key().aggregate(
        int, lambda _k, v, total: total + len(v), name="totals", value_serde=names[1]
    )
    totals.to_stream().to("out")
    with TopologyTestDriver(builder) as driver:
        driver.create_input_topic("in", names[0], names[0]).pipe_input("k", "four")
        assert driver.create_output_topic("out", names[0], names[1]).read_key_value() == ("k", 4)


# -- the test driver -----------------------------------------------------------------------


@pytest.mark.parametrize("moment", [1.5, True, "1", None], ids=repr)
def test_the_driver_takes_times_as_int_or_datetime(moment: Any) -> None:
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    with TopologyTestDriver(builder) as driver:
        topic = driver.create_input_topic("in", S, S)
        calls: list[Callable[[], Any]] = [
            lambda: driver.pipe_raw("in", None, b"v", moment),
            lambda: driver.advance_wall_clock_time(moment),
            lambda: topic.advance_time(moment),
            lambda: driver.create_input_topic("in", auto_advance=moment),
        ]
        if moment is not None:
            calls += [
                lambda: topic.pipe_input("k", "v", moment),
                lambda: topic.pipe_key_values([("k", "v")], moment),
                lambda: driver.create_input_topic("in", start=moment),
            ]
        for call in calls:
            with pytest.raises(TypeError, match=r"an int of (epoch )?milliseconds, got "):
                call()


def test_the_driver_takes_headers_and_bytes_only() -> None:
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    with TopologyTestDriver(builder) as driver:
        topic = driver.create_input_topic("in", S, S)
        with pytest.raises(TypeError, match="a name may repeat"):
            topic.pipe_input("k", "v", headers={"a": b"1"})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes the value as bytes, got 'v'"):
            driver.pipe_raw("in", None, "v", 0)  # type: ignore[arg-type]


# -- around the application ----------------------------------------------------------------


def test_a_producer_takes_what_records_are_made_of_only() -> None:
    log = memory_log()
    config = StreamsConfig(application_id="a")
    with Producer(config, transport=lambda: MemoryTransport(log, "a")) as producer:
        send: Any = producer.send
        with pytest.raises(TypeError, match=r"got the class Order; did you mean serdes.json"):
            send("t", Order("o"), value_serde=Order)
        with pytest.raises(TypeError, match=r"an int of epoch milliseconds, got 1.5 \(float\)"):
            send("t", b"v", timestamp=1.5)
        with pytest.raises(TypeError, match="a name may repeat"):
            send("t", b"v", headers={"a": b"1"})
        with pytest.raises(StreamsError, match=r"cannot write the key .*: send\(..., key_serde="):
            send("t", b"v", key="k")
        send("t", "v", value_serde="string")


def test_an_application_takes_listeners_that_can_be_called() -> None:
    builder = StreamsBuilder()
    builder.stream("in").to("out")
    app: Any = App(builder, application_id="a")

    class Slow(RestoreListener):
        async def on_restore_end(self, partition: Any, store: str, total: int) -> None:  # type: ignore[override]
            """Would never run."""

    for call in (app.set_state_listener, app.set_uncaught_error_handler):
        with pytest.raises(TypeError, match="which is async"):
            call(later)
        with pytest.raises(TypeError, match="the lambda takes no arguments"):
            call(lambda: None)
    with pytest.raises(TypeError, match=r"did you mean RestoreListener\(\)"):
        app.set_restore_listener(RestoreListener)
    with pytest.raises(TypeError, match=r"on_restore_end\(\) needs a plain function"):
        app.set_restore_listener(Slow())
