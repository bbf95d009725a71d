"""Google's Firebase Cloud Messaging on this machine: the server of access tokens, and a proxy that stands for
``https://fcm.googleapis.com``, with a certificate of its own for that name."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from certificates import self_signed
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

HOST = "fcm.googleapis.com"


class Fcm:
    """:ivar messages: what was sent, oldest first.

    :ivar account: file of the service account that privacyIDEA signs in with. :ivar ca_file: for REQUESTS_CA_BUNDLE.
    """

    def __init__(self, place: Path) -> None:
        self.messages: list[dict[str, Any]] = []
        self.ca_file, self.account = place / "ca.pem", place / "account.json"
        fcm, context = self, self_signed(self.ca_file.parent, HOST)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_CONNECT(self) -> None:
                assert self.path == f"{HOST}:443"
                self.send_response(200)
                self.end_headers()
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                self.close_connection = False

            def finish(self) -> None:
                super().finish()
                self.connection.close()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/token":
                    return self.answer({"access_token": "access", "expires_in": 3600, "token_type": "Bearer"})
                assert self.path == "/v1/projects/demo/messages:send"
                assert self.headers["Authorization"] == "Bearer access"
                fcm.messages.append(json.loads(body)["message"])
                return self.answer({"name": "projects/demo/messages/1"})

            def answer(self, value: dict[str, Any]) -> None:
                content = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.account.write_text(json.dumps(_account(f"{self.url}/token")))

    def __enter__(self) -> Fcm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()


def _account(token_uri: str) -> dict[str, str]:
    return {
        "type": "service_account", "project_id": "demo", "private_key_id": "1", "private_key": _pem(_key()),
        "client_email": "pi@demo.iam.gserviceaccount.com", "client_id": "1", "token_uri": token_uri,
    }  # fmt: skip


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _pem(key: rsa.RSAPrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
