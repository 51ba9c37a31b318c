"""Facts that calls of the DSL record for operators that are made later.

Owns two facts of each table: whether it is kept in a store, and whether its changes carry old
values. A later call may change either fact, so operators are made only when the topology is built.

Source: JVM `KTableImpl.enableSendingOldValues`, `KTableSource.materialize`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Facts:
    """What is settled when a topology is built.

    Attributes:
        kept: names of the processors whose tables are kept in their stores.
        old_values: names of the processors whose changes carry old values.
        legacy_changes: changes of grouped tables are written as versions up to 3.4 read them.
        legacy_registrations: registrations of foreign-key joins are written as versions up to
            3.3 read them.
    """

    kept: frozenset[str] = frozenset()
    old_values: frozenset[str] = frozenset()
    legacy_changes: bool = False
    legacy_registrations: bool = False


@dataclass(slots=True)
class NotedFacts:
    """The facts as they are noted, call by call."""

    kept: set[str] = field(default_factory=set)
    old_values: set[str] = field(default_factory=set)

    def settled(self, *, legacy_changes: bool, legacy_registrations: bool) -> Facts:
        """Returns the facts as they are now."""
        return Facts(
            frozenset(self.kept), frozenset(self.old_values), legacy_changes, legacy_registrations
        )
