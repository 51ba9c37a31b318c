"""How tables provide their rows and their old values.

Owns the answers to two questions about a chain of tables: how the current row of a table is read
(its view), and whether its changes carry the old value. The question may force a table without a
store into one. There is one answer for each way in which a table is made.

Source: JVM `KTableImpl.valueGetterSupplier`, `KTableProcessorSupplier.enableSendingOldValues`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from thalweg.stores.serde import Serde
from thalweg.topology.graph.facts import Facts, NotedFacts
from thalweg.topology.graph.logical import Place
from thalweg.topology.operators.table import StoreView, TableSource, TableView


class Table(Protocol):
    """A table as others see it that are made of it."""

    @property
    def place(self) -> Place:
        """Where the table stands in the graph."""
        ...

    @property
    def key_serde(self) -> Serde[Any] | None:
        """The serde of its keys, None where it is not known."""
        ...

    @property
    def value_serde(self) -> Serde[Any] | None:
        """The serde of its values, None where it is not known."""
        ...

    @property
    def is_versioned(self) -> bool:
        """Whether the former rows of a key are kept, too, by this table or the one before it."""
        ...

    def view(self) -> TableView:
        """Says how to read the current row; may make a store."""
        ...

    def send_old_values(self, force: bool) -> bool:
        """Makes changes carry old values; may make a store."""
        ...


class TableLogic(ABC):
    """How one table answers for its rows and its old values.

    Attributes:
        is_versioned: whether its changes come from a versioned store, its own or, where it is in
            none, that of the table before it.
    """

    is_versioned: bool = False

    @abstractmethod
    def view(self) -> TableView:
        """Says how to read the table; may force it into a store."""

    @abstractmethod
    def send_old_values(self, force: bool) -> bool:
        """Makes changes carry old values.

        Args:
            force: whether a table may be put into a store for it.

        Returns:
            Whether they do from now on.
        """


class SourceLogic(TableLogic):
    """A table made of a topic or a stream; a store only once somebody needs it.

    Args:
        facts: where what is settled of it is noted.
        name: its processor.
        store_name: its store, if it is kept.
        operator: the class of its operator.
        is_versioned: whether that store is versioned.
    """

    def __init__(
        self,
        facts: NotedFacts,
        name: str,
        store_name: str,
        operator: type[TableSource] = TableSource,
        *,
        is_versioned: bool = False,
    ) -> None:
        self.is_versioned = is_versioned
        self._facts = facts
        self._name = name
        self._store_name = store_name
        self._operator = operator

    def make(self, facts: Facts) -> TableSource:
        """Makes the operator."""
        return self._operator(
            self._store_name if self._name in facts.kept else None,
            send_old_values=self._name in facts.old_values,
        )

    def view(self) -> TableView:
        """Puts the table into its store and reads that."""
        self._facts.kept.add(self._name)
        return StoreView(self._store_name)

    def send_old_values(self, force: bool) -> bool:
        """Reads old values from the store, which is there already or forced."""
        if not force and self._name not in self._facts.kept:
            return False
        self._facts.kept.add(self._name)
        self._facts.old_values.add(self._name)
        return True


class AggregateLogic(TableLogic):
    """A table made by an aggregation, always in a store."""

    def __init__(
        self, facts: NotedFacts, name: str, store_name: str, *, is_versioned: bool = False
    ) -> None:
        self.is_versioned = is_versioned
        self._facts = facts
        self._name = name
        self._store_name = store_name

    def view(self) -> TableView:
        """Reads the store."""
        return StoreView(self._store_name)

    def send_old_values(self, force: bool) -> bool:
        """Sends what the store held before."""
        self._facts.old_values.add(self._name)
        return True


class DerivedLogic(TableLogic):
    """A table that filters or maps another, in a store or computed on the fly."""

    def __init__(
        self,
        parent: Table,
        name: str,
        store_name: str | None,
        derive: Callable[[TableView], TableView],
        *,
        is_versioned: bool,
    ) -> None:
        self.is_versioned = is_versioned
        self._facts = parent.place.graph.facts
        self._parent = parent
        self._name = name
        self._store_name = store_name
        self._derive = derive

    def view(self) -> TableView:
        """Reads the store, or the parent's row through the operation."""
        if self._store_name is not None:
            return StoreView(self._store_name)
        return self._derive(self._parent.view())

    def send_old_values(self, force: bool) -> bool:
        """Takes old values from the store, or from the parent's changes."""
        if self._store_name is not None or self._parent.send_old_values(force):
            self._facts.old_values.add(self._name)
        return self._name in self._facts.old_values


class JoinLogic(TableLogic):
    """A table joined of two.

    Args:
        tables: the two.
        names: the processors of both sides and of the merge.
        store_name: the store of the result, if it is kept.
        derive: makes the view of the result of both tables' views.
        is_versioned: whether that store is versioned.
    """

    def __init__(
        self,
        tables: tuple[Table, Table],
        names: tuple[str, str, str],
        store_name: str | None,
        derive: Callable[[TableView, TableView], TableView],
        *,
        is_versioned: bool,
    ) -> None:
        self.is_versioned = is_versioned
        self._tables = tables
        self._names = names
        self._store_name = store_name
        self._derive = derive

    def view(self) -> TableView:
        """Reads the store, or joins both sides' rows."""
        if self._store_name is not None:
            return StoreView(self._store_name)
        left, right = self._tables
        return self._derive(left.view(), right.view())

    def send_old_values(self, force: bool) -> bool:
        """Takes old values from both sides, which are in stores anyway."""
        for table in self._tables:
            table.send_old_values(True)
        self._tables[0].place.graph.facts.old_values.update(self._names)
        return True
