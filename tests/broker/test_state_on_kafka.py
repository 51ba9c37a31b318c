"""What a worker restores when it comes back: everything, or what its checkpoint lacks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.workers import WordCount, Worker


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
