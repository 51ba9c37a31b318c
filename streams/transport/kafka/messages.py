"""Messages of librdkafka as raw records, many at once.

Owns the fields of messages and the form in which they are passed on. It must not know consumers,
nor who receives the records. Fields are read by `map`, which saves a call per field and record.

Source: confluent-kafka `Message`; design 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, overload

from confluent_kafka import Message

from thalweg.stores.record import Columns, LazyRecords, RawRecord

_headers = Message.headers
_key: Any = Message.key
_offset = Message.offset
_timestamp = Message.timestamp
_value = Message.value
_second = itemgetter(1)


def raw_records(messages: Sequence[Any]) -> list[RawRecord]:
    """Returns messages without errors as raw records.

    The hot path of reading: nothing is done per record in Python but where there are headers.
    """
    if not messages:
        return []
    if any(map(_headers, messages)):
        return [
            (
                message.timestamp()[1],
                message.key(),
                message.value(),
                (message.offset(), headers) if (headers := message.headers()) else message.offset(),
            )
            for message in messages
        ]
    first, last = messages[0].offset(), messages[-1].offset()
    # Offsets only rise: if that many lie between first and last, none is missing.
    is_whole = last - first == len(messages) - 1
    return list(
        zip(
            map(_second, map(_timestamp, messages)),
            map(_key, messages),
            map(_value, messages),
            range(first, last + 1) if is_whole else map(_offset, messages),
            strict=True,
        )
    )


class MessageRun(LazyRecords):
    """Messages of one partition, without errors, whose records are made when asked for."""

    __slots__ = ("messages",)

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    def __len__(self) -> int:
        return len(self.messages)

    @overload
    def __getitem__(self, index: int) -> RawRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[RawRecord]: ...
    def __getitem__(self, index: int | slice) -> RawRecord | list[RawRecord]:
        if isinstance(index, slice):
            return raw_records(self.messages[index])
        return raw_records([self.messages[index]])[0]

    def __iter__(self) -> Iterator[RawRecord]:
        return iter(raw_records(self.messages))

    def columns_by_key(self) -> Columns:
        """Returns the fields in the order of keys; see `LazyRecords`."""
        # Not in place: a sort that fails half-way, at a record without a key, would leave those
        # of one key in another order.
        try:
            messages = sorted(self.messages, key=_key)
        except TypeError:
            messages = sorted((one for one in self.messages if one.key() is not None), key=_key)
        if messages and messages[0].key() is None:
            messages = []
        times = map(_second, map(_timestamp, messages))
        return Columns(times, map(_key, messages), list(map(_value, messages)))
