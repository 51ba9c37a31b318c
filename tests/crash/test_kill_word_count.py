"""SIGKILL at random moments: after each, log and stores agree to the last record."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from itertools import islice
from pathlib import Path

from tests.crash.killing import child_of, kill_at_some_moment
from tests.crash.word_count_child import PARTITIONS, application, lines
from tests.waiting import HANG_S
from thalweg import App, State, serdes
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.port import TopicPartition

KILLS = 50
LONGEST_LIFE_SECONDS = 0.4
REPARTITION = "kill-counts-repartition"


def child(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return child_of("tests.crash.word_count_child", home, *arguments)


def committed(home: Path, topic: str) -> int:
    """Returns how many records of a topic the application has committed as consumed."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    with LocalTransport(home / "log", "kill") as transport:
        return sum(known.offset for known in transport.committed(partitions).values())


def words_in_first_lines(transport: LocalTransport) -> Counter[str]:
    """Counts the words of the lines that are committed as consumed."""
    counts: Counter[str] = Counter()
    partitions = [TopicPartition("lines", number) for number in range(PARTITIONS)]
    known = transport.committed(partitions)
    reader = transport.reader()
    reader.add(dict.fromkeys(known, 0))
    left = {partition: position.offset for partition, position in known.items() if position.offset}
    while left:
        for partition, records in reader.poll(10_000, 1_000):
            for _, _, value, origin in records:
                offset = origin if isinstance(origin, int) else -1
                if offset < known[partition].offset:
                    counts.update((value or b"").decode().split())
            if reader.position(partition) >= known[partition].offset:
                left.pop(partition, None)
    reader.close()
    return counts


def stored(app: App) -> dict[str, int]:
    with app.store("counts").all() as rows:
        return dict(rows)


def test_nothing_is_lost_or_counted_twice_however_often_it_is_killed(tmp_path: Path) -> None:
    rng = random.Random(20_260_101)
    for kill in range(KILLS):
        kill_at_some_moment(child(tmp_path), rng.uniform(0, LONGEST_LIFE_SECONDS))

        consumed = committed(tmp_path, REPARTITION)
        app = application(tmp_path)
        app.pause()  # restores, and does not process
        app.start()
        assert app.wait_for(State.RUNNING), app.error
        counts = stored(app)
        assert app.close()

        assert sum(counts.values()) == consumed, f"after kill {kill}"
        with LocalTransport(tmp_path / "log", "kill") as transport:
            wanted = words_in_first_lines(transport)
        assert all(counts[word] <= wanted[word] for word in counts), f"after kill {kill}"

    process = child(tmp_path, "drain")
    _, errors = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, errors

    with application(tmp_path) as app:
        assert app.wait_for(State.RUNNING), app.error
        with app.producer() as producer:
            fed = producer.record_count("lines")
        truth = Counter(word for line in islice(lines(), fed) for word in line.split())
        assert stored(app) == truth
    assert fed > 0
    assert committed(tmp_path, "lines") == fed


def test_outputs_are_as_exact_as_state(tmp_path: Path) -> None:
    rng = random.Random(5)
    for _ in range(5):
        kill_at_some_moment(child(tmp_path), rng.uniform(0, LONGEST_LIFE_SECONDS))
    process = child(tmp_path, "drain")
    _, errors = process.communicate(timeout=HANG_S)
    assert process.returncode == 0, errors

    app = application(tmp_path)
    with app:
        assert app.wait_for(State.RUNNING), app.error
        counts = stored(app)
    last: dict[str, int] = {}
    with LocalTransport(tmp_path / "log", "kill") as transport:
        partitions = [TopicPartition("out", number) for number in range(PARTITIONS)]
        ends = transport.end_offsets(partitions)
        reader = transport.reader()
        reader.add(dict.fromkeys(partitions, 0))
        decode = serdes.int64.deserializer("out")
        while any(reader.position(partition) < end for partition, end in ends.items()):
            for _, records in reader.poll(10_000, 1_000):
                for _, key, value, _ in records:
                    word, count = (key or b"").decode(), decode(value or b"")
                    assert count > last.get(word, 0), f"{word} was counted twice or out of order"
                    last[word] = count
        reader.close()
    assert last == counts
