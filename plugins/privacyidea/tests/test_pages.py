"""The pages of the queue in a real privacyIDEA: its administrators sign in, and nobody else."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

import pytest
from challenges import PATIENCE, PIN, arrives_and_signs_in, challenge

from pijobs_mail.sink import Sink
from pijobs_privacyidea import wsgi
from pijobs_privacyidea.host import make_app
from pijobs_privacyidea.instance import ADMIN, Instance

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


class Visit:
    """Somebody with a browser that keeps cookies."""

    def __init__(self, instance: Instance) -> None:
        self._url, jar = instance.url, urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._browser = urllib.request.build_opener(jar)

    def ask(self, path: str, **form: str) -> tuple[int, str]:
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with self._browser.open(f"{self._url}{path}", data, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sign_in(self, name: str, password: str) -> tuple[int, str]:
        _, page = self.ask("/jobqueue/")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        return self.ask("/jobqueue/pages/sign-in", csrf_token=token[1], username=name, password=password)


def test_an_administrator_of_privacyidea_sees_that_mails_go_out(instance: Instance, sink: Sink) -> None:
    instance.set_smtp_server("otp", sink.port, queued=True)
    visit = Visit(instance)
    with instance.working():
        arrives_and_signs_in(instance, sink, challenge(instance))
        status, page = visit.sign_in(ADMIN, instance.password)
        assert status == 200 and "Mails are going out." in page
        assert re.findall(r'<a href="(/jobqueue/pages/[a-z]*)"(?: aria-current="page")?>', page)[:3] == [
            "/jobqueue/pages/", "/jobqueue/pages/jobs", "/jobqueue/pages/workers"
        ]  # fmt: skip
        assert "SMTP servers" not in page
        assert "smtpserver.send_email" in visit.ask("/jobqueue/pages/jobs")[1]
        assert visit.ask("/jobqueue/pages/static/pages.css")[0] == 200


def test_who_is_no_administrator_any_more_is_out_within_moments(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsgi, "TRUST", 0.0)
    people = wsgi.Administrators(make_app(instance.config))
    instance.manage("admin", "add", "temporary", "--password", "a long password")
    assert people.still("temporary") and people.still(ADMIN)
    assert not people.still("alice") and not people.still("nobody") and not people.still("")
    instance.manage("admin", "delete", "temporary")
    assert not people.still("temporary")


def test_an_administrator_of_a_realm_is_one_as_long_as_the_realm_says_so(instance: Instance) -> None:
    app = make_app(instance.config)
    app.config["SUPERUSER_REALM"] = ["Demo"]
    people = wsgi.Administrators(app)
    assert people.still("alice") and not people.still("nobody")


@pytest.mark.parametrize(("name", "password"), [(ADMIN, "guessed"), ("alice", PIN), ("alice@demo", PIN), ("", "")])
def test_nobody_else_is_let_in(instance: Instance, name: str, password: str) -> None:
    visit = Visit(instance)
    assert visit.sign_in(name, password)[0] in (401, 429)
    assert "Sign in" in visit.ask("/jobqueue/pages/jobs")[1]
