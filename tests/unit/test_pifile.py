"""``pi.cfg`` is found, and its faults are told with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pijobs.errors import ConfigurationError
from pijobs.settings import CONFIG_VARIABLE, config_warnings, find_config, pifile, read_config


@pytest.fixture
def pi_cfg(tmp_path: Path) -> Path:
    return tmp_path / "pi.cfg"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_config(path)
    return str(caught.value)


def test_upper_case_names_are_the_settings(pi_cfg: Path) -> None:
    pi_cfg.write_text("import os\nhalf = 5\nPI_JOB_QUEUE_LEASE = half * 2\nPI_PLACE = os.path.dirname(__file__)\n")
    assert read_config(pi_cfg) == {"PI_JOB_QUEUE_LEASE": 10, "PI_PLACE": str(pi_cfg.parent)}


def test_below_the_file_stands_what_privacyidea_takes_from_the_environment(pi_cfg: Path) -> None:
    pi_cfg.write_text("PI_JOB_QUEUE_NAME = 'written'\n")
    environ = {
        "SECRET_KEY": "one", "PRIVACYIDEA_SECRET_KEY": "another", "PRIVACYIDEA_PI_JOB_QUEUE_NAME": "given",
        "PRIVACYIDEA_PI_JOB_QUEUE_LEASE": "5", "PRIVACYIDEA_PI_JOB_QUEUE_URL": "sqlite://", CONFIG_VARIABLE: "x",
    }  # fmt: skip
    assert read_config(pi_cfg, environ) == {
        "SECRET_KEY": "another", "PI_JOB_QUEUE_NAME": "written", "PI_JOB_QUEUE_LEASE": 5,
        "PI_JOB_QUEUE_URL": "sqlite://",
    }  # fmt: skip
    assert read_config(pi_cfg, {"SECRET_KEY": "one"})["SECRET_KEY"] == "one"


def test_a_missing_file_is_told(pi_cfg: Path) -> None:
    assert refusal(pi_cfg) == f"{pi_cfg}: expected a readable file, found: No such file or directory"


def test_a_folder_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: expected a readable file, found: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_told(pi_cfg: Path) -> None:
    pi_cfg.write_text("")
    pi_cfg.chmod(0)
    assert refusal(pi_cfg) == f"{pi_cfg}: expected a readable file, found: Permission denied"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (b"A = 1\nB = = 2\n", 2),
        (b"A = 'not closed\n", 1),
        (b"A = 1\n\x00\n", 1),
        (b"A = 1\n\nB = '\xff'\n", None),
        (b"[section]\nkey: value of an INI file\n", 2),
    ],
)
def test_what_is_not_python_is_told_with_its_line(pi_cfg: Path, source: bytes, line: int | None) -> None:
    pi_cfg.write_bytes(source)
    told = refusal(pi_cfg)
    assert told.startswith(f"{pi_cfg}:{line}:" if line else f"{pi_cfg}:") and "expected Python" in told
    assert ":None:" not in told and ":0:" not in told


@pytest.mark.parametrize(
    ("source", "line", "error"),
    [
        ("A = 1\nB = UNKNOWN\n", 2, "NameError"),
        ("def f():\n    raise ValueError('s3cr3t')\n\n\nf()\n", 2, "ValueError"),
        ("import json\nA = json.loads('s3cr3t')\n", 2, "JSONDecodeError"),
        ("\n\nraise SystemExit('s3cr3t')\n", 3, "SystemExit"),
        ("\neval('s3cr3t s3cr3t')\n", 2, "SyntaxError"),
    ],
)
def test_what_raises_is_told_with_its_line_and_without_its_message(
    pi_cfg: Path, source: str, line: int, error: str
) -> None:
    pi_cfg.write_text(source)
    assert refusal(pi_cfg) == f"{pi_cfg}:{line}: expected settings, found code that raises {error}"


def test_readable_by_all_warns(pi_cfg: Path) -> None:
    pi_cfg.write_text("")
    pi_cfg.chmod(0o644)
    ((message, advice),) = config_warnings(pi_cfg)
    assert str(pi_cfg) in message and "0644" in message and "chmod" in advice
    pi_cfg.chmod(0o640)
    assert config_warnings(pi_cfg) == []


def test_the_option_wins_over_the_variable(tmp_path: Path) -> None:
    environ = {CONFIG_VARIABLE: str(tmp_path / "other.cfg")}
    assert find_config(tmp_path / "mine.cfg", environ) == tmp_path / "mine.cfg"
    assert find_config(None, environ) == tmp_path / "other.cfg"


def test_the_default_places_are_looked_at_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = (tmp_path / "etc.cfg", tmp_path / "here.cfg")
    monkeypatch.setattr(pifile, "_DEFAULT_PLACES", places)
    with pytest.raises(ConfigurationError) as caught:
        find_config(None, {})
    assert all(name in str(caught.value) for name in (str(places[0]), str(places[1]), "--config", CONFIG_VARIABLE))
    places[1].write_text("")
    assert find_config(None, {CONFIG_VARIABLE: ""}) == places[1]
    places[0].write_text("")
    assert find_config(None, {}) == places[0]
