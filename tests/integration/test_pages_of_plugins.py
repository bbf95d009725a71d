"""The pages of SMS gateways and of statistics."""

from __future__ import annotations

from pathlib import Path

import flask
import pytest
from integration.served import make_app, settings_of
from integration.visits import Visit
from sms_gateway import Gateway

from pijobs_sms import gateways
from pijobs_statistics.store import Store
from pijobs_statistics.values import minute


@pytest.fixture
def app(tmp_path: Path) -> flask.Flask:
    return make_app(tmp_path, PLUGINS=("mail", "sms", "statistics"), STATISTICS_JOURNAL=str(tmp_path / "journal"))


@pytest.fixture
def visit(app: flask.Flask) -> Visit:
    return Visit(app)


# -- SMS gateways ----------------------------------------------------------------------------------------------------


GATEWAY = {"identifier": "main", "new": "1", "provider": "http", "url": "https://sms.example.com/send"}


def test_an_sms_gateway_is_created_with_the_box_changed_tried_and_deleted(app: flask.Flask, visit: Visit) -> None:
    store = gateways.open_store(settings_of(app))
    with Gateway() as gateway:
        values = {**GATEWAY, "url": gateway.url, "method": "POST", "parameters": '{"to": "{phone}", "text": "{otp}"}'}
        visit.follow(visit.post("/sms/save", **values, enqueue_job="1"))
        assert "via job queue" in visit.text("/sms/")
        queued = visit.post("/sms/test/main", recipient="+491701234567").text
        assert "Waits for a worker" in queued and "+491701234567" not in queued

        visit.follow(visit.post("/sms/save", **{**values, "new": "0", "enqueue_job": "0"}))
        assert store.get("main")["enqueue_job"] is False
        assert "It was sent" in visit.post("/sms/test/main", recipient="+491701234567").text
        assert gateway.requests[0].form["to"] == "+491701234567"
    assert visit.post("/sms/test/main", recipient="12").status_code == 400
    assert "Delete SMS gateway main?" in visit.text("/sms/delete/main")
    visit.follow(visit.post("/sms/delete/main", reason="a test"))
    assert store.list() == {}


def test_the_form_has_the_fields_of_the_provider_that_was_chosen(app: flask.Flask, visit: Visit) -> None:
    assert 'name="url"' in visit.text("/sms/new") and 'name="mail_to"' not in visit.text("/sms/new")
    chosen = visit.text("/sms/new?provider=smtp")
    assert 'name="mail_to"' in chosen and 'name="url"' not in chosen
    fields = {"identifier": "modem", "new": "1", "provider": "smtp", "smtp_server": "main", "mail_to": "{phone}@e.com"}
    visit.follow(visit.post("/sms/save", **fields))
    assert 'name="mail_to" value="{phone}@e.com"' in visit.text("/sms/edit/modem")
    assert gateways.open_store(settings_of(app)).get("modem")["provider"] == "smtp"


def test_texts_of_a_short_list_are_chosen_from_it(visit: Visit) -> None:
    form = visit.text("/sms/new")
    assert '<select id="d-method"' in form and "<option selected>GET</option>" in form
    assert visit.post("/sms/save", **GATEWAY, method="STEAL").status_code == 400


# -- statistics ------------------------------------------------------------------------------------------------------


def test_statistics_are_plotted_by_name_and_by_tags_and_given_as_csv(app: flask.Flask, visit: Visit) -> None:
    rows = [[minute(), "login", '{"result":"ok"}', 3, 3000], [minute(), "login", '{"result":"no"}', 1, 1000]]
    Store.of(settings_of(app)).apply("one", [*rows, [minute(), "answer.bytes", "{}", 2, 1834_500]])
    for per in ("minute", "hour", "day"):
        page = visit.text(f"/statistics/?per={per}")
        assert ">4</p>" in page and "1,834.5 in 2 records" in page and 'class="done"' in page
    page = visit.text("/statistics/?name=login")
    assert "result ok" in page and "result no" in page and "answer.bytes" not in page
    csv = visit.get("/statistics/csv?name=login")
    assert (csv.mimetype, len(csv.text.splitlines())) == ("text/csv", 3)
    assert "Nothing was counted" in visit.text("/statistics/?name=nothing")
