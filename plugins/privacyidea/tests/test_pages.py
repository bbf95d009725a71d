"""The pages of the queue in a real privacyIDEA: its administrators sign in, and nobody else."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.request

import pytest
from challenges import PATIENCE, PIN, Visit, arrives_and_signs_in, challenge

from pijobs_mail.sink.server import Sink
from pijobs_privacyidea.administrators import Administrators
from pijobs_privacyidea.host import make_app
from pijobs_privacyidea.instance import ADMIN, Instance
from pijobs_privacyidea.settings import ROLES

# privacyIDEA's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


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


def test_a_session_ends_with_the_administrator_and_with_the_password(instance: Instance) -> None:
    people = Administrators(make_app(instance.config))
    instance.manage("admin", "add", "temporary", "--password", "a long password")
    before = people.present("temporary")
    assert before is not None and before.role == "viewer"
    assert people.present(ADMIN) is not None
    assert people.present("alice") is None and people.present("nobody") is None and people.present("") is None
    instance.manage("admin", "change", "temporary", "--password", "another password")
    changed = people.present("temporary")
    assert changed is not None and changed.password_hash != before.password_hash
    instance.manage("admin", "delete", "temporary")
    assert people.present("temporary") is None


def test_the_realm_belongs_to_the_name(instance: Instance) -> None:
    app = make_app(instance.config)
    app.config["SUPERUSER_REALM"] = ["Demo"]
    app.config[ROLES.name] = {"operator": ["@demo"], "admin": ["alice"]}
    people = Administrators(app)
    alice = people.present("alice@demo")
    assert alice is not None and (alice.name, alice.role) == ("alice@demo", "operator")
    # There is no administrator of pi-manage of that name, and none of another realm.
    assert people.present("alice") is None and people.present("alice@other") is None
    assert people.present("nobody@demo") is None
    instance.manage("admin", "add", "alice", "--password", "a long password")
    try:
        local = people.present("alice")
        assert local is not None and (local.name, local.role) == ("alice", "admin")
        assert local.password_hash != alice.password_hash
    finally:
        instance.manage("admin", "delete", "alice")
    app.config["SUPERUSER_REALM"] = []
    assert people.present("alice@demo") is None


def test_one_without_a_role_stops_no_mail(instance: Instance) -> None:
    visit = Visit(instance)
    assert visit.sign_in(ADMIN, instance.password)[0] == 200
    _, page = visit.ask("/jobqueue/pages/workers")
    assert "Pause" not in page
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    status, told = visit.ask("/jobqueue/pages/workers/pause", csrf_token=token[1], reason="one click")
    assert status == 403 and "has the role viewer" in told
    found = instance.ask("/audit/?action=jobqueue*", "GET")
    (row,) = [row for row in found["result"]["value"]["auditdata"] if row["action"] == "jobqueue access"]
    assert (row["administrator"], row["success"]) == (ADMIN, 0)
    assert row["action_detail"] == "POST /pages/workers/pause"


@pytest.mark.parametrize(("name", "password"), [(ADMIN, "guessed"), ("alice", PIN), ("alice@demo", PIN), ("", "")])
def test_nobody_else_is_let_in(instance: Instance, name: str, password: str) -> None:
    visit = Visit(instance)
    assert visit.sign_in(name, password)[0] in (401, 429)
    assert "Sign in" in visit.ask("/jobqueue/pages/jobs")[1]


@pytest.mark.parametrize("algorithm", ["RS256", "none", "HS512", "nonsense"])
def test_a_token_of_another_algorithm_is_refused(instance: Instance, algorithm: str) -> None:
    head, claims = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": algorithm, "typ": "JWT"}, {"username": ADMIN, "role": "admin"})
    )
    request = urllib.request.Request(f"{instance.url}/jobqueue/jobs", headers={"Authorization": f"{head}.{claims}.AA"})
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request, timeout=PATIENCE):
        pass
    refused.value.close()
    assert refused.value.code == 401
