"""Messages of librdkafka as records and as columns, without a broker."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message
from hypothesis import example, given
from hypothesis import strategies as st

from thalweg.stores.record import Columns, RawRecord, columns_by_key
from thalweg.streams.transport.kafka.messages import MessageRun, raw_records

KeyAndValue = tuple[bytes | None, bytes | None]


def message(
    offset: int, key: bytes | None, value: bytes | None, headers: list[Any] | None = None
) -> Any:
    return Message(
        topic="t",
        partition=0,
        offset=offset,
        key=key,
        value=value,
        timestamp=(TIMESTAMP_CREATE_TIME, 1_000 + offset),
        headers=headers,
    )


def run_of(*rows: KeyAndValue) -> MessageRun:
    return MessageRun([message(offset, *row) for offset, row in enumerate(rows)])


def listed(columns: Columns) -> list[tuple[int, bytes, bytes | None]]:
    return list(zip(*columns, strict=True))


def test_messages_are_records() -> None:
    headers = [("h", b"1"), ("h", None)]
    whole = [message(5, b"a", b"1"), message(6, None, None)]
    assert raw_records(whole) == [(1_005, b"a", b"1", 5), (1_006, None, None, 6)]
    with_gap = [message(5, b"a", b"1"), message(9, b"b", b"")]
    assert raw_records(with_gap) == [(1_005, b"a", b"1", 5), (1_009, b"b", b"", 9)]
    with_headers = [message(5, b"a", b"1", headers), message(6, b"b", b"2")]
    expected = [(1_005, b"a", b"1", (5, headers)), (1_006, b"b", b"2", 6)]
    assert raw_records(with_headers) == expected
    assert raw_records([]) == []


_keys = st.none() | st.sampled_from([b"", b"a", b"aa", b"b", b"c", b"\xff"])
_rows = st.lists(st.tuples(_keys, st.none() | st.binary(max_size=2)), max_size=12)


@given(_rows)
@example([(None, b"1")])
@example([(b"a", b"1"), (None, b"2"), (b"a", b"3")])
# A run of falling keys in which equal ones are turned round, before the sort meets None.
@example([(b"z", b"1"), (b"y", b"2"), (b"y", b"3"), (b"x", b"4"), (None, b"5"), (b"a", b"6")])
def test_columns_are_those_of_the_records(rows: list[KeyAndValue]) -> None:
    run = run_of(*rows)
    records: list[RawRecord] = raw_records(run.messages)
    expected = [(time, key, value) for time, key, value, _ in records if key is not None]
    expected.sort(key=lambda row: row[1])

    assert listed(run.columns_by_key()) == expected
    assert listed(columns_by_key(run)) == expected
    assert listed(columns_by_key(records)) == expected
    # What was read as columns can be read as records still.
    assert list(run) == records
    assert run[:] == records
    assert len(run) == len(records)


def test_a_run_is_a_sequence() -> None:
    run = run_of((b"a", b"1"), (b"b", b"2"))
    assert run[0] == (1_000, b"a", b"1", 0)
    assert run[-1] == (1_001, b"b", b"2", 1)
    assert run[1:5] == [run[1]]
    assert run[2:] == []
    with pytest.raises(IndexError):
        run[2]
    assert list(run_of()) == []
