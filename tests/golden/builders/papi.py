"""Golden cases `papi_*`: topologies put together node by node."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tests.golden.builders.registry import L, S, papi_case
from tests.golden.builders.stateless import ByKey
from tests.golden.java import plus
from thalweg.stores.api import KeyValueStore
from thalweg.stores.builders import key_value_store
from thalweg.stores.record import Headers, Record
from thalweg.topology.physical import Topology
from thalweg.topology.processor import Processor, ProcessorContext

Texts = Processor[str, str, str, str]


class Append(Processor[str, str, str, str]):
    """Appends its tag to the value; forwards to one child if named."""

    def __init__(self, tag: str, child: str | None = None) -> None:
        self.tag = tag
        self.child = child

    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record.with_value(plus(record.value, self.tag)), self.child)


def append(tag: str, child: str | None = None) -> Callable[[], Texts]:
    """Returns the supplier of an `Append`."""
    return lambda: Append(tag, child)


class StoreCount(Processor[str, str, str, str]):
    """Counts per key in a store and forwards the number as text."""

    def __init__(self, store: str) -> None:
        self.store = store

    def process(self, record: Record[str, str]) -> None:
        store: KeyValueStore[str, int] = self.context.get_state_store(self.store)
        count = (store.get(record.key) or 0) + 1
        store.put(record.key, count)
        self.context.forward(record.with_value(plus(record.value, ":", count)))


def store_count(store: str) -> Callable[[], Texts]:
    """Returns the supplier of a `StoreCount`."""
    return lambda: StoreCount(store)


@papi_case
def papi_chain(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("p1", append("1"), "src")
    t.add_processor("p2", append("2"), "p1")
    t.add_sink("snk", "out", "p2")


@papi_case
def papi_child_by_name(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("p", append("x", "right"), "src")
    t.add_processor("left", append("L"), "p")
    t.add_processor("right", append("R"), "p")
    t.add_sink("s-left", "out-left", "left")
    t.add_sink("s-right", "out-right", "right")


@papi_case
def papi_fan_out(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("z", append("z"), "src")
    t.add_processor("a", append("a"), "src")
    t.add_processor("m", append("m"), "z", "a")
    t.add_sink("snk", "out", "m", "a", "src")


@papi_case
def papi_shared_store(t: Topology) -> None:
    t.add_source("src", "in").add_source("src2", "in2")
    t.add_processor("p1", store_count("st"), "src")
    t.add_processor("p2", store_count("st"), "src2")
    t.add_state_store(key_value_store("st", S, L), "p1", "p2")
    t.add_sink("k1", "out1", "p1").add_sink("k2", "out2", "p2")


@papi_case
def papi_two_subtopologies(t: Topology) -> None:
    t.add_source("src", "in").add_processor("p1", store_count("st1"), "src")
    t.add_sink("k1", "out", "p1")
    t.add_source("src2", "in2").add_processor("p2", store_count("st2"), "src2")
    t.add_sink("k2", "out", "p2")
    t.add_state_store(key_value_store("st1", S, L, in_memory=True))
    t.add_state_store(key_value_store("st2", S, L).with_caching())
    t.connect_processor_and_state_stores("p1", "st1")
    t.connect_processor_and_state_stores("p2", "st2")


@papi_case
def papi_cached_store(t: Topology) -> None:
    t.add_source("src", "in").add_processor("p", store_count("st"), "src")
    t.add_sink("snk", "out", "p")
    t.add_state_store(key_value_store("st", S, L).with_caching(), "p")


class GlobalUpdate(Processor[str, str, Any, Any]):
    """Writes what has a key to the store."""

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        super().init(context)
        self.rows: KeyValueStore[str, str] = context.get_state_store("glob")

    def process(self, record: Record[str, str]) -> None:
        if record.key is not None:
            self.rows.put(record.key, record.value)


class Update(Processor[str, str, Any, Any]):
    """Writes everything to a store."""

    def __init__(self, store: str) -> None:
        self.store = store

    def process(self, record: Record[str, str]) -> None:
        self.context.get_state_store(self.store).put(record.key, record.value)


class LookUp(Processor[str, str, str, str]):
    """Appends what a store has for the key."""

    def __init__(self, store: str) -> None:
        self.store = store

    def process(self, record: Record[str, str]) -> None:
        found = self.context.get_state_store(self.store).get(record.key)
        self.context.forward(record.with_value(plus(record.value, "|", found)))


@papi_case
def papi_global_store(t: Topology) -> None:
    store = key_value_store("glob", S, S, in_memory=True).without_logging()
    t.add_global_store(store, "gsrc", "gt", "gproc", GlobalUpdate, key_serde=S, value_serde=S)
    t.add_source("src", "in")
    t.add_processor("p", lambda: LookUp("glob"), "src")
    t.add_sink("snk", "out", "p")


@papi_case
def papi_read_only_store(t: Topology) -> None:
    t.add_read_only_state_store(
        key_value_store("rostore", S, S),
        "rosrc",
        "ro",
        "roproc",
        lambda: Update("rostore"),
        key_serde=S,
        value_serde=S,
    )
    t.add_source("src", "in")
    t.add_processor("p", lambda: LookUp("rostore"), "src")
    t.connect_processor_and_state_stores("p", "rostore")
    t.add_sink("snk", "out", "p")


class ShowContext(Processor[str, str, str, str]):
    """Forwards what the context knows."""

    def process(self, record: Record[str, str]) -> None:
        context = self.context
        metadata = context.record_metadata()
        assert metadata is not None
        shown = (
            f"{metadata.topic}-{metadata.partition}-{metadata.offset} {context.task_id} "
            f"{context.application_id} {context.current_stream_time_ms()} "
            f"{context.current_system_time_ms()}"
        )
        context.forward(record.with_value(shown))


@papi_case
def papi_context(t: Topology) -> None:
    t.add_source("src", ["in", "in2"])
    t.add_processor("p", ShowContext, "src")
    t.add_sink("snk", "out", "p")


class HeadersParent(Processor[str, str, str, str]):
    """Adds a header, then forwards with it and without it."""

    def process(self, record: Record[str, str]) -> None:
        record.headers.add("p", b"\x01")
        self.context.forward(record.with_value("first"), "one")
        fresh = Headers().add("fresh", None)
        self.context.forward(record.with_value("second").with_headers(fresh), "two")
        self.context.forward(record, "two")


class HeadersChild(Processor[str, str, str, str]):
    """Adds a header to the record it was given."""

    def process(self, record: Record[str, str]) -> None:
        record.headers.add("one", b"1")
        self.context.forward(record)


@papi_case
def papi_headers(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("p", HeadersParent, "src")
    t.add_processor("one", HeadersChild, "p")
    t.add_processor("two", append("!"), "p")
    t.add_sink("s1", "out1", "one").add_sink("s2", "out2", "two")


@papi_case
def papi_dynamic_sink(t: Topology) -> None:
    def to_zero(topic: str, key: Any, value: Any, partitions: int) -> Collection[int] | None:
        return (0,)

    t.add_source("src", "in", offset_reset="latest")
    t.add_sink("dyn", ByKey(), "src", key_serde=S, value_serde=S)
    t.add_sink("part", "out", "src", key_serde=S, value_serde=S, partitioner=to_zero)


class TurnBack(Processor[str, str, str, str]):
    """Forwards with a timestamp that becomes negative."""

    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record.with_timestamp(3 - record.timestamp))


@papi_case
def papi_negative_timestamp(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("p", TurnBack, "src")
    t.add_sink("snk", "out", "p")


class CommitFirst(Processor[str, str, str, str]):
    """Asks for a commit, then forwards twice."""

    def process(self, record: Record[str, str]) -> None:
        self.context.commit()
        self.context.forward(record)
        self.context.forward(record.with_key("again"))


@papi_case
def papi_commit_request(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("p", CommitFirst, "src")
    t.add_sink("snk", "out", "p")


@papi_case
def papi_unconnected_store(t: Topology) -> None:
    t.add_source("src", "in")
    t.add_processor("p", store_count("st"), "src")
    t.add_processor("q", store_count("st"), "p")
    t.add_state_store(key_value_store("st", S, L), "p")
    t.add_sink("snk", "out", "q")
