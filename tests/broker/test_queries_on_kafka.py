"""Queries over HTTP while tasks move: the right answer, or 503 with a reason; never a wrong one."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.broker.waiting import wait_until
from tests.broker.workers import WordCount, Worker

LOST_S = 60.0
ASKERS = 3


class Asker:
    """Asks workers for words and whole tables, all the time, and judges the answers.

    The counts do not change meanwhile, so there is one right answer to each question.
    """

    def __init__(self, words: WordCount) -> None:
        self._truth = dict(words.truth)
        self._workers = words.workers
        self._is_over = threading.Event()
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []

    def ask(self, seed: int) -> None:
        """Asks until `stop`."""
        rng = random.Random(seed)
        names = sorted(self._truth)
        while not self._is_over.is_set():
            worker = rng.choice(list(self._workers.values()))
            word = rng.choice(names)
            try:
                if rng.random() < 0.8:
                    self._judge_row(worker, word)
                else:
                    self._judge_table(worker)
            except httpx.HTTPError:
                # It is being started or stopped. If it never answers, counts below show it.
                self.answered["not at all"] += 1

    def _judge_row(self, worker: Worker, word: str) -> None:
        answer = worker.ask(f"/stores/counts/{word}")
        if answer.status == 200:
            row = answer.body
            if (row["key"], row["value"]) != (word, self._truth[word]):
                self.wrong.append(f"{worker.name}: {word} is {self._truth[word]}, not {row}")
            self.answered["row"] += 1
        else:
            self._judge_refusal(f"{worker.name}: {word}", answer.status, answer.body)

    def _judge_table(self, worker: Worker) -> None:
        answer = worker.ask("/stores/counts?limit=1000")
        if answer.status == 200:
            rows = {row["key"]: row["value"] for row in answer.body["rows"]}
            if rows != self._truth:
                odd = {key: (rows.get(key), n) for key, n in self._truth.items()}
                odd = {key: pair for key, pair in odd.items() if pair[0] != pair[1]}
                self.wrong.append(f"{worker.name}: {len(rows)} rows, differences {odd}")
            self.answered["table"] += 1
        else:
            self._judge_refusal(f"{worker.name}: all rows", answer.status, answer.body)

    def _judge_refusal(self, what: str, status: int, body: dict[str, object]) -> None:
        if status != 503 or not body["code"] or not body["detail"]:
            self.wrong.append(f"{what}: {status} {body}")
        self.answered[str(body["code"])] += 1

    def stop(self) -> None:
        """Ends the asking."""
        self._is_over.set()


@pytest.fixture
def words(kafka: str, tmp_path: Path) -> Iterator[WordCount]:
    with WordCount(kafka, tmp_path) as words:
        yield words


def test_answers_are_right_or_refused_while_tasks_move(words: WordCount) -> None:
    words.feed(lines=1500)
    words.start("one")
    words.wait_shared()
    words.wait_counted()
    asker = Asker(words)

    with ThreadPoolExecutor(ASKERS) as pool:
        asking = [pool.submit(asker.ask, seed) for seed in range(ASKERS)]
        try:
            wait_until(lambda: asker.answered["row"] > 20, 30, "answers of one worker")
            words.start("two", "three")
            words.wait_shared()
            assert words.workers["three"].stop() == 0
            words.wait_shared()
            words.workers["two"].kill()
            words.wait_shared(LOST_S)
            words.start("two")
            words.wait_shared()
            settled = asker.answered["row"]
            wait_until(
                lambda: asker.answered["row"] > settled + 50, 30, lambda: f"rows {asker.answered}"
            )
        finally:
            asker.stop()
        for one in asking:
            one.result()

    assert not asker.wrong, asker.wrong[:10]
    assert asker.answered["table"] > 0, asker.answered
    words.stop()
    words.assert_calm()
