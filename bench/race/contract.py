"""What a Python contender shares: name=value arguments, and the JSON line at the end.

Imports nothing but the standard library: peers run it with interpreters of their own.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def arguments(**defaults: str) -> dict[str, str]:
    """Returns the words of the command line over the defaults that all workloads share."""
    shared = {"threads": "1", "guarantee": "at_least_once", "commit_ms": "1000"}
    return shared | defaults | dict(word.split("=", 1) for word in sys.argv[1:])


class Progress:
    """Counts input records and notes when the first, 10 %, 90 % and last went by."""

    def __init__(self, expected: int) -> None:
        self.seen = 0
        self.expected = expected
        self.report: dict[str, Any] = {}
        self._marks = [
            (expected, "processed_ts"),
            (expected * 9 // 10, "t90_ts"),
            (expected // 10, "t10_ts"),
        ]
        self._next: float = 1

    def add(self, count: int = 1) -> None:
        """Counts records of the input topic."""
        self.seen += count
        if self.seen >= self._next:
            self._note()

    def first(self) -> None:
        """Work has begun although no input record was counted yet (a table, a restore)."""
        if "first_ts" not in self.report:
            self.report["first_ts"] = time.time()
            self.report["cpu_first"] = time.process_time()

    @property
    def complete(self) -> bool:
        """Whether all input has been counted."""
        return self.seen >= self.expected

    def _note(self) -> None:
        self.first()
        while self._marks and self.seen >= self._marks[-1][0]:
            self.report[self._marks.pop()[1]] = time.time()
        self._next = self._marks[-1][0] if self._marks else float("inf")

    def done(self, **more: object) -> None:
        """Everything is flushed, committed and closed: prints the report."""
        self.report |= {
            "done_ts": time.time(),
            "cpu_done": time.process_time(),
            "seen": self.seen,
        } | more
        print(json.dumps(self.report), flush=True)
