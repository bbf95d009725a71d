"""All distributions of this repository are of one release."""

from __future__ import annotations

import re

from environments import SOURCES


def test_all_distributions_have_one_version() -> None:
    found = {
        name: re.search(r'^version = "(.+)"$', (folder / "pyproject.toml").read_text(), re.MULTILINE)
        for name, folder in SOURCES.items()
    }
    assert len({match and match[1] for match in found.values()}) == 1, found
