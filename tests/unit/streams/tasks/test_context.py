"""What a processor sees of its task, and what it may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from thalweg import (
    Headers,
    ProcessingError,
    Processor,
    ProcessorContext,
    Record,
    StreamsBuilder,
    Topology,
    TopologyTestDriver,
    key_value_store,
    serdes,
)
from thalweg.streams.testing import TestRecord

string = serdes.string
Context = ProcessorContext[str, str]
TEXTS: dict[str, Any] = {"default_key_serde": string, "default_value_serde": string}


class Each(Processor[str, str, str, str]):
    """Calls a function with context and record."""

    def __init__(self, work: Callable[[Context, Record[str, str]], None]) -> None:
        self._work = work

    def process(self, record: Record[str, str]) -> None:
        self._work(self.context, record)


def forking(
    work: Callable[[Context, Record[str, str]], None],
) -> Topology:
    """A processor with two children, `left` before `right`, each with a topic of its own."""
    topology = Topology()
    topology.add_source("source", "in", key_serde=string, value_serde=string)
    topology.add_processor("fork", lambda: Each(work), "source")
    for child in ("left", "right"):
        topology.add_processor(
            child, lambda: Each(lambda context, record: context.forward(record)), "fork"
        )
        topology.add_sink(f"{child}-sink", child, child, key_serde=string, value_serde=string)
    topology.add_state_store(key_value_store("mine", string, string), "fork")
    topology.add_state_store(key_value_store("others", string, string), "left")
    return topology


def piped(
    work: Callable[[Context, Record[str, str]], None], **settings: Any
) -> tuple[list[TestRecord[str, str]], list[TestRecord[str, str]]]:
    """Pipes one record and returns what left and right got."""
    with TopologyTestDriver(forking(work), **{**TEXTS, **settings}) as driver:
        records = driver.create_input_topic("in")
        records.pipe_input("k", "v", 5, Headers([("h", b"1")]))
        left, right = (
            driver.create_output_topic(name, string, string).read_records_to_list()
            for name in ("left", "right")
        )
        return left, right


def test_a_record_goes_to_all_children_or_to_one() -> None:
    def work(context: Context, record: Record[str, str]) -> None:
        context.forward(record)
        context.forward(record.with_value("left only"), "left")
        context.forward(record.with_value("right only"), child="right")

    left, right = piped(work)
    assert [one.value for one in left] == ["v", "left only"]
    assert [one.value for one in right] == ["v", "right only"]


def test_a_child_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ProcessingError, match=r"cannot forward to 'middle'.*children: left, right"):
        piped(lambda context, record: context.forward(record, "middle"))


def test_children_see_headers_and_time_of_what_was_forwarded() -> None:
    def work(context: Context, record: Record[str, str]) -> None:
        changed = record.with_timestamp(99).with_headers(Headers([("x", None)]))
        context.forward(changed, "left")
        context.forward(record, "right")

    left, right = piped(work)
    assert left == [TestRecord("k", "v", 99, Headers([("x", None)]))]
    assert right == [TestRecord("k", "v", 5, Headers([("h", b"1")]))]


def test_headers_of_one_child_do_not_reach_the_other() -> None:
    topology = forking(lambda context, record: context.forward(record))

    def mark(context: Context, record: Record[str, str]) -> None:
        record.headers.add("marked", b"1")
        context.forward(record)

    topology.add_processor("marking", lambda: Each(mark), "fork")
    topology.add_processor(
        "last", lambda: Each(lambda context, record: context.forward(record)), "fork"
    )
    topology.add_sink("marking-sink", "marked", "marking")
    topology.add_sink("last-sink", "last", "last")
    with TopologyTestDriver(topology, **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("k", "v", 5, Headers([("h", b"1")]))
        marked = driver.create_output_topic("marked").read_record()
        last = driver.create_output_topic("last").read_record()
    assert [name for name, _ in marked.headers] == ["h", "marked"]
    assert [name for name, _ in last.headers] == ["h"]


def test_the_current_record_is_what_it_was_after_a_forward_even_one_that_failed() -> None:
    seen: list[Any] = []

    def work(context: Context, record: Record[str, str]) -> None:
        context.forward(record.with_timestamp(99).with_headers(Headers()), "left")
        seen.append(context.record_metadata())
        with pytest.raises(ProcessingError):
            context.forward(record.with_value("fail"), "right")
        seen.append(context.record_metadata())

    topology = Topology()
    topology.add_source("source", "in", key_serde=string, value_serde=string)
    topology.add_processor("fork", lambda: Each(work), "source")
    topology.add_processor("left", lambda: Each(lambda _context, _record: None), "fork")
    topology.add_processor("right", lambda: Each(lambda _context, _record: int("no")), "fork")
    with TopologyTestDriver(topology, **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("k", "v", 5, Headers([("h", b"1")]))
    assert seen == [("in", 0, 0)] * 2


def test_stores_are_those_it_is_connected_to() -> None:
    def work(context: Context, record: Record[str, str]) -> None:
        store: Any = context.get_state_store("mine")
        store.put(record.key, record.value)
        context.forward(record.with_value(store.get(record.key)), "left")
        context.get_state_store("others")

    with pytest.raises(
        ProcessingError,
        match=r"'fork' is not connected to a store 'others' \(connected: mine\)",
    ):
        piped(work)


def test_it_knows_its_application_and_its_task() -> None:
    seen: dict[str, Any] = {}

    def work(context: Context, record: Record[str, str]) -> None:
        seen.update(
            application_id=context.application_id,
            task_id=context.task_id,
            serdes=(context.key_serde, context.value_serde),
            directory=context.state_dir.is_dir(),
            setting=context.app_configs()["poll_ms"],
            stream_time_ms=context.current_stream_time_ms(),
            system_time_ms=context.current_system_time_ms(),
            metadata=context.record_metadata(),
        )

    piped(work, application_id="mine", poll_ms=7, wall_clock_ms=1_000)
    assert seen == {
        "application_id": "mine",
        "task_id": "0_0",
        "serdes": (string, string),
        "directory": True,
        "setting": 7,
        "stream_time_ms": 5,
        "system_time_ms": 1_000,
        "metadata": ("in", 0, 0),
    }


def test_records_without_a_time_cannot_be_forwarded() -> None:
    with pytest.raises(ProcessingError, match="negative timestamp -1"):
        piped(lambda context, record: context.forward(record.with_timestamp(-1)))


def test_what_is_forwarded_goes_to_the_children_in_the_order_they_were_added() -> None:
    builder = StreamsBuilder()
    out = builder.stream("in").process(
        lambda: Each(lambda context, record: context.forward(record))
    )
    out.to("one")
    out.to("two")
    with TopologyTestDriver(builder, **TEXTS) as driver:
        driver.create_input_topic("in").pipe_input("k", "v", 5)
        assert [record.topic for record in driver.take_produced()] == ["one", "two"]
