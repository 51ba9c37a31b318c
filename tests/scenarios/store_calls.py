"""Calls of a store in a scenario, and what they return as the data has it.

Owns how keys of windows and results are written in the data; README.md tells it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from thalweg.stores.api import ValueAndTimestamp, VersionedRecord
from thalweg.stores.record import RawRecord
from thalweg.stores.session_faces import SessionStore
from thalweg.stores.windowed import SessionWindow, Windowed
from thalweg.streams.testing import TopologyTestDriver

Call = Sequence[Any]

_SESSION_METHODS = ("put", "remove")


def check_calls(driver: TopologyTestDriver, calls: Sequence[Call], where: str) -> None:
    """Makes calls in turn and compares their results.

    A call is `[store, method, arguments, result]`, the result may be left out where it is None.
    """
    for index, (name, method, arguments, *expected) in enumerate(calls):
        got = _result(driver, name, method, arguments)
        wanted = expected[0] if expected else None
        assert got == wanted, f"{where}: call {index}, {name}.{method}{arguments} is {got}"


def _result(driver: TopologyTestDriver, name: str, method: str, arguments: Sequence[Any]) -> Any:
    if method == "restore":
        driver.restore_entries(name, [_raw(*row) for row in arguments])
        return None
    if method == "commit":
        driver.commit()
        return None
    if method == "dropped":
        return driver.dropped_records_total()
    store = driver.get_state_store(name)
    if isinstance(store, SessionStore) and method in _SESSION_METHODS:
        (key, start, end), *rest = arguments
        return plain(getattr(store, method)(Windowed(key, SessionWindow(start, end)), *rest))
    result = getattr(store, method)(*arguments)
    if isinstance(result, Iterator):
        return [plain(row) for row in result]
    return plain(result)


def _raw(key: str, value: str | None, timestamp: int) -> RawRecord:
    encoded = None if value is None else value.encode()
    return timestamp, key.encode(), encoded, 0


def plain(result: Any) -> Any:
    """Returns a row, a key or a value as the data has it."""
    if isinstance(result, VersionedRecord):
        return [result.value, result.timestamp, result.valid_to]
    if isinstance(result, ValueAndTimestamp):
        return [result.value, result.timestamp]
    if isinstance(result, Windowed):
        return [result.key, result.window.start_ms, result.window.end_ms]
    if isinstance(result, tuple):
        parts: list[Any] = []
        for part in result:
            shown = plain(part)
            parts.extend(shown if isinstance(shown, list) else [shown])
        return parts
    return result
