"""Settings are checked all at once, and a secret is never told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pijobs.errors import SettingsError
from pijobs.settings import CORE_SETTINGS, MASK, PREFIX, Setting, Settings, validate
from pijobs.settings.setting import masked_repr
from pijobs.settings.table import cross_faults

MAIL_HELO = Setting(
    name="PI_JOB_QUEUE_MAIL_HELO", default=None, expected="a host name", accepts=lambda v: v.islower(), help=""
)


def faults(values: Mapping[str, Any], **more: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        validate(values, [*CORE_SETTINGS, MAIL_HELO], extra_faults=cross_faults(values), **more)
    assert str(caught.value).splitlines() == list(caught.value.faults)
    return caught.value.faults


def accepted(**values: Any) -> Settings:
    full = {PREFIX + name: value for name, value in values.items()}
    return validate(full, CORE_SETTINGS, extra_faults=cross_faults(full))


def test_nothing_written_gives_the_defaults() -> None:
    settings = validate({}, CORE_SETTINGS)
    assert settings.queue_class == "" and settings.lease == 10
    assert settings.fallback == ("spool", "direct")
    assert set(settings) == {setting.name for setting in CORE_SETTINGS}


def test_every_default_would_be_accepted() -> None:
    assert [fault for setting in CORE_SETTINGS if (fault := setting.fault(setting.default))] == []


def test_every_example_would_be_accepted() -> None:
    examples = {setting.name: setting.example for setting in CORE_SETTINGS if setting.example is not None}
    assert validate(examples, CORE_SETTINGS)


def test_ten_wrong_settings_give_ten_lines() -> None:
    wrong = {
        "PI_JOB_QUEUE_CLASS": "HueyQueue",
        "PI_JOB_QUEUE_URL": "http://localhost",
        "PI_JOB_QUEUE_NAME": "two words",
        "PI_JOB_QUEUE_IMMEDIATE": "yes",
        "PI_JOB_QUEUE_LEASE": 0,
        "PI_JOB_QUEUE_FALLBACK": ("spool", "redirect"),
        "PI_JOB_QUEUE_SPOOL": "spool.sqlite",
        "PI_JOB_QUEUE_KEYS": "not a list of keys",
        "PI_JOB_QUEUE_KEEP_FINISHED": 3600,
        "PI_JOB_QUEUE_FALBACK": (),
    }
    found = faults({**wrong, "SECRET_KEY": "x"})
    assert len(found) == 10
    assert [fault.split(":")[0] for fault in found] == list(wrong)
    assert all(": expected " in fault and ", found " in fault for fault in found)
    assert "found 'two words'" in found[2]
    assert "found a value of type str" in found[7] and "not a list of keys" not in found[7]
    assert "did you mean PI_JOB_QUEUE_FALLBACK?" in found[9]


@pytest.mark.parametrize(
    "value",
    [
        "redis://u:SEKRET@h:99999/x", ["SEKRET1", 5], "redis://:SEKRET#1@h:6379/0", "redis//:SEKRET@h:6379/0",
        "h:6379/SEKRET", b"SEKRET", {"SEKRET": 1, "password": "SEKRET", 1: ["SEKRET"]}, ("a", {"b": "SEKRET"}),
    ],
)  # fmt: skip
def test_no_text_of_a_wrong_value_is_told_that_may_be_a_secret(value: Any) -> None:
    wrong = [fault for setting in CORE_SETTINGS if (fault := setting.fault(value))]
    assert len(wrong) > 30
    assert not [fault for fault in wrong if "SEKRET" in fault.replace("{'SEKRET'", "")]


def test_numbers_and_names_of_a_wrong_value_are_told() -> None:
    (found,) = faults({"PI_JOB_QUEUE_JOBS": {"mail.send": {"max_attempts": 0, "priority": "high"}}, "SECRET_KEY": "x"})
    assert found.endswith("found {'mail.send': {'max_attempts': 0, 'priority': a text}}")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("CLASS", 5),
        ("CLASS", "pijobs."),
        ("URL", ""),
        ("URL", "localhost:6379"),
        ("URL", "redis://[broken"),
        ("PORT", "6379"),
        ("PORT", 65536),
        ("DB", -1),
        ("HOST", ""),
        ("NAME", "ä"),
        ("NAME", "x" * 65),
        ("LEASE", float("nan")),
        ("LEASE", True),
        ("ENQUEUE_TIMEOUT", 0),
        ("ENQUEUE_TIMEOUT", 31),
        ("FALLBACK", "spool"),
        ("WITHOUT_WORKER", "Direct"),
        ("KEYS", [""]),
        ("KEYS", [5]),
        ("PLUGINS", "mail"),
        ("PLUGINS", [""]),
        ("JOBS", {"mail.send": 5}),
        ("JOBS", {"mail.send": {"attempts": 5}}),
        ("JOBS", {"mail.send": {"max_attempts": 0}}),
        ("JOBS", {"mail.send": {"backoff": 0.5}}),
        ("JOBS", {"mail.send": {"jitter": 2}}),
        ("JOBS", {"mail.send": {"priority": 1001}}),
        ("JOBS", {"mail.send": {"expires": 0}}),
        ("JOBS", {5: {}}),
        ("KEEP_FINISHED", (0, 10)),
        ("KEEP_FINISHED", (10, 1.5)),
        ("KEEP_DEAD", float("inf")),
        ("READY_MAX_AGE", "60"),
        ("LOG_FORMAT", "JSON"),
    ],
)
def test_an_impossible_value_is_refused(name: str, wrong: Any) -> None:
    host = {"PI_JOB_QUEUE_HOST": "redis"} if name in ("PORT", "DB") else {}
    values = {PREFIX + name: wrong, "SECRET_KEY": "x", **host}
    (fault,) = faults(values)
    assert fault.startswith(f"{PREFIX}{name}: expected ")


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://:pw@host/1",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://a:1,b:2/service/0",
        "redis+cluster://a:1,b:2",
        "sqlite:////var/lib/queue.sqlite",
        "postgresql+psycopg://u:p@h/db",
        "mysql+pymysql://u:p@h/db",
    ],
)
def test_urls_of_every_storage_are_accepted(url: str) -> None:
    assert accepted(URL=url).storage_url == url


def test_a_name_far_from_all_others_gets_no_wrong_advice() -> None:
    (fault,) = faults({"PI_JOB_QUEUE_XYZZY": 1})
    assert "did you mean" not in fault and "pijobs config show" in fault


def test_names_of_somebody_else_are_left_alone() -> None:
    settings = validate({"PI_PEPPER": "x", "SUPERUSER_REALM": ["a"], "DEBUG": True}, CORE_SETTINGS)
    assert "PI_PEPPER" not in settings and settings.warnings == ()


def test_none_where_nothing_is_the_default_is_as_good_as_not_written() -> None:
    written = {"SECRET_KEY": None, "PI_JOB_QUEUE_HOST": None, "PI_JOB_QUEUE_URL": "redis://h/0"}
    assert validate(written, CORE_SETTINGS, extra_faults=cross_faults(written))["SECRET_KEY"] is None
    (fault,) = faults({"PI_JOB_QUEUE_URL": None})
    assert fault.endswith("found None")


def test_names_of_a_plugin_that_is_not_loaded_warn() -> None:
    settings = validate({"PI_JOB_QUEUE_SMS_X": 1}, CORE_SETTINGS, absent_prefixes=["PI_JOB_QUEUE_SMS_"])
    assert settings.warnings == ("PI_JOB_QUEUE_SMS_X: belongs to a plugin that is not loaded, ignored",)
    assert "PI_JOB_QUEUE_SMS_X" not in settings


def test_a_check_that_trips_over_the_value_has_refused_it() -> None:
    (fault,) = faults({MAIL_HELO.name: 5})
    assert fault == "PI_JOB_QUEUE_MAIL_HELO: expected a host name, found 5"


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PI_JOB_QUEUE_PASSWORD", "PI_JOB_QUEUE_KEYS", "SECRET_KEY"])
@pytest.mark.parametrize("value", [["s3cr3t", 5], {"s3cr3t": 1}, object])
def test_a_secret_is_not_told_in_a_fault(name: str, value: Any) -> None:
    told = "\n".join(faults({name: value, "PI_JOB_QUEUE_HOST": "redis"}))
    assert name in told and "s3cr3t" not in told


def test_a_secret_is_not_shown() -> None:
    secrets = {"PI_JOB_QUEUE_HOST": "h", "PI_JOB_QUEUE_PASSWORD": "s3cr3t", "SECRET_KEY": "s3cr3t"}
    settings = validate({**secrets, "PI_JOB_QUEUE_KEYS": ["s3cr3t"]}, CORE_SETTINGS)
    shown = settings.shown()
    assert shown["SECRET_KEY"] == shown["PI_JOB_QUEUE_PASSWORD"] == shown["PI_JOB_QUEUE_KEYS"] == MASK
    assert "s3cr3t" not in f"{shown} {settings!r} {settings}"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr3t@host/0",
        "redis://user:s3cr3t@host/0",
        "redis://:s3@cr3t@host/0",
        "redis://:s3/cr3t@host/0",
        "redis://:s3:cr3t@host/0",
        "redis://host/0?password=s3cr3t&db=1",
        "unix:///run/redis.sock?db=1&password=s3cr3t",
        "rediss://host/0?ssl_keyfile_password=s3cr3t",
        "redis+sentinel://user:s3cr3t@a:1,b:2/service/0",
        "mysql+pymysql://u:s3cr3t@h/db",
    ],
)
def test_of_a_url_the_password_is_hidden_and_the_host_is_shown(url: str) -> None:
    shown = masked_repr(url)
    assert "cr3t" not in shown and "s3" not in shown and MASK in shown
    assert "host" in shown or "redis.sock" in shown or "@a:1,b:2" in shown or "@h/db" in shown


def test_the_password_of_a_refused_url_is_hidden() -> None:
    (fault,) = faults({"PI_JOB_QUEUE_URL": "reddis://:s3cr3t@host/0"})
    assert "s3cr3t" not in fault and "reddis://" in fault


def test_a_password_in_a_refused_class_or_spool_is_hidden() -> None:
    (fault,) = faults({"PI_JOB_QUEUE_SPOOL": "sqlite://u:s3cr3t@x/y"})
    assert "s3cr3t" not in fault


# -- HOST or URL -----------------------------------------------------------------------------------------------------


def test_the_url_can_be_given_in_parts() -> None:
    parts = accepted(HOST="redis.example.com", PORT=6380, DB=2, PASSWORD="a/b@c:d")
    assert parts.storage_url == "redis://:a%2Fb%40c%3Ad@redis.example.com:6380/2"
    assert accepted(HOST="h").storage_url == "redis://h:6379/0"
    assert accepted(HOST="::1", DB=1).storage_url == "redis://[::1]:6379/1"


def test_host_and_url_together_are_refused() -> None:
    (fault,) = faults({"PI_JOB_QUEUE_HOST": "h", "PI_JOB_QUEUE_URL": "redis://h/0"})
    assert "PI_JOB_QUEUE_HOST" in fault and "found both" in fault


def test_parts_without_a_host_are_refused() -> None:
    (fault,) = faults({"PI_JOB_QUEUE_PASSWORD": "s3cr3t"})
    assert "together with PI_JOB_QUEUE_HOST" in fault and "s3cr3t" not in fault


def test_a_queue_needs_a_key() -> None:
    (fault,) = faults({"PI_JOB_QUEUE_CLASS": "pijobs.HueyQueue"})
    assert fault == "SECRET_KEY: expected a text (or PI_JOB_QUEUE_KEYS), found neither"
    assert accepted(CLASS="pijobs.HueyQueue", KEYS=["k"])


# -- the object ------------------------------------------------------------------------------------------------------


def test_a_resource_is_made_once(tmp_path: Path) -> None:
    settings = Settings({}, CORE_SETTINGS, directory=tmp_path)
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    assert settings.resource("x", make) is settings.resource("x", make)
    assert len(made) == 1 and settings.directory == tmp_path


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(TypeError):
        Settings({}, CORE_SETTINGS)["SECRET_KEY"] = "x"  # type: ignore[index]


@pytest.mark.parametrize("name", ["PI_JOB_QUEUE_URL", "SQLALCHEMY_DATABASE_URI"])
@pytest.mark.parametrize(
    "value",
    [
        "redis//:s3cr3t@h:6379/0", "postgresql//u:s3cr3t@h/db", "s3cr3t", ["s3cr3t", 5], b"redis://:s3cr3t@h", "http://s3cr3t@h",
        "redis:/:s3cr3t@h", "redis://u:p/s3cr3t@h:99999/x",
    ],
)  # fmt: skip
def test_a_url_that_is_none_is_not_printed(name: str, value: Any) -> None:
    setting = next(row for row in CORE_SETTINGS if row.name == name)
    assert "s3cr3t" not in (setting.fault(value) or "")


def test_a_mistyped_url_in_another_place_shows_no_password() -> None:
    assert masked_repr("redis//:s3cr3t@h") == f"'redis//:{MASK}@h'"
