"""Quix Streams in the race.

JSON is its default codec (orjson, plain dicts); state is its RocksDB store with a changelog.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

from bench.race.contract import Progress, arguments

WINDOW = timedelta(seconds=10)
GRACE = timedelta(seconds=5)
GAP = timedelta(seconds=3)


class Job:
    """One application with one workload."""

    def __init__(self, args: dict[str, str]) -> None:
        self.args = args
        self.progress = Progress(int(args["expected"]))
        self.emitted = 0
        self.received = 0
        exactly_once = args["guarantee"] != "at_least_once"
        self.app = Application(
            broker_address=args["bootstrap"],
            consumer_group=args["app"],
            auto_offset_reset="earliest",
            commit_interval=int(args["commit_ms"]) / 1e3,
            state_dir=args["state_dir"],
            processing_guarantee="exactly-once" if exactly_once else "at-least-once",
            on_message_processed=self.processed,
            loglevel="WARNING",
            # with large inputs the default queue of 100,000 messages fills up and raises
            producer_extra_config={"queue.buffering.max.messages": 1_000_000},
        )

    def processed(self, topic: str, _partition: int, _offset: int) -> None:
        """Counts a record that has gone through, and stops after the last."""
        if topic == self.args["input"]:
            self.progress.add()
        elif topic.endswith("-table"):
            self.progress.first()
        else:
            self.received += 1
        if self.progress.complete and self.received >= self.emitted:
            self.app.stop()

    def source(self, name: str, value: str = "json", key: str = "string") -> Any:
        """Returns the stream of a topic."""
        return self.app.dataframe(
            self.app.topic(name, value_deserializer=value, key_deserializer=key)
        )

    def sink(self, frame: Any, value: str = "json", key: str = "string") -> None:
        """Writes a stream to the output topic."""
        frame.to_topic(
            self.app.topic(self.args["output"], value_serializer=value, key_serializer=key)
        )

    def run(self) -> None:
        """Runs the workload to its end and prints the report."""
        getattr(self, self.args["workload"])()
        self.app.run()
        self.progress.done()

    def passthrough(self) -> None:
        """Bytes straight on."""
        self.sink(self.source(self.args["input"], "bytes", "bytes"), "bytes", "bytes")

    def map_filter(self) -> None:
        """Decode, keep the large amounts, add the tax, encode."""
        frame = self.source(self.args["input"], key="bytes")
        frame = frame.filter(lambda event: event["amount"] >= 50.0)
        self.sink(frame.apply(lambda event: event | {"tax": event["amount"] * 0.2}), key="bytes")

    def word_count(self) -> None:
        """Split lines, group by word, count."""

        def split(line: str) -> list[str]:
            words = line.split(" ")
            self.emitted += len(words)
            return words

        def count(_word: str, state: Any) -> int:
            total: int = state.get("count", 0) + 1
            state.set("count", total)
            return total

        frame = self.source(self.args["input"], "string", "bytes").apply(split, expand=True)
        strings = dict.fromkeys(
            ("key_serializer", "key_deserializer", "value_serializer", "value_deserializer"),
            "string",
        )
        frame = frame.group_by(lambda word: word, name="word", **strings)
        self.sink(frame.apply(count, stateful=True))

    def windowed_sum(self) -> None:
        """Sum the amounts of each user in windows of ten seconds."""
        frame = self.source(self.args["input"])
        self.sink(frame.tumbling_window(WINDOW, grace_ms=GRACE).agg(value=Sum("amount")).current())

    def session_count(self) -> None:
        """Count the events of each user's sessions."""
        frame = self.source(self.args["input"])
        self.sink(frame.session_window(GAP, grace_ms=GRACE).agg(value=Count()).current())

    def stream_table_join(self) -> None:
        """Enrich payments by their user."""

        def merge(payment: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
            return payment | {"country": user["country"], "tier": user["tier"]}

        users = self.source(self.args["input"] + "-table")
        self.sink(self.source(self.args["input"]).join_asof(users, how="inner", on_merge=merge))

    def restore_build(self) -> None:
        """Fill a store."""

        def put(value: str, state: Any) -> None:
            state.set("value", value)

        self.source(self.args["input"], "string").update(put, stateful=True)

    def restore(self) -> None:
        """The recovery has no listener: time the state manager's own call, then read every entry."""
        self.restore_build()
        manager = self.app._state_manager  # noqa: SLF001 - there is no public way to it
        recover = manager.do_recovery

        def timed() -> None:
            self.progress.first()
            recover()
            self.progress.add(int(self.args["expected"]))
            self.check(manager)
            self.app.stop()

        manager.do_recovery = timed

    def check(self, manager: Any) -> None:
        """Sums up what the restored store holds."""
        entries = checksum = 0
        for stores in manager.stores.values():
            for store in stores.values():
                for partition in store.partitions.values():
                    for key, value in partition._db.items():  # noqa: SLF001 - nor to all entries
                        if b"value" in bytes(key):
                            entries += 1
                            checksum += int(bytes(value).strip(b'"')[:12])
        self.progress.report |= {"entries": entries, "checksum": checksum}


if __name__ == "__main__":
    logging.disable(logging.INFO)
    Job(arguments()).run()
