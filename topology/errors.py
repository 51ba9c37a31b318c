"""The error of a topology that cannot be built or run.

Owns only this class. The message tells the cause and names the node, store or topic and the remedy.
"""

from __future__ import annotations

from thalweg.stores.errors import Reaction, StreamsError, public


@public
class TopologyError(StreamsError):
    """The graph is not a legal topology, or does not fit the topics it reads."""

    reaction = Reaction.STOP_APP
