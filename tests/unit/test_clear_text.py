"""What goes to another machine in clear: refused by our own server, told in red elsewhere, allowed knowingly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask
import pytest

from pijobs.errors import ConfigurationError
from pijobs.factory import build
from pijobs.observe import clear_text
from pijobs.observe.deployment_checks import of_settings
from pijobs.server import create_app
from pijobs.server.host import HostSignIn
from pijobs.worker.main import WorkerOptions, make_consumer

PG, MY = "postgresql+psycopg://u:hunter2@{}/db", "mysql+pymysql://u:hunter2@{}/db"
#: Storage URLs, and what is told of each: words of it, nothing where all is well.
STORAGES = {
    "redis://redis.example.com/0": ("no password", "has no TLS"),
    "redis://:hunter2@redis.example.com/0": ("has no TLS",),
    "redis://:hunter2@192.0.2.7/0": ("has no TLS",),
    "rediss://redis.example.com/0": ("no password",),
    "rediss://:hunter2@redis.example.com/0": (),
    "rediss://redis.example.com/0?ssl_certfile=/etc/c.pem&ssl_keyfile=/etc/k.pem": (),
    "redis://localhost/0": (),
    "redis://127.0.0.9/0": (),
    "redis://[::1]/0": (),
    "unix:///run/redis.sock": (),
    "redis+sentinel://:hunter2@s1:26379,localhost/svc/0": ("another machine, s1, and the connection has no TLS",),
    "redis+sentinel://:hunter2@s1:26379/svc/0?ssl=true": (),
    "redis+cluster://n1:7000,n2:7000": ("n1, n2, and no password", "has no TLS"),
    PG.format("db.example.com"): ("PostgreSQL is on another machine, db.example.com",),
    PG.format("db.example.com") + "?sslmode=prefer": ("PostgreSQL",),
    PG.format("db.example.com") + "?sslmode=verify-full": (),
    PG.format("localhost"): (),
    PG.format("") + "?host=/run/postgresql": (),
    PG.format("") + "?host=db1:5432&host=db2:5432": ("db1, db2",),
    MY.format("db.example.com"): ("MariaDB",),
    MY.format("db.example.com") + "?ssl_ca=/etc/ca.pem": (),
    MY.format("db.example.com") + "?ssl_ca=/etc/ca.pem&ssl_disabled=true": ("MariaDB",),
    MY.format("") + "?unix_socket=/run/mysqld/mysqld.sock": (),
}


def values(url: str, **more: Any) -> dict[str, Any]:
    return {
        "SECRET_KEY": "k" * 40, "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": url,
        "PI_JOB_QUEUE_PLUGINS": (), **more,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("url", "told"), STORAGES.items())
def test_our_own_server_speaks_in_clear_to_no_other_machine(url: str, told: tuple[str, ...]) -> None:
    if not told:
        create_app(settings=values(url))
        return
    with pytest.raises(ConfigurationError) as refused:
        create_app(settings=values(url))
    message = str(refused.value)
    assert all(words in message for words in told)
    assert "hunter2" not in message and "PI_JOB_QUEUE_LOGIN_WITHOUT_TLS" in message
    assert ("no password" in message) == ("no password" in told[0])


@pytest.mark.parametrize("url", [url for url, told in STORAGES.items() if told])
def test_hosts_that_are_named_may_be_spoken_to_in_clear(url: str) -> None:
    hosts = ["REDIS.example.com", "192.0.2.7", "s1", "n1", "n2", "db.example.com", "db1", "db2"]
    create_app(settings=values(url, PI_JOB_QUEUE_LOGIN_WITHOUT_TLS=hosts))


@pytest.mark.parametrize("name", ["PI_JOB_QUEUE_DATABASE", "SQLALCHEMY_DATABASE_URI"])
def test_the_database_of_accounts_is_spoken_to_by_tls_too(name: str) -> None:
    given = values("sqlite:////tmp/queue.sqlite", **{name: PG.format("db.example.com")})
    with pytest.raises(ConfigurationError, match=f"sslmode=verify-full' to {name}"):
        create_app(settings=given)
    create_app(settings={**given, name: PG.format("db.example.com") + "?sslmode=require"})


def test_without_a_queue_its_url_is_nobodys_business() -> None:
    create_app(settings=values("redis://redis.example.com/0", PI_JOB_QUEUE_CLASS=""))


def test_in_a_host_such_as_privacyidea_it_is_told_in_red_and_all_starts() -> None:
    given = values("redis://redis.example.com/0", SQLALCHEMY_DATABASE_URI=MY.format("db.example.com"))
    create_app(settings=given, host_sign_in=HostSignIn(lambda _: None, lambda *_: None, lambda _: None))
    checks = dict(of_settings(build(given).queue))
    for name in ("login", "tls", "database_tls"):
        assert checks[name].warning and checks[name].alarm, name
        assert "LOGIN_WITHOUT_TLS" in checks[name].advice


def test_a_worker_tells_it_in_its_log_and_starts(caplog: pytest.LogCaptureFixture) -> None:
    installation = build(values("redis://redis.example.com/0"))
    make_consumer(installation, flask.Flask("worker"), WorkerOptions(workers=1))
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 2 and "no password" in told[0] and "has no TLS" in told[1]
    assert not [*clear_text.faults(build(values("redis://localhost/0")).settings)]
