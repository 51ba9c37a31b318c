"""The entry of a chain: how often records are decoded, and what an extractor sees."""

from __future__ import annotations

from typing import Any

import pytest

from thalweg import Processor, Record, StreamsBuilder
from thalweg.stores.record import Headers
from thalweg.stores.serde import Serde
from thalweg.streams.testing import TopologyTestDriver
from thalweg.topology.processor import ConsumedRecord


def at_value(record: ConsumedRecord, _partition_time_ms: int) -> int:
    return int(record.value)


class Forwarding(Processor[Any, Any, Any, Any]):
    """Makes the task keep stream time, and passes records on."""

    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record)


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_record_is_decoded_once_though_an_extractor_sees_it(keeps_time: bool) -> None:
    decoded: list[bytes] = []

    def read(data: bytes, headers: Headers) -> str:
        decoded.append(data)
        headers.add("read", b"%d" % len(decoded))
        return data.decode()

    seen: list[Any] = []

    def extract(record: ConsumedRecord, partition_time_ms: int) -> int:
        seen.append((record.value, list(record.headers), partition_time_ms))
        return at_value(record, partition_time_ms)

    counted = Serde.of(lambda value: value.encode(), lambda data: data.decode(), name="counted")
    given = Serde.of(lambda value, _h: value.encode(), read, name="given", headers=True)
    builder = StreamsBuilder()
    stream = builder.stream("in", value_serde=given, timestamp_extractor=extract)
    if keeps_time:
        stream = stream.process(Forwarding)
    stream.to("out", value_serde=counted)
    with TopologyTestDriver(builder) as driver:
        for value in (b"7", b"5", b"9"):
            driver.pipe_raw("in", b"k", value, 1)
        produced = driver.take_produced()
    assert decoded == [b"7", b"5", b"9"]
    assert [(one.value, one.timestamp) for one in produced] == [(b"7", 7), (b"5", 5), (b"9", 9)]
    assert [one.headers for one in produced] == [[("read", b"%d" % n)] for n in (1, 2, 3)]
    assert seen == [
        ("7", [("read", b"1")], -1),
        ("5", [("read", b"2")], 7),
        ("9", [("read", b"3")], 7),
    ]


def test_what_an_extractor_cannot_be_shown_is_asked_about() -> None:
    number = Serde.of(lambda value: b"%d" % value, lambda data: int(data), name="number")
    builder = StreamsBuilder()
    stream = builder.stream("in", value_serde=number, timestamp_extractor=at_value)
    stream.to("out", value_serde=number)
    with TopologyTestDriver(builder, deserialization_handler="log_and_continue") as driver:
        for value in (b"1", b"bad", b"3"):
            driver.pipe_raw("in", None, value, 0)
        assert [one.timestamp for one in driver.take_produced()] == [1, 3]
        assert driver.dropped_records_total() == 1
