"""Day-one traps: readiness and ``pijobs config check`` tell each of them in words, and what to do."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from services import missing, wait_until

from pijobs.base import clock
from pijobs.definitions import Definitions, Field
from pijobs.definitions.records import Fingerprint
from pijobs.definitions.rotation import reencrypt
from pijobs.errors import StorageFull, StorageUnavailable
from pijobs.factory import build
from pijobs.jobs import State
from pijobs.observe import deployment_checks as traps
from pijobs.observe import state_checks
from pijobs.observe.checks import TABLE, Row, judged, severity_of
from pijobs.observe.readiness import configuration, readiness, takes_requests
from pijobs.observe.status import overview
from pijobs.payload.keys import KeyRing
from pijobs.plugins.hookspecs import CheckResult
from pijobs.request.queue import Queue
from pijobs.storage.redis.topology import Place
from pijobs.storage.sessions import SessionInfo
from pijobs.storage.sql import SqlStorage
from pijobs.storage.sql import base as sql_base
from pijobs.storage.values import End, NewInstance

from .redis_server import Server, running

LEASE = 60_000  # ms


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = make_queue(f"sqlite:///{tmp_path}/queue.sqlite")
    yield queue
    close(queue)


def make_queue(url: str, file: Path | None = None, **settings: Any) -> Queue:
    values = {
        "SECRET_KEY": "the key of this test", "PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue", "PI_JOB_QUEUE_URL": url,
        "PI_JOB_QUEUE_NAME": f"test-{uuid4().hex}", "PI_JOB_QUEUE_PLUGINS": (),
        **{name if name.startswith("SQL") else f"PI_JOB_QUEUE_{name}": value for name, value in settings.items()},
    }  # fmt: skip
    return build(values, file=file, directory=file and file.parent).queue


def close(queue: Queue) -> None:
    for storage in (queue.storage, queue.spool, queue.transactions.outbox):
        if storage is not None:
            storage.close()


def check(queue: Queue, name: str) -> CheckResult:
    """What both places found, which must be the same; and whatever is not well tells what to do."""
    there, here = dict(readiness(queue))[name], dict(configuration(queue))[name]
    assert (there.ok, there.warning) == (here.ok, here.warning)
    assert there.advice if there.warning or not there.ok else not there.advice
    return there


def add_worker(queue: Queue, *keys: str, host: str = "worker", **facts: Any) -> None:
    assert queue.storage is not None
    known = keys or KeyRing.of(queue.settings).ids
    told = {"version": metadata.version("pijobs"), "jobs": tuple(queue.registry), "keys": known, **facts}
    info = SessionInfo(uuid4().hex, host, 4711, queue.storage.now(), **told)
    queue.storage.open_session(info, lease=LEASE)


@pytest.fixture
def full_redis() -> Iterator[Server]:
    """One that evicts keys when its memory is full."""
    with running("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-random") as server:
        yield server


def own_address() -> str:
    """An address of this machine that others reach it by. Connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            missing("a network")
        return str(probe.getsockname()[0])


# -- Redis -----------------------------------------------------------------------------------------------------------


def test_a_redis_that_may_evict_keys_is_a_warning_and_one_that_did_is_red(full_redis: Server) -> None:
    queue = make_queue(full_redis.url)
    found = check(queue, "eviction_policy")
    assert found.ok and found.warning and "allkeys-random" in found.message
    assert "maxmemory-policy noeviction" in found.advice
    assert check(queue, "eviction") == CheckResult(True, "Redis evicted no jobs")
    for number in range(5000):
        full_redis.client.set(f"filler{number}", b"x" * 1000)
    found = check(queue, "eviction")
    assert not found.ok and "jobs get lost" in found.message
    full_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert check(queue, "eviction") == CheckResult(True, "Redis evicted no jobs")
    assert check(queue, "eviction_policy") == CheckResult(True, "Redis evicts no keys")
    full = check(queue, "storage_full")
    assert not full.ok and "the memory of Redis is full" in full.message
    full_redis.command("CONFIG", "SET", "maxmemory", "0")
    assert check(queue, "storage_full").ok
    close(queue)


