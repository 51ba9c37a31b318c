"""Foreign-key joins, left side: a changed row registers at the right row that it names.

Owns which registrations a change sends, and in which order. If the foreign key of a row has
changed, the subscription at the old key is deleted before the row registers at the new key. A left
join also registers a row without a foreign key, with a key of None; the response says that there is
no right row. A registration has the hash of the left value, which identifies its response.

Source: JVM `SubscriptionSendProcessorSupplier` of 4.1+ (KAFKA-19303); kafka-streams D12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.stores.foreign_keys import (
    FORGET,
    FORGET_AND_TELL,
    TELL,
    TELL_IF_FOUND,
    encode_registration,
    pack_partition,
)
from thalweg.stores.murmur3 import murmur3_128
from thalweg.stores.serde import Serde
from thalweg.topology.edges import Edge
from thalweg.topology.operators.foreign_key_serdes import clear_fault
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import latest_only


@dataclass(frozen=True, eq=False, kw_only=True)
class Register(Operator):
    """Turns changes of left rows into registrations, keyed by foreign key.

    Attributes:
        topic: the topic of registrations, bare; serdes are told names made of it.
        extractor: (value) or, `with_key`, (key, value) -> foreign key, None where there is none.
        with_key: whether the extractor takes the key.
        left: whether rows without a right row are joined, too.
        key_serde: of left keys; None for the application's default, like the others.
        value_serde: of left values.
        foreign_key_serde: of foreign keys, which are right keys.
        legacy: write what versions up to 3.3 read (`upgrade.from`).
        is_versioned: whether the left table is versioned. Then only the latest change of a row
            counts.
    """

    takes = Edge.CHANGE

    topic: str
    extractor: Callable[..., Any]
    with_key: bool
    left: bool
    key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    foreign_key_serde: Serde[Any] | None
    legacy: bool
    is_versioned: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        task = scope.task
        topic = f"{task.application_id}-{self.topic}"
        key_serde, value_serde = task.key_serde(self.key_serde), task.value_serde(self.value_serde)
        foreign_serde = task.key_serde(self.foreign_key_serde)
        encode_key = key_serde.bare_serializer(topic + "-pk")
        encode_value = value_serde.bare_serializer(topic + "-vh")
        encode_foreign = foreign_serde.bare_serializer(topic + "-fk")
        partition = None if self.legacy else pack_partition(task.partition)
        extractor, with_key, left = self.extractor, self.with_key, self.left
        keyable = foreign_serde.keyable
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        unnamed = scope.left_out("null-foreign-key")

        def register(key: Any, new: Any, old: Any, timestamp: int) -> None:
            if new is None and old is None:
                return
            if key is None:
                drop(key, new, timestamp)
                return
            before = after = hashed = None
            try:
                if old is not None:
                    before = extractor(key, old) if with_key else extractor(old)
                if new is not None:
                    after = extractor(key, new) if with_key else extractor(new)
                    if after is None and not left:
                        unnamed(key, timestamp)
                    if after is not None or before is not None or left:
                        hashed = murmur3_128(encode_value(new))
                if before is None:
                    has_moved = False
                elif after is None or keyable:
                    has_moved = before != after
                else:
                    has_moved = encode_foreign(before) != encode_foreign(after)
                raw_key = encode_key(key)
            except Exception as error:
                clear = clear_fault(
                    error,
                    (key_serde, topic + "-pk", key),
                    (value_serde, topic + "-vh", new),
                    (foreign_serde, topic + "-fk", before),
                    (foreign_serde, topic + "-fk", after),
                )
                failed(clear, key, new, timestamp)
                return
            if has_moved:
                instruction = FORGET if left or after is not None else FORGET_AND_TELL
                forward(
                    before, encode_registration(hashed, instruction, raw_key, partition), timestamp
                )
            if left or (after is not None and has_moved):
                instruction = TELL
            elif after is not None:
                instruction = TELL_IF_FOUND
            else:
                return
            forward(after, encode_registration(hashed, instruction, raw_key, partition), timestamp)

        return latest_only(scope, register) if self.is_versioned else register
