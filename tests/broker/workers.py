"""Workers as people run them: processes of `thalweg run`, started, ended and asked."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from streams import serdes
from tests.broker.broker import dying_with_parent, free_ports
from tests.broker.records import Follower, Topics, unique
from tests.broker.waiting import wait_until

ROOT = Path(__file__).parents[2]
WORD_COUNT = Path(__file__).with_name("word_count.py")
START_S = 40.0
"""A worker has joined and restored by then, also behind one that died without a word."""
STOP_S = 25.0


class Answer:
    """What a worker answered to a question over HTTP."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.text = response.text

    @property
    def body(self) -> Any:
        """The answer's JSON."""
        return json.loads(self.text)


class Worker:
    """One worker process with state of its own.

    Args:
        name: names its state and its log.
        home: where both are kept.
        options: of `thalweg run`.
        environment: beside this process's own.
        script: what it runs.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        options: list[str],
        environment: Mapping[str, str],
        script: Path = WORD_COUNT,
    ) -> None:
        self.name = name
        self._script = script
        self.state = home / name
        self.port = free_ports(1)[0]
        self.log_file = home / f"{name}.log"
        self._options = options
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ended = False

    # -- its life ------------------------------------------------------------------------

    def start(self) -> Worker:
        """Starts the process and returns at once."""
        command = dying_with_parent(
            *(sys.executable, "-m", "streams.cli", "run", str(self._script), *self._options),
            *("--state-dir", str(self.state)),
            *("--set", f"application_server=127.0.0.1:{self.port}"),
        )
        self._is_ended = False
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=ROOT,
                start_new_session=True,
            )
        return self

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def has_failed(self) -> bool:
        """Whether the process has ended without having been asked to."""
        return self._process is not None and not self.is_alive and not self._is_ended

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Asks it to stop with SIGTERM, and returns its exit code."""
        self._is_ended = True
        self.signal(signal.SIGTERM)
        assert self._process is not None
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """Ends it, whatever it is doing; nothing to do if it is gone."""
        self._is_ended = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    # -- what it says --------------------------------------------------------------------

    @property
    def log(self) -> str:
        """All it has written, in all its lives."""
        return self.log_file.read_text(errors="replace")

    @property
    def restored(self) -> int:
        """How many changelog records it restored in its last life, by its last words."""
        *_, summary = self.log.strip().splitlines()
        found = re.search(r"([\d,]+) changelog records? restored", summary)
        assert " in " in summary, summary
        return 0 if found is None else int(found[1].replace(",", ""))

    def ask(self, path: str, timeout: float = 10.0) -> Answer:
        """Asks over HTTP.

        Raises:
            httpx.HTTPError: it does not answer.
        """
        return Answer(httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=timeout))

    @property
    def is_ready(self) -> bool:
        """Whether all its stores are restored and its tasks run."""
        try:
            return self.ask("/ready").status == 200
        except httpx.HTTPError:
            return False

    def partitions(self) -> set[tuple[str, int]]:
        """Returns the topic partitions its tasks read now, empty if it does not answer."""
        try:
            answer = self.ask("/metadata")
        except httpx.HTTPError:
            return set()
        if answer.status != 200:
            return set()
        own = next(one for one in answer.body["instances"] if one["is_this"])
        return {(t, n) for t, numbers in own["topic_partitions"].items() for n in numbers}


