"""Sessions, second factors and the audit log in the databases of servers, with many at once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from pijobs.audit import AuditLog, Entry
from pijobs.audit.tables import metadata as audit_tables
from pijobs.audit.verify import verify
from pijobs.database import Database
from pijobs.payload.keys import KeyRing
from pijobs.server.factors import RECOVERY, TOTP, Factors
from pijobs.server.factors import metadata as factor_tables
from pijobs.server.sessions import Sessions
from pijobs.server.sessions import metadata as session_tables


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Without the tables, whatever a test before left behind."""
    database = Database(str(request.getfixturevalue(f"{request.param}_url")), tmp_path)
    for tables in (audit_tables, factor_tables, session_tables):
        with database.begin() as connection:
            tables.drop_all(connection)
    yield database
    database.close()


def test_people_are_kept(database: Database) -> None:
    ring, name = KeyRing(["a key"]), f"Äliçe-{uuid.uuid4().hex[:8]}"
    log, sessions, factors = AuditLog(database, ring, None), Sessions(database), Factors(database, ring)

    def append(number: int) -> None:
        log.append(Entry("job.retry", who=name, on="x" * 400, fields=("f" * 32,) * 500, reason=f"{number} ✓ \0 \ud800"))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(append, range(24)))
    assert verify(log, ring).faults == [] and log.head()[0] == 24
    assert log.erase(name, Entry("", who="root")) == 24
    assert verify(log, ring).faults == []

    secret = sessions.begin(name, "f" * 32, "pages", address="::1", agent="é" * 300)
    assert sessions.get(secret, "pages") is not None
    assert sessions.list(name.lower()) == []
    assert sessions.end_all(name) == 1 and sessions.get(secret, "pages") is None

    factors.add(name, TOTP, "phone ✓", {"secret": "x"}, 5)
    (one,) = factors.of_account(name)
    assert not factors.advance(one.id, 5, beyond=4) and factors.advance(one.id, 6, beyond=5)
    (code, *_) = factors.new_recovery_codes(name)
    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(lambda _: factors.takes(name, code), range(6))].count(RECOVERY) == 1
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM pijobs_factor")).scalar() == 10
