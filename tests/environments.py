"""Virtual environments that hold what distributions declare, and nothing else; made without an index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
#: Where the distributions of this repository are.
SOURCES = {"pijobs": ROOT, **{f"pijobs-{path.name}": path for path in (ROOT / "plugins").iterdir()}}


def make_environment(folder: Path, *distributions: str) -> Path:
    """An environment with these distributions of this repository, as pip would install them, and what they require.

    :returns: its ``python``.
    """
    python = bare_environment(folder, *distributions)
    for name in closure(distributions) & SOURCES.keys():
        _install(name, folder)
    return python


def bare_environment(folder: Path, *requirements: str) -> Path:
    """An environment with what these require, but nothing of this repository.

    :param requirements: with extras, if they are wanted: ``"pijobs[postgresql]"``.
    :returns: its ``python``.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    [packages] = (folder / "env").glob("lib/python*/site-packages")
    for name in closure(requirements) - SOURCES.keys():
        _link(metadata.distribution(name), packages)
    return folder / "env/bin/python"


def closure(requirements: Iterable[str]) -> set[str]:
    """The names of all distributions that these need, as what is installed here declares it."""
    todo, found = [Requirement(text) for text in requirements], dict[str, set[str]]()
    while todo:
        requirement = todo.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = {"", *requirement.extras}
        new = extras - found.get(name, set())
        found[name] = found.get(name, set()) | extras
        for each in map(Requirement, metadata.requires(name) or () if new else ()):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(each)
    return set(found)


def _link(distribution: metadata.Distribution, packages: Path) -> None:
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        target = packages / top
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(top))))


def _install(name: str, folder: Path) -> None:
    source = folder / "sources" / name
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "tests", "build")
    for part in ("src", "pyproject.toml", "README.md", "LICENSE"):
        if (SOURCES[name] / part).is_dir():
            shutil.copytree(SOURCES[name] / part, source / part, ignore=ignore)
        elif (SOURCES[name] / part).exists():
            shutil.copy(SOURCES[name] / part, source / part)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python"), "install", "--quiet"]
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*wheel, "--wheel-dir", str(folder / "wheels"), str(source)], check=True)
    [built] = (folder / "wheels").glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    subprocess.run([*pip, "--no-deps", "--no-index", str(built)], check=True)
