"""What ``make release`` asks for before it makes anything."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def release() -> ModuleType:
    return loaded("release")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"contrib/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_core_and_plugins_have_one_version(release: ModuleType) -> None:
    assert len(release.PROJECTS) == 6
    assert {release.version_of(project) for project in release.PROJECTS} == {release.version_of(ROOT)}


def test_a_tree_that_is_no_release_is_refused_with_each_reason(
    release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "pyproject.toml").write_text('version = "0.3.0.dev0"\n')
    (tmp_path / "plugin/pyproject.toml").write_text('version = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("\n## [Unreleased]\n")
    said = {"status": " M README.md\n", "tag": "v0.3.0.dev0\n"}
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "PROJECTS", [tmp_path, tmp_path / "plugin"])
    monkeypatch.setattr(release, "_git", lambda command, *_: said[command])
    one, number, section, clean, new = release.faults()
    assert "0.3.0.dev0" in one and "0.2.0 in" in one
    assert "such as 0.2.0, found 0.3.0.dev0" in number
    assert "[0.3.0.dev0] in CHANGELOG.md" in section
    assert "M README.md" in clean
    assert "the tag v0.3.0.dev0" in new


VULNERABLE = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
CLEAN = {"name": "c", "version": "3", "vulns": []}


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        ({"dependencies": [CLEAN]}, 0, "1 packages were audited, 0 known"),
        ({"dependencies": [CLEAN, VULNERABLE]}, 1, "a 1: CVE-1, mended in 2"),
        ({"dependencies": [CLEAN, SKIPPED]}, 2, "not audited, since its source of vulnerabilities"),
        (None, 2, "could not be reached, or knows other packages: no route to host"),
    ],
)
def test_an_audit_tells_what_nobody_looked_at(output: object, code: int, told: str) -> None:
    words, found = loaded("audit").judged("" if output is None else json.dumps(output), "Traceback\nno route to host\n")
    assert found == code and told in words
