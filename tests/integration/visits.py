"""Somebody at the pages, without a browser."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from integration.served import PASSWORD, settings_of
from werkzeug.test import TestResponse

from pijobs.server.accounts import Accounts

_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


class Visit:
    """A session at the pages.

    :param role: of the account, which is made and signed in; None: nobody signs in.
    """

    def __init__(self, app: Flask, role: str | None = "admin", *, base: str = "/pages") -> None:
        self.client: FlaskClient = app.test_client()
        self.base = base
        if role is not None:
            accounts = Accounts.of(settings_of(app))
            if accounts.get(role) is None:
                accounts.add(role, PASSWORD, role)
            assert self.sign_in(role).status_code == 303

    def sign_in(self, name: str, password: str = PASSWORD, **fields: str) -> TestResponse:
        return self.post("/sign-in", form_of="/sign-in", username=name, password=password, **fields)

    def get(self, path: str, **headers: str) -> TestResponse:
        return self.client.get(self.base + path, headers=headers)

    def text(self, path: str) -> str:
        """The text of a page that must be there."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.text

    def token(self, path: str = "/") -> str:
        """The token of the first form of a page."""
        match = _TOKEN.search(self.get(path).text)
        assert match is not None
        return match[1]

    def post(self, path: str, *, form_of: str = "/", **fields: Any) -> TestResponse:
        """Send a form as the page does that it stands on."""
        return self.client.post(self.base + path, data={"csrf_token": self.token(form_of), **fields})

    def follow(self, response: TestResponse) -> str:
        """The text of the page that an answer leads to."""
        assert response.status_code == 303, response.text
        return self.client.get(response.headers["Location"]).text
