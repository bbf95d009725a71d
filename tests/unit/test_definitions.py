"""Definitions: what they accept, what people see, and what lies in the database."""

from __future__ import annotations

import base64
import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from processes import run_at_once

from pijobs.base.files import looking
from pijobs.database import Database
from pijobs.definitions import CENSORED, Definitions, DefinitionStore, Field, done, records, tables
from pijobs.definitions.done import Ledger
from pijobs.definitions.tables import table
from pijobs.errors import DefinitionDeleted, DefinitionError, DefinitionNotFound, DefinitionUnreadable
from pijobs.settings import CORE_SETTINGS, Settings, validate
from pijobs.testing.clock import ManualClock
from pijobs.worker import replays
from pijobs.worker.replays import Done

OLD, NEW = "an old key, long enough", "a new key, long enough"


def _check_port(value: int) -> str | None:
    return None if 0 < value < 65536 else f"expected a port from 1 to 65535, found {value}"


def _check_password(value: str) -> str | None:
    return f"expected no space, found {value!r}" if " " in value else None


FIELDS = (
    Field("server", required=True),
    Field("port", int, default=25, check=_check_port),
    Field("timeout", float, default=10.0),
    Field("tls", bool, default=False),
    Field("description", default=""),
    Field("password", default="", secret=True, check=_check_password),
    Field("pin", int, secret=True),
)
SERVERS = Definitions("smtpserver", FIELDS)
DEFAULTS = {
    "port": 25, "timeout": 10.0, "tls": False, "description": "", "password": "", "pin": None, "enqueue_job": False,
}  # fmt: skip


def settings_in(directory: Path, *keys: str, url: str | None = None) -> Settings:
    values = {"PI_JOB_QUEUE_KEYS": keys or (OLD,), "SQLALCHEMY_DATABASE_URI": url}
    return validate(values, CORE_SETTINGS, directory=directory)


@pytest.fixture
def store(tmp_path: Path) -> DefinitionStore:
    return SERVERS.open(settings_in(tmp_path))


def stored_secrets(directory: Path) -> dict[str, Any]:
    """What lies in the column of the secrets, by identifier."""
    with Database.of(settings_in(directory)).read() as connection:
        rows = connection.execute(sa.select(table.c.identifier, table.c.secrets)).all()
    return {row.identifier: json.loads(row.secrets) for row in rows}


def overwrite(directory: Path, identifier: str, **columns: Any) -> None:
    with Database.of(settings_in(directory)).begin() as connection:
        connection.execute(table.update().where(table.c.identifier == identifier).values(**columns))


GATEWAYS = Definitions(
    "smsgateway",
    [Field("provider", default="http"), Field("region", default="")],
    choice="provider",
    variants={
        "http": [Field("url", required=True), Field("headers", dict), Field("key", default="", secret=True)],
        "smtp": [Field("server", required=True), Field("key", default="")],
    },
)


# -- save, get, list, delete ---------------------------------------------------------------------------------------


def test_a_definition_comes_back_with_defaults_for_the_rest(store: DefinitionStore) -> None:
    store.save("main", {"server": "mail.example.com", "password": "hunter2"})
    expected = {"identifier": "main", **DEFAULTS, "server": "mail.example.com", "password": "hunter2"}
    assert store.get("main") == expected
    assert store.list() == {"main": expected}


