"""The release that runs here, and its commit if known."""

from __future__ import annotations

import functools
import json
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@functools.cache
def commit() -> str:
    """The first 12 digits of the commit that this was installed from: of its direct URL (PEP 610), or of the work tree
    that it runs in. "" if neither has it."""
    with suppress(metadata.PackageNotFoundError, ValueError, AttributeError, OSError):
        url = json.loads(metadata.distribution("pijobs").read_text("direct_url.json") or "{}")
        found = str(url.get("vcs_info", {}).get("commit_id", ""))
        if not found and url.get("dir_info", {}).get("editable"):
            found = _of_work_tree(Path(__file__).parents[3])
        return found[:12] if _COMMIT.fullmatch(found) else ""
    return ""


def _of_work_tree(root: Path) -> str:
    """The commit of HEAD, read from git's files, because a worker needs no git."""
    git = root / ".git"
    if git.is_file():  # one of several work trees
        git = Path(git.read_text().partition("gitdir: ")[2].strip())
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    shared = git / "commondir"
    common = git / shared.read_text().strip() if shared.exists() else git
    name = head[len("ref: ") :]
    if (common / name).exists():
        return (common / name).read_text().strip()
    packed = (common / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
