"""The Flask extension keeps its state per app."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import pytest
import sqlalchemy as sa
from services import free_port

from pijobs import Job, State, hookimpl
from pijobs.database import Database
from pijobs.definitions import Definitions, Field
from pijobs.errors import ConfigurationError, SettingsError
from pijobs.factory import build
from pijobs.flask import EXTENSION, JobQueue, current_installation, current_queue


def make_app(name: str = "an_app", **config: Any) -> flask.Flask:
    app = flask.Flask(name)
    app.config.update(PI_JOB_QUEUE_PLUGINS=["broken.good"], **config)
    return app


@pytest.fixture(autouse=True)
def _plugins(broken_plugins: None) -> None:
    """All apps here have the job ``good.shout``."""


def test_an_app_with_flask_s_own_defaults_runs_jobs_in_the_request() -> None:
    app = make_app()
    jobs = JobQueue(app)
    with app.app_context():
        assert jobs.enqueue("good.shout", ["x"]).via == "direct" and current_queue().mode == "off"


def test_the_app_may_come_later() -> None:
    jobs, app = JobQueue(), make_app()
    installation = jobs.init_app(app)
    assert app.extensions[EXTENSION] is installation
    with app.app_context():
        assert (
            current_installation() is installation and jobs.run("good.shout", kwargs={"text": "x"}).state is State.DONE
        )


def test_one_extension_serves_many_apps() -> None:
    jobs = JobQueue()
    queued = make_app(SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="memory://")
    off = make_app("another_app")
    for app in (queued, off):
        jobs.init_app(app)
    with queued.app_context():
        assert jobs.enqueue("good.shout", ["x"], priority=3).state is State.QUEUED
    with off.app_context():
        assert jobs.enqueue("good.shout", ["x"]).state is State.DONE


def test_options_reach_the_queue_and_arguments_the_job() -> None:
    app = make_app(SECRET_KEY="s", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue", PI_JOB_QUEUE_URL="memory://")
    jobs = JobQueue(app)
    with app.app_context():
        handle = jobs.enqueue("good.shout", kwargs={"text": "x"}, delay=60, expires=120, priority=-3)
        storage = current_queue().storage
        assert storage is not None
        record = storage.get(handle.id)
        assert record.state is State.SCHEDULED and record.priority == -3
        assert record.deadline == record.created + 120_000
        with pytest.raises(TypeError):
            jobs.enqueue("good.shout", kwargs={"text": "x"}, colour="red")


def test_a_second_queue_for_an_app_is_refused_with_advice() -> None:
    app = make_app()
    JobQueue(app)
    for again in (lambda: JobQueue(app), lambda: JobQueue().init_app(app)):
        with pytest.raises(ConfigurationError, match=r"use current_queue\(\)"):
            again()


def test_an_app_without_a_queue_is_told_what_to_do() -> None:
    with make_app().app_context(), pytest.raises(ConfigurationError, match=r"call JobQueue\(app\) first"):
        JobQueue().enqueue("good.shout", ["x"])


def test_outside_of_an_app_flask_says_so() -> None:
    with pytest.raises(RuntimeError, match="application context"):
        JobQueue().enqueue("good.shout", ["x"])


def test_wrong_settings_of_the_app_are_refused_and_leave_no_trace() -> None:
    app = make_app(PI_JOB_QUEUE_LEASE=0, PI_JOB_QUEUE_LEESE=1)
    with pytest.raises(SettingsError) as caught:
        JobQueue(app)
    assert len(caught.value.faults) == 2 and EXTENSION not in app.extensions


def test_a_broken_plugin_and_a_warning_stand_in_the_log_of_the_app(caplog: pytest.LogCaptureFixture) -> None:
    app = flask.Flask("with_faults")
    app.config.update(PI_JOB_QUEUE_PLUGINS=["broken.import_error"], PI_JOB_QUEUE_IMPORT_ERROR_X=1)
    JobQueue(app)
    told = [record.getMessage() for record in caplog.records if record.name == app.logger.name]
    assert any("broken.import_error is not loaded: ModuleNotFoundError" in line for line in told)
    assert any(line.startswith("PI_JOB_QUEUE_IMPORT_ERROR_X") for line in told)


def test_files_of_the_installation_lie_beside_the_app_or_where_they_are_told_to(tmp_path: Path) -> None:
    one, two = make_app(), make_app()
    assert JobQueue().init_app(one).settings.directory == Path(one.root_path)
    assert JobQueue().init_app(two, directory=tmp_path).settings.directory == tmp_path


# -- the database of an app ------------------------------------------------------------------------------------------


def make_package(folder: Path) -> flask.Flask:
    """An app in a package, as Flask's tutorial lays it out; it is not installed."""
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    return flask.Flask("shop", root_path=str(folder / "shop"), instance_path=str(folder / "instance"))


