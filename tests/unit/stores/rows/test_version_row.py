"""Rows of versions as bytes: each change of a row against the list of versions it stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.stores.rows.version_row import (
    Version,
    bounds,
    find,
    new_row,
    versions_of,
    with_earliest,
    with_inserted,
    with_latest,
    with_replaced,
)

_values = st.none() | st.binary(max_size=3)
_lists = st.lists(
    st.tuples(st.integers(0, 50), _values), min_size=1, max_size=6, unique_by=lambda v: v[0]
)


def row_of(versions: list[tuple[int, bytes | None]], ends: int) -> bytes:
    """Builds a row, oldest version first."""
    times = [timestamp for timestamp, _ in versions]
    row = new_row(versions[0][1], times[0], times[1] if len(times) > 1 else ends)
    for (timestamp, value), end in zip(versions[1:], [*times[2:], ends], strict=False):
        row = with_latest(row, timestamp, end, value)
    return row


def listed(versions: list[tuple[int, bytes | None]], ends: int) -> list[Version]:
    """Returns the same as versions, newest first."""
    ended = [*(timestamp for timestamp, _ in versions[1:]), ends]
    return [
        Version(timestamp, end, value)
        for (timestamp, value), end in zip(versions, ended, strict=True)
    ][::-1]


def test_a_row_has_the_bytes_of_the_jvm() -> None:
    # Key k0 of segment 8 in the golden case versioned_segments.
    row = new_row(b"a", 0x2625B, 0x2A004)
    row = with_latest(row, 0x2A004, 0x2AEB5, b"cf")

    assert row.hex() == (
        "000000000002aeb5000000000002625b000000000002a00400000002000000000002625b00000001616366"
    )


@given(_lists)
def test_versions_are_read_as_they_were_put(versions: list[tuple[int, bytes | None]]) -> None:
    versions.sort(key=lambda one: one[0])
    row = row_of(versions, 60)

    assert list(versions_of(row)) == listed(versions, 60)
    assert bounds(row) == (60, versions[0][0])
    for moment in range(versions[0][0], 60):
        valid = [one for one in listed(versions, 60) if one.valid_from <= moment < one.valid_to]
        assert [find(row, moment)] == valid


@given(_lists, st.integers(0, 59), _values)
def test_a_version_goes_to_its_place(
    versions: list[tuple[int, bytes | None]], timestamp: int, value: bytes | None
) -> None:
    versions.sort(key=lambda one: one[0])
    row, first = row_of(versions, 60), versions[0][0]
    if timestamp < first:
        changed = with_earliest(row, timestamp, value)
    elif find(row, timestamp)[0] == timestamp:
        changed = with_replaced(row, timestamp, timestamp, value)
    else:
        changed = with_inserted(row, timestamp, value)

    expected = sorted(({**dict(versions), timestamp: value}).items())
    assert changed == row_of(expected, 60)


def test_a_gap_before_the_latest_version_is_a_deletion() -> None:
    row = with_latest(new_row(b"a", 10, 20), 30, 40, b"b")

    assert list(versions_of(row)) == [
        Version(30, 40, b"b"),
        Version(20, 30, None),
        Version(10, 20, b"a"),
    ]


def test_a_deletion_alone_ends_where_it_begins() -> None:
    alone = new_row(None, 20, 20)

    assert list(versions_of(alone)) == [Version(20, 20, None)]
    assert list(versions_of(with_latest(alone, 20, 30, b"a"))) == [Version(20, 30, b"a")]
    assert list(versions_of(with_latest(alone, 25, 30, b"a"))) == [
        Version(25, 30, b"a"),
        Version(20, 25, None),
    ]
    assert list(versions_of(with_earliest(alone, 10, b"a"))) == [Version(10, 20, b"a")]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (25, [Version(25, 50, b"c"), Version(20, 25, b"b"), Version(10, 20, b"a")]),
        (20, [Version(20, 50, b"c"), Version(10, 20, b"a")]),
        (10, [Version(10, 50, b"c")]),
        (5, [Version(5, 50, b"c")]),
    ],
)
def test_a_row_that_ends_too_late_is_cut(since: int, expected: list[Version]) -> None:
    """It is left behind by a JVM that died between the writes of one put."""
    row = with_latest(new_row(b"a", 10, 20), 20, 30, b"b")

    assert list(versions_of(with_latest(row, since, 50, b"c"))) == expected


@pytest.mark.parametrize("moment", [9, 20])
def test_a_time_outside_of_a_row_is_refused(moment: int) -> None:
    with pytest.raises(ValueError, match="from 10 to 20"):
        find(new_row(b"a", 10, 20), moment)
