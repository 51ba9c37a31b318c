"""The error of a topology that cannot be built or run.

Owns nothing else: causes are told in the message, which names the node, store or topic and
the remedy.
"""

from __future__ import annotations

from thalweg.stores.errors import Reaction, StreamsError, public


@public
class TopologyError(StreamsError):
    """The graph is not a legal topology, or does not fit the topics it reads."""

    reaction = Reaction.STOP_APP
