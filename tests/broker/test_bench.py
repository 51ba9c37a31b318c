"""The race runs, and checks what comes out; how fast it is, is told by `make bench` alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parent.parent.parent


def bench(kafka: str, directory: Path, *words: str) -> list[dict[str, Any]]:
    """Runs the bench with our contender only, once, and returns the rows it found."""
    out = directory / "rows.jsonl"
    fixed = ("--contenders", "thalweg", "--reps", "1", "--bootstrap", kafka, "--out", str(out))
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words, *fixed],
        cwd=ROOT,
        env=os.environ | {"BENCH_BUILD": str(directory)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        ("race", "--cases", "word_count,windowed_sum,restore", "--scale", "0.005"),
        (
            "race",
            "--cases",
            "stream_stream_join,foreign_key_join,session_count,sliding_count,suppress_windows",
            "--scale",
            "0.005",
        ),
        ("race", "--cases", "map_filter", "--scale", "0.005", "--threads", "2"),
        ("latency", "--cold"),
    ],
    ids=lambda words: "_".join(words[:3]).replace("--", ""),
)
def test_a_small_race_has_the_right_output(
    kafka: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    rows = bench(kafka, tmp_path, *words)

    assert rows
    for row in rows:
        assert row["problem"] is None, row
        assert row["first_output_s" if row["case"] == "cold" else "rate"] > 0
