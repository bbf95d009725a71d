"""A shop: orders, and what is done about them later."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from pijobs.flask import JobQueue
from pijobs.migrations import include_object


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)
migrate = Migrate(directory=str(Path(__file__).parent / "migrations"), include_object=include_object)
jobs = JobQueue(pages="/jobqueue")


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. Server, worker and every command make it by this function."""
    from shop.views import views

    app = Flask(__name__)
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI="sqlite:///shop.sqlite",
        PI_JOB_QUEUE_CLASS="pijobs.HueyQueue",
        PI_JOB_QUEUE_URL="redis://localhost:6379/0",
        PI_JOB_QUEUE_NAME="shop",
        PI_JOB_QUEUE_PLUGINS=["shop.tasks"],
        PI_JOB_QUEUE_OUTBOX=True,
    )
    app.config.from_prefixed_env("SHOP")  # SHOP_SECRET_KEY, SHOP_PI_JOB_QUEUE_URL, …
    app.config.update(config or {})
    db.init_app(app)
    migrate.init_app(app, db)
    jobs.init_app(app)
    app.register_blueprint(views)
    return app