def test_a_redis_on_another_machine_without_password_and_tls_is_warned_of() -> None:
    with running("--bind", "0.0.0.0", "--protected-mode", "no") as server:
        queue = make_queue(server.url.replace("127.0.0.1", own_address()))
        login, tls = check(queue, "login"), check(queue, "tls")
        assert login.alarm and "no password is given" in login.message and "requirepass" in login.advice
        assert tls.alarm and "has no TLS" in tls.message and "rediss://" in tls.advice
        close(queue)


def test_a_redis_on_this_machine_needs_neither_password_nor_tls(redis_url: str) -> None:
    queue = make_queue(redis_url)
    assert not check(queue, "login").warning and not check(queue, "tls").warning
    close(queue)


def test_a_redis_in_clear_that_is_named_is_not_warned_of() -> None:
    queue = make_queue("redis://redis.example.com:1/0", LOGIN_WITHOUT_TLS=["redis.example.com"])
    found = dict(traps.of_settings(queue))
    assert not found["login"].warning and not found["tls"].warning and not found["database_tls"].warning
    close(queue)


@pytest.mark.parametrize(
    ("url", "facts"),
    [
        ("redis://localhost/0", "yes no no"),
        ("redis://[::1]/0", "yes no no"),
        ("unix:///run/redis.sock", "yes no no"),
        ("redis://redis.example.com/0", "no no no"),
        ("redis://:pw@redis.example.com/0", "no yes no"),
        ("rediss://user:pw@10.0.0.7/0", "no yes yes"),
        ("redis+sentinel://127.0.0.1:1,10.0.0.7:1/main/0", "no no no"),
        ("redis+sentinel://:pw@10.0.0.7:1/main/0?ssl=true", "no yes yes"),
        ("redis+cluster://localhost,127.0.0.1:1", "yes no no"),
        ("redis+cluster://user:pw@localhost,10.0.0.7:1?ssl=true", "no yes yes"),
    ],
)
def test_a_url_tells_how_safe_the_way_is(url: str, facts: str) -> None:
    assert " ".join(Place(url, "key").facts().values()) == facts


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_relative_path_of_the_queue_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    queue = make_queue("sqlite:///queue.sqlite")
    found = check(queue, "storage_path")
    assert found.ok and found.warning and "relative" in found.message
    assert f"sqlite:///{tmp_path}/queue.sqlite" in found.advice
    close(queue)


def test_an_absolute_path_is_well_unless_others_may_open_it(queue: Queue, tmp_path: Path) -> None:
    assert not check(queue, "storage_path").warning
    (tmp_path / "queue.sqlite").chmod(0o644)
    assert "other users may access" in check(queue, "storage_path").message


def test_a_pi_cfg_that_all_may_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "pi.cfg"
    file.touch(0o600)
    queue = make_queue(f"sqlite:///{tmp_path}/queue.sqlite", file)
    assert not check(queue, "config_file").warning
    file.chmod(0o644)
    found = check(queue, "config_file")
    assert found.ok and "readable by all" in found.message and "chmod" in found.advice
    close(queue)


