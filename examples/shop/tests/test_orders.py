"""Orders and their invoices."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_migrate import check
from shop import db
from shop.models import Order

from pijobs import State
from pijobs.testing import Drained, Enqueued

Drain = Callable[..., list[Drained]]
pytestmark = pytest.mark.usefixtures("job_queue")


def test_an_order_gets_its_invoice(client: FlaskClient, drain: Drain) -> None:
    answer = client.post("/orders", data={"customer": "Ada", "cents": 1250})
    path = f"/orders/{answer.get_json()['id']}"
    assert client.get(path).get_json()["invoice"] is None
    assert [attempt.state for attempt in drain()] == [State.DONE]
    db.session.expire_all()
    assert client.get(path).get_json()["invoice"] == "Invoice 1 for Ada: 12.50 EUR"


def test_an_order_that_is_refused_gets_none(client: FlaskClient, enqueued: Callable[..., list[Enqueued]]) -> None:
    assert client.post("/orders", data={"customer": "Ada", "cents": 0}).status_code == 400
    assert enqueued() == []


def test_a_report_is_asked_for_and_looked_at(client: FlaskClient, drain: Drain) -> None:
    client.post("/orders", data={"customer": "Ada", "cents": 1250})
    report = client.post("/reports", data={"customer": ["Ada", "Grace"]}).get_json()["id"]
    assert client.get(f"/reports/{report}").get_json() == {"state": "queued", "result": None}
    drain()
    assert client.get(f"/reports/{report}").get_json() == {"state": "done", "result": {"Ada": 1250, "Grace": 0}}
    assert client.get("/reports/unknown").status_code == 404


def test_an_order_that_came_by_another_way_gets_its_invoice_within_the_hour(job_clock: Any, drain: Drain) -> None:
    db.session.add(Order(customer="Grace", cents=100))
    db.session.commit()
    job_clock.advance(3600)
    assert [(one.name, one.state) for one in drain()] == [("shop.remind", State.DONE), ("shop.invoice", State.DONE)]


@pytest.mark.usefixtures("client")
def test_the_migrations_make_the_models() -> None:
    check()
