"""Foreign-key joins, right side: registrations are stored as subscriptions and answered.

Owns the two nodes that a registration passes: `Subscribe` stores or deletes the subscription,
`AnswerRegistration` reads the right row and responds. The instruction of a registration says which
of these it demands (`stores.foreign_keys`). A registration without a right row has a key of None;
it is answered and not stored. Registrations and their left keys stay bytes.

Source: JVM `SubscriptionReceiveProcessorSupplier`, `SubscriptionJoinProcessorSupplier`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from thalweg.stores.foreign_keys import (
    FORGET,
    FORGET_AND_TELL,
    TELL,
    TELL_IF_FOUND,
    partition_of,
    primary_key_of,
    response_head,
    subscriptions_prefix,
    without_partition,
)
from thalweg.stores.serde import Serde
from thalweg.topology.operators.foreign_key_serdes import clear_fault
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import TableView, newest_rows


class Subscriptions(Protocol):
    """The store of subscriptions (`stores.kinds.subscriptions`)."""

    def writer(self) -> Callable[[bytes, bytes | None, int], None]:
        """Returns the function (key, value or None to delete, timestamp) that writes a row."""
        ...

    def subscribers(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yields key and value of the rows whose keys begin with `prefix`."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Subscribe(Operator):
    """Keeps what registrations say, and hands them on.

    Attributes:
        store_name: the store of subscriptions.
        topic: the topic of registrations, bare.
        foreign_key_serde: of foreign keys; None for the application's default.
        legacy: keep what versions up to 3.3 read (`upgrade.from`).
    """

    store_name: str
    topic: str
    foreign_key_serde: Serde[Any] | None
    legacy: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        task, legacy = scope.task, self.legacy
        topic = f"{task.application_id}-{self.topic}-fk"
        serde = task.key_serde(self.foreign_key_serde)
        encode = serde.bare_serializer(topic)
        store: Any = task.store(self.store_name)
        subscriptions: Subscriptions = store
        write, forward, failed = subscriptions.writer(), scope.forward, scope.failed
        unnamed = scope.left_out("null-foreign-key")

        def subscribe(key: Any, registration: Any, timestamp: int) -> None:
            if registration is None:
                scope.drop(key, registration, timestamp)
                return
            instruction = registration[1]
            if key is None:
                if instruction == TELL:
                    forward(key, registration, timestamp)
                else:
                    unnamed(primary_key_of(registration), timestamp)
                return
            try:
                stored_key = subscriptions_prefix(encode(key)) + primary_key_of(registration)
                if instruction < TELL:
                    write(stored_key, None, timestamp)
                else:
                    kept = without_partition(registration) if legacy else registration
                    write(stored_key, kept, timestamp)
            except Exception as error:
                failed(clear_fault(error, (serde, topic, key)), key, registration, timestamp)
                return
            forward(key, registration, timestamp)

        return subscribe


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerRegistration(Operator):
    """Answers registrations with the right row of this moment, by the later of both times.

    Attributes:
        right: reads the right table.
        topic: the topic of responses, bare.
        value_serde: of right values; None for the application's default.
        primary_key_serde: the serde of left keys, where responses need them decoded.
        decodes_key: whether they do.
        registrations: the topic of registrations, bare.
    """

    right: TableView
    topic: str
    value_serde: Serde[Any] | None
    primary_key_serde: Serde[Any] | None
    decodes_key: bool
    registrations: str

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        task = scope.task
        read = self.right.bind(scope, newest_rows(scope))
        topic = f"{task.application_id}-{self.topic}"
        serde = task.value_serde(self.value_serde)
        encode = serde.bare_serializer(topic)
        decode_key = key_decoder(
            scope, self.primary_key_serde, self.registrations, is_needed=self.decodes_key
        )
        forward, failed = scope.forward, scope.failed

        def answer(key: Any, registration: bytes, timestamp: int) -> None:
            instruction, value = registration[1], None
            try:
                pair = None if key is None else read(key)
                if instruction == FORGET or (pair is None and instruction == TELL_IF_FOUND):
                    return
                response = response_head(registration)
                if pair is not None:
                    value, time = pair
                    if time > timestamp:
                        timestamp = time
                    if instruction != FORGET_AND_TELL:
                        response += encode(value)
                primary_key: Any = primary_key_of(registration)
                if decode_key is not None:
                    primary_key = decode_key(primary_key)
            except Exception as error:
                failed(clear_fault(error, (serde, topic, value)), key, registration, timestamp)
                return
            forward(primary_key, (partition_of(registration), response), timestamp)

        return answer


def key_decoder(
    scope: NodeScope, serde: Serde[Any] | None, registrations: str, *, is_needed: bool
) -> Callable[[bytes], Any] | None:
    """Returns the function that reads left keys in subscriptions, None where it is not needed.

    Responses take the bytes of their key as they came; only a user's partitioner looks at it.
    """
    if not is_needed:
        return None
    task = scope.task
    return task.key_serde(serde).deserializer(f"{task.application_id}-{registrations}-pk")
