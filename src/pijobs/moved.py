"""Modules that have another place since 0.2.0. Their old names work until 0.3.0, and warn."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Modules of 0.1.0 that stood side by side, by the room that they are in now.
_ROOMS = {
    "base": "clock network redact",
    "payload": "annotations codec keys",
    "plugins": "hookspecs registry",
    "execution": "groups runner",
    "request": "outage queue spool",
    "observe": "activity instances readiness status",
    "worker": "session",
}
_RENAMED = {
    "pijobs.families": "pijobs.metrics.definitions",
    "pijobs.traps": "pijobs.observe.deployment_checks",
}
_MOVED = {f"pijobs.{name}": f"pijobs.{room}.{name}" for room, names in _ROOMS.items() for name in names.split()}
_MOVED |= _RENAMED


class _Old(MetaPathFinder, Loader):
    """Finds a module by its old name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        warn(old, _MOVED[old])
        sys.modules[old] = importlib.import_module(_MOVED[old])


def install(moved: Mapping[str, str] | None = None) -> None:
    """Have old names found, after all else was looked at.

    :param moved: further ones, with where they are now.
    """
    _MOVED.update(moved or {})
    if not any(isinstance(finder, _Old) for finder in sys.meta_path):
        sys.meta_path.append(_Old())


def names_of(package: str, *modules: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module of 0.1.0, or of a package that bears its name: it has what that had, with a
    warning.

    :param modules: where that is now.
    """

    def find(name: str) -> Any:
        if not name.startswith("__") and not _is_module(package, name):
            for module in modules:
                if hasattr(found := importlib.import_module(module), name):
                    warn(f"{package}.{name}", f"{module}.{name}")
                    return getattr(found, name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


def _is_module(package: str, name: str) -> bool:
    is_package = hasattr(sys.modules[package], "__path__")
    return is_package and importlib.util.find_spec(f"{package}.{name}") is not None


def warn(old: str, new: str) -> None:
    """Tell whoever asked for an old name."""
    warnings.warn(f"{old} is deprecated and goes with 0.3.0; write {new}", DeprecationWarning, stacklevel=3)
