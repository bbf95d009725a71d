"""Finds installed plugins by their entry points, and those that the allow-list names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata

from pijobs.jobs import Job
from pijobs.plugins import hookspecs
from pijobs.settings import PREFIX, Setting

#: Mistyped names of our group of entry points.
_MEANT = re.compile(r"(?!pijobs$)pi[-_. ]?jobs?([-_. ](plugins?|jobs?|entry[-_ ]?points?))?", re.IGNORECASE)


@dataclass
class Plugin:
    """A plugin that was found, for ``pijobs plugins``."""

    name: str
    #: The imported object.
    module: str
    #: Distribution and version; empty for a dotted module without packaging.
    distribution: str = ""
    version: str = ""
    #: Installed, but ``PI_JOB_QUEUE_PLUGINS`` does not name it.
    allowed: bool = True
    #: The reason why it is not loaded.
    error: str | None = None
    settings: list[Setting] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)

    @property
    def loaded(self) -> bool:
        return self.allowed and self.error is None


def find(allowed: Sequence[str] | None) -> Iterable[Plugin]:
    """Installed plugins by name, then the dotted modules of the allow-list."""
    installed: dict[str, Plugin] = {}
    points = metadata.entry_points()
    for point in sorted(points.select(group=hookspecs.PROJECT), key=lambda point: point.name):
        plugin = _plugin(point, allowed)
        distribution = plugin.distribution
        first = installed.setdefault(point.name, plugin)
        if first is not plugin and (first.module, first.distribution) != (plugin.module, distribution):
            both = f"distributions {first.distribution!r} and {distribution!r}"
            plugin.error = f"{both} bring a plugin {point.name!r}"
            yield plugin
    for group in points.groups:
        if _MEANT.fullmatch(group):
            for point in points.select(group=group):
                plugin = installed.setdefault(point.name, _plugin(point, allowed))
                plugin.error = plugin.error or (
                    f"its entry point is in the group {group!r}, expected {hookspecs.PROJECT!r}; write "
                    f"[project.entry-points.{hookspecs.PROJECT}] in its pyproject.toml, and install it again"
                )
    yield from installed.values()
    yield from (Plugin(name, name) for name in dict.fromkeys(allowed or ()) if name not in installed)


def _plugin(point: metadata.EntryPoint, allowed: Sequence[str] | None) -> Plugin:
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return Plugin(point.name, point.value, distribution, version, allowed is None or point.name in allowed)


def prefixes(plugin: Plugin) -> tuple[str, ...]:
    """The allowed prefixes of its settings. A dotted module may use its first or last part."""
    parts = plugin.name.split(".")
    names = dict.fromkeys(("_".join(parts), parts[-1], parts[0]))
    return tuple(f"{PREFIX}{name.upper().replace('-', '_')}_" for name in names if name)
