"""The directory of an embedded log: one owner, shared within it, and what else may lie there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from thalweg.stores.record import offset_of
from thalweg.streams.errors import ConfigError, StoreLockedError, TransportError
from thalweg.streams.transport.local import LocalTransport
from thalweg.streams.transport.port import NewTopic, OffsetAndMetadata, TopicPartition

AT = TopicPartition("t", 0)

OWNER = """
import sys
from thalweg.streams.transport.local import LocalTransport
transport = LocalTransport(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def contents(transport: LocalTransport, count: int) -> list[bytes | None]:
    reader = transport.reader()
    reader.add({AT: 0})
    found: list[bytes | None] = []
    while len(found) < count:
        batches = reader.poll(count, 10_000)
        assert batches
        found += [record[2] for _, records in batches for record in records]
    assert not reader.poll(1, 0)
    return found


def test_records_and_positions_are_there_after_a_restart(tmp_path: Path) -> None:
    with LocalTransport(tmp_path / "deep" / "log", "app") as transport:
        transport.create_topics([NewTopic("t", 2, configs={"retention.ms": "-1"})])
        transport.sender("t")(b"k", b"v", 7, [("h", b"1")], 0)
        transport.commit({AT: OffsetAndMetadata(1, "AQ==")})

    with LocalTransport(tmp_path / "deep" / "log", "app") as transport:
        assert transport.partition_counts(["t"]) == {"t": 2}
        assert transport.committed([AT]) == {AT: OffsetAndMetadata(1, "AQ==")}
        reader = transport.reader()
        reader.add({AT: 0})
        assert reader.poll(10, 0) == [(AT, [(7, b"k", b"v", (0, [("h", b"1")]))])]
        with pytest.raises(TransportError):
            transport.create_topics([NewTopic("t", 3)])


def test_a_second_process_is_told_who_owns_the_log(tmp_path: Path) -> None:
    with LocalTransport(tmp_path / "log"):
        found = subprocess.run(
            [sys.executable, "-c", OWNER, str(tmp_path / "log")],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert found.returncode == 1
    assert "StoreLockedError" in found.stderr
    assert f"in use by process {os.getpid()}: one process owns a log at a time" in found.stderr


def test_a_log_is_free_when_its_owner_was_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=f"in use by process {owner.pid}"):
            LocalTransport(tmp_path)
        owner.kill()
        owner.wait()
    LocalTransport(tmp_path).close()


def test_a_forked_child_must_not_use_its_parents_log(tmp_path: Path) -> None:
    with LocalTransport(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                LocalTransport(tmp_path)
            except StoreLockedError as error:
                os._exit(0 if str(os.getppid()) in str(error) else 2)
            except BaseException:
                os._exit(3)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_transports_of_one_process_share_the_log_until_the_last_is_closed(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "log")
    first = LocalTransport(tmp_path / "log")
    second = LocalTransport(tmp_path / "link")
    first.create_topics([NewTopic("t", 1)])
    first.close()
    first.close()
    third = LocalTransport(str(tmp_path / "log"))

    second.sender("t")(b"k", b"v", 0, None, None)
    second.commit({})

    assert contents(third, 1) == [b"v"]
    second.close()
    third.close()
    assert (tmp_path / "log" / ".lock").read_text() == f"{os.getpid()}\n"
    assert (
        subprocess.run(
            [sys.executable, "-c", OWNER, str(tmp_path / "log")],
            capture_output=True,
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
        ).stdout
        == "open\n"
    )


def test_many_threads_may_open_and_close_one_log(tmp_path: Path) -> None:
    failures: list[BaseException] = []
    rounds = 15

    def work(number: int) -> None:
        try:
            for turn in range(rounds):
                with LocalTransport(tmp_path) as transport:
                    transport.sender("t")(b"k", b"%d-%d" % (number, turn), 0, None, None)
                    transport.commit({})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    with LocalTransport(tmp_path) as transport:
        found = contents(transport, 4 * rounds)
    assert sorted(found, key=str) == sorted(
        [b"%d-%d" % (number, turn) for number in range(4) for turn in range(rounds)], key=str
    )


def test_a_bad_argument_does_not_keep_the_log_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="default_partitions must be 1 or more"):
        LocalTransport(tmp_path, default_partitions=0)
    subprocess.run(
        [sys.executable, "-c", OWNER, str(tmp_path)], check=True, stdin=subprocess.DEVNULL
    )


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"is no log: it holds 'thesis.txt' and no 'rows'"):
        LocalTransport(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_directory_that_is_as_good_as_empty_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*")
    (tmp_path / "lost+found").mkdir()
    LocalTransport(tmp_path).close()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be used: .*; name a directory"):
        LocalTransport(tmp_path / name)


def test_a_directory_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    # Works for root too, who may write anywhere: a lock that is no file.
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be written to: .*; mend its permissions"):
        LocalTransport(tmp_path)


def test_topics_created_by_sending_have_the_default_partition_count(tmp_path: Path) -> None:
    with LocalTransport(tmp_path, default_partitions=3) as transport:
        transport.sender("t")
        assert transport.partition_count("t") == 3


def test_the_machines_clock_is_the_default(tmp_path: Path) -> None:
    with LocalTransport(tmp_path) as transport:
        transport.sender("t")(b"k", b"v", None, None, None)
        transport.commit({})
        reader = transport.reader()
        reader.add({AT: 0})
        ((_, (record,)),) = reader.poll(1, 0)
    assert record[0] > 1_700_000_000_000
    assert offset_of(record[3]) == 0
