"""SIGKILL at random moments: after each, stores of all sorts hold what was committed."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from tests.crash.killing import child_of, kill_at_some_moment
from tests.crash.stores_child import FILLED, LOGGED, MEMORY, UNLOGGED, application
from thalweg import App, State
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.port import TopicPartition

KILLS = 15
LONGEST_LIFE_SECONDS = 0.3


def committed(home: Path, topic: str) -> int:
    """Returns how many records of a topic the application has committed as consumed."""
    at = TopicPartition(topic, 0)
    with LocalTransport(home / "log", "kill") as transport:
        known = transport.committed((at,)).get(at)
        return 0 if known is None else known.offset


def total(app: App, store: str) -> int:
    with app.store(store).all() as rows:
        return sum(count for _, count in rows)


def totals(home: Path) -> dict[str, int]:
    """Restores, processes nothing, and counts what each store holds."""
    app = application(home)
    app.pause()
    app.start()
    assert app.wait_for(State.RUNNING), app.error
    found = {name: total(app, name) for name in (LOGGED, MEMORY, UNLOGGED, FILLED)}
    assert app.close()
    return found


def test_stores_of_all_sorts_hold_what_was_committed_after_each_kill(tmp_path: Path) -> None:
    rng = random.Random(41)
    for kill in range(KILLS):
        child = child_of("tests.crash.stores_child", tmp_path)
        kill_at_some_moment(child, rng.uniform(0, LONGEST_LIFE_SECONDS))
        consumed, filled = committed(tmp_path, "in"), committed(tmp_path, "facts")
        wanted = {LOGGED: consumed, MEMORY: consumed, UNLOGGED: consumed, FILLED: filled}
        assert totals(tmp_path) == wanted, f"after kill {kill}"
    assert consumed > 0
    assert filled > 0


def test_a_kill_before_the_first_checkpoint_loses_nothing(tmp_path: Path) -> None:
    child = child_of("tests.crash.stores_child", tmp_path)
    kill_at_some_moment(child, LONGEST_LIFE_SECONDS)
    assert child.returncode == -signal.SIGKILL
    assert committed(tmp_path, "in") > 0
    # The tasks are opened again and killed before they have much to do.
    for _ in range(2):
        kill_at_some_moment(child_of("tests.crash.stores_child", tmp_path, "idle"), 0)
    consumed = committed(tmp_path, "in")
    assert totals(tmp_path)[UNLOGGED] == consumed
