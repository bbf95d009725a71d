"""What the shop keeps."""

from datetime import datetime

from sqlalchemy import String, func
from sqlalchemy.orm import Mapped, mapped_column

from shop import Base


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(String(200))
    cents: Mapped[int]
    placed: Mapped[datetime] = mapped_column(server_default=func.now())
    #: Written by the job ``shop.invoice``.
    invoice: Mapped[str | None]
    #: The id of that job's instance.
    invoice_job: Mapped[str | None] = mapped_column(String(40))
