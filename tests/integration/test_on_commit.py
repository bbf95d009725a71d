"""Calls that follow a transaction: with its commit, never without it; in it, where the queue or an outbox is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from pijobs import Handle, JobCall, JobContext, State, job
from pijobs.database import Database
from pijobs.errors import ConfigurationError, EncodeError, StorageUnavailable
from pijobs.flask import JobQueue
from pijobs.request.queue import Queue
from pijobs.storage.contract import Storage
from pijobs.storage.values import NewInstance, OnConflict, Stored
from pijobs.testing import drain, in_memory

ran: list[str] = []


@job("commit.build")
def build(ctx: JobContext, customer: str, *, pages: int = 1) -> None:
    ran.append(customer)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "an_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    job: Mapped[str | None] = mapped_column(sa.String(40))


class Site:
    """An app with a database, and its queue."""

    def __init__(self, folder: Path, database: str, **options: Any) -> None:
        values = {"CLASS": "pijobs.HueyQueue", "PLUGINS": [__name__], "NAME": folder.name, **options}
        self.app = flask.Flask("an_app", instance_path=str(folder))
        self.app.config.update({f"PI_JOB_QUEUE_{name}": value for name, value in values.items()}, SECRET_KEY="s")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database
        self.engine = sa.create_engine(database)
        Base.metadata.create_all(self.engine)
        JobQueue(self.app)
        self.queue: Queue = self.app.extensions["pijobs"].queue

    def session(self) -> Session:
        return Session(self.engine)

    @property
    def storage(self) -> Storage:
        assert self.queue.storage is not None
        return self.queue.storage

    def waiting(self, storage: Storage | None = None) -> list[str]:
        return [record.id for record in (storage or self.storage).page(State.QUEUED).records]

    def close(self) -> None:
        for storage in self.queue.places if self.queue.storage else ():
            storage.close()
        Database.of(self.queue.settings).close()
        self.engine.dispose()


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[NewSite]:
    ran.clear()
    sites: list[Site] = []

    def new(database: str = f"sqlite:///{tmp_path}/app.sqlite", **options: Any) -> Site:
        sites.append(Site(tmp_path, database, **options))
        return sites[-1]

    yield new
    for site in sites:
        with site.app.app_context():
            site.close()


WAYS = ("after", "outbox", "same", "same postgresql", "same mariadb")


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, new_site: NewSite, tmp_path: Path) -> Iterator[Site]:
    """An app whose calls follow its transactions, in each of the ways."""
    way = request.param
    queue = f"sqlite:///{tmp_path}/queue.sqlite"
    if way == "after":
        site = new_site(URL=queue)
    elif way == "outbox":
        site = new_site(URL=queue, OUTBOX=True)
    else:
        kind = way.partition(" ")[2]
        url = request.getfixturevalue(f"{kind}_url") if kind else f"sqlite:///{tmp_path}/app.sqlite"
        site = new_site(url, URL=url, NAME=f"on-commit-{id(request)}")
    for storage in site.queue.places:
        storage.ping()  # as a worker does, which makes the tables
    with site.app.app_context():
        yield site


pytestmark = pytest.mark.pijobs_real_storage


def test_it_is_queued_with_the_commit_and_not_before(site: Site) -> None:
    with site.session() as session:
        order = Order()
        session.add(order)
        handle = build.enqueue_on_commit(session, "acme", pages=2)
        order.job = handle.id
        session.flush()
        assert site.waiting() == []
        session.commit()
        assert session.scalars(sa.select(Order.job)).all()[-1] == handle.id
    assert site.waiting() == [handle.id]
    assert handle.refresh().state is State.QUEUED
    drain(site.queue)
    assert ran == ["acme"]


def test_nothing_is_queued_for_a_transaction_that_is_rolled_back(site: Site) -> None:
    with site.session() as session:
        build.enqueue_on_commit(session, "acme")
        session.rollback()
        session.add(Order())
        session.commit()
    with site.session() as session:
        build.enqueue_on_commit(session, "acme")  # the session is closed
    with pytest.raises(ZeroDivisionError), site.session() as session, session.begin():
        build.enqueue_on_commit(session, "acme")
        1 / 0  # noqa: B018
    assert site.waiting() == []


def test_a_savepoint_takes_with_it_what_was_enqueued_in_it(site: Site) -> None:
    with site.session() as session:
        kept = [build.enqueue_on_commit(session, "outside")]
        with session.begin_nested():
            kept.append(build.enqueue_on_commit(session, "released"))
            with session.begin_nested() as inner:
                build.enqueue_on_commit(session, "rolled back")
                inner.rollback()
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            with session.begin_nested():
                build.enqueue_on_commit(session, "released into one that is rolled back")
            1 / 0  # noqa: B018
        assert site.waiting() == []
        session.commit()
    assert sorted(site.waiting()) == sorted(handle.id for handle in kept)


def test_each_transaction_of_a_session_has_its_own(site: Site) -> None:
    with site.session() as session:
        first = build.enqueue_on_commit(session, "first")
        session.commit()
        build.enqueue_on_commit(session, "second")
        session.rollback()
        third = build.enqueue_on_commit(session, "third")
        session.commit()
        session.add(Order())
        session.commit()
    assert sorted(site.waiting()) == sorted([first.id, third.id])


def test_options_and_many_calls(site: Site) -> None:
    with site.session() as session:
        handles = [build.enqueue_on_commit(session, str(number)) for number in range(5)]
        later = build.options(delay=60, priority=7).enqueue_on_commit(session, "later")
        session.commit()
    assert later.state is State.SCHEDULED and site.storage.get(later.id).priority == 7
    drain(site.queue)
    assert ran == ["0", "1", "2", "3", "4"] and len(handles) == 5


def test_the_newest_of_a_key_waits(site: Site) -> None:
    old = build.options(key="acme").enqueue("old")
    with site.session() as session:
        for number in range(2):
            newest = build.options(key="acme").enqueue_on_commit(session, str(number))
        assert site.waiting() == [old.id]
        session.commit()
    assert site.waiting() == [newest.id] and old.refresh().state is State.CANCELLED


def test_mistakes_are_told_at_the_call(site: Site) -> None:
    with site.session() as session:
        with pytest.raises(EncodeError):
            build.enqueue_on_commit(session, 1)  # type: ignore[arg-type]
        build.enqueue_on_commit(session, "fine")
        session.commit()
    assert len(site.waiting()) == 1


def test_a_scoped_session_is_one(site: Site) -> None:
    session = scoped_session(sessionmaker(site.engine))
    handle = site.queue.enqueue_on_commit(session, JobCall("commit.build", ["acme"]))
    assert site.waiting() == []
    session.commit()
    session.remove()
    assert site.waiting() == [handle.id]


@pytest.mark.parametrize("way", ["after", "outbox", "same"])
def test_an_async_session_by_run_sync(new_site: NewSite, tmp_path: Path, way: str) -> None:
    url = f"sqlite:///{tmp_path}/{'app' if way == 'same' else 'queue'}.sqlite"
    site = new_site(URL=url, OUTBOX=way == "outbox")
    for storage in site.queue.places:
        storage.ping()

    async def story() -> Handle:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/app.sqlite")
        async with AsyncSession(engine) as session:
            session.add(Order())
            await session.run_sync(build.enqueue_on_commit, "rolled back")
            await session.rollback()
            session.add(Order())
            handle = await session.run_sync(build.enqueue_on_commit, "kept")
            assert way == "same" or site.waiting() == []
            await session.commit()
            if way != "after":
                with pytest.raises(ConfigurationError, match=r"'await session.run_sync\(lambda"):
                    build.enqueue_on_commit(session, "as it is")
        await engine.dispose()
        return handle

    with site.app.app_context():
        assert [asyncio.run(story()).id] == site.waiting()


def test_the_session_of_flask_sqlalchemy(tmp_path: Path, new_site: NewSite) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/queue.sqlite")
    site.app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.sqlite"
    db = SQLAlchemy(site.app)
    with site.app.app_context():
        handle = build.enqueue_on_commit(db.session, "acme")
        assert site.waiting() == []
        db.session.commit()
        assert site.waiting() == [handle.id]


# -- after the commit ------------------------------------------------------------------------------------------------


def test_what_is_not_taken_after_the_commit_does_not_fail_it(
    tmp_path: Path, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/no-such-folder/queue.sqlite", FALLBACK=())
    with site.app.app_context(), site.session() as session, caplog.at_level(logging.ERROR):
        session.add(Order())
        build.enqueue_on_commit(session, "acme")
        session.commit()
        assert len(session.scalars(sa.select(Order)).all()) == 1
    assert "1 jobs of a transaction that was committed could not be enqueued" in caplog.text


def test_many_of_one_commit_are_one_question(
    tmp_path: Path, new_site: NewSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/queue.sqlite")
    sizes: list[int] = []
    real = site.storage.enqueue_many

    def count(batch: Sequence[tuple[NewInstance, OnConflict]], **options: Any) -> list[Stored]:
        sizes.append(len(batch))
        return real(batch, **options)

    monkeypatch.setattr(site.storage, "enqueue_many", count)
    with site.app.app_context(), site.session() as session:
        for number in range(30):
            build.enqueue_on_commit(session, str(number))
        session.commit()
    assert sizes == [30]


@pytest.mark.parametrize("options", [{"CLASS": ""}, {"IMMEDIATE": True}], ids=["off", "immediate"])
def test_without_a_queue_it_runs_after_the_commit(new_site: NewSite, options: dict[str, Any]) -> None:
    site = new_site(**options)
    with site.app.app_context(), site.session() as session:
        build.enqueue_on_commit(session, "no")
        session.rollback()
        build.enqueue_on_commit(session, "yes")
        assert ran == []
        session.commit()
    assert ran == ["yes"]


def test_in_tests_it_waits_in_memory_after_the_commit(new_site: NewSite) -> None:
    site = new_site(OUTBOX=True)
    in_memory(site.queue)
    with site.app.app_context(), site.session() as session:
        handle = build.enqueue_on_commit(session, "acme")
        assert site.waiting() == []
        session.commit()
        assert site.waiting() == [handle.id]


@pytest.mark.parametrize("outbox", [True, False])
def test_the_first_call_of_all_makes_the_tables_in_its_transaction(
    new_site: NewSite, tmp_path: Path, outbox: bool
) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/{'queue' if outbox else 'app'}.sqlite", OUTBOX=outbox)
    with site.app.app_context(), site.session() as session:
        for end in (session.rollback, session.commit):
            session.add(Order())
            session.flush()  # it has the lock of the file
            handle = build.enqueue_on_commit(session, "acme")
            end()
        assert site.waiting() == [handle.id]


# -- by a connection -------------------------------------------------------------------------------------------------


def test_a_connection_to_the_queues_database_takes_calls_into_its_transaction(
    new_site: NewSite, tmp_path: Path
) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/app.sqlite")
    site.storage.ping()
    with site.session() as session:
        site.queue.enqueue("commit.build", ["no"], connection=session.connection())
        session.rollback()
        handle = site.queue.enqueue("commit.build", ["yes"], connection=session.connection())
        many = site.queue.enqueue_many([build.call(str(n)) for n in range(150)], connection=session.connection())
        assert site.waiting() == []
        session.commit()
    assert {handle.id, *(one.id for one in many)} == set(_all(site))


def _all(site: Site) -> list[str]:
    return [record.id for record in site.storage.page(State.QUEUED, limit=1000).records]


def test_a_connection_to_another_database_is_refused(new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/queue.sqlite")
    with (
        site.session() as session,
        pytest.raises(ConfigurationError, match="expected one to the database"),
    ):
        site.queue.enqueue("commit.build", ["x"], connection=session.connection())


# -- the outbox ------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_outbox(new_site: NewSite, tmp_path: Path) -> Iterator[Site]:
    site = new_site(URL=f"sqlite:///{tmp_path}/queue.sqlite", OUTBOX=True)
    for storage in site.queue.places:
        storage.ping()
    with site.app.app_context():
        yield site


def outbox_of(site: Site) -> Storage:
    assert site.queue.transactions.outbox is not None
    return site.queue.transactions.outbox


def commit_while_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> Handle:
    def away(*args: object, **options: object) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patch, site.session() as session:
        patch.setattr(site.storage, "enqueue_many", away)
        handle = build.enqueue_on_commit(session, "acme")
        session.commit()
    return handle


def test_what_is_committed_while_the_storage_is_away_is_moved_by_a_worker(
    with_outbox: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = with_outbox
    handle = commit_while_away(site, monkeypatch)
    assert (site.waiting(), site.waiting(outbox_of(site))) == ([], [handle.id])
    assert handle.refresh().state is State.QUEUED
    site.queue.move_from_outbox()
    assert (site.waiting(), site.waiting(outbox_of(site))) == ([handle.id], [])


def test_a_server_that_died_after_the_commit_loses_nothing(with_outbox: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = with_outbox
    monkeypatch.setattr("pijobs.request.spool.Mover.carry", lambda *_: None)
    with site.session() as session:
        handle = build.enqueue_on_commit(session, "acme")
        session.commit()
    site.queue.enqueue("commit.build", ["any"])  # of a server, whose mover looks now
    assert handle.id in site.waiting() and site.waiting(outbox_of(site)) == []


def test_what_the_storage_had_already_is_not_stored_twice(with_outbox: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = with_outbox
    with monkeypatch.context() as patch, site.session() as session:
        patch.setattr(outbox_of(site), "forget", lambda *_, **__: None)  # killed in between
        handle = build.enqueue_on_commit(session, "acme")
        session.commit()
    drain(site.queue)
    site.queue.move_from_outbox()
    drain(site.queue)
    assert ran == ["acme"] and site.waiting(outbox_of(site)) == [] and handle.refresh().state is State.DONE


def test_an_outbox_replaces(with_outbox: Site) -> None:
    with with_outbox.session() as session, pytest.raises(ValueError, match="expected on_conflict='replace'"):
        build.options(key="a", on_conflict="keep").enqueue_on_commit(session, "acme")


def test_a_session_of_another_database_is_refused_where_there_is_an_outbox(with_outbox: Site, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/other.sqlite")
    with Session(engine) as session, pytest.raises(ConfigurationError, match="OUTBOX"):
        build.enqueue_on_commit(session, "acme")


def test_an_outbox_needs_a_database(new_site: NewSite, tmp_path: Path) -> None:
    site = new_site(URL=f"sqlite:///{tmp_path}/queue.sqlite", OUTBOX=True)
    site.app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    SQLAlchemy(site.app)
    with pytest.raises(ConfigurationError, match="OUTBOX: expected the application in"):
        _ = site.queue.transactions.outbox
    site.app.config["PI_JOB_QUEUE_OUTBOX"] = False
    site.queue.__dict__.pop("transactions")
    site.queue.settings._values["PI_JOB_QUEUE_OUTBOX"] = False  # so that the end of the test finds none
