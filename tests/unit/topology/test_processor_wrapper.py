"""Processors around the operators of a topology (KIP-1112): what they see, change and add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.golden.builders import BUILDERS
from tests.golden.conftest import shipped_cases
from tests.golden.runner import Case, check_records
from thalweg import (
    App,
    ConfigError,
    Headers,
    Processor,
    ProcessorWrapper,
    Record,
    StreamsBuilder,
    TableChange,
    Topology,
    TopologyTestDriver,
    serdes,
)
from thalweg.stores.builders import key_value_store
from thalweg.topology.errors import TopologyError
from thalweg.topology.processor import AnySupplier

Handle = Callable[[Processor[Any, Any, Any, Any], Any], None]


class Around(Processor[Any, Any, Any, Any]):
    """Hands the life and the records of a processor through `handle`."""

    def __init__(self, inner: Any, handle: Handle) -> None:
        self.inner = inner
        self.handle = handle

    def init(self, context: Any) -> None:
        """Sets both up."""
        super().init(context)
        self.inner.init(context)

    def process(self, record: Record[Any, Any]) -> None:
        """Calls the function."""
        self.handle(self.inner, record)

    def close(self) -> None:
        """Closes the inner one."""
        self.inner.close()


def around(handle: Callable[[str], Handle | None]) -> ProcessorWrapper:
    """Returns a wrapper that handles records of the nodes for which there is a function."""

    def wrapper(name: str, supplier: AnySupplier) -> AnySupplier:
        found = handle(name)
        return supplier if found is None else lambda: Around(supplier(), found)

    return wrapper


def hand_on(inner: Processor[Any, Any, Any, Any], record: Any) -> None:
    inner.process(record)


def every(handle: Handle) -> ProcessorWrapper:
    return around(lambda _name: handle)


def counted(builder: StreamsBuilder) -> StreamsBuilder:
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    counts = stream.filter(lambda _key, value: value != "no", name="keep").group_by_key()
    counts.count("counts", named="count").to_stream(name="stream").to("out")
    return builder


def fed(topology: Topology, *values: str, headers: Headers | None = None) -> dict[str, int]:
    with TopologyTestDriver(topology, default_key_serde=serdes.string) as driver:
        for value in values:
            driver.pipe_raw("in", b"k", value.encode(), 5, list(headers or ()))
        return {key: row.value for key, row in driver.get_state_store("counts").all()}


def test_each_processor_is_asked_for_by_name() -> None:
    asked: list[str] = []

    def wrapper(name: str, supplier: AnySupplier) -> AnySupplier:
        asked.append(name)
        return supplier

    topology = counted(StreamsBuilder()).build({"processor_wrapper": wrapper})

    assert asked == ["keep", "count", "stream"]
    assert fed(topology, "a", "no", "b") == {"k": 2}


def test_records_and_changes_pass_through() -> None:
    seen: list[tuple[str, Any, Any]] = []

    def note(name: str) -> Handle:
        def handle(inner: Any, record: Any) -> None:
            seen.append((name, record.key, record.value))
            inner.process(record)

        return handle

    topology = counted(StreamsBuilder()).build({"processor_wrapper": around(note)})

    assert fed(topology, "a", "no") == {"k": 1}
    assert seen == [
        ("keep", "k", "a"),
        ("count", "k", "a"),
        ("stream", "k", TableChange(1, None)),
        ("keep", "k", "no"),
    ]


def test_what_is_not_handed_on_is_left_out() -> None:
    topology = counted(StreamsBuilder()).build(
        {"processor_wrapper": around(lambda name: _nothing if name == "count" else None)}
    )

    assert fed(topology, "a", "b") == {}


def _nothing(_inner: Any, _record: Any) -> None:
    """Leaves every record out."""


def test_a_changed_record_is_what_the_operator_sees() -> None:
    def to_no(inner: Any, record: Any) -> None:
        inner.process(record.with_value("no") if record.value == "b" else record)

    wrapper = around(lambda name: to_no if name == "keep" else None)
    topology = counted(StreamsBuilder()).build({"processor_wrapper": wrapper})

    assert fed(topology, "a", "b", "c") == {"k": 2}


def test_changed_headers_and_timestamps_go_with_the_record() -> None:
    def stamp(inner: Any, record: Any) -> None:
        inner.process(record.with_timestamp(9).with_headers(Headers([("h", b"1")])))

    builder = StreamsBuilder()
    stream = builder.stream("in", key_serde=serdes.string, value_serde=serdes.string)
    stream.filter(lambda _key, _value: True, name="keep").to("out")
    topology = builder.build({"processor_wrapper": every(stamp)})
    with TopologyTestDriver(topology) as driver:
        driver.pipe_raw("in", b"k", b"v", 5, [("old", b"0")])
        (record,) = driver.take_produced()

    assert (record.timestamp, list(record.headers)) == (9, [("h", b"1")])


def test_a_wrapper_may_forward_by_itself() -> None:
    def twice(inner: Any, record: Any) -> None:
        inner.process(record)
        around_of[0].context.forward(record.with_value(TableChange(-1, None)))

    around_of: list[Around] = []

    def wrapper(name: str, supplier: AnySupplier) -> AnySupplier:
        if name != "count":
            return supplier

        def make() -> Around:
            around_of[:] = [Around(supplier(), twice)]
            return around_of[0]

        return make

    topology = counted(StreamsBuilder()).build({"processor_wrapper": wrapper})
    with TopologyTestDriver(topology, default_key_serde=serdes.string) as driver:
        driver.pipe_raw("in", b"k", b"a", 5, [])
        out = driver.create_output_topic("out", value_serde=serdes.int64)
        # The count itself waits in the cache for the commit.
        assert out.read_values_to_list() == [-1, 1]


def test_a_wrapper_may_add_stores() -> None:
    class Remembering:
        stores = (key_value_store("seen", serdes.string, serdes.string),)

        def __init__(self, supplier: AnySupplier) -> None:
            self.supplier = supplier

        def __call__(self) -> Processor[Any, Any, Any, Any]:
            return Around(self.supplier(), self.remember)

        @staticmethod
        def remember(inner: Any, record: Any) -> None:
            inner.context.get_state_store("seen").put(record.key, record.value)
            inner.process(record)

    def wrapper(name: str, supplier: AnySupplier) -> AnySupplier:
        return Remembering(supplier) if name == "keep" else supplier

    topology = counted(StreamsBuilder()).build({"processor_wrapper": wrapper})
    with TopologyTestDriver(topology) as driver:
        driver.pipe_raw("in", b"k", b"a", 5, [])

        assert list(driver.get_state_store("seen").all()) == [("k", "a")]


class Loud(Processor[str, str, str, str]):
    """A processor of the user's own, with a life."""

    calls: list[str] = []

    def init(self, context: Any) -> None:
        """Notes it."""
        super().init(context)
        self.calls.append("init")

    def process(self, record: Record[str, str]) -> None:
        """Forwards it."""
        self.context.forward(record)

    def close(self) -> None:
        """Notes it."""
        self.calls.append("close")