class WordCount:
    """An application of some workers that count words, its input, and the truth.

    Args:
        servers: bootstrap servers.
        home: for state and logs.
        partitions: of all its topics.
        script: what the workers run; counts words as `word_count` does.
        settings: of all workers, by the names of `StreamsConfig`.
    """

    def __init__(
        self,
        servers: str,
        home: Path,
        partitions: int = 4,
        *,
        script: Path = WORD_COUNT,
        **settings: Any,
    ) -> None:
        self._script = script
        self.topics = Topics(servers)
        self.application_id = unique("words")
        self.home = home
        self.lines = self.topics.create(unique("lines"), partitions)
        self.counts = self.topics.create(unique("counts"), partitions)
        self.repartition = f"{self.application_id}-counts-repartition"
        self.changelog = f"{self.application_id}-counts-changelog"
        self.partitions = partitions
        self.truth: Counter[str] = Counter()
        self.workers: dict[str, Worker] = {}
        self._rng = random.Random(20260701)
        self._outputs: dict[str, list[int]] = defaultdict(list)
        self._follower = Follower(self.topics, self.counts)
        given = {"commit_interval_ms": 200, **settings}
        self._options = [
            *("--bootstrap-servers", servers, "--log-level", "info"),
            *(text for name, value in given.items() for text in ("--set", f"{name}={value}")),
        ]

    # -- workers -------------------------------------------------------------------------

    def start(self, *names: str) -> list[Worker]:
        """Starts workers, known or new, and returns at once."""
        environment = {
            "LINES": self.lines,
            "COUNTS": self.counts,
            "APPLICATION": self.application_id,
        }
        for name in names:
            if name not in self.workers:
                self.workers[name] = Worker(
                    name, self.home, self._options, environment, self._script
                )
            self.workers[name].start()
        return [self.workers[name] for name in names]

    @property
    def alive(self) -> list[Worker]:
        """The workers whose processes are there."""
        return [worker for worker in self.workers.values() if worker.is_alive]

    def wait_shared(self, within_s: float = START_S) -> None:
        """Waits until each partition is read by one living worker, and each has some."""
        wanted = {
            (topic, number)
            for topic in (self.lines, self.repartition)
            for number in range(self.partitions)
        }

        def is_shared() -> bool:
            owned = [worker.partitions() for worker in self.alive]
            total = sum(map(len, owned))
            return all(owned) and total == len(wanted) and set().union(*owned) == wanted

        self.wait(is_shared, within_s, "sharing of all partitions")
        self.wait(lambda: all(worker.is_ready for worker in self.alive), within_s, "readiness")

    def wait(
        self, condition: Callable[[], bool], within_s: float, what: str | Callable[[], str]
    ) -> None:
        """Waits until something is true, but not when a worker has failed.

        Raises:
            TimeoutError: it did not become true in time.
            AssertionError: a worker has ended by itself.
        """

        def is_true() -> bool:
            failed = [worker.name for worker in self.workers.values() if worker.has_failed]
            assert not failed, f"{failed} ended while waiting\n{self.logs()}"
            return condition()

        def said() -> str:
            return f"{what if isinstance(what, str) else what()}\n{self.logs()}"

        wait_until(is_true, within_s, said)

    def stop(self) -> None:
        """Stops all workers, and checks that each went in order."""
        codes = {worker.name: worker.stop() for worker in self.alive}
        assert set(codes.values()) == {0}, f"{codes}\n{self.logs()}"

    def logs(self) -> str:
        """Returns the end of all logs, for messages."""
        return "\n".join(
            f"--- {worker.name} ({'alive' if worker.is_alive else 'gone'})\n{worker.log[-3000:]}"
            for worker in self.workers.values()
        )

    def close(self) -> None:
        """Ends all workers."""
        for worker in self.workers.values():
            worker.kill()
        self._follower.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends all workers."""
        self.close()

    # -- input and output ----------------------------------------------------------------

    def feed(self, lines: int = 400, words: int = 6, vocabulary: int = 300) -> None:
        """Writes lines of random words to all partitions, and counts them."""
        made = [[f"w{self._rng.randrange(vocabulary)}" for _ in range(words)] for _ in range(lines)]
        for line in made:
            self.truth.update(line)
        self.topics.produce(
            self.lines, ((b"%d" % n, " ".join(line).encode()) for n, line in enumerate(made))
        )

    def outputs(self) -> dict[str, list[int]]:
        """Returns word -> all counts that were written so far, in order."""
        for record in self._follower.more():
            assert record.key is not None
            assert record.value is not None
            count = serdes.int64.deserializer(self.counts)(record.value)
            self._outputs[record.key.decode()].append(count)
        return self._outputs

    def wait_counted(self, within_s: float = START_S) -> None:
        """Waits until each word's last count is the truth, or more."""

        def is_counted() -> bool:
            outputs = self.outputs()
            return all(outputs[word][-1:] >= [count] for word, count in self.truth.items())

        def missing() -> str:
            lacking = {
                word: (self._outputs[word][-1:], count)
                for word, count in self.truth.items()
                if not self._outputs[word][-1:] >= [count]
            }
            return f"all words: {len(lacking)} lack some: {list(lacking.items())[:5]}"

        self.wait(is_counted, within_s, missing)

    def assert_exact(self, *, is_each_written: bool) -> None:
        """Checks that each word was counted once, neither more nor less.

        Args:
            is_each_written: each change was written, so that outputs are 1, 2, 3, …
        """
        outputs = {word: counts for word, counts in self.outputs().items() if counts}
        assert {word: counts[-1] for word, counts in outputs.items()} == self.truth
        for word, counts in outputs.items():
            if is_each_written:
                assert counts == list(range(1, self.truth[word] + 1)), word
            else:
                assert counts == sorted(set(counts)), f"{word} was counted twice: {counts}"

    def assert_calm(self) -> None:
        """Checks that no worker has written a traceback."""
        for worker in self.workers.values():
            assert "Traceback" not in worker.log, worker.log
