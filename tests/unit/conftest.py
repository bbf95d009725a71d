"""What the unit tests of the core share: settings, a clock that stands still, and plugins on a path of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pijobs.cli.main import main
from pijobs.settings import CORE_SETTINGS, Settings, validate
from pijobs.storage.memory import MemoryStorage
from pijobs.testing.clock import ManualClock

PLUGINS = Path(__file__).parents[1] / "plugins"

AddModule = Callable[[str, str], str]
Install = Callable[..., None]
Pijobs = Callable[..., tuple[int, str, str]]


@pytest.fixture
def core_settings(tmp_path: Path) -> Settings:
    """Core settings with a secret key and nothing else."""
    return validate({"SECRET_KEY": "correct horse battery staple"}, CORE_SETTINGS, directory=tmp_path)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def memory(clock: ManualClock) -> MemoryStorage:
    return MemoryStorage(clock=clock)


@pytest.fixture
def broken_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``broken.good`` and its faulty neighbours can be named in ``PI_JOB_QUEUE_PLUGINS``."""
    monkeypatch.syspath_prepend(PLUGINS)
    yield
    _forget("broken")


@pytest.fixture
def add_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddModule]:
    """Write a module that can be imported during this test; returns its name."""
    place = tmp_path / "modules"
    place.mkdir()
    monkeypatch.syspath_prepend(place)
    written: list[str] = []

    def write(name: str, source: str) -> str:
        (place / f"{name}.py").write_text(source, encoding="utf-8")
        written.append(name)
        return name

    yield write
    for name in written:
        _forget(name)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Announce entry points as an installed distribution does."""
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.syspath_prepend(place)

    def announce(distribution: str, version: str = "1.0", **plugins: str) -> None:
        folder = place / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {module}" for name, module in plugins.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[pijobs]", *lines, ""]))

    return announce


def _forget(name: str) -> None:
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


@pytest.fixture
def pijobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pijobs:
    """Run a command on a queue in an SQLite file; its exit code, and what it printed to both."""
    config = tmp_path / "pi.cfg"
    config.touch(0o600)
    config.write_text(
        "SECRET_KEY = 's3cr3t'\nPI_JOB_QUEUE_CLASS = 'pijobs.HueyQueue'\nPI_JOB_QUEUE_PLUGINS = []\n"
        f"PI_JOB_QUEUE_URL = 'sqlite:///{tmp_path}/queue.sqlite'\n"
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["--config", str(config), *arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    return run
