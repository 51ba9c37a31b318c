"""Pages of windows over partitions, however the rows of a store stand on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from thalweg.stores.builders import StoreBuilder, window_store
from thalweg.stores.kinds.window import WindowSpec
from thalweg.stores.serde import serdes
from thalweg.stores.testing.host import RecordingHost
from thalweg.streams.queries.kinds.window import WindowKind, windows_question
from thalweg.streams.queries.questions import cursor_text
from thalweg.streams.queries.rows import StoreRows

MINUTE = 60_000
PARTITIONS = 3
ROWS = [(f"k{n * 7 % 11:02}", n * 40_000) for n in range(60)]


def stores() -> Iterator[StoreBuilder]:
    """Yields a window store for each way in which rows stand."""
    for in_memory in (False, True):
        made = window_store(
            "hourly",
            serdes.string,
            serdes.int64,
            retention_ms=60 * MINUTE,
            window_size_ms=MINUTE,
            segment_interval_ms=10 * MINUTE,
            in_memory=in_memory,
        )
        yield made
        assert isinstance(made.spec, WindowSpec)
        yield replace(made, spec=replace(made.spec, is_time_first=True))


@pytest.fixture(params=list(stores()), ids=lambda one: f"{one.backend}-{one.spec.is_time_first}")
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[StoreBuilder, Any]]:
    """Returns a store over three partitions."""
    builder: StoreBuilder = request.param
    made: list[Any] = [builder.build(RecordingHost(tmp_path / str(n))) for n in range(PARTITIONS)]
    for number, (key, start) in enumerate(ROWS):
        made[number % PARTITIONS].put(key, number, start)
    kind = WindowKind()

    def opened(partition: int | None) -> Any:
        assert partition is not None
        return kind.face(builder, lambda: [made[partition].read_only()], lambda value: value)

    yield builder, StoreRows(builder, opened, range(PARTITIONS))
    for store in made:
        store.close()


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "asked", [{}, {"key_from": "k03"}, {"key_from": "k02", "key_to": "k07"}, {"key": "k05"}]
)
@pytest.mark.parametrize("times", [{}, {"from": "700000", "to": "1500000"}])
def test_pages_hold_every_row_once(
    rows: tuple[StoreBuilder, StoreRows],
    limit: int,
    reverse: bool,
    asked: dict[str, str],
    times: dict[str, str],
) -> None:
    builder, store_rows = rows
    given = {**asked, **times, "limit": str(limit), **({"reverse": "true"} if reverse else {})}
    found: list[tuple[str, int]] = []
    orders: list[bytes] = []
    cursor: dict[str, str] = {}
    while True:
        question = windows_question(builder, "/", list({**given, **cursor}.items()), None)
        part = question.read(store_rows)
        orders += [row.order for row in part.rows]
        keys = [msgspec.json.decode(row.row)["key"] for row in part.rows]
        found += [(key["key"], key["start"]) for key in keys]
        if not part.is_cut:
            break
        cursor = {"cursor": cursor_text(part.rows[-1].order)}
    lower = asked.get("key", asked.get("key_from", ""))
    upper = asked.get("key", asked.get("key_to", "z"))
    first, last = int(times.get("from", 0)), int(times.get("to", 2**40))
    expected = [row for row in ROWS if lower <= row[0] <= upper and first <= row[1] <= last]
    assert sorted(found) == sorted(expected)
    assert orders == sorted(orders, reverse=reverse)
