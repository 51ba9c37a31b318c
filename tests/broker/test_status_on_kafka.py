"""`thalweg status` of a script: who is in the group, by the broker, and how each is doing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.broker.records import unique
from tests.broker.workers import WordCount


def test_a_script_is_enough_to_see_all_workers(kafka: str, tmp_path: Path) -> None:
    with WordCount(kafka, tmp_path) as words:
        # Nobody is missed, not even who is killed, and no task moves once it has records.
        words.configure_group(session_timeout_ms=60_000, initial_rebalance_delay_ms=0)
        words.start("one", "two")
        words.wait_shared()
        words.feed(lines=200)
        words.wait_counted()

        done = words.status("--json")
        assert done.returncode == 0, done.stderr
        told: Any = json.loads(done.stdout)
        assert (told["application_id"], told["group_state"]) == (words.application_id, "Stable")
        instances = told["instances"]
        assert {one["endpoint"] for one in instances} == {
            f"127.0.0.1:{worker.port}" for worker in words.workers.values()
        }
        assert {one["state"] for one in instances} == {"RUNNING"}
        tasks = [task for one in instances for task in one["tasks"]]
        assert sorted(task["task"] for task in tasks) == sorted(
            f"{part}_{number}" for part in (0, 1) for number in range(words.partitions)
        )
        processed = sum(task["processed_records"] for task in tasks)
        assert processed == 200 + words.truth.total()

        # One that does not answer is told of by the broker alone.
        words.workers["two"].kill()
        table = words.status()
        assert table.returncode == 0, table.stderr
        assert f"127.0.0.1:{words.workers['two'].port}\tUNREACHABLE\t" in table.stdout
        assert "cannot be reached" in table.stderr
        words.stop()


def test_a_group_that_never_was_is_told(kafka: str, tmp_path: Path) -> None:
    with WordCount(kafka, tmp_path) as words:
        done = words.status(APPLICATION=unique("nobody"))

    assert done.returncode == 1
    assert "there is no streams group 'nobody-" in done.stderr
    assert "Traceback" not in done.stderr
