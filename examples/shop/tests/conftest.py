"""The shop with a database of its own for each test; the fixtures of the queue are those of ``pijobs.testing``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from shop import create_app


@pytest.fixture
def job_app(tmp_path: Path) -> Iterator[Flask]:
    """The app whose queue ``job_queue`` is."""
    database = f"sqlite:///{tmp_path}/shop.sqlite"
    app = create_app({"SECRET_KEY": "only for tests", "SQLALCHEMY_DATABASE_URI": database})
    with app.app_context():
        upgrade()
        yield app


@pytest.fixture
def client(job_app: Flask) -> FlaskClient:
    return job_app.test_client()
