"""Joins of two streams: what a join adds to the graph, and how its parts are named.

Owns the nodes and stores of such a join, and its other form for a stream that is joined with
itself. Its calls, and the repartitions in front of it, are in `stream_joins`.

Source: JVM `KStreamImplJoin`, `StreamStreamJoinNode`; kafka-streams A13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from thalweg.stores.serde import SerdeHint
from thalweg.topology.dsl.join_windows import JoinWindows, StreamJoined
from thalweg.topology.graph.logical import Place, StepId
from thalweg.topology.graph.steps import (
    AddProcessor,
    AddSharedStore,
    SelfJoin,
    Step,
    always,
    processor_step,
)
from thalweg.topology.operators.stateless import PassThrough
from thalweg.topology.operators.stream_join import JoinWindow, StreamSelfJoin, StreamStreamJoin


@dataclass(frozen=True)
class WindowedJoin:
    """A join of streams as it is put into the graph: its parts and their names.

    Attributes:
        joined: names, serdes and stores; serdes are those of the streams where none were given.
        windows: how far apart records may be.
        joiner: makes a result.
        with_key: whether the joiner takes the key.
        operator: the join as users call it.
    """

    joined: StreamJoined[Any, Any, Any]
    windows: JoinWindows
    joiner: Callable[..., Any]
    with_key: bool
    operator: str

    def put_below(self, this: Place, that: Place) -> tuple[StepId, str]:
        """Puts the join below its two streams; returns its step and the name of its last node."""
        is_left, is_right = self.operator != "join", self.operator == "outer_join"
        graph, names, given = this.graph, this.names, self.joined
        this_suffix = "-outer-this-join" if is_right else "-this-join"
        that_suffix = "-outer-other-join" if is_left else "-other-join"
        this_window = names.name_or_new(given.name, "KSTREAM-WINDOWED-", "-this-windowed")
        that_window = names.name_or_new(given.name, "KSTREAM-WINDOWED-", "-other-windowed")
        this_made = names.new_name("KSTREAM-OUTERTHIS-" if is_right else "KSTREAM-JOINTHIS-")
        that_made = names.new_name("KSTREAM-OUTEROTHER-" if is_left else "KSTREAM-JOINOTHER-")
        this_join = this_made if given.name is None else given.name + this_suffix
        that_join = that_made if given.name is None else given.name + that_suffix
        merge = names.name_or_new(given.name, "KSTREAM-MERGE-", "-merge")
        hint, stored = stream_hint(self.operator), given.store_name
        this_base = this_made if stored is None else stored + this_suffix
        that_base = that_made if stored is None else stored + that_suffix
        this_store = given.window(
            self.windows, given.this_store, this_base + "-store", given.value_serde, hint
        )
        that_store = given.window(
            self.windows,
            given.other_store,
            that_base + "-store",
            given.other_value_serde,
            hint._replace(value="StreamJoined(..., other_value_serde=...)"),
        )
        graph.add(processor_step(this_window, always(JoinWindow(this_store.name))), this.step)
        graph.add(processor_step(that_window, always(JoinWindow(that_store.name))), that.step)
        waiting = None
        if is_left:
            number = this_made.rpartition("-")[2]
            suffix = "-outer-shared-join" if is_right else "-left-shared-join"
            made = f"KSTREAM-OUTERSHARED-{number}"
            names.note_generated(made)
            waiting = given.waiting(made, suffix, hint)
        windows = self.windows
        side = StreamStreamJoin(
            that_store.name,
            self.joiner,
            self.with_key,
            is_left=True,
            before_ms=windows.before_ms,
            after_ms=windows.after_ms,
            wait_ms=windows.grace_ms,
            keeps_unmatched=is_left,
            waiting_store=waiting and waiting.name,
        )
        other_side = replace(
            side, other_store=this_store.name, is_left=False, keeps_unmatched=is_right
        )
        shared = () if waiting is None else (AddSharedStore(waiting, (this_join, that_join)),)
        itself = StreamSelfJoin(
            this_store.name,
            self.joiner,
            self.with_key,
            windows.before_ms,
            windows.after_ms,
            windows.retention_ms,
        )
        step = Step(
            merge,
            (
                AddProcessor(this_join, always(side), (this_window,)),
                AddProcessor(that_join, always(other_side), (that_window,)),
                AddProcessor(merge, always(PassThrough()), (this_join, that_join)),
                AddSharedStore(this_store, (this_window, that_join)),
                AddSharedStore(that_store, (that_window, this_join)),
                *shared,
            ),
            takes_null_keys=is_left,
            self_join=SelfJoin(
                this_window,
                that_window,
                (
                    AddProcessor(merge, always(itself), (this_window,)),
                    AddSharedStore(this_store, (this_window, merge)),
                ),
            ),
        )
        return graph.add(step, this.step, that.step), merge


def stream_hint(operator: str) -> SerdeHint:
    """Returns where a join of streams is given its serdes."""
    return SerdeHint(
        f"{operator}()", "StreamJoined(..., key_serde=...)", "StreamJoined(..., value_serde=...)"
    )
