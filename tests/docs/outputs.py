"""What the docs show as output, and its shape: times, ids and numbers differ, words do not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^( *)```console\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SHAPES = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?", "TIME"), (r"\d{4}-\d\d-\d\d", "DAY"),
    (r"pijobs_[\w-]{43}|pijobs_…", "TOKEN"),
    # A number of four digits looks as an id does, so both have one name.
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{4,}(…|\b)", "N"), (r"\d+(\.\d+)*", "N"), (r"\s+", " "),
)  # fmt: skip


def shape(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, name in _SHAPES:
        line = re.sub(pattern, name, line)
    return line.strip()


def outputs() -> Iterator[tuple[str, str, list[str]]]:
    """Each command that is shown with an output: page, command, lines."""
    for page in sorted(DOCS.rglob("*.md")):
        for _, block in _BLOCK.findall(page.read_text()):
            command, lines, goes_on, ends = "", list[str](), False, ""
            for line in [*block.splitlines(), "$ "]:
                if goes_on or ends:  # of a command that has several lines
                    ends, goes_on = "" if line.strip() == ends else ends, line.endswith("\\")
                    continue
                if line.strip()[:2] in ("$ ", "# ", "$"):
                    if lines:
                        yield page.relative_to(DOCS).as_posix(), command, lines
                    command, lines = line.strip()[2:], []
                    goes_on, ends = line.endswith("\\"), "".join(re.findall(r"<<'(\w+)'", line))
                else:
                    lines.append(line.strip())


def shown(command: str) -> list[str]:
    """The output of a command that begins so, as the docs have it."""
    [lines] = [lines for _, found, lines in outputs() if found.startswith(command)]
    return lines
