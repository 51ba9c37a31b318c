"""What every processor node is made of: a description that compiles itself for a task.

Owns the two call signatures of a chain and the faces through which a node sees its task.
A *stream* node is called with (key, value, timestamp); a *table* node with (key, new, old,
timestamp), so that a change costs no object. Everything else about the record being
processed (headers, offset, topic) stands in the task's current-record cell.

It must not know how tasks, stores or transports are made.

Source: JVM `ProcessorNode`, `ProcessorContextImpl`; design, a record's way 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from thalweg.stores.record import CurrentRecord
from thalweg.stores.updates import Materialized
from thalweg.topology.operators.propagation import Propagation
from thalweg.topology.processor import ProcessorContext

StreamProcess = Callable[[Any, Any, int], None]
TableProcess = Callable[[Any, Any, Any, int], None]
Process = Callable[..., None]
Failed = Callable[[Exception, Any, Any, int], None]
Late = Callable[[Any, int, int, int], None]
"""Takes (key, timestamp, end of the window, stream time) of a record that came too late."""


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

    def processor_context(
        self, node: str, children: Mapping[str, Process], stores: Sequence[str]
    ) -> ProcessorContext[Any, Any]:
        """Returns the Processor API context of one node."""
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

    def on_start(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` once all nodes of the task are compiled and its stores restored."""
        ...

    def on_close(self, node: str, action: Callable[[], None]) -> None:
        """Runs `action` of `node` when the task closes, in the order of registration."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What a key selector does, for the node before it to do in its own loop.

    Attributes:
        select: (key, value) -> new key.
        forward: takes the record with its new key.
        failed: what to call with the record as it came when `select` or `forward` raised.
        drop: takes a record whose new key is None, where such are left out.
    """

    select: Callable[[Any, Any], Any]
    forward: Process
    failed: Failed
    drop: StreamProcess | None


@dataclass(slots=True)
class NodeScope:
    """One node's place in its task: its name, its children and the task around it."""

    name: str
    task: TaskScope
    forward: Process
    children: Mapping[str, Process]
    stores: Sequence[str]
    drops_null_keys: bool = False
    """`forward` leads past a filter of null keys: the node has to leave them out itself."""
    selection: Selection | None = None
    """What the only child does, where that is a key selector."""

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
        """What to call with a record that this node must leave out of a grouping."""
        return self.task.ungrouped_counter(self.name)

    @property
    def late(self) -> Late:
        """What to call with a record that came after its window was closed."""
        return self.task.late_counter(self.name)


class Node(ABC):
    """A processor of the graph: immutable once the topology is built, shared by its tasks."""

    takes_changes = False
    """Whether `process` has the table signature (key, new, old, timestamp)."""
    drops_null_keys = False
    """Whether leaving out records without a key is all it does."""
    can_drop_null_keys = False
    """Whether it does that for its only child, which saves a call per record."""
    store_name: str | None = None
    """The store that keeps what it makes, if it makes a table."""
    send_old_values = False
    """Whether nodes downstream need the old half of its changes."""
    begins_propagation = False
    """Whether its changes reach both sides of a join of tables (`topology.self_joins`)."""

    @property
    def tells_old_values(self) -> bool:
        """Whether its changes carry the old half, for whatever reason."""
        return self.send_old_values or self.begins_propagation

    @abstractmethod
    def compile(self, scope: NodeScope) -> Process:
        """Returns the plain function that does this node's work in one task."""

    def selection(self, scope: NodeScope) -> Selection | None:
        """Returns what a key selector does, None for any other node."""
        return None


def join_children(children: Sequence[Process], *, changes: bool) -> Process:
    """Makes one function out of a node's children: none, the only one, or each in turn."""
    if len(children) == 1:
        return children[0]
    if not children:
        return nowhere
    every = tuple(children)
    if changes:

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
