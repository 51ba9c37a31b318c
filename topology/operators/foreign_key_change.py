"""Foreign-key joins, right side: a changed right row is sent to all of its subscribers.

Owns the responses that a change of the right table sends: one for each subscription of its key, in
the byte order of left keys, with the time of the change. The right value is encoded once for all of
them.

Source: JVM `ForeignTableJoinProcessorSupplier`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from thalweg.stores.foreign_keys import partition_of, response_head, subscriptions_prefix
from thalweg.stores.serde import Serde
from thalweg.topology.edges import Edge
from thalweg.topology.operators.foreign_key_serdes import clear_fault
from thalweg.topology.operators.foreign_key_subscription import Subscriptions, key_decoder
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import latest_only


@dataclass(frozen=True, eq=False, kw_only=True)
class TellSubscribers(Operator):
    """Turns changes of right rows into responses, keyed by left key.

    Attributes:
        store_name: the store of subscriptions.
        topic: the topic of responses, bare.
        registrations: the topic of registrations, bare.
        foreign_key_serde: of right keys; None for the application's default, like the others.
        value_serde: of right values.
        primary_key_serde: of left keys.
        decodes_key: whether responses need left keys decoded.
        is_versioned: whether the right table is versioned. Then only the latest change of a row
            counts.
    """

    takes = Edge.CHANGE

    store_name: str
    topic: str
    registrations: str
    foreign_key_serde: Serde[Any] | None
    value_serde: Serde[Any] | None
    primary_key_serde: Serde[Any] | None
    decodes_key: bool
    is_versioned: bool

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        task = scope.task
        key_topic = f"{task.application_id}-{self.registrations}-fk"
        topic = f"{task.application_id}-{self.topic}"
        key_serde = task.key_serde(self.foreign_key_serde)
        serde = task.value_serde(self.value_serde)
        encode_key, encode = key_serde.bare_serializer(key_topic), serde.bare_serializer(topic)
        store: Any = task.store(self.store_name)
        subscriptions: Subscriptions = store
        find = subscriptions.subscribers
        decode_key = key_decoder(
            scope, self.primary_key_serde, self.registrations, is_needed=self.decodes_key
        )
        forward, failed, drop = scope.forward, scope.failed, scope.drop

        def tell(key: Any, new: Any, _old: Any, timestamp: int) -> None:
            if key is None:
                drop(key, new, timestamp)
                return
            written: bytes | None = None
            try:
                prefix = subscriptions_prefix(encode_key(key))
                start = len(prefix)
                for stored_key, registration in find(prefix):
                    if written is None:
                        written = b"" if new is None else encode(new)
                    primary_key: Any = stored_key[start:]
                    if decode_key is not None:
                        primary_key = decode_key(primary_key)
                    response = response_head(registration) + written
                    forward(primary_key, (partition_of(registration), response), timestamp)
            except Exception as error:
                clear = clear_fault(error, (key_serde, key_topic, key), (serde, topic, new))
                failed(clear, key, new, timestamp)

        return latest_only(scope, tell) if self.is_versioned else tell
