"""Operators: what processor nodes do. An operator compiles itself for a task.

Owns the faces through which an operator sees its task. An operator is called with what its edge
carries (`topology.edges`): (key, value, timestamp) of a record, or (key, new, old, timestamp) of a
change. So no object is needed for a change. The task's current-record cell has the rest of the
record: headers, offset, topic.

It must not know how tasks, stores or transports are made.

Source: JVM `ProcessorNode`, `ProcessorContextImpl`; design, a record's way 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from thalweg.stores.record import CurrentRecord
from thalweg.stores.serde import Serde
from thalweg.stores.updates import Materialized
from thalweg.topology.edges import Edge
from thalweg.topology.operators.propagation import Propagation
from thalweg.topology.processor import (
    Cancellable,
    FixedKeyRecord,
    ProcessorContext,
    PunctuationType,
)

T = TypeVar("T")

StreamProcess = Callable[[Any, Any, int], None]
TableProcess = Callable[[Any, Any, Any, int], None]
Process = Callable[..., None]
Failed = Callable[[Exception, Any, Any, int], None]
Late = Callable[[Any, int, int, int], None]
"""Takes (key, timestamp, end of the window, stream time) of a record that came too late."""
LeftOut = Callable[[Any, int], None]
"""Takes (key, timestamp) of a record that is left out."""


class ReceivingContext(Protocol):
    """The context of a processor with fixed keys, as its operator sees it.

    Attributes:
        received: the record it is given now.
    """

    received: FixedKeyRecord[Any, Any] | None


class TaskScope(Protocol):
    """What a node may ask of the task it is compiled for."""

    current: CurrentRecord

    @property
    def propagation(self) -> Propagation:
        """What is under way in the task."""
        ...

    def store(self, name: str) -> Materialized[Any]:
        """Returns the built store of that name."""
        ...

    def failure_handler(self, node: str) -> Failed:
        """Returns what to call when user code of `node` raised.

        The function either returns (the record is given up, go on) or raises.
        """
        ...

    def drop_counter(self, node: str) -> StreamProcess:
        """Returns a function that counts a record dropped for a key or value of None."""
        ...

    def ungrouped_counter(self, node: str) -> StreamProcess:
        """Returns a function that counts a record dropped because its group key is None."""
        ...

    def late_counter(self, node: str) -> Late:
        """Returns a function that counts a record which came after its window was closed."""
        ...

    def left_out_counter(self, node: str, reason: str) -> LeftOut:
        """Returns a function that counts a record which `node` leaves out for another reason.

        Args:
            node: the operator.
            reason: one of `streams.tasks.drops.REASONS`.
        """
        ...

    @property
    def application_id(self) -> str:
        """The application, whose name internal topics begin with."""
        ...

    @property
    def partition(self) -> int:
        """The partition that the task reads of each of its topics."""
        ...

    def key_serde(self, given: Serde[Any] | None) -> Serde[Any]:
        """Returns the serde that was given, or the application's default for keys."""
        ...

    def value_serde(self, given: Serde[Any] | None) -> Serde[Any]:
        """Returns the serde that was given, or the application's default for values."""
        ...

    def processor_context(
        self, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> ProcessorContext[Any, Any]:
        """Returns the Processor API context of one node."""
        ...

    def fixed_key_context(
        self, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> ReceivingContext:
        """Returns the context of a node whose processor cannot change keys."""
        ...

    @property
    def now_ms(self) -> Callable[[], int]:
        """The wall clock, in epoch milliseconds."""
        ...

    @property
    def outer_join_emit_interval_ms(self) -> int:
        """How long of the wall clock a join of streams waits between looks for closed windows."""
        ...

    def stream_time(self) -> Callable[[], int]:
        """Returns the function that reads the task's stream time, -1 before any record.

        Asking makes the task keep it record by record, which is slower. Ask while you are compiled.
        """
        ...

    def schedule(
        self,
        node: str,
        interval_ms: int,
        type: PunctuationType,
        callback: Callable[[int], None],
        start_ms: int | None = None,
    ) -> Cancellable:
        """Calls `callback` with the current time, every `interval_ms` of stream time or wall clock.

        Args:
            node: the operator that asks, while it is compiled; handlers are told its name.
            interval_ms: at least 1.
            type: which time drives it.
            callback: gets the current time of that kind, not the planned one.
            start_ms: when the first call is due, and where the grid begins. Without it that is 0
                of stream time, or one interval from now.
        """
        ...

    def shared(self, name: Hashable, make: Callable[[], T]) -> T:
        """Returns what operators of a task share, such as the two sides of a join.

        Args:
            name: any value by which they all know it.
            make: makes it for the first that asks.
        """
        ...

    def keep_time(self, name: str, read: Callable[[], int]) -> int:
        """Keeps an operator's own stream time over restarts, and where its task moves.

        Args:
            name: names the operator for as long as its state lasts: its store, for most.
            read: returns the time, -1 before any; called at each commit.

        Returns:
            The time as of the last commit, -1 if it is not known.
        """
        ...

    def keep_emitted(self, name: str, read: Callable[[], int]) -> int:
        """Keeps how far an operator has sent on what it sends once, as `keep_time`.

        Args:
            name: the operator's store, as JVM members know it.
            read: returns the progress, -1 before any; called at each commit.

        Returns:
            The progress as of the last commit, -1 if there is none.
        """
        ...

    @property
    def window_emit_interval_ms(self) -> int:
        """How long of the wall clock lies between two looks for windows that have closed."""
        ...

    def on_start(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` once all nodes of the task are compiled and its stores restored."""
        ...

    def on_close(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` when the task closes, in the order of registration."""
        ...


@dataclass(slots=True)
class NodeScope:
    """One node's place in its task: its name, its neighbours and the task around it."""

    name: str
    task: TaskScope
    forward: Process
    children: Mapping[str, Process]
    stores: Sequence[str]
    parents: Sequence[str] = ()

    @property
    def failed(self) -> Failed:
        """What to call when user code of this node raised."""
        return self.task.failure_handler(self.name)

    @property
    def drop(self) -> StreamProcess:
        """What to call with a record that this node must leave out for a None in it."""
        return self.task.drop_counter(self.name)

    @property
    def ungrouped(self) -> StreamProcess:
        """What to call with a record that this node must leave out of a grouping.

        It is counted under the name of the node that gave it None as its key, if that is known.
        """
        return self.task.ungrouped_counter(self.parents[0] if len(self.parents) == 1 else self.name)

    @property
    def late(self) -> Late:
        """What to call with a record that came after its window was closed."""
        return self.task.late_counter(self.name)

    def left_out(self, reason: str) -> LeftOut:
        """Returns what to call with a record that this node leaves out for another reason."""
        return self.task.left_out_counter(self.name, reason)


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """What a processor node does: made when a topology is built, and shared by its tasks."""

    takes: ClassVar[Edge] = Edge.RECORD
    """What it is called with."""
    gives: ClassVar[Edge] = Edge.RECORD
    """What it calls its children with."""

    @property
    def closes_after_ms(self) -> int | None:
        """How long after its end a window closes, None where there are no windows."""
        return None

    @abstractmethod
    def compile(self, scope: NodeScope) -> Process:
        """Returns the plain function that does the work in one task."""


@dataclass(frozen=True, eq=False)
class TableMaker(Operator):
    """An operator whose results are a table.

    Attributes:
        store_name: the store that keeps the table, None where it is not kept.
        send_old_values: whether nodes downstream need the old half of its changes.
        begins_propagation: whether its changes reach both sides of a join of tables
            (`topology.self_joins`).
    """

    gives = Edge.CHANGE

    store_name: str | None
    send_old_values: bool = field(default=False, kw_only=True)
    begins_propagation: bool = field(default=False, kw_only=True)

    @property
    def tells_old_values(self) -> bool:
        """Whether its changes carry the old half, for whatever reason."""
        return self.send_old_values or self.begins_propagation


def join_children(children: Sequence[Process], edge: Edge) -> Process:
    """Makes one function out of a node's children: none, the only one, or each in turn."""
    if len(children) == 1:
        return children[0]
    if not children:
        return nowhere
    every = tuple(children)
    if edge is Edge.CHANGE:

        def forward_change(key: Any, new: Any, old: Any, timestamp: int) -> None:
            for child in every:
                child(key, new, old, timestamp)

        return forward_change

    def forward(key: Any, value: Any, timestamp: int) -> None:
        for child in every:
            child(key, value, timestamp)

    return forward


def nowhere(*_record: Any) -> None:
    """The end of a chain that nothing follows."""