def test_processors_of_the_users_own_are_wrapped_too() -> None:
    Loud.calls.clear()
    topology = Topology(processor_wrapper=every(hand_on))
    topology.add_source("source", "in", key_serde=serdes.string, value_serde=serdes.string)
    topology.add_processor("loud", Loud, "source")
    topology.add_sink("sink", "out", "loud", key_serde=serdes.string, value_serde=serdes.string)
    with TopologyTestDriver(topology) as driver:
        driver.pipe_raw("in", b"k", b"v", 5, [])
        assert len(driver.take_produced()) == 1

    assert Loud.calls == ["init", "close"]


def test_an_error_of_the_wrapper_is_one_of_its_node() -> None:
    def fail(_inner: Any, _record: Any) -> None:
        raise ValueError("no")

    wrapper = around(lambda name: fail if name == "count" else None)
    topology = counted(StreamsBuilder()).build({"processor_wrapper": wrapper})

    with pytest.raises(Exception, match="count"):
        fed(topology, "a")


def test_a_wrapper_that_makes_no_supplier_is_refused() -> None:
    with pytest.raises(TypeError, match=r"processor_wrapper makes of 'keep'"):
        counted(StreamsBuilder()).build({"processor_wrapper": lambda _name, _supplier: None})
    one = Loud()
    with pytest.raises(TopologyError, match="same object twice"):
        counted(StreamsBuilder()).build({"processor_wrapper": lambda _name, _supplier: lambda: one})


def test_an_application_takes_it_as_a_setting() -> None:
    app = App(counted(StreamsBuilder()), application_id="wrapped", processor_wrapper=every(hand_on))

    assert app.config.processor_wrapper is not None
    with pytest.raises(ConfigError, match="processor_wrapper"):
        App(StreamsBuilder(), application_id="wrapped", processor_wrapper="nothing")


@pytest.mark.parametrize(
    "case",
    [case for case in shipped_cases() if case.name in BUILDERS and case.has_steps],
    ids=lambda case: case.path.stem,
)
def test_around_every_operator_of_every_recorded_case(case: Case) -> None:
    """What hands everything on changes nothing."""
    build = BUILDERS[case.name]

    def wrapped(config: Any) -> Topology:
        return build({**config, "processor_wrapper": every(hand_on)})

    check_records(case, wrapped)
