"""Foreign-key joins, left side: responses become joined rows.

Owns which responses are valid: those for the present value of the left row, which the hash of the
value shows. An older response is dropped; the response to the newer value comes by itself.

Source: JVM `ResponseJoinProcessorSupplier`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from thalweg.stores.murmur3 import murmur3_128
from thalweg.stores.serde import Serde
from thalweg.topology.operators.foreign_key_serdes import Received, clear_fault
from thalweg.topology.operators.operator import NodeScope, Operator, Process
from thalweg.topology.operators.table import TableView, newest_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Resolve(Operator):
    """Joins responses with the left row of their key.

    Attributes:
        left_view: reads the left table.
        joiner: (left value, right value or None) -> joined value.
        left: whether a left row without a right row is joined, too.
        registrations: the topic of registrations, bare.
        topic: the topic of responses, bare.
        left_value_serde: of left values; None for the application's default, like the other.
        right_value_serde: of right values.
    """

    left_view: TableView
    joiner: Callable[[Any, Any], Any]
    left: bool
    registrations: str
    topic: str
    left_value_serde: Serde[Any] | None
    right_value_serde: Serde[Any] | None

    def compile(self, scope: NodeScope) -> Process:
        """Returns the closure of one task."""
        task = scope.task
        read = self.left_view.bind(scope, newest_rows(scope))
        hash_topic = f"{task.application_id}-{self.registrations}-vh"
        serde = task.value_serde(self.left_value_serde)
        encode = serde.bare_serializer(hash_topic)
        decode = task.value_serde(self.right_value_serde).deserializer(
            f"{task.application_id}-{self.topic}"
        )
        joiner, left = self.joiner, self.left
        forward, failed, drop = scope.forward, scope.failed, scope.drop
        stale = scope.left_out("stale-response")

        def resolve(key: Any, response: Received | None, timestamp: int) -> None:
            if response is None or key is None:
                drop(key, response, timestamp)
                return
            mine = None
            try:
                pair = read(key)
                if pair is not None:
                    mine = pair[0]
                    hashed = murmur3_128(encode(mine))
                else:
                    hashed = None
                if hashed != response[0]:
                    stale(key, timestamp)
                    return
                raw = response[1]
                if raw is not None:
                    joined = joiner(mine, decode(raw))
                elif left and pair is not None:
                    joined = joiner(mine, None)
                else:
                    joined = None
            except Exception as error:
                failed(clear_fault(error, (serde, hash_topic, mine)), key, mine, timestamp)
                return
            forward(key, joined, timestamp)

        return resolve