def test_a_relative_database_is_the_same_file_for_app_extension_and_worker(tmp_path: Path) -> None:
    flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
    app = make_package(tmp_path)
    config = {"SQLALCHEMY_DATABASE_URI": "sqlite:///shop.db", "PI_JOB_QUEUE_PLUGINS": []}
    app.config.update(config)
    JobQueue(app)
    extension = flask_sqlalchemy.SQLAlchemy(app)
    with app.app_context():
        of_extension = Path(extension.engine.url.database)
        of_app = Database.of(current_queue().settings).place
    of_worker = Database.of(build(config, directory=tmp_path, file=tmp_path / "pi.cfg").settings).place
    assert of_app == of_worker == str(of_extension) == str(tmp_path / "instance" / "shop.db")


def test_the_database_is_the_one_that_the_app_s_extension_has(tmp_path: Path) -> None:
    flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
    app = make_package(tmp_path)
    app.config.update(SQLALCHEMY_BINDS={None: f"sqlite:///{tmp_path}/bound.db"}, PI_JOB_QUEUE_PLUGINS=[])
    JobQueue(app)
    flask_sqlalchemy.SQLAlchemy(app)
    with app.app_context():
        assert Database.of(current_queue().settings).place == str(tmp_path / "bound.db")


def test_a_database_in_the_memory_of_the_app_is_shared_with_it(tmp_path: Path) -> None:
    flask_sqlalchemy = pytest.importorskip("flask_sqlalchemy")
    app = make_package(tmp_path)
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite:///:memory:", PI_JOB_QUEUE_PLUGINS=[])
    JobQueue(app)
    extension = flask_sqlalchemy.SQLAlchemy(app)
    with app.app_context():
        store = Definitions("smtpserver", [Field("server")]).open(current_queue().settings)
        store.save("main", {"server": "h"})
        store.save("main", {"server": "i"})
        assert sa.inspect(extension.engine).has_table("pijobs_definition")
        assert store.get("main")["server"] == "i"


def test_without_a_setting_app_and_worker_have_the_file_beside_pi_cfg(tmp_path: Path) -> None:
    app = make_package(tmp_path)
    app.config.update(PI_JOB_QUEUE_PLUGINS=[])
    JobQueue(app)
    with app.app_context():
        assert Database.of(current_queue().settings).place == str(tmp_path / "pijobs.sqlite")


def test_an_installed_app_keeps_its_files_at_its_root_path(tmp_path: Path) -> None:
    root, instance = tmp_path / "lib" / "shop", tmp_path / "var" / "shop-instance"
    root.mkdir(parents=True)
    app = flask.Flask("shop", root_path=str(root), instance_path=str(instance))
    app.config.update(PI_JOB_QUEUE_PLUGINS=[])
    JobQueue(app)
    with app.app_context():
        assert Database.of(current_queue().settings).place == str(root / "pijobs.sqlite")


# -- a job that runs in the request ----------------------------------------------------------------------------------


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> flask.Flask:
    """An app with Flask-SQLAlchemy whose storage is away, and a job that commits."""
    extension = pytest.importorskip("flask_sqlalchemy")
    db = extension.SQLAlchemy()

    class User(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)

    def commit(fails: bool = False) -> None:
        db.session.commit()
        flask.g.left = "by the job"
        if fails:
            raise ValueError("no such user")

    module = ModuleType("shop_jobs")
    module.register_jobs = hookimpl(lambda: [Job("shop.commit", commit)], specname="register_jobs")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_jobs", module)
    app = flask.Flask("shop")
    app.config.update(
        SECRET_KEY="x" * 32, SQLALCHEMY_DATABASE_URI="sqlite://", PI_JOB_QUEUE_CLASS="pijobs.HueyQueue",
        PI_JOB_QUEUE_URL=f"redis://127.0.0.1:{free_port()}/0", PI_JOB_QUEUE_PLUGINS=["shop_jobs"],
    )  # fmt: skip
    db.init_app(app)
    jobs = JobQueue(app)
    with app.app_context():
        db.create_all()

    @app.get("/<int:fails>")
    def view(fails: int) -> list[object]:
        db.session.add(User())
        handle = jobs.enqueue("shop.commit", (bool(fails),))
        db.session.rollback()
        return [db.session.query(User).count(), handle.via, handle.state, "left" in flask.g]

    return app


@pytest.mark.parametrize(("fails", "state"), [(0, "done"), (1, "dead")])
def test_a_job_in_the_request_has_a_database_session_of_its_own(shop: flask.Flask, fails: int, state: str) -> None:
    assert shop.test_client().get(f"/{fails}").json == [0, "direct", state, False]
