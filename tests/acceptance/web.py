"""A client of the server's API, as a script would write it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


class Web:
    """Somebody at the API of a server.

    :param base: ``http://host:port``.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._token = ""

    def ask(self, method: str, path: str, **values: Any) -> tuple[int, Any]:
        """HTTP status and JSON."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        body = json.dumps(values).encode() if values else None
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def call(self, method: str, path: str, **values: Any) -> Any:
        """The value of an answer that must be a good one."""
        status, answer = self.ask(method, path, **values)
        assert (status, answer["result"]["status"]) == (200, True), answer
        return answer["result"]["value"]

    def sign_in(self, name: str, password: str) -> None:
        self._token = self.call("POST", "/auth", username=name, password=password)["token"]
