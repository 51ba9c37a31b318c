"""Generated names, and the one counter behind them.

Owns which names use a number and which are generated. It must not know what is named. The names
must equal those of JVM members of the same group, so the order of calls is the JVM's.

Source: JVM `InternalStreamsBuilder.newProcessorName`, `NamedInternal`,
`OptimizableRepartitionNode`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBERED = re.compile(r"(.*-[0-9]{10})(?![0-9])")


@dataclass(frozen=True, slots=True)
class RepartitionNames:
    """What the parts of a stream's repartition are called."""

    topic: str
    sink: str
    filter: str
    source: str


def topic_repartition_names(topic: str) -> RepartitionNames:
    """Names the parts of a repartition after its topic."""
    return RepartitionNames(topic, topic + "-sink", topic + "-filter", topic + "-source")


class Names:
    """Makes the names of one builder."""

    def __init__(self) -> None:
        self._counter = 0
        self._generated: set[str] = set()

    def new_name(self, prefix: str) -> str:
        """Makes a name of `prefix` and the next number."""
        name = self.new_hidden_name(prefix)
        self._generated.add(name)
        return name

    def new_hidden_name(self, prefix: str) -> str:
        """Makes a name as `new_name`, of something that nobody sees outside of the process."""
        name = f"{prefix}{self._counter:010d}"
        self._counter += 1
        return name

    def new_store_name(self, prefix: str) -> str:
        """Makes a store name of `prefix` and the next number."""
        return self.new_name(prefix + "STATE-STORE-")

    def note_generated(self, name: str) -> None:
        """Notes a name that was made of the number of another."""
        self._generated.add(name)

    def name_or_new(self, given: str | None, prefix: str, suffix: str = "") -> str:
        """Returns the given name with `suffix`, or makes one.

        The number is used up in either case: naming one node must not renumber the others.
        """
        made = self.new_name(prefix)
        return made if given is None else given + suffix

    def repartition_names(self, base: str) -> RepartitionNames:
        """Names the parts of a repartition; always uses up three numbers."""
        topic = base if base.endswith("-repartition") else base + "-repartition"
        sink = self.new_name("KSTREAM-SINK-")
        keep = self.new_name("KSTREAM-FILTER-")
        source = self.new_name("KSTREAM-SOURCE-")
        if re.fullmatch(r"KSTREAM.*-[0-9]{10}", base):
            return RepartitionNames(topic, sink, keep, source)
        return topic_repartition_names(topic)

    def is_generated(self, name: str) -> bool:
        """Tells whether a store or topic is named after something that the counter has named."""
        numbered = _NUMBERED.match(name)
        return numbered is not None and numbered[1] in self._generated
