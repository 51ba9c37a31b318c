"""The bare limit: one confluent-kafka consumer, one producer, nothing between them.

batch=0 calls produce() per record, batch=1 hands whole lists to produce_batch().
map_filter adds the JSON work with codec=msgspec (typed Structs) or codec=orjson (dicts),
where that library is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer

from bench.race.contract import Progress, arguments


class Event(msgspec.Struct):
    """Input of map_filter."""

    id: int
    user: str
    amount: float
    text: str


class Taxed(msgspec.Struct):
    """Output of map_filter."""

    id: int
    user: str
    amount: float
    text: str
    tax: float


Mapper = Callable[[bytes], bytes | None]

decode = msgspec.json.Decoder(Event).decode
encode = msgspec.json.Encoder().encode


def typed(value: bytes) -> bytes | None:
    event = decode(value)
    if event.amount < 50.0:
        return None
    return encode(Taxed(event.id, event.user, event.amount, event.text, event.amount * 0.2))


def untyped() -> Mapper:
    from orjson import dumps, loads

    def taxed(value: bytes) -> bytes | None:
        event = loads(value)
        if event["amount"] < 50.0:
            return None
        event["tax"] = event["amount"] * 0.2
        return bytes(dumps(event))

    return taxed


def main() -> None:
    args = arguments(batch="0", codec="msgspec", chunk="1000")
    progress = Progress(int(args["expected"]))
    consumer = Consumer(
        {
            "bootstrap.servers": args["bootstrap"],
            "group.id": args["app"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 500_000,
            # the default of 1,000 ms stops fetching for a second whenever that queue is full
            "fetch.queue.backoff.ms": 5,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": args["bootstrap"],
            "linger.ms": 100,
            "batch.size": 1 << 18,
            "queue.buffering.max.messages": 500_000,
            "enable.idempotence": True,
        }
    )
    mapper: Mapper | None = None
    if args["workload"] == "map_filter":
        mapper = typed if args["codec"] == "msgspec" else untyped()
    send = batched if args["batch"] == "1" else single
    output = args["output"]
    chunk = int(args["chunk"])
    interval = int(args["commit_ms"]) / 1e3

    consumer.subscribe([args["input"]])
    committed = time.monotonic()
    while not progress.complete:
        messages = consumer.consume(chunk, 0.1)
        if not messages:
            continue
        progress.add(len(messages))
        send(producer, output, messages, mapper)
        if time.monotonic() - committed > interval:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed = time.monotonic()
    producer.flush()
    consumer.commit(asynchronous=False)
    consumer.close()
    progress.done()


def single(producer: Producer, output: str, messages: list[Message], mapper: Mapper | None) -> None:
    produce = producer.produce
    for message in messages:
        value: Any = message.value()
        if mapper is not None:
            value = mapper(value)
            if value is None:
                continue
        while True:
            try:
                produce(output, value, message.key(), timestamp=message.timestamp()[1])
                break
            except BufferError:
                producer.poll(0.1)
    producer.poll(0)


def batched(
    producer: Producer, output: str, messages: list[Message], mapper: Mapper | None
) -> None:
    rows: list[dict[str, Any]] = []
    for message in messages:
        value: Any = message.value()
        if mapper is not None:
            value = mapper(value)
            if value is None:
                continue
        rows.append({"value": value, "key": message.key()})  # produce_batch takes no timestamps yet
    while rows:
        producer.produce_batch(output, rows)
        rows = [row for row in rows if row.pop("_error", None)]
        producer.poll(0.1 if rows else 0)


if __name__ == "__main__":
    main()
