"""A process that only runs the application: its signals, its garbage collector.

Owns what `App.run` changes in the process while it runs, and restores afterwards. It must not know
the application.

Source: design 3; the JVM's `Runtime.addShutdownHook` as its examples use it.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_COLLECTOR_THRESHOLDS: Final = (100_000, 20, 50)


@contextmanager
def calm_collector() -> Iterator[None]:
    """Lets the garbage collector look at young objects a hundred times less often."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def stop_signals(asked: list[int], tell: Callable[[], None]) -> Iterator[None]:
    """Notes SIGINT and SIGTERM in `asked` and tells it, while it lasts; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        tell()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
