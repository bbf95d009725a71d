"""What is done later."""

from sqlalchemy import func, select

from pijobs import FailJob, JobContext, crontab, job
from shop import db
from shop.models import Order


@job("shop.invoice")
def write_invoice(order_id: int) -> None:
    """It may run twice, as every job may: the second time finds the invoice written."""
    order = db.session.get(Order, order_id)
    if order is None:
        raise FailJob(f"expected an order {order_id}, found none")
    if order.invoice is None:
        order.invoice = f"Invoice {order.id} for {order.customer}: {order.cents / 100:.2f} EUR"
        db.session.commit()


@job("shop.report", keep_result=3600)
def report(ctx: JobContext, customers: list[str]) -> dict[str, int]:
    """How much each of these customers ordered, in cents."""
    found = {}
    for number, customer in enumerate(customers, 1):
        found[customer] = db.session.scalar(select(func.sum(Order.cents)).where(Order.customer == customer)) or 0
        ctx.progress(number, len(customers), f"customer {number}")
    return found


@job("shop.remind", schedule=crontab(minute="0"))
def write_forgotten_invoices() -> None:
    """Every hour, for orders that came into the database by another way."""
    with_none = db.session.scalars(select(Order.id).where(Order.invoice_job.is_(None)))
    for order_id in with_none:
        write_invoice.options(key=f"invoice {order_id}").enqueue(order_id)
