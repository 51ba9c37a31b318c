"""What a worker restores when it comes back: everything, or what its checkpoint lacks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.broker.records import Topics, unique
from tests.broker.workers import HANG_S, WordCount, Worker
from tests.waiting import wait_until
from thalweg import (
    App,
    RestoreListener,
    State,
    StreamsBuilder,
    serdes,
)
from thalweg.streams.transport.port import TopicPartition


@pytest.fixture(params=["at_least_once", "exactly_once_v2"])
def words(kafka: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[WordCount]:
    with WordCount(kafka, tmp_path, processing_guarantee=request.param) as words:
        yield words


def run_once(words: WordCount, name: str) -> Worker:
    """Runs one worker until all is counted, and stops it."""
    (worker,) = words.start(name)
    words.wait_shared()
    words.wait_counted()
    assert worker.stop() == 0
    return worker


def test_what_is_restored_follows_from_what_is_kept(words: WordCount) -> None:
    words.feed()
    first = run_once(words, "one")
    assert first.restored == 0
    changes = len(words.topics.read(words.changelog))
    assert changes > 0

    # Its state and its checkpoint are whole: there is nothing to restore.
    assert run_once(words, "one").restored == 0
    assert len(words.topics.read(words.changelog)) == changes

    # Another one, with no state: everything.
    words.feed(lines=50)
    assert run_once(words, "two").restored == changes
    later = len(words.topics.read(words.changelog)) - changes
    assert later > 0

    # The first again: what was done in its absence, from its checkpoint on.
    assert run_once(words, "one").restored == later

    # Its state is lost: everything again.
    shutil.rmtree(words.workers["one"].state)
    assert run_once(words, "one").restored == changes + later

    words.assert_exact(is_each_written=False)
    words.assert_calm()


class Course(RestoreListener):
    """Notes the course of a restoration, and does something as soon as it is on its way.

    Args:
        on_way: called once, after the first records; nothing goes on before it returns.
    """

    def __init__(self, on_way: Callable[[], None]) -> None:
        self._on_way = on_way
        self.restored = 0
        self.is_done = False

    def on_batch_restored(
        self, partition: TopicPartition, store: str, next_offset: int, count: int
    ) -> None:
        if not self.restored:
            self._on_way()
        self.restored += count

    def on_restore_end(self, partition: TopicPartition, store: str, total: int) -> None:
        self.is_done = True


def test_a_task_processes_what_comes_while_another_one_restores(kafka: str, tmp_path: Path) -> None:
    topics, application_id = Topics(kafka), unique("slices")
    large, small = topics.create(unique("large")), topics.create(unique("small"))
    restored_by: dict[str, int] = {}
    course = Course(lambda: topics.produce(small, [(b"while", b"")]))

    def note(word: str, _value: bytes) -> None:
        restored_by[word] = course.restored

    builder = StreamsBuilder()
    builder.stream(large, key_serde=serdes.string).group_by_key().count(name="counts")
    builder.stream(small, key_serde=serdes.string).for_each(note)

    def started(state: str) -> App:
        return App(
            builder,
            application_id=application_id,
            bootstrap_servers=kafka,
            state_dir=tmp_path / state,
            commit_interval_ms=100,
        )

    # The changelog of counts: made by the broker, and filled as if by years of work.
    with started("first") as app:
        assert app.wait_until_idle(timedelta(seconds=HANG_S)), app
    changelog, changes = f"{application_id}-counts-changelog", 1_200_000
    one = serdes.int64.serializer(changelog)(1)
    topics.produce(changelog, ((b"%d" % n, one) for n in range(changes)))

    app = started("second")
    app.set_restore_listener(course)
    with app:
        wait_until(lambda: course.is_done and restored_by, HANG_S, lambda: f"{app.progress()}")

        assert course.restored == changes
        assert 0 < restored_by["while"] < changes
        assert app.wait_for(State.RUNNING, timeout=timedelta(seconds=HANG_S))
        assert app.store("counts").get("399999") == 1
