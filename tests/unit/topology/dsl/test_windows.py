"""Windows: which contain a timestamp, what settings are legal, where windowed keys go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from thalweg.stores.serde import serdes
from thalweg.stores.windowed import TimeWindow, Windowed
from thalweg.topology.dsl.windows import (
    FOREVER_MS,
    TimeWindows,
    UnlimitedWindows,
    WindowedStreamPartitioner,
    duration_ms,
    murmur2,
)


def test_tumbling_windows_hold_each_timestamp_once() -> None:
    windows = TimeWindows.of_size(10)

    assert list(windows.windows_for(0)) == [(0, 10)]
    assert list(windows.windows_for(9)) == [(0, 10)]
    assert list(windows.windows_for(10)) == [(10, 20)]


def test_hopping_windows_overlap_and_start_no_earlier_than_the_epoch() -> None:
    windows = TimeWindows.of_size(10).advance_by(3)

    assert list(windows.windows_for(0)) == [(0, 10)]
    assert list(windows.windows_for(4)) == [(0, 10), (3, 13)]
    assert list(windows.windows_for(10)) == [(3, 13), (6, 16), (9, 19)]
    assert list(windows.windows_for(20)) == [(12, 22), (15, 25), (18, 28)]


def test_an_unlimited_window_has_no_end_but_a_start() -> None:
    windows = UnlimitedWindows.of(50)

    assert list(windows.windows_for(49)) == []
    assert list(windows.windows_for(50)) == [(50, FOREVER_MS)]


def test_durations_are_timedeltas_or_milliseconds() -> None:
    windows = TimeWindows.of_size(timedelta(minutes=1), timedelta(seconds=2))

    assert (windows.size_ms, windows.advance_ms, windows.grace_ms) == (60_000, 60_000, 2_000)
    assert duration_ms(7, "it") == 7
    with pytest.raises(TypeError, match=r"grace must be a timedelta or an int"):
        TimeWindows.of_size(10, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace must not be negative"):
        TimeWindows.of_size(10, -1)


@pytest.mark.parametrize("advance_ms", [0, 11])
def test_windows_must_not_leave_gaps(advance_ms: int) -> None:
    with pytest.raises(ValueError, match="must advance by 1 to 10 ms"):
        TimeWindows.of_size(10).advance_by(advance_ms)


def test_windows_have_a_size_and_start_after_the_epoch() -> None:
    with pytest.raises(ValueError, match="at least 1 ms"):
        TimeWindows.of_size(0)
    with pytest.raises(ValueError, match="must not start before 0"):
        UnlimitedWindows.of(-1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # From Kafka's own UtilsTest, signed there.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected % 2**32


def test_all_windows_of_a_key_go_to_the_partition_of_the_key() -> None:
    partitioner = WindowedStreamPartitioner(serdes.string)
    expected = (murmur2(b"abc") & 0x7FFFFFFF) % 7

    for start in (0, 10):
        key = Windowed("abc", TimeWindow(start, start + 10))
        assert partitioner("out", key, None, 7) == expected
