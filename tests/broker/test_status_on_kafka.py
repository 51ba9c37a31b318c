"""`thalweg status` of a script: who is in the group, by the broker, and how each is doing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.broker.records import unique
from tests.broker.workers import ROOT, WORD_COUNT, WordCount


def status(
    words: WordCount, servers: str, *options: str, application: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    environment = {
        **os.environ,
        "LINES": words.lines,
        "COUNTS": words.counts,
        "APPLICATION": application or words.application_id,
        "THALWEG_BOOTSTRAP_SERVERS": servers,
    }
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", "status", str(WORD_COUNT), *options],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=ROOT,
        check=False,
    )


def test_a_script_is_enough_to_see_all_workers(kafka: str, tmp_path: Path) -> None:
    with WordCount(kafka, tmp_path) as words:
        words.feed(lines=200)
        words.start("one", "two")
        words.wait_shared()
        words.wait_counted()

        done = status(words, kafka, "--json")
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
        table = status(words, kafka)
        assert table.returncode == 0, table.stderr
        assert f"127.0.0.1:{words.workers['two'].port}\tUNREACHABLE\t" in table.stdout
        assert "cannot be reached" in table.stderr
        words.stop()


def test_a_group_that_never_was_is_told(kafka: str, tmp_path: Path) -> None:
    with WordCount(kafka, tmp_path) as words:
        done = status(words, kafka, application=unique("nobody"))

    assert done.returncode == 1
    assert "there is no streams group 'nobody-" in done.stderr
    assert "Traceback" not in done.stderr
