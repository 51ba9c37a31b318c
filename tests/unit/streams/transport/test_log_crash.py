"""A process with the embedded log is killed at any moment: a commit is there whole, or not."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.unit.streams.transport import killed_worker
from tests.unit.streams.transport.killed_worker import CHANGELOG, INPUT, OUTPUT, REPARTITION
from thalweg.stores.record import offset_of
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.port import NewTopic, TopicPartition

ROOT = Path(__file__).parents[4]
KILLS = 25
RECORDS = 100_000


def all_records(
    transport: LocalTransport, partitions: list[TopicPartition]
) -> dict[TopicPartition, list[tuple[int, bytes | None, bytes | None]]]:
    reader = transport.reader()
    reader.add(transport.begin_offsets(partitions))
    ends = transport.end_offsets(partitions)
    found: dict[TopicPartition, list[tuple[int, bytes | None, bytes | None]]] = {
        at: [] for at in partitions
    }
    while any(reader.position(at) < ends[at] for at in partitions):
        for at, records in reader.poll(10_000, 0):
            found[at] += [(offset_of(r[3]), r[1], r[2]) for r in records]
    reader.close()
    return found


def check(data_dir: Path, acknowledged: int) -> int:
    """Checks that records and positions agree exactly; returns how many records came out."""
    with LocalTransport(data_dir, "app") as transport:
        positions = killed_worker.start_positions(transport, [*INPUT, *REPARTITION])
        consumed = [
            record[2]
            for at, records in all_records(transport, INPUT).items()
            for record in records
            if record[0] < positions[at]
        ]
        # Purged and never written ones lie before the position, the others wait.
        waiting = [
            record[2]
            for at, records in all_records(transport, REPARTITION).items()
            for record in records
            if record[0] >= positions[at]
        ]
        out = [
            record[2] for records in all_records(transport, OUTPUT).values() for record in records
        ]
        assert Counter(out) + Counter(waiting) == Counter(consumed)
        assert len(set(out)) == len(out)
        assert len(out) >= acknowledged
        ends = transport.end_offsets([*OUTPUT, *CHANGELOG])
        assert sum(ends[at] for at in OUTPUT) == len(out)
        assert sum(ends[at] for at in CHANGELOG) == len(out)
        logged = {
            record[1]: record[2]
            for records in all_records(transport, CHANGELOG).values()
            for record in records
        }
        last = {
            record[1]: record[2]
            for records in all_records(transport, OUTPUT).values()
            for record in records
        }
        assert logged == last
        return len(out)


def test_nothing_is_lost_doubled_or_torn_by_kills(tmp_path: Path) -> None:
    randomness = random.Random(7)
    with LocalTransport(tmp_path) as transport:
        transport.create_topics([NewTopic(INPUT[0].topic, len(INPUT))])
        send = transport.sender(INPUT[0].topic)
        for number in range(RECORDS):
            send(b"key-%d" % (number % 500), b"%d" % number, number, None, None)
        transport.commit({})
    acknowledged = 0
    for kill in range(KILLS):
        # A kill while it works through the rest, before, or long after it is done.
        commits = randomness.choice((1, 2, 3, 7, 20, 60)) if kill else 1
        before = acknowledged
        with subprocess.Popen(
            [sys.executable, str(Path(killed_worker.__file__)), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "open\n"
            said = 0
            for _ in range(commits):
                said = int(worker.stdout.readline())
            # Not at the end of a commit but anywhere in those that follow.
            for _ in range(randomness.randrange(60_000)):
                pass
            worker.kill()
            # The last line may be torn.
            said = max([said, *map(int, worker.stdout.read().splitlines()[:-1])])
        acknowledged = check(tmp_path, before + said)
    # Enough for the changelog to have been compacted under way, and not all.
    assert 25_000 < acknowledged < RECORDS


def test_an_interrupted_log_is_whole_when_it_is_opened_again(tmp_path: Path) -> None:
    """What was sent and not committed dies with the process; nothing remains of it."""
    code = (
        "import os, signal, sys\n"
        "from thalweg.streams.transport.local import LocalTransport\n"
        "t = LocalTransport(sys.argv[1], 'app')\n"
        "r = t.reader(); s = t.sender('t'); s(b'k', b'committed', 0, None, None); t.commit({})\n"
        "from thalweg.streams.transport.port import TopicPartition\n"
        "r.add({TopicPartition('t', 0): 0})\n"
        "s(b'k', b'lost', 0, None, None); t.flush()\n"
        "assert len(r.poll(10, 0)[0][1]) == 2\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, cwd=ROOT, timeout=60
    )
    assert died.returncode == -9
    at = TopicPartition("t", 0)
    with LocalTransport(tmp_path, "app") as transport:
        assert all_records(transport, [at]) == {at: [(0, b"k", b"committed")]}
        assert transport.end_offsets([at]) == {at: 1}
