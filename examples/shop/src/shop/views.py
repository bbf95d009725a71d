"""What customers and clerks call."""

from typing import Any

from flask import Blueprint, abort, request

from pijobs.errors import InstanceNotFound
from shop import db, jobs
from shop.models import Order
from shop.tasks import report, write_invoice

views = Blueprint("shop", __name__)


@views.post("/orders")
def place_order() -> tuple[dict[str, Any], int]:
    """The order and the job for its invoice are committed together, or neither is."""
    order = Order(customer=str(request.form["customer"]), cents=int(request.form["cents"]))
    db.session.add(order)
    db.session.flush()  # gives it its id
    order.invoice_job = write_invoice.enqueue_on_commit(db.session, order.id).id
    if order.cents <= 0:
        db.session.rollback()
        abort(400, "expected a price above 0")
    db.session.commit()
    return {"id": order.id}, 201


@views.get("/orders/<int:order_id>")
def show_order(order_id: int) -> dict[str, Any]:
    order = db.get_or_404(Order, order_id)
    return {"id": order.id, "customer": order.customer, "invoice": order.invoice}


@views.post("/reports")
def ask_for_report() -> tuple[dict[str, Any], int]:
    return {"id": report.enqueue(request.form.getlist("customer")).id}, 202


@views.get("/reports/<report_id>")
def show_report(report_id: str) -> dict[str, Any]:
    """One look: the page asks again, no view waits."""
    try:
        handle = jobs.handle(report_id)
    except InstanceNotFound:
        abort(404)
    return {"state": handle.state, "result": handle.result() if handle.state == "done" else None}
