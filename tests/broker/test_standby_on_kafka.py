"""Standby tasks: who has them, what they hold, and what they spare when a worker dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.broker.broker import SESSION_MS, Broker
from tests.broker.groups import described
from tests.broker.workers import WordCount
from tests.waiting import HANG_S


def stateful(words: WordCount) -> set[str]:
    """Returns the tasks that have a store."""
    return {f"1_{number}" for number in range(words.partitions)}


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once_v2"])
def test_what_a_standby_task_holds_need_not_be_restored(
    broker: Broker, tmp_path: Path, guarantee: str
) -> None:
    with WordCount(broker.bootstrap_servers, tmp_path, processing_guarantee=guarantee) as words:
        words.configure_group(num_standby_replicas=1, session_timeout_ms=SESSION_MS)
        one, two = words.start("one", "two")
        words.wait_shared()

        # Each has the standby of what the other runs: the broker says so, and they do it.
        def is_mirrored() -> bool:
            first, second = set(one.tasks("standby")), set(two.tasks("standby"))
            return (
                first == stateful(words) & set(two.tasks("running"))
                and second == stateful(words) & set(one.tasks("running"))
                and first | second == stateful(words)
            )

        words.wait(
            is_mirrored, HANG_S, lambda: f"standbys: {[w.tasks('standby') for w in (one, two)]}"
        )
        group = described(broker.bootstrap_servers, words.application_id)
        assert group is not None
        first, second = group.members
        for member, other in ((first, second), (second, first)):
            active = set(map(str, other.tasks.active))
            assert set(map(str, member.tasks.standby)) == stateful(words) & active
        assert one.tasks("standby"), "there is nothing to take over"

        # All of it is written while they stand by: nothing could have been restored before.
        words.feed(lines=3_000, vocabulary=3_000)
        words.wait_counted()
        settled = len(words.topics.read(words.changelog))
        words.feed(lines=20)
        two.kill()
        words.wait_shared()
        words.wait_counted()

        rows = one.ask("/stores/counts?limit=10000").body["rows"]
        assert {row["key"] for row in rows} == set(words.truth)
        assert one.stop() == 0
        late = len(words.topics.read(words.changelog)) - settled
        assert one.restored <= late < settled / 10
        if guarantee == "exactly_once_v2":
            words.assert_exact(is_each_written=False)
        words.assert_calm()
