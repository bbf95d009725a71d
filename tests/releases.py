"""The last release, to run beside the present one: built from its commit, as the wheels of that day were."""

from __future__ import annotations

import atexit
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from services import missing, program

ROOT = Path(__file__).parents[1]
#: The last release and its commit: a tag does not travel with every copy of the repository.
LAST, COMMIT = "0.1.0", "b05e4c2b55e059880eff263694341f3455dd1042"


@cache
def last_release() -> Path:
    """A folder for ``PYTHONPATH`` with the last release; what it needs is what the present one needs."""
    folder = Path(mkdtemp(prefix="pijobs-release-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archive = subprocess.run(
        [program("git"), "-C", str(ROOT), "archive", COMMIT, "pyproject.toml", "README.md", "LICENSE", "src"],
        capture_output=True,
    )
    if archive.returncode:
        missing(f"the commit {COMMIT[:7]} of release {LAST} in this repository (a full clone)")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        # Debian 12's Python 3.11.2 has no filters yet, and the archive is our own.
        options: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        files.extractall(folder / "source", **options)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(folder / "source")], check=True, capture_output=True)
    [wheel] = folder.glob(f"pijobs-{LAST}-*.whl")
    with zipfile.ZipFile(wheel) as files_:
        files_.extractall(folder / "packages")
    return folder / "packages"
