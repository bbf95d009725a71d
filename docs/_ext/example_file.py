"""Writes ``pi.cfg.example`` from the tables of settings (``make example``)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from from_code import tables

from pijobs.settings import Setting

HEAD = """\
# pi.cfg: a Python file, read by server and worker. Each setting stands here with its default, or with an example.
# Take away the '#' before those that you change; 'pijobs config check' tells what is wrong with them.
# The file holds secrets: chmod 640 it."""


def example() -> str:
    """The file as text."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield HEAD
    for owner, table in tables().items():
        yield f"\n\n# ---- {owner} ----"
        for setting in table:
            yield from _setting(setting)


def _setting(setting: Setting) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(setting.help, width=116, initial_indent="# ", subsequent_indent="# ")
    yield from textwrap.wrap(
        f"Expected {setting.expected}. Default: {setting.default!r}.",
        width=116, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False,
    )  # fmt: skip
    yield f"#{setting.name} = {(setting.default if setting.example is None else setting.example)!r}"


if __name__ == "__main__":
    print(example(), end="")
