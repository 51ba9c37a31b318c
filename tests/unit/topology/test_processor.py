"""The types of the Processor API: fixed-key records, timestamp extractors, offset resets."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, cast

import pytest

from thalweg.stores.errors import StreamsError
from thalweg.stores.record import Headers, Record
from thalweg.topology.processor import (
    AutoOffsetReset,
    ConsumedRecord,
    FixedKeyProcessor,
    FixedKeyRecord,
    Processor,
    ProcessorContext,
    fail_on_invalid_timestamp,
    log_and_skip_on_invalid_timestamp,
    use_partition_time_on_invalid_timestamp,
    wallclock_timestamp,
)


def consumed(timestamp: int) -> ConsumedRecord:
    return ConsumedRecord("k", "v", timestamp, "orders", 3, 17, Headers())


# Processors.


class Keep(Processor[str, str, str, str]):
    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record)


def test_a_processor_keeps_its_context() -> None:
    context = cast("ProcessorContext[str, str]", object())
    processor = Keep()

    processor.init(context)

    assert processor.context is context
    processor.close()


@pytest.mark.parametrize("kind", [Processor, FixedKeyProcessor])
def test_a_processor_must_process(kind: Any) -> None:
    with pytest.raises(TypeError, match="process"):
        kind()


# Fixed-key records.


def test_a_fixed_key_record_keeps_its_key() -> None:
    record = FixedKeyRecord("k", 1, 5)

    assert record.with_value("x") == FixedKeyRecord("k", "x", 5)
    assert record.with_timestamp(6) == FixedKeyRecord("k", 1, 6)
    assert not hasattr(record, "with_key")
    with pytest.raises(AttributeError):
        record.key = "other"  # type: ignore[misc]


def test_derived_fixed_key_records_have_headers_of_their_own() -> None:
    record = FixedKeyRecord("k", 1, 5, Headers().add("a", b"1"))

    record.with_value(2).headers.add("b", b"2")
    given = Headers()
    record.with_headers(given).headers.add("c", b"3")

    assert len(record.headers) == 1
    assert len(given) == 0


@pytest.mark.parametrize("headers", [None, "trace", {"trace": b"1"}, [("trace", "1")], 3])
@pytest.mark.parametrize("record", [Record("k", "v", 1), FixedKeyRecord("k", "v", 1)])
def test_headers_that_are_none_are_refused_where_a_record_is_given_them(
    record: Any, headers: Any
) -> None:
    with pytest.raises(TypeError, match=r"headers are Headers or a list of \(name, value\)"):
        record.with_headers(headers)


def test_a_record_can_be_given_a_list_of_headers() -> None:
    record = Record("k", "v", 1).with_headers([("trace", b"1")])  # type: ignore[arg-type]
    assert record.headers == Headers([("trace", b"1")])


def test_a_fixed_key_record_needs_a_time() -> None:
    with pytest.raises(StreamsError, match="negative timestamp -1 for key 'k'"):
        FixedKeyRecord("k", 1, 5).with_timestamp(-1)


# Timestamps.


@pytest.mark.parametrize(
    "extract",
    [
        fail_on_invalid_timestamp,
        log_and_skip_on_invalid_timestamp,
        use_partition_time_on_invalid_timestamp,
    ],
)
def test_a_records_own_time_is_taken(extract: Any) -> None:
    assert extract(consumed(0), 99) == 0


def test_a_negative_timestamp_fails_by_default() -> None:
    with pytest.raises(StreamsError, match="timestamp is -1") as raised:
        fail_on_invalid_timestamp(consumed(-1), 99)

    error = raised.value
    assert (error.topic, error.partition, error.offset) == ("orders", 3, 17)


def test_a_negative_timestamp_can_be_skipped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert log_and_skip_on_invalid_timestamp(consumed(-2), 99) == -2

    assert "topic orders, partition 3, offset 17" in caplog.text


def test_partition_time_can_stand_in_once_there_is_one() -> None:
    assert use_partition_time_on_invalid_timestamp(consumed(-1), 99) == 99
    with pytest.raises(StreamsError, match="no time yet"):
        use_partition_time_on_invalid_timestamp(consumed(-1), -1)


def test_wall_clock_looks_at_no_record() -> None:
    assert wallclock_timestamp(consumed(-1), -1) > 0


# Offset resets.


def test_offset_resets_have_names() -> None:
    assert AutoOffsetReset.of(None) is None
    assert AutoOffsetReset.of("earliest") == AutoOffsetReset.earliest()
    assert AutoOffsetReset.of("latest") == AutoOffsetReset.latest()
    assert AutoOffsetReset.of("none") == AutoOffsetReset.none()
    assert AutoOffsetReset.of(AutoOffsetReset.latest()) == AutoOffsetReset.latest()


def test_an_offset_reset_can_look_back() -> None:
    reset = AutoOffsetReset.by_duration(timedelta(hours=1))

    assert reset == AutoOffsetReset.by_duration(3_600_000)
    assert reset.policy == "by_duration"
    assert reset.duration_ms == 3_600_000


def test_wrong_offset_resets_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be -1"):
        AutoOffsetReset.by_duration(-1)
    with pytest.raises(ValueError, match="'begin' is not known"):
        AutoOffsetReset.of("begin")
    with pytest.raises(TypeError, match="needs a name or an AutoOffsetReset"):
        AutoOffsetReset.of(1)  # type: ignore[arg-type]
