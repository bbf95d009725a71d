"""An application's Alembic leaves our tables alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pijobs.database import Database
from pijobs.definitions import Definitions, Field
from pijobs.migrations import TABLES, include_object
from pijobs.server.accounts import Accounts
from pijobs.settings import CORE_SETTINGS, Settings, validate
from pijobs_statistics.tables import METADATA as STATISTICS


def settings_of(tmp_path: Path, **more: Any) -> Settings:
    values = {"SECRET_KEY": "x" * 32, "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/shop.sqlite", **more}
    return validate(values, CORE_SETTINGS, directory=tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> sa.Engine:
    """The database of an application in which all of us have tables."""
    settings = settings_of(tmp_path)
    Definitions("smtpserver", [Field("server")]).open(settings).save("main", {"server": "h"})
    Accounts.of(settings).add("root", "correct horse battery", "admin")
    database = Database.of(settings)
    database.ensure(STATISTICS)
    database.close()
    return sa.create_engine(f"sqlite:///{tmp_path}/shop.sqlite")


def drops(engine: sa.Engine, **options: Any) -> set[str]:
    """What a migration would drop that is made for an application without models."""
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), sa.MetaData())
    return {each[1].name for each in found if each[0].startswith("remove_")}


def test_our_tables_are_left_alone(shared: sa.Engine) -> None:
    tables = set(sa.inspect(shared).get_table_names())
    assert len(tables) > 6 and all(name.startswith(TABLES) for name in tables)
    assert tables <= drops(shared), "without it they would be dropped"
    assert drops(shared, include_object=include_object) == set()
    shared.dispose()


def test_the_tables_of_the_application_are_not(shared: sa.Engine) -> None:
    with shared.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
    assert drops(shared, include_object=include_object) == {"customer"}
    shared.dispose()


def test_a_database_of_our_own_leaves_that_of_the_application_alone(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, PI_JOB_QUEUE_DATABASE=f"sqlite:///{tmp_path}/ours.sqlite")
    assert Database.of(settings).file == tmp_path / "ours.sqlite"
    Accounts.of(settings).add("root", "correct horse battery", "admin")
    assert (tmp_path / "ours.sqlite").exists() and not (tmp_path / "shop.sqlite").exists()
