"""Makes what a release consists of: wheels, source archives and their checksums, in ``dist/``.

Refuses unless the tree is that of the release: one version everywhere, a section of it in CHANGELOG.md, nothing
uncommitted. ``make release`` runs it; the tag ``v…`` is set by hand when all of it was looked at.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
DIST = ROOT / "dist"


def version_of(project: Path) -> str:
    """What a ``pyproject.toml`` says."""
    found = re.search(r'^version = "(.+)"$', (project / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "none"


def faults() -> list[str]:
    """Why this tree is no release; each with what to do."""
    versions = {version_of(project): project for project in PROJECTS}
    version = version_of(ROOT)
    told = []
    if len(versions) > 1:
        places = ", ".join(f"{found} in {project.relative_to(ROOT.parent)}" for found, project in versions.items())
        told.append(f"expected one version in all pyproject.toml, found {places}: set them to the same")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        told.append(f"expected the version of a release, such as 0.2.0, found {version}: set it in all pyproject.toml")
    if f"\n## [{version}]" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        told.append(f"expected a section [{version}] in CHANGELOG.md, found none: give 'Unreleased' its name and date")
    if changed := _git("status", "--porcelain"):
        told.append(f"expected nothing uncommitted, found {changed.splitlines()[0].strip()!r}: commit or remove it")
    if _git("tag", "--list", f"v{version}"):
        told.append(f"expected a new version, found the tag v{version}: a release is made once")
    return told


def main() -> int:
    """Exit code 1 and all faults, or the files of the release."""
    if told := faults():
        print(*told, sep="\n", file=sys.stderr)
        return 1
    shutil.rmtree(DIST, ignore_errors=True)
    for project in PROJECTS:
        subprocess.run([sys.executable, "-m", "build", "--outdir", str(DIST), str(project)], check=True)
    files = sorted(DIST.iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (DIST / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(*sums, f"git tag v{version_of(ROOT)} && git push --tags", sep="")
    return 0


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
