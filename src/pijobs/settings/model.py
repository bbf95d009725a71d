"""The validated settings of one installation, and their validation."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload
from urllib.parse import quote

from pijobs.base import threads
from pijobs.errors import SettingsError
from pijobs.settings.pages import PageSettings
from pijobs.settings.setting import PREFIX, Setting, T
from pijobs.settings.table import HostSettings, QueueSettings
from pijobs.settings.worker import WorkerSettings


@dataclass(frozen=True)
class AppPlaces:
    """Files and database of a Flask app, for settings that come from its configuration.

    :param root: its root path.
    :param instance: its instance folder.
    :param engine: returns the engine of its Flask-SQLAlchemy, or None.
    """

    root: Path
    instance: Path
    engine: Callable[[], Any]

    @property
    def directory(self) -> Path:
        """The folder of its project, which usually contains ``pi.cfg``; for an installed app, its root path."""
        beside = self.instance.name == "instance" and self.instance.parent in (self.root, self.root.parent)
        return self.instance.parent if beside else self.root


class Settings(QueueSettings, WorkerSettings, PageSettings, HostSettings, Mapping[str, Any]):
    """Validated settings, defaults filled in; read-only: ``settings.lease``, by the full name, or by a plugin's row.

    One object represents one installation. It keeps what is derived from the settings on first use (keys, the
    database), see :meth:`resource`.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        table: Iterable[Setting],
        *,
        directory: Path | None = None,
        file: Path | None = None,
        warnings: Iterable[str] = (),
        app: AppPlaces | None = None,
    ) -> None:
        self.table = {setting.name: setting for setting in table}
        self._values = {name: values.get(name, setting.default) for name, setting in self.table.items()}
        #: Folder of the ``pi.cfg``; the base of relative paths.
        self.directory = directory or (app.directory if app else Path.cwd())
        own = None if directory else app
        #: The folder in which Flask-SQLAlchemy looks for a relative SQLite file.
        self.instance = own.instance if own else self.directory / "instance"
        #: The folder in which releases before 0.2.0 looked for it.
        self.older_directory = own.root if own else self.directory
        #: Returns the engine of the app's Flask-SQLAlchemy, or None.
        self.engine: Callable[[], Any] = app.engine if app else lambda: None
        #: The ``pi.cfg`` itself, if known.
        self.file = file
        self.warnings = tuple(warnings)
        self._resources: dict[object, Any] = {}
        self._lock = threads.RLock()

    @overload
    def __getitem__(self, row: Setting[T]) -> T: ...
    @overload
    def __getitem__(self, row: str) -> Any: ...
    def __getitem__(self, row: Setting[Any] | str) -> Any:
        return self._values[row if isinstance(row, str) else row.name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Settings of {len(self)} values>"

    def resource(self, key: object, make: Callable[[], T]) -> T:
        """The object of this installation under ``key``. It is made on first use."""
        with self._lock:
            if key not in self._resources:
                self._resources[key] = make()
            resource: T = self._resources[key]
            return resource

    def replaced(self, values: Mapping[str, Any]) -> Settings:
        """The same installation with other values. Objects derived from the former values stay."""
        changed = copy.copy(self)
        changed._values = {**self._values, **values}
        return changed

    @property
    def storage_url(self) -> str:
        """The URL of the storage, also if it is set by HOST, PORT, DB and PASSWORD."""
        if not self.host:
            return self.url
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host  # IPv6
        return f"redis://{login}{host}:{self.port or 6379}/{self.db or 0}"

    def shown(self) -> dict[str, str]:
        """All values, with secrets masked."""
        return {name: setting.shown(self._values[name]) for name, setting in self.table.items()}


def validate(
    values: Mapping[str, Any],
    table: Iterable[Setting],
    *,
    absent_prefixes: Iterable[str] = (),
    directory: Path | None = None,
    file: Path | None = None,
    extra_faults: Iterable[str] = (),
    app: AppPlaces | None = None,
) -> Settings:
    """Check all settings, and report all errors together.

    Names outside the prefix that no table contains belong to other software, and are ignored.

    :param absent_prefixes: of plugins that are installed but not loaded; names with such a prefix are a warning.
    :param app: files and database of the Flask app, if the settings come from an app.
    :param extra_faults: errors found elsewhere, to be reported together with these.
    :raises SettingsError: with one line per fault.
    """
    rows = {setting.name: setting for setting in table}
    faults, warnings = list(extra_faults), []
    absent = tuple(absent_prefixes)
    for name, value in values.items():
        if name in rows:
            fault = rows[name].fault(value)
            if fault:
                faults.append(fault)
        elif name.startswith(absent):
            warnings.append(f"{name}: belongs to a plugin that is not loaded, ignored")
        elif name.startswith(PREFIX):
            faults.append(_unknown(name, rows))
    if faults:
        raise SettingsError(faults)
    return Settings(values, rows.values(), directory=directory, file=file, warnings=warnings, app=app)


def _unknown(name: str, rows: Mapping[str, Setting]) -> str:
    # Without the prefix, which would make all names alike.
    known = [row[len(PREFIX) :] for row in rows if row.startswith(PREFIX)]
    close = difflib.get_close_matches(name[len(PREFIX) :], known, n=1)
    advice = f"did you mean {PREFIX}{close[0]}?" if close else "see 'pijobs config show' for the names that exist"
    return f"{name}: expected the name of a setting, found one that no loaded plugin declares; {advice}"
