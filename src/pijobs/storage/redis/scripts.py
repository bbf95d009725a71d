"""The Lua scripts. Each begins with the functions that they share, such as the transitions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from pijobs.storage.values import (
    HOUSEKEEPING_BATCH,
    LOOKED_AT,
    MAX_CRASHES,
    MAX_HISTORY,
    SAME_TIME,
    TAKEN_AHEAD,
    Retention,
)

#: Instances whose time has come that one step promotes.
PROMOTE_BATCH = 20
#: Instances of sessions that have ended that one script gives back.
RECOVERED = 20


@dataclass(frozen=True)
class Script:
    """A script as Redis caches it."""

    source: str

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """All scripts. Values that never change while a storage is used are written into their text.

    :param prelude: Lua in front of each.
    :param now: Lua for the time, as ``TIME`` answers; a simulation passes its own.
    """

    def __init__(self, retention: Retention, prelude: str = "", now: str = "redis.call('TIME')") -> None:
        self._prelude = f"{prelude}local function ask_time() return {now} end\n"
        self._constants = {
            "KEEP_FINISHED": retention.finished,
            "KEEP_DEAD": retention.dead,
            "FINISHED_MAX": retention.finished_max,
            "MAX_CRASHES": MAX_CRASHES,
            "MAX_HISTORY": MAX_HISTORY,
            "HOUSEKEEPING": HOUSEKEEPING_BATCH,
            "PROMOTE": PROMOTE_BATCH,
            "RECOVERED": RECOVERED,
            "TAKEN_AHEAD": TAKEN_AHEAD,
            "SAME_TIME": SAME_TIME,
            "LOOKED_AT": LOOKED_AT,
        }

    @cached_property
    def enqueue(self) -> Script:
        return self._script("waiting", "enqueue", "arrows", "enqueue_rest")

    @cached_property
    def step(self) -> Script:
        return self._script("waiting", "arrows", "batch", "step")

    @cached_property
    def beat(self) -> Script:
        return self._script("waiting", "arrows", "batch", "gaps", "deaths", "beat")

    @cached_property
    def tidy(self) -> Script:
        return self._script("waiting", "arrows", "batch", "tidy")

    @cached_property
    def audit(self) -> Script:
        return self._script("waiting", "arrows", "audit")

    @cached_property
    def session(self) -> Script:
        return self._script("waiting", "arrows", "gaps", "deaths", "session")

    @cached_property
    def moving(self) -> Script:
        return self._script("waiting", "arrows", "moving")

    @cached_property
    def record_end(self) -> Script:
        return self._script("waiting", "arrows", "record_end")

    @cached_property
    def admin(self) -> Script:
        return self._script("waiting", "arrows", "admin")

    @cached_property
    def room(self) -> Script:
        return self._script("waiting", "arrows", "room")

    @cached_property
    def group(self) -> Script:
        return self._script("waiting", "arrows", "group")

    @cached_property
    def count(self) -> Script:
        return self._script("waiting", "arrows", "count")

    @cached_property
    def totals(self) -> Script:
        return self._script("waiting", "arrows", "totals")

    @cached_property
    def read(self) -> Script:
        return self._script("waiting", "arrows", "read")

    def _script(self, *parts: str) -> Script:
        constants = "".join(f"local {name} = {int(value)}\n" for name, value in self._constants.items())
        return Script(self._prelude + constants + "".join(map(_text, parts)))


def _text(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")
