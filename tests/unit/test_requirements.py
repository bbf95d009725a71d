"""What is installed, against what pijobs asks for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import pytest

from pijobs.base.requirements import unmet
from pijobs.cli.main import worker_main


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions by distribution; those that are not named are not there."""
    versions: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    return versions


def asked_for(monkeypatch: pytest.MonkeyPatch, requirements: Sequence[str]) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: list(requirements))


@pytest.mark.parametrize(
    ("version", "wanted", "met"),
    [
        ("3.4.0", ">=3.5,<3.6", False), ("3.5.4", "<3.6,>=3.5", True), ("3.6", ">=3.5,<3.6", False),
        ("3.5.0rc1", ">=3.5", True), ("1.4", ">=1.4", True), ("1.4.0", "==1.4", True), ("10.0", ">=9.1", True),
        ("2.0.53", ">=1.4", True), ("4.12.2", ">=4.14.0", False), ("2.1", "==2.*", True), ("2.1", "!=2.*", False),
        ("1.4.5", "~=1.4.2", True), ("1.5", "~=1.4.2", False), ("1.0", "", True), ("1.0", ">1.0", False),
        ("1.0", "<=1.0.0", True), ("1.0", "!=1.0", False),
    ],
)  # fmt: skip
def test_a_version_fits_or_not(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], version: str, wanted: str, met: bool
) -> None:
    installed["huey"] = version
    asked_for(monkeypatch, [f"huey{wanted}"])
    assert (unmet("pijobs") == []) is met


def test_each_that_does_not_fit_is_told_with_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]
) -> None:
    installed.update(huey="3.4.0", click="8.1")
    wanted = ["huey<3.6,>=3.5", "click>=8.1", "msgspec (>=0.18)", "redis[hiredis]>=5.0", 'pymysql>=1; extra == "mysql"']
    asked_for(monkeypatch, wanted)
    assert unmet("pijobs") == [
        "huey 3.4.0 is installed, pijobs needs <3.6,>=3.5: pip install 'huey<3.6,>=3.5'",
        "msgspec is not installed, pijobs needs >=0.18: pip install 'msgspec>=0.18'",
        "redis is not installed, pijobs needs >=5.0: pip install 'redis>=5.0'",
    ]


def test_of_what_is_not_installed_itself_nothing_is_asked() -> None:
    assert unmet("no-such-distribution") == []


def test_this_environment_is_sound() -> None:
    assert unmet("pijobs", "pijobs-mail", "pijobs-sms", "pijobs-statistics") == []


def test_the_worker_does_not_start_with_another_huey(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pijobs.cli.worker.unmet", lambda *names: ["huey 3.4.0 is installed, pijobs needs another"])
    with pytest.raises(SystemExit) as ended:
        worker_main([])
    assert ended.value.code == 2
    assert "privacyidea-queue-huey: huey 3.4.0 is installed" in capsys.readouterr().err
