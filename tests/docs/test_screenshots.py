"""The README's screenshots can be made again, and are of the pages as they are."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from screenshots import take

ROOT = Path(__file__).parents[2]


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_the_screenshots_of_the_readme_are_made_of_the_pages(tmp_path: Path) -> None:
    take(tmp_path)
    shown = re.findall(r"!\[[^]]+\]\((docs/_static/(\w+\.png))\)", (ROOT / "README.md").read_text())
    assert [name for _, name in shown] == ["overview.png", "life.png"]
    for path, name in shown:
        # Times differ by the minute; what is on the page, and so its size, does not.
        assert size(tmp_path / name) == size(ROOT / path), f"{path} is old; make screenshots"
