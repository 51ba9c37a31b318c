"""The answers of a running application to other processes, through the log that it owns.

Owns the threads that answer. The pages are those of `streams.queries.http`. It must not know
sockets, nor who asks.

Source: KIP-67, KIP-535.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from thalweg.streams.queries.http import (
    HOP_THREADS,
    QUESTION_THREADS,
    Instance,
    query_application,
)
from thalweg.streams.transport.log.owner_server import Receive, Scope, Send


class OwnerPages:
    """The pages, as an ASGI application.

    Args:
        application: answers.
    """

    def __init__(self, application: Instance) -> None:
        self._pools = (
            ThreadPoolExecutor(QUESTION_THREADS, "thalweg-query"),
            ThreadPoolExecutor(QUESTION_THREADS, "thalweg-part"),
            ThreadPoolExecutor(HOP_THREADS, "thalweg-hop"),
        )
        self._routes = query_application(application, *self._pools)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._routes(scope, receive, send)

    def close(self) -> None:
        """Ends the threads that answer."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)


def owner_pages(application: Instance) -> OwnerPages:
    """Returns the pages of an application."""
    return OwnerPages(application)