def test_a_fallback_without_its_spool_is_warned_of(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.sqlite"
    without, direct = make_queue(url), make_queue(url, FALLBACK=("direct",))
    found = check(without, "fallback")
    assert found.ok and found.warning and "PI_JOB_QUEUE_SPOOL is not set" in found.message
    assert "fallback" not in dict(readiness(direct)) and "fallback" not in dict(configuration(direct))
    close(without)
    close(direct)


# -- workers and clocks ----------------------------------------------------------------------------------------------


def test_without_a_worker_readiness_is_red_while_config_check_warns(queue: Queue) -> None:
    there, here = dict(readiness(queue))["worker"], dict(configuration(queue))["worker"]
    assert not there.ok and "no worker was ever seen" in there.message
    assert here.ok and here.warning and "pijobs worker" in here.advice
    add_worker(queue)
    assert check(queue, "worker").ok


def test_a_worker_with_another_key_is_red_alone_and_a_warning_beside_others(queue: Queue) -> None:
    add_worker(queue, "another", host="mistaken.example.com")
    alone = check(queue, "worker_keys")
    assert not alone.ok and "SECRET_KEY" in alone.advice
    add_worker(queue)
    assert check(queue, "worker_keys").ok
    found = check(queue, "worker_keys_differ")
    assert found.ok and found.warning and "1 of 2" in found.message and "mistaken.example.com" in found.message


def test_a_server_that_still_encrypts_with_an_older_key_is_seen_by_all(tmp_path: Path) -> None:
    url, name = f"sqlite:///{tmp_path}/queue.sqlite", f"test-{uuid4().hex}"
    stale = make_queue(url, KEYS=["the old key"], NAME=name)
    queue = make_queue(url, KEYS=["the new key", "the old key"], NAME=name)
    assert queue.storage is not None
    old = KeyRing.of(stale.settings).newest.id
    add_worker(queue)
    assert not check(queue, "server_keys").warning
    found = check(stale, "server_keys")
    assert found.warning and f"this process encrypts with key {old}" in found.message
    add_worker(queue, other_keys={old: queue.storage.now() - 30_000})
    found = check(queue, "server_keys")
    assert found.warning and f"{old} (the last time 3" in found.message and "pijobs config check" in found.advice
    for one in (stale, queue):
        close(one)


def test_a_job_that_no_live_worker_knows_is_red(tmp_path: Path) -> None:
    queue = make_queue(f"sqlite:///{tmp_path}/queue.sqlite", PLUGINS=("mail",))
    add_worker(queue, jobs=("mail.test",))
    found = check(queue, "worker_jobs")
    assert not found.ok and "mail.send" in found.message and "mail.test" not in found.message
    add_worker(queue)
    assert check(queue, "worker_jobs").ok
    close(queue)


def test_a_worker_of_another_release_is_warned_of(queue: Queue) -> None:
    add_worker(queue, version="0.0.9", host="old.example.com")
    found = check(queue, "worker_versions")
    assert found.warning and "old.example.com" in found.message and "0.0.9" in found.message


def save_definition(queue: Queue) -> str | None:
    """In the database of this installation; what a worker would tell then."""
    Definitions("smtpserver", [Field("server")]).open(queue.settings).save("main", {"server": "h"})
    return Fingerprint(queue.settings).read()


def test_workers_with_another_database_of_definitions_are_red_and_named(tmp_path: Path) -> None:
    queue = make_queue(f"sqlite:///{tmp_path}/queue.sqlite", tmp_path / "pi.cfg")
    own = save_definition(queue)
    add_worker(queue, definitions=None, host="older-release.example.com")
    add_worker(queue, definitions=own)
    found = check(queue, "definitions")
    assert found.ok and str(tmp_path / "pijobs.sqlite") in found.message
    add_worker(queue, definitions="", host="empty.example.com")
    add_worker(queue, definitions="another", host="mistaken.example.com")
    found = check(queue, "definitions")
    assert not found.ok and "2 of 3 live workers" in found.message and str(tmp_path) in found.message
    assert "empty.example.com" in found.message and "mistaken.example.com" in found.message
    assert "older-release" not in found.message and "SQLALCHEMY_DATABASE_URI" in found.advice
    close(queue)


def test_secrets_under_an_older_key_are_a_warning_until_they_are_brought_over(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/queue.sqlite", tmp_path / "pi.cfg"
    before = make_queue(url, file, KEYS=["the old key"])
    declared = Definitions("smtpserver", [Field("password", secret=True)])
    declared.open(before.settings).save("main", {"password": "hunter2"})
    assert not check(before, "old_keys").warning
    queue = make_queue(url, file, KEYS=["the new key", "the old key"])
    found = check(queue, "old_keys")
    assert found.ok and found.warning and f"1 under {KeyRing.of(before.settings).newest.id}" in found.message
    assert "pijobs keys retire" in found.advice
    assert reencrypt(queue.settings) == 1
    assert not check(queue, "old_keys").warning
    for one in (before, queue):
        close(one)


def test_workers_that_differ_are_red_where_this_process_has_no_definitions_database(tmp_path: Path) -> None:
    queue = make_queue(f"sqlite:///{tmp_path}/queue.sqlite", tmp_path / "pi.cfg")
    (tmp_path / "pijobs.sqlite").write_bytes(b"this can't be read" * 1000)
    add_worker(queue, definitions="one")
    assert check(queue, "definitions").ok
    add_worker(queue, definitions="another", host="second.example.com")
    found = check(queue, "definitions")
    assert not found.ok and "second.example.com" in found.message
    close(queue)


@pytest.mark.parametrize(("shift", "told"), [(0.0, None), (-60.0, "60 s behind"), (60.0, "60 s ahead of")])
def test_a_clock_that_differs_from_the_storages_is_warned_of(
    redis_url: str, shift: float, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(redis_url)
    assert queue.storage is not None
    queue.storage.ping()
    monkeypatch.setattr(clock, "time", lambda: time.time() + shift)
    found = dict(traps.of_storage(queue, overview(queue)))["clock"]
    assert found.ok and found.warning is (told is not None)
    assert told is None or told in found.message
    close(queue)


# -- the storage -----------------------------------------------------------------------------------------------------


def test_a_full_disk_is_red(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(queue, "storage_full").ok
    usage = shutil.disk_usage("/")
    for total, free, ok in (
        (2**40, traps.LEAST_DISK - 1, False), (2**40, traps.LEAST_DISK, True),
        (40 * 2**20, 30 * 2**20, True), (40 * 2**20, 14 * 2**20, False),
    ):  # fmt: skip
        now = usage._replace(total=total, free=free)
        monkeypatch.setattr(shutil, "disk_usage", partial(lambda now, path: now, now))
        found = check(queue, "storage_full")
        assert found.ok is ok
        assert ok or f"the disk of the queue is nearly full: {free // 2**20} MB are free" in found.message


def test_a_full_disk_of_the_spool_is_red_and_calls_do_not_go_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue("redis://127.0.0.1:1/0", SPOOL=f"{tmp_path}/spool.sqlite")
    assert queue.spool is not None and dict(readiness(queue))["spool"].ok
    info = SessionInfo("s", "h", 1, queue.spool.now(), "1")
    queue.spool.open_session(info, lease=LEASE)
    assert overview(queue)["fallback"] == "spool"
    assert takes_requests(queue).message.endswith("jobs go to the spool")
    usage = shutil.disk_usage("/")._replace(total=2**40, free=2**10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    def refuse() -> None:
        raise StorageFull("the disk is full")

    monkeypatch.setattr(queue.spool, "try_out", refuse)
    found = dict(readiness(queue))["spool"]
    assert not found.ok and "the disk of the spool is nearly full: 0 MB are free" in found.message
    assert overview(queue)["fallback"] == "direct"
    assert takes_requests(queue).message.endswith("jobs run in the request")
    close(queue)


def test_a_redis_that_keeps_nothing_is_warned_of() -> None:
    with running("--save", "", "--appendonly", "no") as server:
        queue = make_queue(server.url)
        found = check(queue, "persistence")
        assert found.warning and "a restart loses all waiting jobs" in found.message
        server.command("CONFIG", "SET", "appendonly", "yes")
        assert not check(queue, "persistence").warning
        close(queue)


def test_a_storage_that_hangs_is_red_and_a_server_takes_requests_all_the_same(tmp_path: Path) -> None:
    with running() as server:
        queue, bare = make_queue(server.url), make_queue(server.url, FALLBACK=())
        assert takes_requests(bare).ok
        server.freeze()
        try:
            assert not dict(readiness(queue))["storage"].ok
            found = takes_requests(queue)
            assert found.ok and "does not answer" in found.message and "jobs run in the request" in found.message
            assert not takes_requests(bare).ok
        finally:
            server.thaw()
        close(queue)
        close(bare)


def test_a_database_that_hangs_is_told_before_a_probe_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_base, "PING_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        queue = make_queue(f"postgresql+psycopg://q@127.0.0.1:{silent.getsockname()[1]}/q")
        assert isinstance(queue.storage, SqlStorage)
        queue.storage._live.transactions.ensured = True
        told = dict(readiness(queue))["storage"].message
        assert re.search(r"within 0\.(1|0\d+) s", told), told
    close(queue)


def test_a_storage_that_is_only_read_is_told_with_its_remedy_and_blames_no_worker(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StorageUnavailable("this Redis is a read-only replica")

    assert queue.storage is not None
    monkeypatch.setattr(queue.storage, "try_out", refuse)
    found = dict(readiness(queue))
    assert "accepts nothing new" in found["storage"].message
    assert found["storage"].advice.startswith("make it writable, or name a writable server")
    assert found["worker"].advice.startswith("see the check 'storage' first")


# -- what stands in the queue ----------------------------------------------------------------------------------------


def add(queue: Queue, group: str, **fields: Any) -> str:
    assert queue.storage is not None
    id = uuid4().hex
    values = {"name": "test.job", "envelope": b"e", "body": b"b", "created": queue.storage.now(), "due": None, **fields}
    queue.storage.enqueue(NewInstance(id, group=group, **values), timeout=5)
    return id


def test_a_pause_is_named_and_is_not_taken_for_lateness(tmp_path: Path) -> None:
    queue = make_queue(f"sqlite:///{tmp_path}/queue.sqlite", READY_MAX_AGE=0.001)
    assert queue.storage is not None
    add(queue, "smtp:main")
    wait_until(lambda: not dict(readiness(queue))["oldest"].ok, what="lateness")
    queue.storage.pause("smtp:main")
    checks = dict(readiness(queue))
    assert checks["oldest"].ok
    assert checks["paused"].warning and "destination smtp:main (1 waiting)" in checks["paused"].message
    add(queue, "smtp:other")
    wait_until(lambda: not dict(readiness(queue))["oldest"].ok, what="lateness of another destination")
    queue.storage.pause()
    checks = dict(readiness(queue))
    assert checks["oldest"].ok and "the whole queue (2 waiting)" in checks["paused"].message
    close(queue)


def test_what_no_worker_can_run_is_red_after_ten_minutes(queue: Queue) -> None:
    storage = queue.storage
    assert storage is not None
    add_worker(queue)
    id = add(queue, "g")
    session = storage.sessions()[0].info.id
    (lease,) = storage.step(session, [], want=1).leases
    now = storage.now()
    for age in (state_checks.HELD_GRACE - 120, state_checks.HELD_GRACE):
        entry = json.dumps({"at": now - int(age * 1000), "event": "held", "error": "UnknownJob", "reason": "no job x"})
        end = End(
            id, lease.token, State.SCHEDULED, counted=False, reason="no job x", entry=entry, due=now + 60_000,
        )  # fmt: skip
        storage.step(session, [end], want=0)
        found = check_state(queue, "unreadable")
        assert found.ok is (age < state_checks.HELD_GRACE), age
        if found.ok:
            storage.cancel(id, reason="a test")
            id = add(queue, "g")
            (lease,) = storage.step(session, [], want=1).leases
    assert "1 because of: no job x" in found.message


def check_state(queue: Queue, name: str) -> CheckResult:
    return dict(readiness(queue))[name]


# -- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["redis", "sqlite"])
def test_each_check_stands_in_the_table_and_has_its_severity(url: str, redis_url: str, tmp_path: Path) -> None:
    place = redis_url if url == "redis" else f"sqlite:///{tmp_path}/queue.sqlite"
    queue = make_queue(place, tmp_path / "pi.cfg", SPOOL=str(tmp_path / "spool.sqlite"))
    names = {name for name, _ in readiness(queue)}
    assert names <= set(TABLE)
    close(queue)


@pytest.mark.parametrize(("name", "row"), TABLE.items())
def test_a_failing_check_has_the_severity_of_the_table_whatever_it_says_itself(name: str, row: Row) -> None:
    for result in (CheckResult(False, "x"), CheckResult(True, "x", warning=True)):
        assert severity_of(judged(name, result)) == row.severity
    assert severity_of(judged(name, CheckResult(True, "x"))) is None


def test_the_alerts_have_the_severity_of_the_table() -> None:
    file = Path(__file__).parents[2] / "contrib/prometheus/alerts.yml"
    rules = {rule["alert"]: rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]}
    for name, row in TABLE.items():
        if row.alert is not None:
            assert rules[row.alert]["labels"]["severity"] == row.severity, name
    left_out = re.search(r'check!~"([^"]*)"', rules["PijobsCheckFails"]["expr"])
    assert left_out is not None
    critical = {name for name, row in TABLE.items() if row.alert and row.severity == "critical"}
    assert set(left_out[1].split("|")) == critical
