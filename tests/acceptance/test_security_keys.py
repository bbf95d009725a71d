"""A security key in a browser: made, asked for, and worth nothing as a copy. The browser's own virtual key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from integration.served import PASSWORD, make_app, settings_of
from playwright.sync_api import BrowserContext, Page, expect
from werkzeug.serving import make_server

from pijobs.server.accounts import Accounts
from pijobs.server.factors import Factors

from .browser import launched

PATIENCE = 60_000  # ms


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    app = make_app(tmp_path)
    Accounts.of(settings_of(app)).add("root", PASSWORD, "admin")
    return app


@pytest.fixture
def base(app: flask.Flask) -> Iterator[str]:
    """Browsers let keys work without TLS under this name only."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}/pages"
    server.shutdown()
    thread.join()


@pytest.fixture
def context() -> Iterator[BrowserContext]:
    with launched() as browser:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context


def plug_in(context: BrowserContext, page: Page) -> tuple[Any, str]:
    """A virtual key; the browser's session, and the key's id."""
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "usb", "isUserVerified": True, "automaticPresenceSimulation": True}
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session, made["authenticatorId"]


def sign_in(page: Page, base: str) -> None:
    page.goto(f"{base}/sign-in")
    page.get_by_label("Name").fill("root")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def test_a_key_is_made_asked_for_and_worth_nothing_as_a_copy(
    app: flask.Flask, base: str, context: BrowserContext
) -> None:
    factors, page = Factors.of(settings_of(app)), context.new_page()
    factors.require("root", True)
    session, key = plug_in(context, page)
    sign_in(page, base)
    expect(page.locator("h1")).to_have_text("Add a second factor")
    page.get_by_label("Name").last.fill("blue key")
    page.get_by_role("button", name="Add the key").click()
    expect(page.locator("h1")).to_have_text("Recovery codes")
    assert [one.label for one in factors.of_account("root")] == ["blue key"]
    page.get_by_role("link", name="I have them").click()
    page.get_by_role("button", name="Sign out").click()

    sign_in(page, base)
    page.get_by_role("button", name="Use the security key").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()

    # The answer to another question opens nothing.
    sign_in(page, base)
    other = """form => {
        const options = JSON.parse(form.dataset.options);
        form.dataset.options = JSON.stringify({ ...options, challenge: "A".repeat(43) });
    }"""
    page.eval_on_selector("form[data-webauthn]", other)
    page.get_by_role("button", name="Use the security key").click()
    expect(page.get_by_role("alert").first).to_contain_text("is wrong")
    page.get_by_role("button", name="Sign in as somebody else").click()

    # A copy of the key counts on from where it was made.
    (credential,) = session.send("WebAuthn.getCredentials", {"authenticatorId": key})["credentials"]
    session.send("WebAuthn.removeCredential", {"authenticatorId": key, "credentialId": credential["credentialId"]})
    copy = {**credential, "signCount": 0}
    session.send("WebAuthn.addCredential", {"authenticatorId": key, "credential": copy})
    sign_in(page, base)
    page.get_by_role("button", name="Use the security key").click()
    expect(page.get_by_role("alert").first).to_contain_text("is wrong")
    page.goto(f"{base}/jobs")
    expect(page.get_by_role("button", name="Use the security key")).to_be_visible()