@pytest.fixture
def reads(store: DefinitionStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The identifiers that were read from the database."""
    found: list[str] = []
    read = store._read

    def counted(identifier: str) -> dict[str, Any]:
        found.append(identifier)
        return read(identifier)

    monkeypatch.setattr(store, "_read", counted)
    return found


def test_a_definition_is_read_once_until_the_database_changes(store: DefinitionStore, reads: list[str]) -> None:
    store.save("main", {"server": "mail.example.com"})
    first = [store.get("main") for _ in range(3)]
    assert first[0] == first[1] == first[2]
    assert reads == ["main"]
    store.save("main", {"port": 587})
    assert [store.get("main")["port"] for _ in range(2)] == [587, 587]
    assert reads == ["main", "main"]
    store.delete("main")
    with pytest.raises(DefinitionDeleted):
        store.get("main")


def test_a_change_by_somebody_else_is_seen_at_once(tmp_path: Path, store: DefinitionStore, reads: list[str]) -> None:
    store.save("main", {"server": "mail.example.com"})
    for port in range(1, 20):
        SERVERS.open(settings_in(tmp_path)).save("main", {"port": port})
        assert [store.get("main")["port"] for _ in range(2)] == [port, port]
    assert len(reads) == 19
    overwrite(tmp_path, "main", content="{}")
    assert store.get("main")["server"] is None


def test_a_file_that_takes_the_place_of_another_is_read(tmp_path: Path, store: DefinitionStore) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for place, port in ((other, 25), (tmp_path, 587)):
        SERVERS.open(settings_in(place)).save("main", {"server": "mail.example.com", "port": port})
    assert store.get("main")["port"] == 587
    for file in tmp_path.glob("pijobs.sqlite*"):
        file.unlink()
    (other / "pijobs.sqlite").rename(tmp_path / "pijobs.sqlite")
    assert store.get("main")["port"] == 25


def test_who_changes_what_he_was_given_changes_nothing_for_others(gateways: DefinitionStore) -> None:
    gateways.save("main", {"provider": "http", "url": "https://sms.example.com", "headers": {"A": "1"}})
    given = gateways.get("main")
    given["url"], given["headers"]["A"] = "", "2"
    assert (gateways.get("main")["url"], gateways.get("main")["headers"]) == ("https://sms.example.com", {"A": "1"})


def test_nothing_is_there_at_first(store: DefinitionStore) -> None:
    assert store.list() == {}


def test_a_definition_is_there_for_every_process_of_the_installation(tmp_path: Path) -> None:
    SERVERS.open(settings_in(tmp_path)).save("main", {"server": "h", "password": "hunter2"})
    assert SERVERS.open(settings_in(tmp_path)).get("main")["password"] == "hunter2"


def test_what_is_not_given_stays(store: DefinitionStore) -> None:
    store.save("main", {"server": "h", "port": 26, "password": "hunter2"})
    store.save("main", {"enqueue_job": True, "port": None})
    kept = store.get("main")
    assert (kept["server"], kept["port"], kept["password"], kept["enqueue_job"]) == ("h", 26, "hunter2", True)


def test_an_empty_text_clears_a_field(store: DefinitionStore) -> None:
    store.save("main", {"server": "h", "port": 26, "password": "hunter2"})
    store.save("main", {"port": "", "password": ""})
    assert (store.get("main")["port"], store.get("main")["password"]) == (25, "")


def test_an_unknown_identifier_is_not_found(store: DefinitionStore) -> None:
    with pytest.raises(DefinitionNotFound, match="there is no smtpserver 'main'"):
        store.get("main")


def test_a_definition_can_be_deleted_once(store: DefinitionStore) -> None:
    store.save("main", {"server": "h"})
    store.delete("main")
    assert store.list() == {}
    with pytest.raises(DefinitionNotFound):
        store.delete("main")


def test_what_was_deleted_is_told_apart_from_what_was_never_there(store: DefinitionStore) -> None:
    store.save("main", {"server": "h"})
    store.delete("main")
    with pytest.raises(DefinitionDeleted):
        store.get("main")
    with pytest.raises(DefinitionNotFound) as caught:
        store.get("other")
    assert not isinstance(caught.value, DefinitionDeleted)


def test_a_definition_that_is_saved_again_can_be_deleted_again(store: DefinitionStore) -> None:
    for _ in range(2):
        store.save("main", {"server": "h"})
        assert store.get("main")["server"] == "h"
        store.delete("main")
        with pytest.raises(DefinitionDeleted):
            store.get("main")


def test_so_many_deletions_are_remembered_the_newest(store: DefinitionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_DELETED", 3)
    times = iter(range(100))
    monkeypatch.setattr("pijobs.base.clock.time", lambda: next(times))
    for name in "abcde":
        store.save(name, {"server": "h"})
        store.delete(name)
    raised: dict[str, type] = {}
    for name in "abcde":
        with pytest.raises(DefinitionNotFound) as caught:
            store.get(name)
        raised[name] = caught.type
    assert [name for name, kind in raised.items() if kind is DefinitionDeleted] == ["c", "d", "e"]


def test_a_database_of_0_1_0_is_read_and_written(tmp_path: Path) -> None:
    database = Database.of(settings_in(tmp_path))
    database.ensure(tables.metadata)
    with database.begin() as connection:
        row = {"kind": "smtpserver", "identifier": "main", "content": '{"server": "h"}', "secrets": "{}"}
        connection.execute(tables.table.insert().values(**row))
    store = SERVERS.open(settings_in(tmp_path))
    assert store.get("main")["server"] == "h"
    with pytest.raises(DefinitionNotFound):
        store.get("other")
    store.delete("main")
    with pytest.raises(DefinitionDeleted):
        store.get("main")


# -- which database ------------------------------------------------------------------------------------------------


def fingerprint(directory: Path, *, make: bool = False) -> str | None:
    """As a process sees it that has just begun."""
    return records.Fingerprint(settings_in(directory)).read(make=make)


def test_two_databases_have_two_fingerprints_and_two_processes_one(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        SERVERS.open(settings_in(tmp_path / folder)).save("main", {"server": "h"})
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "a")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_a_copy_of_a_file_is_another_database(tmp_path: Path) -> None:
    SERVERS.open(settings_in(tmp_path)).save("main", {"server": "h"})
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "pijobs.sqlite", tmp_path / "copy")
    assert fingerprint(tmp_path) != fingerprint(tmp_path / "copy")


def test_a_look_at_the_fingerprint_makes_nothing(tmp_path: Path) -> None:
    assert fingerprint(tmp_path) == fingerprint(tmp_path, make=True) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_worker_gives_the_database_of_an_older_release_its_id(tmp_path: Path) -> None:
    Database.of(settings_in(tmp_path)).ensure(tables.metadata)
    assert fingerprint(tmp_path) is None
    assert fingerprint(tmp_path, make=True) == fingerprint(tmp_path) != ""


def test_a_database_that_does_not_answer_has_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "pijobs.sqlite").write_bytes(b"this is no database, but long enough to be taken for one" * 100)
    assert fingerprint(tmp_path) is None


@pytest.mark.parametrize("url", ["nodatabase://host/x", "oracle+cx_oracle://host/x"])
def test_a_database_that_can_not_be_used_has_no_fingerprint(tmp_path: Path, url: str) -> None:
    found = records.Fingerprint(settings_in(tmp_path, url=url))
    assert (found.read(make=True), dict(found.key_ids())) == (None, {})
    assert "SQLALCHEMY_DATABASE_URI" in found.place or "oracle" in found.place


def test_kinds_do_not_meet(tmp_path: Path, store: DefinitionStore) -> None:
    gateways = Definitions("smsgateway", [Field("url", required=True)]).open(settings_in(tmp_path))
    store.save("main", {"server": "h"})
    gateways.save("main", {"url": "https://example.com"})
    gateways.delete("main")
    assert list(store.list()) == ["main"]


def test_identifiers_that_differ_by_case_are_two(store: DefinitionStore) -> None:
    store.save("main", {"server": "a"})
    store.save("Main", {"server": "b"})
    assert {name: definition["server"] for name, definition in store.list().items()} == {"main": "a", "Main": "b"}


def test_a_field_with_choices_takes_no_other_text() -> None:
    field = Field("method", default="GET", choices=("GET", "POST"))
    assert field.fault("POST") is None
    assert field.fault("STEAL") == "expected GET or POST, found 'STEAL'"
    secret = Field("secret", secret=True, choices=("one", "two"))
    assert "hunter2" not in str(secret.fault("hunter2"))


@pytest.mark.parametrize("identifier", ["", " main", "a/b", "a\nb", "x" * 101, "a\0b", ".", ".."])
def test_an_identifier_that_can_not_stand_in_an_address_is_refused(identifier: str, store: DefinitionStore) -> None:
    with pytest.raises(DefinitionError, match="identifier: expected"):
        store.save(identifier, {"server": "h"})
    with pytest.raises(DefinitionNotFound):
        store.get(identifier)
    with pytest.raises(DefinitionNotFound):
        store.delete(identifier)


def test_a_field_that_a_later_version_adds_has_its_default(tmp_path: Path, store: DefinitionStore) -> None:
    store.save("main", {"server": "h"})
    later = Definitions("smtpserver", [*FIELDS, Field("ehlo", default="me")]).open(settings_in(tmp_path))
    assert later.get("main")["ehlo"] == "me"


def test_a_field_that_becomes_secret_keeps_its_value(tmp_path: Path) -> None:
    Definitions("smtpserver", [Field("token")]).open(settings_in(tmp_path)).save("main", {"token": "hunter2"})
    later = Definitions("smtpserver", [Field("token", secret=True)]).open(settings_in(tmp_path))
    later.save("main", {})
    assert later.get("main")["token"] == "hunter2"
    assert list(stored_secrets(tmp_path)["main"]) == ["token"]


# -- validation ----------------------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once(store: DefinitionStore) -> None:
    values = {"port": 0, "timeout": "soon", "tls": "maybe", "sever": "h", "password": CENSORED, "pin": "x"}
    with pytest.raises(DefinitionError) as caught:
        store.save("a/b", values)
    told = {fault.partition(":")[0]: fault for fault in caught.value.faults}
    assert told.keys() == {"identifier", "server", *values}
    assert told["sever"].endswith("did you mean server?")
    assert told["port"] == "port: expected a port from 1 to 65535, found 0"
    assert told["timeout"] == "timeout: expected a number, found 'soon'"
    assert all(fault in str(caught.value) for fault in caught.value.faults)


def test_what_was_refused_is_not_stored(store: DefinitionStore) -> None:
    store.save("main", {"server": "h"})
    with pytest.raises(DefinitionError):
        store.save("main", {"server": "other", "port": 0})
    assert store.get("main")["server"] == "h"


def test_a_fault_does_not_quote_a_secret(store: DefinitionStore) -> None:
    with pytest.raises(DefinitionError) as caught:
        store.check({"server": "h", "password": "hunter 2", "pin": "hunter2"})
    assert caught.value.faults == (
        "password: expected no space, found something else",
        "pin: expected a whole number, found a value of type str",
    )


def test_a_fault_does_not_quote_the_password_of_a_url(store: DefinitionStore) -> None:
    with pytest.raises(DefinitionError) as caught:
        store.check({"server": "h", "port": "smtp://u:hunter2@h"})
    assert "hunter2" not in str(caught.value)


def test_a_check_that_trips_over_a_value_has_refused_it(tmp_path: Path) -> None:
    field = Field("ratio", float, check=lambda value: f"expected one, found {1 / value}")
    with pytest.raises(DefinitionError, match=r"ratio: expected a value that can be used, found 0\.0"):
        Definitions("thing", [field]).open(settings_in(tmp_path)).check({"ratio": 0})


@pytest.mark.parametrize("value", ["", None])
def test_a_required_field_is_not_empty(value: str | None, store: DefinitionStore) -> None:
    with pytest.raises(DefinitionError, match="server: expected a text, found none"):
        store.check({"server": value})


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        *[("tls", given, True) for given in (True, 1, "1", "true", "True", "TRUE", "on", "yes")],
        *[("tls", given, False) for given in (False, 0, "0", "false", "off", "no", "")],
        *[("port", given, 587) for given in (587, "587", " 587 ", 587.0)],
        *[("timeout", given, 5.0) for given in (5, 5.0, "5", "5.", "5.0", "50e-1")],
        ("timeout", "", 10.0),
        ("pin", "0042", 42),
        ("enqueue_job", "true", True),
        ("description", " as it is ", " as it is "),
        ("description", "\0 and \ud800", "\0 and \ud800"),
    ],
)
def test_what_forms_and_json_clients_send_is_converted(
    name: str, given: Any, value: Any, store: DefinitionStore
) -> None:
    store.save("main", {"server": "h", name: given})
    assert store.get("main")[name] == store.check({"server": "h", name: given})[name] == value
    assert type(store.get("main")[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("tls", value) for value in (2, "2", "maybe", 1.0, ["true"], {"true": True})],
        *[("port", value) for value in (True, 2.5, "2.5", "0x10", "1_000", "٢٥", "9" * 5000, [25])],
        *[("timeout", value) for value in (True, "nan", "inf", float("nan"), float("inf"), 10**400, "1e999", [1])],
        *[("server", value) for value in (1, True, b"h", ["h"])],
    ],
)
def test_what_is_of_another_kind_is_refused(name: str, value: Any, store: DefinitionStore) -> None:
    with pytest.raises(DefinitionError, match=f"^{name}: expected .*, found ") as caught:
        store.check({"server": "h", name: value})
    assert len(str(caught.value)) < 200


def test_a_checked_definition_is_complete_and_not_stored(store: DefinitionStore) -> None:
    assert store.check({"server": "h"}) == {"server": "h", **DEFAULTS}
    assert store.list() == {}


def test_what_was_listed_can_be_saved_again(store: DefinitionStore) -> None:
    store.save("main", {"server": "h", "password": "hunter2"})
    before = store.get("main")
    store.save("main", store.censored(store.list()["main"]))
    assert store.get("main") == before


def test_a_definition_can_not_be_renamed_by_its_values(store: DefinitionStore) -> None:
    with pytest.raises(DefinitionError, match="identifier: expected 'main'"):
        store.save("main", {"identifier": "other", "server": "h"})


@pytest.mark.parametrize(
    "fields",
    [
        [Field("a"), Field("a")],
        [Field("enqueue_job", bool)],
        [Field("identifier")],
    ],
)
def test_names_of_fields_are_there_once(fields: list[Field]) -> None:
    with pytest.raises(ValueError, match="twice, or a reserved one"):
        Definitions("thing", fields)


def test_a_field_has_a_kind_that_is_known() -> None:
    with pytest.raises(ValueError, match="expected str, int, bool, float, dict or Url"):
        Field("a", list)


# -- secrets -------------------------------------------------------------------------------------------------------


def test_people_see_that_there_is_a_secret_and_not_which(store: DefinitionStore) -> None:
    store.save("main", {"server": "h", "password": "hunter2", "pin": 0})
    shown = store.censored(store.get("main"))
    assert shown == {**store.get("main"), "password": CENSORED, "pin": CENSORED}


def test_people_see_that_there_is_no_secret(store: DefinitionStore) -> None:
    store.save("main", {"server": "h"})
    assert store.censored(store.get("main")) == store.get("main")


def test_a_censored_secret_keeps_the_stored_one(store: DefinitionStore) -> None:
    store.save("main", {"server": "h", "password": "hunter2"})
    store.save("main", {"server": "other", "password": CENSORED})
    assert (store.get("main")["server"], store.get("main")["password"]) == ("other", "hunter2")


def test_no_secret_lies_in_the_files(tmp_path: Path, store: DefinitionStore) -> None:
    store.save("main", {"server": "findable", "password": "hunter2hunter2"})
    with Database.of(settings_in(tmp_path)).begin():  # so that the log of changes is still there
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"findable" in content
    for form in (b"hunter2", b"hunter2".hex().encode(), base64.b64encode(b"hunter2hunter2")[:16]):
        assert form not in content


def test_equal_secrets_do_not_look_equal(tmp_path: Path, store: DefinitionStore) -> None:
    for identifier in ("one", "two"):
        store.save(identifier, {"server": "h", "password": "hunter2"})
    secrets = stored_secrets(tmp_path)
    assert secrets["one"]["password"] != secrets["two"]["password"]


def test_a_secret_can_not_be_moved_to_another_definition(tmp_path: Path, store: DefinitionStore) -> None:
    store.save("mine", {"server": "h", "password": "hunter2"})
    store.save("evil", {"server": "evil.example.com"})
    overwrite(tmp_path, "evil", secrets=json.dumps(stored_secrets(tmp_path)["mine"]))
    with pytest.raises(DefinitionUnreadable, match="smtpserver 'evil', password: damaged"):
        store.get("evil")


def test_a_secret_is_read_by_an_older_key_and_saved_by_the_newest(tmp_path: Path) -> None:
    SERVERS.open(settings_in(tmp_path, OLD)).save("main", {"server": "h", "password": "hunter2", "pin": 7})
    old_ids = {key_id for key_id, _ in stored_secrets(tmp_path)["main"].values()}
    rotated = SERVERS.open(settings_in(tmp_path, NEW, OLD))
    assert rotated.get("main")["password"] == "hunter2"
    rotated.save("main", {"password": CENSORED})
    new_ids = {key_id for key_id, _ in stored_secrets(tmp_path)["main"].values()}
    assert len(old_ids) == len(new_ids) == 1
    assert old_ids != new_ids
    after = SERVERS.open(settings_in(tmp_path, NEW)).get("main")
    assert (after["password"], after["pin"]) == ("hunter2", 7)


@pytest.fixture
def keyless(tmp_path: Path) -> DefinitionStore:
    """A store whose definition ``lost`` has a password by a key that is gone, and ``fine`` has not."""
    SERVERS.open(settings_in(tmp_path, OLD)).save("lost", {"server": "h", "password": "hunter2"})
    store = SERVERS.open(settings_in(tmp_path, NEW))
    store.save("fine", {"server": "h", "password": "hunter3"})
    return store


def test_a_secret_whose_key_is_gone_is_told_by_definition_and_field(keyless: DefinitionStore) -> None:
    told = "smtpserver 'lost', password: it was encrypted with key .* add the old key to PI_JOB_QUEUE_KEYS"
    with pytest.raises(DefinitionUnreadable, match=told):
        keyless.get("lost")


def test_a_secret_whose_key_is_gone_does_not_hide_the_other_definitions(keyless: DefinitionStore) -> None:
    listed = keyless.list()
    assert listed["fine"]["password"] == "hunter3"
    assert "unreadable" not in listed["fine"]
    assert listed["lost"]["password"] is None
    assert "encrypted with key" in listed["lost"]["unreadable"]["password"]
    assert keyless.censored(listed["lost"])["password"] == CENSORED


@pytest.mark.parametrize("values", [{"port": 26}, {"password": CENSORED}])
def test_a_secret_whose_key_is_gone_is_not_dropped_silently(values: dict[str, Any], keyless: DefinitionStore) -> None:
    with pytest.raises(DefinitionError, match="password: expected it anew, since the stored one can't be read"):
        keyless.save("lost", values)


def test_a_secret_whose_key_is_gone_can_be_saved_anew(keyless: DefinitionStore) -> None:
    keyless.save("lost", {**keyless.censored(keyless.list()["lost"]), "password": "hunter4"})
    assert keyless.get("lost")["password"] == "hunter4"


def test_a_definition_whose_key_is_gone_can_be_deleted(keyless: DefinitionStore) -> None:
    keyless.delete("lost")
    assert list(keyless.list()) == ["fine"]


@pytest.mark.parametrize("reads", ["list", "get"])
def test_what_an_older_release_left_in_clear_is_encrypted_when_it_is_read(
    reads: str, tmp_path: Path, store: DefinitionStore
) -> None:
    store.save("old", {"server": "h"})
    overwrite(tmp_path, "old", content='{"server": "h", "password": "hunter2", "of_a_later_release": 1}')
    with looking():
        assert store.list()["old"]["password"] == "hunter2"
    assert b"hunter2" in (tmp_path / "pijobs.sqlite").read_bytes()
    read = store.get("old") if reads == "get" else store.list()["old"]
    assert read["password"] == store.get("old")["password"] == "hunter2"
    with Database.of(settings_in(tmp_path)).read() as connection:
        row = connection.execute(table.select()).one()
    assert (
        "hunter2" not in row.content
        and "of_a_later_release" in row.content
        and list(json.loads(row.secrets)) == ["password"]
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"secrets": '{"password": ["0", "!"]}'},
        {"secrets": '{"password": 1}'},
        {"secrets": "nonsense"},
        {"content": "[]"},
    ],
)
def test_a_damaged_definition_does_not_hide_the_others(
    columns: dict[str, str], tmp_path: Path, store: DefinitionStore
) -> None:
    store.save("bad", {"server": "h"})
    store.save("good", {"server": "h"})
    overwrite(tmp_path, "bad", **columns)
    listed = store.list()
    assert "unreadable" in listed["bad"]
    assert listed["good"]["server"] == "h"
    with pytest.raises(DefinitionUnreadable, match=r"smtpserver 'bad', .*damaged"):
        store.get("bad")


# -- several processes, all databases ------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pijobs.sqlite"
    return str(request.getfixturevalue(f"{request.param}_url"))


SAVE = """
import sys
from pathlib import Path
from pijobs.definitions import Definitions, Field
from pijobs.settings import CORE_SETTINGS, validate
url, kind, field, directory = sys.argv[1:]
settings = validate({"SECRET_KEY": "x" * 32, "SQLALCHEMY_DATABASE_URI": url}, CORE_SETTINGS, directory=Path(directory))
store = Definitions(kind, [Field("a", int), Field("b", int, secret=True), Field("c", int)]).open(settings)
print("ready", flush=True)
sys.stdin.read()
for number in range(20):
    store.save("main", {field: number})
"""


def test_processes_that_save_at_once_lose_nothing_of_each_other(url: str, tmp_path: Path) -> None:
    kind = f"test_{uuid.uuid4().hex}"
    run_at_once(*([SAVE, url, kind, field, str(tmp_path)] for field in "abc"))
    settings = validate({"SECRET_KEY": "x" * 32, "SQLALCHEMY_DATABASE_URI": url}, CORE_SETTINGS, directory=tmp_path)
    store = Definitions(kind, [Field("a", int), Field("b", int, secret=True), Field("c", int)]).open(settings)
    saved = store.get("main")
    assert (saved["a"], saved["b"], saved["c"]) == (19, 19, 19)
    store.delete("main")
    Database.of(settings).close()


def test_what_one_worker_did_all_workers_of_the_queue_know(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "clock", ManualClock())
    database, queue = Database(url, tmp_path), f"test_{uuid.uuid4().hex}"
    one, other = (Done(Ledger(database, queue)) for _ in range(2))
    one.add("early")
    one.tell()
    if url.startswith("sqlite"):
        assert not list(tmp_path.iterdir())  # the server makes the file, which is its own
        (tmp_path / "pijobs.sqlite").touch()
        one.tell(last=True)
    one.add("second")
    one.tell()  # within a second of the first time; the clock stands still
    assert other.has("early", 9) and not other.has("second", 9)
    assert not Done(Ledger(database, f"{queue}_other")).has("early", 9)
    one.tell(last=True)
    late = Done(Ledger(database, queue), most=2)
    assert not late.has("second", 0.5)  # what is so new is not asked for
    assert late.has("second", 9) and late.has("early", 9)
    for number in range(9000):
        one.add(str(number))
    one.tell(last=True)
    assert Done(Ledger(database, queue)).has("8999", 9) and len(Done(Ledger(database, queue), most=5)) == 0
    database.close()


def test_what_was_done_takes_no_more_room_than_is_read_whoever_else_numbers_rows(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(done, "MARKS", 10)
    monkeypatch.setattr(done, "_PRUNE_EVERY", 3)
    database = Database.of(settings_in(tmp_path, url=url))
    (tmp_path / "pijobs.sqlite").touch()
    names = [f"test_{uuid.uuid4().hex}" for _ in range(2)]
    ledgers = [Ledger(database, name) for name in names]
    for number in range(30):
        for ledger in ledgers:  # each has every other number
            assert ledger.append([number, number + 1000])
    with database.read() as connection:
        for name in names:
            rows = connection.execute(done.table.select().where(done.table.c.queue == name)).all()
            assert 5 <= len(rows) <= 8
    assert Ledger(database, names[0]).new(10)[-2:] == [29, 1029]
    database.close()


def test_a_database_that_begins_again_is_read_again(tmp_path: Path) -> None:
    database = Database.of(settings_in(tmp_path))
    (tmp_path / "pijobs.sqlite").touch()
    one, other = Ledger(database, "q"), Ledger(database, "q")
    for number in range(200):
        one.append([number])
    assert other.new(500)[-1] == 199
    database.run(lambda connection: connection.execute(done.table.delete()))  # as of a backup
    assert other.new(500) == []
    one.append([7])
    assert other.new(500) == [7]


def test_who_asks_what_was_done_does_not_wait_for_who_tells() -> None:
    class Slow:
        most_in_row = 10

        def append(self, marks: Sequence[int]) -> bool:
            assert known.has("another", 9) is False  # in another thread it would wait for ever
            return True

        def new(self, most: int) -> list[int]:
            return []

    known = Done(Slow())  # type: ignore[arg-type]
    known.add("one")
    known.tell()


def test_a_database_that_is_away_keeps_no_worker_from_its_work(caplog: pytest.LogCaptureFixture) -> None:
    known = Done(Ledger(Database("postgresql+psycopg://u:hunter2@127.0.0.1:1/x", Path()), "queue"))
    for name in ("one", "two"):
        known.add(name)
        known.tell(last=True)
    assert known.has("one", 9) and not known.has("other", 9)
    assert caplog.text.count("only this process knows which jobs were done before") == 1
    assert "hunter2" not in caplog.text


def test_every_database_keeps_a_definition_as_it_is(url: str, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, url=url)
    store = Definitions(f"test_{uuid.uuid4().hex}", FIELDS).open(settings)
    values = {"server": "Straße €😀\0", "password": "pässwörd😀" * 1000, "timeout": 0.1, "pin": 10**17}
    for identifier in ("main", "MAIN", "größe"):
        store.save(identifier, values)
    assert {name: store.get("größe")[name] for name in values} == values
    assert set(store.list()) == {"main", "MAIN", "größe"}
    for identifier in store.list():
        store.delete(identifier)
    Database.of(settings).close()


# -- variants, and fields of names with texts --------------------------------------------------------------------------


@pytest.fixture
def gateways(tmp_path: Path) -> DefinitionStore:
    return GATEWAYS.open(settings_in(tmp_path))


def test_the_choice_decides_which_fields_a_definition_has(gateways: DefinitionStore) -> None:
    gateways.save("web", {"url": "http://localhost", "key": "hunter2"})
    gateways.save("mail", {"provider": "smtp", "server": "main", "key": "open"})
    web, mail = gateways.get("web"), gateways.get("mail")
    assert (web["provider"], web["url"], "server" in web) == ("http", "http://localhost", False)
    assert (mail["server"], "url" in mail) == ("main", False)
    assert (gateways.censored(web)["key"], gateways.censored(mail)["key"]) == (CENSORED, "open")


def test_what_is_secret_in_one_variant_only_is_encrypted_there(gateways: DefinitionStore, tmp_path: Path) -> None:
    gateways.save("web", {"url": "http://localhost", "key": "hunter2"})
    gateways.save("mail", {"provider": "smtp", "server": "main", "key": "open"})
    assert {name: list(secrets) for name, secrets in stored_secrets(tmp_path).items()} == {"web": ["key"], "mail": []}


def test_a_field_of_another_variant_is_unknown(gateways: DefinitionStore) -> None:
    with pytest.raises(DefinitionError, match="url: expected a field of smsgateway, found an unknown name"):
        gateways.save("mail", {"provider": "smtp", "server": "main", "url": "http://localhost"})


@pytest.mark.parametrize("provider", ["pigeon", 17])
def test_an_unknown_variant_is_refused(gateways: DefinitionStore, provider: object) -> None:
    with pytest.raises(DefinitionError, match="provider: expected http or smtp, found"):
        gateways.save("x", {"provider": provider, "wings": 2})


def test_a_variant_is_kept_when_something_else_is_changed(gateways: DefinitionStore) -> None:
    gateways.save("mail", {"provider": "smtp", "server": "main"})
    gateways.save("mail", {"server": "other"})
    assert (gateways.get("mail")["provider"], gateways.get("mail")["server"]) == ("smtp", "other")


def test_a_definition_whose_variant_is_not_loaded_is_told_and_keeps_its_secrets(
    gateways: DefinitionStore, tmp_path: Path
) -> None:
    gateways.save("web", {"url": "http://localhost", "key": "hunter2"})
    fewer = Definitions("smsgateway", [Field("provider", default="smtp")], choice="provider", variants={"smtp": []})
    listed = fewer.open(settings_in(tmp_path)).list()["web"]
    assert listed["provider"] == "http" and "expected smtp, found http" in listed["unreadable"]["provider"]
    assert fewer.open(settings_in(tmp_path)).censored(listed)["provider"] == "http"
    with pytest.raises(DefinitionUnreadable, match="'pijobs plugins' tells which"):
        fewer.open(settings_in(tmp_path)).get("web")
    assert gateways.get("web")["key"] == "hunter2"


@pytest.mark.parametrize(
    "given", [{"X-To": "{phone}", "n": 1, "yes": True}, '{"X-To": "{phone}", "n": 1, "yes": true}']
)
def test_names_with_texts_come_as_an_object_or_as_json(gateways: DefinitionStore, given: object) -> None:
    gateways.save("web", {"url": "http://localhost", "headers": given})
    assert gateways.get("web")["headers"] == {"X-To": "{phone}", "n": "1", "yes": "true"}


@pytest.mark.parametrize("given", ["no json", "[1]", {"a": {"b": 1}}, ["a"], 5])
def test_what_is_no_names_with_texts_is_refused(gateways: DefinitionStore, given: object) -> None:
    with pytest.raises(DefinitionError, match="headers: expected a JSON object of names and texts, found"):
        gateways.save("web", {"url": "http://localhost", "headers": given})


# -- a secret belongs to its place -------------------------------------------------------------------------------------


PLACED = Definitions(
    "placed",
    [
        Field("host", required=True), Field("tls", bool, default=False), Field("note", default=""),
        Field("password", secret=True, belongs_to=("host", "tls")), Field("pin", secret=True),
    ],
)  # fmt: skip


@pytest.mark.parametrize("kept", [{}, {"password": CENSORED}, {"password": None}])
@pytest.mark.parametrize("change", [{"host": "evil.example.net"}, {"tls": "1"}, {"host": "evil", "tls": True}])
def test_a_secret_is_asked_for_anew_when_its_place_changes(
    tmp_path: Path, kept: dict[str, Any], change: dict[str, Any]
) -> None:
    store = PLACED.open(settings_in(tmp_path))
    store.save("main", {"host": "a.example.com", "password": "hunter2", "pin": "4711"})
    for attempt in (
        lambda: store.save("main", {**kept, **change}),
        lambda: store.check({**kept, **change}, store.get("main")),
    ):
        with pytest.raises(
            DefinitionError, match=r"^password: expected the password anew, since (host|tls).* changed$"
        ):
            attempt()
    store.save("main", {**change, "password": "another"})
    assert (store.get("main")["password"], store.get("main")["pin"]) == ("another", "4711")


def test_what_leads_nowhere_else_keeps_the_secret(tmp_path: Path) -> None:
    store = PLACED.open(settings_in(tmp_path))
    store.save("main", {"host": "a.example.com", "password": "hunter2"})
    store.save("main", {"host": "a.example.com", "tls": "0", "note": "x", "password": CENSORED})
    assert store.get("main")["password"] == "hunter2"
    store.save("open", {"host": "a.example.com"})
    store.save("open", {"host": "b.example.com"})  # there is no secret to be led away
