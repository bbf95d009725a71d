"""A SOCKS5 proxy in a thread (RFC 1928) that wants a login (RFC 1929) and leads each connection to one place."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer


class SocksProxy:
    """
    :param to: host and port that all connections end at.
    :ivar asked: the host and port that each client asked for.
    """

    def __init__(self, to: tuple[str, int], username: str, password: str) -> None:
        self.asked: list[tuple[str, int]] = []
        proxy = self

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    proxy._serve(self.request)

        self._to, self._login = to, (username, password)
        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"socks5://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> SocksProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()

    def _serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        stream.read(stream.read(2)[1])
        client.sendall(b"\x05\x02")  # a login, please
        stream.read(1)
        login = tuple(stream.read(stream.read(1)[0]).decode() for _ in range(2))
        client.sendall(b"\x01" + (b"\x00" if login == self._login else b"\x01"))
        if login != self._login:
            return
        kind = stream.read(4)[3]
        host = stream.read(stream.read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(stream.read(4))
        self.asked.append((host, int.from_bytes(stream.read(2), "big")))
        with socket.create_connection(self._to) as server:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            _pass_on(client, server)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
