"""Servers that are no instance of an application, though they answer at a member's end point."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thalweg.rebalance.values import Endpoint

Serve = Callable[[socket.socket], None]
"""Answers on a connection whose request was read."""


@contextmanager
def stranger(serve: Serve) -> Iterator[Endpoint]:
    """Listens while it lasts, and serves each connection in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                serve(connection)
            except OSError:
                pass  # whoever asked has heard enough

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=answer, args=(connection,))
            threads.append(thread)
            thread.start()

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        yield Endpoint(*listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        listening.join()
        for thread in threads:
            thread.join()


def saying(answer: bytes) -> Serve:
    """Returns a server that says the same to everybody."""
    return lambda connection: connection.sendall(answer)


def http(
    body: bytes, status: str = "200 OK", kind: str = "application/json", more: str = ""
) -> bytes:
    """Returns an answer of HTTP."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode("latin-1") + body


def hang_behind(head: bytes) -> Serve:
    """Returns a server that begins an answer and waits for the other side to give up."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        connection.recv(1)

    return serve


def endless(connection: socket.socket) -> None:
    """Sends a body without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
    while True:
        connection.sendall(b'{"rows":[]},' * 1000)


LOOKS_LIKE_A_PART = b'{"rows":[],"is_cut":false,"count":0}'

STRANGERS: dict[str, Serve] = {
    "an object": saying(http(b"{}")),
    "an object of its own": saying(http(b'{"name":"orders","total":7}')),
    "a part without marks": saying(http(LOOKS_LIKE_A_PART)),
    "a part of an older version": saying(
        http(b'{"rows":[["YQ==",{"key":"a","value":1}]],"is_cut":false}')
    ),
    "a part with one mark": saying(http(LOOKS_LIKE_A_PART, more="Thalweg-Hop: 1\r\n")),
    "an array": saying(http(b"[]")),
    "null": saying(http(b"null")),
    "a page": saying(http(b"<html><body>Welcome</body></html>", kind="text/html")),
    "a part called text": saying(http(LOOKS_LIKE_A_PART, kind="text/plain")),
    "nothing": saying(http(b"")),
    "204": saying(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a redirect": saying(http(b"", "302 Found", more="Location: /login\r\n")),
    "a permanent redirect": saying(http(b"", "308 Permanent Redirect", more="Location: /\r\n")),
    "truncated JSON": saying(http(b'{"rows":[')),
    "a truncated body": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
    "no UTF-8": saying(http(b'{"\xff\xfe":1}')),
    "compressed": saying(http(b"\x1f\x8b\x08\0\0", more="Content-Encoding: gzip\r\n")),
    "404": saying(http(b'{"code":"key-not-found","detail":"no"}', "404 Not Found")),
    "401": saying(http(b"", "401 Unauthorized")),
    "500": saying(http(b'{"code":7,"detail":[]}', "500 Internal Server Error")),
    "503": saying(http(b'{"code":"warming-up","detail":"soon"}', "503 Service Unavailable")),
    "no HTTP": saying(b"220 mail ready\r\n"),
    "bytes": saying(bytes(range(256))),
    "a body that never comes": hang_behind(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "a body without an end": endless,
    "an instance of another application": saying(
        http(LOOKS_LIKE_A_PART, more="Thalweg-Application: other\r\nThalweg-Hop: 1\r\n")
    ),
    "a part without its field": saying(
        http(LOOKS_LIKE_A_PART, more="Thalweg-Application: asked\r\nThalweg-Hop: 1\r\n")
    ),
    "a part of a later form": saying(
        http(
            b'{"thalweg_part":9,"rows":[],"is_cut":false,"count":0}',
            more="Thalweg-Application: asked\r\nThalweg-Hop: 9\r\n",
        )
    ),
    "a part cut short": saying(
        http(b'{"thalweg_part":1,"ro', more="Thalweg-Application: asked\r\nThalweg-Hop: 1\r\n")
    ),
}
"""What may answer where a member said that it does."""
