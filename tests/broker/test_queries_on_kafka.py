"""Queries over HTTP while tasks move: the right answer, or 503 with a reason; never a wrong one."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.broker.workers import Answer, WordCount, Worker
from tests.waiting import HANG_S, wait_until

ASKERS = 3
HOUR_MS = 3_600_000
HOURS = 3
VOCABULARY = 300
SCRIPT = Path(__file__).with_name("windowed_count.py")


class Question(NamedTuple):
    """What is asked over HTTP, and what the answer has to be.

    Attributes:
        kind: names its like.
        path: of the URL.
        read: what the answer says, out of its JSON.
        is_right: whether that is so.
    """

    kind: str
    path: str
    read: Callable[[Any], Any]
    is_right: Callable[[Any], bool]


def equals(truth: Any) -> Callable[[Any], bool]:
    return lambda said: bool(said == truth)


def row(body: Any) -> Any:
    return body["key"], body["value"]


def rows(body: Any) -> Any:
    assert body["cursor"] is None, "there are more rows than were asked for"
    return {one["key"]: one["value"] for one in body["rows"]}


def windows(body: Any) -> Any:
    assert body["cursor"] is None, "there are more rows than were asked for"
    return {(one["key"]["key"], one["key"]["start"]): one["value"] for one in body["rows"]}


class Truth:
    """What was counted, and what is therefore the answer to each question.

    Args:
        counts: of each word.
        hourly: of each word and hour, the hour by its start in epoch milliseconds.
    """

    def __init__(self, counts: Mapping[str, int], hourly: Mapping[tuple[str, int], int]) -> None:
        self.counts = dict(counts)
        self.hourly = dict(hourly)
        self._names = sorted(counts)
        self._starts = sorted({start for _, start in hourly})

    def questions(self, rng: random.Random) -> list[Question]:
        """Returns one question of each kind."""
        word, other = rng.choice(self._names), rng.choice(self._names)
        first, last = min(word, other), max(word, other)
        prefix, start = word[:2], rng.choice(self._starts)
        counts, hourly = self.counts, self.hourly
        between = {name: n for name, n in counts.items() if first <= name <= last}
        below = {name: n for name, n in counts.items() if name.startswith(prefix)}
        of_word = {window: n for window, n in hourly.items() if window[0] == word}
        of_hour = {window: n for window, n in hourly.items() if window[1] == start}
        of_range = {window: n for window, n in hourly.items() if first <= window[0] <= last}
        table, all_windows = "/stores/counts?limit=1000", "/stores/hourly/windows?limit=2000"
        at_start = f"/stores/hourly/windows?limit=1000&from={start}&to={start}"
        by_key = f"{all_windows}&key_from={first}&key_to={last}"
        return [
            Question("row", f"/stores/counts/keys/{word}", row, equals((word, counts[word]))),
            Question("table", table, rows, equals(counts)),
            Question("range", f"{table}&from={first}&to={last}", rows, equals(between)),
            Question("prefix", f"{table}&prefix={prefix}", rows, equals(below)),
            # A partition that is left out makes it too few; a row written twice may count twice.
            Question(
                "count",
                "/stores/counts/count",
                lambda body: body["count"],
                lambda count: len(counts) <= count <= sum(counts.values()),
            ),
            Question(
                "key's windows", f"/stores/hourly/keys/{word}/windows", windows, equals(of_word)
            ),
            Question("windows", all_windows, windows, equals(hourly)),
            Question("hour", at_start, windows, equals(of_hour)),
            Question("range of windows", by_key, windows, equals(of_range)),
        ]


def wrong_in(question: Question, answer: Answer) -> str | None:
    """Says what is wrong with an answer that is no refusal, None if it is right."""
    said = question.read(answer.body)
    return None if question.is_right(said) else f"{question.path}: {str(said)[:500]}"


def answered(worker: Worker, path: str) -> Answer:
    """Returns the first answer that is no refusal: a worker that is busy may be silent for others."""
    refused: list[Answer] = []

    def ask() -> Answer | None:
        answer = worker.ask(path)
        assert answer.status in (200, 503), (path, answer.text)
        if answer.status == 200:
            return answer
        refused.append(answer)
        return None

    return wait_until(ask, HANG_S, lambda: f"{path}: {refused[-1:]}")


class Asker:
    """Asks workers all the time, and judges the answers.

    The counts do not change meanwhile, so there is one right answer to each question. A worker
    may be silent only while it is told to be away.
    """

    def __init__(self, truth: Truth, workers: Mapping[str, Worker]) -> None:
        self._truth = truth
        self._workers = workers
        self._is_over = threading.Event()
        self._away: set[str] = set()
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.wrong: list[str] = []

    @contextmanager
    def away(self, *names: str) -> Iterator[None]:
        """While workers are started or stopped: those that run at the end answer again."""
        self._away.update(names)
        yield
        self._away.difference_update(name for name in names if self._workers[name].is_alive)

    def ask(self, seed: int) -> None:
        """Asks until `stop`."""
        rng = random.Random(seed)
        while not self._is_over.is_set():
            for question in self._truth.questions(rng):
                self._ask(rng.choice(list(self._workers.values())), question)

    def _ask(self, worker: Worker, question: Question) -> None:
        was_away = worker.name in self._away
        try:
            answer = worker.ask(question.path)
        except httpx.HTTPError as error:
            if not was_away and worker.name not in self._away:
                self.wrong.append(f"{worker.name}: {question.path}: {error!r}")
            return
        if answer.status == 200:
            if (wrong := wrong_in(question, answer)) is not None:
                self.wrong.append(f"{worker.name}: {wrong}")
            self.answered[question.kind] += 1
        else:
            body = answer.body
            if answer.status != 503 or not all(body.get(k) for k in ("code", "title", "detail")):
                self.wrong.append(f"{worker.name}: {question.path}: {answer.status} {body}")
            self.refused[str(body["code"])] += 1

    def stop(self) -> None:
        """Ends the asking."""
        self._is_over.set()


@pytest.fixture
def words(kafka: str, tmp_path: Path) -> Iterator[WordCount]:
    with WordCount(kafka, tmp_path, script=SCRIPT) as words:
        yield words


@pytest.fixture
def truth(words: WordCount) -> Truth:
    """Writes lines of the last hours, and returns how many words there are in them."""
    rng = random.Random(20260702)
    hourly: Counter[tuple[str, int]] = Counter()
    this_hour_ms = int(time.time() * 1000) // HOUR_MS * HOUR_MS
    lines, moments = [], []
    for n in range(1_500):
        start_ms = this_hour_ms - rng.randrange(1, HOURS + 1) * HOUR_MS
        line = [f"w{rng.randrange(VOCABULARY)}" for _ in range(6)]
        words.truth.update(line)
        hourly.update((word, start_ms) for word in line)
        lines.append((b"%d" % n, " ".join(line).encode()))
        moments.append(start_ms + rng.randrange(HOUR_MS))
    words.topics.produce(words.lines, lines, timestamps=moments)
    return Truth(words.truth, hourly)


def test_any_worker_answers_any_question_with_the_rows_of_all(
    words: WordCount, truth: Truth
) -> None:
    words.start("one", "two")
    words.wait_shared()
    words.wait_counted()
    one, two = words.workers.values()

    for question in truth.questions(random.Random(1)):
        for worker in (one, two):
            answer = answered(worker, question.path)
            assert wrong_in(question, answer) is None

    # No worker has all of it: what it has not, it asks the other for.
    for path, read, whole in (
        ("/stores/counts?limit=1000", rows, truth.counts),
        ("/stores/hourly/windows?limit=2000", windows, truth.hourly),
    ):
        parts = [read(answered(worker, f"{path}&scope=local").body) for worker in (one, two)]
        assert all(parts)
        assert parts[0].keys().isdisjoint(parts[1])
        assert parts[0] | parts[1] == whole
    words.stop()


def test_answers_are_right_or_refused_while_tasks_move(words: WordCount, truth: Truth) -> None:
    words.start("one")
    words.wait_shared()
    words.wait_counted()
    asker = Asker(truth, words.workers)
    kinds = {question.kind for question in truth.questions(random.Random(1))}

    def every_kind_answered(times: int) -> None:
        before = Counter(asker.answered)
        wait_until(
            lambda: all(asker.answered[kind] >= before[kind] + times for kind in kinds),
            HANG_S,
            lambda: f"{times} answers of each kind, but {asker.answered - before}",
        )

    with ThreadPoolExecutor(ASKERS) as pool:
        asking = [pool.submit(asker.ask, seed) for seed in range(ASKERS)]
        try:
            every_kind_answered(3)
            with asker.away("two", "three"):
                words.start("two", "three")
                words.wait_shared()
            with asker.away("three"):
                assert words.workers["three"].stop() == 0
            words.wait_shared()
            every_kind_answered(3)
            refused = asker.refused.total()
            with asker.away("two"):
                words.workers["two"].kill()
                # Nobody has its rows before its session is over, which whoever asks is told.
                wait_until(lambda: asker.refused.total() > refused, HANG_S, "a refusal")
                words.wait_shared()
            with asker.away("two"):
                words.start("two")
                words.wait_shared()
            every_kind_answered(10)
        finally:
            asker.stop()
        for one in asking:
            one.result()

    assert not asker.wrong, (len(asker.wrong), asker.wrong[:10])
    assert asker.refused.keys() & {"owner-unreachable", "owner-unknown"}, asker.refused
    words.stop()
    words.assert_calm()
